//! Where packet buffers lie: a pool on every NUMA node that has an lcore or a card.
//!
//! A card writes the frames it receives into buffers of its own node, whoever polls the queue; what an lcore makes itself
//! (ACKs, headers, views) comes from its own. A card that does not tell its node, as virtual devices do, is as near as the
//! lcore that polls it. A machine with one node has one pool, under the plain name.
//!
//! The buffers of the configuration are divided, not multiplied: each node gets its part by the queues that are filled and
//! the lcores that run there, and the parts add up to `dataplane.mbufs`. Not here: how many there should be
//! (`millrace_abi::plan`), and the tables of connections, which each lcore's own thread touches first.

use std::sync::Arc;

use anyhow::{Context, Result};
use millrace_abi::plan;
use millrace_dpdk::{Device, Eal, MbufPool, Mempool, MempoolConfig, MempoolError, SocketId};
use millrace_stack::{Shortage, Watermarks};
use tracing::{info, warn};

use crate::args::Args;
use crate::memory;

/// Free mbufs that each lcore keeps at hand.
const MBUF_CACHE: u32 = 256;

/// One node's part of the buffers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Share {
    node: SocketId,
    buffers: u32,
    lcores: u32,
}

/// Who takes buffers from where, as places in `shares`.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Assignment {
    /// Sorted by node.
    shares: Vec<Share>,
    of_lcore: Vec<usize>,
    /// `None`: the node of the lcore that polls the queue.
    of_port: Vec<Option<usize>>,
}

/// All pools.
pub(crate) struct Pools {
    assignment: Assignment,
    /// One per share.
    bufs: Arc<[Mempool]>,
    /// One per share with lcores, `None` elsewhere.
    made_here: Vec<Option<MbufPool>>,
    reserves: Arc<[Mempool]>,
}

/// What one lcore looks at to know how short buffers are, and what is told of all of them.
pub(crate) struct Stock {
    /// The pools this lcore depends on: its own, and those that its queues are filled from.
    watched: Vec<(Mempool, Watermarks)>,
    bufs: Arc<[Mempool]>,
    reserves: Arc<[Mempool]>,
}

impl Pools {
    /// Makes the pools, on the nodes of these lcores and ports.
    pub(crate) fn create(eal: &Eal, args: &Args) -> Result<Self> {
        let lcores: Vec<SocketId> = eal
            .worker_lcores()
            .iter()
            .map(|lcore| lcore.socket())
            .collect();
        let mut ports = Vec::with_capacity(args.ports.len());
        for spec in &args.ports {
            let device = Device::by_name(eal, spec.device_name());
            let device = device.with_context(|| format!("port {}", spec.name))?;
            ports.push(device.socket());
        }
        let assignment = Assignment::new(&lcores, &ports, args.mbufs);
        let is_only = assignment.shares.len() == 1;
        let (mut bufs, mut made_here, mut reserves) = (Vec::new(), Vec::new(), Vec::new());
        let views = plan::views(args.mbufs.into());
        for share in &assignment.shares {
            // On the only node any memory is near, and pools go by the names that they always had.
            let place = (!is_only).then_some(share.node);
            let own = create_on(eal, "frames", share.buffers, args.mbuf_bytes, place)?;
            bufs.push(own);
            info!(
                node = share.node.0,
                buffers = share.buffers,
                lcores = share.lcores,
                "packet buffers"
            );
            if share.lcores == 0 {
                made_here.push(None);
                continue;
            }
            let views = part(views, share.lcores.into(), lcores.len() as u64);
            let views = create_on(eal, "views", views, 0, place)?;
            let reserved = plan::RESERVED_FRAMES.saturating_mul(share.lcores.into());
            let reserved = u32::try_from(reserved).unwrap_or(u32::MAX);
            let reserve = create_on(eal, "reserve", reserved, plan::RESERVED_BYTES, place)?;
            reserves.push(reserve);
            made_here.push(Some(MbufPool::new(own, views).with_reserve(reserve)));
        }
        Ok(Self {
            assignment,
            bufs: bufs.into(),
            made_here,
            reserves: reserves.into(),
        })
    }

