//! Frames out: stateless replies first, then connections in turn.
//!
//! Connections that may have something to send stand in one line. Each sends until it has nothing
//! more or its quota is used up, and then goes to the end of the line; one with a hundred megabytes
//! queued delays the next by at most `TRANSMIT_QUOTA_FRAMES` frames. Who meets an unresolved
//! neighbour leaves the line and waits for that neighbour.

use millrace_base::{
    Address, FlowTuple, Instant, Key, Nanos, PacketBuf, PacketPool, SeqNumber, Stamp,
};
use millrace_wire::{TcpFlags, TcpOptions, TcpRepr};

use crate::knobs::knobs_of;
use crate::limits::{
    BLOCKED_RETRY_MS, BLOCKED_SECS_MAX, TRANSMIT_FRAME_BYTES, TRANSMIT_QUOTA_FRAMES,
};
use crate::network::{Hop, HopCache};
use crate::path::{FrameOptions, Path, put_signature, write_headers};
use crate::reply::{Owed, Transmit, reuse_or_alloc};
use crate::signature::{Digest, SigningKey};
use crate::stack::Stack;
use crate::stats::count;
use crate::tcp::{Disposition, Env, ResetSegment, Turn, Unreachable};
use crate::verdict::DropReason;

/// The list of connections that may send.
pub(crate) const READY: u32 = 0;

/// The list of connections that have handed over as much as the small-queue limit allows (Linux:
/// `TSQ_THROTTLED`, and the list of `tcp_tsq_handler`).
pub(crate) const THROTTLED: u32 = 1;

/// Lists beside those of the neighbours.
pub(crate) const OUTPUT_LISTS: usize = 2;

/// The list of connections that wait for a neighbour.
pub(crate) const fn waiting_for(neighbor: Key) -> u32 {
    neighbor.index().saturating_add(OUTPUT_LISTS as u32)
}

/// How often the line of those that may send was gone through since the device took what it was
/// given: everybody in it has handed over so many quotas.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Laps {
    /// Somebody has used a quota up; somebody stands aside.
    is_used: bool,
    has_throttled: bool,
    done: u32,
    /// Who stood last when the present lap began.
    last: Option<u32>,
}

impl Laps {
    /// A connection has its turn.
    fn on_turn(&mut self, index: u32) {
        if self.last == Some(index) {
            self.last = None;
            self.done = self.done.saturating_add(1);
        }
    }

    /// Somebody has used his quota up. What he has handed over by now, when a quota is `bytes`.
    fn on_quota(&mut self, bytes: u64) -> u64 {
        self.is_used = true;
        bytes.saturating_mul(u64::from(self.done).saturating_add(1))
    }

    /// He stands behind the others again; who stands aside never comes to his turn, and ends no lap.
    fn on_stood_behind(&mut self, index: u32) {
        self.last = self.last.or(Some(index));
    }
}

impl<P: PacketPool> Stack<P> {
    /// Hands every frame that may leave now to `take`, until it returns `false`: no room for
    /// another. Bounded by what is queued, what windows allow and, for each connection, by
    /// `tcp_limit_output_bytes`: who has reached it goes on with the next call, because what was
    /// handed over before counts as gone by then. `next_deadline` is due as long as somebody waits
    /// for that.
    pub fn transmit(
        &mut self,
        now: Instant,
        pool: &mut P,
        mut take: impl FnMut(Transmit<P::Buf>) -> bool,
    ) {
        loop {
            while let Some(Owed {
                tuple,
                header,
                digest,
            }) = self.next_owed()
            {
                self.send_digested(now, &tuple, (&header, digest.as_ref(), 0), None, pool);
            }
            let Some(reply) = self.replies.pop() else {
                break;
            };
            count!(self.stats.frames_out);
            count!(self.stats.bytes_out, reply.frame.frame_len() as u64);
            if !take(reply) {
                return;
            }
        }
        if self.laps.is_used {
            self.begin_laps();
        }
        // Each round sends a connection's quota and moves it to the end of the line, or takes one
        // out of the line.
        while let Some(index) = self.output.first(READY) {
            if !self.give_turn(now, index, pool, &mut take) {
                return;
            }
        }
    }

    /// The next frame to transmit; call until `None`.
    pub fn poll_transmit(&mut self, now: Instant, pool: &mut P) -> Option<Transmit<P::Buf>> {
        let mut next = None;
        self.transmit(now, pool, |transmit| {
            next = Some(transmit);
            false
        });
        next
    }

