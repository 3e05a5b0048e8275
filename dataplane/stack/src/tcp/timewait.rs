//! TIME_WAIT, and FIN_WAIT2 of a connection that its application has closed: what remains of it, in
//! compact records of their own (RFC 9293 section 3.6.1, RFC 6191, and Linux's
//! `tcp_timewait_state_process`).
//!
//! A record answers a retransmitted FIN, keeps old duplicates away from a new connection, and gives
//! way to a new SYN that is provably newer. It holds no data: what the application has not read
//! stays with its connection.
//!
//! It also gives way to a `connect` of ours when the peer can tell the two connections apart by
//! their timestamps (`tcp_tw_reuse`).
//!
//! Every record in TIME_WAIT lives `TCP_TIMEWAIT_LEN`, 60 s, from its last refresh. Equal lifetimes
//! mean that refreshing is moving to the end of a list, and expiry is looking at fronts: no timer
//! wheel is needed. There are four lists, because the application is told when a tuple that it opened
//! can be opened again, which `tcp_tw_reuse` makes earlier than the end. Records in FIN_WAIT2 wait for
//! the peer's FIN as long as `tcp_fin_timeout` or `TCP_LINGER2` said, at most a minute: there is a
//! list for each number of seconds, so that each is in the order of expiry too.
//!
//! A table that is full refuses the new record, as in Linux. A RST at RCV.NXT ends a record unless
//! `tcp_rfc1337` says otherwise.

use millrace_base::{FlowTuple, Instant, Key, Lists, Nanos, PacketPool, SeqNumber, Slab, Stamp};
use millrace_wire::{TcpFlags, TcpOptions, TcpRepr, Timestamps};

use super::config::TcpTunables;
use super::segment::{Segment, TimeWaitRecord};
use crate::tuples::TupleChange;

/// How long a record lives (`TCP_TIMEWAIT_LEN`).
pub(crate) const TIMEWAIT_LEN: Nanos = Nanos::from_secs(60);

/// What a segment to a record asks of the stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TimeWaitVerdict {
    /// Nothing.
    Silence,
    /// Nothing, because the answer was sent a moment ago.
    Limited {
        /// The peer's FIN is yet to come.
        in_fin_wait2: bool,
    },
    /// Data for an application that is gone, or a SYN before the peer has closed: answer with a
    /// reset; the record is gone.
    Refuse,
    /// Answer with the record's ACK.
    Acknowledge,
    /// A RST ended the record; it is gone.
    Killed,
    /// A new connection request. When a listener takes it, the record goes and the answer starts
    /// with `isn`; otherwise it is acknowledged.
    Reopen {
        /// Beyond everything the old connection can have sent.
        isn: SeqNumber,
    },
}

/// What a connection of ours takes over from the TIME_WAIT record of its tuple.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Inherited {
    /// Beyond everything the old connection can have sent.
    pub(crate) iss: SeqNumber,
    /// TS.Recent: what is older belongs to the old connection.
    pub(crate) ts_recent: u32,
    /// When it was taken, in seconds since the start of time.
    pub(crate) ts_recent_at: u32,
}

/// All records. Memory is taken in `new`.
#[derive(Debug)]
pub(crate) struct TimeWaits {
    records: Slab<Record>,
    /// One list per `Telling`, each in the order of expiry.
    order: Lists,
    /// `tcp_tw_reuse_delay`, as of the last insertion.
    reuse_delay: Nanos,
    /// `tcp_rfc1337`, as of the last insertion.
    ignores_resets: bool,
    /// `tcp_invalid_ratelimit`, as of the last insertion.
    ratelimit: Nanos,
    /// Which lists of FIN_WAIT2 are not empty: bit `n` is that of `n` seconds.
    waiting: u64,
}

#[derive(Debug)]
struct Record {
    state: TimeWaitRecord,
    expires: Stamp,
    /// When a segment that had no business here was answered last; `NEVER` when none was.
    answered: Stamp,
    telling: Telling,
}

const _: () = assert!(Slab::<Record>::SLOT_BYTES == 84);

/// What the application is to be told about a record's tuple; also the number of its list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Telling {
    /// Nothing: it was accepted, not opened.
    Never = 0,
    /// That it is free, when the record is gone: the record never gives way.
    AtEnd = 1,
    /// That it is free, when the record has rested enough to give way.
    AtRest = 2,
    /// It was told.
    Told = 3,
}

