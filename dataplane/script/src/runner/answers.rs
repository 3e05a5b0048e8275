//! What a call returned against what the script says, and what the runner keeps of it.

use super::Runner;
use super::arguments::{int, integer};
use super::connection::{Connection, Stage};
use super::message;
use crate::ast::{CallLine, Expression};
use crate::failure::Stop;
use crate::kernel::{Call, Control, EpollEvent, Outcome, Output};
use crate::payload;
use crate::settings::micros;
use crate::symbols;

const MSG_OOB: i32 = 0x1;
const MSG_PEEK: i32 = 0x2;
const MSG_TRUNC: i32 = 0x20;
const MSG_ERRQUEUE: i32 = 0x2000;

/// What a call must write into the caller's memory.
#[derive(Clone, Debug)]
pub(super) enum Expected {
    Nothing,
    /// A new descriptor, in the script's numbers.
    Descriptor(i64),
    /// The same, of a connection that a peer opened.
    Accepted(i64),
    Value(i32),
    /// `None` is `...`.
    Option {
        value: Option<Vec<u8>>,
        length: usize,
    },
    Message {
        flags: i32,
        control: Vec<Control>,
    },
    Polled(Vec<u16>),
    Events(Vec<EpollEvent>),
    Pair(i32, i32),
}

impl Expected {
    /// The result need not be the script's: it is a number of the kernel's choice.
    fn is_descriptor(&self) -> bool {
        matches!(self, Self::Descriptor(_) | Self::Accepted(_))
    }
}

