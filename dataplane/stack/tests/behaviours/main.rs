//! Rows of the reference's behaviour that need a whole stack: what a server answers to frames, what
//! it counts, and what routes and ICMP do to a connection.

mod fastopen;
mod fin_wait2;
mod fragments;
mod icmp;
mod listen;
mod peer;
mod profile;
mod routes;
mod segments;
mod signatures;
mod time_wait;
#[path = "../wire/mod.rs"]
mod wire;