const LISTS: [Telling; 4] = [
    Telling::Never,
    Telling::AtEnd,
    Telling::AtRest,
    Telling::Told,
];

/// Seconds of the longest FIN_WAIT2 that a record holds (`TCP_TIMEWAIT_LEN`).
pub(crate) const FIN_WAIT2_SECS_MAX: u8 = 60;
const _: () = assert!((FIN_WAIT2_SECS_MAX as u32) < u64::BITS);

/// The list of the records in FIN_WAIT2 that live so many seconds (1..).
const fn fin_wait2_list(seconds: u8) -> u32 {
    (LISTS.len() as u32)
        .saturating_add(seconds as u32)
        .saturating_sub(1)
}

/// A record that is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Gone {
    /// Its tuple.
    pub(crate) tuple: FlowTuple,
    /// Where it was.
    pub(crate) index: u32,
    /// Whether the application has to be told that the tuple is free.
    pub(crate) untold: bool,
}

impl TimeWaits {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            records: Slab::new(capacity),
            order: Lists::new(
                capacity,
                LISTS.len().saturating_add(FIN_WAIT2_SECS_MAX.into()),
            ),
            reuse_delay: TIMEWAIT_LEN,
            ignores_resets: false,
            ratelimit: Nanos::from_millis(0),
            waiting: 0,
        }
    }

    /// Adds a record and returns its index; `opened` when the connection was one of ours. `None`
    /// when the table is full (Linux: `tcp_max_tw_buckets`).
    pub(crate) fn insert(
        &mut self,
        now: Instant,
        mut state: TimeWaitRecord,
        opened: bool,
        tunables: &TcpTunables,
    ) -> Option<u32> {
        self.reuse_delay = Nanos::from_millis(tunables.tcp_tw_reuse_delay.into());
        self.ignores_resets = tunables.tcp_rfc1337;
        self.ratelimit = Nanos::from_millis(tunables.tcp_invalid_ratelimit_ms.into());
        // behaviour: A26-6
        if self.records.len() >= tunables.tcp_max_tw_buckets as usize {
            return None;
        }
        let gives_way =
            tunables.tcp_tw_reuse && state.timestamps && self.reuse_delay < TIMEWAIT_LEN;
        let telling = match (opened, gives_way) {
            (false, _) => Telling::Never,
            (true, false) => Telling::AtEnd,
            (true, true) => Telling::AtRest,
        };
        state.fin_wait2_secs = state.fin_wait2_secs.min(FIN_WAIT2_SECS_MAX);
        let seconds = state.fin_wait2_secs;
        let record = Record {
            state,
            expires: match seconds {
                0 => expiry(now),
                seconds => Stamp::not_before(now.after(Nanos::from_secs(seconds.into()))),
            },
            answered: Stamp::NEVER,
            telling,
        };
        let key = self.records.insert(record).ok()?;
        self.line_up(key.index(), telling, seconds);
        Some(key.index())
    }

    /// Removes the next record whose time is over.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Gone> {
        let (expires, index) = self.oldest()?;
        if expires.is_due(now) {
            self.remove(index)
        } else {
            None
        }
    }

    /// Whose records go first, as far as can be told, and the memory of those behind them asked for:
    /// a record that goes has not been looked at for a minute. Called after each one that went, it
    /// has what the next call and the next removal read in the cache.
    pub(crate) fn look_ahead<P: PacketPool>(&self, mut first: impl FnMut(&FlowTuple)) {
        for list in LISTS {
            let Some(index) = self.order.first(list as u32) else {
                continue;
            };
            if let Some(tuple) = self.tuple(index) {
                first(tuple);
            }
            let Some(behind) = self.order.behind(index) else {
                continue;
            };
            if let Some(record) = self.records.place(behind) {
                P::prefetch(record);
            }
            if let Some(link) = self.order.place(behind) {
                P::prefetch(link);
            }
        }
    }

    /// The next opened tuple whose record has rested enough to give way, each once.
    pub(crate) fn rest(&mut self, now: Instant) -> Option<FlowTuple> {
        let index = self.order.first(Telling::AtRest as u32)?;
        let key = self.key(index)?;
        let delay = self.reuse_delay;
        let record = self.records.get_mut(key)?;
        if !record.has_rested(now, delay) {
            return None;
        }
        record.telling = Telling::Told;
        let tuple = record.state.tuple;
        self.order.remove(index);
        self.order.push(Telling::Told as u32, index);
        Some(tuple)
    }

    /// Removes a record.
    pub(crate) fn remove(&mut self, index: u32) -> Option<Gone> {
        let key = self.key(index)?;
        let record = self.records.get(key)?;
        let gone = Gone {
            tuple: record.state.tuple,
            index,
            untold: matches!(record.telling, Telling::AtEnd | Telling::AtRest),
        };
        let seconds = record.state.fin_wait2_secs;
        self.records.discard(key);
        self.step_out(index, seconds);
        Some(gone)
    }

    /// Whether the timestamp of a segment for a record is too old (PAWS), which the caller counts.
    pub(crate) fn rejects<B>(&self, index: u32, now: Instant, segment: &Segment<B>) -> bool {
        let record = self.key(index).and_then(|key| self.records.get(key));
        record.is_some_and(|record| record.state.rejects_segment(segment, now))
    }

    /// A segment came for a record. Also says what the application has to be told of its tuple.
    pub(crate) fn on_segment<B>(
        &mut self,
        index: u32,
        now: Instant,
        segment: &Segment<B>,
    ) -> (TimeWaitVerdict, Option<TupleChange>) {
        let key = self.key(index);
        let Some(record) = key.and_then(|key| self.records.get_mut(key)) else {
            return (TimeWaitVerdict::Silence, None);
        };
        let seconds = record.state.fin_wait2_secs;
        let (verdict, refresh) = if seconds > 0 {
            record.judge_in_fin_wait2(now, segment, self.ratelimit)
        } else {
            record.judge(now, segment, self.ignores_resets, self.ratelimit)
        };
        if matches!(verdict, TimeWaitVerdict::Killed | TimeWaitVerdict::Refuse) {
            let gone = self.remove(index).filter(|gone| gone.untold);
            return (verdict, gone.map(|gone| TupleChange::Free(gone.tuple)));
        }
        if !refresh {
            return (verdict, None);
        }
        record.expires = expiry(now);
        let was_told = record.telling == Telling::Told;
        if was_told {
            record.telling = Telling::AtRest;
        }
        let (telling, tuple) = (record.telling, record.state.tuple);
        self.step_out(index, seconds);
        self.line_up(index, telling, 0);
        (verdict, was_told.then_some(TupleChange::Resting(tuple)))
    }

    /// The ACK that a record answers with.
    pub(crate) fn acknowledgment(&self, index: u32, now: Instant) -> Option<(FlowTuple, TcpRepr)> {
        let state = &self.records.get(self.key(index)?)?.state;
        Some((state.tuple, state.acknowledgment(now)))
    }

    /// What a connection of ours may begin with in place of this record; `None` while the record
    /// must stay (Linux: `tcp_twsk_unique`).
    ///
    /// The delay counts from the last refresh, not from the entry into TIME_WAIT as in Linux: a
    /// peer that still sends its FIN has not forgotten the old connection either.
    pub(crate) fn inherit(
        &self,
        index: u32,
        now: Instant,
        tunables: &TcpTunables,
    ) -> Option<Inherited> {
        let record = self.records.get(self.key(index)?)?;
        let delay = Nanos::from_millis(tunables.tcp_tw_reuse_delay.into());
        let rested = record.has_rested(now, delay);
        let closed = record.state.fin_wait2_secs == 0;
        (tunables.tcp_tw_reuse && closed && record.state.timestamps && rested).then(|| Inherited {
            iss: record.isn_for_reuse(),
            ts_recent: record.state.ts_recent,
            ts_recent_at: record.state.ts_recent_at,
        })
    }

    /// The tuple of a record.
    #[inline]
    pub(crate) fn tuple(&self, index: u32) -> Option<&FlowTuple> {
        self.records.get_at(index).map(|record| &record.state.tuple)
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// When a record expires or has rested enough: exact.
    pub(crate) fn next_deadline(&self) -> Instant {
        let resting = self.front(Telling::AtRest as u32);
        let rested = resting.map_or(Instant::NEVER, |(expires, _)| {
            // One tick beyond the delay, as `has_rested` says.
            let lived = TIMEWAIT_LEN
                .as_nanos()
                .saturating_sub(self.reuse_delay.as_nanos());
            let rested = expires.as_nanos().saturating_sub(lived);
            Instant::from_nanos(rested.saturating_add(1))
        });
        let oldest = self.oldest().map_or(Instant::NEVER, |(expires, _)| expires);
        oldest.min(rested)
    }

    /// The record that expires first, and when. Looks at as many lists as there are lifetimes in
    /// use: one in FIN_WAIT2, unless programs choose their own.
    fn oldest(&self) -> Option<(Instant, u32)> {
        let fronts = LISTS.into_iter().filter_map(|list| self.front(list as u32));
        let mut oldest = fronts.min_by_key(|(expires, _)| *expires);
        let mut waiting = self.waiting;
        while waiting != 0 {
            let seconds = waiting.trailing_zeros();
            waiting &= waiting.wrapping_sub(1);
            let front = self.front(fin_wait2_list(seconds as u8));
            oldest = match (oldest, front) {
                (Some(one), Some(other)) if other.0 < one.0 => Some(other),
                (None, front) => front,
                (oldest, _) => oldest,
            };
        }
        oldest
    }

    /// Puts a record at the end of its list.
    fn line_up(&mut self, index: u32, telling: Telling, fin_wait2_secs: u8) {
        if fin_wait2_secs == 0 {
            self.order.push(telling as u32, index);
            return;
        }
        self.order.push(fin_wait2_list(fin_wait2_secs), index);
        self.waiting |= 1 << fin_wait2_secs;
    }

    /// Takes a record out of its list.
    fn step_out(&mut self, index: u32, fin_wait2_secs: u8) {
        self.order.remove(index);
        let is_last = self.order.first(fin_wait2_list(fin_wait2_secs)).is_none();
        if fin_wait2_secs > 0 && is_last {
            self.waiting &= !(1 << fin_wait2_secs);
        }
    }

    fn front(&self, list: u32) -> Option<(Instant, u32)> {
        let index = self.order.first(list)?;
        let record = self.records.get(self.key(index)?)?;
        Some((record.expires.instant(), index))
    }

    fn key(&self, index: u32) -> Option<Key> {
        self.records.key_at(index)
    }
}