    /// What this lcore makes its own frames of.
    pub(crate) fn of_lcore(&self, lcore: usize) -> Result<MbufPool> {
        let place = self.assignment.of_lcore.get(lcore);
        let pool = place.and_then(|place| self.made_here.get(*place).copied().flatten());
        pool.with_context(|| format!("lcore {lcore} has no packet buffers"))
    }

    /// What the receive queues of this port are filled from, one for each lcore.
    pub(crate) fn of_queues(&self, port: usize) -> Vec<Mempool> {
        let lcores = 0..self.assignment.of_lcore.len();
        lcores
            .filter_map(|lcore| {
                self.bufs
                    .get(self.assignment.of_queue(port, lcore)?)
                    .copied()
            })
            .collect()
    }

    /// What this lcore has to watch. Call it when all queues are filled: what is free then is free at rest.
    pub(crate) fn stock_of(&self, lcore: usize) -> Result<Stock> {
        let lcores = self.assignment.of_lcore.len();
        let watched = self.assignment.watched_by(lcore).into_iter();
        let watched = watched
            .filter_map(|place| self.bufs.get(place))
            .map(|pool| {
                let marks = memory::watermarks(pool.available(), lcores);
                (*pool, marks)
            });
        Ok(Stock {
            watched: watched.collect(),
            bufs: Arc::clone(&self.bufs),
            reserves: Arc::clone(&self.reserves),
        })
    }
}

impl Stock {
    /// How short buffers are: as short as the shortest of the pools. O(1) for each.
    #[inline]
    pub(crate) fn shortage(&self) -> Shortage {
        let each = self.watched.iter();
        let each = each.map(|(pool, marks)| marks.judge(pool.available_here()));
        each.max().unwrap_or_default()
    }

    /// Free buffers of all nodes, and buffers in all. Looks at every lcore's cache.
    pub(crate) fn buffers(&self) -> (u64, u64) {
        let sum = |count: fn(&Mempool) -> usize| self.bufs.iter().map(count).sum::<usize>() as u64;
        (sum(Mempool::available), sum(Mempool::count))
    }

    /// Free buffers of the reserves.
    pub(crate) fn reserve_available(&self) -> u64 {
        self.reserves.iter().map(Mempool::available).sum::<usize>() as u64
    }
}

impl Assignment {
    fn new(lcores: &[SocketId], ports: &[Option<SocketId>], buffers: u32) -> Self {
        let mut nodes: Vec<SocketId> = lcores
            .iter()
            .chain(ports.iter().flatten())
            .copied()
            .collect();
        nodes.sort_unstable();
        nodes.dedup();
        let place = |node: &SocketId| nodes.binary_search(node).ok();
        let of_port: Vec<Option<usize>> = ports
            .iter()
            .map(|node| node.as_ref().and_then(place))
            .collect();
        let mut assignment = Self {
            shares: Vec::new(),
            of_lcore: lcores.iter().filter_map(place).collect(),
            of_port,
        };
        let weights: Vec<u64> = (0..nodes.len())
            .map(|place| assignment.weight(place))
            .collect();
        let whole = weights.iter().sum();
        let mut left = buffers;
        for (node, weight) in nodes.iter().zip(weights) {
            let buffers = part(buffers.into(), weight, whole);
            left = left.saturating_sub(buffers);
            let lcores = lcores.iter().filter(|lcore| *lcore == node).count() as u32;
            assignment.shares.push(Share {
                node: *node,
                buffers,
                lcores,
            });
        }
        // What the division leaves goes where frames are made.
        if let Some(share) = assignment.shares.iter_mut().find(|share| share.lcores > 0) {
            share.buffers = share.buffers.saturating_add(left);
        }
        assignment
    }

    /// How many queues and lcores live on buffers of a node.
    fn weight(&self, place: usize) -> u64 {
        let lcores = self.of_lcore.iter().filter(|of| **of == place).count();
        let queues = (0..self.of_port.len())
            .flat_map(|port| (0..self.of_lcore.len()).map(move |lcore| (port, lcore)))
            .filter(|(port, lcore)| self.of_queue(*port, *lcore) == Some(place));
        lcores.saturating_add(queues.count()) as u64
    }

    /// Where the queue of a port that an lcore polls is filled from.
    fn of_queue(&self, port: usize, lcore: usize) -> Option<usize> {
        let of_port = self.of_port.get(port).copied().flatten();
        of_port.or_else(|| self.of_lcore.get(lcore).copied())
    }

