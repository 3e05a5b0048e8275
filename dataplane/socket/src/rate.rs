//! The delivery rate: how fast the path carried what was sent, for `TCP_INFO`.
//!
//! As in Linux (`tcp_rate.c`): every segment remembers, when it leaves, how much had been delivered
//! by then; the ACK that reports it as received makes a sample of the difference, over the longer
//! of the time to send and the time to acknowledge, because either may have been compressed on the
//! way. Only what SND.UNA passes counts here; a SACK counts when its hole is filled.

use std::collections::VecDeque;

use millrace_base::{Instant, Nanos};
use millrace_stack::FlowInfo;

/// Segments that are remembered, of one connection: beyond them no sample is taken.
const SENT_MAX: usize = 8_192;

/// A segment on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Sent {
    /// Bytes of the stream up to its end.
    end: u64,
    at: Instant,
    /// What was delivered when it left, and when that had been told.
    delivered: u64,
    delivered_at: Instant,
    /// When the first of its flight left.
    first_at: Instant,
    is_app_limited: bool,
}

/// What one connection's path has shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct DeliveryRate {
    sent: VecDeque<Sent>,
    /// Segments delivered so far, and when the last of them was told.
    delivered: u64,
    delivered_at: Instant,
    /// When the segment was sent that was delivered last.
    first_at: Instant,
    /// Until more than so much is delivered, samples show the program's rate, not the path's: at
    /// first until anything is (Linux begins with `app_limited = ~0U`).
    app_limited_until: Option<u64>,
    sample: Sample,
}

/// One measurement.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Sample {
    segments: u64,
    interval: Nanos,
    is_app_limited: bool,
}

impl Default for DeliveryRate {
    // behaviour: SOK-14
    fn default() -> Self {
        Self {
            sent: VecDeque::new(),
            delivered: 0,
            delivered_at: Instant::ZERO,
            first_at: Instant::ZERO,
            app_limited_until: Some(0),
            sample: Sample::default(),
        }
    }
}

impl DeliveryRate {
    /// A segment left that ends the first `end` bytes of the stream (Linux: `tcp_rate_skb_sent`).
    // behaviour: SND-49, X8-14
    pub(crate) fn on_sent(&mut self, now: Instant, end: u64) {
        if self.sent.is_empty() {
            self.first_at = now;
            self.delivered_at = now;
        }
        // What is sent again keeps its place; its time is no longer known, so neither is its rate.
        if self.sent.back().is_some_and(|last| last.end >= end) {
            self.sent.retain(|sent| sent.end != end);
            return;
        }
        if self.sent.len() == SENT_MAX {
            return;
        }
        self.sent.push_back(Sent {
            end,
            at: now,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_at: self.first_at,
            is_app_limited: self.app_limited_until.is_some(),
        });
    }

    /// Everything up to `acked` bytes has arrived (Linux: `tcp_rate_skb_delivered`,
    /// `tcp_rate_gen`).
    pub(crate) fn on_acked(&mut self, now: Instant, acked: u64, min_rtt: Option<Nanos>) {
        let mut newest: Option<Sent> = None;
        while let Some(sent) = self.sent.front().copied().filter(|sent| sent.end <= acked) {
            self.sent.pop_front();
            self.delivered += 1;
            newest = Some(sent);
        }
        let Some(newest) = newest else { return };
        self.delivered_at = now;
        self.first_at = newest.at;
        if self
            .app_limited_until
            .is_some_and(|until| self.delivered > until)
        {
            self.app_limited_until = None;
        }
        let sending = newest.at.since(newest.first_at);
        let telling = now.since(newest.delivered_at);
        let interval = sending.max(telling);
        // Shorter than any round trip: ACKs came together that did not leave together.
        if interval == Nanos::ZERO || min_rtt.is_some_and(|min| interval < min) {
            return;
        }
        let sample = Sample {
            segments: self.delivered - newest.delivered,
            interval,
            is_app_limited: newest.is_app_limited,
        };
        if !sample.is_app_limited || sample.is_faster(&self.sample) {
            self.sample = sample;
        }
    }