impl Record {
    /// Whether the last refresh is longer ago than `delay`.
    fn has_rested(&self, now: Instant, delay: Nanos) -> bool {
        now.after(TIMEWAIT_LEN) > self.expires.instant().after(delay)
    }

    /// The same while the peer's FIN is yet to come: what the connection itself would do with a
    /// segment when nobody is left to read.
    fn judge_in_fin_wait2<B>(
        &mut self,
        now: Instant,
        segment: &Segment<B>,
        ratelimit: Nanos,
    ) -> (TimeWaitVerdict, bool) {
        let (flags, end) = (segment.flags, segment.end());
        let rcv_nxt = self.state.rcv_nxt;
        let edge = rcv_nxt.plus(self.state.rcv_wnd);
        // behaviour: A26-11
        if self.state.rejects_segment(segment, now) || !segment.is_in_window(rcv_nxt, edge) {
            return (self.answer(now, segment, ratelimit), false);
        }
        // behaviour: A26-12
        if flags.rst() {
            return (TimeWaitVerdict::Killed, false);
        }
        // behaviour: A26-13
        if flags.syn() && segment.seq.after_or_eq(rcv_nxt) {
            return (TimeWaitVerdict::Refuse, false);
        }
        // behaviour: A26-14
        if !flags.ack() || end.before_or_eq(rcv_nxt) || segment.len() == 0 {
            return (TimeWaitVerdict::Silence, false);
        }
        // behaviour: A26-15
        if !flags.fin() || end != rcv_nxt.plus(1) {
            return (TimeWaitVerdict::Refuse, false);
        }
        // behaviour: A26-16
        self.state.rcv_nxt = end;
        self.state.fin_wait2_secs = 0;
        if let Some(stamp) = segment.options.timestamps.filter(|_| self.state.timestamps) {
            self.state.ts_recent = stamp.value;
            self.state.ts_recent_at = seconds(now);
        }
        (TimeWaitVerdict::Acknowledge, true)
    }

