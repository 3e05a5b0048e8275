//! A session: a client's connection and the backend's, and what one's fate means for the other.
//!
//! This file is the pure part: phases and the step each event asks for. It calls nobody;
//! `connect.rs`, `splice.rs` and `Balancer::on_leg_event` do what the steps say.
//!
//! ```text
//!                 attempt fails: the next backend
//!                   +-----+
//!    accepted       |     v   connected         one stream ended        the other too
//!   ----------->  Connecting  ---------> Open  ----------------> ClientDone ------> gone,
//!                                                                ServerDone        both closed
//!   any phase: a leg fails (RST, silence) --> the other leg is reset --> gone
//! ```
//!
//! A FIN is passed on when everything before it was (half-close works for as long as either side
//! likes, up to the idle timeout). A RST is passed on at once, overtaking queued data, as a RST
//! does. When both streams have ended the legs are closed; what is still queued on them is the
//! stack's business from then on, as it is the kernel's after close(2).

use millrace_base::{BackendId, Instant, ListenerId, Stamp};
use millrace_stack::{FlowId, Ready};

use crate::pick::Tried;

/// One of the two connections of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Leg {
    /// Between the client and us.
    Client,
    /// Between us and the backend.
    Server,
}

/// How far a session has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// No backend has answered yet; what the client sends stays in its receive window.
    Connecting,
    /// Bytes pass both ways.
    Open,
    /// The client's stream ended and its FIN was passed on; the backend may go on sending.
    ClientDone,
    /// The backend's stream ended and its FIN was passed on; the client may go on sending.
    ServerDone,
}

/// Why a session ends before both streams did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cause {
    /// The leg was reset by its peer.
    Reset(Leg),
    /// The leg's peer no longer answers, or cannot be reached.
    Lost(Leg),
    /// No byte passed for the idle timeout.
    Idle,
    /// No backend could be reached.
    Unserved,
    /// The lcore leaves and waits no longer.
    Drained,
}

/// Why an attempt to reach a backend failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ConnectFailure {
    /// It answered with RST.
    Refused,
    /// It did not answer in time.
    TimedOut,
    /// There is no route, no neighbour, or a router said so.
    Unreachable,
    /// Every source port towards it is taken.
    NoPort,
    /// We have no source address of its family.
    NoFamily,
    /// The stack has no connection left: another backend would not help.
    NoConnection,
}

/// What an event of a leg asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Nothing yet.
    Wait,
    /// Move bytes.
    Splice {
        /// From client to backend.
        up: bool,
        /// From backend to client.
        down: bool,
    },
    /// The leg is gone in good order: its stream has ended and all of it was moved.
    EndStream,
    /// The backend accepted: splice both ways.
    Connected,
    /// Try another backend.
    Retry(ConnectFailure),
    /// Reset both legs.
    Abort(Cause),
}

/// What the end of one stream asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EndStep {
    /// It was known already.
    Known,
    /// Pass the FIN on to the other leg.
    PassOn,
    /// Both streams have ended: close both legs.
    Finish,
}

/// The pair of connections.
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed(4))]
pub(crate) struct Session {
    pub(crate) client: FlowId,
    /// `FlowId::NONE` while there is no attempt.
    pub(crate) server: FlowId,
    /// Bytes moved from client to backend.
    pub(crate) bytes_in: u64,
    /// Bytes moved from backend to client.
    pub(crate) bytes_out: u64,
    pub(crate) started: Stamp,
    /// When a byte moved last.
    pub(crate) moved: Stamp,
    pub(crate) tried: Tried,
    pub(crate) listener: ListenerId,
    /// The backend of the present attempt or of the open session.
    pub(crate) backend: BackendId,
    pub(crate) phase: Phase,
}

// One cache line with the four bytes the slab adds; `deadlines.rs` adds 16.
const _: () = assert!(core::mem::size_of::<Session>() <= 60);

impl Leg {
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

impl Session {
    /// A session whose client was just accepted.
    pub(crate) const fn new(client: FlowId, listener: ListenerId, now: Instant) -> Self {
        Self {
            client,
            server: FlowId::NONE,
            bytes_in: 0,
            bytes_out: 0,
            started: Stamp::of(now),
            moved: Stamp::of(now),
            tried: Tried::NONE,
            listener,
            backend: BackendId::new(u16::MAX),
            phase: Phase::Connecting,
        }
    }

    /// Notes that a leg's stream was moved completely, its FIN included.
    pub(crate) fn end_stream(&mut self, leg: Leg) -> EndStep {
        let (phase, step) = match (self.phase, leg) {
            (Phase::Open, Leg::Client) => (Phase::ClientDone, EndStep::PassOn),
            (Phase::Open, Leg::Server) => (Phase::ServerDone, EndStep::PassOn),
            (Phase::ClientDone, Leg::Server) | (Phase::ServerDone, Leg::Client) => {
                (self.phase, EndStep::Finish)
            }
            (Phase::ClientDone, Leg::Client)
            | (Phase::ServerDone, Leg::Server)
            | (Phase::Connecting, _) => (self.phase, EndStep::Known),
        };
        self.phase = phase;
        step
    }

    pub(crate) const fn flow(&self, leg: Leg) -> FlowId {
        match leg {
            Leg::Client => self.client,
            Leg::Server => self.server,
        }
    }

    /// Whether bytes from this leg may still have to be moved.
    pub(crate) const fn is_streaming(&self, leg: Leg) -> bool {
        match (self.phase, leg) {
            (Phase::Connecting, _)
            | (Phase::ClientDone, Leg::Client)
            | (Phase::ServerDone, Leg::Server) => false,
            (Phase::Open, _)
            | (Phase::ClientDone, Leg::Server)
            | (Phase::ServerDone, Leg::Client) => true,
        }
    }

