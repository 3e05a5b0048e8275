//! The Accurate ECN option: how many bytes came with each codepoint (RFC 9768 section 3.2.3).
//!
//! ```text
//!   | 172 or 174 |  length  |  first counter, 24 bits   |
//!   |  counter of CE        |  third counter            |
//! ```
//!
//! Kind 172 (order 0) counts ECT(0) first and ECT(1) third, kind 174 (order 1) the other way round.
//! Counters at the end may be left out. What the counters start from, and what becomes of them, is
//! not known here.

/// Counters that one option holds.
pub const ACCECN_COUNTERS_MAX: usize = 3;

pub(super) const KIND_ORDER_0: u8 = 172;
pub(super) const KIND_ORDER_1: u8 = 174;
/// Bytes of kind and length.
const HEAD_BYTES: usize = 2;
/// Bytes of a counter.
const COUNTER_BYTES: usize = 3;

/// One Accurate ECN option.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AccEcn {
    counters: [[u8; COUNTER_BYTES]; ACCECN_COUNTERS_MAX],
    count: u8,
    /// ECT(1) comes first.
    order_1: bool,
}

impl AccEcn {
    /// The first of `counters`, three at most, of each its low 24 bits; with `order_1` they are
    /// those of ECT(1), CE, ECT(0), else those of ECT(0), CE, ECT(1).
    pub fn new(order_1: bool, counters: &[u32]) -> Self {
        let mut option = Self {
            order_1,
            ..Self::default()
        };
        for (place, value) in option.counters.iter_mut().zip(counters) {
            let [_, high, middle, low] = value.to_be_bytes();
            *place = [high, middle, low];
            option.count = option.count.saturating_add(1);
        }
        option
    }

    /// Reads what stands behind kind and length. A length that is no number of counters is that of
    /// the whole ones in it (Linux: `tcp_accecn_process_option`).
    pub(super) fn read(kind: u8, data: &[u8]) -> Self {
        let mut option = Self {
            order_1: kind == KIND_ORDER_1,
            ..Self::default()
        };
        let (counters, _) = data.as_chunks::<COUNTER_BYTES>();
        for (place, counter) in option.counters.iter_mut().zip(counters) {
            *place = *counter;
            option.count = option.count.saturating_add(1);
        }
        option
    }

    /// Whether ECT(1) comes first.
    pub const fn is_order_1(&self) -> bool {
        self.order_1
    }

    /// Counters held, 0..=3.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether it holds no counter: it says that its sender could send some.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The counter at a place, 24 bits.
    pub fn counter(&self, place: usize) -> Option<u32> {
        let [high, middle, low] = *self
            .counters
            .get(..self.len())
            .unwrap_or_default()
            .get(place)?;
        Some(u32::from_be_bytes([0, high, middle, low]))
    }

    /// Bytes of its own words, and those that another option takes in place of its padding.
    pub(super) const fn lengths(&self) -> (usize, usize) {
        match self.count {
            0 => (0, 2),
            1 => (4, 1),
            2 => (8, 0),
            _ => (12, 0),
        }
    }

    /// Its bytes, padded with NOPs to whole words.
    pub(super) fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [super::options::KIND_NOP; 12];
        let counters = usize::from(self.count).saturating_mul(COUNTER_BYTES);
        let len = HEAD_BYTES.saturating_add(counters) as u8;
        let kind = if self.order_1 {
            KIND_ORDER_1
        } else {
            KIND_ORDER_0
        };
        let (head, body) = bytes.split_at_mut(HEAD_BYTES);
        head.copy_from_slice(&[kind, len]);
        let (places, _) = body.as_chunks_mut::<COUNTER_BYTES>();
        for (place, counter) in places.iter_mut().zip(self.counters).take(self.len()) {
            *place = counter;
        }
        bytes
    }
}
