//! How the 65,536 local ports spread over the slots, in closed form.
//!
//! The hash is linear over bits, so the slot of a reply is `slot(rest of the tuple) XOR
//! slot(port)`. Ports with the same contribution `slot(port)` are one *bucket*: a coset of the
//! ports that contribute nothing. With `2^k` slots and a key that reaches all of them there are
//! `2^k` buckets of `2^(16-k)` ports each, and the port at a place of a bucket is one XOR: the
//! bucket's first port with the contribution-free port of that number. Three tables of at most 4
//! KiB in all say both ways.

use alloc::boxed::Box;
use alloc::vec;

use super::toeplitz::Toeplitz;

const PORT_BITS: u32 = 16;

/// The ports of one family in the order of their buckets.
#[derive(Debug)]
pub struct PortOrder {
    /// One port of each bucket, by the bucket's contribution.
    base: Box<[u16]>,
    /// The ports that contribute nothing, by number; a linear space.
    kernel: Box<[u16]>,
    /// The contribution of a port: of its high byte, XOR of its low byte.
    contribution: [[u16; 256]; 2],
    /// The number of a port of the kernel: of its high byte, XOR of its low byte.
    number: [[u16; 256]; 2],
}

impl PortOrder {
    /// The order for `slots` slots (a power of two); `ports_at` is where the source port begins in
    /// the input, and the local one is behind it. `None` when some slot is reached by no port.
    pub(crate) fn new(toeplitz: &Toeplitz, ports_at: usize, slots: usize) -> Option<Self> {
        let mask = (slots as u32).wrapping_sub(1);
        let of_bit = |bit: u32| {
            let port = 1u16.checked_shl(bit).unwrap_or(0);
            let local_at = ports_at.saturating_add(2);
            (toeplitz.run(local_at, port.to_be_bytes()) & mask) as u16
        };
        let spaces = Spaces::eliminate(of_bit)?;
        (spaces.rank == slots.trailing_zeros()).then(|| spaces.order(slots, of_bit))
    }

    /// The order for one slot: ports as they are. Needs no key.
    pub(crate) fn identity() -> Self {
        Self {
            base: Box::new([0]),
            kernel: (0..=u16::MAX).collect(),
            contribution: [[0; 256]; 2],
            number: by_bytes(|byte, shift| byte.checked_shl(shift).unwrap_or(0) as u16),
        }
    }

    /// Ports in one bucket, a power of two from 128.
    pub const fn bucket_ports(&self) -> usize {
        self.kernel.len()
    }

    /// The port at a place (`0 .. bucket_ports`) of the bucket with this contribution.
    #[inline]
    pub fn port(&self, contribution: u32, place: usize) -> u16 {
        let base = self.base.get(contribution as usize).copied().unwrap_or(0);
        base ^ self.kernel.get(place).copied().unwrap_or(0)
    }

    /// The contribution of a port to the slot.
    #[inline]
    pub fn contribution(&self, port: u16) -> u32 {
        let [high, low] = port.to_be_bytes().map(usize::from);
        let [of_high, of_low] = &self.contribution;
        u32::from(entry(of_high, high) ^ entry(of_low, low))
    }

    /// The place of a port in its bucket.
    #[inline]
    pub fn place(&self, port: u16) -> usize {
        let base = self.base.get(self.contribution(port) as usize);
        let [high, low] = (port ^ base.copied().unwrap_or(0))
            .to_be_bytes()
            .map(usize::from);
        let [of_high, of_low] = &self.number;
        usize::from(entry(of_high, high) ^ entry(of_low, low))
    }
}

fn entry(table: &[u16; 256], index: usize) -> u16 {
    table.get(index).copied().unwrap_or(0)
}

/// The port bits as a linear map onto the slot bits: which combinations reach which slot bit, and
/// which reach nothing.
#[derive(Debug, Default)]
struct Spaces {
    /// For each slot bit: a combination of port bits that contributes a value with this leading
    /// bit, and the value.
    pivots: [Option<(u16, u16)>; PORT_BITS as usize],
    /// Combinations that contribute nothing, in echelon form: each has a leading bit of its own.
    kernel: [u16; PORT_BITS as usize],
    kernel_len: usize,
    rank: u32,
}

impl Spaces {
    /// Gaussian elimination over the contributions of the single bits.
    fn eliminate(of_bit: impl Fn(u32) -> u16) -> Option<Self> {
        let mut spaces = Self::default();
        for bit in 0..PORT_BITS {
            // The bit itself leads its combination, because the others in it are lower.
            let mut ports = 1u16.checked_shl(bit)?;
            let mut value = of_bit(bit);
            while value != 0 {
                let leading = value.ilog2() as usize;
                let pivot = spaces.pivots.get_mut(leading)?;
                match *pivot {
                    Some((other_ports, other_value)) => {
                        ports ^= other_ports;
                        value ^= other_value;
                    }
                    None => {
                        *pivot = Some((ports, value));
                        spaces.rank = spaces.rank.saturating_add(1);
                        break;
                    }
                }
            }
            if value == 0 {
                *spaces.kernel.get_mut(spaces.kernel_len)? = ports;
                spaces.kernel_len = spaces.kernel_len.saturating_add(1);
            }
        }
        Some(spaces)
    }

