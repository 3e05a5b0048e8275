//! Delivery rate: how fast the path delivers, asked with every ACK
//! (draft-ietf-ccwg-bbr section 4.1; Linux: `tcp_rate.c`).
//!
//! What leaves takes a stamp along: how much had been delivered by then, and when. When it is
//! delivered itself, what was delivered since is a volume, and the time since then (or the time
//! that it took to send that volume, if it is longer) an interval. An interval in which there was
//! too little to send says less: such a sample is marked as limited by the application.
//!
//! Only for connections whose congestion control models the path (`congestion/bbr`). Their ledger
//! is open while anything is in flight, so that no ACK takes the short way past the sample; all
//! others pay nothing. The stamps lie beside the chunks, one for each; what one ACK tells is
//! collected in one place for all connections, as only one ACK is digested at a time.

use alloc::vec;
use alloc::vec::Vec;

use millrace_base::{Instant, Micros, PacketPool, SeqNumber};

use super::chunk::{CONTINUED, Chunk, Chunks, EVER_RETRANSMITTED, NONE, SACKED};
use super::config::{CongestionControl, TcpTunables};
use super::congestion::{Beginning, Setting};
use super::connection::Connection;
use super::segment::Env;

/// What a segment takes along when it leaves. Bytes and microseconds wrap.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SendStamp {
    /// Bytes delivered by then, and when the last of them were; 0 in a stamp that says nothing.
    delivered: u32,
    delivered_us: u32,
    /// When the segment had left that was delivered last by then.
    first_sent_us: u32,
    /// Bytes found lost by then.
    lost: u32,
    /// Bytes in flight with it, and whether there was too little to send.
    in_flight: u32,
    /// The chunk that was found lost behind this one.
    next_lost: u32,
}

/// `SendStamp::in_flight`: there was too little to send.
const APP_LIMITED: u32 = 1 << 31;

/// The delivered segment that left last, of those that one ACK reports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Newest {
    sent_at: Instant,
    end: SeqNumber,
    stamp: SendStamp,
    is_retransmission: bool,
}

/// The stamps of everything in flight, and what the present ACK or timer tells.
#[derive(Debug)]
pub(crate) struct Rates {
    stamps: Vec<SendStamp>,
    newest: Option<Newest>,
    /// How the ACK cuts the oldest segment.
    part: Part,
    /// The first and the last chunk that were found lost.
    lost_first: u32,
    lost_last: u32,
}

/// What an ACK covers of a segment of which more is left.
#[derive(Clone, Copy, Debug)]
struct Part {
    bytes: u32,
    /// It is the segment that the ACK before has left at the head.
    is_same: bool,
}

/// An ACK that covers nothing.
const NO_PART: Part = Part {
    bytes: 0,
    is_same: true,
};

/// An ACK that ends where a segment does.
const BETWEEN: Part = Part {
    bytes: 0,
    is_same: false,
};

/// What a connection counts. Bytes and microseconds wrap.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sampler {
    /// Bytes delivered, and when the last of them were.
    pub(crate) delivered: u32,
    delivered_us: u32,
    /// When the segment had left that was delivered last.
    first_sent_us: u32,
    /// Bytes found lost.
    pub(crate) lost: u32,
    /// There is too little to send until more than this is delivered; 0 when there is enough.
    app_limited: u32,
    /// Bytes of the oldest segment that are acknowledged, and not counted before all of it is.
    held_back: u32,
}

/// What one ACK says of the rate.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RateSample {
    /// It delivers something.
    pub(crate) has_data: bool,
    /// Bytes delivered when the newest that it delivers had left.
    pub(crate) prior_delivered: u32,
    /// Bytes delivered since then.
    pub(crate) delivered: u32,
    /// Bytes per second; 0 when the interval is too short to be believed.
    pub(crate) rate: u64,
    /// There was too little to send.
    pub(crate) is_app_limited: bool,
    /// Bytes that it delivers, and that it shows to be lost.
    pub(crate) newly_acked: u32,
    /// See `newly_acked`.
    pub(crate) newly_lost: u32,
    /// Bytes in flight when the newest left, and bytes lost since.
    pub(crate) tx_in_flight: u32,
    /// See `tx_in_flight`.
    pub(crate) lost: u32,
    /// The round trip of the newest, if it was sent once only.
    pub(crate) rtt: Option<Micros>,
    /// The peer may have waited with the ACK (Linux: `is_ack_delayed`).
    pub(crate) is_ack_delayed: bool,
}

