//! Initial sequence numbers and timestamp offsets that a third party cannot guess.
//!
//! RFC 6528: `ISN = M + F(localip, localport, remoteip, remoteport, secretkey)`. F is SipHash-2-4
//! as in Linux's `secure_tcp_seq_and_ts_off`; M counts in steps of 64 ns, so that it goes round in
//! 4.6 minutes, more than twice the lifetime of a segment, and a port reused within TIME_WAIT starts
//! above its predecessor.
//!
//! The timestamp offset is the other half of the same 64 bits, as in Linux since 2026 (165573e41f2f).
//! It tells nobody our uptime, and timestamps of one tuple stay monotonic from one connection to the
//! next, which PAWS and the reuse of TIME_WAIT lean on. Until then Linux hashed the two addresses
//! alone, under a second key, for the sake of `tcp_tw_recycle`, which is gone: that let somebody off
//! the path compare the SYN cookies of one port with those of another, and costs a second hash for
//! each connection.

use core::hash::Hasher as _;

use millrace_base::{FlowTuple, Instant, SeqNumber};
use siphasher::sip::SipHasher24;

use super::fastopen::cookie::FastOpenKeys;

/// 2^6 ns: one step of the clock component.
const CLOCK_SHIFT: u32 = 6;

/// The secrets behind sequence numbers and timestamps of one stack.
pub(crate) struct Secrets {
    tuple: (u64, u64),
    cookie: (u64, u64),
    fastopen: FastOpenKeys,
}

/// Where a connection's numbers begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Origin {
    /// The initial sequence number of a connection that begins now.
    pub(crate) isn: SeqNumber,
    /// What is added to the clock in every timestamp of this tuple.
    pub(crate) ts_offset: u32,
}

