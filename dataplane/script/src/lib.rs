//! A runner for the packetdrill language, in virtual time.
//!
//! A script says what a program and a peer do, and what a TCP stack does in between:
//!
//! ```text
//!    0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
//!   +0 bind(3, ..., ...) = 0
//!   +0 listen(3, 1) = 0
//!   +0 < S 0:0(0) win 32792 <mss 1000,nop,wscale 7>
//!   +0 > S. 0:0(0) ack 1 <...>
//! ```
//!
//! [`Script::parse`] reads one, [`run`] plays it against a [`Kernel`]: it makes the calls, injects
//! what stands after `<`, and compares what leaves with what stands after `>`. Time is the
//! kernel's virtual clock, moved by the runner, so a run is a function of the script and the stack.
//!
//! # What is checked
//!
//! Every expected packet in flags, sequence numbers, length, options in order and with their
//! padding, ECN bits, urgent pointer, payload bytes and checksums; the window, TTL and flow label
//! where written; its time within the larger of 4 ms and 12.5 % of the interval since the event
//! before. Consecutive segments may make up one expected packet unless `--strict_segments`. Every
//! call in its result, its error, what it wrote, and when a blocking one (`+0...0.2`) returns.
//! Packets that nobody expected fail the script at its end, see [`Leftovers`].
//!
//! # Whose packet it is
//!
//! One connection is under test at a time: that of the socket made last, or of the peer that came
//! last. A packet that names its ports (`< 1001 > 8080 S 0:0(0) win 1000`) is of the connection
//! with these ports, and puts it under test; a SYN from new ports begins one. A packet that leaves
//! for a connection that is not under test is not looked at.
//!
//! # Reading order
//!
//! `lexer`, `ast`, `parser` (the language), `code` and `shell` (the two languages within), `kernel`
//! (what a script runs against), `host` (the stack as that), `runner` (how).
//!
//! # What it does not do
//!
//! UDP, IP encapsulation, accurate ECN's own flags and options, and expecting ICMP. Shell commands
//! are interpreted, never run: a form that is not known is an error of the script.
#![forbid(unsafe_code)]
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a reader of a language expects a few kinds of token or value, and refuses every other"
)]

mod ast;
mod code;
mod failure;
mod fault;
mod host;
mod kernel;
mod lexer;
mod packet;
mod parser;
mod payload;
mod runner;
mod script;
mod settings;
mod shell;
mod symbols;
mod tcp_info;
mod variant;

pub use failure::{Failure, RunError};
pub use fault::{Position, ScriptError};
pub use host::Host;
pub use kernel::{
    Address, Applied, Call, Control, Departure, EpollEvent, Kernel, Network, Outcome, Output,
    Piece, PollEntry, Progress, Room, Setting, Ticket,
};
pub use runner::{Leftovers, Report, run};
pub use script::Script;
pub use variant::Variant;
