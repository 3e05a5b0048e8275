//! Which ports a configured range allows, as bitmaps in bucket order: any pair finds its own ports
//! in whole words (`Shard::mask_word`).

use crate::snat::shard::{Shard, WORDS_MAX};
use millrace_abi::limits::SNAT_MAX;

/// Which range a mask is for. Families have orders of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RangeKey {
    pub(crate) is_v4: bool,
    pub(crate) first: u16,
    pub(crate) last: u16,
}

/// The masks of all ranges in the present snapshot; equal ranges share one. 8 KiB each.
#[derive(Debug)]
pub(crate) struct Masks {
    /// The range of each mask, and whether the present snapshot names it.
    keys: Vec<(Option<RangeKey>, bool)>,
    words: Vec<u64>,
}

impl Masks {
    pub(crate) fn new() -> Self {
        Self {
            keys: vec![(None, false); SNAT_MAX],
            words: vec![0; SNAT_MAX * WORDS_MAX],
        }
    }

    /// Starts a new snapshot: masks that it does not name again give way to new ones. Accounts that
    /// refer to them are brought up to date before they count.
    pub(crate) fn begin(&mut self) {
        for (_, is_named) in &mut self.keys {
            *is_named = false;
        }
    }

    /// The mask of a range, made if it is new: 65,536 steps, some 100 us. `None` for more than
    /// `SNAT_MAX` ranges in one snapshot.
    pub(crate) fn intern(&mut self, key: RangeKey, shard: &Shard) -> Option<u8> {
        let known = self.keys.iter().position(|(known, _)| *known == Some(key));
        let index = known.or_else(|| self.keys.iter().position(|(_, is_named)| !is_named))?;
        *self.keys.get_mut(index)? = (Some(key), true);
        if known.is_none() {
            let words = self.words.chunks_mut(WORDS_MAX).nth(index)?;
            for (number, word) in words.iter_mut().enumerate() {
                let ports = shard.ports_of_mask_word(key.is_v4, number).enumerate();
                *word = ports
                    .filter(|(_, port)| (key.first..=key.last).contains(port))
                    .fold(0, |bits, (bit, _)| bits | (1u64 << (bit & 63)));
            }
        }
        u8::try_from(index).ok()
    }

    /// A word of a mask; nothing is allowed by a mask that is not there.
    #[inline]
    pub(crate) fn word(&self, mask: Option<u8>, word: usize) -> u64 {
        let Some(mask) = mask else { return 0 };
        let at = usize::from(mask).saturating_mul(WORDS_MAX) | word;
        self.words.get(at).copied().unwrap_or(0)
    }
}

const _: () = assert!(SNAT_MAX <= u8::MAX as usize);
const _: () = assert!(WORDS_MAX.is_power_of_two());
