//! What can be wrong with a configuration: one variant per mistake, its place and what to do about
//! it.
//!
//! The blame is always the operator's, except `Unreadable`, which is the environment's.

use std::fmt;
use std::path::PathBuf;

/// Where a mistake is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In a file; lines count from 1, and line 0 means the file as a whole.
    File {
        /// The file, as it was named.
        path: PathBuf,
        /// The line.
        line: usize,
    },
    /// In an environment variable.
    Variable(String),
}

/// A mistake in the configuration. The doc comment of a variant says what it means for the
/// operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// The file is not TOML; nothing else in it was looked at.
    #[error("{0}")]
    Syntax(String),
    /// No key or table of this name exists there.
    #[error("unknown key \"{key}\" in {section}")]
    UnknownKey {
        /// The key as written.
        key: String,
        /// The header of the table it is in.
        section: String,
        /// What it was probably meant to be, or where it belongs.
        hint: String,
    },
    /// The value has another type than the key.
    #[error("\"{key}\" must be {expected}, not {found}")]
    WrongType {
        /// The key's path.
        key: String,
        /// What is expected, with an article.
        expected: String,
        /// What was found.
        found: String,
    },
    /// The number is outside the key's range.
    #[error("\"{key}\" is {value}, outside {min} to {max}")]
    OutOfRange {
        /// The key's path.
        key: String,
        /// The number as written.
        value: String,
        /// Smallest value allowed.
        min: i64,
        /// Largest value allowed.
        max: i64,
    },
    /// The word is none of the key's words.
    #[error("\"{key}\" cannot be \"{value}\"")]
    UnknownWord {
        /// The key's path.
        key: String,
        /// The word as written.
        value: String,
        /// The words there are.
        words: &'static [&'static str],
    },
    /// A required key is absent.
    #[error("{section} has no \"{key}\"")]
    Missing {
        /// The key.
        key: String,
        /// The header of the table it is absent from.
        section: String,
        /// A line that would do.
        example: String,
    },
    /// The text does not parse as what the key holds.
    #[error("\"{value}\" is not {expected}")]
    Malformed {
        /// The text as written.
        value: String,
        /// What it should be, with an article.
        expected: &'static str,
        /// An example or an explanation.
        hint: String,
    },
    /// Two things have the same name, address or number.
    #[error("{what} \"{value}\" is there twice; the first is at {first}")]
    Duplicate {
        /// What is duplicated.
        what: &'static str,
        /// The value they share.
        value: String,
        /// Where the other one is.
        first: Place,
        /// What to do.
        hint: &'static str,
    },
    /// Two listeners claim the same address and port.
    #[error("listener \"{name}\" overlaps listener \"{other}\" at {first}: both have {endpoint}")]
    Overlap {
        /// The later listener.
        name: String,
        /// The earlier listener.
        other: String,
        /// Where the earlier listener is.
        first: Place,
        /// The address and first port that they share.
        endpoint: String,
    },
    /// A name that refers to nothing.
    #[error("there is no {what} \"{name}\"")]
    Unknown {
        /// What should exist.
        what: &'static str,
        /// The name used.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// The address is one that cannot be used there.
    #[error("{address} cannot be used as {role}: it is {why}")]
    Unusable {
        /// The address.
        address: String,
        /// What it was meant for.
        role: &'static str,
        /// Which kind of address it is.
        why: &'static str,
    },
    /// The address is in no network of the ports (or of the port named).
    #[error("{role} {address} is in no network of {port}")]
    NotOnLink {
        /// What the address is for.
        role: &'static str,
        /// The address.
        address: String,
        /// The port looked at, or "any port".
        port: String,
        /// The networks there are.
        networks: Vec<String>,
    },
    /// No port network and no route covers the backend.
    #[error("there is no route to backend {0}")]
    NoRoute(String),
    /// Backends of this family exist, but no source address of it.
    #[error("backend {backend} needs an {family} source address, and [snat] has none")]
    NoSnat {
        /// The backend's address.
        backend: String,
        /// "IPv4" or "IPv6".
        family: &'static str,
    },
    /// Too many of something.
    #[error("{count} {what}, and at most {max} are possible")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// A combination of values that contradicts itself.
    #[error("{message}")]
    Contradiction {
        /// What contradicts what.
        message: String,
        /// What to do.
        hint: &'static str,
    },
}

/// A mistake and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What.
    pub fault: Fault,
}

/// Everything that is wrong with a configuration, in file order; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Fault {
    /// What the operator can do about it, when there is more to say than the message.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Unreadable(_) | Self::Syntax(_) => return None,
            Self::UnknownKey { hint, .. } | Self::Malformed { hint, .. } => hint.clone(),
            Self::WrongType { key, expected, .. } if expected == "a list of tables" => {
                format!("write its header with two brackets: [[{key}]]")
            }
            Self::WrongType { expected, .. } if expected.starts_with("a list") => {
                "write lists in brackets: [1, 2]".to_owned()
            }
            Self::WrongType { expected, .. } if expected == "a string" => {
                "write strings in double quotes".to_owned()
            }
            Self::WrongType { .. } => return None,
            Self::OutOfRange { min, max, .. } => format!("use a number from {min} to {max}"),
            Self::UnknownWord { words, .. } => format!("use one of {}", quoted(words)),
            Self::Missing { example, .. } => format!("add a line like: {example}"),
            Self::Duplicate { hint, .. } | Self::Contradiction { hint, .. } => (*hint).to_owned(),
            Self::Overlap { .. } => "give one of them another address or other ports".to_owned(),
            Self::Unknown { what, name, known } => unknown_hint(what, name, known),
            Self::Unusable { .. } => "use a unicast address".to_owned(),
            Self::NotOnLink { networks, .. } => {
                if networks.is_empty() {
                    "no port has a network of this family".to_owned()
                } else {
                    format!("the networks are {}", networks.join(", "))
                }
            }
            Self::NoRoute(_) => {
                "add a [[route]] to its network, or a port address in it".to_owned()
            }
            Self::NoSnat { family, .. } => {
                format!("add an {family} address to \"addresses\" in [snat]")
            }
            Self::TooMany { .. } => "the shared region has room for no more".to_owned(),
        };
        Some(hint)
    }
}

fn unknown_hint(what: &str, name: &str, known: &[String]) -> String {
    let near = known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(candidate, name), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min();
    match (near, known) {
        (Some((_, near)), _) => format!("did you mean \"{near}\"?"),
        (None, []) => format!("there is no {what} at all"),
        (None, known) => format!("there is {}", quoted(known)),
    }
}

fn quoted<T: AsRef<str>>(words: &[T]) -> String {
    let words: Vec<String> = words
        .iter()
        .map(|word| format!("\"{}\"", word.as_ref()))
        .collect();
    words.join(", ")
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: 0 } => write!(f, "{}", path.display()),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.fault)?;
        match self.fault.hint() {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problem) in self.0.iter().enumerate() {
            if position > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
