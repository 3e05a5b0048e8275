//! CUBIC in integers (RFC 9438): window growth as a cubic of the time since the last reduction.
//!
//! Time is milliseconds, windows are bytes. `K` is computed once per epoch with an integer cube
//! root; the window of a moment needs one 64-bit cube. Not here: HyStart++ (RFC 9406), so slow
//! start ends by loss or at `ssthresh`.

use millrace_base::Instant;

use super::Acked;
use crate::tcp::shelf::{Place, Shelf};

/// What CUBIC remembers from one epoch of congestion avoidance to the next.
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed)]
pub(super) struct Cubic {
    /// W_max: the window before the last reduction; 0 before any.
    w_max: u32,
    /// The present epoch, on `Chunks::epochs`; none in slow start, in recovery and after idleness.
    epoch: Place,
}

/// One epoch of congestion avoidance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Epoch {
    /// When it began.
    start: Instant,
    /// Rests of the divisions below, so that slow growth is not rounded away.
    rest: u64,
    /// The Reno-friendly estimate W_est in 1/256 bytes.
    friendly: u64,
    /// The window that the cubic approaches: W_max, or where the epoch began when that is higher.
    origin: u32,
    /// K: milliseconds from the start until the cubic reaches `origin`.
    k_ms: u32,
}

/// Beyond 2^20 ms (17 minutes) the cubic no longer grows; keeps its cube below 2^60.
const ELAPSED_MS_MAX: u64 = 1 << 20;

impl Default for Cubic {
    fn default() -> Self {
        Self {
            w_max: 0,
            epoch: Place::NONE,
        }
    }
}

impl Cubic {
    /// How far this acknowledgment opens the window (RFC 9438 section 4.2 to 4.5). While no place
    /// for an epoch is free, as far as Reno would.
    pub(super) fn growth(
        &mut self,
        epochs: &mut Shelf<Epoch>,
        acked: Acked,
        cwnd: u32,
        mss: u32,
    ) -> u32 {
        if self.epoch.is_none() {
            let epoch = Epoch::new(acked.now, cwnd, mss, self.w_max);
            self.epoch = epochs.store(Place::NONE, epoch);
        }
        match epochs.get_mut(self.epoch) {
            Some(epoch) => epoch.growth(acked, cwnd, mss, self.w_max),
            None => {
                let step = u64::from(acked.bytes).saturating_mul(mss.into());
                step.checked_div(cwnd.into()).unwrap_or(0) as u32
            }
        }
    }

    /// The threshold after a loss at `cwnd`: beta = 0.7, with fast convergence (RFC 9438 section
    /// 4.6 and 4.7).
    pub(super) fn ssthresh(&mut self, epochs: &mut Shelf<Epoch>, cwnd: u32) -> u32 {
        let wide = u64::from(cwnd);
        self.w_max = if cwnd < self.w_max {
            (wide.saturating_mul(870) / 1_024) as u32
        } else {
            cwnd
        };
        self.end_epoch(epochs);
        // 717/1024 is Linux's 0.7.
        (wide.saturating_mul(717) / 1_024) as u32
    }

    /// The next growth begins a new epoch.
    pub(super) fn end_epoch(&mut self, epochs: &mut Shelf<Epoch>) {
        epochs.clear(self.epoch);
        self.epoch = Place::NONE;
    }
}

impl Epoch {
    fn new(now: Instant, cwnd: u32, mss: u32, w_max: u32) -> Self {
        let below = u64::from(w_max.saturating_sub(cwnd));
        // K = cbrt((W_max - cwnd) / C) seconds with C = 0.4 segments/s^3: in ms, cbrt(bytes * 2.5e9
        // / mss).
        let cube = below.saturating_mul(2_500_000_000).checked_div(mss.into());
        Self {
            start: now,
            rest: 0,
            friendly: u64::from(cwnd) << 8,
            origin: w_max.max(cwnd),
            k_ms: cube_root(cube.unwrap_or(0)),
        }
    }

