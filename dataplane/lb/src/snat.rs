//! Which of our addresses and ports a connection to a backend leaves from.
//!
//! Three conditions choose the port: the 4-tuple must be free (TIME_WAIT counts as taken unless the stack
//! would reuse it), the
//! backend's replies must arrive at this lcore (both legs of a session live on one lcore, without
//! locks or flow rules), and the address must be of the backend's family (a session may join an
//! IPv4 client to an IPv6 backend: the legs are independent).
//!
//! The candidates of one backend are all (address, port) pairs, taken in turn: addresses alternate
//! fastest, then ports ascend. Each backend has its own cursor, so that one 4-tuple is reused as
//! late as possible and two backends may use the same source port. Cursors start at random places
//! (RFC 6056 section 3: a blind attacker should not be able to guess the tuple). The tries are
//! bounded; running out is an outcome that is counted, not a loop.
//!
//! A limit to know: where clients close first, the balancer closes first towards the backend, and
//! the tuple rests in TIME_WAIT. With timestamps the stack reuses it after a second
//! (`tcp_tw_reuse`): one SNAT address with 64,512 ports then carries some 64,000 sessions a second
//! to one backend, as far as the tries find the free ones. A backend without timestamps keeps each
//! tuple for 60 s: 1,075 sessions a second; more addresses carry more.

use core::fmt;

use arrayvec::ArrayVec;
use millrace_abi::limits::SNAT_MAX;
use millrace_base::{Address, Endpoint, FlowTuple, LcoreIndex};

use crate::limits::{SNAT_TRIES_MAX, SNAT_TRIES_PER_LCORE};

/// Which lcore receives the frames of a connection (`Balancer::new`). Asked once for each candidate
/// port, so that the indirection costs nothing that counts.
pub(crate) type OwnerFunction = Box<dyn Fn(&FlowTuple) -> LcoreIndex + Send>;

/// One address with the ports we may leave from.
#[derive(Clone, Copy, Debug)]
struct Range {
    address: Address,
    port_first: u16,
    /// Ports in the range, at least 1.
    port_count: u32,
}

/// All source addresses, and who owns a tuple.
pub(crate) struct Snat {
    v4: ArrayVec<Range, SNAT_MAX>,
    v6: ArrayVec<Range, SNAT_MAX>,
    lcore: LcoreIndex,
    tries: usize,
    owner: OwnerFunction,
}

/// Why there is no source port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NoPort {
    /// No SNAT address of the backend's family is configured.
    Family,
    /// Every tuple tried was in use or belonged to another lcore.
    Exhausted,
}

impl Snat {
    pub(crate) fn new(lcore: LcoreIndex, lcores: u16, owner: OwnerFunction) -> Self {
        let tries = SNAT_TRIES_PER_LCORE.saturating_mul(usize::from(lcores.max(1)));
        Self {
            v4: ArrayVec::new(),
            v6: ArrayVec::new(),
            lcore,
            tries: tries.min(SNAT_TRIES_MAX),
            owner,
        }
    }

    /// Forgets all addresses. Connections that use them go on.
    pub(crate) fn clear(&mut self) {
        self.v4.clear();
        self.v6.clear();
    }

    /// Adds an address with its ports, first and last inclusive. Refuses (`false`) what no packet
    /// may carry as its source, port 0, an empty range and an address given twice.
    #[must_use = "a refused address must be counted"]
    pub(crate) fn add(&mut self, address: Address, port_first: u16, port_last: u16) -> bool {
        let ranges = if address.is_v4() {
            &mut self.v4
        } else {
            &mut self.v6
        };
        let known = ranges.iter().any(|range| range.address == address);
        if known || !address.is_unicast_source() || port_first == 0 || port_last < port_first {
            return false;
        }
        let port_count = u32::from(port_last.saturating_sub(port_first)).saturating_add(1);
        ranges
            .try_push(Range {
                address,
                port_first,
                port_count,
            })
            .is_ok()
    }

    /// The source endpoint for a new connection to `remote`. Moves `cursor` past the choice.
    pub(crate) fn choose(
        &self,
        remote: Endpoint,
        cursor: &mut u32,
        in_use: impl Fn(FlowTuple) -> bool,
    ) -> Result<Endpoint, NoPort> {
        let ranges = if remote.address.is_v4() {
            &self.v4
        } else {
            &self.v6
        };
        if ranges.is_empty() {
            return Err(NoPort::Family);
        }
        for _ in 0..self.tries {
            let position = *cursor;
            *cursor = position.wrapping_add(1);
            let Some(local) = candidate(ranges, position) else {
                continue;
            };
            let tuple = FlowTuple { local, remote };
            if (self.owner)(&tuple) == self.lcore && !in_use(tuple) {
                return Ok(local);
            }
        }
        Err(NoPort::Exhausted)
    }
}

