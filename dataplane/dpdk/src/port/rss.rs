//! Receive-side scaling: which of a frame's fields a device hashes, with which key, and which queue
//! the hash picks.
//!
//! The device computes `queue = reta[toeplitz(key, fields) % reta.len()]`. Key and table as the
//! running device reports them are what the software must predict with; some drivers show a table
//! that they do not use, so the worker proves the prediction with probes before it relies on it.

use core::fmt;
use core::ops::{BitAnd, BitOr};

use millrace_dpdk_sys as sys;

use crate::error::Errno;

/// Which packets are hashed over which fields.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RssTypes(u64);

/// What to ask of the device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RssConfig {
    /// Packet types to hash.
    pub types: RssTypes,
    /// The Toeplitz key, in the order of the wire. 40 bytes serve IPv6; some devices take 52. A
    /// longer one is cut to the device's length, which changes no hash over addresses and ports (36
    /// bytes of input); a shorter one is an error.
    pub key: Vec<u8>,
}

/// What a running device does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rss {
    /// Packet types that are hashed.
    pub types: RssTypes,
    /// The key; empty where the driver does not tell.
    pub key: Vec<u8>,
    /// The redirection table; empty where the device has none or the driver does not tell.
    pub reta: Vec<u16>,
}

const NAMES: [(RssTypes, &str); 7] = [
    (RssTypes::IPV4, "ipv4"),
    (RssTypes::IPV4_TCP, "ipv4-tcp"),
    (RssTypes::IPV4_UDP, "ipv4-udp"),
    (RssTypes::IPV6, "ipv6"),
    (RssTypes::IPV6_TCP, "ipv6-tcp"),
    (RssTypes::IPV6_UDP, "ipv6-udp"),
    (RssTypes::IPV6_TCP_EX, "ipv6-tcp-ex"),
];

impl RssTypes {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// IPv4 addresses, for what the others do not cover.
    pub const IPV4: Self = Self(sys::MR_RSS_IPV4);
    /// IPv4 addresses and TCP ports.
    pub const IPV4_TCP: Self = Self(sys::MR_RSS_NONFRAG_IPV4_TCP);
    /// IPv4 addresses and UDP ports.
    pub const IPV4_UDP: Self = Self(sys::MR_RSS_NONFRAG_IPV4_UDP);
    /// IPv6 addresses, for what the others do not cover.
    pub const IPV6: Self = Self(sys::MR_RSS_IPV6);
    /// IPv6 addresses and TCP ports.
    pub const IPV6_TCP: Self = Self(sys::MR_RSS_NONFRAG_IPV6_TCP);
    /// IPv6 addresses and UDP ports.
    pub const IPV6_UDP: Self = Self(sys::MR_RSS_NONFRAG_IPV6_UDP);

    /// IPv6 addresses and TCP ports, also behind extension headers, whose home address then counts
    /// instead of the source. Without such headers the same hash as [`IPV6_TCP`](Self::IPV6_TCP);
    /// QEMU's 82576 computes that one only when this one is asked for.
    pub const IPV6_TCP_EX: Self = Self(sys::MR_RSS_IPV6_TCP_EX);

    /// What a TCP load balancer needs: TCP by ports, the rest by addresses.
    pub const TCP: Self = Self(Self::IPV4.0 | Self::IPV4_TCP.0 | Self::IPV6.0 | Self::IPV6_TCP.0);

    /// Whether all of `other` are in the set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0
    }
}

impl BitOr for RssTypes {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for RssTypes {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl fmt::Display for RssTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let mut rest = self.0;
        let mut words = Vec::new();
        for (types, name) in NAMES.into_iter().filter(|(types, _)| self.contains(*types)) {
            rest &= !types.0;
            words.push(name.to_owned());
        }
        if rest != 0 {
            words.push(format!("others:{rest:#x}"));
        }
        f.write_str(&words.join(" "))
    }
}

