//! A hierarchical timer wheel: one deadline per slot number, O(1) to arm and to cancel.
//!
//! Time is cut into ticks of 65.5 us (2^16 ns). Eight levels of 64 slots each name six bits of a
//! tick number, and 8 * 6 + 16 = 64: every nanosecond a 64-bit clock can tell has its slot, so
//! there is no overflow list. A deadline lies on the level of the highest digit in which it differs
//! from the present tick; when the present reaches a slot of an upper level, its timers move down,
//! one per step.
//!
//! A timer fires at most one tick after its deadline when the owner keeps up, and never early, with
//! one exception: the 16 bytes of a timer hold 32 bits of a tick, so that a deadline more than 78
//! hours ahead fires after 78 hours. Work is bounded: `pop` takes a budget of steps and what it
//! leaves is done by the next call, in order. Timers that are neither due nor in a slot that opens
//! are not touched: ten million of them cost a look at one word.
//!
//! What the bound costs: while a crowded slot of an upper level is moved down, later timers wait.
//! Ten million deadlines within one slot (18 minutes of those hours away) take 40,000 calls of 256
//! steps.
//!
//! Arming is lazy: moving a deadline further away leaves the timer where it is. It then fires early
//! *for the owner*, who looks at its real deadline and arms again. ACK-clocked connections push
//! their retransmission timer out with every ACK; this makes each push a compare instead of an
//! unlink and a link.
//!
//! See Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", scheme 7.

use alloc::boxed::Box;
use alloc::vec;
use core::fmt;

use millrace_base::{Instant, invariant};

const TICK_SHIFT: u32 = 16;
const DIGIT_BITS: u32 = 6;
const SLOTS: usize = 1 << DIGIT_BITS;
const LEVELS: usize = 8;
const _: () = assert!(TICK_SHIFT + DIGIT_BITS * LEVELS as u32 == u64::BITS);

const NONE: u32 = u32::MAX;
/// `Node::place` of a timer that is not armed.
const IDLE: u16 = u16::MAX;
const _: () = assert!(LEVELS * SLOTS < IDLE as usize);

/// Timers for the numbers `0 .. capacity`. All memory is taken in `new`.
pub(crate) struct Wheel {
    nodes: Box<[Node]>,
    heads: Box<[u32]>,
    /// One bit per slot that is not empty.
    occupied: [u64; LEVELS],
    /// Every tick before this one is done.
    current: u64,
    /// No slot starts before this tick; 0 when something was linked since that was found out. It
    /// spares a turn in which nothing is due the search for the first slot.
    quiet_before: u64,
    /// The slot of an upper level whose timers are being moved down.
    cascading: Option<u16>,
    armed: usize,
}

#[derive(Clone, Copy)]
struct Node {
    /// The low half of the tick; the whole lies within `TICKS_AHEAD_MAX` of the present.
    tick: u32,
    next: u32,
    previous: u32,
    place: u16,
}
const _: () = assert!(size_of::<Node>() == 16);

/// Bytes of a timer.
#[cfg(test)]
pub(crate) const TIMER_BYTES: usize = size_of::<Node>();

/// How far ahead a timer can be told apart from the past.
const TICKS_AHEAD_MAX: u64 = u32::MAX as u64;

impl Wheel {
    /// A wheel for the numbers `0 .. capacity`, nothing armed, at the start of time.
    pub(crate) fn new(capacity: usize) -> Self {
        let idle = Node {
            tick: 0,
            next: NONE,
            previous: NONE,
            place: IDLE,
        };
        Self {
            nodes: vec![idle; capacity.min(NONE as usize)].into_boxed_slice(),
            heads: vec![NONE; LEVELS.saturating_mul(SLOTS)].into_boxed_slice(),
            occupied: [0; LEVELS],
            current: 0,
            quiet_before: 0,
            cascading: None,
            armed: 0,
        }
    }

    /// Sees to it that the timer fires at `deadline` or earlier; `NEVER` leaves it as it is.
    ///
    /// A timer armed for an earlier time stays there.
    pub(crate) fn arm(&mut self, index: u32, deadline: Instant) {
        if deadline == Instant::NEVER {
            return;
        }
        let tick = tick_at_or_after(deadline)
            .max(self.current)
            .min(self.current.saturating_add(TICKS_AHEAD_MAX));
        let Some(node) = self.nodes.get(index as usize) else {
            return;
        };
        if node.place != IDLE {
            if self.tick_of(node) <= tick {
                return;
            }
            self.unlink(index);
        }
        self.link(index, tick);
    }

    /// Disarms the timer; harmless when it is not armed.
    pub(crate) fn cancel(&mut self, index: u32) {
        if self.is_armed(index) {
            self.unlink(index);
        }
    }

