//! A count of payload bytes, small enough for a TCB: 48 bits, which a stream of 100 Gbit/s fills in
//! six hours. A longer one starts again from 0.

/// Bytes so far.
#[derive(Clone, Copy, Debug, Default)]
#[repr(Rust, packed(2))]
pub(crate) struct ByteCount {
    low: u32,
    high: u16,
}

impl ByteCount {
    /// Adds to the count.
    #[inline]
    pub(crate) fn add(&mut self, bytes: u32) {
        let (low, carry) = self.low.overflowing_add(bytes);
        self.low = low;
        self.high = self.high.wrapping_add(u16::from(carry));
    }

    /// The count.
    #[inline]
    pub(crate) const fn value(self) -> u64 {
        (self.high as u64) << 32 | self.low as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_passes_four_gibibytes() {
        let mut count = ByteCount::default();
        for _ in 0..3 {
            count.add(u32::MAX);
        }
        assert_eq!(count.value(), 3 * u64::from(u32::MAX));
        count.add(2);
        assert_eq!(count.value(), 3 * u64::from(u32::MAX) + 2);
    }
}