impl fmt::Debug for RssTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Asks the running device what it does. `None` when it hashes nothing.
pub(crate) fn query(port: u16, key_bytes: usize, reta_entries: u16) -> Option<Rss> {
    let mut key = vec![0_u8; key_bytes.max(40)];
    let mut conf = sys::rte_eth_rss_conf {
        rss_key: key.as_mut_ptr(),
        rss_key_len: u8::try_from(key.len()).unwrap_or(u8::MAX),
        ..Default::default()
    };
    // SAFETY: `rss_key` points to `rss_key_len` writable bytes and the device's key is no longer
    // than that.
    let status = unsafe { sys::rte_eth_dev_rss_hash_conf_get(port, &raw mut conf) };
    let types = if status == 0 {
        RssTypes(conf.rss_hf)
    } else {
        RssTypes::NONE
    };
    if types.is_empty() {
        return None;
    }
    key.truncate(if key_bytes == 0 {
        0
    } else {
        usize::from(conf.rss_key_len).min(key_bytes)
    });
    Some(Rss {
        types,
        key,
        reta: reta(port, reta_entries).unwrap_or_default(),
    })
}

fn reta(port: u16, entries: u16) -> Result<Vec<u16>, Errno> {
    let mut groups = groups(entries);
    // SAFETY: there are enough groups for `entries` entries.
    Errno::check(unsafe { sys::rte_eth_dev_rss_reta_query(port, groups.as_mut_ptr(), entries) })?;
    let mut table: Vec<u16> = groups.iter().flat_map(|group| group.reta).collect();
    table.truncate(usize::from(entries));
    Ok(table)
}

/// Writes the redirection table.
pub(crate) fn set_reta(port: u16, table: &[u16]) -> Result<(), Errno> {
    let entries = u16::try_from(table.len()).map_err(|_| Errno::new(libc::EINVAL))?;
    let mut groups = groups(entries);
    for (group, queues) in groups.iter_mut().zip(table.chunks(GROUP)) {
        group.reta[..queues.len()].copy_from_slice(queues);
    }
    // SAFETY: there are enough groups for `entries` entries.
    let status = unsafe { sys::rte_eth_dev_rss_reta_update(port, groups.as_mut_ptr(), entries) };
    Errno::check(status).map(drop)
}

const GROUP: usize = sys::RTE_ETH_RETA_GROUP_SIZE as usize;

/// DPDK moves the table in groups of 64 entries with a mask of those that are meant.
fn groups(entries: u16) -> Vec<sys::rte_eth_rss_reta_entry64> {
    let mut left = usize::from(entries);
    let mut groups = Vec::new();
    while left != 0 {
        let here = left.min(GROUP);
        let mask = if here == GROUP {
            u64::MAX
        } else {
            (1 << here) - 1
        };
        groups.push(sys::rte_eth_rss_reta_entry64 {
            mask,
            ..Default::default()
        });
        left -= here;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_groups_cover_exactly_the_entries() {
        let masks = |entries| {
            groups(entries)
                .iter()
                .map(|group| group.mask)
                .collect::<Vec<_>>()
        };
        assert_eq!(masks(0), []);
        assert_eq!(masks(2), [0b11]);
        assert_eq!(masks(128), [u64::MAX, u64::MAX]);
        assert_eq!(masks(65), [u64::MAX, 1]);
    }

    // The reference that DPDK's own applications use, on the words in host order that it wants.
    #[test]
    fn our_hash_is_the_one_dpdk_computes() {
        use millrace_base::rss::Toeplitz;
        let mut rng = millrace_base::Rng::new(3);
        for _ in 0..2_000 {
            let key: [u8; 52] = core::array::from_fn(|_| rng.below(256) as u8);
            let input: [u8; 36] = core::array::from_fn(|_| rng.below(256) as u8);
            let (places, _) = input.as_chunks::<4>();
            let words: Vec<u32> = places
                .iter()
                .map(|word| u32::from_be_bytes(*word))
                .collect();
            let toeplitz = Toeplitz::new(&key).expect("long enough");
            // SAFETY: reads nine words and, of the key, four bytes more than those have.
            let v6 = unsafe { sys::mr_softrss(words.as_ptr(), 9, key.as_ptr()) };
            assert_eq!(toeplitz.run(0, input), v6);
            // SAFETY: as above, with three words.
            let v4 = unsafe { sys::mr_softrss(words.as_ptr(), 3, key.as_ptr()) };
            let first: [u8; 12] = *input.first_chunk().expect("36 bytes");
            assert_eq!(toeplitz.run(0, first), v4);
        }
    }

    #[test]
    fn unknown_types_are_printed_as_a_number() {
        let odd = RssTypes::IPV4_TCP | RssTypes(1 << 40);
        assert_eq!(odd.to_string(), "ipv4-tcp others:0x10000000000");
    }
}