/// The candidate at a position of the endless sequence of one family.
fn candidate(ranges: &[Range], position: u32) -> Option<Endpoint> {
    let count = ranges.len() as u32;
    let range = ranges.get(position.checked_rem(count)? as usize)?;
    let step = position.checked_div(count)?.checked_rem(range.port_count)?;
    // `step` is below `port_count`, so that the sum stays at or below the range's last port.
    let port = u32::from(range.port_first).saturating_add(step) as u16;
    Some(Endpoint::new(range.address, port))
}

impl fmt::Debug for Snat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snat")
            .field("lcore", &self.lcore)
            .field("v4", &self.v4)
            .field("v6", &self.v6)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::RefCell;
    use proptest::prelude::*;
    use std::collections::HashSet;

    const BACKEND: Endpoint = Endpoint::new(Address::v4([10, 9, 0, 2]), 80);

    fn spread(lcores: u16) -> OwnerFunction {
        Box::new(move |tuple| {
            let mixed = u32::from(tuple.local.port).wrapping_mul(0x9e37_79b1) >> 16;
            LcoreIndex::new((mixed % u32::from(lcores)) as u16)
        })
    }

    fn address(last: u8) -> Address {
        Address::v4([10, 9, 0, last])
    }

    #[test]
    fn ports_are_used_in_turn_and_reused_as_late_as_possible() {
        let mut snat = Snat::new(LcoreIndex::new(0), 1, spread(1));
        assert!(snat.add(address(10), 100, 102) && snat.add(address(11), 200, 202));
        let mut cursor = 0;
        let chosen: Vec<_> = (0..7)
            .map(|_| snat.choose(BACKEND, &mut cursor, |_| false).expect("free"))
            .map(|endpoint| endpoint.port)
            .collect();
        assert_eq!(chosen, [100, 200, 101, 201, 102, 202, 100]);
    }

    #[test]
    fn the_family_follows_the_backend() {
        let mut snat = Snat::new(LcoreIndex::new(0), 1, spread(1));
        assert!(snat.add(address(10), 1024, 65535));
        let v6 = Address::v6([0xfd, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        let backend = Endpoint::new(v6, 80);
        let mut cursor = 0;
        assert_eq!(
            snat.choose(backend, &mut cursor, |_| false),
            Err(NoPort::Family)
        );
        let ours = Address::v6([0xfd, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert!(snat.add(ours, 1024, 65535));
        let chosen = snat.choose(backend, &mut cursor, |_| false).expect("free");
        assert_eq!(chosen.address, ours);
    }

    #[test]
    fn nonsense_ranges_are_refused() {
        let mut snat = Snat::new(LcoreIndex::new(0), 1, spread(1));
        assert!(!snat.add(Address::UNSPECIFIED_V4, 1024, 2000));
        assert!(!snat.add(Address::v4([224, 0, 0, 1]), 1024, 2000));
        assert!(!snat.add(address(1), 0, 2000));
        assert!(!snat.add(address(1), 2000, 1999));
        assert!(snat.add(address(1), 65535, 65535));
        assert!(!snat.add(address(1), 1024, 2000), "the same address twice");
    }

    #[test]
    fn exhaustion_takes_a_bounded_number_of_tries() {
        let mut snat = Snat::new(LcoreIndex::new(0), 64, spread(1));
        assert!(snat.add(address(10), 1024, 65535));
        let tries = RefCell::new(0);
        let mut cursor = 0;
        let refused = snat.choose(BACKEND, &mut cursor, |_| {
            *tries.borrow_mut() += 1;
            true
        });
        assert_eq!(refused, Err(NoPort::Exhausted));
        assert_eq!(tries.into_inner(), SNAT_TRIES_MAX);
    }

    proptest! {
        // Every lcore can use exactly the tuples it owns, and no tuple twice.
        #[test]
        fn lcores_share_the_ports_without_overlap(
            lcores in 1u16..6,
            port_first in 1u16..60_000,
            ports in 1u16..60,
            addresses in 1u8..4,
            start: u32,
        ) {
            let port_last = port_first + (ports - 1);
            let mut all = HashSet::new();
            for lcore in 0..lcores {
                let owner = spread(lcores);
                let mut snat = Snat::new(LcoreIndex::new(lcore), lcores, spread(lcores));
                for last in 0..addresses {
                    prop_assert!(snat.add(address(last + 1), port_first, port_last));
                }
                let mut cursor = start % 1_000_000;
                let used = RefCell::new(HashSet::new());
                // Several times the whole space, because one call may give up early.
                for _ in 0..usize::from(ports) * usize::from(addresses) * 2 {
                    let in_use = |tuple: FlowTuple| used.borrow().contains(&tuple.local);
                    if let Ok(local) = snat.choose(BACKEND, &mut cursor, in_use) {
                        let tuple = FlowTuple { local, remote: BACKEND };
                        prop_assert_eq!(owner(&tuple), LcoreIndex::new(lcore));
                        prop_assert!((port_first..=port_last).contains(&local.port));
                        prop_assert!(used.borrow_mut().insert(local));
                        prop_assert!(all.insert(local), "two lcores chose {local}");
                    }
                }
            }
            prop_assert_eq!(all.len(), usize::from(ports) * usize::from(addresses));
        }
    }
}
