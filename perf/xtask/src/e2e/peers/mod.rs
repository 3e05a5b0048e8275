//! The software on the other ends: none of it ours, except the two peers that nobody ships.

pub(crate) mod curl;
pub(crate) mod half_close;
pub(crate) mod iperf;
pub(crate) mod nginx;
pub(crate) mod wrk;
