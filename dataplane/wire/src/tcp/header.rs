//! The TCP header (RFC 9293 section 3.1).
//!
//! ```text
//!   |        source port            |       destination port        |
//!   |                        sequence number                        |
//!   |                     acknowledgment number                     |
//!   |offs.|res|AE|CWR ECE URG ACK PSH RST SYN FIN|      window      |
//!   |          checksum             |        urgent pointer         |
//!   |  options (0..40 bytes, a multiple of 4)  |  data ...          |
//! ```

use core::fmt;
use core::ops::{BitOr, BitOrAssign};

use millrace_base::SeqNumber;

use super::options::TcpOptions;
use crate::{Malformed, u8_at, u16_at, u32_at};

/// Bytes of a header without options.
pub const HEADER_BYTES: usize = 20;
/// Bytes of the longest header.
pub const HEADER_BYTES_MAX: usize = 60;

/// The control bits of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct TcpFlags(u16);

/// A TCP segment whose header is complete. The payload may lie in further buffers.
#[derive(Clone, Copy, Debug)]
pub struct TcpView<'a> {
    bytes: &'a [u8],
    header_len: usize,
}

/// The meaning of a TCP header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpRepr {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Sequence number of the first byte (SEG.SEQ).
    pub seq: SeqNumber,
    /// Acknowledgment number (SEG.ACK); meaningful with the ACK bit.
    pub ack: SeqNumber,
    /// Control bits.
    pub flags: TcpFlags,
    /// Window field as on the wire, not scaled (SEG.WND).
    pub window: u16,
    /// Urgent pointer (SEG.UP); meaningful with the URG bit.
    pub urgent: u16,
    /// Options.
    pub options: TcpOptions,
}

impl TcpFlags {
    /// No control bit.
    pub const NONE: Self = Self(0);
    /// No more data from the sender.
    pub const FIN: Self = Self(0x001);
    /// Synchronize sequence numbers.
    pub const SYN: Self = Self(0x002);
    /// Reset the connection.
    pub const RST: Self = Self(0x004);
    /// Push.
    pub const PSH: Self = Self(0x008);
    /// The acknowledgment field is significant.
    pub const ACK: Self = Self(0x010);
    /// The urgent pointer is significant.
    pub const URG: Self = Self(0x020);
    /// ECN echo (RFC 3168).
    pub const ECE: Self = Self(0x040);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: Self = Self(0x080);
    /// Accurate ECN (RFC 9768).
    pub const AE: Self = Self(0x100);

    /// The flags in the lowest nine bits of the offset-and-flags word.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits & 0x1ff)
    }

    /// The lowest nine bits of the offset-and-flags word.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Whether every flag of `other` is set.
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any flag of `other` is set.
    #[inline]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// These flags without those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether SYN is set.
    #[inline]
    pub const fn syn(self) -> bool {
        self.contains(Self::SYN)
    }

    /// Whether FIN is set.
    #[inline]
    pub const fn fin(self) -> bool {
        self.contains(Self::FIN)
    }

    /// Whether RST is set.
    #[inline]
    pub const fn rst(self) -> bool {
        self.contains(Self::RST)
    }

    /// Whether ACK is set.
    #[inline]
    pub const fn ack(self) -> bool {
        self.contains(Self::ACK)
    }
}