    /// The pools that an lcore depends on.
    fn watched_by(&self, lcore: usize) -> Vec<usize> {
        let queues = (0..self.of_port.len()).filter_map(|port| self.of_queue(port, lcore));
        let mut places: Vec<usize> = self.of_lcore.get(lcore).copied().into_iter().collect();
        places.extend(queues);
        places.sort_unstable();
        places.dedup();
        places
    }
}

/// `amount * weight / whole`, rounded down.
fn part(amount: u64, weight: u64, whole: u64) -> u32 {
    let part = amount.saturating_mul(weight).checked_div(whole);
    part.and_then(|part| u32::try_from(part).ok()).unwrap_or(0)
}

/// A pool on this node, or anywhere when the node has no memory left for it.
fn create_on(
    eal: &Eal,
    name: &str,
    count: u32,
    data_room_bytes: u16,
    node: Option<SocketId>,
) -> Result<Mempool> {
    let name = node.map_or_else(|| name.to_owned(), |node| format!("{name}-{}", node.0));
    let config = MempoolConfig {
        name: &name,
        count,
        data_room_bytes,
        cache: if name.starts_with("reserve") {
            0
        } else {
            MBUF_CACHE
        },
        socket: node,
    };
    match Mempool::new(eal, &config) {
        Err(MempoolError::Memory { .. }) if node.is_some() => {
            warn!(
                pool = name,
                "no memory for packet buffers on their NUMA node: taken from another"
            );
            let anywhere = MempoolConfig {
                socket: None,
                ..config
            };
            Mempool::new(eal, &anywhere)
        }
        other => other,
    }
    .with_context(|| format!("packet buffers \"{name}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SocketId = SocketId(0);
    const B: SocketId = SocketId(1);

    fn buffers(assignment: &Assignment) -> Vec<(u16, u32, u32)> {
        let shares = assignment.shares.iter();
        shares
            .map(|share| (share.node.0, share.buffers, share.lcores))
            .collect()
    }

    #[test]
    fn one_node_has_one_pool_with_everything() {
        let ports = [Some(A), None];
        let assignment = Assignment::new(&[A, A], &ports, 65_537);
        assert_eq!(buffers(&assignment), [(0, 65_537, 2)]);
        assert_eq!(assignment.of_queue(1, 1), Some(0));
        assert_eq!(assignment.watched_by(1), [0]);
    }

    #[test]
    fn a_queue_is_filled_where_its_card_is_and_not_where_it_is_polled() {
        let assignment = Assignment::new(&[A, B], &[Some(B), None], 1_000);
        // The card is on node 1; the device without a node follows its lcores.
        assert_eq!(assignment.of_queue(0, 0), Some(1));
        assert_eq!(assignment.of_queue(0, 1), Some(1));
        assert_eq!(assignment.of_queue(1, 0), Some(0));
        assert_eq!(assignment.of_queue(1, 1), Some(1));
        // Node 0: an lcore and a queue; node 1: an lcore and three.
        assert_eq!(buffers(&assignment), [(0, 334, 1), (1, 666, 1)]);
        // Lcore 0 starves when either runs dry.
        assert_eq!(assignment.watched_by(0), [0, 1]);
        assert_eq!(assignment.watched_by(1), [1]);
    }

    #[test]
    fn a_node_with_cards_only_gets_buffers_and_makes_no_frames() {
        let assignment = Assignment::new(&[B, B], &[Some(A)], 4_000);
        assert_eq!(buffers(&assignment), [(0, 2_000, 0), (1, 2_000, 2)]);
        assert_eq!(assignment.of_lcore, [1, 1]);
    }

    #[test]
    fn parts_always_add_up_to_what_the_configuration_says() {
        for total in [1_024u32, 65_536, 99_991, 16_777_216] {
            for lcores in 1..9u16 {
                let lcores: Vec<SocketId> = (0..lcores).map(|lcore| SocketId(lcore % 3)).collect();
                let ports = [None, Some(SocketId(1)), Some(SocketId(5))];
                let assignment = Assignment::new(&lcores, &ports, total);
                let sum: u32 = assignment.shares.iter().map(|share| share.buffers).sum();
                assert_eq!(sum, total, "{assignment:?}");
            }
        }
    }
}
