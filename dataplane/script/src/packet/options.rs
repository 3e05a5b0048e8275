//! TCP options on the wire.

use crate::ast::TcpOption;

/// Experiment number of Fast Open (RFC 7413, appendix A).
const FAST_OPEN_MAGIC: [u8; 2] = [0xf9, 0x89];

impl TcpOption {
    /// Bytes in the header.
    pub(crate) fn length(&self) -> usize {
        match self {
            Self::End | Self::Nop => 1,
            Self::Mss(_) => 4,
            Self::WindowScale(_) => 3,
            Self::SackPermitted => 2,
            Self::Sack(blocks) => 2 + 8 * blocks.len(),
            Self::Timestamps { .. } => 10,
            Self::FastOpen(cookie) => 2 + cookie.len(),
            Self::FastOpenExperimental(cookie) => 4 + cookie.len(),
            Self::Md5(digest) => 2 + digest.len(),
            Self::AccurateEcn { counters, .. } => 2 + 3 * counters.len(),
            Self::Other { data, .. } => 2 + data.len(),
        }
    }

    pub(super) fn emit(&self, bytes: &mut Vec<u8>) {
        let length = u8::try_from(self.length()).unwrap_or(u8::MAX);
        match self {
            Self::End => bytes.push(0),
            Self::Nop => bytes.push(1),
            Self::Mss(size) => {
                bytes.extend([2, length]);
                bytes.extend(size.to_be_bytes());
            }
            Self::WindowScale(shift) => bytes.extend([3, length, *shift]),
            Self::SackPermitted => bytes.extend([4, length]),
            Self::Sack(blocks) => {
                bytes.extend([5, length]);
                for (left, right) in blocks {
                    bytes.extend(left.to_be_bytes());
                    bytes.extend(right.to_be_bytes());
                }
            }
            Self::Timestamps { value, echo } => {
                bytes.extend([8, length]);
                bytes.extend(value.to_be_bytes());
                bytes.extend(echo.to_be_bytes());
            }
            Self::FastOpen(cookie) => {
                bytes.extend([34, length]);
                bytes.extend(cookie);
            }
            Self::FastOpenExperimental(cookie) => {
                bytes.extend([254, length]);
                bytes.extend(FAST_OPEN_MAGIC);
                bytes.extend(cookie);
            }
            Self::Md5(digest) => {
                bytes.extend([19, length]);
                bytes.extend(digest);
            }
            Self::AccurateEcn { order_1, counters } => {
                bytes.extend([if *order_1 { 174 } else { 172 }, length]);
                for counter in counters {
                    let [_, low @ ..] = counter.to_be_bytes();
                    bytes.extend(low);
                }
            }
            Self::Other { kind, data } => {
                bytes.extend([*kind, length]);
                bytes.extend(data);
            }
        }
    }
}

/// All options of a header, with every byte of padding.
pub(super) fn parse(mut bytes: &[u8]) -> Result<Vec<TcpOption>, String> {
    let mut options = Vec::new();
    while let Some(kind) = bytes.first().copied() {
        if kind <= 1 {
            options.push(if kind == 0 {
                TcpOption::End
            } else {
                TcpOption::Nop
            });
            bytes = bytes.get(1..).unwrap_or(&[]);
            if kind == 0 && bytes.iter().any(|byte| *byte != 0) {
                return Err("bytes after the end of the options".to_owned());
            }
            continue;
        }
        let length = usize::from(bytes.get(1).copied().unwrap_or(0));
        let data = bytes.get(2..length).filter(|_| length >= 2);
        let Some(data) = data else {
            return Err(format!("option {kind} of {length} bytes does not fit"));
        };
        options.push(one(kind, data));
        bytes = bytes.get(length..).unwrap_or(&[]);
    }
    Ok(options)
}

fn one(kind: u8, data: &[u8]) -> TcpOption {
    let word = |at: usize| -> Option<u32> {
        let bytes = data.get(at..at.checked_add(4)?)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    };
    match (kind, data) {
        (2, [high, low]) => TcpOption::Mss(u16::from_be_bytes([*high, *low])),
        (3, [shift]) => TcpOption::WindowScale(*shift),
        (4, []) => TcpOption::SackPermitted,
        (5, _) if !data.is_empty() && data.len().is_multiple_of(8) => {
            let edges = (0..data.len()).step_by(8);
            TcpOption::Sack(
                edges
                    .filter_map(|at| Some((word(at)?, word(at + 4)?)))
                    .collect(),
            )
        }
        (8, _) if data.len() == 8 => match (word(0), word(4)) {
            (Some(value), Some(echo)) => TcpOption::Timestamps { value, echo },
            _ => TcpOption::Other {
                kind,
                data: data.to_vec(),
            },
        },
        (34, cookie) => TcpOption::FastOpen(cookie.to_vec()),
        (254, [0xf9, 0x89, cookie @ ..]) => TcpOption::FastOpenExperimental(cookie.to_vec()),
        (172 | 174, counters) if counters.len() <= 9 && counters.len().is_multiple_of(3) => {
            let counters = counters.chunks_exact(3).map(|counter| {
                let bytes = counter.iter().map(|byte| u32::from(*byte));
                bytes.fold(0, |value, byte| value << 8 | byte)
            });
            TcpOption::AccurateEcn {
                order_1: kind == 174,
                counters: counters.collect(),
            }
        }
        (19, digest) if digest.len() == 16 => TcpOption::Md5(digest.to_vec()),
        _ => TcpOption::Other {
            kind,
            data: data.to_vec(),
        },
    }
}
