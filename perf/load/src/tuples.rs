//! The source addresses and ports of one lcore, and whose lcore a port is.
//!
//! A reply must come to the lcore that holds its connection. The owner of a connection is told by
//! the client's port alone: the port modulo the number of lcores, for clients and sinks alike. A
//! client takes only ports it owns; a frame that a device delivers elsewhere is handed over
//! (`exchange`).
//!
//! Tuples go round: the one that rested longest is used next, so that the TIME_WAIT of its last
//! connection, here or at the peer, has had as much time to end as there is.

use millrace_base::{Address, Endpoint, FlowTuple};

use crate::ring::Ring;

/// Tuples one lcore keeps track of at most: 4 bytes each.
pub const TUPLES_MAX: usize = 1 << 26;

/// How many tuples are tried before an arrival is given up: ones that rest in TIME_WAIT too shortly
/// stand in the way, and behind them are more of their kind.
pub const TRIES_MAX: usize = 16;

/// What a client may use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TupleSpace {
    /// Our addresses.
    pub sources: Vec<Address>,
    /// The lowest and the highest source port.
    pub ports: (u16, u16),
    /// Where to connect to; used in turn.
    pub targets: Vec<Endpoint>,
    /// Which lcore this is, and of how many.
    pub lcore: (u16, u16),
}

/// The tuples of one lcore.
#[derive(Debug)]
pub struct Tuples {
    space: TupleSpace,
    ports: usize,
    free: Ring<u32>,
}

/// The lcore that owns the connections of this client port.
#[inline]
pub fn owner(client_port: u16, lcores: u16) -> u16 {
    client_port.checked_rem(lcores).unwrap_or(0)
}

impl TupleSpace {
    /// Ports of the lcore.
    fn port_count(&self) -> usize {
        let (first, last) = self.ports;
        let (lcore, lcores) = self.lcore;
        (first..=last)
            .filter(|port| owner(*port, lcores) == lcore)
            .count()
    }

    /// Tuples there are, those of different families for source and target included.
    pub fn len(&self) -> usize {
        self.port_count()
            .saturating_mul(self.sources.len())
            .saturating_mul(self.targets.len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Tuples {
    /// All tuples of a space, none in use. Takes all memory it will ever use.
    pub fn new(space: TupleSpace) -> Self {
        let ports = space.port_count();
        let count = space.len().min(TUPLES_MAX);
        let mut tuples = Self {
            space,
            ports,
            free: Ring::new(count),
        };
        for number in 0..count as u32 {
            let families_agree = tuples
                .tuple(number)
                .is_some_and(|tuple| tuple.local.address.is_v4() == tuple.remote.address.is_v4());
            if families_agree {
                tuples.free.push(number);
            }
        }
        tuples
    }

    /// Takes the tuple that rested longest.
    pub fn take(&mut self) -> Option<(u32, FlowTuple)> {
        let number = self.free.pop()?;
        Some((number, self.tuple(number)?))
    }

    /// Puts a tuple back, to rest.
    pub fn put_back(&mut self, number: u32) {
        self.free.push(number);
    }

    /// Tuples at rest.
    pub fn available(&self) -> usize {
        self.free.len()
    }

    /// Targets vary fastest, ports slowest.
    fn tuple(&self, number: u32) -> Option<FlowTuple> {
        let TupleSpace {
            sources,
            ports: (first, _),
            targets,
            lcore: (lcore, lcores),
        } = &self.space;
        let number = number as usize;
        let (rest, target) = divide(number, targets.len())?;
        let (port, source) = divide(rest, sources.len())?;
        if port >= self.ports {
            return None;
        }
        // The first port of ours, and then every `lcores`-th.
        let lcores = usize::from(*lcores).max(1);
        let first = usize::from(*first);
        let ahead = (usize::from(*lcore) + lcores - first % lcores) % lcores;
        let port = u16::try_from(first + ahead + port * lcores).ok()?;
        Some(FlowTuple {
            local: Endpoint::new(*sources.get(source)?, port),
            remote: *targets.get(target)?,
        })
    }
}

/// Quotient and remainder.
fn divide(number: usize, by: usize) -> Option<(usize, usize)> {
    Some((number.checked_div(by)?, number.checked_rem(by)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn space(lcore: u16, lcores: u16) -> TupleSpace {
        TupleSpace {
            sources: vec![Address::v4([10, 0, 0, 1]), Address::v4([10, 0, 0, 2])],
            ports: (1_024, 1_153),
            targets: [80, 81, 82]
                .map(|port| Endpoint::new(Address::v4([10, 0, 0, 9]), port))
                .into(),
            lcore: (lcore, lcores),
        }
    }

    #[test]
    fn lcores_share_out_every_tuple_and_own_what_they_use() {
        for lcores in [1u16, 2, 3, 7] {
            let mut seen = HashSet::new();
            for lcore in 0..lcores {
                let mut tuples = Tuples::new(space(lcore, lcores));
                while let Some((_, tuple)) = tuples.take() {
                    assert_eq!(owner(tuple.local.port, lcores), lcore);
                    assert!((1_024..=1_153).contains(&tuple.local.port));
                    assert!(seen.insert((tuple.local, tuple.remote)), "{tuple:?} twice");
                }
            }
            assert_eq!(seen.len(), 130 * 2 * 3);
        }
    }

    #[test]
    fn the_tuple_that_rested_longest_is_used_next() {
        let mut tuples = Tuples::new(space(0, 1));
        let (first, _) = tuples.take().expect("some");
        tuples.put_back(first);
        let mut order = Vec::new();
        while let Some((number, _)) = tuples.take() {
            order.push(number);
        }
        assert_eq!(order.last(), Some(&first));
        assert_eq!(order.len(), 780);
    }

    #[test]
    fn families_are_not_mixed() {
        let mut space = space(0, 1);
        space.sources.push(Address::v6([
            0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
        ]));
        let mut tuples = Tuples::new(space);
        assert_eq!(tuples.available(), 780);
        while let Some((_, tuple)) = tuples.take() {
            assert!(tuple.local.address.is_v4());
        }
    }
}