impl Secrets {
    /// Independent keys for each purpose, derived from 32 bytes of the operating system's
    /// randomness.
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        Self {
            tuple: derive_key(secret, 1),
            cookie: derive_key(secret, 3),
            fastopen: FastOpenKeys::new(table_secret(secret, 5), None),
        }
    }

    /// The initial sequence number of a connection that begins at `now`, and its timestamp offset.
    //= https://www.rfc-editor.org/rfc/rfc9293#section-3.4.1
    //# A TCP implementation MUST use the above type of "clock" for clock-driven selection of
    //# initial sequence numbers (MUST-8)
    pub(crate) fn origin(&self, tuple: &FlowTuple, now: Instant) -> Origin {
        let hash = hash_tuple(self.tuple, tuple);
        let clock = now.as_nanos() >> CLOCK_SHIFT;
        Origin {
            isn: SeqNumber::new((hash as u32).wrapping_add(clock as u32)),
            ts_offset: offset_of(hash),
        }
    }

    /// What is added to the clock in every timestamp of this tuple.
    pub(crate) fn timestamp_offset(&self, tuple: &FlowTuple) -> u32 {
        offset_of(hash_tuple(self.tuple, tuple))
    }

    /// The key behind Fast Open cookies of a host that was not given one.
    pub(crate) const fn fastopen(&self) -> FastOpenKeys {
        self.fastopen
    }

    /// The keyed hash of a tuple for SYN cookies; `count` and `purpose` separate its uses.
    pub(crate) fn cookie_hash(&self, tuple: &FlowTuple, count: u32, purpose: u32) -> u32 {
        let mut hasher = SipHasher24::new_with_keys(self.cookie.0, self.cookie.1);
        hasher.write(tuple.local.address.octets());
        hasher.write(tuple.remote.address.octets());
        hasher.write_u16(tuple.local.port);
        hasher.write_u16(tuple.remote.port);
        hasher.write_u32(count);
        hasher.write_u32(purpose);
        hasher.finish() as u32
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

/// The keyed hash of a tuple: 12 bytes of an IPv4 one, 36 of an IPv6 one. The lengths keep the
/// families apart.
fn hash_tuple(key: (u64, u64), tuple: &FlowTuple) -> u64 {
    let hasher = SipHasher24::new_with_keys(key.0, key.1);
    let [a, b] = tuple.local.port.to_be_bytes();
    let [c, d] = tuple.remote.port.to_be_bytes();
    let ports = [a, b, c, d];
    let addresses = (tuple.local.address.as_v4(), tuple.remote.address.as_v4());
    if let (Some(local), Some(remote)) = addresses {
        return hasher.hash([local, remote, ports].as_flattened());
    }
    let mut bytes = [0; 36];
    let (local, rest) = bytes.split_at_mut(16);
    let (remote, last) = rest.split_at_mut(16);
    local.copy_from_slice(tuple.local.address.octets());
    remote.copy_from_slice(tuple.remote.address.octets());
    last.copy_from_slice(&ports);
    hasher.hash(&bytes)
}

/// The half of a tuple's hash that the sequence number leaves.
const fn offset_of(hash: u64) -> u32 {
    (hash >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_base::{Address, Endpoint, Nanos};

    fn tuple(remote_port: u16) -> FlowTuple {
        FlowTuple {
            local: Endpoint::new(Address::v4([10, 0, 0, 1]), 80),
            remote: Endpoint::new(Address::v4([10, 0, 0, 2]), remote_port),
        }
    }

    fn isn(secrets: &Secrets, tuple: &FlowTuple, now: Instant) -> SeqNumber {
        secrets.origin(tuple, now).isn
    }

    // MUST-8 behaviour: LSN-13
    // behaviour: SHLD-1, A12-14, A18-4, CON-13
    #[test]
    fn one_tuple_advances_with_the_clock_and_another_starts_elsewhere() {
        let secrets = Secrets::new(&[7; 32]);
        let now = Instant::from_millis(5);
        let first = isn(&secrets, &tuple(1), now);
        let later = isn(&secrets, &tuple(1), now.after(Nanos::new(64 * 1_000)));
        assert_eq!(later.distance(first), 1_000);
        // MUST-9: without the key the numbers of other tuples tell nothing.
        assert_ne!(isn(&secrets, &tuple(2), now), first);
        assert_ne!(isn(&Secrets::new(&[8; 32]), &tuple(1), now), first);
    }

    // behaviour: CON-14, LSN-14
    #[test]
    fn timestamps_of_one_tuple_share_an_offset_and_those_of_another_do_not() {
        let secrets = Secrets::new(&[7; 32]);
        let offset = |tuple: &FlowTuple, ms| {
            let origin = secrets.origin(tuple, Instant::from_millis(ms));
            assert_eq!(origin.ts_offset, secrets.timestamp_offset(tuple));
            origin.ts_offset
        };
        assert_eq!(offset(&tuple(1), 1), offset(&tuple(1), 60_000));
        assert_ne!(offset(&tuple(1), 1), offset(&tuple(2), 1));
        let mut other = tuple(1);
        other.remote.address = Address::v4([10, 0, 0, 3]);
        assert_ne!(offset(&tuple(1), 1), offset(&other, 1));
    }

    // MUST-9: every part of the tuple counts, in both families.
    #[test]
    fn each_end_of_a_tuple_changes_its_numbers() {
        let secrets = Secrets::new(&[7; 32]);
        let v6 = |last| Address::v6([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
        let v4 = |last| Address::v4([10, 0, 0, last]);
        let ends = |make: &dyn Fn(u8) -> Address| {
            let mut made = Vec::new();
            for (local, remote) in [(1, 2), (2, 1), (1, 3), (3, 2)] {
                for ports in [(80, 1), (1, 80), (80, 2)] {
                    made.push(FlowTuple {
                        local: Endpoint::new(make(local), ports.0),
                        remote: Endpoint::new(make(remote), ports.1),
                    });
                }
            }
            made
        };
        let tuples = [ends(&v4), ends(&v6)].concat();
        let origins = tuples.iter().map(|tuple| {
            let Origin { isn, ts_offset } = secrets.origin(tuple, Instant::ZERO);
            (isn.value(), ts_offset)
        });
        let (isns, offsets): (Vec<_>, Vec<_>) = origins.unzip();
        for mut numbers in [isns, offsets] {
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), tuples.len());
        }
    }
}
