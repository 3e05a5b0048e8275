//! Where an lcore's cycles go, stage by stage.
//!
//! Stamping every stage of every turn would cost a turn of one frame a fifth of its cycles. So one turn of
//! [`SAMPLE_TURNS`] is stamped throughout and counts for the others; the rest pay one predicted branch per stage. Whether a
//! turn was busy, and for how long in all, is not sampled: `poll.rs` stamps every turn's end.

use millrace_abi::limits::STAGES;
use millrace_abi::{LcoreState, Stage};
use millrace_dpdk::cycles;

/// One turn of so many is stamped.
///
/// A prime, so that it falls into step neither with the looks at control's rings (every eighth turn) nor with a peer
/// that answers every so many bursts.
pub(crate) const SAMPLE_TURNS: u64 = 61;
const _: () = assert!(!SAMPLE_TURNS.is_multiple_of(2) && !SAMPLE_TURNS.is_multiple_of(3));

/// The stopwatch of one lcore.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    /// Turns until one is stamped; 0 while this one is.
    turns_left: u64,
    /// When the stage under way began.
    lap_began: u64,
    laps: [u64; STAGES],
}

impl Stopwatch {
    /// A stopwatch that stamps the first turn.
    pub(crate) fn new() -> Self {
        Self {
            turns_left: 1,
            lap_began: 0,
            laps: [0; STAGES],
        }
    }

    /// A turn begins.
    #[inline]
    pub(crate) fn begin(&mut self) {
        if self.turns_left <= 1 {
            self.turns_left = 0;
            self.lap_began = cycles();
        } else {
            self.turns_left = self.turns_left.wrapping_sub(1);
        }
    }

    /// A stage ends: what has passed since the last one ended was spent on it. A turn may come to a stage several times.
    #[inline]
    pub(crate) fn lap(&mut self, stage: Stage) {
        if self.turns_left == 0 {
            self.lap_at(stage, cycles());
        }
    }

    /// The turn ends: what was stamped is added to `state` if the turn was busy. `frames` is what it has received.
    #[inline]
    pub(crate) fn end(&mut self, was_busy: bool, frames: usize, state: &mut LcoreState) {
        if self.turns_left == 0 {
            self.settle(was_busy, frames, state);
        }
    }

    fn lap_at(&mut self, stage: Stage, now: u64) {
        if let Some(lap) = self.laps.get_mut(stage.index()) {
            *lap = lap.wrapping_add(now.wrapping_sub(self.lap_began));
        }
        self.lap_began = now;
    }

    fn settle(&mut self, was_busy: bool, frames: usize, state: &mut LcoreState) {
        if was_busy {
            for (total, lap) in state.stage_cycles.iter_mut().zip(&self.laps) {
                *total = total.wrapping_add(lap.wrapping_mul(SAMPLE_TURNS));
            }
            let frames = (frames as u64).wrapping_mul(SAMPLE_TURNS);
            state.stage_packets = state.stage_packets.wrapping_add(frames);
        }
        self.laps = [0; STAGES];
        self.turns_left = SAMPLE_TURNS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One turn in which each stage takes ten times its number.
    fn turn(watch: &mut Stopwatch, was_busy: bool, state: &mut LcoreState) {
        watch.begin();
        if watch.turns_left == 0 {
            watch.lap_began = 0;
            let mut now = 0;
            for stage in Stage::ALL {
                now += 10 * stage.index() as u64;
                watch.lap_at(stage, now);
            }
        }
        watch.end(was_busy, 2, state);
    }

    #[test]
    fn one_turn_of_many_stands_for_all() {
        let (mut watch, mut state) = (Stopwatch::new(), LcoreState::default());
        let turns = 10 * SAMPLE_TURNS;
        for _ in 0..turns {
            turn(&mut watch, true, &mut state);
        }
        for stage in Stage::ALL {
            let expected = turns * 10 * stage.index() as u64;
            assert_eq!(state.stage_cycles[stage.index()], expected, "{stage:?}");
        }
        assert_eq!(state.stage_packets, 2 * turns);
    }

    #[test]
    fn a_turn_without_work_costs_no_stage_anything() {
        let (mut watch, mut state) = (Stopwatch::new(), LcoreState::default());
        for _ in 0..2 * SAMPLE_TURNS {
            turn(&mut watch, false, &mut state);
        }
        assert_eq!(state, LcoreState::default());
    }

    // Two stages that alternate, as receiving and handling do for each port.
    #[test]
    fn a_stage_may_come_again() {
        let (mut watch, mut state) = (Stopwatch::new(), LcoreState::default());
        watch.begin();
        watch.lap_began = 0;
        watch.lap_at(Stage::Rx, 5);
        watch.lap_at(Stage::Stack, 25);
        watch.lap_at(Stage::Rx, 31);
        watch.end(true, 1, &mut state);
        assert_eq!(state.stage_cycles[Stage::Rx.index()], 11 * SAMPLE_TURNS);
        assert_eq!(state.stage_cycles[Stage::Stack.index()], 20 * SAMPLE_TURNS);
    }
}
