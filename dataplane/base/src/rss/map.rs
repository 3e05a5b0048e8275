//! Which lcore owns a flow: one function for the receive side, for software steering and for the
//! choice of source ports.
//!
//! A flow's hash picks a slot of the redirection table, the slot names the lcore:
//! `owner = owners[toeplitz(key, reply) % slots]`, which is what a network card computes. Where
//! several cards have tables of different lengths, the shortest decides: each of theirs is filled
//! with repetitions of ours, so that all of them agree (lengths are powers of two).

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::ports::PortOrder;
use super::toeplitz::{KEY_BYTES_MAX, KEY_BYTES_MIN, PORTS_AT_V4, PORTS_AT_V6, Toeplitz};
use crate::address::{Address, FlowTuple};
use crate::id::LcoreIndex;

/// The longest redirection table the map uses, slots.
///
/// 512 slots spread 64 lcores within 12 % of each other. A longer table would leave fewer than 64
/// source ports, one word of a bitmap, for each slot.
pub const SLOTS_MAX: usize = 512;
const _: () = assert!(65_536 / SLOTS_MAX >= 64);

/// Why a key and a table make no map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RssMapError {
    /// The key is shorter than 40 bytes.
    KeyTooShort,
    /// The table's length is not a power of two from 1 to [`SLOTS_MAX`].
    SlotCount,
    /// Some slots are reached by no port: this key hashes ports to too few values.
    KeyHidesPorts,
}

impl core::fmt::Display for RssMapError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::KeyTooShort => "the RSS key is shorter than 40 bytes",
            Self::SlotCount => "a redirection table has 1, 2, 4 .. 512 slots",
            Self::KeyHidesPorts => "the RSS key spreads ports over too few slots",
        })
    }
}

impl core::error::Error for RssMapError {}

/// Key and redirection table, as every lcore and every card of this process uses them. 41 KiB, read
/// only, shared by all lcores.
#[derive(Debug)]
pub struct RssMap {
    toeplitz: Toeplitz,
    owners: Box<[LcoreIndex]>,
    slot_mask: u32,
    ports_v4: PortOrder,
    ports_v6: PortOrder,
}

impl RssMap {
    /// The map of a key (40 bytes or more, of which 40 count) and the owner of each slot.
    pub fn new(key: &[u8], owners: &[LcoreIndex]) -> Result<Self, RssMapError> {
        let toeplitz = Toeplitz::new(key).ok_or(RssMapError::KeyTooShort)?;
        if !owners.len().is_power_of_two() || owners.len() > SLOTS_MAX {
            return Err(RssMapError::SlotCount);
        }
        let order = |at| PortOrder::new(&toeplitz, at, owners.len());
        let ports_v4 = order(PORTS_AT_V4).ok_or(RssMapError::KeyHidesPorts)?;
        let ports_v6 = order(PORTS_AT_V6).ok_or(RssMapError::KeyHidesPorts)?;
        Ok(Self {
            toeplitz,
            owners: owners.into(),
            slot_mask: (owners.len() as u32).wrapping_sub(1),
            ports_v4,
            ports_v6,
        })
    }

    /// The map that gives `lcores` (at least 1) equal shares of `slots` slots, in turn.
    pub fn spread(key: &[u8], slots: usize, lcores: u16) -> Result<Self, RssMapError> {
        let lcores = (0..lcores.max(1)).cycle();
        let owners: Vec<LcoreIndex> = lcores.take(slots).map(LcoreIndex::new).collect();
        Self::new(key, &owners)
    }

    /// The map of a process with one lcore: everything is its own.
    pub fn single() -> Self {
        Self {
            // Any key does: with one slot a hash has nothing to decide.
            toeplitz: Toeplitz::from_key(&[0x6d; KEY_BYTES_MIN]),
            owners: Box::new([LcoreIndex::new(0)]),
            slot_mask: 0,
            ports_v4: PortOrder::identity(),
            ports_v6: PortOrder::identity(),
        }
    }

    /// The hash a card computes for a received segment of this connection.
    #[inline]
    pub fn hash(&self, tuple: &FlowTuple) -> u32 {
        self.toeplitz.hash(tuple)
    }

    /// The hash a card computes for a received packet without ports.
    #[inline]
    pub fn hash_addresses(&self, source: Address, destination: Address) -> u32 {
        self.toeplitz.hash_addresses(source, destination)
    }

    /// The slot of a hash.
    #[inline]
    pub const fn slot(&self, hash: u32) -> u32 {
        hash & self.slot_mask
    }