    /// The next timer that is due at `now`, disarmed; `None` when there is none or `steps` is used
    /// up. Each timer fired or moved down a level takes one step.
    pub(crate) fn pop(&mut self, now: Instant, steps: &mut usize) -> Option<u32> {
        let now_tick = now.as_nanos() >> TICK_SHIFT;
        if now_tick < self.quiet_before {
            self.current = self.current.max(now_tick);
            return None;
        }
        while *steps > 0 {
            if let Some(place) = self.cascading {
                if !self.move_one_down(place) {
                    self.cascading = None;
                    continue;
                }
                *steps = steps.saturating_sub(1);
                continue;
            }
            let first = self.first_slot();
            let Some((level, slot, start)) = first.filter(|(_, _, start)| *start <= now_tick)
            else {
                self.quiet_before = first.map_or(u64::MAX, |(_, _, start)| start);
                self.current = self.current.max(now_tick);
                return None;
            };
            self.current = self.current.max(start);
            let place = place_of(level, slot);
            if level > 0 {
                self.cascading = Some(place);
                continue;
            }
            let index = self.head(place);
            self.unlink(index);
            *steps = steps.saturating_sub(1);
            return Some(index);
        }
        None
    }

    /// A time before which nothing fires: exact for timers due within 4 ms (64 ticks), otherwise
    /// the start of the slot. `NEVER` when nothing is armed. O(levels).
    pub(crate) fn next_deadline(&self) -> Instant {
        // The rest of a slot that is being moved down may be due already.
        if self.cascading.is_some_and(|place| self.head(place) != NONE) {
            return instant_of(self.current);
        }
        match self.first_slot() {
            Some((_, _, start)) => instant_of(start.max(self.current)),
            None => Instant::NEVER,
        }
    }

    /// Whether the timer is armed.
    pub(crate) fn is_armed(&self, index: u32) -> bool {
        self.nodes
            .get(index as usize)
            .is_some_and(|node| node.place != IDLE)
    }

    /// Armed timers.
    pub(crate) const fn armed(&self) -> usize {
        self.armed
    }

    /// The occupied slot that starts first: level, slot and its first tick.
    ///
    /// Every timer of a level agrees with `current` in the digits above, and differs upward in the
    /// level's own: so the lowest occupied level holds the earliest slot.
    fn first_slot(&self) -> Option<(usize, usize, u64)> {
        let level = self.occupied.iter().position(|slots| *slots != 0)?;
        let slot = self.occupied.get(level)?.trailing_zeros() as usize;
        let shift = DIGIT_BITS.saturating_mul(level as u32);
        let above = shift.saturating_add(DIGIT_BITS);
        let base = self
            .current
            .checked_shr(above)
            .unwrap_or(0)
            .checked_shl(above)
            .unwrap_or(0);
        let digit = (slot as u64).checked_shl(shift).unwrap_or(0);
        Some((level, slot, base | digit))
    }

    fn move_one_down(&mut self, place: u16) -> bool {
        let index = self.head(place);
        let Some(tick) = self
            .nodes
            .get(index as usize)
            .map(|node| self.tick_of(node))
        else {
            return false;
        };
        self.unlink(index);
        self.link(index, tick);
        true
    }

    fn link(&mut self, index: u32, tick: u64) {
        self.quiet_before = 0;
        let (level, slot) = self.level_and_slot(tick);
        let place = place_of(level, slot);
        let head = self.head(place);
        if let Some(node) = self.nodes.get_mut(index as usize) {
            *node = Node {
                tick: tick as u32,
                next: head,
                previous: NONE,
                place,
            };
        }
        if let Some(node) = self.nodes.get_mut(head as usize) {
            node.previous = index;
        }
        self.set_head(place, index);
        if let Some(slots) = self.occupied.get_mut(level) {
            *slots |= 1 << slot;
        }
        self.armed = self.armed.saturating_add(1);
    }

    fn unlink(&mut self, index: u32) {
        let Some(node) = self.nodes.get_mut(index as usize) else {
            return;
        };
        let Node {
            tick: _,
            next,
            previous,
            place,
        } = *node;
        invariant!(place != IDLE, "an idle timer is not linked");
        node.place = IDLE;
        if let Some(behind) = self.nodes.get_mut(next as usize) {
            behind.previous = previous;
        }
        match self.nodes.get_mut(previous as usize) {
            Some(before) => before.next = next,
            None => self.set_head(place, next),
        }
        self.armed = self.armed.saturating_sub(1);
    }

