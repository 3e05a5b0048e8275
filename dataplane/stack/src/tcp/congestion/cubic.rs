//! CUBIC (RFC 9438): window growth as a cubic of the time since the last reduction, in Linux's
//! integers.
//!
//! Windows are segments here and time is ticks, in the curve 1/1024 of a second: what a window is
//! after so many ACKs is the same number as in Linux (`tcp_cubic.c`), but for how often the window of
//! Reno is looked at on short paths (docs/deviations.md). The end of slow start is `hystart.rs`'s
//! business.
//!
//! A connection that has lost nothing and whose window is small needs no curve: it remembers eight
//! bytes. The rest (`Epoch`) lies on a shelf from the first large window or the first loss on.

use millrace_base::{Instant, SeqNumber};

use super::contract::Cut;
use super::hystart::Round;
use super::hystart_plus::Plus;
use super::parameters::CubicParameters;
use super::reno::additive;

/// What CUBIC knows of a connection beside its window.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Epoch {
    /// W_max: the window before the last reduction; 0 before any.
    w_max: u32,
    /// When the present epoch began, in ticks; `None` in slow start and after a reduction.
    start: Option<u32>,
    /// The window that the cubic approaches: W_max, or where the epoch began when that is higher.
    origin: u32,
    /// K: when the cubic reaches `origin`, in 1/1024 s from the start.
    k: u32,
    /// The window and the tick of the last look at the curve.
    looked_at: u32,
    looked: u32,
    /// Segments to be acknowledged for the window to open by one.
    per_segment: u32,
    /// Segments acknowledged towards that.
    credit: u32,
    /// The window that Reno would have (W_est), and segments acknowledged towards its next.
    friendly: u32,
    friendly_credit: u32,
    /// How slow start is going.
    pub(super) round: Round,
    /// The same by RFC 9406.
    pub(super) plus: Plus,
}

/// Fixed-point one of `beta` (Linux: `BICTCP_BETA_SCALE`).
const BETA_BITS: u32 = 10;
const BETA_SCALE: u32 = 1 << BETA_BITS;
/// 0.85 of it.
const BETA_MILD: u32 = 870;
/// The curve's clock: 2^10 to the second (Linux: `BICTCP_HZ`).
const CLOCK_BITS: u32 = 10;
/// Growth before the first loss: 5 percent in a round trip at least.
const PER_SEGMENT_MAX_AT_FIRST: u32 = 20;
/// One segment for two acknowledged at most: half of the window in a round trip.
const PER_SEGMENT_MIN: u32 = 2;
/// Ticks of a second (Linux: `HZ`, 250 unless a kernel is built otherwise). In one tick the curve is
/// looked at once: on a path that loses every few milliseconds that decides how a window grows.
const HZ: u64 = 250;
const TICK_US: u64 = 1_000_000 / HZ;
/// Ticks for which a look at the curve holds while the window does not change.
const LOOK_TICKS: u32 = (HZ / 32) as u32;
/// A round trip so short that several windows are acknowledged while a look holds: 7 ms.
const SHORT_US: u32 = LOOK_TICKS * TICK_US as u32 / 4;

impl Epoch {
    /// What is known at the first need of it.
    pub(super) fn new(round: Round) -> Self {
        Self {
            plus: Plus::new(round.end()),
            round,
            ..Self::default()
        }
    }

    /// How many segments this acknowledgment opens the window by, in congestion avoidance (Linux:
    /// `bictcp_update`, then `tcp_cong_avoid_ai`).
    pub(super) fn growth(
        &mut self,
        rules: &CubicParameters,
        segments: u32,
        cwnd: u32,
        now: Instant,
    ) -> u32 {
        self.update(rules, segments, cwnd, tick_of(now));
        let (growth, credit) = additive(self.credit, self.per_segment, segments);
        self.credit = credit;
        growth
    }

