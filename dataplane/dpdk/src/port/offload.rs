//! Offloads as sets: what a device can do for a frame, under DPDK's names.

use core::ffi::CStr;
use core::fmt;
use core::ops::{BitAnd, BitOr};

use millrace_dpdk_sys as sys;

macro_rules! offloads {
    (
        $(#[$doc:meta])*
        $set:ident named by $name_of:ident {
            $($(#[$bit_doc:meta])* $bit:ident = $value:ident,)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub struct $set(u64);

        impl $set {
            /// No offload.
            pub const NONE: Self = Self(0);
            $($(#[$bit_doc])* pub const $bit: Self = Self(sys::$value);)*

            /// Whether all of `other` are in the set.
            #[must_use]
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// Whether any of `other` is in the set.
            #[must_use]
            pub const fn intersects(self, other: Self) -> bool {
                self.0 & other.0 != 0
            }

            /// Whether there is none.
            #[must_use]
            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }

            /// This set and `other`.
            #[must_use]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// This set without `other`.
            #[must_use]
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }

            /// Each offload of the set by itself.
            pub fn iter(self) -> impl Iterator<Item = Self> {
                (0..u64::BITS).map(|bit| Self(1 << bit)).filter(move |one| self.contains(*one))
            }

            pub(crate) const fn from_bits(bits: u64) -> Self {
                Self(bits)
            }

            pub(crate) const fn bits(self) -> u64 {
                self.0
            }

            /// DPDK's name of a set of one.
            pub(crate) fn name(self) -> String {
                // SAFETY: returns a static NUL-terminated string for every number.
                let text = unsafe { CStr::from_ptr(sys::$name_of(self.0)) };
                text.to_string_lossy().into_owned()
            }
        }

        impl BitOr for $set {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                self.with(other)
            }
        }

        impl BitAnd for $set {
            type Output = Self;
            fn bitand(self, other: Self) -> Self {
                Self(self.0 & other.0)
            }
        }

        impl fmt::Display for $set {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                if self.is_empty() {
                    return f.write_str("none");
                }
                let names: Vec<String> = self.iter().map(Self::name).collect();
                f.write_str(&names.join(" "))
            }
        }

        impl fmt::Debug for $set {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

offloads!(
    /// What a device does to a received frame.
    RxOffloads named by rte_eth_dev_rx_offload_name {
        /// Takes the VLAN tag off and reports it beside the frame.
        VLAN_STRIP = MR_RX_OFFLOAD_VLAN_STRIP,
        /// Verifies the IPv4 header checksum.
        IPV4_CKSUM = MR_RX_OFFLOAD_IPV4_CKSUM,
        /// Verifies the UDP checksum.
        UDP_CKSUM = MR_RX_OFFLOAD_UDP_CKSUM,
        /// Verifies the TCP checksum.
        TCP_CKSUM = MR_RX_OFFLOAD_TCP_CKSUM,
        /// Merges consecutive segments of a connection.
        TCP_LRO = MR_RX_OFFLOAD_TCP_LRO,
        /// Spreads a frame longer than a buffer over several.
        SCATTER = MR_RX_OFFLOAD_SCATTER,
        /// Hands the RSS hash over with the frame.
        RSS_HASH = MR_RX_OFFLOAD_RSS_HASH,
    }
);

offloads!(
    /// What a device does to a frame before it leaves. `MBUF_FAST_FREE` is not here on purpose: it
    /// frees without looking at the reference count, and a frame may have another holder (the send
    /// queue).
    TxOffloads named by rte_eth_dev_tx_offload_name {
        /// Inserts a VLAN tag.
        VLAN_INSERT = MR_TX_OFFLOAD_VLAN_INSERT,
        /// Fills in the IPv4 header checksum.
        IPV4_CKSUM = MR_TX_OFFLOAD_IPV4_CKSUM,
        /// Fills in the UDP checksum.
        UDP_CKSUM = MR_TX_OFFLOAD_UDP_CKSUM,
        /// Fills in the TCP checksum.
        TCP_CKSUM = MR_TX_OFFLOAD_TCP_CKSUM,
        /// Cuts a long frame into TCP segments.
        TCP_TSO = MR_TX_OFFLOAD_TCP_TSO,
        /// Sends a chain of buffers as one frame.
        MULTI_SEGS = MR_TX_OFFLOAD_MULTI_SEGS,
    }
);

impl TxOffloads {
    /// Offloads for which a driver may want to see the frame before it is sent
    /// (`rte_eth_tx_prepare`).
    pub(crate) const NEED_PREPARE: Self = Self::IPV4_CKSUM
        .with(Self::TCP_CKSUM)
        .with(Self::UDP_CKSUM)
        .with(Self::TCP_TSO)
        .with(Self::VLAN_INSERT);

    /// Never in force, whoever asks.
    pub(crate) const FORBIDDEN: Self = Self(sys::MR_TX_OFFLOAD_MBUF_FAST_FREE);
}