    /// The whole tick of an armed timer, which is never before the present.
    fn tick_of(&self, node: &Node) -> u64 {
        let ahead = node.tick.wrapping_sub(self.current as u32);
        self.current.saturating_add(ahead.into())
    }

    fn level_and_slot(&self, tick: u64) -> (usize, usize) {
        let difference = (tick ^ self.current) | 1;
        let level = (63u32.saturating_sub(difference.leading_zeros()) / DIGIT_BITS) as usize;
        let shift = DIGIT_BITS.saturating_mul(level as u32);
        let slot = tick.checked_shr(shift).unwrap_or(0) as usize & SLOTS.wrapping_sub(1);
        (level, slot)
    }

    fn head(&self, place: u16) -> u32 {
        self.heads.get(usize::from(place)).copied().unwrap_or(NONE)
    }

    fn set_head(&mut self, place: u16, index: u32) {
        if let Some(head) = self.heads.get_mut(usize::from(place)) {
            *head = index;
        }
        if index == NONE {
            let level = usize::from(place) / SLOTS;
            let slot = usize::from(place) % SLOTS;
            if let Some(slots) = self.occupied.get_mut(level) {
                *slots &= !(1 << slot);
            }
        }
    }
}

impl fmt::Debug for Wheel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wheel({} armed at tick {})", self.armed, self.current)
    }
}

const fn place_of(level: usize, slot: usize) -> u16 {
    (level.wrapping_mul(SLOTS).wrapping_add(slot)) as u16
}

/// The first tick that begins at `deadline` or after it: a timer must not fire early.
const fn tick_at_or_after(deadline: Instant) -> u64 {
    let last = (1u64 << TICK_SHIFT).wrapping_sub(1);
    deadline.as_nanos().saturating_add(last) >> TICK_SHIFT
}

