//! A burst of frames in: headers first, then connections, then TCP.
//!
//! ```text
//!   pass 1   every frame    parse, hash the tuple, prefetch the bucket
//!   pass 2   every segment  read the bucket, prefetch what it probably belongs to
//!   pass 3   every segment  find its owner, let it act
//! ```
//!
//! The first two passes wait for nothing: what they ask for arrives while they go on. What pass 2 reads
//! is a guess, because it compares no tuple and an earlier segment may change everything: pass 3 asks
//! whether it is right, and looks the owner up only where it is not.
//!
//! Segments of one connection that follow each other are a *run*: one lookup, and one round of
//! bookkeeping (timer, events, place in the line of those that may send) behind the last of them.
//! A run is to this stack what generic receive offload is to Linux: one ACK, one event, one
//! wake-up, without merging anything.

use arrayvec::ArrayVec;
use millrace_base::{Instant, PacketBuf, PacketPool, PortId};

use crate::dispatch::{self, Parsed, Punt, TcpFrame};
use crate::flow::Owner;
use crate::flow_hash::FlowHash;
use crate::fragment::{FragmentFrame, Gathered};
use crate::knobs::knobs_of;
use crate::limits::BURST_FRAMES_MAX;
use crate::neighbor::Neighbors;
use crate::plain::{parse_following, parse_plain};
use crate::settle::{After, Books, books};
use crate::signature;
use crate::stack::Stack;
use crate::stats::count;
use crate::table::Slot;
use crate::tcp::{Connection, Disposition, Env, Tail};
use crate::tcp_input::{Arrived, whole_segment};
use crate::verdict::DropReason;

/// A segment of the burst: its header, and where to look for its owner.
#[derive(Clone, Copy, Debug)]
struct Located {
    header: TcpFrame,
    hash: FlowHash,
    /// Who probably owns its tuple.
    guess: Option<Owner>,
    /// It belongs to whom the segment before it does.
    follows: bool,
}

/// The segments of a burst and their frames, in order of arrival.
struct Segments<B> {
    headers: ArrayVec<Located, BURST_FRAMES_MAX>,
    frames: ArrayVec<B, BURST_FRAMES_MAX>,
}

impl<P: PacketPool> Stack<P> {
    /// Takes the frames of a receive burst. What is the control path's business goes to `punt`.
    pub fn handle_burst(
        &mut self,
        now: Instant,
        port: PortId,
        frames: impl IntoIterator<Item = P::Buf>,
        pool: &mut P,
        mut punt: impl FnMut(Punt<P::Buf>),
    ) {
        let mut frames = frames.into_iter();
        let mut segments = Segments {
            headers: ArrayVec::new(),
            frames: ArrayVec::new(),
        };
        loop {
            let is_all = self.parse_all(now, port, &mut frames, &mut segments, pool, &mut punt);
            self.prefetch_connections(&mut segments.headers);
            self.deliver((now, port), &mut segments, pool);
            if is_all {
                break;
            }
            segments.headers.clear();
        }
    }

    /// Takes one received frame. `Some` hands it back: it is the control path's business.
    pub fn handle(
        &mut self,
        now: Instant,
        port: PortId,
        frame: P::Buf,
        pool: &mut P,
    ) -> Option<Punt<P::Buf>> {
        let mut punted = None;
        self.handle_burst(now, port, Some(frame), pool, |punt| punted = Some(punt));
        punted
    }