/// A segment that was found lost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LostSegment {
    /// Its payload.
    pub(crate) bytes: u32,
    /// Bytes in flight when it left.
    pub(crate) tx_in_flight: u32,
    /// Bytes that had been lost when it left.
    pub(crate) lost_before: u32,
    /// There was too little to send.
    pub(crate) is_app_limited: bool,
}

/// The clock of the samples.
fn micros(now: Instant) -> u32 {
    // 0 is no time.
    (now.as_micros() as u32).max(1)
}

/// Whether a wrapping count is beyond another.
pub(crate) fn is_beyond(one: u32, other: u32) -> bool {
    (one.wrapping_sub(other) as i32) > 0
}

impl Rates {
    /// A stamp for each of so many chunks.
    pub(crate) fn new(chunks: usize) -> Self {
        Self {
            stamps: vec![SendStamp::default(); chunks],
            newest: None,
            part: NO_PART,
            lost_first: NONE,
            lost_last: NONE,
        }
    }

    /// Another ACK or timer begins.
    pub(super) fn begin(&mut self) {
        self.newest = None;
        self.part = NO_PART;
        self.lost_first = NONE;
        self.lost_last = NONE;
    }

    /// A chunk is delivered: was it the one that left last? (Linux: `tcp_rate_skb_delivered`.)
    pub(super) fn on_delivered(
        &mut self,
        index: u32,
        (sent_at, end): (Instant, SeqNumber),
        is_retransmission: bool,
    ) {
        let Some(stamp) = self.stamps.get(index as usize) else {
            return;
        };
        let is_newer = self.newest.is_none_or(|known| {
            sent_at > known.sent_at || (sent_at == known.sent_at && end.after(known.end))
        });
        if stamp.delivered_us != 0 && is_newer {
            self.newest = Some(Newest {
                sent_at,
                end,
                stamp: *stamp,
                is_retransmission,
            });
        }
    }

    /// A chunk was found lost.
    pub(super) fn on_lost(&mut self, index: u32) {
        if index == self.lost_last {
            return;
        }
        if let Some(stamp) = self.stamps.get_mut(index as usize) {
            stamp.next_lost = NONE;
        }
        match self.stamps.get_mut(self.lost_last as usize) {
            Some(last) => last.next_lost = index,
            None => self.lost_first = index,
        }
        self.lost_last = index;
    }

    /// The rest of a chunk that was cut left with it.
    pub(super) fn copy(&mut self, from: u32, to: u32) {
        if let Some(stamp) = self.stamps.get(from as usize).copied()
            && let Some(slot) = self.stamps.get_mut(to as usize)
        {
            *slot = stamp;
        }
    }
}

impl Sampler {
    /// Whether there is too little to send.
    pub(crate) fn is_app_limited(&self) -> bool {
        self.app_limited != 0
    }

    /// There is too little to send until what is in flight is delivered.
    pub(crate) fn limit_by_application(&mut self, in_flight: u32) {
        self.app_limited = self.delivered.wrapping_add(in_flight).max(1);
    }

    /// A segment leaves; with `is_first`, nothing was in flight before it.
    fn stamp(&mut self, now: Instant, is_first: bool, in_flight: u32) -> SendStamp {
        if is_first {
            self.first_sent_us = micros(now);
            self.delivered_us = self.first_sent_us;
        }
        let limited = if self.is_app_limited() {
            APP_LIMITED
        } else {
            0
        };
        SendStamp {
            delivered: self.delivered,
            delivered_us: self.delivered_us,
            first_sent_us: self.first_sent_us,
            lost: self.lost,
            in_flight: in_flight & !APP_LIMITED | limited,
            next_lost: NONE,
        }
    }

    /// What of the `bytes` of an ACK is delivered: whole segments (Linux: packets). Who acknowledges in
    /// parts would otherwise find the count low whenever something leaves between two of them, and
    /// the rate of that sample high.
    fn whole(&mut self, bytes: u32, part: Part) -> u32 {
        let before = self.held_back;
        let kept = if part.is_same { before } else { 0 };
        self.held_back = kept.saturating_add(part.bytes);
        bytes.saturating_add(before).saturating_sub(self.held_back)
    }