    /// Whether somebody waits for the device to take what `transmit` has handed over.
    pub fn is_throttled(&self) -> bool {
        self.laps.has_throttled
    }

    /// The device has taken what it was given: who stood aside is back in line.
    #[cold]
    fn begin_laps(&mut self) {
        self.laps = Laps::default();
        self.output.append(READY, THROTTLED);
    }

    /// Sends a segment that belongs to no connection, in the received frame's buffer when there is
    /// one.
    #[inline]
    pub(crate) fn send_segment(
        &mut self,
        now: Instant,
        tuple: &FlowTuple,
        header: &TcpRepr,
        frame: Option<P::Buf>,
        pool: &mut P,
    ) {
        self.send_digested(now, tuple, (header, None, 0), frame, pool);
    }

    /// The same with this traffic class.
    pub(crate) fn send_marked(
        &mut self,
        now: Instant,
        tuple: &FlowTuple,
        (header, key, traffic_class): (&TcpRepr, Option<&SigningKey>, u8),
        frame: Option<P::Buf>,
        pool: &mut P,
    ) {
        match key {
            None => self.send_digested(now, tuple, (header, None, traffic_class), frame, pool),
            Some(key) => {
                let whole = (header, key, traffic_class);
                self.send_with_key(now, tuple, whole, frame, pool);
            }
        }
    }

    /// The same, signed with `key` if there is one.
    #[inline]
    pub(crate) fn send_signed(
        &mut self,
        now: Instant,
        tuple: &FlowTuple,
        (header, key): (&TcpRepr, Option<&SigningKey>),
        frame: Option<P::Buf>,
        pool: &mut P,
    ) {
        match key {
            None => self.send_segment(now, tuple, header, frame, pool),
            Some(key) => self.send_with_key(now, tuple, (header, key, 0), frame, pool),
        }
    }

    #[cold]
    fn send_with_key(
        &mut self,
        now: Instant,
        tuple: &FlowTuple,
        (header, key, traffic_class): (&TcpRepr, &SigningKey, u8),
        frame: Option<P::Buf>,
        pool: &mut P,
    ) {
        let mut header = *header;
        header.options.md5 = true;
        let digest = key.sign_bare(tuple, &header);
        let whole = (&header, Some(&digest), traffic_class);
        self.send_digested(now, tuple, whole, frame, pool);
    }

    #[inline(never)] // Once, with all that it needs.
    fn send_digested(
        &mut self,
        now: Instant,
        tuple: &FlowTuple,
        (header, digest, traffic_class): (&TcpRepr, Option<&Digest>, u8),
        frame: Option<P::Buf>,
        pool: &mut P,
    ) {
        let Some(frame) = reuse_or_alloc(frame, pool) else {
            self.stats.drop(DropReason::ReplyNoBuffer);
            return;
        };
        count!(self.stats.tcp_out_segs);
        if header.flags.rst() {
            count!(self.stats.tcp_out_rsts);
        }
        let options = FrameOptions {
            segment_bytes: 0,
            traffic_class,
        };
        self.send_reply(now, tuple.remote.address, frame, |frame, path| {
            write_headers(frame, path, tuple, header, options)
                && digest.is_none_or(|digest| {
                    put_signature(frame, path, tuple, header, |_, _, _| Some(*digest)).is_some()
                })
        });
    }

    /// Sends a frame that belongs to no connection; `write` completes it for its path.
    pub(crate) fn send_reply(
        &mut self,
        now: Instant,
        remote: Address,
        mut frame: P::Buf,
        write: impl FnOnce(&mut P::Buf, &Path) -> bool,
    ) {
        let found;
        let (path, neighbor) = match self.network.known(remote) {
            Some(path) => (path, None),
            None => {
                let hop = self.network.hop(now, remote, &mut { HopCache::EMPTY });
                let (path, neighbor) = match hop {
                    Hop::Ready(path) => (path, None),
                    Hop::Wait(path, neighbor) => (path, Some(neighbor)),
                    Hop::Failed | Hop::NoRoute | Hop::TableFull => {
                        self.count_no_way(hop);
                        return;
                    }
                };
                found = path;
                (&found, neighbor)
            }
        };
        if !write(&mut frame, path) {
            self.stats.drop(DropReason::HeadroomMissing);
            return;
        }
        count!(self.stats.ip_out_requests);
        let reply = Transmit {
            port: path.port,
            frame,
        };
        let queued = match neighbor {
            None => self.replies.push(reply),
            Some(neighbor) => self.replies.wait(neighbor, reply),
        };
        if let Err(reason) = queued {
            count!(self.stats.ip_out_discards);
            self.stats.drop(reason);
        }
    }

