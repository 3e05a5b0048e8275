//! The keyed hash that spreads four-tuples over the flow table.
//!
//! A folded multiply (the high and the low half of a 64 x 64 bit product, XORed) of secret-masked
//! words, twice in a row: the class of wyhash and of Linux's `ehash`, which mixes under a secret
//! too. An IPv4 tuple is 12 bytes and costs two multiplications, an IPv6 one four. It is not a
//! pseudo-random function, and it needs not be: no value of it leaves this process, and what an
//! attacker could win by guessing is bounded by `FLOW_PROBES_MAX` (decision 0004).
//!
//! Sequence numbers and cookies, which peers do see, are hashed elsewhere (`tcp/isn.rs`).

use core::fmt;
use core::hash::Hasher as _;

use millrace_base::{Address, FlowTuple};
use siphasher::sip::SipHasher24;

/// The hash of one tuple: all 64 bits are good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FlowHash(u64);

/// The secret and the function.
#[derive(Clone, Copy)]
pub(crate) struct FlowHasher {
    addresses: (u64, u64),
    more: (u64, u64),
    last: (u64, u64),
}

impl FlowHash {
    /// The half that chooses the bucket.
    pub(crate) const fn position(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The part that is stored beside the owner; never 0, which marks an empty place.
    pub(crate) const fn tag(self) -> u16 {
        let tag = self.0 as u16;
        if tag == 0 { 1 } else { tag }
    }
}

impl FlowHasher {
    /// The hash under this secret.
    pub(crate) fn new(secret: [u8; 16]) -> Self {
        let word = |number: u8| {
            let mut hasher = SipHasher24::new_with_key(&secret);
            hasher.write_u8(number);
            hasher.finish()
        };
        Self {
            addresses: (word(0), word(1)),
            more: (word(2), word(3)),
            last: (word(4), word(5)),
        }
    }

    /// The hash of a tuple. Tens of instructions, no loop, no branch but for the family.
    #[inline]
    pub(crate) fn hash(&self, tuple: &FlowTuple) -> FlowHash {
        let ports = u64::from(tuple.local.port) << 16 | u64::from(tuple.remote.port);
        self.hash_parts(&tuple.local.address, &tuple.remote.address, ports)
    }

    /// The hash of a tuple whose ports do not matter.
    #[inline]
    pub(crate) fn hash_addresses(&self, tuple: &FlowTuple) -> FlowHash {
        self.hash_parts(&tuple.local.address, &tuple.remote.address, 0)
    }

    #[inline(always)] // What is constant stays so.
    fn hash_parts(&self, local: &Address, remote: &Address, ports: u64) -> FlowHash {
        let (local, remote) = (halves(local), halves(remote));
        // Both halves of an IPv4 address in one word: its upper half is constant.
        let is_v4 = local.0 | remote.0 == 0 && [local.1 as u32, remote.1 as u32] == [V4_MAPPED; 2];
        let first = if is_v4 {
            local.1 >> 32 | remote.1 & !0xffff_ffff
        } else {
            let networks = fold(local.0 ^ self.more.0, remote.0 ^ self.more.1);
            let hosts = fold(
                local.1 ^ self.more.1,
                remote.1 ^ self.more.0.rotate_left(32),
            );
            networks.rotate_left(17).wrapping_add(hosts)
        };
        let mixed = fold(first ^ self.addresses.0, ports ^ self.addresses.1);
        FlowHash(fold(mixed ^ self.last.0, self.last.1 | 1))
    }
}

impl fmt::Debug for FlowHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The secret stays one.
        write!(f, "FlowHasher")
    }
}

/// What stands in front of an IPv4 address in its mapped form, as the low half of a little-endian word.
const V4_MAPPED: u32 = u32::from_le_bytes([0, 0, 0xff, 0xff]);

/// An address as two little-endian words: which end is which makes no difference to a hash.
#[inline]
fn halves(address: &Address) -> (u64, u64) {
    let word = u128::from_le_bytes(*address.octets());
    (word as u64, (word >> 64) as u64)
}