    /// An ACK delivers so many bytes.
    pub(crate) fn deliver(&mut self, now: Instant, bytes: u32) {
        if bytes > 0 {
            self.delivered = self.delivered.wrapping_add(bytes);
            self.delivered_us = micros(now);
        }
        if self.app_limited != 0 && is_beyond(self.delivered, self.app_limited) {
            self.app_limited = 0;
        }
    }

    /// The sample of an ACK whose bytes are counted (Linux: `tcp_rate_gen`).
    pub(crate) fn sample(
        &mut self,
        now: Instant,
        newest: Option<Newest>,
        min_rtt: Option<Micros>,
    ) -> RateSample {
        let Some(Newest {
            sent_at,
            stamp,
            is_retransmission,
            end: _,
        }) = newest
        else {
            return RateSample::default();
        };
        self.first_sent_us = micros(sent_at);
        let send_us = self.first_sent_us.wrapping_sub(stamp.first_sent_us);
        let ack_us = self.delivered_us.wrapping_sub(stamp.delivered_us);
        let interval_us = send_us.max(ack_us);
        let delivered = self.delivered.wrapping_sub(stamp.delivered);
        let rtt = (!is_retransmission).then(|| now.since(sent_at).to_micros());
        // What was sent again needlessly may be acknowledged too soon.
        let is_believed = match min_rtt {
            Some(least) => interval_us >= rtt.map_or(least, |rtt| rtt.min(least)).as_micros(),
            None => true,
        };
        let rate = u64::from(delivered)
            .saturating_mul(1_000_000)
            .checked_div(interval_us.into())
            .filter(|_| is_believed);
        RateSample {
            has_data: true,
            prior_delivered: stamp.delivered,
            delivered,
            rate: rate.unwrap_or(0),
            is_app_limited: stamp.in_flight & APP_LIMITED != 0,
            tx_in_flight: stamp.in_flight & !APP_LIMITED,
            lost: self.lost.wrapping_sub(stamp.lost),
            rtt,
            ..RateSample::default()
        }
    }
}

impl Connection {
    /// Congestion control begins to model the path. It takes a place for the model, and one for the
    /// clock of departures; where there is none, the connection goes on with CUBIC.
    #[cold]
    pub(super) fn begin_model<B>(
        &mut self,
        chunks: &mut Chunks<B>,
        tunables: &TcpTunables,
        now: Instant,
    ) {
        let beginning = Beginning {
            now,
            srtt: self.rtt.srtt(),
            cwnd: self.congestion.cwnd,
            seed: self.nxt.value(),
        };
        let shelves = &mut chunks.congestion;
        if self.congestion.begin_model(shelves, &beginning) && self.start_pacing(chunks) {
            self.forget_stamps(chunks);
            return;
        }
        let setting = &mut Setting {
            shelves: &mut chunks.congestion,
            cubic: &tunables.cubic,
        };
        self.congestion
            .set_control(CongestionControl::Cubic, setting, self.nxt);
    }