    fn growth(&mut self, acked: Acked, cwnd: u32, mss: u32, w_max: u32) -> u32 {
        let cwnd_wide = u64::from(cwnd.max(1));
        let bytes = u64::from(acked.bytes);
        // W_est grows by alpha segments per window: 3*(1-0.7)/(1+0.7) = 0.529, and 1 once it has
        // caught up with W_max.
        let alpha_1024: u64 = if self.friendly >> 8 < u64::from(w_max) {
            542
        } else {
            1_024
        };
        let step = bytes
            .saturating_mul(u64::from(mss))
            .saturating_mul(alpha_1024)
            / 4;
        self.friendly = self
            .friendly
            .saturating_add(step.checked_div(cwnd_wide).unwrap_or(0));

        let rtt_ms = acked
            .srtt
            .map_or(0, |srtt| u64::from(srtt.as_micros() / 1_000));
        let elapsed = acked
            .now
            .since(self.start)
            .as_millis()
            .saturating_add(rtt_ms);
        let target = self
            .window_at(elapsed, mss)
            .clamp(cwnd_wide, cwnd_wide.saturating_mul(3) / 2);
        let friendly = self.friendly >> 8;
        if friendly > target {
            // In the Reno-friendly region the window follows W_est itself.
            return friendly.saturating_sub(cwnd_wide).min(bytes) as u32;
        }
        //= https://www.rfc-editor.org/rfc/rfc9438#section-4.4
        //# cwnd SHOULD be incremented by (target - cwnd)/cwnd for each received ACK
        self.rest = self
            .rest
            .saturating_add(bytes.saturating_mul(target.saturating_sub(cwnd_wide)));
        let growth = self.rest.checked_div(cwnd_wide).unwrap_or(0);
        self.rest = self.rest.checked_rem(cwnd_wide).unwrap_or(0);
        growth.min(bytes) as u32
    }

    /// W_cubic, `elapsed` ms into the epoch.
    fn window_at(&self, elapsed: u64, mss: u32) -> u64 {
        let k = u64::from(self.k_ms);
        let distance = elapsed.abs_diff(k).min(ELAPSED_MS_MAX);
        let cube = distance.saturating_mul(distance).saturating_mul(distance) / 1_000_000;
        // C * mss * (t-K)^3: 0.4 / 10^9 per ms^3, of which 10^6 are divided off above.
        let offset = cube.saturating_mul(u64::from(mss)).saturating_mul(4) / 10_000;
        let origin = u64::from(self.origin);
        if elapsed < k {
            origin.saturating_sub(offset)
        } else {
            origin.saturating_add(offset)
        }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

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

    // RFC 9438 section 4.7.
    #[test]
    fn fast_convergence_gives_room_to_others() {
        let (mut cubic, mut epochs) = (Cubic::default(), Shelf::new(1));
        assert_eq!(cubic.ssthresh(&mut epochs, 1_024_000), 717_000);
        let second = cubic.ssthresh(&mut epochs, 800_000);
        assert_eq!(second, 560_156);
        let epoch = Epoch::new(Instant::ZERO, second, 1_000, cubic.w_max);
        assert_eq!(
            epoch.origin, 679_687,
            "aims below the last maximum of 800,000"
        );
    }

    // RFC 9438 section 4.2. K = cbrt(300 / 0.4) = 9.0856 s. behaviour: A24-4, A24-10
    #[test]
    fn an_epoch_aims_at_the_last_maximum_or_starts_from_where_it_is() {
        let below = Epoch::new(Instant::ZERO, 700_000, 1_000, 1_000_000);
        assert_eq!((below.origin, below.k_ms), (1_000_000, 9_085));
        let above = Epoch::new(Instant::ZERO, 700_000, 1_000, 600_000);
        assert_eq!((above.origin, above.k_ms), (700_000, 0));
        assert_eq!(below.window_at(9_085, 1_000), 1_000_000);
        let start = below.window_at(0, 1_000);
        assert!((699_900..700_200).contains(&start), "{start}");
    }

    // RFC 9438 section 4.4; Linux: a count of 2 at least. behaviour: A24-16
    #[test]
    fn a_window_opens_by_half_of_itself_in_a_round_trip_at_most() {
        let mut epoch = Epoch::new(Instant::ZERO, 100_000, 1_000, 0);
        let acked = Acked {
            bytes: 1_000,
            srtt: None,
            now: Instant::from_millis(100_000),
        };
        let opened: u32 = (0..100)
            .map(|_| epoch.growth(acked, 100_000, 1_000, 0))
            .sum();
        assert_eq!(opened, 50_000);
    }
}