    /// Pass 1. Returns whether `frames` is at its end.
    fn parse_all(
        &mut self,
        now: Instant,
        port: PortId,
        frames: &mut impl Iterator<Item = P::Buf>,
        segments: &mut Segments<P::Buf>,
        pool: &mut P,
        punt: &mut impl FnMut(Punt<P::Buf>),
    ) -> bool {
        let mut is_behind_plain = false;
        let mut received = (0u64, 0u64);
        let is_all = loop {
            if segments.headers.is_full() {
                break false;
            }
            let Some(frame) = frames.next() else {
                break true;
            };
            received.0 = received.0.wrapping_add(1);
            received.1 = received.1.wrapping_add(frame.frame_len() as u64);
            if is_behind_plain && let Some(located) = self.following(segments, &frame) {
                segments.headers.push(located);
                segments.frames.push(frame);
                continue;
            }
            let Self { network, stats, .. } = self;
            let interface = network.interfaces.get(port);
            let plain = interface.and_then(|port| parse_plain(&frame, port, stats));
            // Nothing follows a SYN.
            is_behind_plain = plain.as_ref().is_some_and(|header| !header.flags.syn());
            // No detour of a plain header through `Parsed`: what is copied right after it was
            // written, in larger pieces, waits for the writes.
            let header = match plain {
                Some(header) => header,
                None => match dispatch::parse(&frame, port, &network.interfaces, stats) {
                    Parsed::Tcp(header) => header,
                    other @ (Parsed::Icmp(_)
                    | Parsed::Fragment(_)
                    | Parsed::Punt(_)
                    | Parsed::Drop(_)) => {
                        self.on_other_frame((now, port), other, frame, pool, punt);
                        continue;
                    }
                },
            };
            let hash = self.flows.hash(&header.tuple);
            if let Some(line) = self.flows.line(hash) {
                P::prefetch(line);
            }
            let follows = segments
                .headers
                .last()
                .is_some_and(|last| last.hash == hash && last.header.tuple == header.tuple);
            segments.headers.push(Located {
                header,
                hash,
                guess: None,
                follows,
            });
            segments.frames.push(frame);
        };
        count!(self.stats.frames_in, received.0);
        count!(self.stats.bytes_in, received.1);
        is_all
    }

    /// A segment of the stream that the plain one before it belongs to.
    #[inline(always)] // Where it is of another, the ports say so at once.
    fn following(&mut self, segments: &Segments<P::Buf>, frame: &P::Buf) -> Option<Located> {
        let (last, first) = (segments.headers.last()?, segments.frames.last()?);
        let header = parse_following(first, &last.header, frame, &mut self.stats)?;
        Some(Located {
            header,
            hash: last.hash,
            guess: None,
            follows: true,
        })
    }

    /// Pass 2. A burst of one has nothing to do meanwhile.
    fn prefetch_connections(&self, headers: &mut [Located]) {
        if headers.len() < 2 {
            return;
        }
        for located in headers.iter_mut().filter(|located| !located.follows) {
            located.guess = self.flows.guess(located.hash);
            if let Some(Owner::Connection(index)) = located.guess {
                self.connections.prefetch_berth::<P>(index);
            }
        }
        for located in headers {
            if let Some(Owner::Connection(index)) = located.guess {
                self.connections.prefetch::<P>(index);
            }
        }
    }

    /// Pass 3.
    fn deliver(
        &mut self,
        (now, port): (Instant, PortId),
        segments: &mut Segments<P::Buf>,
        pool: &mut P,
    ) {
        let Segments { headers, frames } = segments;
        let mut frames = frames.drain(..);
        let mut rest = headers.as_slice();
        while let Some((first, behind)) = rest.split_first() {
            let Located {
                header,
                hash,
                guess,
                follows: _,
            } = first;
            let guess = guess.filter(|guess| self.owns(*guess, &header.tuple));
            let owner = guess.or_else(|| self.find_owner(*hash, &header.tuple));
            if let Some(Owner::Connection(index)) = owner {
                let followers = behind.iter().take_while(|segment| segment.follows).count();
                let run = rest.get(..=followers).unwrap_or(rest);
                let taken = self.deliver_run(now, index, run, &mut frames, pool);
                rest = rest.get(taken..).unwrap_or_default();
                continue;
            }
            let Some(frame) = frames.next() else {
                return;
            };
            let arrived = Arrived {
                now,
                port,
                header,
                hash: *hash,
                frame,
            };
            match self.on_other_segment(owner, arrived, pool) {
                Ok(()) => count!(self.stats.frames_delivered),
                Err(reason) => self.stats.drop(reason),
            }
            rest = behind;
        }
    }

