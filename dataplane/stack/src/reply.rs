//! Frames that belong to no connection: SYN-ACKs, RSTs, TIME_WAIT ACKs, echo replies.
//!
//! They leave before connections do, through a bounded queue. Those whose neighbour is not resolved
//! yet wait here, at most three per neighbour and a few in all; the oldest gives way (ARP-11). Each
//! is complete but for its destination link address, so resolving is writing six bytes.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use millrace_base::{
    FlowTuple, HEADROOM_BYTES_DEFAULT, Key, MacAddress, PacketBuf, PacketPool, PortId,
};

use millrace_wire::TcpRepr;

use crate::limits::{NEIGHBOR_PENDING_MAX, PENDING_FRAMES_MAX, REPLIES_MAX};
use crate::signature::Digest;
use crate::verdict::DropReason;

/// A complete frame and the port it leaves by.
#[derive(Debug)]
pub struct Transmit<B> {
    /// The port to transmit on.
    pub port: PortId,
    /// The frame, Ethernet header first; its offload request is set.
    pub frame: B,
}

/// A segment without payload that belongs to no connection and has no frame yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owed {
    pub(crate) tuple: FlowTuple,
    pub(crate) header: TcpRepr,
    /// What is to be filled in, when the options have room for a signature.
    pub(crate) digest: Option<Digest>,
}

/// Replies ready to leave, and replies that wait. Memory is taken in `new`.
#[derive(Debug)]
pub(crate) struct Replies<B> {
    ready: VecDeque<Transmit<B>>,
    /// In order of arrival.
    pending: Vec<(Key, Transmit<B>)>,
}

impl<B: PacketBuf> Replies<B> {
    pub(crate) fn new() -> Self {
        Self {
            ready: VecDeque::with_capacity(REPLIES_MAX),
            pending: Vec::with_capacity(PENDING_FRAMES_MAX),
        }
    }

    /// Queues a complete frame; says why when it was dropped instead.
    pub(crate) fn push(&mut self, reply: Transmit<B>) -> Result<(), DropReason> {
        if self.is_full() {
            return Err(DropReason::ReplyQueueFull);
        }
        self.ready.push_back(reply);
        Ok(())
    }

    pub(crate) fn pop(&mut self) -> Option<Transmit<B>> {
        self.ready.pop_front()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.ready.len() >= REPLIES_MAX
    }

    /// Keeps a frame until its neighbour is resolved. An error means that a frame, this one or an
    /// older one, was dropped.
    pub(crate) fn wait(&mut self, neighbor: Key, reply: Transmit<B>) -> Result<(), DropReason> {
        let waiting = self
            .pending
            .iter()
            .filter(|(key, _)| *key == neighbor)
            .count();
        let mut result = Ok(());
        if waiting >= NEIGHBOR_PENDING_MAX || self.pending.len() >= PENDING_FRAMES_MAX {
            let of_neighbor = self.pending.iter().position(|(key, _)| *key == neighbor);
            let oldest = if waiting >= NEIGHBOR_PENDING_MAX {
                of_neighbor
            } else {
                Some(0)
            };
            if let Some(oldest) = oldest.filter(|oldest| *oldest < self.pending.len()) {
                self.pending.remove(oldest);
            }
            result = Err(DropReason::NeighborPendingFull);
        }
        self.pending.push((neighbor, reply));
        result
    }

    /// The neighbour's link address is known, or (`None`) will not be: its frames leave or are
    /// dropped, and `dropped` hears of each. O(`PENDING_FRAMES_MAX`).
    pub(crate) fn resolve(
        &mut self,
        neighbor: Key,
        mac: Option<MacAddress>,
        mut dropped: impl FnMut(DropReason),
    ) {
        let mut index = 0usize;
        while let Some((key, _)) = self.pending.get(index) {
            if *key != neighbor {
                index = index.saturating_add(1);
                continue;
            }
            let (_, mut reply) = self.pending.remove(index);
            let Some(mac) = mac else {
                dropped(DropReason::NeighborFailed);
                continue;
            };
            let destination = reply
                .frame
                .bytes_mut()
                .and_then(|bytes| bytes.first_chunk_mut::<6>());
            if let Some(destination) = destination {
                *destination = *mac.octets();
            }
            if let Err(reason) = self.push(reply) {
                dropped(reason);
            }
        }
    }
}

/// A buffer for an answer: the received frame's own when nobody else holds it, a fresh one
/// otherwise. Empty, with headroom. `None` when the pool is empty.
pub(crate) fn reuse_or_alloc<P: PacketPool>(frame: Option<P::Buf>, pool: &mut P) -> Option<P::Buf> {
    if let Some(mut frame) = frame
        && frame.is_unique()
    {
        // The rest of a chain is freed here.
        drop(frame.detach_next());
        let headroom = HEADROOM_BYTES_DEFAULT.min(frame.capacity());
        if frame.set_span(headroom, 0) {
            return Some(frame);
        }
    }
    pool.alloc()
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_base::{HeapBuf, HeapPool, Slab};

    fn reply(pool: &mut HeapPool, text: &[u8]) -> Transmit<HeapBuf> {
        Transmit {
            port: PortId::new(1),
            frame: pool.receive(text).expect("room"),
        }
    }

    // behaviour: ARP-11
    #[test]
    fn the_fourth_frame_for_a_neighbour_pushes_the_oldest_out_and_the_rest_leave_in_order() {
        let mut pool = HeapPool::new(16, 256);
        let mut keys = Slab::new(2);
        let (near, far) = (
            keys.insert(()).expect("room"),
            keys.insert(()).expect("room"),
        );
        let mut replies = Replies::new();
        for text in [b"000000a", b"000000b", b"000000c"] {
            assert_eq!(replies.wait(near, reply(&mut pool, text)), Ok(()));
        }
        assert_eq!(replies.wait(far, reply(&mut pool, b"000000z")), Ok(()));
        assert_eq!(
            replies.wait(near, reply(&mut pool, b"000000d")),
            Err(DropReason::NeighborPendingFull)
        );
        let mac = MacAddress::new(*b"macmac");
        replies.resolve(near, Some(mac), |_| {});
        let mut left = Vec::new();
        while let Some(reply) = replies.pop() {
            left.push(reply.frame.to_vec());
        }
        assert_eq!(left, [b"macmacb", b"macmacc", b"macmacd"]);
        let mut reasons = Vec::new();
        replies.resolve(far, None, |reason| reasons.push(reason));
        assert_eq!(reasons, [DropReason::NeighborFailed]);
        assert_eq!(pool.live(), 0);
    }

    #[test]
    fn an_unshared_frame_is_reused_and_a_shared_one_is_not() {
        let mut pool = HeapPool::new(3, 512);
        let mut frame = pool.receive(b"abc").expect("room");
        frame
            .append(pool.receive(b"def").expect("room"))
            .expect("unique");
        let reused = reuse_or_alloc(Some(frame), &mut pool).expect("reused");
        assert_eq!(
            (reused.frame_len(), reused.offset(), pool.live()),
            (0, 128, 1)
        );
        let shared = reused.share().expect("shares");
        let fresh = reuse_or_alloc(Some(reused), &mut pool).expect("room");
        assert!(fresh.is_unique() && pool.live() == 2);
        drop((shared, fresh));
        assert_eq!(pool.live(), 0);
    }
}
