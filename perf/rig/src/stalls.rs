//! When a polling thread was not run although it wanted to be: a hiccup meter.
//!
//! A thread that polls comes round in well under a microsecond when it finds nothing, and in proportion to the frames it
//! finds otherwise. A turn that took 10 µs more than its frames explain was interrupted: by the kernel, or by a hypervisor
//! of which the kernel knows nothing. What the code itself does in so long a time (nothing here does) would hide in this
//! number, which is why figures are told with and without it.

/// A turn may take this long without a reason, nanoseconds.
const UNEXPLAINED_NANOS: u64 = 10_000;
/// What a frame explains, nanoseconds: twice what the dearest one costs.
const FRAME_NANOS: u64 = 1_000;
/// Stalls remembered; further ones are counted. A quiet machine has some hundred a second.
const REMEMBERED_MAX: usize = 1 << 16;

/// The meter of one thread.
#[derive(Debug)]
pub(crate) struct Hiccups {
    cycles_per_micro: u64,
    last: u64,
    stalls: Stalls,
}

/// When a thread stood still: from, to, in cycles of the counter that all CPUs share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stalls {
    spans: Vec<(u64, u64)>,
    forgotten: u64,
}

impl Hiccups {
    /// A meter that begins now, at `now` cycles of a counter of so many hertz. Takes all the memory it will need.
    pub(crate) fn new(hertz: u64, now: u64) -> Self {
        Self {
            cycles_per_micro: (hertz / 1_000_000).max(1),
            last: now,
            stalls: Stalls {
                spans: Vec::with_capacity(REMEMBERED_MAX),
                forgotten: 0,
            },
        }
    }

    /// A turn ends, `now`, that has handled so many frames.
    #[inline]
    pub(crate) fn turn(&mut self, now: u64, frames: u64) {
        let took = now.saturating_sub(self.last);
        let explained = (UNEXPLAINED_NANOS + FRAME_NANOS * frames) * self.cycles_per_micro / 1_000;
        if took > explained {
            self.stalls.add(self.last, now);
        }
        self.last = now;
    }

    /// What was found.
    pub(crate) fn finish(self) -> Stalls {
        self.stalls
    }
}

impl Stalls {
    /// Both, in the order of their beginning.
    pub(crate) fn merged(mut self, other: Self) -> Self {
        self.spans.extend(other.spans);
        self.spans.sort_unstable();
        self.forgotten += other.forgotten;
        self
    }

    /// Each with as much time again behind it: at half load, that is how long it takes to make up for it. Spans that
    /// touch become one.
    pub(crate) fn with_shadows(&self) -> Self {
        let mut spans: Vec<(u64, u64)> = Vec::with_capacity(self.spans.len());
        for (from, to) in &self.spans {
            let end = to + (to - from);
            match spans.last_mut() {
                // A stall in the shadow of another lengthens it.
                Some(last) if *from <= last.1 => last.1 = end.max(last.1 + 2 * (to - from)),
                _ => spans.push((*from, end)),
            }
        }
        Self {
            spans,
            forgotten: self.forgotten,
        }
    }

    /// Whether one overlaps this span. The stalls are in order and do not overlap each other.
    pub(crate) fn touch(&self, from: u64, to: u64) -> bool {
        let at = self.spans.partition_point(|(_, end)| *end < from);
        self.spans.get(at).is_some_and(|(begin, _)| *begin <= to)
    }

    /// How many.
    pub(crate) fn count(&self) -> u64 {
        self.spans.len() as u64 + self.forgotten
    }

    /// The longest, cycles.
    pub(crate) fn longest(&self) -> u64 {
        let lengths = self.spans.iter().map(|(from, to)| to - from);
        lengths.max().unwrap_or(0)
    }

    fn add(&mut self, from: u64, to: u64) {
        if self.spans.len() < REMEMBERED_MAX {
            self.spans.push((from, to));
        } else {
            self.forgotten += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cycles are nanoseconds.
    fn hiccups() -> Hiccups {
        Hiccups::new(1_000_000_000, 0)
    }

    #[test]
    fn a_long_turn_is_a_stall_unless_its_frames_explain_it() {
        let mut hiccups = hiccups();
        hiccups.turn(9_000, 0);
        hiccups.turn(59_000, 64);
        hiccups.turn(80_000, 1);
        let stalls = hiccups.finish();
        assert_eq!((stalls.count(), stalls.longest()), (1, 21_000));
        assert!(stalls.touch(70_000, 70_001) && stalls.touch(0, 59_000));
        assert!(!stalls.touch(0, 58_000) && !stalls.touch(80_001, 90_000));
    }

    #[test]
    fn what_waited_behind_a_stall_is_in_its_shadow() {
        let stalls = Stalls {
            spans: vec![(100, 200), (250, 270), (1_000, 1_010)],
            forgotten: 0,
        };
        let shadows = stalls.with_shadows();
        assert_eq!(shadows.spans, [(100, 340), (1_000, 1_020)]);
        assert!(shadows.touch(335, 400) && !shadows.touch(341, 999));
    }
}