    /// Gives segments of one connection to it, one behind the other. Tells how many: at least one,
    /// and not all when the connection has ended and the next may belong to somebody else.
    fn deliver_run(
        &mut self,
        now: Instant,
        index: u32,
        run: &[Located],
        frames: &mut impl Iterator<Item = P::Buf>,
        pool: &mut P,
    ) -> usize {
        let sheds_payload = self.sheds_payload();
        let Some((key, slot)) = self.connections.at_mut(index) else {
            drop(frames.next());
            self.stats.drop(self.why_not_at_work(index));
            return 1;
        };
        let whose = (index, &slot.meta.hop);
        let tunables = knobs_of(&self.own_tunables, &self.group_knobs, &self.tunables, whose);
        let connection = &mut slot.connection;
        let acked_before = connection.bytes_acked();
        let mut env = Env {
            now,
            pool,
            chunks: &mut self.chunks,
            stats: &mut self.stats,
            tunables,
        };
        let mut tail = Tail::of(run.len());
        let (mut outcome, mut looked_at, mut refused) = (Disposition::Continue, 0usize, 0usize);
        for (Located { header, .. }, frame) in run.iter().zip(frames) {
            looked_at = looked_at.saturating_add(1);
            let came = (header, frame);
            match take_segment(connection, &mut env, came, sheds_payload, &mut tail) {
                Ok(Disposition::Continue) => {}
                Ok(ended) => {
                    outcome = ended;
                    break;
                }
                Err(reason) => {
                    env.stats.drop(reason);
                    refused = refused.saturating_add(1);
                }
            }
        }
        connection.end_tail(&mut env, &mut tail);
        count!(self.stats.ip_in_delivers, looked_at as u64);
        let delivered = looked_at.saturating_sub(refused);
        count!(self.stats.frames_delivered, delivered as u64);
        let kept = (&mut self.network.neighbors, books!(self));
        match keep_delivered(kept, (slot, index), (now, acked_before), &outcome) {
            Some(after) => self.free_if_unneeded(key, after),
            None => self.settle(now, key, outcome),
        }
        looked_at
    }

    /// Gives one segment to its connection, for a caller that counts what became of it.
    pub(crate) fn deliver_one(
        &mut self,
        index: u32,
        arrived: Arrived<'_, P::Buf>,
        pool: &mut P,
    ) -> Result<(), DropReason> {
        let now = arrived.now;
        let sheds_payload = self.sheds_payload();
        let Some((key, slot)) = self.connections.at_mut(index) else {
            return Err(self.why_not_at_work(index));
        };
        let whose = (index, &slot.meta.hop);
        let tunables = knobs_of(&self.own_tunables, &self.group_knobs, &self.tunables, whose);
        let connection = &mut slot.connection;
        let acked_before = connection.bytes_acked();
        let mut env = Env {
            now,
            pool,
            chunks: &mut self.chunks,
            stats: &mut self.stats,
            tunables,
        };
        let mut tail = Tail::of(1);
        let came = (arrived.header, arrived.frame);
        let outcome = take_segment(connection, &mut env, came, sheds_payload, &mut tail)?;
        let kept = (&mut self.network.neighbors, books!(self));
        match keep_delivered(kept, (slot, index), (now, acked_before), &outcome) {
            Some(after) => self.free_if_unneeded(key, after),
            None => self.settle(now, key, outcome),
        }
        Ok(())
    }

    #[cold]
    fn on_other_frame(
        &mut self,
        (now, port): (Instant, PortId),
        parsed: Parsed,
        frame: P::Buf,
        pool: &mut P,
        punt: &mut impl FnMut(Punt<P::Buf>),
    ) {
        let punted = match parsed {
            Parsed::Icmp(message) => match self.on_icmp(now, &message, frame, pool) {
                Ok(None) => {
                    count!(self.stats.frames_delivered);
                    return;
                }
                Ok(Some(punted)) => punted,
                Err(reason) => return self.stats.drop(reason),
            },
            Parsed::Fragment(info) => {
                return self.on_fragment((now, port), &info, frame, pool, punt);
            }
            Parsed::Punt(reason) => Punt { frame, reason },
            Parsed::Drop(reason) => return self.stats.drop(reason),
            Parsed::Tcp(_) => return self.stats.drop(DropReason::Bug),
        };
        count!(self.stats.frames_punted);
        punt(punted);
    }
}

