//! One flow's own link: a rate, a queue, a delay, and dice that lose data segments.
//!
//! Arithmetic only: no tap, no clock. Each flow has a link of its own, so that flows that run at the
//! same time share nothing but the machine. The k-th data segment that a flow puts on its link meets
//! the same fate whoever sent it, retransmissions counted; segments without data are never lost. What
//! is lost is lost before the queue and takes no time of the link.

use std::time::Duration;

use serde::Serialize;

use super::frame::Segment;

/// What a link is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// The shortest round trip; half of it is spent in each direction.
    pub(super) rtt: Duration,
    /// Bits a second of the direction that carries data; the other has no bound.
    pub(super) bits_per_second: u64,
    /// Data segments lost among a million.
    pub(super) loss_ppm: u32,
    /// The whole story of the dice.
    pub(super) seed: u64,
}

/// The shortest queue in bytes: 64 full frames, as a small switch has. A round trip of 0.1 ms holds
/// less than two frames at 100 Mbit/s, and no sender of bursts fills a link with that.
const QUEUE_BYTES_MIN: u64 = 64 * 1_514;

impl Shape {
    /// Bytes that may wait: the product of rate and round trip, but not less than a small switch has.
    pub(super) fn queue_bytes(&self) -> u64 {
        let rtt = u64::try_from(self.rtt.as_micros()).unwrap_or(u64::MAX);
        let product = self.bits_per_second / 8 * rtt / 1_000_000;
        product.max(QUEUE_BYTES_MIN)
    }

    fn one_way(&self) -> u64 {
        nanos(self.rtt) / 2
    }

    /// Nanoseconds that the link needs for so many bytes.
    fn duration_of(&self, bytes: u64) -> u64 {
        bytes * 8 * 1_000_000_000 / self.bits_per_second.max(1)
    }
}

/// A duration as the relay counts time.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What one flow did, as seen between its ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Tally {
    /// Segments with data that the sender put on the link.
    pub(super) segments: u64,
    /// Those among them whose first byte had been on the link before.
    pub(super) again: u64,
    /// Those lost by the dice.
    pub(super) lost: u64,
    /// Those that found the queue full.
    pub(super) overflowed: u64,
    /// By how many nanoseconds the relay was late at most: more than a fraction of the round trip, and
    /// the figure is the machine's, not the sender's.
    pub(super) late_ns_max: u64,
}

/// A link in use.
#[derive(Debug)]
pub(super) struct Link {
    shape: Shape,
    /// When the last frame taken so far has left the queue, in nanoseconds of the relay's clock.
    busy_until: u64,
    /// One past the highest sequence number that was seen.
    top: Option<u32>,
    pub(super) tally: Tally,
}

impl Link {
    /// A link that nothing has used yet.
    pub(super) fn new(shape: Shape) -> Self {
        Self {
            shape,
            busy_until: 0,
            top: None,
            tally: Tally::default(),
        }
    }

    /// Takes a frame of the sender's; when it arrives, `None` if never.
    pub(super) fn carry(&mut self, now: u64, frame_bytes: u64, segment: &Segment) -> Option<u64> {
        if segment.payload > 0 && self.loses(now, frame_bytes, segment) {
            return None;
        }
        self.busy_until = self.busy_until.max(now) + self.shape.duration_of(frame_bytes);
        Some(self.busy_until + self.shape.one_way())
    }

    /// When a frame of the receiver's arrives.
    pub(super) fn carry_back(&self, now: u64) -> u64 {
        now + self.shape.one_way()
    }

    /// Counts a segment with data; whether it ends here.
    fn loses(&mut self, now: u64, frame_bytes: u64, segment: &Segment) -> bool {
        let number = self.tally.segments;
        self.tally.segments += 1;
        let end = segment.sequence.wrapping_add(segment.payload);
        let top = *self.top.get_or_insert(segment.sequence);
        if is_before(segment.sequence, top) {
            self.tally.again += 1;
        }
        if is_before(top, end) {
            self.top = Some(end);
        }
        if self.dice(number) < self.shape.loss_ppm {
            self.tally.lost += 1;
            return true;
        }
        let waiting = self.busy_until.saturating_sub(now);
        let overflows = waiting + self.shape.duration_of(frame_bytes)
            > self.shape.duration_of(self.shape.queue_bytes());
        self.tally.overflowed += u64::from(overflows);
        overflows
    }