    /// Acknowledges a segment that has no business here, not too often (Linux:
    /// `tcp_timewait_check_oow_rate_limit`). One with data or a FIN is not part of a war of ACKs: it
    /// is always answered.
    fn answer<B>(
        &mut self,
        now: Instant,
        segment: &Segment<B>,
        ratelimit: Nanos,
    ) -> TimeWaitVerdict {
        if segment.may_be_in_an_ack_loop() {
            if !self.answered.is_never() && now.since(self.answered.instant()) < ratelimit {
                return TimeWaitVerdict::Limited {
                    in_fin_wait2: self.state.fin_wait2_secs > 0,
                };
            }
            self.answered = Stamp::of(now);
        }
        TimeWaitVerdict::Acknowledge
    }

    /// What to do, and whether the record's time starts anew.
    fn judge<B>(
        &mut self,
        now: Instant,
        segment: &Segment<B>,
        ignores_resets: bool,
        ratelimit: Nanos,
    ) -> (TimeWaitVerdict, bool) {
        let flags = segment.flags;
        let stamp = segment.options.timestamps.filter(|_| self.state.timestamps);
        let paws_rejected = self.state.rejects_segment(segment, now);
        // behaviour: A26-18 A26-19
        if !paws_rejected
            && segment.seq == self.state.rcv_nxt
            && (segment.len() == 0 || flags.rst())
        {
            if flags.rst() && !ignores_resets {
                return (TimeWaitVerdict::Killed, false);
            }
            if let Some(stamp) = stamp {
                self.state.ts_recent = stamp.value;
                self.state.ts_recent_at = seconds(now);
            }
            return (TimeWaitVerdict::Silence, !flags.rst());
        }
        let newer_stamp = stamp.is_some_and(|stamp| is_before(self.state.ts_recent, stamp.value));
        if !paws_rejected && self.is_newer_syn(segment, newer_stamp) {
            return (
                TimeWaitVerdict::Reopen {
                    isn: self.isn_for_reuse(),
                },
                false,
            );
        }
        if flags.rst() {
            return (TimeWaitVerdict::Silence, false);
        }
        // behaviour: A26-20 A26-24
        let refresh = paws_rejected || flags.ack();
        (self.answer(now, segment, ratelimit), refresh)
    }

