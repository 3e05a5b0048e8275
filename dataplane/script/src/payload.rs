//! The bytes that streams carry in a run.
//!
//! Every stream carries the same endless text, a function of the offset alone. So a segment's bytes
//! can be checked by its sequence number, whatever was retransmitted, merged or cut on the way, and
//! a read by how much was read before.

/// The byte at `offset` of every stream. It has no period that a segment size could share.
pub(crate) fn byte(offset: u64) -> u8 {
    let mixed = offset.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as u8
}

/// `length` bytes from `offset`.
pub(crate) fn bytes(offset: u64, length: usize) -> Vec<u8> {
    (offset..).take(length).map(byte).collect()
}

/// Where `found` first differs from the stream at `offset`. Ranges in `zeros` hold zeros: they came
/// from a file.
pub(crate) fn difference(
    offset: u64,
    found: &[u8],
    zeros: &[std::ops::Range<u64>],
) -> Option<usize> {
    found.iter().zip(offset..).position(|(found, offset)| {
        let is_zero = zeros.iter().any(|range| range.contains(&offset));
        *found != if is_zero { 0 } else { byte(offset) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_segments_do_not_look_alike() {
        for step in [1_u64, 2, 256, 536, 1_000, 1_448, 1_460, 4_096, 65_536] {
            let (here, there) = (bytes(0, 64), bytes(step, 64));
            assert_ne!(here, there, "step {step}");
            assert_eq!(difference(step, &there, &[]), None);
            assert!(difference(step, &here, &[]).is_some());
        }
    }

    #[test]
    fn a_hole_of_zeros_is_zeros() {
        let mut found = bytes(100, 10);
        found[4] = 0;
        found[5] = 0;
        assert!(difference(100, &found, &[]).is_some());
        let zeros = vec![104..105, 105..106];
        assert_eq!(difference(100, &found, &zeros), None);
    }
}
