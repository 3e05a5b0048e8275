//! A flow: two programs, and whether both did what the plan says.

use millrace_base::Instant;

use crate::program::Program;
use crate::scenario::FlowPlan;

/// A flow that waits, runs or is over.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) plan: FlowPlan,
    pub(super) client: Option<Program>,
    pub(super) server: Option<Program>,
    /// Bytes that both had read when time was up last.
    pub(super) read_before: Option<u64>,
}

impl Flow {
    /// Whether both ends do what the other waits for.
    fn ends_well(&self) -> bool {
        self.plan.broken_off_at.is_none()
            && self.plan.client.ends_well()
            && self.plan.server.ends_well()
    }

    /// Whether both programs have a connection and are busy with it.
    pub(super) fn is_open(&self) -> bool {
        let busy = |program: &Option<Program>| {
            let program = program.as_ref();
            program.is_some_and(|one| one.finished_at.is_none() && one.broken.is_none())
        };
        busy(&self.client) && busy(&self.server)
    }

    /// Whether there was no room for it.
    fn is_refused(&self) -> bool {
        let client = self.client.as_ref().filter(|_| self.plan.may_be_refused);
        client.is_some_and(|client| client.broken.is_some() && client.read == 0)
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        if self.plan.broken_off_at.is_some_and(|at| at <= now) {
            return true;
        }
        let done = |program: &Option<Program>| {
            let program = program.as_ref();
            program.is_some_and(|program| program.finished_at.is_some())
        };
        if self.is_refused() {
            return true;
        }
        if self.ends_well() {
            return done(&self.client) && done(&self.server);
        }
        // Nobody tells the other end of an abort that got lost.
        done(&self.client) || done(&self.server)
    }

    pub(super) fn next_deadline(&self) -> Instant {
        let client = match &self.client {
            None => self.plan.starts_at,
            Some(program) => program.next_deadline(),
        };
        let server = self.server.as_ref().map(Program::next_deadline);
        client.min(server.unwrap_or(Instant::NEVER))
    }

    pub(super) fn judge(&self) -> Result<(), String> {
        let (Some(client), Some(server)) = (&self.client, &self.server) else {
            return Ok(());
        };
        if self.is_refused() {
            return Ok(());
        }
        for (name, from, to) in [
            ("the client's", client, server),
            ("the server's", server, client),
        ] {
            if to.read > from.written && !self.plan.is_confused {
                return Err(format!("more was read of {name} stream than written"));
            }
            if !self.ends_well() {
                continue;
            }
            if let Some(why) = &from.broken {
                return Err(format!("{name} connection broke: {why}"));
            }
            if to.read < from.written {
                let (read, written) = (to.read, from.written);
                return Err(format!("{name} stream: {read} of {written} bytes arrived"));
            }
        }
        Ok(())
    }
}
