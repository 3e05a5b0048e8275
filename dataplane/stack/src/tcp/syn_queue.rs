//! Half-open connections: what a SYN said, kept until its final ACK (SYN-RECEIVED, RFC 9293 section
//! 3.10.7.4, RFC 4987).
//!
//! A request is Linux's `request_sock`: a mini-socket of about 120 bytes with its own SYN-ACK
//! retransmission, no buffers and no TCB. It lives in the flow table beside the connections, so the
//! final ACK finds it by tuple. The checks are those of `tcp_check_req`, the timer is
//! `reqsk_timer_handler`.
//!
//! It does not decide whether a SYN is admitted (`passive.rs`), and knows no listener but by id.

use millrace_base::{FlowTuple, Instant, Key, ListenerId, Nanos, SeqNumber, Slab};
use millrace_wire::{TcpFlags, TcpOptions, TcpRepr, Timestamps};

use super::config::TcpTunables;
use super::ecn::Ecn;
use super::ecn::accurate::put_first_option;
use super::segment::Segment;
use crate::listener::Patience;
use crate::network::HopCache;
use crate::wheel::Wheel;

/// What a SYN said and what we answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct HalfOpen {
    pub(crate) tuple: FlowTuple,
    /// The listener the SYN was for.
    pub(crate) listener: ListenerId,
    /// Our initial sequence number.
    pub(crate) iss: SeqNumber,
    /// The peer's initial sequence number.
    pub(crate) irs: SeqNumber,
    /// The MSS the peer announced, or the default of its family.
    pub(crate) peer_mss: u16,
    /// The MSS we announced.
    pub(crate) own_mss: u16,
    /// The peer's window scale; `None` when scaling is off for both.
    pub(crate) peer_window_scale: Option<u8>,
    /// Both sides speak SACK.
    pub(crate) sack: bool,
    /// Which ECN both sides speak.
    pub(crate) ecn: Ecn,
    /// The peer's last timestamp; `None` when timestamps are off.
    pub(crate) ts_recent: Option<u32>,
    /// Added to our clock in timestamps.
    pub(crate) ts_offset: u32,
}

/// A half-open connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) half_open: HalfOpen,
    /// The way back, as it was found for the SYN.
    pub(crate) hop: HopCache,
    /// When the first SYN-ACK left, for the first RTT sample.
    pub(crate) sent_at: Instant,
    /// When `ts_recent` was taken.
    pub(crate) recent_at: Instant,
    /// SYN-ACKs sent again, by timer or because the SYN came again.
    pub(crate) retransmissions: u8,
    /// Expiries of the timer.
    pub(crate) timeouts: u8,
    /// The final ACK has come and could not be taken yet.
    pub(crate) acked: bool,
    answered: Option<Instant>,
    deadline: Instant,
}

/// What a segment to a request asks of the stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RequestVerdict {
    /// The SYN again: send the SYN-ACK again.
    SynAgain,
    /// Outside the window or an old timestamp: acknowledge.
    Acknowledge {
        /// The reason is PAWS.
        paws: bool,
    },
    /// As before, but the last answer was a moment ago.
    Limited,
    /// An ACK for something else: reset, and keep the request.
    BadAck,
    /// A RST or a second SYN inside the window: the request goes; the SYN is answered by a reset.
    Reset {
        /// Whether the segment itself is a RST.
        by_rst: bool,
    },
    /// Neither ACK nor anything that means something here.
    NoAck,
    /// A final ACK without the data that it is to bring.
    Deferred,
    /// The final ACK.
    Complete,
}

/// What an expired timer asks of the stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RequestTimeout {
    /// It waits on.
    Waits {
        index: u32,
        /// This is the first timeout: the request is no longer young.
        first: bool,
        /// Send the SYN-ACK again.
        resend: bool,
    },
    /// The request has waited long enough; `remove` it.
    Expired { index: u32 },
}

/// All requests. Memory is taken in `new`.
#[derive(Debug)]
pub(crate) struct SynQueue {
    requests: Slab<Request>,
    timers: Wheel,
}

