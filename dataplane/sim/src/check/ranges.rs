//! Which parts of a stream have arrived.

/// Disjoint, in order, none touching the next: `start..end`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Ranges(pub(super) Vec<(i64, i64)>);

impl Ranges {
    /// Adds `start..end`.
    pub(super) fn insert(&mut self, start: i64, end: i64) {
        if start >= end {
            return;
        }
        let first = self.0.partition_point(|range| range.1 < start);
        let last = self.0.partition_point(|range| range.0 <= end);
        let mut merged = (start, end);
        for range in self.0.get(first..last).unwrap_or_default() {
            merged = (merged.0.min(range.0), merged.1.max(range.1));
        }
        self.0.splice(first..last, [merged]);
    }

    /// Whether all of `start..end` is there.
    pub(super) fn contains(&self, start: i64, end: i64) -> bool {
        let ranges = self.0.iter();
        ranges.rev().any(|range| range.0 <= start && end <= range.1)
    }

    /// The end of what is there without a hole from 0 on.
    pub(super) fn contiguous(&self) -> i64 {
        match self.0.first() {
            Some((0, end)) => *end,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Against a map of single positions, over every small case of a fixed stream of inserts.
    #[test]
    fn ranges_agree_with_a_map_of_positions() {
        let mut dice = crate::dice::Dice::new(5);
        for _ in 0..500 {
            let mut ranges = Ranges::default();
            let mut map = [false; 40];
            for _ in 0..8 {
                let start = dice.between(0, 39) as usize;
                let end = dice.between(start as u32, 40) as usize;
                ranges.insert(start as i64, end as i64);
                map[start..end].fill(true);
            }
            let holes = map.iter().position(|there| !there).unwrap_or(40);
            assert_eq!(ranges.contiguous(), holes as i64);
            for start in 0..40 {
                for end in start + 1..=40 {
                    let all = map[start..end].iter().all(|there| *there);
                    assert_eq!(ranges.contains(start as i64, end as i64), all);
                }
            }
        }
    }
}
