//! Shell commands: read, never run.
//!
//! Scripts call the shell to set tunables and queueing disciplines, and for little else. The forms
//! that are known become [`Setting`]s; any other is a fault that names its line. Of the shell's own
//! language there are words, quotes, comments, `;`, `&&`, `||`, pipes into `grep`, and redirections
//! to `/dev/null` and to files under `/proc/sys` and `/sys/module`.

mod defaults;
mod forms;
mod words;

use crate::fault::{Fault, Position};
use crate::kernel::Setting;

/// One simple command: what it asks for, and when it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) at: Position,
    /// As written, for messages.
    pub(crate) text: String,
    pub(crate) runs: Runs,
    /// Applied in order until one fails.
    pub(crate) settings: Vec<Setting>,
}

/// Whether a command runs, by the status of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runs {
    /// After `;` or a new line. The status of the one before is forgotten, as in a shell.
    Always,
    /// After `&&`.
    AfterSuccess,
    /// After `||`.
    AfterFailure,
}

/// Reads what stands between back quotes; `at` is the place of the first quote.
pub(crate) fn parse(text: &str, at: Position) -> Result<Vec<Command>, Fault> {
    let mut commands = Vec::new();
    for line in words::lines(text, at)? {
        let settings = forms::settings(&line)?;
        commands.push(Command {
            at: line.at,
            text: line.text(),
            runs: line.runs,
            settings,
        });
    }
    Ok(commands)
}

#[cfg(test)]
mod tests;