impl SynQueue {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            requests: Slab::new(capacity),
            timers: Wheel::new(capacity),
        }
    }

    /// Stores a request whose SYN-ACK is about to leave; `None` when the table is full.
    pub(crate) fn insert(
        &mut self,
        now: Instant,
        half_open: HalfOpen,
        hop: HopCache,
        tunables: &TcpTunables,
    ) -> Option<u32> {
        let deadline = now.after(timeout(tunables, 0));
        let request = Request {
            half_open,
            hop,
            sent_at: now,
            recent_at: now,
            retransmissions: 0,
            timeouts: 0,
            acked: false,
            answered: None,
            deadline,
        };
        let index = self.requests.insert(request).ok()?.index();
        self.timers.arm(index, deadline);
        Some(index)
    }

    /// Removes a request.
    pub(crate) fn remove(&mut self, index: u32) -> Option<Request> {
        self.timers.cancel(index);
        self.requests.remove(self.key(index)?)
    }

    /// A segment came for a request.
    pub(crate) fn on_segment<B>(
        &mut self,
        index: u32,
        now: Instant,
        segment: &Segment<B>,
        tunables: &TcpTunables,
        patience: Patience,
    ) -> RequestVerdict {
        let Some(request) = self.get_mut(index) else {
            return RequestVerdict::NoAck;
        };
        let mut verdict = request.check(now, segment, tunables);
        // behaviour: A10-16
        let is_bare = segment.end() == request.half_open.irs.plus(1);
        let is_early = request.timeouts < patience.defer;
        if verdict == RequestVerdict::Complete && is_bare && is_early {
            request.acked = true;
            verdict = RequestVerdict::Deferred;
        }
        if verdict == RequestVerdict::SynAgain {
            // behaviour: A10-5
            request.deadline = now.after(timeout(tunables, request.timeouts));
            let deadline = request.deadline;
            self.timers.arm(index, deadline);
        }
        verdict
    }

    /// The next timer that is due. `patience` tells how long a request of this listener may wait.
    pub(crate) fn expire(
        &mut self,
        now: Instant,
        steps: &mut usize,
        tunables: &TcpTunables,
        patience: impl Fn(ListenerId) -> Patience,
    ) -> Option<RequestTimeout> {
        while let Some(index) = self.timers.pop(now, steps) {
            let Some(request) = self.get_mut(index) else {
                continue;
            };
            if !request.deadline.is_due(now) {
                let deadline = request.deadline;
                self.timers.arm(index, deadline);
                continue;
            }
            let patience = patience(request.half_open.listener);
            if request.has_waited_enough(patience) {
                return Some(RequestTimeout::Expired { index });
            }
            let resend = request.asks_again(patience);
            // behaviour: A13-6
            let first = request.timeouts == 0;
            request.timeouts = request.timeouts.saturating_add(1);
            request.deadline = now.after(timeout(tunables, request.timeouts));
            let deadline = request.deadline;
            self.timers.arm(index, deadline);
            return Some(RequestTimeout::Waits {
                index,
                first,
                resend,
            });
        }
        None
    }

    pub(crate) fn get(&self, index: u32) -> Option<&Request> {
        self.requests.get(self.key(index)?)
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut Request> {
        let key = self.key(index)?;
        self.requests.get_mut(key)
    }

    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.requests.is_full()
    }

    /// A time before which no timer is due.
    pub(crate) fn next_deadline(&self) -> Instant {
        self.timers.next_deadline()
    }

    fn key(&self, index: u32) -> Option<Key> {
        self.requests.key_at(index)
    }
}

impl HalfOpen {
    /// The SYN-ACK (RFC 9293 section 3.10.7.2). Its window is not scaled (RFC 7323 section 2.2).
    #[inline]
    pub(crate) fn syn_ack(&self, now: Instant, tunables: &TcpTunables) -> TcpRepr {
        self.syn_ack_with_clock(now.as_millis() as u32, tunables)
    }