impl BitOr for TcpFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for TcpFlags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LETTERS: [(TcpFlags, &str); 9] = [
            (TcpFlags::FIN, "F"),
            (TcpFlags::SYN, "S"),
            (TcpFlags::RST, "R"),
            (TcpFlags::PSH, "P"),
            (TcpFlags::ACK, "."),
            (TcpFlags::URG, "U"),
            (TcpFlags::ECE, "E"),
            (TcpFlags::CWR, "W"),
            (TcpFlags::AE, "e"),
        ];
        if *self == Self::NONE {
            return f.write_str("none");
        }
        for (flag, letter) in LETTERS {
            if self.contains(flag) {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

impl<'a> TcpView<'a> {
    /// Checks the data offset. `bytes` starts at the TCP header and must hold all of it; data may
    /// be missing.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        if bytes.len() < HEADER_BYTES {
            return Err(Malformed::TcpTruncated);
        }
        let header_len = usize::from(u8_at(bytes, 12) >> 4).saturating_mul(4);
        if header_len < HEADER_BYTES || header_len > bytes.len() {
            return Err(Malformed::TcpDataOffset);
        }
        Ok(Self { bytes, header_len })
    }

    /// Source port.
    #[inline]
    pub fn source_port(&self) -> u16 {
        u16_at(self.bytes, 0)
    }

    /// Destination port.
    #[inline]
    pub fn destination_port(&self) -> u16 {
        u16_at(self.bytes, 2)
    }

    /// Sequence number of the first byte (SEG.SEQ).
    #[inline]
    pub fn seq(&self) -> SeqNumber {
        SeqNumber::new(u32_at(self.bytes, 4))
    }

    /// Acknowledgment number (SEG.ACK).
    #[inline]
    pub fn ack(&self) -> SeqNumber {
        SeqNumber::new(u32_at(self.bytes, 8))
    }

    /// Control bits.
    #[inline]
    pub fn flags(&self) -> TcpFlags {
        TcpFlags::from_bits(u16_at(self.bytes, 12))
    }

    /// Window field, not scaled (SEG.WND).
    #[inline]
    pub fn window(&self) -> u16 {
        u16_at(self.bytes, 14)
    }

    /// Checksum field.
    pub fn checksum(&self) -> u16 {
        u16_at(self.bytes, 16)
    }

    /// Urgent pointer (SEG.UP).
    pub fn urgent(&self) -> u16 {
        u16_at(self.bytes, 18)
    }

    /// Bytes before the data (20..=60).
    #[inline]
    pub fn header_len(&self) -> usize {
        self.header_len
    }

    /// The option bytes.
    #[inline]
    pub fn option_bytes(&self) -> &'a [u8] {
        self.bytes
            .get(HEADER_BYTES..self.header_len)
            .unwrap_or_default()
    }

    /// The options, read as Linux reads them.
    #[inline]
    pub fn options(&self) -> TcpOptions {
        TcpOptions::parse(self.option_bytes(), self.flags().syn())
    }

    /// The data as far as the parsed bytes reach.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.bytes.get(self.header_len..).unwrap_or_default()
    }
}

impl TcpRepr {
    /// What a view says.
    pub fn parse(view: &TcpView<'_>) -> Self {
        Self {
            source_port: view.source_port(),
            destination_port: view.destination_port(),
            seq: view.seq(),
            ack: view.ack(),
            flags: view.flags(),
            window: view.window(),
            urgent: view.urgent(),
            options: view.options(),
        }
    }

    /// Bytes of the header that `emit` writes: 20..=60, a multiple of 4.
    #[inline]
    pub fn header_len(&self) -> usize {
        HEADER_BYTES.saturating_add(self.options.layout(self.flags.syn()).encoded_len())
    }

    /// Writes the header with a checksum field of 0; returns its length. `None` when `segment` is
    /// too short or the options exceed 40 bytes.
    #[inline]
    pub fn emit(&self, segment: &mut [u8]) -> Option<usize> {
        let layout = self.options.layout(self.flags.syn());
        let header_len = HEADER_BYTES.saturating_add(layout.encoded_len());
        if header_len > HEADER_BYTES_MAX {
            return None;
        }
        let (fixed, options) = segment
            .get_mut(..header_len)?
            .split_first_chunk_mut::<HEADER_BYTES>()?;
        // The data offset counts 32-bit words in the top four bits: header_len / 4 << 12.
        let offset_and_flags = ((header_len as u16) << 10) | self.flags.bits();
        let words = [
            u32::from(self.source_port) << 16 | u32::from(self.destination_port),
            self.seq.value(),
            self.ack.value(),
            u32::from(offset_and_flags) << 16 | u32::from(self.window),
            u32::from(self.urgent),
        ];
        let (places, _) = fixed.as_chunks_mut::<4>();
        for (place, word) in places.iter_mut().zip(words) {
            *place = word.to_be_bytes();
        }
        layout.emit(options)?;
        Some(header_len)
    }
}