    /// The threshold after a loss at `cwnd`: beta = 0.7, with fast convergence (RFC 9438 section
    /// 4.6 and 4.7). A mild cut has a beta of 0.85 at least (RFC 8511 section 3.1).
    pub(super) fn ssthresh(&mut self, rules: &CubicParameters, cwnd: u32, cut: Cut) -> u32 {
        self.start = None;
        self.credit = 0;
        let beta = match cut {
            Cut::Full => rules.beta(),
            Cut::Mild => rules.beta().max(BETA_MILD),
        };
        let wide = u64::from(cwnd);
        self.w_max = if cwnd < self.w_max && rules.fast_convergence {
            let share = u64::from(BETA_SCALE.saturating_add(beta));
            (wide.saturating_mul(share) >> (BETA_BITS + 1)) as u32
        } else {
            cwnd
        };
        (wide.saturating_mul(beta.into()) >> BETA_BITS) as u32
    }

    /// Sending begins again after a pause: the curve does not go on while there is nothing to send
    /// (Linux: `CA_EVENT_TX_START`).
    pub(super) fn on_pause(&mut self, now: Instant, last_sent: Instant) {
        let now = tick_of(now);
        let pause = now.wrapping_sub(tick_of(last_sent));
        if let Some(start) = &mut self.start {
            let shifted = start.wrapping_add(pause);
            let is_later = (shifted.wrapping_sub(now) as i32) > 0;
            *start = if is_later { now } else { shifted };
        }
    }

    /// Whether round trips are believed: not in the first second after a reduction, whose queue they
    /// still show.
    #[inline]
    pub(super) fn believes_delays(&self, now: Instant) -> bool {
        self.start
            .is_none_or(|start| tick_of(now).wrapping_sub(start) >= HZ as u32)
    }

    /// Whether nothing is known that outlasts the present flight.
    pub(super) fn is_forgettable(&self) -> bool {
        self.w_max == 0 && self.start.is_none() && !self.round.is_over()
    }

    /// Computes `per_segment` anew when it is time to.
    fn update(&mut self, rules: &CubicParameters, segments: u32, cwnd: u32, now: u32) {
        self.friendly_credit = self.friendly_credit.saturating_add(segments);
        let since = now.wrapping_sub(self.looked);
        if self.looked_at == cwnd && since <= LOOK_TICKS && !self.may_be_behind(rules, cwnd) {
            return;
        }
        if self.start.is_none() || since != 0 {
            self.look(rules, segments, cwnd, now);
        }
        if rules.tcp_friendliness {
            self.keep_up_with_reno(rules, cwnd);
        }
        self.per_segment = self.per_segment.max(PER_SEGMENT_MIN);
    }

    /// Whether Reno may be ahead already although the last look holds: on a short path, when two
    /// windows were acknowledged meanwhile.
    //= https://www.rfc-editor.org/rfc/rfc9438#section-4.3
    //# cwnd SHOULD be set to W_est at each reception of a new ACK
    fn may_be_behind(&self, rules: &CubicParameters, cwnd: u32) -> bool {
        rules.tcp_friendliness
            && self.friendly_credit > cwnd.saturating_mul(2)
            && (1..SHORT_US).contains(&self.round.delay_min_us())
    }

    /// RFC 9438 section 4.2, 4.4 and 4.5.
    fn look(&mut self, rules: &CubicParameters, segments: u32, cwnd: u32, now: u32) {
        self.looked_at = cwnd;
        self.looked = now;
        let start = match self.start {
            Some(start) => start,
            None => self.begin(rules, segments, cwnd, now),
        };
        let elapsed = u64::from(now.wrapping_sub(start))
            .saturating_add(u64::from(self.round.delay_min_us()).div_ceil(TICK_US));
        let elapsed = (elapsed << CLOCK_BITS) / HZ;
        let target = self.window_at(rules, elapsed);
        //= https://www.rfc-editor.org/rfc/rfc9438#section-4.4
        //# cwnd SHOULD be incremented by (target - cwnd)/cwnd for each received ACK
        self.per_segment = match target.checked_sub(cwnd) {
            Some(distance) if distance > 0 => cwnd.checked_div(distance).unwrap_or(0),
            _ => cwnd.saturating_mul(100),
        };
        if self.w_max == 0 {
            self.per_segment = self.per_segment.min(PER_SEGMENT_MAX_AT_FIRST);
        }
    }