    /// Remembers a segment that belongs to no connection, or no longer, until there is a pool to make
    /// its frame from; signed with `key` if there is one.
    pub(crate) fn owe(&mut self, tuple: FlowTuple, mut header: TcpRepr, key: Option<&SigningKey>) {
        header.options.md5 = key.is_some();
        let owed = Owed {
            tuple,
            header,
            digest: key.map(|key| key.sign_bare(&tuple, &header)),
        };
        if !self.owed.push(owed) {
            self.stats.drop(DropReason::ReplyQueueFull);
        }
    }

    pub(crate) fn owe_reset(
        &mut self,
        tuple: FlowTuple,
        reset: ResetSegment,
        key: Option<&SigningKey>,
    ) {
        self.owe(tuple, reset_header(&tuple, reset), key);
    }

    fn next_owed(&mut self) -> Option<Owed> {
        if self.replies.is_full() {
            None
        } else {
            self.owed.pop()
        }
    }

    /// Lets the first connection of the line send; `false` when there is no room for another frame.
    fn give_turn(
        &mut self,
        now: Instant,
        index: u32,
        pool: &mut P,
        take: &mut impl FnMut(Transmit<P::Buf>) -> bool,
    ) -> bool {
        if self.laps.is_used {
            self.laps.on_turn(index);
        }
        let mut quota = match core::mem::take(&mut self.quota) {
            0 => TRANSMIT_QUOTA_FRAMES,
            rest => rest,
        };
        let first = self.connections.at_mut(index);
        let Some((key, slot)) = first.filter(|(_, slot)| !slot.meta.over) else {
            self.output.remove(index);
            return true;
        };
        let found;
        let mut is_wider = false;
        let (slot, path) = match self.network.kept(&slot.meta.hop) {
            Some(path) => (slot, path),
            None => {
                let Some((path, wider)) = self.path_of(now, key) else {
                    return true;
                };
                is_wider = wider;
                found = path;
                let Some(slot) = self.connections.get_mut(key) else {
                    self.output.remove(index);
                    return true;
                };
                (slot, &found)
            }
        };
        slot.meta.blocked_since = Stamp::NEVER;
        let (mut room, mut frames, mut bytes) = (true, 0u64, 0u64);
        let whose = (index, &slot.meta.hop);
        let mut env = Env {
            now,
            pool,
            chunks: &mut self.chunks,
            stats: &mut self.stats,
            tunables: knobs_of(&self.own_tunables, &self.group_knobs, &self.tunables, whose),
        };
        let port = path.port;
        let turn = slot.connection.transmit(&mut env, path, &mut |frame| {
            frames = frames.wrapping_add(1);
            let len = frame.frame_len();
            bytes = bytes.wrapping_add(len as u64);
            quota = quota.saturating_sub(len.div_ceil(TRANSMIT_FRAME_BYTES) as u32);
            room = take(Transmit { port, frame });
            room && quota > 0
        });
        if is_wider {
            // As in Linux, the first packets over a new route are those that were cut for the old.
            slot.connection.on_wider_route(path.mtu, &mut env);
        }
        count!(self.stats.frames_out, frames);
        count!(self.stats.bytes_out, bytes);
        count!(self.stats.ip_out_requests, frames);
        self.timers.arm(index, slot.connection.next_deadline());
        let wants_more = slot.connection.wants_output(&self.chunks);
        if turn == Turn::Cut && wants_more {
            if quota == 0 {
                self.stand_behind(index, bytes);
            }
            self.quota = quota;
        } else {
            self.output.remove(index);
            // Who waits for an ACK has its timers.
            if wants_more && turn != Turn::Deferred {
                self.retry_output_later(now, key);
            }
        }
        room
    }

