//! TIME_WAIT: what remains of a connection that closed first, in compact records of their own (RFC
//! 9293 section 3.6.1, RFC 6191, and Linux's `tcp_timewait_state_process`).
//!
//! A record answers a retransmitted FIN, keeps old duplicates away from a new connection, and gives
//! way to a new SYN that is provably newer. It holds no data: what the application has not read
//! stays with its connection.
//!
//! It also gives way to a `connect` of ours when the peer can tell the two connections apart by
//! their timestamps (`tcp_tw_reuse`).
//!
//! Every record lives `TCP_TIMEWAIT_LEN`, 60 s, from its last refresh. Equal lifetimes mean that
//! refreshing is moving to the end of a list, and expiry is looking at fronts: no timer wheel is
//! needed. There are four lists, because the application is told when a tuple that it opened can
//! be opened again, which `tcp_tw_reuse` makes earlier than the end. When the table is full, the
//! record that would expire first makes room (Linux closes the new one instead; keeping the younger
//! protects more).
//!
//! A RST at RCV.NXT ends a record unless `tcp_rfc1337` says otherwise, as in Linux.

use millrace_base::{FlowTuple, Instant, Key, Lists, Nanos, PacketPool, SeqNumber, Slab, Stamp};
use millrace_wire::{TcpFlags, TcpOptions, TcpRepr, Timestamps};

use super::config::TcpTunables;
use super::segment::{Segment, TimeWaitRecord};
use crate::limits::INVALID_RATELIMIT_MS;
use crate::tuples::TupleChange;

/// How long a record lives (`TCP_TIMEWAIT_LEN`).
pub(crate) const TIMEWAIT_LEN: Nanos = Nanos::from_secs(60);

/// What a segment to a record asks of the stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TimeWaitVerdict {
    /// Nothing.
    Silence,
    /// Nothing, because the answer was sent a moment ago.
    Limited,
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
            order: Lists::new(capacity, LISTS.len()),
            reuse_delay: TIMEWAIT_LEN,
            ignores_resets: false,
        }
    }

    /// Adds a record and returns its index; `opened` when the connection was one of ours. When the
    /// table is full, call `evict` before.
    pub(crate) fn insert(
        &mut self,
        now: Instant,
        state: TimeWaitRecord,
        opened: bool,
        tunables: &TcpTunables,
    ) -> Option<u32> {
        self.reuse_delay = Nanos::from_millis(tunables.tcp_tw_reuse_delay.into());
        self.ignores_resets = tunables.tcp_rfc1337;
        let gives_way =
            tunables.tcp_tw_reuse && state.timestamps && self.reuse_delay < TIMEWAIT_LEN;
        let telling = match (opened, gives_way) {
            (false, _) => Telling::Never,
            (true, false) => Telling::AtEnd,
            (true, true) => Telling::AtRest,
        };
        let record = Record {
            state,
            expires: expiry(now),
            answered: Stamp::NEVER,
            telling,
        };
        let key = self.records.insert(record).ok()?;
        self.order.push(telling as u32, key.index());
        Some(key.index())
    }

    /// Removes the record that would expire first.
    pub(crate) fn evict(&mut self) -> Option<Gone> {
        let (_, index) = self.oldest()?;
        self.remove(index)
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
        self.records.discard(key);
        self.order.remove(index);
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
        let (verdict, refresh) = record.judge(now, segment, self.ignores_resets);
        if verdict == TimeWaitVerdict::Killed {
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
        let (list, tuple) = (record.telling as u32, record.state.tuple);
        self.order.remove(index);
        self.order.push(list, index);
        (verdict, was_told.then_some(TupleChange::Resting(tuple)))
    }

    /// The ACK that a record answers with.
    pub(crate) fn acknowledgment(&self, index: u32, now: Instant) -> Option<(FlowTuple, TcpRepr)> {
        let state = &self.records.get(self.key(index)?)?.state;
        let timestamps = state.timestamps.then(|| Timestamps {
            value: (now.as_millis() as u32).wrapping_add(state.ts_offset),
            echo: state.ts_recent,
        });
        let window = state
            .rcv_wnd
            .checked_shr(state.rcv_scale.into())
            .unwrap_or(0);
        let header = TcpRepr {
            source_port: state.tuple.local.port,
            destination_port: state.tuple.remote.port,
            seq: state.snd_nxt,
            ack: state.rcv_nxt,
            flags: TcpFlags::ACK,
            window: window.min(u16::MAX.into()) as u16,
            urgent: 0,
            options: TcpOptions {
                timestamps,
                ..TcpOptions::default()
            },
        };
        Some((state.tuple, header))
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
        (tunables.tcp_tw_reuse && record.state.timestamps && rested).then(|| Inherited {
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

    pub(crate) fn is_full(&self) -> bool {
        self.records.is_full()
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// When a record expires or has rested enough: exact.
    pub(crate) fn next_deadline(&self) -> Instant {
        let resting = self.front(Telling::AtRest);
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

    /// The record that expires first, and when.
    fn oldest(&self) -> Option<(Instant, u32)> {
        let fronts = LISTS.into_iter().filter_map(|list| self.front(list));
        fronts.min_by_key(|(expires, _)| *expires)
    }

    fn front(&self, list: Telling) -> Option<(Instant, u32)> {
        let index = self.order.first(list as u32)?;
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

    /// What to do, and whether the record's time starts anew.
    fn judge<B>(
        &mut self,
        now: Instant,
        segment: &Segment<B>,
        ignores_resets: bool,
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
        let ratelimit = Nanos::from_millis(INVALID_RATELIMIT_MS);
        if !self.answered.is_never() && now.since(self.answered.instant()) < ratelimit {
            return (TimeWaitVerdict::Limited, refresh);
        }
        self.answered = Stamp::of(now);
        (TimeWaitVerdict::Acknowledge, refresh)
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
