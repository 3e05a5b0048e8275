//! How a run ends badly.

use crate::fault::{Fault, Position, ScriptError};

/// The stack did other than the script says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{at}: {message}")]
pub struct Failure {
    /// The script's name.
    pub file: String,
    /// The event.
    pub at: Position,
    /// What was expected and what happened; several lines where packets differ.
    pub message: String,
}

/// Why a run did not pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// The script asks for what this runner or this kernel does not know.
    #[error("{0}")]
    Script(#[from] ScriptError),
    /// The stack is at fault.
    #[error("{0}")]
    Failed(#[from] Failure),
}

/// A [`RunError`] before the file's name is known.
#[derive(Clone, Debug)]
pub(crate) enum Stop {
    Script(Fault),
    Failed(Fault),
}

impl Stop {
    pub(crate) fn failed(at: Position, message: impl Into<String>) -> Self {
        Self::Failed(Fault::new(at, message))
    }

    pub(crate) fn script(at: Position, message: impl Into<String>) -> Self {
        Self::Script(Fault::new(at, message))
    }

    pub(crate) fn in_file(self, file: &str) -> RunError {
        match self {
            Self::Script(fault) => fault.in_file(file).into(),
            Self::Failed(Fault { at, message }) => Failure {
                file: file.to_owned(),
                at,
                message,
            }
            .into(),
        }
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Script(fault)
    }
}
