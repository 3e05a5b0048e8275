//! Ephemeral ports: which one a socket gets when its program names none.
//!
//! `connect` takes the ports in an order that follows from a secret and from where the connection
//! goes, beginning at a place that moves on with every connection (RFC 6056, algorithm 4, as Linux
//! has it in `__inet_hash_connect`). `bind` and `listen` begin anywhere
//! (`inet_csk_find_open_port`). They begin with ports of different parity, so that the ports that
//! `bind` takes away from everybody are not those that connections to different peers could share.

use core::hash::Hasher as _;

use millrace_base::{Address, Endpoint, FlowTuple, Nanos};
use siphasher::sip::SipHasher24;

use crate::errno::Errno;
use crate::file::SocketId;
use crate::ports::{Asked, Via};
use crate::sockets::Sockets;

/// Places of the table that moves the beginnings (`INET_TABLE_PERTURB_SIZE`). With few of them
/// somebody who connects to us and to others could tell whom else we connect to; Linux's default.
const PERTURBATIONS: usize = 1 << 16;
/// How long one secret order of the ports lasts (`EPHEMERAL_PORT_SHUFFLE_PERIOD`).
const SHUFFLE_PERIOD: Nanos = Nanos::from_millis(10_000);

/// Where the next search for each class of destinations begins.
#[derive(Debug)]
pub(crate) struct Perturbations {
    key: [u8; 16],
    /// Filled with the first connection.
    table: Vec<u32>,
}

impl Perturbations {
    pub(crate) const fn new(key: [u8; 16]) -> Self {
        Self {
            key,
            table: Vec::new(),
        }
    }
}

/// Ports to choose from: `first` and `last` included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Range {
    first: u32,
    last: u32,
    /// The socket has a range of its own (`IP_LOCAL_PORT_RANGE`).
    own: bool,
}

impl Range {
    /// How many ports there are; an even number, so that both parities have as many.
    const fn count(&self) -> u32 {
        let count = self.last + 1 - self.first;
        if count > 1 { count & !1 } else { count }
    }

    /// The lower or the upper half.
    const fn half(&self, upper: bool) -> Self {
        let middle = self.first + (((self.last + 1 - self.first) >> 2) << 1);
        if upper {
            Self {
                first: middle,
                ..*self
            }
        } else {
            Self {
                last: middle - 1,
                ..*self
            }
        }
    }
}

impl Sockets {
    /// Gives a socket this port, or any when it is 0; `EADDRINUSE` when somebody is in the way.
    pub(crate) fn obtain_port(&mut self, id: SocketId, port: u16) -> Result<(), Errno> {
        let port = if port == 0 {
            self.open_port(id).ok_or(Errno::EADDRINUSE)?
        } else if self.is_in_conflict(id, port, Asked::ByName) {
            return Err(Errno::EADDRINUSE);
        } else {
            port
        };
        self.hold_port(id, port, Via::Name);
        Ok(())
    }

    /// A local port for a connection to `remote` (behaviour: HSH-16): `EADDRNOTAVAIL` when the whole
    /// range is taken (behaviour: HSH-17 A30-16).
    pub(crate) fn connect_port(
        &mut self,
        id: SocketId,
        local: Address,
        remote: Endpoint,
    ) -> Result<u16, Errno> {
        // behaviour: A30-6 A30-9 A30-10
        let range = self.port_range(id);
        let (count, step) = if range.own {
            (range.last + 1 - range.first, 1)
        } else {
            (range.count(), 2)
        };
        let identity = self.port_identity(local, remote);
        let place = identity as usize % PERTURBATIONS;
        let mut offset = self
            .perturbation(place)
            .wrapping_add((identity >> 32) as u32)
            % count;
        if !range.own {
            // behaviour: A30-11. The parity of the first port of the range.
            offset &= !1;
        }
        loop {
            for tried in (0..count).step_by(step as usize) {
                let port = (range.first + (offset + tried) % count) as u16;
                if self.is_free_for(port, local, remote) {
                    // behaviour: A30-17
                    let on = tried.max(self.rng.below(8) * step) + step;
                    if let Some(entry) = self.perturbations.table.get_mut(place) {
                        *entry = entry.wrapping_add(on);
                    }
                    return Ok(port);
                }
            }
            offset += 1;
            if range.own || offset.is_multiple_of(2) || count == 1 {
                return Err(Errno::EADDRNOTAVAIL);
            }
        }
    }

