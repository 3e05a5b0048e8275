//! Where in a script something is wrong, and what was expected there.
//!
//! Faults of the script's text, and of what it asks, are one type; a stack that behaves other than
//! the script says is a [`crate::Failure`].

use std::fmt;

/// A place in a script. Lines and columns count from 1; a column is a byte of its line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The byte of the line.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A script that cannot be read, or asks for what this runner does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{at}: {message}")]
pub struct ScriptError {
    /// The script's name, as it was given.
    pub file: String,
    /// Where.
    pub at: Position,
    /// What was expected, and what stands there.
    pub message: String,
}

/// A [`ScriptError`] before the file's name is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) at: Position,
    pub(crate) message: String,
}

impl Fault {
    pub(crate) fn new(at: Position, message: impl Into<String>) -> Self {
        Self {
            at,
            message: message.into(),
        }
    }

    pub(crate) fn in_file(self, file: &str) -> ScriptError {
        ScriptError {
            file: file.to_owned(),
            at: self.at,
            message: self.message,
        }
    }
}