    /// The SYN-ACK with a chosen reading of the timestamp clock: that of a cookie carries options.
    #[inline(always)] // Put together where it is sent from.
    pub(crate) fn syn_ack_with_clock(&self, clock_ms: u32, tunables: &TcpTunables) -> TcpRepr {
        let timestamps = self.ts_recent.map(|recent| Timestamps {
            value: clock_ms.wrapping_add(self.ts_offset),
            echo: recent,
        });
        let mut header = TcpRepr {
            source_port: self.tuple.local.port,
            destination_port: self.tuple.remote.port,
            seq: self.iss,
            ack: self.irs.plus(1),
            flags: TcpFlags::SYN | TcpFlags::ACK,
            window: self.window(tunables),
            urgent: 0,
            options: TcpOptions {
                mss: Some(self.own_mss),
                window_scale: self.peer_window_scale.map(|_| tunables.window_scale()),
                sack_permitted: self.sack,
                timestamps,
                ..TcpOptions::default()
            },
        };
        if !self.ecn.is_off() {
            self.agree_on_ecn(&mut header, tunables);
        }
        header
    }

    /// A SYN-ACK with a signature has no room for timestamps beside SACK: what is given up is the
    /// timestamps (Linux: `tcp_synack_options`).
    pub(crate) fn make_room_for_signature(&mut self) {
        if self.sack {
            self.ts_recent = None;
        }
    }

    /// ECE agrees (RFC 3168 section 6.1.1); or the ACE field says how the SYN came, with the option
    /// beside it (RFC 9768 section 3.1.1). behaviour: A19-9
    #[cold]
    fn agree_on_ecn(&self, header: &mut TcpRepr, tunables: &TcpTunables) {
        if self.ecn.is_accurate() {
            header.flags |= self.ecn.echo();
            put_first_option(&mut header.options, tunables);
        } else {
            header.flags |= TcpFlags::ECE;
        }
    }

    /// The ACK that answers a segment outside the window (Linux: `tcp_v4_reqsk_send_ack`).
    pub(crate) fn acknowledgment(&self, now: Instant, tunables: &TcpTunables) -> TcpRepr {
        let scale = match self.peer_window_scale {
            Some(_) => u32::from(tunables.window_scale()),
            None => 0,
        };
        let window = u32::from(self.window(tunables))
            .checked_shr(scale)
            .unwrap_or(0);
        let syn_ack = self.syn_ack(now, tunables);
        let timestamps = syn_ack.options.timestamps;
        TcpRepr {
            seq: self.iss.plus(1),
            flags: TcpFlags::ACK,
            window: window as u16,
            options: TcpOptions {
                timestamps,
                ..TcpOptions::default()
            },
            ..syn_ack
        }
    }

    /// The window field of our SYN-ACK, bytes.
    pub(crate) fn window(&self, tunables: &TcpTunables) -> u16 {
        self.offer(tunables).min(0xffff) as u16
    }

    /// What it offers, bytes.
    pub(crate) fn offer(&self, tunables: &TcpTunables) -> u32 {
        let options = if self.ts_recent.is_some() { 12 } else { 0 };
        tunables.receive_window_offer(self.own_mss.saturating_sub(options))
    }
}

impl Request {
    /// The checks of `tcp_check_req`, in its order.
    fn check<B>(
        &mut self,
        now: Instant,
        segment: &Segment<B>,
        tunables: &TcpTunables,
    ) -> RequestVerdict {
        let flags = segment.flags;
        let half_open = &self.half_open;
        let stamps = half_open.ts_recent.zip(segment.options.timestamps);
        let paws = stamps.is_some_and(|(recent, stamp)| {
            let minute_passed = now.since(self.recent_at) >= Nanos::from_secs(60);
            is_before(stamp.value, recent) && !(flags.rst() && minute_passed)
        });
        // behaviour: A10-4
        let only_syn = flags.syn() && !flags.intersects(TcpFlags::RST | TcpFlags::ACK);
        if segment.seq == half_open.irs && only_syn && !paws {
            return self.answer_or(now, segment, tunables, RequestVerdict::SynAgain);
        }
        // behaviour: A10-8
        //= https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.4
        //# If the segment acknowledgment is not acceptable, form a reset segment
        if flags.ack() && segment.ack != half_open.iss.plus(1) {
            return RequestVerdict::BadAck;
        }
        // behaviour: A10-10
        if paws || !self.is_in_window(segment, tunables) {
            if flags.rst() {
                return RequestVerdict::Limited;
            }
            let verdict = RequestVerdict::Acknowledge { paws };
            return self.answer_or(now, segment, tunables, verdict);
        }
        // behaviour: A10-11
        if let Some((_, stamp)) = stamps
            && segment.seq.before_or_eq(self.half_open.irs.plus(1))
        {
            self.half_open.ts_recent = Some(stamp.value);
            self.recent_at = now;
        }
        // behaviour: A10-12 A10-13
        let cut_off = flags.syn() && segment.seq == self.half_open.irs;
        if flags.rst() || (flags.syn() && !cut_off) {
            return RequestVerdict::Reset {
                by_rst: flags.rst(),
            };
        }
        // The same SYN again, with an ACK and text behind it. The child that Linux makes now answers it
        // with a challenge and waits for another ACK; here the request does, which has a timer.
        if cut_off && flags.ack() {
            let verdict = RequestVerdict::Acknowledge { paws: false };
            return self.answer_or(now, segment, tunables, verdict);
        }
        // behaviour: A10-14
        if flags.ack() {
            RequestVerdict::Complete
        } else {
            RequestVerdict::NoAck
        }
    }