#[inline]
const fn fold(a: u64, b: u64) -> u64 {
    let product = (a as u128).wrapping_mul(b as u128);
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_base::{Endpoint, Rng};
    use std::collections::HashSet;

    fn v6(last: u64) -> Address {
        let mut octets = [0x20; 16];
        octets[8..].copy_from_slice(&last.to_be_bytes());
        Address::v6(octets)
    }

    /// Tuples as one client network, one client and one attacker make them: only a few bits differ.
    fn families() -> Vec<Vec<FlowTuple>> {
        let local = Endpoint::new(Address::v4([10, 0, 0, 1]), 80);
        let v6_local = Endpoint::new(v6(1), 80);
        let range = 0..60_000u32;
        let tuple = |local, remote| FlowTuple { local, remote };
        vec![
            range
                .clone()
                .map(|n| tuple(local, Endpoint::new(Address::v4([10, 9, 0, 2]), n as u16)))
                .collect(),
            range
                .clone()
                .map(|n| tuple(local, Endpoint::new(Address::v4(n.to_be_bytes()), 40_000)))
                .collect(),
            range
                .clone()
                .map(|n| {
                    let address = Address::v4([10, 9, (n / 1_000) as u8, 2]);
                    tuple(local, Endpoint::new(address, 1_024 + (n % 1_000) as u16))
                })
                .collect(),
            range
                .map(|n| tuple(v6_local, Endpoint::new(v6(n.into()), 443)))
                .collect(),
        ]
    }

    // behaviour: HSH-10
    #[test]
    fn tuples_that_differ_little_spread_like_random_numbers() {
        // 60,000 balls in 6,000 bins: the fullest bin of a random function holds about 24.
        for (family, tuples) in families().iter().enumerate() {
            let hasher = FlowHasher::new([family as u8; 16]);
            let mut bins = vec![0u32; 6_000];
            let mut tags = vec![0u32; 256];
            for tuple in tuples {
                let hash = hasher.hash(tuple);
                bins[((u64::from(hash.position()) * 6_000) >> 32) as usize] += 1;
                tags[usize::from(hash.tag() >> 8)] += 1;
            }
            let variance = bins
                .iter()
                .map(|n| (f64::from(*n) - 10.0).powi(2))
                .sum::<f64>()
                / 6_000.0;
            assert!(
                (8.0..12.0).contains(&variance),
                "{family}: variance {variance}"
            );
            let fullest = bins.iter().max().copied().unwrap_or(0);
            assert!(fullest < 30, "{family}: {fullest}");
            let tag = tags.iter().max().copied().unwrap_or(0);
            assert!(
                tag < 330,
                "{family}: {tag} of 60,000 share the top of a tag"
            );
        }
    }

    #[test]
    fn no_two_of_a_quarter_million_tuples_share_all_bits_and_another_secret_is_another_order() {
        let hasher = FlowHasher::new([7; 16]);
        let other = FlowHasher::new([8; 16]);
        let mut seen = HashSet::new();
        let mut same_tag = 0;
        for tuple in families().iter().flatten() {
            let hash = hasher.hash(tuple);
            seen.insert((hash.0, *tuple));
            same_tag += usize::from(hash.tag() == other.hash(tuple).tag());
        }
        let hashes: HashSet<u64> = seen.iter().map(|(hash, _)| *hash).collect();
        let tuples: HashSet<FlowTuple> = seen.iter().map(|(_, tuple)| *tuple).collect();
        assert_eq!(hashes.len(), tuples.len());
        assert!(
            same_tag < 60,
            "{same_tag} tags of 240,000 agree under two secrets"
        );
    }

    #[test]
    fn every_bit_of_a_tuple_changes_half_of_the_hash() {
        let seed = 11;
        let mut rng = Rng::new(seed);
        let hasher = FlowHasher::new([3; 16]);
        let mut flipped = [0u64; 96];
        const ROUNDS: u64 = 400;
        for _ in 0..ROUNDS {
            let bits = u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
            let of = |bits: u128| {
                let word = |at: u32| ((bits >> at) as u32).to_be_bytes();
                hasher.hash(&FlowTuple {
                    local: Endpoint::new(Address::v4(word(0)), (bits >> 64) as u16),
                    remote: Endpoint::new(Address::v4(word(32)), (bits >> 80) as u16),
                })
            };
            let before = of(bits).0;
            for (bit, sum) in flipped.iter_mut().enumerate() {
                *sum += u64::from((of(bits ^ 1 << bit).0 ^ before).count_ones());
            }
        }
        for (bit, sum) in flipped.iter().enumerate() {
            let mean = *sum as f64 / ROUNDS as f64;
            assert!(
                (29.0..35.0).contains(&mean),
                "bit {bit}: {mean} (seed {seed})"
            );
        }
    }
}
