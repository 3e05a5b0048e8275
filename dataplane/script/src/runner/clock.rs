//! When events are due, and how the time gets there.

use std::time::Duration;

use super::Runner;
use crate::ast::{Action, Direction, Event, When};
use crate::failure::Stop;
use crate::fault::Position;
use crate::settings::micros;

/// What a packet or a call costs in virtual time. On a real machine no two of them happen at once,
/// and a stack may rely on that: a round trip is not zero.
const EVENT_COST: Duration = Duration::from_micros(1);

/// Steps without progress after which a kernel is taken to spin.
const STEPS_WITHOUT_TIME_MAX: usize = 100_000;

/// An event's time, in microseconds since the script's beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    pub(super) at: Position,
    pub(super) from: i64,
    /// Equal to `from` unless the script gives a range.
    pub(super) to: i64,
    /// `*`
    pub(super) is_any: bool,
    /// What the event's times count from.
    pub(super) base: i64,
    /// How far the time may be off.
    pub(super) tolerance: i64,
}

impl Runner<'_> {
    /// Microseconds since the script's beginning.
    pub(super) fn now(&self) -> i64 {
        micros(self.kernel.now().saturating_sub(self.origin))
    }

    fn live(&self, time: i64) -> Duration {
        self.origin + Duration::from_micros(u64::try_from(time).unwrap_or(0))
    }

    /// When `event` is due. Packets that come in one after the other count from each other's due
    /// times, so that nothing adds up; all else counts from now.
    pub(super) fn schedule(&self, event: &Event) -> Result<Schedule, Stop> {
        let now = match self.last {
            Some((last, due)) if is_inbound(last) && is_inbound(event) => due,
            _ => self.now(),
        };
        let (base, from, to) = match event.time {
            When::Absolute(from) => (0, from, from),
            When::Relative(from) => (now, now + from, now + from),
            When::AbsoluteRange(from, to) => (0, from, to),
            When::RelativeRange(from, to) => (now, now + from, now + to),
            When::Any => (now, now, now),
        };
        let last = match self.last {
            Some((last, due)) => {
                let are_absolute =
                    [last.time, event.time].map(|time| matches!(time, When::Absolute(_)));
                if are_absolute == [true, true] && from < due {
                    return Err(Stop::script(event.at, "time goes back"));
                }
                due
            }
            None if from != 0 => {
                return Err(Stop::script(event.at, "the first event must be at time 0"));
            }
            None => 0,
        };
        let tolerance = self.settings.tolerance(from - last);
        let is_any = event.time == When::Any;
        Ok(Schedule {
            at: event.at,
            from,
            to,
            is_any,
            base,
            tolerance,
        })
    }

    /// Lets the time pass until the event is due. It is too late for a time that is over.
    pub(super) fn wait_for(&mut self, schedule: &Schedule) -> Result<(), Stop> {
        self.advance(self.live(schedule.from))?;
        let now = self.now();
        if now > schedule.from + schedule.tolerance {
            let (due, now) = (seconds(schedule.from), seconds(now));
            return Err(Stop::failed(
                schedule.at,
                format!("this was due at {due} s, and it is {now} s"),
            ));
        }
        Ok(())
    }

    /// Lets the kernel do what a call or a packet has set off.
    pub(super) fn settle(&mut self) -> Result<(), Stop> {
        let after = self.kernel.now() + EVENT_COST;
        self.advance(after)
    }

    /// Moves the time to `limit`, from deadline to deadline.
    pub(super) fn advance(&mut self, limit: Duration) -> Result<(), Stop> {
        let mut steps = 0;
        let mut before = self.kernel.now();
        loop {
            self.step(limit)?;
            let now = self.kernel.now();
            let is_due = self
                .kernel
                .next_deadline()
                .is_some_and(|deadline| deadline <= now);
            if now >= limit && !is_due {
                return Ok(());
            }
            steps = if now > before { 0 } else { steps + 1 };
            before = now;
            if steps > STEPS_WITHOUT_TIME_MAX {
                return Err(self.spins());
            }
        }
    }

    /// One step towards `limit`: to the next deadline, if one is before it.
    pub(super) fn step(&mut self, limit: Duration) -> Result<(), Stop> {
        let now = self.kernel.now();
        let deadline = self.kernel.next_deadline().unwrap_or(limit);
        self.kernel.advance(deadline.min(limit).max(now));
        while let Some(departure) = self.kernel.take_packet() {
            self.departed.push_back(departure);
        }
        self.finish_pending()
    }

    fn spins(&self) -> Stop {
        let at = self.last.map_or(Position::default(), |(event, _)| event.at);
        Stop::failed(
            at,
            "after this event the stack has a deadline that never passes",
        )
    }

    /// Steps until `is_done` or until `limit`, whichever is first.
    pub(super) fn step_until(
        &mut self,
        limit: i64,
        is_done: impl Fn(&Self) -> bool,
    ) -> Result<(), Stop> {
        let limit = self.live(limit);
        let mut steps = 0;
        let mut before = self.kernel.now();
        while !is_done(self) && self.kernel.now() < limit {
            self.step(limit)?;
            steps = if self.kernel.now() > before {
                0
            } else {
                steps + 1
            };
            before = self.kernel.now();
            if steps > STEPS_WITHOUT_TIME_MAX {
                return Err(self.spins());
            }
        }
        Ok(())
    }
}

fn is_inbound(event: &Event) -> bool {
    matches!(&event.action, Action::Packet(packet) if packet.direction == Direction::Inbound)
}

/// `0.100000`
pub(super) fn seconds(micros: i64) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    let micros = micros.unsigned_abs();
    format!("{sign}{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}
