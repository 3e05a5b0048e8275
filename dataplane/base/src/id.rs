//! Identifiers that are never bare integers.

use core::fmt;
use core::num::NonZeroU16;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(u16);

        impl $name {
            /// The identifier with this number.
            pub const fn new(number: u16) -> Self {
                Self(number)
            }

            /// The number, as a table index.
            pub const fn index(self) -> usize {
                self.0 as usize
            }

            /// The number.
            pub const fn number(self) -> u16 {
                self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id!(
    /// A network port (a DPDK ethdev), numbered in configuration order.
    PortId
);
id!(
    /// A worker lcore, numbered from 0 without gaps; not the CPU number.
    LcoreIndex
);
id!(
    /// A row of the listener table.
    ListenerId
);
id!(
    /// A row of the pool table.
    PoolId
);
id!(
    /// A row of the backend table.
    BackendId
);

/// An IEEE 802.1Q VLAN: 1 to 4094. 0 marks a frame of no VLAN that has a priority, 4095 is reserved.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct VlanId(NonZeroU16);

impl VlanId {
    /// The largest identifier of a VLAN.
    pub const MAX: u16 = 4_094;

    /// The VLAN with this number; `None` when no VLAN can have it.
    pub const fn new(number: u16) -> Option<Self> {
        match NonZeroU16::new(number) {
            Some(id) if number <= Self::MAX => Some(Self(id)),
            _ => None,
        }
    }

    /// The number, which is also the tag control field of a frame without priority.
    pub const fn number(self) -> u16 {
        self.0.get()
    }
}

const _: () = assert!(size_of::<Option<VlanId>>() == 2);

impl fmt::Debug for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VlanId({})", self.0)
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::VlanId;

    // IEEE 802.1Q-2022 table 9-2: 0 and 0xfff are not VLANs.
    #[test]
    fn a_vlan_is_neither_the_priority_tag_nor_the_reserved_number() {
        assert_eq!(VlanId::new(0), None);
        assert_eq!(VlanId::new(4_095), None);
        assert_eq!(VlanId::new(u16::MAX), None);
        assert_eq!(VlanId::new(1).map(VlanId::number), Some(1));
        assert_eq!(VlanId::new(4_094).map(VlanId::number), Some(4_094));
    }
}