    /// What an event of a leg asks for.
    pub(crate) fn step(&self, leg: Leg, ready: Ready) -> Step {
        if let Some(cause) = failure(leg, ready) {
            return match (self.phase, leg) {
                (Phase::Connecting, Leg::Server) => Step::Retry(connect_failure(ready)),
                _ => Step::Abort(cause),
            };
        }
        match (self.phase, leg) {
            (Phase::Connecting, Leg::Server) if ready.contains(Ready::CONNECTED) => Step::Connected,
            (Phase::Connecting, _) => Step::Wait,
            // The stack holds the last event back until everything received was taken, and the id
            // is dead with it: there is nothing left to move, and nobody left to ask.
            (_, leg) if ready.contains(Ready::CLOSED) && self.is_streaming(leg) => Step::EndStream,
            (_, leg) => {
                let from = ready.contains(Ready::READABLE) || ready.contains(Ready::PEER_CLOSED);
                let to = ready.contains(Ready::WRITABLE);
                let (up, down) = match leg {
                    Leg::Client => (from, to),
                    Leg::Server => (to, from),
                };
                Step::Splice {
                    up: up && self.is_streaming(Leg::Client),
                    down: down && self.is_streaming(Leg::Server),
                }
            }
        }
    }
}

fn failure(leg: Leg, ready: Ready) -> Option<Cause> {
    if ready.contains(Ready::RESET) || ready.contains(Ready::REFUSED) {
        Some(Cause::Reset(leg))
    } else if ready.contains(Ready::TIMED_OUT) || ready.contains(Ready::UNREACHABLE) {
        Some(Cause::Lost(leg))
    } else {
        None
    }
}

fn connect_failure(ready: Ready) -> ConnectFailure {
    if ready.contains(Ready::UNREACHABLE) {
        ConnectFailure::Unreachable
    } else if ready.contains(Ready::TIMED_OUT) {
        ConnectFailure::TimedOut
    } else {
        ConnectFailure::Refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEGS: [Leg; 2] = [Leg::Client, Leg::Server];
    const PHASES: [Phase; 4] = [
        Phase::Connecting,
        Phase::Open,
        Phase::ClientDone,
        Phase::ServerDone,
    ];

    fn session(phase: Phase) -> Session {
        let mut session = Session::new(FlowId::NONE, ListenerId::new(0), Instant::ZERO);
        session.phase = phase;
        session
    }

    #[test]
    fn streams_end_one_after_the_other_in_either_order() {
        for first in LEGS {
            let mut session = session(Phase::Open);
            assert_eq!(session.end_stream(first), EndStep::PassOn);
            assert!(!session.is_streaming(first) && session.is_streaming(first.other()));
            assert_eq!(session.end_stream(first), EndStep::Known);
            assert_eq!(session.end_stream(first.other()), EndStep::Finish);
        }
    }

    #[test]
    fn a_broken_leg_breaks_the_other_in_every_phase_but_a_backend_that_never_was() {
        for phase in PHASES {
            for leg in LEGS {
                let step = session(phase).step(leg, Ready::RESET);
                if phase == Phase::Connecting && leg == Leg::Server {
                    assert_eq!(step, Step::Retry(ConnectFailure::Refused));
                } else {
                    assert_eq!(step, Step::Abort(Cause::Reset(leg)));
                }
            }
        }
    }

    #[test]
    fn client_bytes_wait_while_the_backend_is_sought() {
        let session = session(Phase::Connecting);
        assert_eq!(session.step(Leg::Client, Ready::READABLE), Step::Wait);
        assert_eq!(session.step(Leg::Client, Ready::PEER_CLOSED), Step::Wait);
        assert_eq!(session.step(Leg::Server, Ready::CONNECTED), Step::Connected);
    }

    #[test]
    fn room_in_one_leg_moves_the_other_legs_bytes() {
        let session = session(Phase::Open);
        let (up, down) = (true, false);
        assert_eq!(
            session.step(Leg::Client, Ready::READABLE),
            Step::Splice { up, down }
        );
        assert_eq!(
            session.step(Leg::Server, Ready::WRITABLE),
            Step::Splice { up, down }
        );
        let (up, down) = (false, true);
        assert_eq!(
            session.step(Leg::Server, Ready::PEER_CLOSED),
            Step::Splice { up, down }
        );
        assert_eq!(
            session.step(Leg::Client, Ready::WRITABLE),
            Step::Splice { up, down }
        );
    }

    #[test]
    fn a_stream_that_ended_is_not_moved_again() {
        let (up, down) = (false, false);
        let session = session(Phase::ClientDone);
        assert_eq!(
            session.step(Leg::Client, Ready::READABLE),
            Step::Splice { up, down }
        );
    }

    // The last segments of both sides may come in one burst: their news are then one event.
    #[test]
    fn a_leg_that_is_gone_in_good_order_has_ended_its_stream() {
        let ready = Ready::READABLE | Ready::PEER_CLOSED | Ready::CLOSED;
        assert_eq!(
            session(Phase::ServerDone).step(Leg::Client, ready),
            Step::EndStream
        );
        let (up, down) = (false, false);
        let step = session(Phase::ClientDone).step(Leg::Client, ready);
        assert_eq!(step, Step::Splice { up, down }, "it was known");
    }

    #[test]
    fn why_an_attempt_failed_is_told_apart() {
        let session = session(Phase::Connecting);
        for (ready, failure) in [
            (Ready::REFUSED, ConnectFailure::Refused),
            (Ready::TIMED_OUT, ConnectFailure::TimedOut),
            (Ready::UNREACHABLE, ConnectFailure::Unreachable),
        ] {
            assert_eq!(session.step(Leg::Server, ready), Step::Retry(failure));
        }
    }
}
