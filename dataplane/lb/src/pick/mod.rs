//! Which backend takes the next session: one file per policy.
//!
//! A pick names the backend that the policy prefers among those not yet tried for this session.
//! Asking again with the failed ones in `Tried` walks the policy's order of preference, so a retry
//! needs no list to be kept anywhere. A policy looks only at backends that `Backends::eligible`
//! lets through; its state belongs to one lcore. Every pick is O(backends in the pool), which
//! `BACKENDS_MAX` bounds.
//!
//! Not here: health (control's verdict), affinity (no policy keeps a client at a backend yet).

mod least_connections;
mod round_robin;

use millrace_abi::Algorithm;
use millrace_base::BackendId;

use crate::backend::Backends;
use crate::limits::ATTEMPTS_MAX;

/// A pool's policy and the policy's own state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Picker {
    algorithm: Algorithm,
    /// Where the search of least connections starts.
    cursor: u32,
    /// The sum of usable weights that round robin saw last.
    round: i32,
}

/// The backends that already failed for one session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tried {
    ids: [BackendId; ATTEMPTS_MAX],
    count: u8,
}

impl Tried {
    pub(crate) const NONE: Self = Self {
        ids: [BackendId::new(0); ATTEMPTS_MAX],
        count: 0,
    };

    /// Remembers a failure. Refuses (`false`) when the attempts are used up.
    #[must_use = "a full list means: give up"]
    pub(crate) fn push(&mut self, id: BackendId) -> bool {
        let Some(place) = self.ids.get_mut(usize::from(self.count)) else {
            return false;
        };
        *place = id;
        self.count = self.count.saturating_add(1);
        true
    }

    pub(crate) fn contains(&self, id: BackendId) -> bool {
        self.ids
            .iter()
            .take(usize::from(self.count))
            .any(|tried| *tried == id)
    }

    pub(crate) const fn count(&self) -> u8 {
        self.count
    }
}

impl Picker {
    /// The policy, starting its rotation at `cursor`.
    pub(crate) const fn new(algorithm: Algorithm, cursor: u32) -> Self {
        Self {
            algorithm,
            cursor,
            round: 0,
        }
    }

    /// The preferred backend among `members` without those tried; `None` when no member may take a
    /// session.
    pub(crate) fn pick(
        &mut self,
        members: &[BackendId],
        backends: &mut Backends,
        tried: &Tried,
    ) -> Option<BackendId> {
        match self.algorithm {
            Algorithm::RoundRobin => round_robin::pick(members, backends, tried, &mut self.round),
            Algorithm::LeastConnections => {
                least_connections::pick(members, backends, tried, &mut self.cursor)
            }
        }
    }

    pub(crate) const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use millrace_abi::BackendState;
    use millrace_base::{Address, Endpoint};
    use proptest::prelude::*;

    /// A pool of backends with these weights and healths, ids from 0.
    pub(crate) fn pool(rows: &[(u16, BackendState)]) -> (Vec<BackendId>, Backends) {
        let mut backends = Backends::new();
        backends.begin();
        let mut members = Vec::new();
        for (number, &(weight, health)) in rows.iter().enumerate() {
            let id = BackendId::new(number as u16);
            let endpoint = Endpoint::new(Address::v4([10, 0, 0, number as u8]), 80);
            assert!(backends.set(id, endpoint, weight, health, 0));
            members.push(id);
        }
        (members, backends)
    }

    pub(crate) fn health() -> impl Strategy<Value = BackendState> {
        prop_oneof![
            3 => Just(BackendState::Up),
            1 => Just(BackendState::Down),
            1 => Just(BackendState::Draining),
        ]
    }

    fn algorithm() -> impl Strategy<Value = Algorithm> {
        prop_oneof![
            Just(Algorithm::RoundRobin),
            Just(Algorithm::LeastConnections)
        ]
    }

    proptest! {
        #[test]
        fn only_backends_that_are_up_with_weight_are_picked(
            rows in prop::collection::vec((0u16..9, health()), 0..12),
            algorithm in algorithm(),
            rounds in 1usize..60,
        ) {
            let (members, mut backends) = pool(&rows);
            let mut picker = Picker::new(algorithm, 0);
            let any = rows.iter().any(|row| row.0 > 0 && row.1 == BackendState::Up);
            for _ in 0..rounds {
                match picker.pick(&members, &mut backends, &Tried::NONE) {
                    Some(id) => {
                        let (weight, health) = rows[id.index()];
                        prop_assert!(weight > 0);
                        prop_assert_eq!(health, BackendState::Up);
                        backends.get_mut(id).expect("row").active += 1;
                    }
                    None => prop_assert!(!any),
                }
            }
        }

        #[test]
        fn repeated_picks_walk_every_usable_backend_once(
            rows in prop::collection::vec((1u16..9, health()), 1..=ATTEMPTS_MAX),
            algorithm in algorithm(),
        ) {
            let (members, mut backends) = pool(&rows);
            let mut picker = Picker::new(algorithm, 3);
            let mut tried = Tried::NONE;
            while let Some(id) = picker.pick(&members, &mut backends, &tried) {
                prop_assert!(!tried.contains(id), "picked {id} twice");
                prop_assert!(tried.push(id));
            }
            let usable = rows.iter().filter(|(_, health)| *health == BackendState::Up).count();
            prop_assert_eq!(usize::from(tried.count()), usable);
        }
    }

    #[test]
    fn the_list_of_failures_is_bounded() {
        let mut tried = Tried::NONE;
        for number in 0..ATTEMPTS_MAX {
            assert!(tried.push(BackendId::new(number as u16)));
        }
        assert!(!tried.push(BackendId::new(99)));
        assert!(!tried.contains(BackendId::new(99)));
    }
}
