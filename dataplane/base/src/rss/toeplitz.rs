//! The Toeplitz hash of Microsoft's RSS specification ("RSS Hash Types", "Verifying the RSS Hash
//! Calculation"), from tables.
//!
//! The hash of an input is the XOR of one 32-bit window of the key for each bit that is set, so the
//! contribution of a byte depends on nothing but its place and its value. All of them are computed
//! once for a key: an IPv4 tuple then costs 12 loads, an IPv6 tuple 36. The input is the received
//! frame's source address, destination address, source port, destination port, in network order;
//! addresses of both families begin at place 0, so that one table serves both.
//!
//! Not a secret-keeping hash: whoever sees enough queues can solve for the key (it is linear).

use alloc::boxed::Box;
use alloc::vec;

use crate::address::{Address, FlowTuple};

/// Bytes of the longest input: two IPv6 addresses and two ports.
pub(crate) const INPUT_BYTES_MAX: usize = 36;
/// Where the ports begin in an IPv4 input.
pub(crate) const PORTS_AT_V4: usize = 8;
/// Where the ports begin in an IPv6 input.
pub(crate) const PORTS_AT_V6: usize = 32;

/// The shortest key that covers an IPv6 tuple, bytes: the window of its last bit ends there.
pub const KEY_BYTES_MIN: usize = INPUT_BYTES_MAX + 4;
/// The longest key in use (Intel's 700 and 800 series), bytes.
pub const KEY_BYTES_MAX: usize = 52;

/// One key's tables, 36 KiB.
#[derive(Clone)]
pub struct Toeplitz {
    places: Box<[[u32; 256]]>,
}

impl Toeplitz {
    /// The tables of `key`, whose first 40 bytes decide; `None` when it is shorter.
    pub fn new(key: &[u8]) -> Option<Self> {
        key.first_chunk().map(Self::from_key)
    }

    /// The tables of these 40 bytes.
    pub fn from_key(key: &[u8; KEY_BYTES_MIN]) -> Self {
        let mut places = vec![[0u32; 256]; INPUT_BYTES_MAX].into_boxed_slice();
        for (table, window) in places.iter_mut().zip(key.windows(5)) {
            let window = window
                .iter()
                .fold(0u64, |bits, byte| (bits << 8) | u64::from(*byte));
            for (value, hash) in table.iter_mut().enumerate() {
                // The highest bit of a byte meets the first 32 of these 40 bits of the key.
                for bit in (0..8u32).filter(|bit| (value >> bit) & 1 == 1) {
                    *hash ^= (window >> bit >> 1) as u32;
                }
            }
        }
        Self { places }
    }

    /// The hash of a connection, from its tuple as we see it: received frames carry `remote` as
    /// their source and `local` as their destination.
    #[inline]
    pub fn hash(&self, tuple: &FlowTuple) -> u32 {
        let addresses = self.hash_addresses(tuple.remote.address, tuple.local.address);
        let at = ports_at(tuple.local.address);
        let [a, b] = tuple.remote.port.to_be_bytes();
        let [c, d] = tuple.local.port.to_be_bytes();
        addresses ^ self.run(at, [a, b, c, d])
    }

    /// The hash over the addresses alone, of what has no ports to hash: fragments, other protocols.
    #[inline]
    pub fn hash_addresses(&self, source: Address, destination: Address) -> u32 {
        match (source.as_v4(), destination.as_v4()) {
            (Some(source), Some(destination)) => self.run(0, source) ^ self.run(4, destination),
            _ => self.run(0, *source.octets()) ^ self.run(16, *destination.octets()),
        }
    }

    /// The hash of `input`, which begins at place `at` of the whole; the rest counts as zeros.
    #[inline]
    pub fn run<const N: usize>(&self, at: usize, input: [u8; N]) -> u32 {
        let places = self.places.get(at..).unwrap_or_default();
        let pairs = places.iter().zip(input);
        pairs.fold(0, |hash, (table, byte)| {
            hash ^ table.get(usize::from(byte)).copied().unwrap_or(0)
        })
    }
}

