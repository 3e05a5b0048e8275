//! This lcore's share of the ports of any pair, as numbered places.
//!
//! Replies to a port arrive in slot `rest XOR contribution(port)` of the redirection table, where
//! `rest` is the slot of the tuple without our port. So the ports of each owned slot are one bucket
//! (`base::rss::PortOrder`), and the places of a pair are the buckets of the owned slots one after
//! the other: a dense numbering of exactly the ports that lead to this lcore, both ways in a few
//! loads.

use std::sync::Arc;

use millrace_base::rss::RssMap;
use millrace_base::{Address, Endpoint, FlowTuple, LcoreIndex};

/// Ports there are.
const PORTS: usize = 65_536;
/// Ports that one word of a bitmap holds.
pub(crate) const WORD_PORTS: usize = 64;
/// Words of a bitmap over all ports.
pub(crate) const WORDS_MAX: usize = PORTS / WORD_PORTS;
/// Rank of a slot that another lcore owns.
const NOT_OURS: u16 = u16::MAX;

/// Which slots are ours.
#[derive(Debug)]
pub(crate) struct Shard {
    map: Arc<RssMap>,
    /// Our slots, in order.
    slots: Box<[u16]>,
    /// The place of each slot in `slots`.
    ranks: Box<[u16]>,
    /// Ports of one slot: 2 to this power, 7 to 16.
    slot_ports_log2: u32,
}

impl Shard {
    pub(crate) fn new(map: Arc<RssMap>, lcore: LcoreIndex) -> Self {
        let mut slots = Vec::new();
        let mut ranks = vec![NOT_OURS; map.owners().len()].into_boxed_slice();
        for (slot, rank) in (0u16..).zip(&mut ranks) {
            if map.owner_of_hash(slot.into()) == lcore {
                *rank = slots.len() as u16;
                slots.push(slot);
            }
        }
        Self {
            slot_ports_log2: map.ports(true).bucket_ports().trailing_zeros(),
            slots: slots.into_boxed_slice(),
            ranks,
            map,
        }
    }

    /// Words that the places of one pair take, at most `WORDS_MAX`.
    pub(crate) fn words(&self) -> usize {
        self.slots.len() << self.word_shift()
    }

    /// The slot of replies from `remote` to `local` but for our port's contribution.
    pub(crate) fn rest(&self, local: Address, remote: Endpoint) -> u32 {
        let tuple = FlowTuple {
            local: Endpoint::new(local, 0),
            remote,
        };
        self.map.slot(self.map.hash(&tuple))
    }

    /// The port at a place of a pair.
    #[inline]
    pub(crate) fn port(&self, is_v4: bool, rest: u32, place: usize) -> u16 {
        let slot = self.slots.get(place >> self.slot_ports_log2);
        let bucket = rest ^ u32::from(slot.copied().unwrap_or(0));
        let within = place & ((1usize << self.slot_ports_log2).wrapping_sub(1));
        self.map.ports(is_v4).port(bucket, within)
    }

    /// The place of a port of a pair; `None` when its replies reach another lcore.
    #[inline]
    pub(crate) fn place(&self, is_v4: bool, rest: u32, port: u16) -> Option<usize> {
        let order = self.map.ports(is_v4);
        let slot = rest ^ order.contribution(port);
        let rank = self.ranks.get(slot as usize).copied()?;
        (rank != NOT_OURS).then(|| (usize::from(rank) << self.slot_ports_log2) | order.place(port))
    }

    /// The word of a mask in bucket order (`Masks`) that belongs to a word of places.
    #[inline]
    pub(crate) fn mask_word(&self, rest: u32, word: usize) -> usize {
        let shift = self.word_shift();
        let slot = self.slots.get(word >> shift).copied().unwrap_or(0);
        let bucket = (rest ^ u32::from(slot)) as usize;
        (bucket << shift) | (word & ((1usize << shift).wrapping_sub(1)))
    }

    /// All ports in bucket order, as `Masks` lays them out.
    pub(crate) fn ports_of_mask_word(
        &self,
        is_v4: bool,
        word: usize,
    ) -> impl Iterator<Item = u16> + '_ {
        let bucket = (word >> self.word_shift()) as u32;
        let first = (word << WORD_PORTS.trailing_zeros())
            & ((1usize << self.slot_ports_log2).wrapping_sub(1));
        let order = self.map.ports(is_v4);
        (0..WORD_PORTS).map(move |bit| order.port(bucket, first | bit))
    }

    /// Words of one slot: 2 to this power.
    fn word_shift(&self) -> u32 {
        self.slot_ports_log2
            .saturating_sub(WORD_PORTS.trailing_zeros())
    }
}
