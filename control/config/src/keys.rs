//! The key table: every key of the file with its kind, range, unit, default and whether it is live.
//!
//! This is the only place that documents a key. The structural check (`layer`), the defaults and
//! `conf/full.toml` all read it; a key that is not here cannot be set. It does not know relations
//! between keys: those are in `check`.

mod table;

pub use table::{KEYS, SECTIONS};

/// What a value must look like before relations between keys are considered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number, both ends included.
    Integer {
        /// Smallest value allowed.
        min: i64,
        /// Largest value allowed.
        max: i64,
    },
    /// A string; what it must parse as is checked later.
    Text,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// `true` or `false`.
    Boolean,
    /// One TCP port or a range: `80`, `"80"` or `"8000-8010"`.
    Ports,
    /// A list of whole numbers, both ends included.
    Integers {
        /// Smallest value allowed.
        min: i64,
        /// Largest value allowed.
        max: i64,
    },
    /// A list of strings.
    Texts,
}

/// What it takes for a changed value to have effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// `millrace reload` or SIGHUP.
    Reload,
    /// A restart of control; the dataplane goes on.
    ControlRestart,
    /// A restart of the dataplane: connections are lost.
    DataplaneRestart,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The table the key is in: `""`, `"dataplane"`, `"pool[].backend[]"`; `[]` marks a list of
    /// tables.
    pub section: &'static str,
    /// The key itself.
    pub name: &'static str,
    /// Type and range.
    pub kind: Kind,
    /// What one of it is: `"ms"`, `"bytes"`; empty when the value is not a quantity.
    pub unit: &'static str,
    /// The default as TOML text. `None`: the key is required, or optional without a default (see
    /// `required`).
    pub default: Option<&'static str>,
    /// Whether leaving it out is an error.
    pub required: bool,
    /// A value to show in `conf/full.toml` where there is no default, as TOML text.
    pub example: Option<&'static str>,
    /// What it takes for a change to have effect.
    pub takes: Takes,
    /// What it does, in one or two sentences.
    pub doc: &'static str,
}

/// A table of the file.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// As in `Key::section`.
    pub path: &'static str,
    /// What it is for.
    pub doc: &'static str,
}

const fn key(section: &'static str, name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key {
        section,
        name,
        kind,
        unit: "",
        default: None,
        required: false,
        example: None,
        takes: Takes::Reload,
        doc,
    }
}

impl Key {
    pub(super) const fn unit(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }
    pub(super) const fn default(self, default: &'static str) -> Self {
        Self {
            default: Some(default),
            ..self
        }
    }
    pub(super) const fn required(self, example: &'static str) -> Self {
        Self {
            required: true,
            example: Some(example),
            ..self
        }
    }
    pub(super) const fn example(self, example: &'static str) -> Self {
        Self {
            example: Some(example),
            ..self
        }
    }
    pub(super) const fn dataplane_restart(self) -> Self {
        Self {
            takes: Takes::DataplaneRestart,
            ..self
        }
    }
    pub(super) const fn control_restart(self) -> Self {
        Self {
            takes: Takes::ControlRestart,
            ..self
        }
    }

    /// The path of the key as messages write it, without list marks: `pool.backend.weight`.
    pub fn path(&self) -> String {
        let section = self.section.replace("[]", "");
        if section.is_empty() {
            self.name.to_owned()
        } else {
            format!("{section}.{}", self.name)
        }
    }
}

/// The row of this key.
pub(crate) fn find(section: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter()
        .find(|key| key.section == section && key.name == name)
}

/// Whether there is a table of this path.
pub(crate) fn is_section(path: &str) -> bool {
    SECTIONS.iter().any(|section| section.path == path)
}

/// Every name allowed directly inside `section`: keys and tables.
pub(crate) fn names_in(section: &str) -> Vec<&'static str> {
    let keys = KEYS.iter().filter(|key| key.section == section);
    keys.map(|key| key.name)
        .chain(SECTIONS.iter().filter_map(|child| {
            let (parent, name) = match child.path.trim_end_matches("[]").rsplit_once('.') {
                Some(split) => split,
                None => ("", child.path.trim_end_matches("[]")),
            };
            (parent == section && !name.is_empty()).then_some(name)
        }))
        .collect()
}

/// The name of `names_in(section)` that `name` was probably meant to be.
pub(crate) fn nearest(section: &str, name: &str) -> Option<&'static str> {
    names_in(section)
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(known, name), known))
        .filter(|(distance, known)| *distance <= (known.len() / 3).max(1))
        .min()
        .map(|(_, known)| known)
}

/// The section as the file writes its header: `[dataplane]`, `[[port]]`; the top level has none.
pub(crate) fn header(section: &str) -> String {
    let plain = section.replace("[]", "");
    if section.is_empty() {
        "the top level".to_owned()
    } else if section.ends_with("[]") {
        format!("[[{plain}]]")
    } else {
        format!("[{plain}]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_in_a_known_section_and_only_once() {
        for (position, key) in KEYS.iter().enumerate() {
            assert!(is_section(key.section), "{}", key.path());
            assert!(
                KEYS.iter()
                    .skip(position + 1)
                    .all(|other| other.path() != key.path()),
                "{} twice",
                key.path()
            );
            assert!(!(key.required && key.default.is_some()), "{}", key.path());
        }
    }

    #[test]
    fn a_typo_finds_its_key_and_nonsense_finds_none() {
        assert_eq!(nearest("listener[]", "adress"), Some("address"));
        assert_eq!(nearest("", "listner"), Some("listener"));
        assert_eq!(nearest("pool[]", "backends"), Some("backend"));
        assert_eq!(nearest("listener[]", "quux"), None);
    }
}
