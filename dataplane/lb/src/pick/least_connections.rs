//! Least connections: the backend with the fewest sessions for its weight.
//!
//! The load of a backend is `active / weight`, compared by cross multiplication. Sessions that are
//! still connecting count, so that a burst of accepts does not all land on one backend. Equal loads
//! are resolved by a cursor that moves past each winner; without it an idle pool would send
//! everything to its first member.

use millrace_base::BackendId;

use super::Tried;
use crate::backend::Backends;

pub(super) fn pick(
    members: &[BackendId],
    backends: &mut Backends,
    tried: &Tried,
    cursor: &mut u32,
) -> Option<BackendId> {
    let start = (*cursor as usize).checked_rem(members.len())?;
    let (before, after) = members.split_at_checked(start)?;
    let mut best: Option<Candidate> = None;
    for (step, &id) in after.iter().chain(before).enumerate() {
        if tried.contains(id) {
            continue;
        }
        let Some(backend) = backends.eligible(id) else {
            continue;
        };
        let candidate = Candidate {
            id,
            step,
            active: u64::from(backend.active),
            weight: u64::from(backend.weight),
        };
        if best
            .as_ref()
            .is_none_or(|best| candidate.is_less_loaded_than(best))
        {
            best = Some(candidate);
        }
    }
    let best = best?;
    let next = start.saturating_add(best.step).saturating_add(1);
    *cursor = next.checked_rem(members.len()).unwrap_or(0) as u32;
    Some(best.id)
}

struct Candidate {
    id: BackendId,
    step: usize,
    active: u64,
    weight: u64,
}

impl Candidate {
    fn is_less_loaded_than(&self, other: &Self) -> bool {
        // 32-bit counts times 16-bit weights: never saturates.
        self.active.saturating_mul(other.weight) < other.active.saturating_mul(self.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pick::tests::{health, pool};
    use millrace_abi::BackendState;
    use proptest::prelude::*;

    #[test]
    fn an_idle_pool_rotates() {
        let (members, mut backends) = pool(&[(1, BackendState::Up); 3]);
        let mut cursor = 0;
        let order: Vec<u16> = (0..6)
            .filter_map(|_| pick(&members, &mut backends, &Tried::NONE, &mut cursor))
            .map(BackendId::number)
            .collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2]);
    }

    proptest! {
        #[test]
        fn the_winner_has_the_least_load_of_all_usable(
            rows in prop::collection::vec((1u16..9, health(), 0u32..50), 1..10),
            start: u32,
        ) {
            let shape: Vec<_> = rows.iter().map(|(weight, health, _)| (*weight, *health)).collect();
            let (members, mut backends) = pool(&shape);
            for (id, (_, _, active)) in members.iter().zip(&rows) {
                backends.get_mut(*id).expect("row").active = *active;
            }
            let mut cursor = start;
            if let Some(id) = pick(&members, &mut backends, &Tried::NONE, &mut cursor) {
                let (weight, _, active) = rows[id.index()];
                let usable = rows.iter().filter(|row| row.1 == BackendState::Up);
                for (other_weight, _, other) in usable {
                    prop_assert!(
                        active * u32::from(*other_weight) <= other * u32::from(weight)
                    );
                }
            }
        }

        // Long sessions settle at the weights' proportions.
        #[test]
        fn sessions_that_stay_are_spread_by_weight(
            weights in prop::collection::vec(1u16..9, 1..8),
        ) {
            let rows: Vec<_> = weights.iter().map(|weight| (*weight, BackendState::Up)).collect();
            let (members, mut backends) = pool(&rows);
            let mut cursor = 0;
            for _ in 0..u32::from(weights.iter().sum::<u16>()) * 10 {
                let id = pick(&members, &mut backends, &Tried::NONE, &mut cursor).expect("up");
                backends.get_mut(id).expect("row").active += 1;
            }
            for (id, weight) in members.iter().zip(&weights) {
                let active = backends.get_mut(*id).expect("row").active;
                prop_assert_eq!(active, u32::from(*weight) * 10);
            }
        }
    }
}