    /// The tables. Every slot has a pivot for each of its bits: the rank was checked.
    fn order(&self, slots: usize, of_bit: impl Fn(u32) -> u16) -> PortOrder {
        let dimensions = PORT_BITS.saturating_sub(slots.trailing_zeros()) as usize;
        let basis = self.kernel.get(..dimensions).unwrap_or_default();
        let mut base = vec![0u16; slots].into_boxed_slice();
        for (slot, port) in base.iter_mut().enumerate() {
            *port = self.reach(slot as u16);
        }
        let mut kernel = vec![0u16; 1usize << basis.len()].into_boxed_slice();
        for (number, port) in kernel.iter_mut().enumerate() {
            let chosen = basis.iter().enumerate();
            *port = chosen
                .filter(|(bit, _)| (number >> bit) & 1 == 1)
                .fold(0, |sum, (_, vector)| sum ^ vector);
        }
        PortOrder {
            base,
            number: Self::numbers(basis),
            kernel,
            contribution: by_bytes(|byte, shift| {
                (0..8u32)
                    .filter(|bit| (byte >> bit) & 1 == 1)
                    .fold(0, |sum, bit| sum ^ of_bit(bit.saturating_add(shift)))
            }),
        }
    }

    /// Some port that contributes exactly `slot`.
    fn reach(&self, slot: u16) -> u16 {
        let (mut left, mut port) = (slot, 0u16);
        for pivot in self.pivots.iter().rev().flatten() {
            let (ports, value) = *pivot;
            let leading = value.checked_ilog2().unwrap_or(0);
            if (left >> leading) & 1 == 1 {
                left ^= value;
                port ^= ports;
            }
        }
        port
    }

    /// Which combination of the basis a port of the kernel is, by back substitution. The answer is
    /// linear in the port, so that it may be asked for the two bytes apart.
    fn numbers(basis: &[u16]) -> [[u16; 256]; 2] {
        by_bytes(|byte, shift| {
            let mut left = byte.checked_shl(shift).unwrap_or(0) as u16;
            let mut number = 0u16;
            for (index, vector) in basis.iter().enumerate().rev() {
                let lead = vector.checked_ilog2().unwrap_or(0);
                if (left >> lead) & 1 == 1 {
                    left ^= vector;
                    number |= 1u16.checked_shl(index as u32).unwrap_or(0);
                }
            }
            number
        })
    }
}

/// A table for the high and one for the low byte of a port.
fn by_bytes(of: impl Fn(u32, u32) -> u16) -> [[u16; 256]; 2] {
    [8, 0].map(|shift| core::array::from_fn(|byte| of(byte as u32, shift)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use crate::rss::toeplitz::{PORTS_AT_V4, PORTS_AT_V6};
    use crate::rss::{random_key, toeplitz::KEY_BYTES_MIN};

    #[test]
    fn every_port_has_one_place_in_the_bucket_of_its_hash() {
        for seed in 0..4 {
            let mut rng = Rng::new(seed);
            let key = random_key(|| rng.next_u64());
            let toeplitz = Toeplitz::new(&key).expect("long enough");
            for (ports_at, slots) in [(PORTS_AT_V4, 512), (PORTS_AT_V6, 128), (PORTS_AT_V6, 1)] {
                let order = PortOrder::new(&toeplitz, ports_at, slots).expect("full rank");
                assert_eq!(order.bucket_ports(), 65_536 / slots);
                for port in 0..=u16::MAX {
                    let hash = toeplitz.run(ports_at + 2, port.to_be_bytes());
                    let slot = hash & (slots as u32 - 1);
                    assert_eq!(order.contribution(port), slot, "seed {seed}");
                    assert!(order.place(port) < order.bucket_ports());
                    assert_eq!(order.port(slot, order.place(port)), port, "seed {seed}");
                }
            }
        }
    }

    #[test]
    fn one_slot_keeps_the_ports_in_order() {
        let order = PortOrder::identity();
        for port in [0, 1, 80, 1_024, u16::MAX] {
            assert_eq!(order.place(port), usize::from(port));
            assert_eq!(order.port(0, usize::from(port)), port);
        }
    }

    // The key for symmetric hashing repeats 16 bits: its windows still differ by rotation, but a
    // key of equal bytes has none that differ.
    #[test]
    fn a_key_that_hides_ports_is_found_out() {
        let order = |key: &[u8]| {
            let toeplitz = Toeplitz::new(key).expect("long enough");
            PortOrder::new(&toeplitz, PORTS_AT_V4, 128)
        };
        let symmetric: Vec<u8> = [0x6d, 0x5a].into_iter().cycle().take(40).collect();
        assert!(order(&symmetric).is_some());
        assert!(order(&[0x55; KEY_BYTES_MIN]).is_none());
    }
}
