//! Reaching a backend: pick, source port, SYN; and what happens when that fails.
//!
//! An attempt may fail at once (no port, no route) or later (RST, silence, ICMP). Either way the
//! backend is remembered as tried and the policy's next choice gets its turn, at most
//! `ATTEMPTS_MAX` in all; then the client is reset. An attempt is given up after `CONNECT_TIMEOUT`,
//! long before TCP itself would, because there is somebody else to ask.
//!
//! Which failures speak against a backend is told to control (`report.rs`); this file takes nobody
//! out of rotation.

use millrace_abi::ProbeOutcome;
use millrace_base::{BackendId, Instant, Key, PacketPool, Stamp};
use millrace_stack::{ConnectError, FlowId, Stack};

use crate::balancer::Balancer;
use crate::counters::count;
use crate::deadlines::Wait;
use crate::limits::{ATTEMPTS_MAX, CONNECT_TIMEOUT};
use crate::session::{Cause, ConnectFailure, Leg, Phase};
use crate::snat::{Begin, NoPort};
use crate::tables::{NoPick, Picked};
use crate::user::Owner;

impl Balancer {
    /// Starts attempts until one is under way or the session is given up. At most `ATTEMPTS_MAX`
    /// picks.
    pub(crate) fn connect_next<P: PacketPool>(
        &mut self,
        now: Instant,
        key: Key,
        stack: &mut Stack<P>,
    ) {
        for _ in 0..ATTEMPTS_MAX {
            let Some(session) = self.sessions.get(key) else {
                return;
            };
            let tried = session.tried;
            if usize::from(tried.count()) >= ATTEMPTS_MAX {
                break;
            }
            let picked = match self.tables.pick(session.listener, &tried) {
                Ok(picked) => picked,
                Err(reason) => {
                    self.count_no_pick(reason, tried.count());
                    break;
                }
            };
            if tried.count() > 0 {
                count!(self.counters.retries);
            }
            match self.attempt(now, key, picked, stack) {
                Ok(()) => return,
                Err(ConnectFailure::NoConnection) => {
                    count!(self.counters.connects_no_resources);
                    break;
                }
                Err(failure) => self.blame(key, picked.backend, failure),
            }
        }
        self.abort(now, key, Cause::Unserved, stack);
    }

    /// Gives up the present attempt and starts the next.
    pub(crate) fn on_attempt_failed<P: PacketPool>(
        &mut self,
        now: Instant,
        key: Key,
        failure: ConnectFailure,
        stack: &mut Stack<P>,
    ) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let (server, backend) = (session.server, session.backend);
        session.server = FlowId::NONE;
        self.deadlines.stop(key.index());
        stack.abort(now, server);
        self.release_backend(backend);
        self.blame(key, backend, failure);
        self.connect_next(now, key, stack);
    }

    /// The backend accepted: bytes may pass.
    pub(crate) fn on_connected<P: PacketPool>(
        &mut self,
        now: Instant,
        key: Key,
        stack: &mut Stack<P>,
    ) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        session.phase = Phase::Open;
        session.moved = Stamp::of(now);
        let backend = session.backend;
        count!(self.counters.sessions_established);
        self.counters.sessions_connecting = self.counters.sessions_connecting.saturating_sub(1);
        if let Some(row) = self.tables.backends.get_mut(backend) {
            count!(row.sessions);
        }
        self.wait_idle(now, key);
        self.pump(now, key, Leg::Client, stack);
        self.pump(now, key, Leg::Server, stack);
    }

    /// Ends a backend's claim on a session.
    pub(crate) fn release_backend(&mut self, backend: BackendId) {
        if let Some(row) = self.tables.backends.get_mut(backend) {
            row.active = row.active.saturating_sub(1);
        }
    }

    fn attempt<P: PacketPool>(
        &mut self,
        now: Instant,
        key: Key,
        picked: Picked,
        stack: &mut Stack<P>,
    ) -> Result<(), ConnectFailure> {
        count!(self.counters.connects);
        let Picked { backend, profile } = picked;
        let row = self
            .tables
            .backends
            .get_mut(backend)
            .ok_or(ConnectFailure::Unreachable)?;
        let begin = Begin {
            remote: row.endpoint,
            user: Owner::Server(key).to_bits(),
            profile,
        };
        let cursor = &mut row.address_cursor;
        let server = self.tables.snat.connect(now, begin, cursor, stack)?;
        row.active = row.active.saturating_add(1);
        if let Some(session) = self.sessions.get_mut(key) {
            session.server = server;
            session.backend = backend;
        }
        self.deadlines
            .wait(key.index(), Wait::Connect, now.after(CONNECT_TIMEOUT));
        Ok(())
    }

    /// Remembers that this backend failed this session, counts why, and tells control once.
    fn blame(&mut self, key: Key, backend: BackendId, failure: ConnectFailure) {
        match failure {
            ConnectFailure::Refused => count!(self.counters.connects_refused),
            ConnectFailure::TimedOut => count!(self.counters.connects_timed_out),
            ConnectFailure::Unreachable => count!(self.counters.connects_unreachable),
            ConnectFailure::NoPort => count!(self.counters.snat_exhausted),
            ConnectFailure::NoFamily => count!(self.counters.snat_no_family),
            ConnectFailure::NoConnection => count!(self.counters.connects_no_resources),
        }
        if let Some(session) = self.sessions.get_mut(key) {
            // `connect_next` checks the count before each attempt, so there is room.
            let _ = millrace_base::invariant!(session.tried.push(backend));
        }
        if let Some(row) = self.tables.backends.get_mut(backend) {
            count!(row.connect_failures);
            self.reports.backend_failed(backend, row, failure.outcome());
        }
    }

    fn count_no_pick(&mut self, reason: NoPick, tried: u8) {
        match reason {
            _ if tried > 0 => {}
            NoPick::Pool => count!(self.counters.refused_no_pool),
            NoPick::Backend => count!(self.counters.refused_no_backend),
        }
    }
}

impl ConnectFailure {
    /// What control is told.
    pub(crate) const fn outcome(self) -> ProbeOutcome {
        match self {
            Self::Refused => ProbeOutcome::Refused,
            Self::TimedOut => ProbeOutcome::TimedOut,
            Self::Unreachable => ProbeOutcome::Unreachable,
            Self::NoPort | Self::NoFamily | Self::NoConnection => ProbeOutcome::NoResources,
        }
    }
}

impl From<NoPort> for ConnectFailure {
    fn from(reason: NoPort) -> Self {
        match reason {
            NoPort::Family => Self::NoFamily,
            NoPort::Exhausted => Self::NoPort,
        }
    }
}

impl From<ConnectError> for ConnectFailure {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::AddressInUse => Self::NoPort,
            ConnectError::NoRoute | ConnectError::BadAddress => Self::Unreachable,
            ConnectError::TableFull => Self::NoConnection,
        }
    }
}