    /// Whether the request goes (Linux: `syn_ack_recalc`): one whose client has answered already stays
    /// until the time to wait for its data is over. behaviour: A13-4
    const fn has_waited_enough(&self, patience: Patience) -> bool {
        let is_awaited = patience.defer > 0 && self.acked && self.timeouts < patience.defer;
        self.timeouts >= patience.retries && !is_awaited
    }

    /// Whether its SYN-ACK is sent again: not while data is waited for, but at the end of that time,
    /// as the last chance for data or another ACK.
    const fn asks_again(&self, patience: Patience) -> bool {
        let Patience { retries: _, defer } = patience;
        defer == 0 || !self.acked || self.timeouts.saturating_add(1) >= defer
    }

    /// Answers a segment that does not belong here, not too often.
    fn answer_or<B>(
        &mut self,
        now: Instant,
        segment: &Segment<B>,
        tunables: &TcpTunables,
        verdict: RequestVerdict,
    ) -> RequestVerdict {
        if !segment.may_be_in_an_ack_loop() {
            return verdict;
        }
        let ratelimit = Nanos::from_millis(tunables.tcp_invalid_ratelimit_ms.into());
        if self.answered.is_some_and(|at| now.since(at) < ratelimit) {
            return RequestVerdict::Limited;
        }
        self.answered = Some(now);
        verdict
    }

    /// Linux's `tcp_in_window` over the window of the SYN-ACK.
    fn is_in_window<B>(&self, segment: &Segment<B>, tunables: &TcpTunables) -> bool {
        let rcv_nxt = self.half_open.irs.plus(1);
        let window_end = rcv_nxt.plus(u32::from(self.half_open.window(tunables)));
        segment.is_in_window(rcv_nxt, window_end)
    }
}

/// The time to the next retransmission after `timeouts` of them.
fn timeout(tunables: &TcpTunables, timeouts: u8) -> Nanos {
    let factor = 1u64.checked_shl(u32::from(timeouts)).unwrap_or(u64::MAX);
    let span = u64::from(tunables.tcp_rto_initial_ms).saturating_mul(factor);
    Nanos::from_millis(span.min(u64::from(tunables.tcp_rto_max_ms)))
}

