//! A burst of frames in: headers first, then connections, then TCP.
//!
//! ```text
//!   pass 1   every frame    parse, hash the tuple, prefetch the bucket
//!   pass 2   every segment  read the bucket, prefetch what it probably belongs to
//!   pass 3   every segment  find its owner, let it act
//! ```
//!
//! The first two passes wait for nothing: what they ask for arrives while they go on. They change
//! nothing either, so pass 3 looks the owner up again, from the cache.
//!
//! Segments of one connection that follow each other are a *run*: one lookup, and one round of
//! bookkeeping (timer, events, place in the line of those that may send) behind the last of them.
//! A run is to this stack what generic receive offload is to Linux: one ACK, one event, one
//! wake-up, without merging anything.

use arrayvec::ArrayVec;
use millrace_base::{Instant, Key, PacketBuf, PacketPool, PortId};

use crate::dispatch::{self, Parsed, Punt, TcpFrame};
use crate::flow::Owner;
use crate::flow_hash::FlowHash;
use crate::limits::BURST_FRAMES_MAX;
use crate::plain::parse_plain;
use crate::stack::Stack;
use crate::stats::count;
use crate::tcp::{Disposition, Env};
use crate::tcp_input::Arrived;
use crate::verdict::DropReason;

/// A segment of the burst: its header, and where to look for its owner.
#[derive(Clone, Copy, Debug)]
struct Located {
    header: TcpFrame,
    hash: FlowHash,
}

/// The segments of a burst and their frames, in order of arrival.
struct Segments<B> {
    headers: ArrayVec<Located, BURST_FRAMES_MAX>,
    frames: ArrayVec<B, BURST_FRAMES_MAX>,
}

