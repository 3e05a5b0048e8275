//! System calls: begun, waited for, ended.

use super::Runner;
use super::answers::Expected;
use super::clock::{Schedule, seconds};
use crate::ast::CallLine;
use crate::failure::Stop;
use crate::kernel::{Call, Outcome, Progress, Ticket};

/// How long a call that is not written as blocking may still take: it sleeps in a timeout of its
/// own, as `poll` does, and nothing else of the script happens meanwhile.
const SLEEP_USECS_MAX: i64 = 60_000_000;

/// A call that has not returned.
#[derive(Debug)]
pub(super) struct Pending<'a> {
    ticket: Ticket,
    open: Open<'a>,
}

/// A call with what is to be known when it returns.
#[derive(Debug)]
struct Open<'a> {
    line: &'a CallLine,
    call: Call,
    expected: Expected,
    /// When it began, and when it is to return: microseconds since the script's beginning.
    begun: i64,
    end: Option<i64>,
}

impl<'a> Runner<'a> {
    pub(super) fn call(&mut self, line: &'a CallLine, schedule: &Schedule) -> Result<(), Stop> {
        if line.end.is_some() {
            self.await_pending()?;
        }
        let (call, expected) = self.translate(line)?;
        let end = line.end.map(|end| schedule.base + end);
        let open = Open {
            line,
            call,
            expected,
            begun: schedule.from,
            end,
        };
        match self.kernel.start(&open.call) {
            Progress::Done(outcome) => {
                self.returned(&open, &outcome)?;
                self.settle()
            }
            Progress::Pending(ticket) => self.wait(Pending { ticket, open }),
        }
    }

    fn wait(&mut self, pending: Pending<'a>) -> Result<(), Stop> {
        let line = pending.open.line;
        if self.pending.is_some() {
            return Err(Stop::failed(
                line.at,
                "this call blocks while another one still does",
            ));
        }
        let blocks = pending.open.end.is_some();
        self.pending = Some(pending);
        if blocks {
            return self.settle();
        }
        let limit = self.now() + SLEEP_USECS_MAX;
        self.step_until(limit, |runner| runner.pending.is_none())?;
        if self.pending.is_some() {
            let message = format!(
                "`{}` blocks; a call that does is written `+0...0.1 {}(...)`",
                line.name, line.name
            );
            return Err(Stop::failed(line.at, message));
        }
        Ok(())
    }

    /// Looks whether the pending call has returned.
    pub(super) fn finish_pending(&mut self) -> Result<(), Stop> {
        let Some(pending) = self.pending.take() else {
            return Ok(());
        };
        match self.kernel.poll(pending.ticket) {
            Some(outcome) => self.returned(&pending.open, &outcome),
            None => {
                self.pending = Some(pending);
                Ok(())
            }
        }
    }

    /// Lets the time pass until the pending call has returned, or should have.
    pub(super) fn await_pending(&mut self) -> Result<(), Stop> {
        let Some(pending) = &self.pending else {
            return Ok(());
        };
        let Open {
            line, begun, end, ..
        } = &pending.open;
        let (line, end) = (*line, end.unwrap_or(*begun));
        let limit = end + self.settings.tolerance(end - begun);
        self.step_until(limit.max(self.now()), |runner| runner.pending.is_none())?;
        if self.pending.is_some() {
            let due = seconds(end);
            return Err(Stop::failed(
                line.at,
                format!(
                    "`{}` should have returned at {due} s and has not",
                    line.name
                ),
            ));
        }
        Ok(())
    }

    fn returned(&mut self, open: &Open<'a>, outcome: &Outcome) -> Result<(), Stop> {
        let now = self.now();
        self.note(&format!("{}() = {}", open.line.name, outcome.result));
        self.answer(open.line, &open.expected, outcome)?;
        self.keep(open.line, &open.call, &open.expected, outcome)?;
        let Some(end) = open.end else { return Ok(()) };
        let tolerance = self.settings.tolerance(end - open.begun);
        if (now - end).abs() > tolerance {
            let (end, now, tolerance) = (seconds(end), seconds(now), seconds(tolerance));
            let message = format!(
                "`{}` should have returned at {end} s, it did at {now} s (tolerance {tolerance} s)",
                open.line.name
            );
            return Err(Stop::failed(open.line.at, message));
        }
        Ok(())
    }
}
