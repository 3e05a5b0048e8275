//! One account for each (source address, backend endpoint) that was used: which of this lcore's
//! ports are taken, as a bitmap with two levels of summary.
//!
//! ```text
//!   top:   1 word     bit g: group g has nothing to give
//!   full:  16 words   bit w: word w has nothing to give
//!   used:  1,024      bit p: the tuple at place p is taken        (all of it / number of lcores)
//! ```
//!
//! The next free place behind a cursor is found by looking at no more than one word of `used`, two
//! of `full` and one of `top`, whatever is taken. Accounts come from a pool that is taken at the
//! start and are found by a hash of their ends. One in which nothing is taken may be given to
//! another pair.

use arrayvec::ArrayVec;
use millrace_base::{Address, Endpoint, Rng};

use crate::snat::mask::Masks;
use crate::snat::shard::{Shard, WORD_PORTS, WORDS_MAX};

/// Words of `full` for one pair: at most this many groups, which fit one word of `top`.
const GROUPS_MAX: usize = WORDS_MAX / 64;
const _: () = assert!(GROUPS_MAX <= 16);

/// Accounts looked at for one to take over when the pool is empty.
const RECLAIM_LOOKS_MAX: usize = 16;

/// Places asked about at a time when a pair is exhausted.
pub(crate) const SUSPECTS_MAX: usize = 16;

const EMPTY: u32 = u32::MAX;

/// The account of one pair.
#[derive(Clone, Copy, Debug)]
struct Pair {
    local: Address,
    remote: Endpoint,
    /// `Shard::rest` of the two.
    rest: u32,
    /// The range of the source address in tables of this `epoch`.
    mask: Option<u8>,
    epoch: u32,
    /// Places that the range allows.
    capacity: u32,
    /// Taken places inside the range.
    used: u32,
    /// Taken places outside the range: taken before the range was changed.
    outside: u32,
    /// Where to look next.
    cursor: u32,
    top: u16,
}

/// How many ports a pair has, and how many are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Headroom {
    /// Ports of the range that lead to this lcore.
    pub(crate) capacity: u32,
    /// Of those, the ones in use, TIME_WAIT that cannot give way included.
    pub(crate) used: u32,
}

/// All accounts.
#[derive(Debug)]
pub(crate) struct Pairs {
    pairs: Vec<Option<Pair>>,
    used: Vec<u64>,
    full: Vec<u64>,
    words: usize,
    groups: usize,
    /// Open addressing, linear probing, at most half full.
    index: Vec<u32>,
    live: usize,
    hand: usize,
}

impl Pairs {
    /// Room for `capacity` accounts of `words` words.
    pub(crate) fn new(capacity: usize, words: usize) -> Self {
        let groups = words.div_ceil(64).min(GROUPS_MAX);
        Self {
            pairs: vec![None; capacity],
            used: vec![0; capacity.saturating_mul(words)],
            full: vec![0; capacity.saturating_mul(groups)],
            words,
            groups,
            index: vec![EMPTY; capacity.max(1).saturating_mul(2).next_power_of_two()],
            live: 0,
            hand: 0,
        }
    }

    /// The account of a pair.
    #[inline]
    pub(crate) fn find(&self, local: Address, remote: Endpoint) -> Option<u32> {
        let mask = self.index.len().wrapping_sub(1);
        let mut at = hash(local, remote) & mask;
        for _ in 0..self.index.len() {
            let number = *self.index.get(at)?;
            if number == EMPTY {
                return None;
            }
            if let Some(pair) = self.get(number)
                && pair.remote == remote
                && pair.local == local
            {
                return Some(number);
            }
            at = at.wrapping_add(1) & mask;
        }
        None
    }