impl Runner<'_> {
    /// Compares result, error and output.
    pub(super) fn answer(
        &self,
        line: &CallLine,
        expected: &Expected,
        outcome: &Outcome,
    ) -> Result<(), Stop> {
        let fail =
            |message: String| Err(Stop::failed(line.at, format!("`{}`: {message}", line.name)));
        let result = integer(&line.result)?;
        let holds = if expected.is_descriptor() && result >= 0 {
            outcome.result >= 0
        } else {
            outcome.result == result
        };
        if !holds {
            return fail(format!(
                "expected result {}, actual {}",
                told(line, result),
                actual(outcome)
            ));
        }
        if let Some((at, name)) = &line.errno {
            let Some(number) = symbols::errno(name) else {
                return Err(Stop::script(
                    *at,
                    format!("`{name}` is no error that is known"),
                ));
            };
            if i64::from(outcome.errno) != number {
                return fail(format!("expected {name}, actual {}", actual(outcome)));
            }
        }
        if outcome.result < 0 {
            return Ok(());
        }
        match self.difference(expected, outcome) {
            Some(difference) => fail(difference),
            None => Ok(()),
        }
    }

    fn difference(&self, expected: &Expected, outcome: &Outcome) -> Option<String> {
        match (expected, &outcome.output) {
            (Expected::Value(expected), Output::Value(actual)) => (expected != actual)
                .then(|| format!("expected the value {expected}, actual {actual}")),
            (Expected::Option { value, length }, Output::Bytes(actual)) => {
                option_difference(value.as_deref(), *length, actual)
            }
            (
                Expected::Message { flags, control },
                Output::Message {
                    flags: actual,
                    control: found,
                    ..
                },
            ) => {
                if flags != actual {
                    return Some(format!("expected msg_flags {flags:#x}, actual {actual:#x}"));
                }
                let tolerance = self.settings.tolerance_usecs;
                message::difference(control, found, micros(self.origin), tolerance)
            }
            (Expected::Polled(expected), Output::Polled(actual)) => (expected != actual)
                .then(|| format!("expected revents {expected:#x?}, actual {actual:#x?}")),
            (Expected::Events(expected), Output::Events(actual)) => {
                event_difference(expected, actual)
            }
            // A pipe's output is kept; an ioctl that only takes a value writes none.
            (Expected::Pair(..), Output::Pair(..)) | (Expected::Value(_), Output::None) => None,
            (Expected::Nothing | Expected::Descriptor(_) | Expected::Accepted(_), _) => None,
            (expected, output) => Some(format!("the kernel answered {output:?}, not {expected:?}")),
        }
    }

    /// Notes what a call changed: descriptors, streams, connections.
    pub(super) fn keep(
        &mut self,
        line: &CallLine,
        call: &Call,
        expected: &Expected,
        outcome: &Outcome,
    ) -> Result<(), Stop> {
        if outcome.result < 0 {
            return Ok(());
        }
        let fds: Vec<i32> = line
            .arguments
            .iter()
            .filter_map(|fd: &Expression| int(fd).ok())
            .collect();
        let fd = fds.first().copied().unwrap_or(-1);
        match (expected, &outcome.output) {
            (Expected::Descriptor(script), _) => {
                self.open(*script, outcome.result);
                if matches!(call, Call::Socket { .. }) {
                    self.current = Some(self.connections.len());
                    let script = i32::try_from(*script).ok();
                    self.connections.push(Connection::new(Stage::New, script));
                }
            }
            (Expected::Accepted(script), output) => {
                self.open(*script, outcome.result);
                self.accepted(line, *script, output)?;
            }
            (Expected::Pair(from, to), Output::Pair(live_from, live_to)) => {
                self.open(i64::from(*from), i64::from(*live_from));
                self.open(i64::from(*to), i64::from(*live_to));
            }
            _ => {}
        }
        let moved = u64::try_from(outcome.result).unwrap_or(0);
        match call {
            Call::Listen { .. } => {
                if let Some(connection) = self.connection_of(fd) {
                    connection.stage = Stage::Listening;
                }
            }
            Call::Write { .. } | Call::Send { .. } | Call::SendMessage { .. } => {
                if let Some(connection) = self.connection_of(fd) {
                    connection.sent += moved;
                }
            }
            Call::SendFile { .. } => {
                if let Some(connection) = self.connection_of(fd) {
                    connection
                        .zeros
                        .push(connection.sent..connection.sent + moved);
                    connection.sent += moved;
                }
            }
            Call::Splice { .. } => self.spliced(line, moved)?,
            Call::Read { .. } => self.check_read(line, fd, 0, outcome)?,
            Call::Receive { flags, .. } | Call::ReceiveMessage { flags, .. } => {
                self.check_read(line, fd, *flags, outcome)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Pairs a descriptor of the script with the kernel's.
    fn open(&mut self, script: i64, live: i64) {
        let (Ok(script), Ok(live)) = (i32::try_from(script), i32::try_from(live)) else {
            return;
        };
        // The kernel gave the number out again: the script's old one means nothing any more.
        self.fds.retain(|_, known| *known != live);
        self.fds.insert(script, live);
        for connection in self
            .connections
            .iter_mut()
            .filter(|known| known.fd == Some(script))
        {
            connection.fd = None;
        }
    }

    fn accepted(&mut self, line: &CallLine, script: i64, output: &Output) -> Result<(), Stop> {
        let peer = match output {
            Output::Peer(peer) => Some((peer.ip().to_canonical(), peer.port())),
            _ => None,
        };
        let mut known = self.connections.iter_mut().rev();
        let connection = known.find(|connection| {
            peer.is_some() && connection.remote == peer && connection.fd.is_none()
        });
        let Some(connection) = connection else {
            let message =
                format!("`accept` returned a connection from {peer:?}, which never connected");
            return Err(Stop::failed(line.at, message));
        };
        connection.fd = i32::try_from(script).ok();
        Ok(())
    }

    fn spliced(&mut self, line: &CallLine, moved: u64) -> Result<(), Stop> {
        let [from, _, to, ..] = line.arguments.as_slice() else {
            return Ok(());
        };
        if let Some(connection) = self.connection_of(int(from)?) {
            connection.received += moved;
        }
        if let Some(connection) = self.connection_of(int(to)?) {
            connection.sends_other_bytes = true;
            connection.sent += moved;
        }
        Ok(())
    }

    /// Holds what was read against what the peer sent.
    fn check_read(
        &mut self,
        line: &CallLine,
        fd: i32,
        flags: i32,
        outcome: &Outcome,
    ) -> Result<(), Stop> {
        let Some(connection) = self.connection_of(fd) else {
            return Ok(());
        };
        if flags & (MSG_ERRQUEUE | MSG_OOB) != 0 || connection.reads_out_of_line {
            return Ok(());
        }
        let bytes: &[u8] = match &outcome.output {
            Output::Bytes(bytes) | Output::Message { bytes, .. } => bytes,
            _ => &[],
        };
        let offset = connection.received;
        let count = u64::try_from(outcome.result).unwrap_or(0);
        if flags & MSG_PEEK == 0 {
            connection.received += count;
        }
        if flags & MSG_TRUNC != 0 {
            return Ok(());
        }
        if u64::try_from(bytes.len()) != Ok(count) {
            let message = format!(
                "`{}`: returned {count} and wrote {} bytes",
                line.name,
                bytes.len()
            );
            return Err(Stop::failed(line.at, message));
        }
        match payload::difference(offset, bytes, &[]) {
            None => Ok(()),
            Some(at) => {
                let message = format!("`{}`: byte {at} is not what the peer sent there", line.name);
                Err(Stop::failed(line.at, message))
            }
        }
    }
}

fn told(line: &CallLine, result: i64) -> String {
    match &line.errno {
        Some((_, name)) => format!("{result} {name}"),
        None => result.to_string(),
    }
}

fn actual(outcome: &Outcome) -> String {
    if outcome.result < 0 {
        return format!(
            "{} {}",
            outcome.result,
            symbols::errno_name(i64::from(outcome.errno))
        );
    }
    outcome.result.to_string()
}

fn option_difference(expected: Option<&[u8]>, length: usize, actual: &[u8]) -> Option<String> {
    if actual.len() != length {
        return Some(format!("expected {length} bytes, actual {}", actual.len()));
    }
    let expected = expected?;
    let shown = |bytes: &[u8]| match <[u8; 4]>::try_from(bytes) {
        Ok(word) => i32::from_ne_bytes(word).to_string(),
        Err(_) => format!("{bytes:02x?}"),
    };
    (expected != actual).then(|| {
        format!(
            "expected the value {}, actual {}",
            shown(expected),
            shown(actual)
        )
    })
}

/// A script that lists one event means the first; none is an event of zeros.
fn event_difference(expected: &[EpollEvent], actual: &[EpollEvent]) -> Option<String> {
    expected.iter().enumerate().find_map(|(index, expected)| {
        let none = EpollEvent { events: 0, data: 0 };
        let actual = actual.get(index).copied().unwrap_or(none);
        (*expected != actual).then(|| {
            let (events, data) = (actual.events, actual.data);
            format!(
                "event {}: expected {:#x} for {}, actual {events:#x} for {data}",
                index + 1,
                expected.events,
                expected.data
            )
        })
    })
}