    /// RFC 6191 section 2: a SYN with a larger timestamp than the last one seen is a new connection;
    /// without timestamps the sequence number decides (RFC 1122 section 4.2.2.13).
    fn is_newer_syn<B>(&self, segment: &Segment<B>, newer_stamp: bool) -> bool {
        let flags = segment.flags;
        let request = flags.syn() && !flags.rst() && !flags.ack();
        request && (newer_stamp || segment.seq.after(self.state.rcv_nxt))
    }

    /// behaviour: A26-21. Zero is avoided because Linux uses it for "none".
    fn isn_for_reuse(&self) -> SeqNumber {
        let isn = self.state.snd_nxt.plus(65_535 + 2);
        if isn.value() == 0 { isn.plus(1) } else { isn }
    }
}

impl TimeWaitRecord {
    /// The ACK that says where we stand (behaviour: A26-26).
    pub(crate) fn acknowledgment(&self, now: Instant) -> TcpRepr {
        let timestamps = self.timestamps.then(|| Timestamps {
            value: (now.as_millis() as u32).wrapping_add(self.ts_offset),
            echo: self.ts_recent,
        });
        let window = self.rcv_wnd.checked_shr(self.rcv_scale.into()).unwrap_or(0);
        TcpRepr {
            source_port: self.tuple.local.port,
            destination_port: self.tuple.remote.port,
            seq: self.snd_nxt,
            ack: self.rcv_nxt,
            flags: TcpFlags::ACK,
            window: window.min(u16::MAX.into()) as u16,
            urgent: 0,
            options: TcpOptions {
                timestamps,
                ..TcpOptions::default()
            },
        }
    }

    fn rejects_segment<B>(&self, segment: &Segment<B>, now: Instant) -> bool {
        let stamp = segment.options.timestamps.filter(|_| self.timestamps);
        stamp.is_some_and(|stamp| self.rejects(stamp.value, segment.flags.rst(), now))
    }

    /// PAWS as Linux's `tcp_paws_reject`: a RST is believed again after a minute, anything after 24
    /// days.
    fn rejects(&self, value: u32, rst: bool, now: Instant) -> bool {
        let age = seconds(now).wrapping_sub(self.ts_recent_at);
        is_before(value, self.ts_recent) && age <= 24 * 86_400 && !(rst && age >= 60)
    }
}

/// When a record that was refreshed now is over.
fn expiry(now: Instant) -> Stamp {
    Stamp::not_before(now.after(TIMEWAIT_LEN))
}

/// Whether a timestamp comes before another one on their circle.
const fn is_before(value: u32, other: u32) -> bool {
    (value.wrapping_sub(other) as i32) < 0
}

const fn seconds(now: Instant) -> u32 {
    (now.as_millis() / 1_000) as u32
}

#[cfg(test)]
mod tests;