/// Behind the last segment of a connection: what it newly acknowledges shows that its neighbour is
/// there, and its books are kept. `None` when it has ended, which is to be settled.
// behaviour: ARP-17
#[inline(always)] // Both callers have at hand what it would have to look up.
fn keep_delivered<B>(
    (neighbors, books): (&mut Neighbors, Books<'_, B>),
    (slot, index): (&mut Slot, u32),
    (now, acked_before): (Instant, u64),
    outcome: &Disposition,
) -> Option<After> {
    if slot.connection.bytes_acked() != acked_before {
        neighbors.confirm(slot.meta.hop.neighbor(), now);
    }
    (*outcome == Disposition::Continue).then(|| books.keep(slot, index))
}

impl<P: PacketPool> Stack<P> {
    /// Keeps a piece of a packet; the last one makes it a frame like any other.
    fn on_fragment(
        &mut self,
        (now, port): (Instant, PortId),
        info: &FragmentFrame,
        frame: P::Buf,
        pool: &mut P,
        punt: &mut impl FnMut(Punt<P::Buf>),
    ) {
        let Self {
            fragments,
            fragment_tunables,
            stats,
            ..
        } = self;
        let frame = match fragments.take(now, info, frame, fragment_tunables, stats) {
            Gathered::Waits => return count!(self.stats.frames_delivered),
            Gathered::Dropped(reason) => return self.stats.drop(reason),
            Gathered::Whole(frame) => frame,
        };
        let interfaces = &self.network.interfaces;
        match dispatch::parse_whole(&frame, interfaces, &mut self.stats) {
            Parsed::Tcp(header) => {
                let hash = self.flows.hash(&header.tuple);
                let owner = self.find_owner(hash, &header.tuple);
                let arrived = Arrived {
                    now,
                    port,
                    header: &header,
                    hash,
                    frame,
                };
                match self.on_other_segment(owner, arrived, pool) {
                    Ok(()) => count!(self.stats.frames_delivered),
                    Err(reason) => self.stats.drop(reason),
                }
            }
            other @ (Parsed::Icmp(_) | Parsed::Fragment(_) | Parsed::Punt(_) | Parsed::Drop(_)) => {
                self.on_other_frame((now, port), other, frame, pool, punt);
            }
        }
    }
}

/// The short way, and where it does not lead, the long one.
#[inline(always)] // For each segment; the long way is a call.
fn take_segment<P: PacketPool>(
    connection: &mut Connection,
    env: &mut Env<'_, P>,
    (came, frame): (&TcpFrame, P::Buf),
    sheds_payload: bool,
    tail: &mut Tail,
) -> Result<Disposition, DropReason> {
    let stripped;
    let mut header = came;
    if sheds_payload && header.payload_len > 0 {
        env.stats.drop(DropReason::PayloadShed);
        stripped = header.without_payload();
        header = &stripped;
    }
    match connection.try_predicted(env, header, frame, tail) {
        // One word is told, not a whole outcome.
        Ok(Disposition::Continue) => Ok(Disposition::Continue),
        Ok(ended) => Ok(ended),
        Err(frame) => take_other_segment(connection, env, (header, frame), came),
    }
}

/// `came` is the header as it came: what a signature covers.
#[inline(never)]
fn take_other_segment<P: PacketPool>(
    connection: &mut Connection,
    env: &mut Env<'_, P>,
    (header, frame): (&TcpFrame, P::Buf),
    came: &TcpFrame,
) -> Result<Disposition, DropReason> {
    let options = header.options(&frame);
    // behaviour: A6-16, before anything of it is believed.
    if options.md5 || connection.is_signed() {
        let key = connection.signing_key(env.chunks);
        signature::check(key, came, &frame, env.stats)?;
    }
    let segment = whole_segment(header, options, frame)?;
    Ok(connection.handle_segment(env, segment))
}