    fn begin(&mut self, rules: &CubicParameters, segments: u32, cwnd: u32, now: u32) -> u32 {
        self.start = Some(now);
        self.friendly_credit = segments;
        self.friendly = cwnd;
        let below = self.w_max.saturating_sub(cwnd);
        self.origin = self.w_max.max(cwnd);
        // K = cbrt((W_max - cwnd) / C).
        self.k = cube_root(rules.cube_factor().saturating_mul(below.into()));
        now
    }

    /// W_cubic, `elapsed`/1024 s into the epoch, in segments.
    fn window_at(&self, rules: &CubicParameters, elapsed: u64) -> u32 {
        let k = u64::from(self.k);
        let distance = elapsed.abs_diff(k).min(DISTANCE_MAX);
        let cube = distance.saturating_mul(distance).saturating_mul(distance);
        let cube = u128::from(cube).saturating_mul(rules.cube_scale().into());
        let offset = (cube >> (10 + 3 * CLOCK_BITS)).min(u128::from(u32::MAX)) as u32;
        if elapsed < k {
            self.origin.saturating_sub(offset)
        } else {
            self.origin.saturating_add(offset)
        }
    }

    /// RFC 9438 section 4.3: no slower than Reno would be.
    fn keep_up_with_reno(&mut self, rules: &CubicParameters, cwnd: u32) {
        let step = (cwnd.saturating_mul(rules.friendly_scale()) >> 3).max(1);
        let reached = self.friendly_credit.saturating_sub(1);
        let segments = reached.checked_div(step).unwrap_or(0);
        let spent = segments.saturating_mul(step);
        self.friendly_credit = self.friendly_credit.saturating_sub(spent);
        self.friendly = self.friendly.saturating_add(segments);
        if let Some(ahead) = self.friendly.checked_sub(cwnd)
            && let Some(per) = cwnd.checked_div(ahead)
        {
            self.per_segment = self.per_segment.min(per);
        }
    }
}

/// The tick that a moment lies in.
fn tick_of(moment: Instant) -> u32 {
    (moment.as_micros() / TICK_US) as u32
}

/// Twenty minutes from `origin` the cubic no longer bends; keeps its cube below 2^61.
const DISTANCE_MAX: u64 = 1 << 20;

/// The integer cube root, rounded down: bit by bit, 22 steps.
fn cube_root(value: u64) -> u32 {
    let mut root = 0u64;
    for bit in (0..22).rev() {
        let candidate = root | (1 << bit);
        if candidate
            .saturating_mul(candidate)
            .saturating_mul(candidate)
            <= value
        {
            root = candidate;
        }
    }
    root as u32
}

/// What is remembered while a window is small and has lost nothing.
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed)]
pub(super) struct Young {
    /// The smallest round trip of data in microseconds; 0 before the first.
    pub(super) delay_min_us: u32,
    /// The round of slow start is over when this is acknowledged.
    pub(super) round_end: SeqNumber,
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: CubicParameters = CubicParameters::LINUX;

    fn epoch(w_max: u32) -> Epoch {
        Epoch {
            w_max,
            ..Epoch::default()
        }
    }

    #[test]
    fn the_cube_root_is_exact() {
        for (value, root) in [
            (0, 0),
            (1, 1),
            (7, 1),
            (8, 2),
            (26, 2),
            (27, 3),
            (1 << 60, 1 << 20),
        ] {
            assert_eq!(cube_root(value), root);
        }
        for root in [2u64, 99, 12_345, 2_642_245] {
            assert_eq!(u64::from(cube_root(root * root * root)), root);
            assert_eq!(u64::from(cube_root(root * root * root - 1)), root - 1);
        }
    }

