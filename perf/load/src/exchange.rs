//! Frames that a device delivered to the wrong lcore, and news that all lcores want to hear.
//!
//! The client's port tells the owner (`tuples::owner`); a frame of another lcore's connection is
//! moved, by pointer, through that lcore's bounded queue. What has no ports (ARP, ICMP) is handled
//! where it arrives, and what it tells of neighbours goes to everybody. With one lcore nothing is
//! looked at.

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use millrace_base::{Address, MacAddress, PacketBuf};
use millrace_dpdk::Mbuf;
use millrace_wire::{EthernetView, IpView, TcpView, protocol};

use crate::tuples::owner;

/// Frames that may wait for one lcore: a full receive ring. More would only be stale.
const FRAMES_MAX: usize = 1_024;

/// News that may wait for one lcore. What is lost is asked for again.
const NEWS_MAX: usize = 64;

/// Which end of a received segment is the client's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// We are: its destination.
    Client,
    /// The peer is: its source.
    Sink,
}

/// Where a received frame belongs.
#[derive(Debug)]
pub enum Sorted {
    /// Here.
    Ours(Mbuf),
    /// It has been handed over.
    Moved,
    /// Its owner's queue is full; the frame is gone.
    Dropped,
}

#[derive(Debug)]
struct Inbox {
    frames: ArrayQueue<Mbuf>,
    news: ArrayQueue<(Address, MacAddress)>,
}

/// One lcore's end of the exchange.
#[derive(Debug)]
pub struct Exchange {
    me: u16,
    role: Role,
    inboxes: Arc<[Inbox]>,
}

impl Exchange {
    /// The ends of all lcores.
    pub fn all(lcores: u16, role: Role) -> Vec<Self> {
        let inbox = |_| Inbox {
            frames: ArrayQueue::new(FRAMES_MAX),
            news: ArrayQueue::new(NEWS_MAX),
        };
        let inboxes: Arc<[Inbox]> = (0..lcores).map(inbox).collect();
        let end = |me| Self {
            me,
            role,
            inboxes: Arc::clone(&inboxes),
        };
        (0..lcores).map(end).collect()
    }

    /// Decides about a received frame.
    #[inline]
    pub fn sort(&self, frame: Mbuf) -> Sorted {
        if self.inboxes.len() <= 1 {
            return Sorted::Ours(frame);
        }
        let Some(port) = client_port(&frame, self.role) else {
            return Sorted::Ours(frame);
        };
        let owner = owner(port, self.inboxes.len() as u16);
        if owner == self.me {
            return Sorted::Ours(frame);
        }
        let inbox = self.inboxes.get(usize::from(owner));
        match inbox.map(|inbox| inbox.frames.push(frame)) {
            Some(Ok(())) => Sorted::Moved,
            _ => Sorted::Dropped,
        }
    }

    /// The next frame that another lcore received for us.
    #[inline]
    pub fn take(&self) -> Option<Mbuf> {
        if self.inboxes.len() <= 1 {
            return None;
        }
        self.inboxes.get(usize::from(self.me))?.frames.pop()
    }

    /// Tells everybody else where a neighbour is.
    pub fn tell(&self, address: Address, mac: MacAddress) {
        for (lcore, inbox) in self.inboxes.iter().enumerate() {
            if lcore != usize::from(self.me) {
                // A full queue loses it; its reader will ask by itself.
                let _ = inbox.news.push((address, mac));
            }
        }
    }

    /// The next thing that another lcore told.
    #[inline]
    pub fn hear(&self) -> Option<(Address, MacAddress)> {
        if self.inboxes.len() <= 1 {
            return None;
        }
        self.inboxes.get(usize::from(self.me))?.news.pop()
    }
}

/// The client's port of a TCP segment; `None` for everything else, malformed frames included.
fn client_port(frame: &Mbuf, role: Role) -> Option<u16> {
    let ethernet = EthernetView::parse(frame.bytes()).ok()?;
    let available = frame.frame_len().saturating_sub(ethernet.header_len());
    let ip = IpView::parse(ethernet.ether_type(), ethernet.payload(), available)?.ok()?;
    if ip.protocol() != protocol::TCP || ip.fragment().is_some() {
        return None;
    }
    let tcp = TcpView::parse(ip.payload()).ok()?;
    Some(match role {
        Role::Client => tcp.destination_port(),
        Role::Sink => tcp.source_port(),
    })
}
