//! A segment as a line of the language.

use std::fmt::{self, Write as _};

use super::Segment;
use crate::ast::{Service, TcpLine, TcpOption, flag};

/// `S.`, `P.`, `-`
pub(crate) fn flags(flags: u16) -> String {
    let letters = flag::LETTERS.iter().filter(|(_, bit)| flags & bit != 0);
    let text: String = letters.map(|(letter, _)| *letter).collect();
    if text.is_empty() {
        "-".to_owned()
    } else {
        text
    }
}

/// `<mss 1460,nop,wscale 8>`, or nothing.
pub(crate) fn options(options: &[TcpOption]) -> String {
    if options.is_empty() {
        return String::new();
    }
    let texts: Vec<_> = options.iter().map(ToString::to_string).collect();
    format!(" <{}>", texts.join(","))
}

/// What stands in brackets before the flags.
pub(crate) fn service(service: Service) -> String {
    match service {
        Service::Unsaid => String::new(),
        Service::Ecn(bits) => format!("[{}] ", ecn(bits)),
        Service::EitherEct => "[ect01] ".to_owned(),
        Service::Byte(byte) => format!("[tos {byte:#x}] "),
    }
}

/// What the counters of Accurate ECN are called, in their order.
pub(crate) const fn accurate_names(order_1: bool) -> [&'static str; 3] {
    if order_1 {
        ["e1b", "ceb", "e0b"]
    } else {
        ["e0b", "ceb", "e1b"]
    }
}

/// The name of the two ECN bits.
pub(crate) fn ecn(bits: u8) -> &'static str {
    match bits & 3 {
        0 => "noecn",
        1 => "ect1",
        2 => "ect0",
        _ => "ce",
    }
}

impl fmt::Display for TcpLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seq, length, ack, ..
        } = self;
        let end = seq.wrapping_add(u32::from(*length));
        write!(f, "{} {seq}:{end}({length})", flags(self.flags))?;
        if self.flags & flag::ACK != 0 {
            write!(f, " ack {ack}")?;
        }
        if let Some(window) = self.window {
            write!(f, " win {window}")?;
        }
        if self.urgent != 0 {
            write!(f, " urg {}", self.urgent)?;
        }
        match &self.options {
            Some(list) => f.write_str(&options(list)),
            None => f.write_str(" <...>"),
        }
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.payload.len();
        let end = self.seq.wrapping_add(u32::try_from(length).unwrap_or(0));
        if self.service != 0 {
            f.write_str(&service(Service::Ecn(self.service)))?;
        }
        write!(f, "{} {}:{end}({length})", flags(self.flags), self.seq)?;
        if self.has(flag::ACK) {
            write!(f, " ack {}", self.ack)?;
        }
        write!(f, " win {}", self.window)?;
        if self.urgent != 0 {
            write!(f, " urg {}", self.urgent)?;
        }
        f.write_str(&options(&self.options))
    }
}

impl fmt::Display for TcpOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |bytes: &[u8]| {
            bytes.iter().fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            })
        };
        let named = |name: &str, bytes: &[u8]| {
            if bytes.is_empty() {
                name.to_owned()
            } else {
                format!("{name} {}", hex(bytes))
            }
        };
        match self {
            Self::End => f.write_str("eol"),
            Self::Nop => f.write_str("nop"),
            Self::Mss(size) => write!(f, "mss {size}"),
            Self::WindowScale(shift) => write!(f, "wscale {shift}"),
            Self::SackPermitted => f.write_str("sackOK"),
            Self::Sack(blocks) => {
                f.write_str("sack")?;
                blocks
                    .iter()
                    .try_for_each(|(left, right)| write!(f, " {left}:{right}"))
            }
            Self::Timestamps { value, echo } => write!(f, "TS val {value} ecr {echo}"),
            Self::FastOpen(cookie) => f.write_str(&named("FO", cookie)),
            Self::FastOpenExperimental(cookie) => f.write_str(&named("FOEXP", cookie)),
            Self::Md5(digest) => f.write_str(&named("md5", digest)),
            Self::AccurateEcn { order_1, counters } => {
                f.write_str("ECN")?;
                let names = accurate_names(*order_1);
                let mut pairs = names.iter().zip(counters);
                pairs.try_for_each(|(name, counter)| write!(f, " {name} {counter}"))
            }
            Self::Other { kind, data } => f.write_str(&named(&format!("option {kind}"), data)),
        }
    }
}
