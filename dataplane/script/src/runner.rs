//! Plays a script: event by event, in virtual time.
//!
//! `clock.rs` moves the time, `inbound.rs` injects, `outbound.rs` expects, `translate.rs` reads a
//! call, `calls.rs` makes it, `answers.rs` checks what came back, `surroundings.rs` runs shell commands and code.

mod answers;
mod arguments;
mod calls;
mod clock;
mod compare;
mod connection;
mod inbound;
mod message;
mod outbound;
mod surroundings;
mod translate;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::ast::{Action, Direction, Event};
use crate::code::Scope;
use crate::failure::{RunError, Stop};
use crate::kernel::{Departure, Kernel};
use crate::script::Script;
use crate::settings::Settings;
use calls::Pending;
use clock::Schedule;
use connection::Connection;

/// What becomes of packets of the connection under test that the script does not expect and that
/// no later line met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leftovers {
    /// They fail the script.
    Fail,
    /// They are reported. The public suite needs it: several of its scripts end before their last
    /// packet.
    Allow,
}

/// What a run that passed leaves to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Lines of `print` in code blocks.
    pub printed: Vec<String>,
    /// Packets that were not expected, as the language writes them.
    pub leftovers: Vec<String>,
    /// Every packet and call with its time.
    pub log: Vec<String>,
}

/// Plays `script` against `kernel`, which must be new and have the script's
/// [`network`](Script::network).
///
/// # Errors
///
/// The first event at which the kernel did other than the script says, or which the runner or the
/// kernel does not know.
pub fn run(
    script: &Script,
    kernel: &mut dyn Kernel,
    leftovers: Leftovers,
) -> Result<Report, RunError> {
    let mut runner = Runner::new(script, kernel);
    let outcome = runner.play(leftovers);
    outcome.map_err(|stop| stop.in_file(&script.name))?;
    Ok(Report {
        printed: runner.scope.printed,
        leftovers: runner.leftovers,
        log: runner.log,
    })
}

struct Runner<'a> {
    script: &'a Script,
    settings: &'a Settings,
    kernel: &'a mut dyn Kernel,
    /// The kernel's time when the script began.
    origin: Duration,
    /// Descriptors: the script's, the kernel's.
    fds: BTreeMap<i32, i32>,
    connections: Vec<Connection>,
    /// The connection under test.
    current: Option<usize>,
    /// The next port that a peer connects from.
    peer_port: u16,
    /// Packets that left and were not looked at.
    departed: VecDeque<Departure>,
    pending: Option<Pending<'a>>,
    /// The event before, and when the script says it is.
    last: Option<(&'a Event, i64)>,
    scope: Scope,
    leftovers: Vec<String>,
    log: Vec<String>,
}

impl<'a> Runner<'a> {
    fn new(script: &'a Script, kernel: &'a mut dyn Kernel) -> Self {
        let origin = kernel.now();
        Self {
            script,
            settings: &script.settings,
            kernel,
            origin,
            fds: BTreeMap::new(),
            connections: Vec::new(),
            current: None,
            peer_port: 40_000,
            departed: VecDeque::new(),
            pending: None,
            last: None,
            scope: Scope::default(),
            leftovers: Vec::new(),
            log: Vec::new(),
        }
    }

    fn play(&mut self, leftovers: Leftovers) -> Result<(), Stop> {
        let script = self.script;
        self.shell(&script.tree.before)?;
        for event in &script.tree.events {
            let schedule = self.schedule(event)?;
            self.event(event, &schedule)?;
            self.last = Some((event, schedule.from));
        }
        self.settle()?;
        self.await_pending()?;
        self.shell(&script.tree.after)?;
        self.collect_leftovers(leftovers)
    }

    fn event(&mut self, event: &'a Event, schedule: &Schedule) -> Result<(), Stop> {
        if let Action::Packet(packet) = &event.action
            && packet.direction == Direction::Outbound
        {
            return self.expect(packet, schedule);
        }
        self.wait_for(schedule)?;
        match &event.action {
            Action::Packet(packet) => self.inject(packet, event.at),
            Action::Call(line) => self.call(line, schedule),
            Action::Shell(commands) => self.shell(commands),
            Action::Code(block) => self.code(block, event.at),
        }
    }

    fn connection(&mut self) -> Option<&mut Connection> {
        self.connections.get_mut(self.current?)
    }

    fn note(&mut self, text: &str) {
        let time = self.now();
        self.log.push(format!("{} {text}", clock::seconds(time)));
    }
}

#[cfg(test)]
mod tests;