    /// The program writes while nothing holds the connection back but the program itself (Linux:
    /// `tcp_rate_check_app_limited`).
    // behaviour: A3-5
    pub(crate) fn on_write(&mut self, info: &FlowInfo) {
        let is_starved = info.unsent_bytes < info.mss.into()
            && info.in_flight_bytes < info.cwnd_bytes
            && info.lost_bytes <= info.retransmitted_bytes;
        if is_starved {
            let until = self.delivered + self.sent.len() as u64;
            self.app_limited_until = Some(until.max(1));
        }
    }

    /// Bytes per second with segments of `mss` bytes; 0 before the first sample.
    pub(crate) fn bytes_per_second(&self, mss: u32) -> u64 {
        let Sample {
            segments, interval, ..
        } = self.sample;
        let bytes = u128::from(segments) * u128::from(mss) * 1_000_000_000;
        let rate = bytes.checked_div(u128::from(interval.as_nanos()));
        rate.map_or(0, |rate| u64::try_from(rate).unwrap_or(u64::MAX))
    }

    /// Whether that was as fast as the program wanted, not the path.
    pub(crate) fn is_app_limited(&self) -> bool {
        self.sample.is_app_limited
    }
}

impl Sample {
    fn is_faster(&self, other: &Self) -> bool {
        let [own, others] = [(self, other), (other, self)]
            .map(|(one, two)| u128::from(one.segments) * u128::from(two.interval.as_nanos()));
        own >= others
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Option<Nanos> = Some(Nanos::from_millis(100));

    fn at(millis: u64) -> Instant {
        Instant::from_millis(1_000 + millis)
    }

    /// Behind the first ACK.
    fn measured() -> DeliveryRate {
        DeliveryRate {
            app_limited_until: None,
            ..DeliveryRate::default()
        }
    }

    // Linux: tcp_init_sock. behaviour: SOK-14
    #[test]
    fn what_left_before_the_first_ack_says_nothing_of_the_path() {
        let mut rate = DeliveryRate::default();
        for segment in 1..=10 {
            rate.on_sent(at(0), segment * 1_000);
        }
        rate.on_acked(at(100), 10_000, MIN);
        assert!(rate.is_app_limited(), "the bubble in the pipe");
        for segment in 11..=20 {
            rate.on_sent(at(100), segment * 1_000);
        }
        rate.on_acked(at(200), 20_000, MIN);
        assert!(!rate.is_app_limited());
    }

    // behaviour: SND-49, X8-14
    #[test]
    fn ten_segments_told_after_100_ms_are_ten_a_tenth_of_a_second() {
        let mut rate = measured();
        for segment in 1..=10 {
            rate.on_sent(at(0), segment * 1_000);
        }
        rate.on_acked(at(100), 10_000, MIN);
        assert_eq!(rate.bytes_per_second(1_000), 100_000);
        assert!(!rate.is_app_limited());
    }

    // ACKs that come together do not make the path faster than its round trip.
    #[test]
    fn compressed_acks_are_spread_over_the_time_of_sending() {
        let mut rate = measured();
        for segment in 1..=10 {
            rate.on_sent(at(20 * segment), segment * 1_000);
        }
        rate.on_acked(at(320), 10_000, MIN);
        assert_eq!(rate.bytes_per_second(1_000), 10_000 * 1_000 / 300);
    }

    // behaviour: A3-5
    #[test]
    fn what_a_slow_program_sends_lowers_no_rate() {
        let mut rate = measured();
        for segment in 1..=10 {
            rate.on_sent(at(0), segment * 1_000);
        }
        rate.on_acked(at(100), 10_000, MIN);
        rate.app_limited_until = Some(11);
        rate.on_sent(at(200), 11_000);
        rate.on_acked(at(300), 11_000, MIN);
        assert_eq!(
            rate.bytes_per_second(1_000),
            100_000,
            "one segment in 100 ms"
        );
        assert!(!rate.is_app_limited());
        rate.app_limited_until = Some(100);
        for segment in 12..=40 {
            rate.on_sent(at(400), segment * 1_000);
        }
        rate.on_acked(at(500), 40_000, MIN);
        assert_eq!(rate.bytes_per_second(1_000), 290_000, "faster all the same");
        assert!(rate.is_app_limited());
    }

    #[test]
    fn what_was_sent_again_makes_no_sample() {
        let mut rate = measured();
        rate.on_sent(at(0), 1_000);
        rate.on_sent(at(300), 1_000);
        rate.on_acked(at(301), 1_000, None);
        assert_eq!(rate.bytes_per_second(1_000), 0);
    }
}