    /// Opens an account; `None` when the pool is empty and none of those looked at is idle.
    pub(crate) fn open(
        &mut self,
        local: Address,
        remote: Endpoint,
        shard: &Shard,
        rng: &mut Rng,
    ) -> Option<u32> {
        let number = self.take_account()?;
        let places = self.words.saturating_mul(WORD_PORTS) as u32;
        *self.pairs.get_mut(number as usize)? = Some(Pair {
            local,
            remote,
            rest: shard.rest(local, remote),
            mask: None,
            epoch: 0,
            capacity: 0,
            used: 0,
            outside: 0,
            cursor: rng.below(places),
            top: 0,
        });
        self.live = self.live.saturating_add(1);
        let mask = self.index.len().wrapping_sub(1);
        let mut at = hash(local, remote) & mask;
        while *self.index.get(at)? != EMPTY {
            at = at.wrapping_add(1) & mask;
        }
        *self.index.get_mut(at)? = number;
        Some(number)
    }

    /// Brings an account up to date with the tables of `epoch`, in which its address has the range
    /// `mask`. O(1) when it is, O(words) when it is not.
    #[inline]
    pub(crate) fn refresh(
        &mut self,
        number: u32,
        epoch: u32,
        mask: Option<u8>,
        masks: &Masks,
        shard: &Shard,
    ) {
        if self.get(number).is_some_and(|pair| pair.epoch != epoch) {
            self.recount(number, epoch, mask, masks, shard);
        }
    }

    /// Takes the next free place behind the last one taken.
    #[inline]
    pub(crate) fn take(&mut self, number: u32, masks: &Masks, shard: &Shard) -> Option<u16> {
        let pair = *self.get(number)?;
        if pair.used >= pair.capacity {
            return None;
        }
        let start = pair.cursor as usize;
        let mut word = (start / WORD_PORTS).min(self.words.saturating_sub(1));
        let mut free = self.free(number, &pair, word, masks, shard);
        let mut candidates = free & (u64::MAX << (start % WORD_PORTS));
        if candidates == 0 {
            word = self.next_word(number, &pair, word)?;
            free = self.free(number, &pair, word, masks, shard);
            candidates = free;
        }
        let bit = candidates.trailing_zeros() as usize;
        let place = word.saturating_mul(WORD_PORTS) | (bit & 63);
        self.mark(number, place, free.is_power_of_two());
        let pair = self.get_mut(number)?;
        pair.used = pair.used.saturating_add(1);
        pair.cursor = place.saturating_add(1) as u32;
        if pair.cursor as usize >= self.words.saturating_mul(WORD_PORTS) {
            self.get_mut(number)?.cursor = 0;
        }
        let pair = self.get(number)?;
        Some(shard.port(pair.local.is_v4(), pair.rest, place))
    }

    /// Notes that a tuple is taken, by whomever. Nothing changes when it was.
    pub(crate) fn occupy(&mut self, number: u32, port: u16, masks: &Masks, shard: &Shard) {
        self.change(number, port, true, masks, shard);
    }

    /// Notes that a tuple is free. Nothing changes when it was.
    pub(crate) fn release(&mut self, number: u32, port: u16, masks: &Masks, shard: &Shard) {
        self.change(number, port, false, masks, shard);
    }

    /// The taken ports among the next places behind the cursor: whom to ask when nothing is left and
    /// a notice may have been lost.
    pub(crate) fn suspects(&mut self, number: u32, shard: &Shard) -> ArrayVec<u16, SUSPECTS_MAX> {
        let places = self.words.saturating_mul(WORD_PORTS).max(1);
        let Some(pair) = self.get(number).copied() else {
            return ArrayVec::new();
        };
        let start = pair.cursor as usize;
        let at = |step: usize| start.wrapping_add(step).checked_rem(places).unwrap_or(0);
        if let Some(pair) = self.get_mut(number) {
            pair.cursor = at(SUSPECTS_MAX) as u32;
        }
        (0..SUSPECTS_MAX)
            .map(at)
            .filter(|place| self.is_taken(number, *place))
            .map(|place| shard.port(pair.local.is_v4(), pair.rest, place))
            .collect()
    }

    /// Capacity and use of a pair as of its last refresh.
    pub(crate) fn headroom(&self, number: u32) -> Headroom {
        self.get(number)
            .map_or(Headroom::default(), |pair| Headroom {
                capacity: pair.capacity,
                used: pair.used,
            })
    }

    /// Accounts that are open.
    pub(crate) const fn len(&self) -> usize {
        self.live
    }