/// Where the ports begin in the input of an address's family.
pub(crate) fn ports_at(address: Address) -> usize {
    if address.is_v4() {
        PORTS_AT_V4
    } else {
        PORTS_AT_V6
    }
}

impl core::fmt::Debug for Toeplitz {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // A key that is printed is a key that is known.
        f.write_str("Toeplitz")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Endpoint;
    use crate::rng::Rng;
    use core::net::IpAddr;

    /// The key of the specification's examples.
    const KEY: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f,
        0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
        0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    /// Destination (us), source (the peer), hash with ports, hash without: "Verifying the RSS Hash
    /// Calculation".
    const VECTORS: [(&str, u16, &str, u16, u32, u32); 8] = [
        (
            "161.142.100.80",
            1766,
            "66.9.149.187",
            2794,
            0x51cc_c178,
            0x323e_8fc2,
        ),
        (
            "65.69.140.83",
            4739,
            "199.92.111.2",
            14230,
            0xc626_b0ea,
            0xd718_262a,
        ),
        (
            "12.22.207.184",
            38024,
            "24.19.198.95",
            12898,
            0x5c2b_394a,
            0xd2d0_a5de,
        ),
        (
            "209.142.163.6",
            2217,
            "38.27.205.30",
            48228,
            0xafc7_327f,
            0x8298_9176,
        ),
        (
            "202.188.127.2",
            1303,
            "153.39.163.191",
            44251,
            0x10e8_28a2,
            0x5d18_09c5,
        ),
        (
            "3ffe:2501:200:3::1",
            1766,
            "3ffe:2501:200:1fff::7",
            2794,
            0x4020_7d3d,
            0x2cc1_8cd5,
        ),
        (
            "ff02::1",
            4739,
            "3ffe:501:8::260:97ff:fe40:efab",
            14230,
            0xdde5_1bbf,
            0x0f0c_461c,
        ),
        (
            "fe80::200:f8ff:fe21:67cf",
            38024,
            "3ffe:1900:4545:3:200:f8ff:fe21:67cf",
            44251,
            0x02d1_feef,
            0x4b61_e985,
        ),
    ];

    fn address(text: &str) -> Address {
        Address::from(text.parse::<IpAddr>().expect("test address"))
    }

    #[test]
    fn the_vectors_of_the_specification_are_met() {
        let toeplitz = Toeplitz::new(&KEY).expect("40 bytes");
        for (local, local_port, remote, remote_port, with_ports, without) in VECTORS {
            let tuple = FlowTuple {
                local: Endpoint::new(address(local), local_port),
                remote: Endpoint::new(address(remote), remote_port),
            };
            assert_eq!(toeplitz.hash(&tuple), with_ports, "{tuple:?}");
            let addresses = toeplitz.hash_addresses(tuple.remote.address, tuple.local.address);
            assert_eq!(addresses, without, "{tuple:?}");
        }
    }

    /// The definition: shift the key along, one bit of input at a time.
    fn slow(key: &[u8], input: &[u8]) -> u32 {
        let bit = |bytes: &[u8], at: usize| u32::from((bytes[at / 8] >> (7 - at % 8)) & 1);
        let window = |at: usize| (at..at + 32).fold(0u32, |word, at| (word << 1) | bit(key, at));
        (0..input.len() * 8)
            .filter(|at| bit(input, *at) == 1)
            .fold(0, |hash, at| hash ^ window(at))
    }

    #[test]
    fn tables_say_what_the_definition_says_for_any_key_and_input() {
        let mut rng = Rng::new(5);
        for _ in 0..200 {
            let key: [u8; 52] = core::array::from_fn(|_| rng.below(256) as u8);
            let input: [u8; 36] = core::array::from_fn(|_| rng.below(256) as u8);
            let toeplitz = Toeplitz::new(&key).expect("long enough");
            assert_eq!(toeplitz.run(0, input), slow(&key, &input));
            let short = Toeplitz::new(&key[..40]).expect("long enough");
            assert_eq!(
                short.run(0, input),
                slow(&key, &input),
                "a 52-byte key is its first 40 bytes, as far as tuples go"
            );
        }
        assert!(Toeplitz::new(&KEY[..39]).is_none());
    }
}