    /// A connection has used its quota up, with frames of so many bytes: it stands behind the others,
    /// or aside when it has handed over as much as may lie below TCP.
    #[cold]
    fn stand_behind(&mut self, index: u32, bytes: u64) {
        let handed = self.laps.on_quota(bytes);
        let limit = self.connections.get_at(index).map_or(0, |slot| {
            let whose = (index, &slot.meta.hop);
            let knobs = knobs_of(&self.own_tunables, &self.group_knobs, &self.tunables, whose);
            slot.connection.small_queue_bytes(&self.chunks, knobs)
        });
        self.output.remove(index);
        if handed < limit {
            self.output.push(READY, index);
            self.laps.on_stood_behind(index);
        } else {
            self.laps.has_throttled = true;
            self.output.push(THROTTLED, index);
        }
    }

    /// The way to a connection's peer when the one it remembers does not hold; `None` when there is
    /// none now, and the connection has left the line. Tells also whether it is wider than before.
    fn path_of(&mut self, now: Instant, key: Key) -> Option<(Path, bool)> {
        let Some(slot) = self.connections.get_mut(key) else {
            self.output.remove(key.index());
            return None;
        };
        let remote = slot.connection.tuple().remote.address;
        let before = slot.meta.hop.mtu();
        let hop = self.network.hop(now, remote, &mut slot.meta.hop);
        if let Hop::Ready(path) = hop {
            return Some((path, path.mtu > before));
        }
        self.output.remove(key.index());
        if let Hop::Wait(_, neighbor) = hop {
            self.output.push(waiting_for(neighbor), key.index());
            self.network.neighbors.set_waited(neighbor, true);
            return None;
        }
        self.count_no_way(hop);
        self.on_blocked(now, key);
        None
    }

    /// A connection has no way to its peer. One that is not yet synchronised ends; others try again
    /// every second, and are given up after as long as retransmissions would have taken
    /// (`tcp_retries2`).
    fn on_blocked(&mut self, now: Instant, key: Key) {
        let Some(slot) = self.connections.get_mut(key) else {
            return;
        };
        if slot.meta.over {
            return;
        }
        if slot.meta.blocked_since.is_never() {
            slot.meta.blocked_since = Stamp::of(now);
        }
        let since = slot.meta.blocked_since.instant();
        let mut no_pool = Self::no_pool();
        let mut env = Env {
            now,
            pool: &mut no_pool,
            chunks: &mut self.chunks,
            stats: &mut self.stats,
            tunables: &self.tunables,
        };
        let disposition = if now.since(since) >= Nanos::from_secs(BLOCKED_SECS_MAX) {
            slot.connection.give_up(&mut env)
        } else {
            // Ends a connection that is not yet synchronised and nothing else.
            slot.connection.on_unreachable(Unreachable::Soft, &mut env)
        };
        if disposition != Disposition::Continue {
            self.settle(now, key, disposition);
            return;
        }
        self.timers
            .arm(key.index(), now.after(Nanos::from_millis(BLOCKED_RETRY_MS)));
    }

    fn count_no_way(&mut self, hop: Hop) {
        let reason = match hop {
            Hop::NoRoute => {
                count!(self.stats.ip_out_no_routes);
                DropReason::NoRoute
            }
            Hop::TableFull => DropReason::NeighborTableFull,
            Hop::Failed | Hop::Ready(_) | Hop::Wait(..) => DropReason::NeighborFailed,
        };
        self.stats.drop(reason);
    }
}

/// The header of a RST.
pub(crate) fn reset_header(tuple: &FlowTuple, reset: ResetSegment) -> TcpRepr {
    let flags = match reset.ack {
        Some(_) => TcpFlags::RST | TcpFlags::ACK,
        None => TcpFlags::RST,
    };
    TcpRepr {
        source_port: tuple.local.port,
        destination_port: tuple.remote.port,
        seq: reset.seq,
        ack: reset.ack.unwrap_or(SeqNumber::new(0)),
        flags,
        window: reset.window,
        urgent: 0,
        options: TcpOptions {
            timestamps: reset.timestamps,
            ..TcpOptions::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Who stands aside has no further turn: a lap that waited for it would never end, and the others
    // would hand over more than may lie below TCP.
    #[test]
    fn laps_end_although_the_first_to_use_its_quota_stands_aside() {
        let mut laps = Laps::default();
        laps.on_turn(1);
        assert_eq!(laps.on_quota(10), 10);
        for lap in 1..4 {
            laps.on_turn(2);
            assert_eq!(laps.on_quota(10), 10 * lap);
            laps.on_stood_behind(2);
        }
    }
}