const fn is_before(value: u32, other: u32) -> bool {
    (value.wrapping_sub(other) as i32) < 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_base::{Address, Endpoint, HeapBuf};

    const IRS: u32 = 1_000;
    const ISS: u32 = 77_000;
    const FIVE: Patience = Patience {
        retries: 5,
        defer: 0,
    };

    fn half_open() -> HalfOpen {
        HalfOpen {
            tuple: FlowTuple {
                local: Endpoint::new(Address::v4([10, 0, 0, 1]), 80),
                remote: Endpoint::new(Address::v4([10, 0, 0, 2]), 40_000),
            },
            listener: ListenerId::new(3),
            iss: SeqNumber::new(ISS),
            irs: SeqNumber::new(IRS),
            peer_mss: 1_460,
            own_mss: 1_460,
            peer_window_scale: Some(7),
            sack: true,
            ecn: Ecn::OFF,
            ts_recent: Some(500),
            ts_offset: 10,
        }
    }

    fn one() -> (SynQueue, u32, TcpTunables) {
        let tunables = TcpTunables::default();
        let mut queue = SynQueue::new(1);
        let index = queue
            .insert(Instant::ZERO, half_open(), HopCache::EMPTY, &tunables)
            .expect("room");
        let second = queue.insert(Instant::ZERO, half_open(), HopCache::EMPTY, &tunables);
        assert_eq!(second, None);
        (queue, index, tunables)
    }

    fn segment(flags: TcpFlags, seq: u32, ack: u32, stamp: u32, len: u32) -> Segment<HeapBuf> {
        let timestamps = Some(Timestamps {
            value: stamp,
            echo: 0,
        });
        Segment {
            seq: SeqNumber::new(seq),
            ack: SeqNumber::new(ack),
            flags,
            window: 100,
            traffic_class: 0,
            options: TcpOptions {
                timestamps,
                ..TcpOptions::default()
            },
            payload: None,
            payload_len: len,
        }
    }

    // behaviour: A13-6, A13-7, LSN-16, X5-3
    #[test]
    fn a_syn_ack_is_sent_again_after_1_2_4_8_16_s_and_forgotten_after_63() {
        let (mut queue, index, tunables) = one();
        let mut resent = Vec::new();
        for step in 1..10_000u64 {
            let (now, second) = (Instant::from_millis(step * 10), step / 100);
            match queue.expire(now, &mut 100, &tunables, |_| FIVE) {
                Some(RequestTimeout::Waits {
                    index: at,
                    first,
                    resend,
                }) => {
                    assert_eq!((at, first, resend), (index, second == 1, true));
                    resent.push(second);
                }
                Some(RequestTimeout::Expired { .. }) => {
                    assert_eq!(resent, [1, 3, 7, 15, 31]);
                    assert_eq!(second, 63);
                    return;
                }
                None => {}
            }
        }
        panic!("the request never expired");
    }

    // RFC 9293 section 3.10.7.4; each segment is judged on a fresh request.
    // behaviour: A10-1, A10-8, A10-10, A10-14, A16-11, STA-7, X8-4
    #[test]
    fn segments_to_a_request_are_judged_in_the_order_of_tcp_check_req() {
        let judge = |flags, seq, ack, stamp, len| {
            let (mut queue, index, tunables) = one();
            let segment = segment(flags, seq, ack, stamp, len);
            queue.on_segment(index, Instant::from_millis(5), &segment, &tunables, FIVE)
        };
        let (syn, ack, rst) = (TcpFlags::SYN, TcpFlags::ACK, TcpFlags::RST);
        use RequestVerdict::*;
        assert_eq!(judge(ack, IRS + 1, ISS + 1, 500, 0), Complete);
        assert_eq!(
            judge(ack | TcpFlags::FIN, IRS + 1, ISS + 1, 501, 100),
            Complete
        );
        assert_eq!(judge(syn, IRS, 0, 500, 0), SynAgain);
        assert_eq!(judge(syn | TcpFlags::ECE, IRS, 0, 500, 0), SynAgain);
        assert_eq!(judge(ack, IRS + 1, ISS + 2, 500, 0), BadAck);
        assert_eq!(judge(ack, IRS + 1, ISS, 500, 0), BadAck);
        assert_eq!(
            judge(ack, IRS + 1, ISS + 1, 499, 0),
            Acknowledge { paws: true }
        );
        assert_eq!(
            judge(ack, IRS + 70_000, ISS + 1, 500, 0),
            Acknowledge { paws: false }
        );
        assert_eq!(judge(rst, IRS + 70_000, 0, 500, 0), Limited);
        assert_eq!(judge(rst, IRS + 1, 0, 500, 0), Reset { by_rst: true });
        assert_eq!(judge(syn, IRS + 5, 0, 500, 0), Reset { by_rst: false });
        assert_eq!(judge(TcpFlags::PSH, IRS + 1, 0, 500, 10), NoAck);
    }

    // behaviour: A10-4
    #[test]
    fn a_repeated_syn_is_answered_twice_a_second_at_most() {
        let (mut queue, index, tunables) = one();
        let syn = segment(TcpFlags::SYN, IRS, 0, 500, 0);
        let mut judge =
            |ms| queue.on_segment(index, Instant::from_millis(ms), &syn, &tunables, FIVE);
        assert_eq!(judge(0), RequestVerdict::SynAgain);
        assert_eq!(judge(499), RequestVerdict::Limited);
        assert_eq!(judge(500), RequestVerdict::SynAgain);
    }

    // `TCP_DEFER_ACCEPT`: silence while data is waited for, one SYN-ACK at the end of that time, and
    // then a bare ACK is good enough. behaviour: A10-16, A13-4, A13-5
    #[test]
    fn a_request_whose_client_has_answered_waits_for_its_data() {
        let (mut queue, index, tunables) = one();
        let patience = Patience {
            retries: 1,
            defer: 3,
        };
        let bare = segment(TcpFlags::ACK, IRS + 1, ISS + 1, 500, 0);
        let at = Instant::from_millis;
        let take =
            |queue: &mut SynQueue, ms| queue.on_segment(index, at(ms), &bare, &tunables, patience);
        assert_eq!(take(&mut queue, 5), RequestVerdict::Deferred);
        let mut sent = Vec::new();
        for step in 1..=710 {
            match queue.expire(at(step * 10), &mut 100, &tunables, |_| patience) {
                Some(RequestTimeout::Waits { resend, .. }) => sent.push((step / 100, resend)),
                Some(RequestTimeout::Expired { .. }) => panic!("after {step} steps"),
                None => {}
            }
        }
        assert_eq!(sent, [(1, false), (3, false), (7, true)]);
        assert_eq!(take(&mut queue, 7_200), RequestVerdict::Complete);
        let last = queue.expire(at(16_000), &mut 100, &tunables, |_| patience);
        assert_eq!(last, Some(RequestTimeout::Expired { index }));
    }

    // Linux: tcp_check_req. The SYN-ACK that answers it has its whole time.
    // behaviour: A10-5
    #[test]
    fn a_syn_that_comes_again_restarts_the_time_of_its_syn_ack() {
        let (mut queue, index, tunables) = one();
        let syn = segment(TcpFlags::SYN, IRS, 0, 500, 0);
        let at = Instant::from_millis(600);
        let verdict = queue.on_segment(index, at, &syn, &tunables, FIVE);
        assert_eq!(verdict, RequestVerdict::SynAgain);
        let mut steps = 1..=400u64;
        let first = steps.find(|step| {
            let now = Instant::from_millis(step * 10);
            queue.expire(now, &mut 100, &tunables, |_| FIVE).is_some()
        });
        assert_eq!(first.map(|step| step / 10), Some(16));
    }

    // behaviour: A10-16
    #[test]
    fn data_or_a_fin_with_the_final_ack_is_not_deferred() {
        let patience = Patience {
            retries: 5,
            defer: 3,
        };
        let fin = TcpFlags::FIN | TcpFlags::ACK;
        for (flags, len) in [(TcpFlags::ACK, 1), (fin, 0)] {
            let (mut queue, index, tunables) = one();
            let segment = segment(flags, IRS + 1, ISS + 1, 500, len);
            let verdict = queue.on_segment(
                index,
                Instant::from_millis(5),
                &segment,
                &tunables,
                patience,
            );
            assert_eq!(verdict, RequestVerdict::Complete);
        }
    }

    // behaviour: A4-14, A19-9, A31-7, CCW-4, LSN-7
    #[test]
    fn a_syn_ack_answers_option_for_option_with_an_unscaled_window() {
        let tunables = TcpTunables::default();
        let syn_ack = half_open().syn_ack(Instant::from_millis(30), &tunables);
        assert_eq!((syn_ack.seq.value(), syn_ack.ack.value()), (ISS, IRS + 1));
        assert_eq!(syn_ack.window, 65_160, "whole segments of 1,448 bytes");
        assert_eq!(
            syn_ack.options.timestamps,
            Some(Timestamps {
                value: 40,
                echo: 500
            })
        );
        assert_eq!(syn_ack.options.window_scale, Some(7));
        assert!(syn_ack.options.sack_permitted);
        let plain = HalfOpen {
            peer_window_scale: None,
            sack: false,
            ts_recent: None,
            ..half_open()
        };
        let options = plain.syn_ack(Instant::ZERO, &tunables).options;
        assert_eq!(
            options,
            TcpOptions {
                mss: Some(1_460),
                ..TcpOptions::default()
            }
        );
    }
}