    /// A port that nobody who could be in the way has (`inet_csk_find_open_port`).
    fn open_port(&mut self, id: SocketId) -> Option<u16> {
        let reuse = self
            .get(id)
            .is_ok_and(|socket| socket.options.reuse_address);
        let whole = self.port_range(id);
        // Who may share ports leaves the upper half of the range to others, while it can.
        let halves = if reuse && whole.last + 1 - whole.first >= 4 {
            vec![whole.half(false), whole.half(true)]
        } else {
            vec![whole]
        };
        let asks: &[Asked] = if self.sysctls.autobind_reuse() {
            &[Asked::Any, Asked::AnyShared]
        } else {
            &[Asked::Any]
        };
        for asked in asks {
            for range in &halves {
                if let Some(port) = self.open_port_in(id, *range, *asked) {
                    return Some(port);
                }
            }
        }
        None
    }

    fn open_port_in(&mut self, id: SocketId, range: Range, asked: Asked) -> Option<u16> {
        let count = range.count();
        // behaviour: A30-11. The other parity than `connect` begins with.
        let start = self.rng.below(count) | 1;
        for begin in [start, start - 1] {
            for tried in (0..count).step_by(2) {
                let port = (range.first + (begin + tried) % count) as u16;
                if !self.sysctls.is_reserved(port) && !self.is_in_conflict(id, port, asked) {
                    return Some(port);
                }
            }
        }
        None
    }

    /// Whether a connection may begin at a port.
    fn is_free_for(&mut self, port: u16, local: Address, remote: Endpoint) -> bool {
        // behaviour: A30-12 X2-22
        if self.sysctls.is_reserved(port) || self.is_port_bound(port) {
            return false;
        }
        let tuple = FlowTuple {
            local: Endpoint::new(local, port),
            remote,
        };
        // behaviour: A30-8 A30-14
        self.stack.tuple_is_free(self.now, &tuple)
    }

    /// The sysctl's range, narrowed by `IP_LOCAL_PORT_RANGE` (`inet_sk_get_local_port_range`).
    // behaviour: A30-9 X2-21 TUN-12
    fn port_range(&self, id: SocketId) -> Range {
        let (mut low, mut high) = self.sysctls.port_range();
        let own = self.get(id).map_or((0, 0), |s| s.options.port_range);
        if (low..=high).contains(&own.0) {
            low = own.0;
        }
        if (low..=high).contains(&own.1) {
            high = own.1;
        }
        Range {
            first: low.into(),
            last: high.into(),
            own: own != (0, 0),
        }
    }

    /// A number that nobody else can compute: the order of ports for connections from here to
    /// there (`secure_ipv4_port_ephemeral`).
    fn port_identity(&self, local: Address, remote: Endpoint) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.perturbations.key);
        hasher.write(local.octets());
        hasher.write(remote.address.octets());
        hasher.write_u16(remote.port);
        hasher.write_u64(self.now.as_nanos() / SHUFFLE_PERIOD.as_nanos());
        hasher.finish()
    }

    fn perturbation(&mut self, place: usize) -> u32 {
        let Self {
            perturbations, rng, ..
        } = self;
        if perturbations.table.is_empty() {
            let random = core::iter::repeat_with(|| rng.next_u64() as u32);
            perturbations.table = random.take(PERTURBATIONS).collect();
        }
        perturbations.table.get(place).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_halves_of_a_range_are_even_and_meet() {
        let whole = Range {
            first: 32_768,
            last: 60_999,
            own: false,
        };
        let (lower, upper) = (whole.half(false), whole.half(true));
        assert_eq!((lower.first, lower.last), (32_768, 46_883));
        assert_eq!((upper.first, upper.last), (46_884, 60_999));
        assert_eq!(lower.count() + upper.count(), whole.count());
        assert_eq!(lower.count() % 2, 0);
    }
}