    /// A number below a million for the segment of this number (`SplitMix64`).
    fn dice(&self, number: u64) -> u32 {
        let mut mixed = self
            .shape
            .seed
            .wrapping_add((number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % 1_000_000) as u32
    }
}

/// Whether a sequence number comes before another, on the circle.
fn is_before(earlier: u32, later: u32) -> bool {
    later.wrapping_sub(earlier).wrapping_sub(1) < 1 << 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(loss_ppm: u32) -> Link {
        Link::new(Shape {
            rtt: Duration::from_millis(20),
            bits_per_second: 100_000_000,
            loss_ppm,
            seed: 7,
        })
    }

    fn segment(sequence: u32, payload: u32) -> Segment {
        Segment {
            source: 1,
            destination: 2,
            sequence,
            payload,
        }
    }

    #[test]
    fn a_frame_arrives_after_its_turn_on_the_link_and_half_a_round_trip() {
        let mut link = link(0);
        // 1,250 bytes are 0.1 ms at 100 Mbit/s.
        let first = link.carry(0, 1_250, &segment(0, 1_200));
        assert_eq!(first, Some(10_100_000));
        let second = link.carry(0, 1_250, &segment(1_200, 1_200));
        assert_eq!(second, Some(10_200_000), "it waits for the first");
        assert_eq!(link.carry_back(5), 10_000_005);
    }

    #[test]
    fn the_queue_holds_one_product_of_rate_and_round_trip_and_an_ack_always_fits() {
        let mut link = link(0);
        let frames = 2 * link.shape.queue_bytes() / 1_250;
        let taken = (0..frames).filter(|number| {
            let sequence = *number as u32 * 1_200;
            link.carry(0, 1_250, &segment(sequence, 1_200)).is_some()
        });
        assert_eq!(taken.count() as u64, frames / 2);
        assert_eq!(link.tally.overflowed, frames - frames / 2);
        assert!(link.carry(0, 66, &segment(0, 0)).is_some());
    }

    #[test]
    fn the_same_numbers_are_lost_whatever_the_segments_and_in_about_the_asked_share() {
        let fate = |payload: u32, gap: u64| {
            let mut link = link(10_000);
            let mut kept = Vec::new();
            for number in 0..100_000u32 {
                let segment = segment(number.wrapping_mul(payload), payload);
                let now = u64::from(number) * gap;
                kept.push(link.carry(now, 100, &segment).is_some());
                // What carries no data throws no dice.
                assert!(link.carry(now, 66, &self::segment(0, 0)).is_some());
            }
            (kept, link.tally.lost)
        };
        let (kept, lost) = fate(1_000, 1_000_000);
        assert_eq!(kept, fate(77, 2_000_000).0);
        assert!((800..1_200).contains(&lost), "{lost}");
    }

    #[test]
    fn only_bytes_that_were_seen_before_count_as_sent_again_also_across_the_end_of_numbers() {
        let mut link = link(0);
        let start = u32::MAX - 500;
        for sequence in [start, start.wrapping_add(1_000), start.wrapping_add(2_000)] {
            link.carry(0, 1_054, &segment(sequence, 1_000));
        }
        assert_eq!((link.tally.segments, link.tally.again), (3, 0));
        link.carry(0, 1_054, &segment(start.wrapping_add(1_000), 1_000));
        assert_eq!((link.tally.segments, link.tally.again), (4, 1));
        link.carry(0, 1_054, &segment(start.wrapping_add(3_000), 1_000));
        assert_eq!((link.tally.segments, link.tally.again), (5, 1));
    }
}
