//! Smooth weighted round robin, as nginx does it.
//!
//! Each pick raises every candidate's score by its weight, takes the highest, and lowers the winner
//! by the sum of the raises. Over one round (as many picks as the weights add up to) each backend
//! wins exactly its weight, and the wins of a heavy backend are spread over the round instead of
//! bunched: weights 5, 1, 1 give a a b a c a a.
//!
//! Scores live in the backend rows and survive reloads, so a change of health does not restart the
//! rotation. nginx stops there; a backend that won just before a much heavier one left would then
//! wait out the old, longer round. When the sum of the usable weights changes, scores are therefore
//! clamped to one round of the new sum.

use millrace_base::BackendId;

use super::Tried;
use crate::backend::Backends;

/// Picks; `round` is the pool's memory of the sum of the usable weights.
pub(super) fn pick(
    members: &[BackendId],
    backends: &mut Backends,
    tried: &Tried,
    round: &mut i32,
) -> Option<BackendId> {
    let mut usable = 0i32;
    let mut raised = 0i32;
    let mut best: Option<(BackendId, i32)> = None;
    for &id in members {
        let Some(backend) = backends.eligible(id) else {
            continue;
        };
        let weight = i32::from(backend.weight);
        usable = usable.saturating_add(weight);
        if tried.contains(id) {
            continue;
        }
        backend.score = backend.score.saturating_add(weight);
        raised = raised.saturating_add(weight);
        if best.is_none_or(|(_, score)| backend.score > score) {
            best = Some((id, backend.score));
        }
    }
    let (id, _) = best?;
    if let Some(winner) = backends.get_mut(id) {
        winner.score = winner.score.saturating_sub(raised);
    }
    if usable != *round {
        *round = usable;
        clamp_scores(members, backends, usable);
    }
    Some(id)
}

fn clamp_scores(members: &[BackendId], backends: &mut Backends, round: i32) {
    for &id in members {
        if let Some(backend) = backends.get_mut(id) {
            backend.score = backend.score.clamp(round.saturating_neg(), round);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pick::tests::pool;
    use millrace_abi::BackendState;
    use proptest::prelude::*;

    // The example in nginx's commit message for the smooth algorithm.
    #[test]
    fn weights_5_1_1_are_spread_as_nginx_spreads_them() {
        let (members, mut backends) = pool(&[
            (5, BackendState::Up),
            (1, BackendState::Up),
            (1, BackendState::Up),
        ]);
        let mut round = 0;
        let order: Vec<u16> = (0..7)
            .filter_map(|_| pick(&members, &mut backends, &Tried::NONE, &mut round))
            .map(BackendId::number)
            .collect();
        assert_eq!(order, [0, 0, 1, 0, 2, 0, 0]);
    }

    // A row that just won beside a heavy one must not wait for the heavy one's round once that is
    // gone.
    #[test]
    fn the_light_backends_do_not_wait_when_the_heavy_one_goes_down() {
        let (members, mut backends) = pool(&[
            (256, BackendState::Up),
            (1, BackendState::Up),
            (1, BackendState::Up),
        ]);
        let mut round = 0;
        while pick(&members, &mut backends, &Tried::NONE, &mut round) != Some(members[1]) {}
        backends.get_mut(members[0]).expect("row").state = BackendState::Down;
        let picks: Vec<_> = (0..10)
            .filter_map(|_| pick(&members, &mut backends, &Tried::NONE, &mut round))
            .collect();
        assert!(
            picks.iter().filter(|id| **id == members[1]).count() >= 3,
            "{picks:?}"
        );
    }

    proptest! {
        #[test]
        fn every_window_of_one_round_honours_the_weights_exactly(
            weights in prop::collection::vec(1u16..9, 1..8),
            skipped in 0usize..40,
        ) {
            let rows: Vec<_> = weights.iter().map(|weight| (*weight, BackendState::Up)).collect();
            let (members, mut backends) = pool(&rows);
            let mut round = 0;
            for _ in 0..skipped {
                let _ = pick(&members, &mut backends, &Tried::NONE, &mut round);
            }
            let mut wins = vec![0u16; weights.len()];
            for _ in 0..weights.iter().sum() {
                let id = pick(&members, &mut backends, &Tried::NONE, &mut round).expect("up");
                wins[id.index()] += 1;
            }
            prop_assert_eq!(wins, weights);
        }

        // After any history of health changes the shares return and nobody starves.
        #[test]
        fn no_backend_starves_after_health_changes(
            weights in prop::collection::vec(1u16..5, 2..6),
            history in prop::collection::vec((0usize..6, any::<bool>(), 0usize..10), 0..10),
        ) {
            let rows: Vec<_> = weights.iter().map(|weight| (*weight, BackendState::Up)).collect();
            let (members, mut backends) = pool(&rows);
            let mut round = 0;
            for (which, up, picks) in history {
                let id = members[which % members.len()];
                let health = if up { BackendState::Up } else { BackendState::Down };
                backends.get_mut(id).expect("row").state = health;
                for _ in 0..picks {
                    let _ = pick(&members, &mut backends, &Tried::NONE, &mut round);
                }
            }
            for id in &members {
                backends.get_mut(*id).expect("row").state = BackendState::Up;
            }
            let sum: u16 = weights.iter().sum();
            let mut wins = vec![0u16; weights.len()];
            for _ in 0..sum * 20 {
                let id = pick(&members, &mut backends, &Tried::NONE, &mut round).expect("up");
                wins[id.index()] += 1;
            }
            for (wins, weight) in wins.iter().zip(&weights) {
                let fair = i32::from(weight * 20);
                // A score never leaves ± one round of its fair value, whatever the history, thanks
                // to the clamp.
                let slack = i32::from(sum) * 2;
                prop_assert!((i32::from(*wins) - fair).abs() <= slack, "{wins} wins, fair {fair}");
                prop_assert!(*wins > 0);
            }
        }
    }
}
