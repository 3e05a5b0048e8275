//! Fuzz targets: one function per parser, and two that turn bytes into sequences of operations on
//! connections.
//!
//! A target takes any bytes and returns, or panics: every assertion of the stack is armed where
//! these are built, and the targets add their own. Nothing here knows an engine: `main.rs` gives one
//! target to libFuzzer (`cargo xtask fuzz`), `tests/corpora.rs` plays what was found before.
#![forbid(unsafe_code)]

mod config;
mod frames;
mod hostile;
mod messages;
mod pair;
mod requests;
mod script;
mod wire;

/// A target: its name, which is its corpus' folder, what it is fed, and the function.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Lower case, no blanks.
    pub name: &'static str,
    /// What the bytes are.
    pub about: &'static str,
    /// Panics when something does not hold.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "frame",
        about: "an Ethernet frame, through every parser of `wire`",
        run: wire::frame,
    },
    Target {
        name: "options",
        about: "the option bytes of a TCP header",
        run: wire::options,
    },
    Target {
        name: "icmp",
        about: "an ICMP, ICMPv6, neighbour discovery, ARP or UDP message",
        run: wire::icmp,
    },
    Target {
        name: "burst",
        about: "frames that a port receives, at the stack of a listening host",
        run: frames::burst,
    },
    Target {
        name: "hostile",
        about: "a peer that sends anything, and calls of the program it talks to",
        run: hostile::run,
    },
    Target {
        name: "pair",
        about: "two hosts and a wire that loses, repeats and reorders: no byte is wrong or missing",
        run: pair::run,
    },
    Target {
        name: "messages",
        about: "words of the region that control and dataplane share",
        run: messages::run,
    },
    Target {
        name: "config",
        about: "a configuration file",
        run: config::run,
    },
    Target {
        name: "requests",
        about: "a line on the control socket",
        run: requests::run,
    },
    Target {
        name: "script",
        about: "a packetdrill script",
        run: script::run,
    },
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
