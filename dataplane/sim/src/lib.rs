//! The deterministic simulator: whole hosts, bad networks between them, and checkers, all from one
//! seed.
//!
//! A seed is a scenario: who talks to whom over which wires, what the wires do to packets and when,
//! what the programs on the hosts do. It is played on one thread in virtual time, with nothing
//! random but what the seed gives, so that the same seed does the same things on every machine.
//!
//! # What is checked
//!
//! - every byte a program reads is the one that the other program wrote, and all of them arrive;
//! - every segment that an honest host sends, at its network card, by what that card has seen
//!   (`check`);
//! - once the faults of a wire end, everything ends within a bounded time;
//! - in the end no connection, timer, buffer or record of any kind is left;
//! - every assertion of the stack, where they are compiled in.
//!
//! Hosts are the stack behind its BSD face, a model of TCP that shares no code with it, the model
//! lying (`host::liar`), and the balancer with a leg to either side. An impostor may send segments in
//! the name of others (`inject`).
//!
//! # Reading order
//!
//! `scenario` (what a seed means), `world` (the loop), `link` (a wire and its faults), `host` (who
//! may sit at its end), `program` (what runs there), `check` (what must hold). `fairness` and
//! `marking` have no seeds: they ask who gets how much of one narrow place, what a liar gains, and
//! what marks are for. Nor has `golden`: tables of throughput, fairness and recovery that are files
//! in the tree.
//!
//! # What it is not
//!
//! It measures nothing in real time, and knows no device and one lcore. The balancer here has no
//! backend that fails: that is played by the tests of `lb`.
#![forbid(unsafe_code)]

mod check;
mod dice;
#[cfg(test)]
mod fairness;
mod golden;
mod host;
mod inject;
mod link;
#[cfg(test)]
mod marking;
mod packet;
mod pattern;
mod pcap;
mod program;
mod scenario;
mod seeds;
mod world;

pub use golden::{Table, Verdict, compute, review};
pub use seeds::{EDITION, Failure, Outcome, Seed, listed, play, record};
pub use world::Tally;
