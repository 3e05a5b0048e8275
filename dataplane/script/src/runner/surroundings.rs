//! Shell commands and code blocks.

use super::Runner;
use crate::code::{self, Block};
use crate::failure::Stop;
use crate::fault::Position;
use crate::kernel::{Applied, Call, Output, Progress, Setting};
use crate::shell::{Command, Runs};
use crate::symbols;
use crate::tcp_info;

impl Runner<'_> {
    /// Runs commands. As in a shell the last one's status counts; what fails in the middle is
    /// remembered as the reason.
    pub(super) fn shell(&mut self, commands: &[Command]) -> Result<(), Stop> {
        let mut failure: Option<(Position, String)> = None;
        for command in commands {
            let runs = match command.runs {
                // A script's author means every command to work: a failure is not swallowed.
                Runs::Always => {
                    refuse(failure.take())?;
                    true
                }
                Runs::AfterSuccess => failure.is_none(),
                Runs::AfterFailure => failure.take().is_some(),
            };
            if runs {
                failure = self.apply(command).err();
            }
        }
        refuse(failure)?;
        self.settle()
    }

    fn apply(&mut self, command: &Command) -> Result<(), (Position, String)> {
        for setting in &command.settings {
            let is_optional = matches!(
                setting,
                Setting::Tunable {
                    is_optional: true,
                    ..
                }
            );
            if let Applied::No(why) = self.kernel.apply(setting)
                && !is_optional
            {
                return Err((command.at, format!("`{}`: {why}", command.text)));
            }
        }
        Ok(())
    }

    pub(super) fn code(&mut self, block: &Block, at: Position) -> Result<(), Stop> {
        let fd = self.connection().and_then(|connection| connection.fd);
        let live = fd.and_then(|fd| self.fds.get(&fd).copied());
        let info = live.and_then(|fd| self.tcp_info(fd));
        let lookup = |name: &str| {
            let bytes = info.as_deref().unwrap_or(&[]);
            symbols::value(name).or_else(|| tcp_info::field(name, bytes))
        };
        let outcome = code::run(block, &mut self.scope, &lookup);
        outcome.map_err(|fault| {
            let reason = if info.is_none() {
                " (the connection under test has no TCP_INFO)"
            } else {
                ""
            };
            let at = if fault.at == Position::default() {
                at
            } else {
                fault.at
            };
            Stop::failed(at, format!("{}{reason}", fault.message))
        })
    }

    fn tcp_info(&mut self, fd: i32) -> Option<Vec<u8>> {
        let (level, name) = tcp_info::OPTION;
        let call = Call::GetSockOpt {
            fd,
            level,
            name,
            room: tcp_info::ROOM,
        };
        match self.kernel.start(&call) {
            Progress::Done(outcome) if outcome.result == 0 => match outcome.output {
                Output::Bytes(bytes) => Some(bytes),
                _ => None,
            },
            _ => None,
        }
    }
}

fn refuse(failure: Option<(Position, String)>) -> Result<(), Stop> {
    match failure {
        Some((at, message)) => Err(Stop::failed(at, message)),
        None => Ok(()),
    }
}