    // RFC 9438 section 4.7; a module parameter of Linux switches it off.
    // behaviour: X8-17
    #[test]
    fn fast_convergence_gives_room_to_others() {
        let mut epoch = Epoch::default();
        assert_eq!(epoch.ssthresh(&RULES, 1_024, Cut::Full), 717);
        assert_eq!(epoch.w_max, 1_024);
        assert_eq!(epoch.ssthresh(&RULES, 800, Cut::Full), 560);
        assert_eq!(epoch.w_max, 680, "below the last maximum of 800");
        let rules = CubicParameters {
            fast_convergence: false,
            ..RULES
        };
        epoch.ssthresh(&rules, 500, Cut::Full);
        assert_eq!(epoch.w_max, 500);
    }

    // RFC 9438 section 4.2. K = cbrt(300 / 0.4) = 9.0856 s. behaviour: A24-3, A24-4, A24-10
    #[test]
    fn an_epoch_aims_at_the_last_maximum_or_starts_from_where_it_is() {
        let mut below = epoch(1_000);
        below.begin(&RULES, 1, 700, 1_250);
        assert_eq!(below.origin, 1_000);
        // Linux's C is 410/1024, not 0.4.
        assert!((9_280..=9_304).contains(&below.k), "{}", below.k);
        assert_eq!(below.window_at(&RULES, below.k.into()), 1_000);
        assert!((699..=701).contains(&below.window_at(&RULES, 0)));
        let mut above = epoch(600);
        above.begin(&RULES, 1, 700, 1_250);
        assert_eq!((above.origin, above.k), (700, 0));
    }

    // The cube of a window of a million segments and of minutes does not overflow.
    // behaviour: A24-5, A24-12
    #[test]
    fn a_very_old_epoch_neither_overflows_nor_shrinks_the_window() {
        let mut old = epoch(900_000);
        old.begin(&RULES, 1, 100, 0);
        let mut last = 0;
        for elapsed in [0, 1 << 10, 1 << 16, 1 << 20, 1 << 32, u64::MAX >> 2] {
            let window = old.window_at(&RULES, elapsed);
            assert!(window >= last, "{elapsed}: {window} after {last}");
            last = window;
        }
    }

    // Linux: t = now + delay_min - epoch_start. behaviour: A24-11
    #[test]
    fn the_curve_is_looked_at_one_shortest_round_trip_ahead() {
        let mut near = epoch(0);
        let mut far = epoch(0);
        far.round.learn(2_000_000);
        for epoch in [&mut near, &mut far] {
            epoch.look(&RULES, 1, 1_000, 50_000);
        }
        assert_eq!(near.per_segment, 20, "nothing to gain yet: 5 percent");
        let mut near = epoch_of(1_000, 0);
        let mut far = epoch_of(1_000, 2_000_000);
        near.look(&RULES, 1, 1_000, 50_000);
        far.look(&RULES, 1, 1_000, 50_000);
        assert_eq!(near.per_segment, 100_000, "the plateau");
        // 0.4 * 2^3 = 3 segments above it.
        assert_eq!(far.per_segment, 333);
    }

    fn epoch_of(w_max: u32, delay_us: u32) -> Epoch {
        let mut epoch = epoch(w_max);
        if delay_us > 0 {
            epoch.round.learn(delay_us);
        }
        epoch
    }

    // behaviour: A24-9
    #[test]
    fn a_look_holds_for_a_32nd_of_a_second_while_the_window_stays() {
        let mut epoch = epoch(1_000);
        epoch.update(&RULES, 1, 700, 2_500);
        let first = epoch.per_segment;
        epoch.update(&RULES, 1, 700, 2_507);
        assert_eq!((epoch.per_segment, epoch.looked), (first, 2_500));
        epoch.update(&RULES, 1, 700, 2_508);
        assert_eq!(epoch.looked, 2_508);
        epoch.update(&RULES, 1, 701, 2_508);
        assert_eq!(epoch.looked_at, 700, "once in a tick");
        epoch.update(&RULES, 1, 701, 2_509);
        assert_eq!(epoch.looked_at, 701);
    }

