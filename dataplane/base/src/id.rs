//! Identifiers that are never bare integers.

use core::fmt;

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
