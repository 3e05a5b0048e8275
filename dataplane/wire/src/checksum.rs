//! The Internet checksum: ones-complement sums over pieces, pseudo-headers, incremental updates.
//!
//! RFC 1071 (computing), RFC 1624 (updating), RFC 9293 section 3.1 and RFC 8200 section 8.1
//! (pseudo-headers). Sums are kept in 64 bits and folded at the end, so the inner loop has no
//! carries to chase and vectorises.

use millrace_base::Address;

/// A ones-complement sum in progress.
///
/// Pieces may have odd lengths: a payload spread over several buffers sums like one piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksum {
    /// Of words in the machine's order; swapped once, at the end (RFC 1071 section 2B).
    sum: u64,
    odd: bool,
}

impl Checksum {
    /// The sum of nothing.
    #[inline]
    pub const fn new() -> Self {
        Self { sum: 0, odd: false }
    }

    /// The sum of the pseudo-header of this family; `len` is the length of the transport header and
    /// data in bytes.
    #[inline]
    pub fn pseudo_header(source: Address, destination: Address, protocol: u8, len: u32) -> Self {
        let mut checksum = Self::new();
        checksum.add_address(source);
        checksum.add_address(destination);
        checksum.add_u32(len);
        checksum.add_u16(u16::from(protocol));
        checksum
    }

    /// Adds the bytes of a piece.
    #[inline]
    pub fn add_bytes(&mut self, bytes: &[u8]) {
        let folded = fold(sum_of(bytes));
        // A piece that starts at an odd position contributes with its bytes swapped (RFC 1071
        // section 2B).
        let placed = if self.odd {
            folded.swap_bytes()
        } else {
            folded
        };
        self.sum = self.sum.wrapping_add(u64::from(placed));
        self.odd ^= bytes.len() % 2 == 1;
    }

    /// Adds a 16-bit word at an even position.
    #[inline]
    pub fn add_u16(&mut self, word: u16) {
        self.sum = self.sum.wrapping_add(u64::from(word.to_be()));
    }

    /// Adds a 32-bit word at an even position.
    #[inline]
    pub fn add_u32(&mut self, word: u32) {
        self.sum = self.sum.wrapping_add(u64::from(word.to_be()));
    }

    /// Adds an address at an even position.
    ///
    /// An IPv4 address is stored behind `::ffff:0:0/96`, and 0xffff is nothing in ones complement:
    /// so all sixteen bytes are added, whichever family it is.
    #[inline]
    pub fn add_address(&mut self, address: Address) {
        let (words, _) = address.octets().as_chunks::<4>();
        for word in words {
            self.sum = self.sum.wrapping_add(u64::from(u32::from_ne_bytes(*word)));
        }
    }

    /// Adds the sum of a piece that was summed on its own, as if its bytes followed here.
    pub fn add(&mut self, other: Self) {
        let folded = fold(other.sum);
        let placed = if self.odd {
            folded.swap_bytes()
        } else {
            folded
        };
        self.sum = self.sum.wrapping_add(u64::from(placed));
        self.odd ^= other.odd;
    }

    /// The sum folded to 16 bits, not complemented: what a device that finishes the checksum wants
    /// in the field.
    #[inline]
    pub fn partial(self) -> u16 {
        u16::from_be(fold(self.sum))
    }

    /// The checksum to put into the field. A verified packet, summed with its field, gives 0.
    #[inline]
    pub fn finish(self) -> u16 {
        !self.partial()
    }
}

/// The checksum field after a covered word changed from `old` to `new` (RFC 1624 equation 3).
pub fn update_u16(checksum: u16, old: u16, new: u16) -> u16 {
    let sum = u64::from(!checksum)
        .wrapping_add(u64::from(!old))
        .wrapping_add(u64::from(new));
    !fold(sum)
}

/// Sums bytes as words in the machine's order, a trailing odd byte padded with zero.
#[inline]
fn sum_of(bytes: &[u8]) -> u64 {
    let mut sum = 0u64;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        // 2^32 additions of 32-bit words would be needed to overflow.
        sum = sum.wrapping_add(u64::from(u32::from_ne_bytes(*word)));
    }
    let last = match *rest {
        [a] => [a, 0, 0, 0],
        [a, b] => [a, b, 0, 0],
        [a, b, c] => [a, b, c, 0],
        _ => [0; 4],
    };
    sum.wrapping_add(u64::from(u32::from_ne_bytes(last)))
}

#[inline]
fn fold(sum: u64) -> u16 {
    let mut sum = (sum & 0xffff_ffff).wrapping_add(sum >> 32);
    sum = (sum & 0xffff).wrapping_add(sum >> 16);
    sum = (sum & 0xffff).wrapping_add(sum >> 16);
    sum = (sum & 0xffff).wrapping_add(sum >> 16);
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    // RFC 1071 section 3, the worked example.
    #[test]
    fn the_example_of_the_rfc_sums_to_its_answer() {
        let mut checksum = Checksum::new();
        checksum.add_bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(checksum.partial(), 0xddf2);
    }

    #[test]
    fn a_pseudo_header_is_the_words_of_its_fields() {
        let v4 = Checksum::pseudo_header(
            Address::v4([192, 0, 2, 1]),
            Address::v4([198, 51, 100, 7]),
            6,
            20,
        );
        let bytes = [192, 0, 2, 1, 198, 51, 100, 7, 0, 6, 0, 20];
        assert_eq!(v4.finish(), naive(&bytes));
        let (a, b) = (Address::v6([0xfd; 16]), Address::v6([3; 16]));
        let mut bytes = Vec::new();
        bytes.extend_from_slice(a.octets());
        bytes.extend_from_slice(b.octets());
        bytes.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 6]);
        assert_eq!(
            Checksum::pseudo_header(a, b, 6, 0x1_0000).finish(),
            naive(&bytes)
        );
    }

    proptest! {
        #[test]
        fn pieces_of_any_length_sum_like_the_whole(
            bytes: Vec<u8>,
            cuts in prop::collection::vec(0usize..300, 0..6),
            apart: bool,
        ) {
            let mut checksum = Checksum::new();
            let mut rest = &bytes[..];
            for cut in cuts {
                let (piece, tail) = rest.split_at(cut.min(rest.len()));
                if apart {
                    let mut alone = Checksum::new();
                    alone.add_bytes(piece);
                    checksum.add(alone);
                } else {
                    checksum.add_bytes(piece);
                }
                rest = tail;
            }
            checksum.add_bytes(rest);
            prop_assert_eq!(checksum.finish(), naive(&bytes));
        }

        #[test]
        fn an_incremental_update_equals_a_new_sum(
            mut bytes in prop::collection::vec(any::<u8>(), 20..60),
            new: u16,
        ) {
            let old_sum = naive(&bytes);
            let old = u16::from_be_bytes([bytes[4], bytes[5]]);
            bytes[4..6].copy_from_slice(&new.to_be_bytes());
            // 0x0000 and 0xffff are the same number in ones complement.
            let same = |a: u16, b: u16| a == b || (a ^ b == 0xffff && (a == 0 || b == 0));
            prop_assert!(same(update_u16(old_sum, old, new), naive(&bytes)));
        }
    }
}
