//! Software RSS: a frame that arrived on the wrong lcore goes to the one that owns its flow.
//!
//! No device here promises where a frame arrives, so every TCP frame is looked at: its tuple says who owns it. One that is
//! not ours is moved, by pointer, through the owner's bounded queue; a full queue drops the frame, as a full receive ring
//! would, and counts it. What has no ports to look at (ARP, ICMP, fragments) stays where it arrived.

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use millrace_base::rss::RssMap;
use millrace_base::{Endpoint, FlowTuple, LcoreIndex, PacketBuf, PortId};
use millrace_dpdk::Mbuf;
use millrace_wire::{EthernetView, IpView, TcpView, protocol};

/// Frames that may wait for one lcore: two rounds of full bursts from each of sixteen others. More would only be stale.
const QUEUE_FRAMES_MAX: usize = 1_024;

/// A frame on its way to its owner, and the port it came from.
pub(crate) type Steered = (PortId, Mbuf);

/// Where a received frame belongs.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Here.
    Ours(Mbuf),
    /// It has been handed over.
    Moved,
    /// Its owner's queue is full; the frame is gone.
    Dropped,
}

/// One lcore's end of the exchange.
#[derive(Debug)]
pub(crate) struct Steer {
    me: LcoreIndex,
    map: Arc<RssMap>,
    queues: Arc<[ArrayQueue<Steered>]>,
}

impl Steer {
    /// The ends of all lcores.
    pub(crate) fn all(lcores: u16, map: &Arc<RssMap>) -> Vec<Self> {
        let queues: Arc<[ArrayQueue<Steered>]> = (0..lcores)
            .map(|_| ArrayQueue::new(QUEUE_FRAMES_MAX))
            .collect();
        (0..lcores)
            .map(|lcore| Self {
                me: LcoreIndex::new(lcore),
                map: Arc::clone(map),
                queues: Arc::clone(&queues),
            })
            .collect()
    }

    /// Whether there is no other lcore to hand anything to.
    #[inline]
    pub(crate) fn is_alone(&self) -> bool {
        self.queues.len() <= 1
    }

    /// Decides about a received frame. With one lcore everything is ours and nothing is looked at.
    #[inline]
    pub(crate) fn sort(&self, port: PortId, frame: Mbuf) -> Verdict {
        let lcores = self.queues.len() as u16;
        if lcores <= 1 {
            return Verdict::Ours(frame);
        }
        let Some(tuple) = tuple_of(&frame) else {
            return Verdict::Ours(frame);
        };
        let owner = self.map.owner(&tuple);
        if owner == self.me {
            return Verdict::Ours(frame);
        }
        match self
            .queues
            .get(owner.index())
            .map(|queue| queue.push((port, frame)))
        {
            Some(Ok(())) => Verdict::Moved,
            _ => Verdict::Dropped,
        }
    }

    /// The next frame that another lcore received for us.
    #[inline]
    pub(crate) fn take(&self) -> Option<Steered> {
        if self.queues.len() <= 1 {
            return None;
        }
        self.queues.get(self.me.index())?.pop()
    }
}

/// The flow of a TCP frame as this host sees it; `None` for everything else, malformed frames included.
fn tuple_of(frame: &Mbuf) -> Option<FlowTuple> {
    let ethernet = EthernetView::parse(frame.bytes()).ok()?;
    let available = frame.frame_len().saturating_sub(ethernet.header_len());
    let ip = IpView::parse(ethernet.ether_type(), ethernet.payload(), available)?.ok()?;
    if ip.protocol() != protocol::TCP || ip.fragment().is_some() {
        return None;
    }
    let tcp = TcpView::parse(ip.payload()).ok()?;
    Some(FlowTuple {
        local: Endpoint::new(ip.destination(), tcp.destination_port()),
        remote: Endpoint::new(ip.source(), tcp.source_port()),
    })
}
