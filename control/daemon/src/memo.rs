//! What control must not forget when it is killed: the numbers behind names, and which backends
//! were down.
//!
//! The lcores index counters by these numbers, so a name keeps its number across reloads and
//! restarts; and a backend that was down must not get traffic again just because control restarted.
//! Both are written to a small JSON file beside the region before they are published, by renaming,
//! so a reader finds the old file or the new one. Losing the file costs continuity of counters,
//! nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use millrace_abi::limits::{BACKENDS_MAX, LISTENERS_MAX, POOLS_MAX};
use millrace_config::Config;
use serde::{Deserialize, Serialize};

use crate::health::BackendKey;

/// The file's name in the runtime directory.
pub(crate) const FILE_NAME: &str = "control.memo.json";

/// Numbers by name, and backends that are down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memo {
    listeners: BTreeMap<String, u16>,
    pools: BTreeMap<String, u16>,
    backends: BTreeMap<String, u16>,
    down: BTreeSet<String>,
    /// Backends that this memo has judged at all; of others it does not say that they were up.
    judged: BTreeSet<String>,
}

impl Memo {
    /// Reads the file. No file is an empty memo; a broken one too, with a warning.
    pub(crate) fn load(directory: &Path) -> Self {
        let path = file(directory);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                if error.kind() != std::io::ErrorKind::NotFound {
                    tracing::warn!(path = %path.display(), %error, "cannot read the memo");
                }
                return Self::default();
            }
        };
        serde_json::from_str(&text).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "the memo is broken; starting afresh");
            Self::default()
        })
    }

    /// Writes the file, all or nothing.
    pub(crate) fn save(&self, directory: &Path) -> std::io::Result<()> {
        let path = file(directory);
        let new = path.with_extension("new");
        std::fs::write(&new, serde_json::to_string(self)?)?;
        std::fs::rename(&new, &path)
    }

    /// Gives every name of the configuration a number. Names that are gone keep theirs until it is
    /// needed.
    pub(crate) fn assign(&mut self, config: &Config) {
        let listeners = config
            .listeners
            .iter()
            .map(|listener| listener.name.to_string());
        number(&mut self.listeners, listeners.collect(), LISTENERS_MAX);
        let pools = config.pools.iter().map(|pool| pool.name.to_string());
        number(&mut self.pools, pools.collect(), POOLS_MAX);
        let backends = config.pools.iter().flat_map(|pool| {
            let key = |endpoint| text(&(pool.name.to_string(), endpoint));
            pool.backends
                .iter()
                .map(move |backend| key(backend.endpoint))
        });
        number(&mut self.backends, backends.collect(), BACKENDS_MAX);
        let known = &self.backends;
        self.down.retain(|key| known.contains_key(key));
        self.judged.retain(|key| known.contains_key(key));
    }

    /// Takes down which of the configured backends are down now.
    pub(crate) fn note_health<'k>(
        &mut self,
        judged: impl Iterator<Item = BackendKey>,
        down: impl Iterator<Item = &'k BackendKey>,
    ) {
        self.judged = judged.map(|key| text(&key)).collect();
        self.down = down.map(text).collect();
    }

    /// The listener's number.
    pub(crate) fn listener(&self, name: &str) -> Option<u16> {
        self.listeners.get(name).copied()
    }

    /// The pool's number.
    pub(crate) fn pool(&self, name: &str) -> Option<u16> {
        self.pools.get(name).copied()
    }

    /// The backend's number.
    pub(crate) fn backend(&self, key: &BackendKey) -> Option<u16> {
        self.backends.get(&text(key)).copied()
    }

    /// What an earlier control had found out about the backend.
    pub(crate) fn was_down(&self, key: &BackendKey) -> Option<bool> {
        let key = text(key);
        self.judged.contains(&key).then(|| self.down.contains(&key))
    }
}

fn file(directory: &Path) -> PathBuf {
    directory.join(FILE_NAME)
}

fn text(key: &BackendKey) -> String {
    format!("{} {}", key.0, key.1)
}

/// Numbers the names that have none, preferring numbers never used: counters of a used one belong
/// to somebody else.
fn number(numbers: &mut BTreeMap<String, u16>, names: BTreeSet<String>, max: usize) {
    let new: Vec<&String> = names
        .iter()
        .filter(|name| !numbers.contains_key(*name))
        .collect();
    if numbers.len() + new.len() > max {
        numbers.retain(|name, _| names.contains(name));
    }
    let mut taken: BTreeSet<u16> = numbers.values().copied().collect();
    for name in new {
        let candidates = 0..u16::try_from(max).unwrap_or(u16::MAX);
        let Some(free) = candidates
            .into_iter()
            .find(|number| !taken.contains(number))
        else {
            // The configuration is checked against the same bounds.
            return;
        };
        taken.insert(free);
        numbers.insert(name.clone(), free);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_name_keeps_its_number_and_a_gone_one_is_reused_last() {
        let mut numbers = BTreeMap::new();
        number(&mut numbers, names(&["a", "b"]), 3);
        number(&mut numbers, names(&["b", "c"]), 3);
        assert_eq!((numbers["a"], numbers["b"], numbers["c"]), (0, 1, 2));
        number(&mut numbers, names(&["b", "c", "d"]), 3);
        assert_eq!((numbers["b"], numbers["c"], numbers["d"]), (1, 2, 0));
        assert!(!numbers.contains_key("a"));
    }

    #[test]
    fn a_memo_survives_its_file_and_a_broken_file_is_forgotten() {
        let directory = std::env::temp_dir().join(format!("millrace-memo-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("folder");
        assert_eq!(Memo::load(&directory), Memo::default());
        let mut memo = Memo::default();
        number(&mut memo.pools, names(&["web"]), 4);
        memo.save(&directory).expect("saved");
        assert_eq!(Memo::load(&directory), memo);
        std::fs::write(directory.join(FILE_NAME), "{\"listeners\":").expect("write");
        assert_eq!(Memo::load(&directory), Memo::default());
        std::fs::remove_dir_all(&directory).expect("remove");
    }
}
