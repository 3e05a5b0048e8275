//! The names of the forwarding modes.

use core::fmt;
use core::str::FromStr;

/// What is done to a packet; one engine each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Sent as it came.
    Io,
    /// Sent with the addresses of the transmitting port and its peer.
    Mac,
    /// Sent with its Ethernet addresses exchanged.
    MacSwap,
    /// Sent with fresh IP, TCP and UDP checksums.
    Csum,
    /// ARP requests and pings are answered, everything else is freed.
    IcmpEcho,
    /// Sent with Ethernet addresses, IP addresses and ports exchanged.
    FiveTupleSwap,
    /// Freed.
    RxOnly,
    /// Nothing is received, one flow of frames is sent.
    TxOnly,
    /// What is received is freed, many flows of frames are sent.
    FlowGen,
    /// Sent after a stay in a queue and some work in memory: a noisy neighbour.
    Noisy,
}

/// A word that names no mode.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no mode {word:?}; there are: {}", Mode::names())]
pub struct UnknownMode {
    /// The word.
    pub word: String,
}

impl Mode {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 10] = [
        Self::Io,
        Self::Mac,
        Self::MacSwap,
        Self::Csum,
        Self::IcmpEcho,
        Self::FiveTupleSwap,
        Self::RxOnly,
        Self::TxOnly,
        Self::FlowGen,
        Self::Noisy,
    ];

    /// The name on the command line, the same as testpmd's.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Io => "io",
            Self::Mac => "mac",
            Self::MacSwap => "macswap",
            Self::Csum => "csum",
            Self::IcmpEcho => "icmpecho",
            Self::FiveTupleSwap => "5tswap",
            Self::RxOnly => "rxonly",
            Self::TxOnly => "txonly",
            Self::FlowGen => "flowgen",
            Self::Noisy => "noisy",
        }
    }

    /// All names, separated by spaces.
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(" ")
    }

    /// Whether the mode makes its own frames, so that a rate counts what was sent.
    pub const fn is_generator(self) -> bool {
        matches!(self, Self::TxOnly | Self::FlowGen)
    }
}

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(word: &str) -> Result<Self, UnknownMode> {
        let unknown = || UnknownMode {
            word: word.to_owned(),
        };
        Self::ALL
            .into_iter()
            .find(|mode| mode.name() == word)
            .ok_or_else(unknown)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_mode() {
        for mode in Mode::ALL {
            assert_eq!(mode.name().parse(), Ok(mode));
        }
        assert!("swap".parse::<Mode>().is_err());
    }
}