    /// The lcore that owns what hashes to `hash`.
    #[inline]
    pub fn owner_of_hash(&self, hash: u32) -> LcoreIndex {
        let slot = self.slot(hash) as usize;
        self.owners.get(slot).copied().unwrap_or_default()
    }

    /// The lcore that owns a connection.
    #[inline]
    pub fn owner(&self, tuple: &FlowTuple) -> LcoreIndex {
        if self.slot_mask == 0 {
            return self.owner_of_hash(0);
        }
        self.owner_of_hash(self.hash(tuple))
    }

    /// The owner of each slot.
    pub fn owners(&self) -> &[LcoreIndex] {
        &self.owners
    }

    /// How the local ports of a family spread over the slots.
    pub const fn ports(&self, is_v4: bool) -> &PortOrder {
        if is_v4 {
            &self.ports_v4
        } else {
            &self.ports_v6
        }
    }

    /// What a card with a table of `entries` slots must hold to agree with this map: the number of
    /// the owner, which is also the number of its queue. `None` when it is too short.
    pub fn table_for(&self, entries: usize) -> Option<Vec<u16>> {
        let fits = entries.is_power_of_two() && entries >= self.owners.len();
        let owners = self.owners.iter().cycle();
        fits.then(|| owners.take(entries).map(|owner| owner.number()).collect())
    }
}

/// A key of the longest length in use, drawn from `random`, under which ports spread over all slots
/// for every table length. Two drafts in a thousand do not and are drawn again.
pub fn random_key(mut random: impl FnMut() -> u64) -> [u8; KEY_BYTES_MAX] {
    const DRAFTS_MAX: usize = 64;
    let mut key = [0u8; KEY_BYTES_MAX];
    for _ in 0..DRAFTS_MAX {
        for chunk in key.chunks_mut(8) {
            for (byte, drawn) in chunk.iter_mut().zip(random().to_le_bytes()) {
                *byte = drawn;
            }
        }
        if RssMap::spread(&key, SLOTS_MAX, 1).is_ok() {
            break;
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Endpoint;
    use crate::rng::Rng;

    fn key(seed: u64) -> [u8; KEY_BYTES_MAX] {
        let mut rng = Rng::new(seed);
        random_key(|| rng.next_u64())
    }

    fn tuple(host: u8, remote_port: u16) -> FlowTuple {
        FlowTuple {
            local: Endpoint::new(Address::v4([10, 8, 0, 100]), 80),
            remote: Endpoint::new(Address::v4([10, 8, 1, host]), remote_port),
        }
    }

    // behaviour: NIC-19
    #[test]
    fn flows_spread_evenly_over_any_number_of_lcores() {
        for lcores in [1u16, 2, 3, 7, 16, 64] {
            let map = RssMap::spread(&key(3), SLOTS_MAX, lcores).expect("a map");
            let mut load = vec![0u32; usize::from(lcores)];
            for host in 0..32 {
                for port in 0..2_000 {
                    load[map.owner(&tuple(host, 32_768 + port)).index()] += 1;
                }
            }
            let mean = 64_000 / u32::from(lcores);
            for share in &load {
                assert!((mean * 7 / 10..mean * 13 / 10).contains(share), "{load:?}");
            }
        }
    }

    #[test]
    fn cards_with_longer_tables_agree_with_the_shortest() {
        let mut rng = Rng::new(9);
        let map = RssMap::spread(&key(1), 64, 3).expect("a map");
        for entries in [64usize, 128, 512] {
            let table = map.table_for(entries).expect("long enough");
            for _ in 0..1_000 {
                let hash = rng.next_u64() as u32;
                let queue = table[hash as usize % entries];
                assert_eq!(map.owner_of_hash(hash).number(), queue);
            }
        }
        assert_eq!(map.table_for(32), None);
        assert_eq!(map.table_for(96), None);
    }

    #[test]
    fn keys_and_tables_that_do_not_work_are_refused() {
        let error = |key: &[u8], slots| RssMap::spread(key, slots, 2).err();
        assert_eq!(error(&[1; 39], 64), Some(RssMapError::KeyTooShort));
        assert_eq!(error(&key(1), 96), Some(RssMapError::SlotCount));
        assert_eq!(error(&key(1), 1_024), Some(RssMapError::SlotCount));
        assert_eq!(error(&[0; 40], 64), Some(RssMapError::KeyHidesPorts));
        assert_eq!(error(&[0xff; 40], 64), Some(RssMapError::KeyHidesPorts));
    }

    #[test]
    fn one_lcore_owns_everything() {
        let map = RssMap::single();
        assert_eq!(map.owners(), [LcoreIndex::new(0)]);
        assert_eq!(map.owner(&tuple(1, 2)), LcoreIndex::new(0));
    }
}