    fn get(&self, number: u32) -> Option<&Pair> {
        self.pairs.get(number as usize)?.as_ref()
    }

    fn get_mut(&mut self, number: u32) -> Option<&mut Pair> {
        self.pairs.get_mut(number as usize)?.as_mut()
    }

    /// An unused account, or one in which nothing is taken.
    fn take_account(&mut self) -> Option<u32> {
        let capacity = self.pairs.len();
        if self.live < capacity {
            // Accounts are closed only to be opened again at once, so the unused ones are the last.
            return u32::try_from(self.live).ok();
        }
        for _ in 0..RECLAIM_LOOKS_MAX.min(capacity) {
            let number = self.hand as u32;
            self.hand = self.hand.wrapping_add(1).checked_rem(capacity).unwrap_or(0);
            let idle = self.get(number);
            if idle.is_some_and(|pair| pair.used == 0 && pair.outside == 0) {
                self.close(number);
                return Some(number);
            }
        }
        None
    }

    /// Takes an account out of the index; what it hid behind it in a run of entries moves up.
    fn close(&mut self, number: u32) {
        let mask = self.index.len().wrapping_sub(1);
        let Some(pair) = self.get(number).copied() else {
            return;
        };
        let home = hash(pair.local, pair.remote) & mask;
        let entries = (0..self.index.len()).map(|step| home.wrapping_add(step) & mask);
        let found = entries.into_iter().find(|at| {
            let entry = self.index.get(*at).copied();
            entry.is_none_or(|entry| entry == number || entry == EMPTY)
        });
        let Some(mut hole) = found else { return };
        let mut at = hole;
        for _ in 0..self.index.len() {
            at = at.wrapping_add(1) & mask;
            let entry = self.index.get(at).copied().unwrap_or(EMPTY);
            let Some(other) = self.get(entry) else { break };
            let distance = at.wrapping_sub(hash(other.local, other.remote)) & mask;
            if distance >= at.wrapping_sub(hole) & mask {
                if let Some(slot) = self.index.get_mut(hole) {
                    *slot = entry;
                }
                hole = at;
            }
        }
        if let Some(slot) = self.index.get_mut(hole) {
            *slot = EMPTY;
        }
        if let Some(slot) = self.pairs.get_mut(number as usize) {
            *slot = None;
        }
        self.live = self.live.saturating_sub(1);
    }

    /// Free places of one word.
    #[inline]
    fn free(&self, number: u32, pair: &Pair, word: usize, masks: &Masks, shard: &Shard) -> u64 {
        let allowed = masks.word(pair.mask, shard.mask_word(pair.rest, word));
        let used = self.used.get(self.at(number, word));
        allowed & !used.copied().unwrap_or(u64::MAX)
    }

    /// The first word behind `word`, around the end, that has something to give.
    #[inline]
    fn next_word(&self, number: u32, pair: &Pair, word: usize) -> Option<usize> {
        let group = word / 64;
        // Twice, because a shift by all bits is none.
        let later = u64::MAX << (word % 64) << 1;
        let open = !self.full_word(number, group) & later;
        if open != 0 {
            return Some(first_of(group, open));
        }
        let open_groups = !pair.top;
        let group = match open_groups & (u16::MAX << (group % 16) << 1) {
            0 => open_groups.trailing_zeros() as usize,
            groups => groups.trailing_zeros() as usize,
        };
        let open = !self.full_word(number, group);
        (group < self.groups && open != 0).then(|| first_of(group, open))
    }

    fn full_word(&self, number: u32, group: usize) -> u64 {
        let at = (number as usize).saturating_mul(self.groups);
        let word = self.full.get(at.saturating_add(group));
        word.copied().unwrap_or(u64::MAX)
    }

    fn at(&self, number: u32, word: usize) -> usize {
        (number as usize)
            .saturating_mul(self.words)
            .saturating_add(word)
    }

    fn is_taken(&self, number: u32, place: usize) -> bool {
        let word = self.used.get(self.at(number, place / WORD_PORTS));
        word.is_some_and(|word| (word >> (place % WORD_PORTS)) & 1 == 1)
    }