const fn instant_of(tick: u64) -> Instant {
    Instant::from_nanos(tick.saturating_mul(1 << TICK_SHIFT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const TICK: u64 = 1 << TICK_SHIFT;

    fn at(ticks: u64) -> Instant {
        Instant::from_nanos(ticks * TICK)
    }

    fn fire(wheel: &mut Wheel, now: Instant) -> Vec<u32> {
        let mut steps = usize::MAX;
        let mut fired = Vec::new();
        while let Some(index) = wheel.pop(now, &mut steps) {
            fired.push(index);
        }
        fired.sort_unstable();
        fired
    }

    // behaviour: TMR-4
    #[test]
    fn a_timer_fires_at_its_deadline_and_not_before() {
        let mut wheel = Wheel::new(2);
        wheel.arm(0, Instant::from_millis(1_000));
        assert!(wheel.next_deadline() <= Instant::from_millis(1_000));
        assert_eq!(fire(&mut wheel, Instant::from_millis(999)), []);
        assert_eq!(
            fire(
                &mut wheel,
                Instant::from_millis(1_000).after(millrace_base::Nanos::new(TICK))
            ),
            [0]
        );
        assert_eq!(wheel.next_deadline(), Instant::NEVER);
    }

    #[test]
    fn work_left_by_the_budget_is_done_by_the_next_call() {
        let mut wheel = Wheel::new(100);
        for index in 0..100 {
            wheel.arm(index, at(10_000));
        }
        let mut fired = 0;
        for _ in 0..100 {
            let mut steps = 7;
            while wheel.pop(at(20_000), &mut steps).is_some() {
                fired += 1;
            }
            assert!(fired == 100 || wheel.next_deadline() <= at(20_000));
        }
        assert_eq!(fired, 100);
    }

    #[test]
    fn a_deadline_moved_away_costs_nothing_and_one_moved_near_counts() {
        let mut wheel = Wheel::new(1);
        wheel.arm(0, at(100));
        wheel.arm(0, at(5_000));
        assert_eq!(
            fire(&mut wheel, at(100)),
            [0],
            "the early firing is the owner's cue to arm again"
        );
        wheel.arm(0, at(5_000));
        wheel.arm(0, at(200));
        assert_eq!(fire(&mut wheel, at(200)), [0]);
        assert_eq!(wheel.armed(), 0);
    }

    #[test]
    fn a_deadline_in_the_past_fires_at_once_and_never_is_never() {
        let mut wheel = Wheel::new(2);
        assert_eq!(fire(&mut wheel, at(1 << 40)), []);
        wheel.arm(0, at(3));
        wheel.arm(1, Instant::NEVER);
        assert_eq!(fire(&mut wheel, at(1 << 40)), [0]);
        wheel.arm(1, at((1 << 40) + (1 << 31)));
        assert_eq!(fire(&mut wheel, at((1 << 40) + (1 << 31) - 1)), []);
        assert_eq!(fire(&mut wheel, Instant::NEVER), [1]);
    }

    #[test]
    fn a_deadline_beyond_78_hours_fires_then_and_its_owner_arms_it_again() {
        let mut wheel = Wheel::new(1);
        assert_eq!(fire(&mut wheel, at(12_345)), []);
        let deadline = at(1 << 34);
        let (mut now, mut firings) = (12_345, 0);
        while now < 1 << 34 {
            wheel.arm(0, deadline);
            let next = wheel.next_deadline().as_nanos() / TICK;
            assert!(next > now && next <= 1 << 34, "{next}");
            now = next;
            firings += fire(&mut wheel, at(now)).len();
        }
        assert_eq!(firings, 4, "2^34 ticks are four times 2^32");
    }

    // Ten million armed timers cost nothing per loop; here a tenth of them, in the unit that the
    // budget counts.
    #[test]
    fn only_timers_that_fire_or_change_their_level_are_touched() {
        const COUNT: u32 = 1 << 20;
        let mut wheel = Wheel::new(COUNT as usize);
        for index in 0..COUNT {
            // From 17 s to 20 minutes away.
            wheel.arm(index, at(262_144 + u64::from(index)));
        }
        let mut steps = usize::MAX;
        let touched = |steps: usize| usize::MAX - steps;
        for tick in 0..262_144 {
            assert_eq!(wheel.pop(at(tick), &mut steps), None);
        }
        assert_eq!(touched(steps), 0, "four thousand loops a second for 17 s");
        let mut fired = 0;
        for tick in 262_144..262_144 + u64::from(COUNT) {
            while wheel.pop(at(tick), &mut steps).is_some() {
                fired += 1;
            }
        }
        assert_eq!((fired, wheel.armed()), (COUNT, 0));
        let per_timer = touched(steps) / COUNT as usize;
        assert!(
            per_timer <= 5,
            "{per_timer} steps per timer: levels are passed once each"
        );
    }

    // What ACK-clocked connections do: every ACK moves the deadline away, and none touches the
    // wheel but the first.
    #[test]
    fn a_deadline_that_keeps_moving_away_fires_once_per_delay() {
        let mut wheel = Wheel::new(1);
        let (mut fired, mut steps) = (0, usize::MAX);
        for tick in 0..100_000 {
            wheel.arm(0, at(tick + 3_000));
            fired += usize::from(wheel.pop(at(tick), &mut steps).is_some());
        }
        assert_eq!(fired, 33);
        assert!(
            usize::MAX - steps <= 33 * 3,
            "100,000 armings, 33 moves through three levels"
        );
    }

    #[derive(Clone, Debug)]
    enum Step {
        Arm(u32, u64),
        Cancel(u32),
        Advance(u64, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let ahead = prop_oneof![0u64..3, 0u64..200, 0u64..100_000, 0u64..1 << 31];
        prop_oneof![
            (0u32..16, ahead.clone()).prop_map(|(index, ahead)| Step::Arm(index, ahead)),
            (0u32..16).prop_map(Step::Cancel),
            (ahead, 1usize..40).prop_map(|(ahead, steps)| Step::Advance(ahead, steps)),
        ]
    }

    proptest! {
        #[test]
        fn the_wheel_behaves_like_an_ordered_map(steps in prop::collection::vec(step(), 0..200)) {
            let mut wheel = Wheel::new(16);
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            let mut now = 0u64;
            for step in steps {
                match step {
                    Step::Arm(index, ahead) => {
                        let due = now + ahead;
                        wheel.arm(index, at(due));
                        // A wheel that was given too few steps for 78 hours counts from where it is.
                        let due = due.min(wheel.current + TICKS_AHEAD_MAX);
                        model.entry(index).and_modify(|old| *old = due.min(*old)).or_insert(due);
                    }
                    Step::Cancel(index) => {
                        wheel.cancel(index);
                        model.remove(&index);
                    }
                    Step::Advance(ahead, mut budget) => {
                        now += ahead;
                        while let Some(index) = wheel.pop(at(now), &mut budget) {
                            let due = model.remove(&index);
                            prop_assert!(due.is_some_and(|due| due <= now), "{index} too early");
                        }
                        if budget > 0 {
                            prop_assert!(model.values().all(|due| *due > now), "one was left");
                        }
                    }
                }
                prop_assert_eq!(wheel.armed(), model.len());
                let first = model.values().min().map_or(Instant::NEVER, |due| at(*due));
                prop_assert!(wheel.next_deadline() <= first.max(at(now)), "not a lower bound");
                prop_assert_eq!(model.is_empty(), wheel.next_deadline() == Instant::NEVER);
            }
        }
    }
}
