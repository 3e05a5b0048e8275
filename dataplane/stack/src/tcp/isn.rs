//! Initial sequence numbers and timestamp offsets that a third party cannot guess.
//!
//! RFC 6528: `ISN = M + F(localip, localport, remoteip, remoteport, secretkey)`. F is SipHash-2-4
//! as in Linux's `secure_tcp_seq`; M counts in steps of 64 ns, so that it goes round in 4.6
//! minutes, more than twice the lifetime of a segment, and a port reused within TIME_WAIT starts
//! above its predecessor.
//!
//! The timestamp offset is keyed by the two addresses alone (`secure_tcp_ts_off`): timestamps stay
//! monotonic over all connections of one pair of hosts, which PAWS and the reuse of TIME_WAIT lean
//! on, and tell nobody our uptime.

use core::hash::Hasher as _;

use millrace_base::{Address, FlowTuple, Instant, SeqNumber};
use siphasher::sip::SipHasher24;

/// 2^6 ns: one step of the clock component.
const CLOCK_SHIFT: u32 = 6;

/// The secrets behind sequence numbers and timestamps of one stack.
pub(crate) struct Secrets {
    sequence: (u64, u64),
    timestamp: (u64, u64),
    cookie: (u64, u64),
}

impl Secrets {
    /// Independent keys for each purpose, derived from 32 bytes of the operating system's
    /// randomness.
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        Self {
            sequence: derive_key(secret, 1),
            timestamp: derive_key(secret, 2),
            cookie: derive_key(secret, 3),
        }
    }

    /// The initial sequence number of a connection that begins at `now`.
    //= https://www.rfc-editor.org/rfc/rfc9293#section-3.4.1
    //# A TCP implementation MUST use the above type of "clock" for clock-driven selection of
    //# initial sequence numbers (MUST-8)
    pub(crate) fn isn(&self, tuple: &FlowTuple, now: Instant) -> SeqNumber {
        let hash = hash_tuple(self.sequence, tuple, &[]);
        let clock = now.as_nanos() >> CLOCK_SHIFT;
        SeqNumber::new((hash as u32).wrapping_add(clock as u32))
    }

    /// What is added to the clock in every timestamp sent to this peer from this address.
    pub(crate) fn timestamp_offset(&self, tuple: &FlowTuple) -> u32 {
        let mut hasher = SipHasher24::new_with_keys(self.timestamp.0, self.timestamp.1);
        hasher.write(tuple.local.address.octets());
        hasher.write(tuple.remote.address.octets());
        hasher.finish() as u32
    }

    /// The keyed hash of a tuple for SYN cookies; `count` and `purpose` separate its uses.
    pub(crate) fn cookie_hash(&self, tuple: &FlowTuple, count: u32, purpose: u32) -> u32 {
        hash_tuple(self.cookie, tuple, &[count, purpose]) as u32
    }
}

impl core::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Secrets")
    }
}

/// A 128-bit key for one purpose from the stack's secret.
fn derive_key(secret: &[u8; 32], purpose: u8) -> (u64, u64) {
    let half = |which: u8| {
        let mut hasher = SipHasher24::new_with_keys(u64::from(purpose), u64::from(which));
        hasher.write(secret);
        hasher.finish()
    };
    (half(0), half(1))
}

/// Sixteen bytes for a hash table from the stack's secret.
pub(crate) fn table_secret(secret: &[u8; 32], purpose: u8) -> [u8; 16] {
    let (low, high) = derive_key(secret, purpose);
    (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
}

fn hash_tuple(key: (u64, u64), tuple: &FlowTuple, more: &[u32]) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(key.0, key.1);
    let hash_address = |hasher: &mut SipHasher24, address: &Address| hasher.write(address.octets());
    hash_address(&mut hasher, &tuple.local.address);
    hash_address(&mut hasher, &tuple.remote.address);
    hasher.write_u16(tuple.local.port);
    hasher.write_u16(tuple.remote.port);
    for word in more {
        hasher.write_u32(*word);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_base::{Endpoint, Nanos};

    fn tuple(remote_port: u16) -> FlowTuple {
        FlowTuple {
            local: Endpoint::new(Address::v4([10, 0, 0, 1]), 80),
            remote: Endpoint::new(Address::v4([10, 0, 0, 2]), remote_port),
        }
    }

    // MUST-8 behaviour: LSN-13
    #[test]
    fn one_tuple_advances_with_the_clock_and_another_starts_elsewhere() {
        let secrets = Secrets::new(&[7; 32]);
        let now = Instant::from_millis(5);
        let first = secrets.isn(&tuple(1), now);
        let later = secrets.isn(&tuple(1), now.after(Nanos::new(64 * 1_000)));
        assert_eq!(later.distance(first), 1_000);
        // MUST-9: without the key the numbers of other tuples tell nothing.
        assert_ne!(secrets.isn(&tuple(2), now), first);
        assert_ne!(Secrets::new(&[8; 32]).isn(&tuple(1), now), first);
    }

    // behaviour: LSN-14
    #[test]
    fn timestamps_of_one_pair_of_hosts_share_an_offset() {
        let secrets = Secrets::new(&[7; 32]);
        assert_eq!(
            secrets.timestamp_offset(&tuple(1)),
            secrets.timestamp_offset(&tuple(2))
        );
        let mut other = tuple(1);
        other.remote.address = Address::v4([10, 0, 0, 3]);
        assert_ne!(
            secrets.timestamp_offset(&tuple(1)),
            secrets.timestamp_offset(&other)
        );
    }
}
