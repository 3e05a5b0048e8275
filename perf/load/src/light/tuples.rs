//! Which tuple a connection has, and what its sequence numbers start from.

/// Client endpoints in a fixed order: all ports of one address, then the next address.
#[derive(Clone, Copy, Debug)]
pub struct Sources {
    /// The first client address, host byte order.
    pub first_address: u32,
    /// The first port of every address.
    pub first_port: u16,
    /// Ports used of every address, at least 1.
    pub ports: u16,
}

impl Sources {
    /// The endpoint of connection `index`.
    #[inline]
    pub fn endpoint(&self, index: u32) -> (u32, u16) {
        let ports = u32::from(self.ports.max(1));
        let address = self.first_address.wrapping_add(index / ports);
        // Below `ports`, so it fits.
        (
            address,
            self.first_port.wrapping_add((index % ports) as u16),
        )
    }

    /// The connection with this endpoint; meaningless for an endpoint that none has.
    #[inline]
    pub fn index(&self, address: u32, port: u16) -> u32 {
        let ports = u32::from(self.ports.max(1));
        let place = u32::from(port.wrapping_sub(self.first_port));
        address
            .wrapping_sub(self.first_address)
            .wrapping_mul(ports)
            .wrapping_add(place)
    }
}

/// The keyed hash of a tuple: its low half starts the sequence numbers, its high half is the token.
///
/// Not a cryptographic one: it protects the generator from its own confusion, not from an attacker.
#[inline]
pub(super) fn hash(key: u64, ours: (u32, u16), theirs: (u32, u16)) -> u64 {
    let addresses = u64::from(ours.0) << 32 | u64::from(theirs.0);
    let ports = u64::from(ours.1) << 16 | u64::from(theirs.1);
    let mut bits = (addresses ^ key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 29) ^ ports.rotate_left(24)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 32) ^ ports).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
