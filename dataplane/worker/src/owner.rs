//! Which lcore owns a flow: the RSS map of this process, asked by software steering and by the choice of source ports
//! alike, and written into the cards that can hash.
//!
//! The key is drawn at random at every start unless the operator gives one: whoever knows it can choose tuples that all
//! load one lcore. It is no secret kept well (the hash is linear), and nothing but balance depends on it.

use std::sync::Arc;

use anyhow::{Context, Result};
use millrace_base::rss::{RssMap, SLOTS_MAX, random_key};

use crate::memory;

/// The map for `lcores`, whose redirection table is as long as the shortest of the cards' (`tables`, in entries). Without
/// any it is as long as can be, which spreads best.
pub(crate) fn map(lcores: u16, key: &[u8], tables: &[u16]) -> Result<Arc<RssMap>> {
    if lcores <= 1 {
        return Ok(Arc::new(RssMap::single()));
    }
    let tables = tables.iter().map(|entries| usize::from(*entries));
    let slots = tables.fold(SLOTS_MAX, |least, entries| {
        if entries.is_power_of_two() {
            least.min(entries)
        } else {
            least
        }
    });
    let map = RssMap::spread(key, slots, lcores).context("the RSS key")?;
    Ok(Arc::new(map))
}

/// A key for one start.
pub(crate) fn draw_key() -> Result<[u8; millrace_base::rss::KEY_BYTES_MAX]> {
    let mut failure = None;
    let key = random_key(|| {
        let mut bytes = [0u8; 8];
        if let Err(error) = memory::fill_random(&mut bytes) {
            failure = Some(error);
        }
        u64::from_ne_bytes(bytes)
    });
    match failure {
        Some(error) => Err(error).context("reading random bytes"),
        None => Ok(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_table_decides_and_odd_ones_do_not_count() {
        let key = draw_key().expect("random");
        let slots = |tables: &[u16]| map(2, &key, tables).expect("a map").owners().len();
        assert_eq!(slots(&[]), 512);
        assert_eq!(slots(&[128, 512]), 128);
        assert_eq!(slots(&[100, 2_048]), 512);
        assert_eq!(map(1, &key, &[64]).expect("a map").owners().len(), 1);
    }

    #[test]
    fn every_start_draws_another_key() {
        assert_ne!(draw_key().expect("random"), draw_key().expect("random"));
        assert!(map(2, &[7; 40], &[]).is_err(), "hides ports");
        assert!(map(2, &[1; 8], &[]).is_err(), "too short");
    }
}