    /// Sets a place's bit, and the summaries' when its word has nothing left.
    fn mark(&mut self, number: u32, place: usize, is_last: bool) {
        let word = place / WORD_PORTS;
        let at = self.at(number, word);
        if let Some(bits) = self.used.get_mut(at) {
            *bits |= 1u64 << (place % WORD_PORTS);
        }
        if is_last {
            self.set_full(number, word, true);
        }
    }

    fn set_full(&mut self, number: u32, word: usize, is_full: bool) {
        let group = word / 64;
        let at = (number as usize)
            .saturating_mul(self.groups)
            .saturating_add(group);
        let Some(bits) = self.full.get_mut(at) else {
            return;
        };
        let bit = 1u64 << (word % 64);
        *bits = if is_full { *bits | bit } else { *bits & !bit };
        let none_left = *bits == u64::MAX;
        let group_bit = 1u16.checked_shl(group as u32).unwrap_or(0);
        if let Some(pair) = self.get_mut(number) {
            pair.top = if none_left {
                pair.top | group_bit
            } else {
                pair.top & !group_bit
            };
        }
    }

    fn change(&mut self, number: u32, port: u16, taken: bool, masks: &Masks, shard: &Shard) {
        let Some(pair) = self.get(number).copied() else {
            return;
        };
        let Some(place) = shard.place(pair.local.is_v4(), pair.rest, port) else {
            return;
        };
        if self.is_taken(number, place) == taken {
            return;
        }
        let word = place / WORD_PORTS;
        let at = self.at(number, word);
        if let Some(bits) = self.used.get_mut(at) {
            *bits ^= 1u64 << (place % WORD_PORTS);
        }
        let allowed = masks.word(pair.mask, shard.mask_word(pair.rest, word));
        let inside = (allowed >> (place % WORD_PORTS)) & 1 == 1;
        let is_full = self.free(number, &pair, word, masks, shard) == 0;
        self.set_full(number, word, is_full);
        let Some(pair) = self.get_mut(number) else {
            return;
        };
        let count = if inside {
            &mut pair.used
        } else {
            &mut pair.outside
        };
        *count = if taken {
            count.saturating_add(1)
        } else {
            count.saturating_sub(1)
        };
    }

    /// The range of the address has changed, or the account is new.
    fn recount(&mut self, number: u32, epoch: u32, mask: Option<u8>, masks: &Masks, shard: &Shard) {
        let Some(pair) = self.get_mut(number) else {
            return;
        };
        pair.mask = mask;
        pair.epoch = epoch;
        pair.top = u16::MAX;
        let pair = *pair;
        let first = (number as usize).saturating_mul(self.groups);
        let end = first.saturating_add(self.groups);
        if let Some(full) = self.full.get_mut(first..end) {
            full.fill(u64::MAX);
        }
        let (mut capacity, mut used, mut outside) = (0u32, 0u32, 0u32);
        for word in 0..self.words {
            let allowed = masks.word(mask, shard.mask_word(pair.rest, word));
            let taken = self.used.get(self.at(number, word)).copied().unwrap_or(0);
            capacity = capacity.saturating_add(allowed.count_ones());
            used = used.saturating_add((taken & allowed).count_ones());
            outside = outside.saturating_add((taken & !allowed).count_ones());
            if allowed & !taken != 0 {
                self.set_full(number, word, false);
            }
        }
        if let Some(pair) = self.get_mut(number) {
            pair.capacity = capacity;
            pair.used = used;
            pair.outside = outside;
        }
    }
}

/// The first word of a group whose bit is set.
fn first_of(group: usize, bits: u64) -> usize {
    group.saturating_mul(64) | (bits.trailing_zeros() as usize & 63)
}

/// Spreads pairs over the index. An operator's addresses, not an attacker's: no key.
#[inline]
fn hash(local: Address, remote: Endpoint) -> usize {
    let fold = |address: Address| {
        let bits = u128::from_be_bytes(*address.octets());
        ((bits >> 64) as u64) ^ (bits as u64)
    };
    let mut bits = fold(local).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits ^= fold(remote.address).rotate_left(32) ^ u64::from(remote.port);
    bits = (bits ^ (bits >> 32)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (bits ^ (bits >> 29)) as usize
}