/// Segments of one connection, one behind the other.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    key: Key,
    hash: FlowHash,
    header: &'a TcpFrame,
    acked_before: u64,
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
            self.prefetch_connections(&segments.headers);
            self.deliver(now, &mut segments, pool);
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
        while !segments.headers.is_full() {
            let Some(frame) = frames.next() else {
                return true;
            };
            count!(self.stats.frames_in);
            count!(self.stats.bytes_in, frame.frame_len() as u64);
            let Self { network, stats, .. } = self;
            let interface = network.interfaces.get(port);
            let plain = interface.and_then(|port| parse_plain(&frame, port, stats));
            let parsed = match plain {
                Some(header) => Parsed::Tcp(header),
                None => dispatch::parse(&frame, port, &network.interfaces, stats),
            };
            let Parsed::Tcp(header) = parsed else {
                self.on_other_frame(now, parsed, frame, pool, punt);
                continue;
            };
            let hash = self.flows.hash(&header.tuple);
            if let Some(line) = self.flows.line(hash) {
                P::prefetch(line);
            }
            segments.headers.push(Located { header, hash });
            segments.frames.push(frame);
        }
        false
    }

    /// Pass 2. A burst of one has nothing to do meanwhile.
    fn prefetch_connections(&self, headers: &[Located]) {
        if headers.len() < 2 {
            return;
        }
        let mut last = None;
        for located in headers {
            if let Some(Owner::Connection(index)) = self.flows.guess(located.hash)
                && last != Some(index)
                && let Some(place) = self.connections.place(index)
            {
                P::prefetch(place);
                last = Some(index);
            }
        }
    }

    /// Pass 3.
    fn deliver(&mut self, now: Instant, segments: &mut Segments<P::Buf>, pool: &mut P) {
        let Segments { headers, frames } = segments;
        let mut run: Option<Run<'_>> = None;
        for (Located { header, hash, .. }, frame) in headers.iter().zip(frames.drain(..)) {
            let arrived = Arrived {
                now,
                header,
                hash: *hash,
                frame,
            };
            if run.as_ref().is_none_or(|run| !run.goes_on_with(&arrived)) {
                if let Some(ended) = run.take() {
                    self.end_run(now, &ended, Disposition::Continue);
                }
                let owner = self.find_owner(*hash, &header.tuple);
                let Some(Owner::Connection(index)) = owner else {
                    let outcome = self.on_other_segment(owner, arrived, pool);
                    self.count_delivery(outcome);
                    continue;
                };
                run = self.begin_run(index, *hash, header);
            }
            let Some(current) = &run else {
                self.stats.drop(DropReason::Bug);
                continue;
            };
            count!(self.stats.ip_in_delivers);
            match self.continue_run(current, arrived, pool) {
                Ok(Disposition::Continue) => count!(self.stats.frames_delivered),
                Ok(ended) => {
                    count!(self.stats.frames_delivered);
                    self.end_run(now, current, ended);
                    run = None;
                }
                Err(reason) => self.stats.drop(reason),
            }
        }
        if let Some(ended) = run {
            self.end_run(now, &ended, Disposition::Continue);
        }
    }

    fn count_delivery(&mut self, outcome: Result<(), DropReason>) {
        match outcome {
            Ok(()) => count!(self.stats.frames_delivered),
            Err(reason) => self.stats.drop(reason),
        }
    }

    pub(crate) fn begin_run<'a>(
        &self,
        index: u32,
        hash: FlowHash,
        header: &'a TcpFrame,
    ) -> Option<Run<'a>> {
        let key = self.connections.key_at(index)?;
        let slot = self.connections.get(key)?;
        Some(Run {
            key,
            hash,
            header,
            acked_before: slot.connection.bytes_acked(),
        })
    }

    /// Gives a segment to the connection of a run.
    #[inline]
    pub(crate) fn continue_run(
        &mut self,
        run: &Run<'_>,
        arrived: Arrived<'_, P::Buf>,
        pool: &mut P,
    ) -> Result<Disposition, DropReason> {
        let stripped;
        let arrived = if self.sheds_payload() && arrived.header.payload_len > 0 {
            self.stats.drop(DropReason::PayloadShed);
            stripped = arrived.header.without_payload();
            Arrived {
                header: &stripped,
                ..arrived
            }
        } else {
            arrived
        };
        let slot = self.connections.get_mut(run.key).ok_or(DropReason::Bug)?;
        let Arrived {
            now,
            header,
            hash,
            frame,
        } = arrived;
        let mut env = Env {
            now,
            pool,
            chunks: &mut self.chunks,
            stats: &mut self.stats,
            tunables: &self.tunables,
        };
        let frame = match slot.connection.try_predicted(&mut env, header, frame) {
            Ok(outcome) => return Ok(outcome),
            Err(frame) => frame,
        };
        let arrived = Arrived {
            now,
            header,
            hash,
            frame,
        };
        let segment = arrived.into_segment()?;
        Ok(slot.connection.handle_segment(&mut env, segment))
    }

    /// What a run changed for everybody else.
    pub(crate) fn end_run(&mut self, now: Instant, run: &Run<'_>, outcome: Disposition) {
        let Some(slot) = self.connections.get(run.key) else {
            return;
        };
        // behaviour: ARP-17
        if slot.connection.bytes_acked() != run.acked_before {
            self.network
                .neighbors
                .confirm(slot.meta.hop.neighbor(), now);
        }
        self.settle(now, run.key, outcome);
    }

    #[cold]
    fn on_other_frame(
        &mut self,
        now: Instant,
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
            Parsed::Punt(reason) => Punt { frame, reason },
            Parsed::Drop(reason) => return self.stats.drop(reason),
            Parsed::Tcp(_) => return self.stats.drop(DropReason::Bug),
        };
        count!(self.stats.frames_punted);
        punt(punted);
    }
}

impl Run<'_> {
    #[inline]
    fn goes_on_with<B>(&self, next: &Arrived<'_, B>) -> bool {
        self.hash == next.hash && self.header.tuple == next.header.tuple
    }
}
