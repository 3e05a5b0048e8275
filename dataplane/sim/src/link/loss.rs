//! Loss by chance: independent, or in bursts.

use crate::dice::Dice;

/// How packets are lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LossPlan {
    /// None is.
    None,
    /// Each with the same chance, in a million.
    Bernoulli { ppm: u32 },
    /// Gilbert and Elliott: two states of the wire, each with its own chance, all in a million.
    Gilbert {
        /// A good wire turns bad.
        turns_bad_ppm: u32,
        /// A bad one turns good.
        turns_good_ppm: u32,
        /// Lost of a good one.
        good_ppm: u32,
        /// Lost of a bad one.
        bad_ppm: u32,
    },
}

/// The state of it.
#[derive(Debug)]
pub(super) struct Loss {
    plan: LossPlan,
    dice: Dice,
    is_bad: bool,
}

impl Loss {
    pub(super) const fn new(plan: LossPlan, dice: Dice) -> Self {
        Self {
            plan,
            dice,
            is_bad: false,
        }
    }

    /// Whether the next packet is lost.
    pub(super) const fn strikes(&mut self) -> bool {
        match self.plan {
            LossPlan::None => false,
            LossPlan::Bernoulli { ppm } => self.dice.happens(ppm),
            LossPlan::Gilbert {
                turns_bad_ppm,
                turns_good_ppm,
                good_ppm,
                bad_ppm,
            } => {
                let turns = if self.is_bad {
                    turns_good_ppm
                } else {
                    turns_bad_ppm
                };
                self.is_bad ^= self.dice.happens(turns);
                let ppm = if self.is_bad { bad_ppm } else { good_ppm };
                self.dice.happens(ppm)
            }
        }
    }
}