    // RFC 9438 section 4.3: on a short path a look is over when Reno may be ahead.
    #[test]
    fn on_a_short_path_two_acknowledged_windows_are_worth_a_look() {
        for (delay_us, friendly) in [(200, 11), (100_000, 10)] {
            let mut epoch = epoch_of(12, delay_us);
            epoch.update(&RULES, 1, 10, 2_500);
            for _ in 0..20 {
                epoch.update(&RULES, 1, 10, 2_501);
            }
            assert_eq!(epoch.friendly, friendly, "{delay_us} us");
        }
    }

    // behaviour: A24-13
    #[test]
    fn on_the_plateau_a_window_grows_by_a_hundredth_of_a_segment_a_round_trip() {
        let rules = CubicParameters {
            tcp_friendliness: false,
            ..RULES
        };
        let mut epoch = epoch(1_000);
        epoch.update(&rules, 1, 1_000, 2_500);
        assert_eq!(epoch.per_segment, 100_000);
        let mut below = epoch_of(1_000, 0);
        below.update(&rules, 1, 700, 2_500);
        below.update(&rules, 1, 700, 3_500);
        // The cubic is at 1000 - 0.4 * 5.09^3 = 947 after four seconds.
        assert_eq!(below.per_segment, 700 / 247);
    }

    // Nothing lost yet: a segment for 20 at the most. behaviour: A24-14
    #[test]
    fn before_the_first_loss_a_window_opens_by_a_twentieth_a_round_trip() {
        let mut epoch = Epoch::default();
        epoch.update(&RULES, 1, 48, 10_000);
        assert_eq!(epoch.per_segment, 20);
    }

    // RFC 9438 section 4.4; Linux: a count of 2 at least. behaviour: A24-16
    #[test]
    fn a_window_opens_by_half_of_itself_in_a_round_trip_at_most() {
        let mut epoch = Epoch::default();
        epoch.growth(&RULES, 1, 100, Instant::from_millis(1_000));
        epoch.credit = 0;
        let opened: u32 = (0..100)
            .map(|_| epoch.growth(&RULES, 1, 100, Instant::from_millis(100_000)))
            .sum();
        assert_eq!(opened, 50);
    }

    // Linux: 8 * (1024 + 717) / 3 / (1024 - 717) = 15, an eighth of which is Reno's distance.
    // behaviour: A24-2, A24-15
    #[test]
    fn the_friendly_window_grows_by_one_for_fifteen_eighths_of_a_window() {
        assert_eq!(RULES.friendly_scale(), 15);
        let mut epoch = epoch(1_000);
        epoch.update(&RULES, 1, 80, 10_000);
        epoch.friendly_credit = 151;
        epoch.keep_up_with_reno(&RULES, 80);
        assert_eq!((epoch.friendly, epoch.friendly_credit), (81, 1));
        assert!(epoch.per_segment <= 80);
        let off = CubicParameters {
            tcp_friendliness: false,
            ..RULES
        };
        let mut alone = epoch_of(1_000, 0);
        alone.update(&off, 1, 999, 2_500);
        alone.friendly_credit = 1 << 20;
        alone.update(&off, 1, 999, 2_525);
        assert_eq!(alone.friendly, 999, "not looked at");
    }

    // behaviour: SND-36, A23-5
    #[test]
    fn a_pause_shifts_the_epoch_but_never_into_the_future() {
        let mut epoch = epoch(1_000);
        epoch.start = Some(2_500);
        let at = Instant::from_millis;
        epoch.on_pause(at(14_000), at(11_000));
        assert_eq!(epoch.start, Some(3_250));
        epoch.on_pause(at(14_000), at(10_000));
        assert_eq!(epoch.start, Some(3_500));
    }
}