    /// Chunks from `first` on have left in one frame; with `is_new`, for the first time.
    #[inline]
    pub(super) fn stamp_sent<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        (first, count): (u32, u32),
        is_new: bool,
    ) {
        if self.congestion.is_modelled() {
            self.stamp_modelled(env, (first, count), is_new);
        }
    }

    #[cold]
    fn stamp_modelled<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        (first, count): (u32, u32),
        is_new: bool,
    ) {
        self.send
            .board
            .edit(env.chunks, |ledger| ledger.samples = true);
        let in_flight = self.in_flight(env.chunks);
        let is_first = is_new && env.chunks.get(first).is_some_and(|it| it.seq == self.una);
        let Some(model) = self.congestion.model_mut(&mut env.chunks.congestion) else {
            return;
        };
        let stamp = model.sampler.stamp(env.now, is_first, in_flight);
        let mut index = first;
        for _ in 0..count {
            if let Some(slot) = env.chunks.rates.stamps.get_mut(index as usize) {
                *slot = stamp;
            }
            index = env.chunks.get(index).map_or(NONE, Chunk::next);
        }
    }

    /// What is in flight left before anybody counted: it says nothing. O(chunks in flight).
    pub(super) fn forget_stamps<B>(&self, chunks: &mut Chunks<B>) {
        let mut index = self.send.queue().head();
        while index != self.send.unsent() {
            if let Some(stamp) = chunks.rates.stamps.get_mut(index as usize) {
                *stamp = SendStamp::default();
            }
            index = chunks.get(index).map_or(NONE, Chunk::next);
        }
    }

    /// An ACK is about to free everything before `to`.
    pub(super) fn sample_acknowledged<B>(&self, chunks: &mut Chunks<B>, to: SeqNumber) {
        if self.send.board.is_clear() {
            chunks.rates.begin();
        }
        let mut index = self.send.queue().head();
        let mut part = NO_PART;
        while index != self.send.unsent() {
            let Some(chunk) = chunks.get(index) else {
                break;
            };
            // A whole segment lies before it.
            if index != self.send.queue().head() && !chunk.has(CONTINUED) {
                part = BETWEEN;
            }
            let (sent, flags, next) = ((chunk.sent_at, chunk.end()), chunk.flags, chunk.next());
            if flags & SACKED == 0 && chunk.seq.before(to) {
                let covered = chunk.end().earliest(to).bytes_since(chunk.seq);
                part.bytes = part.bytes.saturating_add(covered);
            }
            if chunk.end().after(to) {
                chunks.rates.part = part;
                return;
            }
            if flags & SACKED == 0 {
                let again = flags & EVER_RETRANSMITTED != 0;
                chunks.rates.on_delivered(index, sent, again);
            }
            index = next;
        }
        chunks.rates.part = BETWEEN;
    }

    /// Takes the segments that were found lost since the last `Rates::begin`, one by one.
    pub(super) fn next_lost<B>(&self, chunks: &mut Chunks<B>) -> Option<LostSegment> {
        let index = chunks.rates.lost_first;
        let bytes = chunks.get(index).map(|chunk| u32::from(chunk.len))?;
        let stamp = chunks.rates.stamps.get(index as usize).copied()?;
        chunks.rates.lost_first = stamp.next_lost;
        if stamp.next_lost == NONE {
            chunks.rates.lost_last = NONE;
        }
        Some(LostSegment {
            bytes,
            tx_in_flight: stamp.in_flight & !APP_LIMITED,
            lost_before: stamp.lost,
            is_app_limited: stamp.in_flight & APP_LIMITED != 0,
        })
    }

    /// What of the `bytes` of the present ACK is delivered as whole segments.
    pub(super) fn whole_segments<B>(&self, chunks: &mut Chunks<B>, bytes: u32) -> u32 {
        let part = chunks.rates.part;
        let model = self.congestion.model_mut(&mut chunks.congestion);
        model.map_or(bytes, |model| model.sampler.whole(bytes, part))
    }

    /// The delivered segment of the present ACK that left last. Without a ledger that samples only an
    /// ACK that covers something tells of any.
    pub(super) fn newest_delivered<B>(
        &self,
        chunks: &mut Chunks<B>,
        advanced: bool,
    ) -> Option<Newest> {
        let newest = chunks.rates.newest.take();
        newest.filter(|_| advanced || self.send.board.view(chunks).samples)
    }

    /// Whether what there is to send is less than the path takes (Linux:
    /// `tcp_rate_check_app_limited`). Asked behind each turn and each ACK: between them, delivered
    /// and in flight make the same sum.
    pub(super) fn check_app_limited<B>(&mut self, chunks: &mut Chunks<B>) {
        let in_flight = self.in_flight(chunks);
        let is_limited = self.unsent_bytes() < u32::from(self.mss)
            && in_flight < self.congestion.cwnd
            && !self.send.board.has_pending(chunks);
        if is_limited && let Some(model) = self.congestion.model_mut(&mut chunks.congestion) {
            model.sampler.limit_by_application(in_flight);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::TcpTunables;
    use crate::tcp::handshake::{Handshake, SynAcks};
    use crate::tcp::shelf::Place;
    use crate::tcp::testing::{Bench, ack};

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn newest(sent_ms: u64, stamp: SendStamp) -> Option<Newest> {
        Some(Newest {
            sent_at: at(sent_ms),
            end: SeqNumber::new(1),
            stamp,
            is_retransmission: false,
        })
    }

    // Draft section 4.1.1.2; Linux: tcp_rate_gen. behaviour: SND-49
    #[test]
    fn the_rate_is_what_was_delivered_over_the_longer_of_sending_and_acknowledging() {
        let mut sampler = Sampler::default();
        let first = sampler.stamp(at(1_000), true, 1_000);
        sampler.deliver(at(1_040), 1_000);
        let one = sampler.sample(at(1_040), newest(1_000, first), None);
        assert_eq!((one.rate, one.delivered), (25_000, 1_000));
        // Ten leave in 5 ms, and their ACKs come within 20.
        let early = sampler.stamp(at(1_040), false, 1_000);
        let late = sampler.stamp(at(1_045), false, 10_000);
        sampler.deliver(at(1_080), 1_000);
        let sample = sampler.sample(at(1_080), newest(1_040, early), None);
        assert_eq!(sample.rate, 25_000);
        sampler.deliver(at(1_100), 9_000);
        let sample = sampler.sample(at(1_100), newest(1_045, late), None);
        assert_eq!((sample.delivered, sample.tx_in_flight), (10_000, 10_000));
        assert_eq!(sample.rate, 10_000 * 1_000 / 60, "60 ms from 1,040 on");
        assert_eq!(sample.rtt, Some(Micros::from_millis(55)));
    }

    // Linux: "interval < tcp_min_rtt".
    #[test]
    fn what_came_faster_than_any_round_trip_is_not_believed() {
        let mut sampler = Sampler::default();
        let stamp = sampler.stamp(at(1_000), true, 1_000);
        sampler.deliver(at(1_010), 1_000);
        let min_rtt = Some(Micros::from_millis(11));
        let again = newest(1_000, stamp).map(|newest| Newest {
            is_retransmission: true,
            ..newest
        });
        let sample = sampler.sample(at(1_010), again, min_rtt);
        assert_eq!((sample.has_data, sample.rate), (true, 0));
        // Of what was sent once it is a shorter round trip.
        let sample = sampler.sample(at(1_010), newest(1_000, stamp), min_rtt);
        assert_eq!((sample.has_data, sample.rate), (true, 100_000));
    }

    // Linux: tcp_rate_check_app_limited. behaviour: A3-5, X8-14
    #[test]
    fn the_mark_of_too_little_to_send_lasts_until_what_is_in_flight_is_delivered() {
        let mut sampler = Sampler::default();
        sampler.limit_by_application(2_000);
        let stamp = sampler.stamp(at(1_000), true, 1_000);
        sampler.deliver(at(1_040), 2_000);
        assert!(sampler.is_app_limited());
        let sample = sampler.sample(at(1_040), newest(1_000, stamp), None);
        assert!(sample.is_app_limited);
        assert_eq!(sample.tx_in_flight, 1_000);
        sampler.deliver(at(1_041), 1);
        assert!(!sampler.is_app_limited());
    }

    fn modelled() -> Bench {
        let tunables = TcpTunables {
            tcp_congestion_control: CongestionControl::Bbr,
            ..TcpTunables::default()
        };
        let options = crate::tcp::ConnectionOptions::default();
        Bench::established_with(true, tunables, options, None)
    }

    fn bandwidth(bench: &Bench) -> u64 {
        bench.info().bbr.expect("a model").bandwidth
    }

    // behaviour: A4-4, SND-49
    #[test]
    fn a_connection_learns_the_rate_of_its_path_from_acks() {
        let mut bench = modelled();
        bench.write(10_000);
        assert_eq!(bench.sent().len(), 10);
        bench.advance(50);
        bench.receive(ack(10_000));
        assert_eq!(bandwidth(&bench), 200_000);
        let limited = bench.info().bbr.map(|it| it.min_rtt);
        assert_eq!(limited, Some(Micros::from_millis(50)));
        bench.finish();
    }

    // What leaves between two parts of an ACK would else find the count low and the time new, and its
    // sample too high. Linux counts packets. behaviour: SND-49
    #[test]
    fn a_segment_that_is_acknowledged_in_parts_counts_with_the_last() {
        let mut bench = modelled();
        bench.write(10_000);
        assert_eq!(bench.sent().len(), 10);
        bench.advance(50);
        for (upto, whole) in [
            (500, 0),
            (999, 0),
            (1_000, 1_000),
            (2_500, 2_000),
            (2_999, 2_000),
            (4_001, 4_000),
            (10_000, 10_000),
        ] {
            bench.receive(ack(upto));
            let shelves = &bench.world.chunks.congestion;
            let model = bench.connection.congestion.model(shelves);
            let delivered = model.map(|model| model.sampler.delivered);
            assert_eq!(delivered, Some(whole), "up to {upto}");
        }
        bench.finish();
    }

    // Four of ten arrive, then the fifth and all others: the model hears of the loss.
    #[test]
    fn a_lost_segment_is_told_of_and_sent_again_at_the_models_pace() {
        let mut bench = modelled();
        bench.write(20_000);
        assert_eq!(bench.sent().len(), 10);
        bench.advance(50);
        bench.receive(ack(1_000).sack(&[(2_000, 10_000)]));
        let again = bench.sent();
        assert_eq!(again.first().map(|it| it.seq), Some(1_000));
        let board = bench.info();
        assert_eq!(board.lost_bytes, 1_000);
        assert_eq!(bandwidth(&bench), 180_000, "nine in 50 ms");
        bench.advance(50);
        bench.receive(ack(10_000));
        bench.finish();
    }

    // One place collects for all: what another connection has left there is nobody's, also when a ledger
    // opens in the middle of an ACK.
    #[test]
    fn a_ledger_that_opens_in_the_middle_of_an_ack_reads_no_samples_of_another() {
        let mut bench = modelled();
        let tunables = bench.world.tunables;
        let once = SynAcks::Once(at(900));
        let without_sack = Handshake {
            sack_permitted: false,
            ..bench.handshake(once, None)
        };
        let fresh = Connection::accept(&without_sack, &tunables, bench.now);
        let other = core::mem::replace(&mut bench.connection, fresh);
        bench.receive(ack(0));
        // What it has in flight left before it had a model: it has no ledger.
        let (reno, bbr) = (CongestionControl::Reno, CongestionControl::Bbr);
        let chunks = &mut bench.world.chunks;
        bench
            .connection
            .set_congestion_control(reno, chunks, &tunables);
        bench.write(10_000);
        assert_eq!(bench.sent().len(), 10);
        let chunks = &mut bench.world.chunks;
        bench
            .connection
            .set_congestion_control(bbr, chunks, &tunables);
        // The other has samples taken, of which it asks nothing any more: a delivery and a loss.
        let ours = core::mem::replace(&mut bench.connection, other);
        bench.write(10_000);
        assert_eq!(bench.sent().len(), 10);
        let chunks = &mut bench.world.chunks;
        bench
            .connection
            .set_congestion_control(reno, chunks, &tunables);
        bench.advance(50);
        bench.receive(ack(1_000).sack(&[(2_000, 10_000)]));
        let rates = &bench.world.chunks.rates;
        assert!(rates.newest.is_some() && rates.lost_first != NONE);
        let mut other = core::mem::replace(&mut bench.connection, ours);
        for _ in 0..3 {
            assert!(bench.connection.send.board.is_clear());
            bench.receive(ack(0));
        }
        assert!(bench.info().lost_bytes > 0, "its own");
        let shelves = &bench.world.chunks.congestion;
        let model = bench.connection.congestion.model(shelves);
        assert_eq!(model.map(|model| model.sampler.lost), Some(0));
        assert_eq!(bandwidth(&bench), 0);
        other.release(&mut bench.world.chunks);
        bench.finish();
    }

    #[test]
    fn without_a_place_for_the_model_a_connection_has_cubic() {
        let mut bench = modelled();
        assert_eq!(bench.info().congestion_control, CongestionControl::Bbr);
        let chunks = &mut bench.world.chunks;
        let tunables = bench.world.tunables;
        bench
            .connection
            .set_congestion_control(CongestionControl::Reno, chunks, &tunables);
        while !chunks.extras.is_full() {
            chunks
                .extras
                .store(Place::NONE, crate::tcp::extra::Extra::default());
        }
        bench.connection.release_extra(chunks);
        chunks
            .extras
            .store(Place::NONE, crate::tcp::extra::Extra::default());
        bench
            .connection
            .set_congestion_control(CongestionControl::Bbr, chunks, &tunables);
        assert_eq!(bench.info().congestion_control, CongestionControl::Cubic);
        assert_eq!(bench.info().bbr, None);
    }
}
