//! What a connection must know of the way to its peer, and the headers it writes for it.
//!
//! A `Path` is the answer of route and neighbour tables for one destination, copied by value into every call that
//! sends: 20 bytes, so that a connection needs no reference into those tables. It does not say how long it is
//! valid: the stack looks it up again before each round of transmission.

use millrace_base::{MacAddress, PortId};

/// What the device can do for outgoing frames. The software path does what is `false` here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offloads {
    /// Fills in the IPv4 header checksum.
    pub ip_checksum: bool,
    /// Fills in the TCP checksum over a pseudo-header seed.
    pub tcp_checksum: bool,
    /// Cuts one frame of up to `tso_bytes_max` payload bytes into segments (needs `tcp_checksum`).
    pub tso: bool,
    /// Payload bytes of one frame handed to segmentation, at most 65,535 less the headers; 0 without `tso`.
    pub tso_bytes_max: u32,
    /// Segments of one chained frame; 0 and 1 both mean that frames must be in one piece.
    pub segments_max: u16,
}

/// The way to one destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Path {
    /// The port the frame leaves by.
    pub port: PortId,
    /// Bytes of the largest IP packet the first link takes (68..=9,000 or so).
    pub mtu: u16,
    /// Our address on that link.
    pub source: MacAddress,
    /// The next hop's address on that link.
    pub destination: MacAddress,
    /// What the device does for us.
    pub offloads: Offloads,
}
