//! `O_ASYNC`: signals for the owner of a socket instead of a program that waits.
//!
//! A host has no processes. Whom a signal is for (`F_SETOWN`) is a number that the program chose,
//! and `Sockets::poll_signal` tells what Linux would have sent to that process or group: `SIGIO`,
//! or the signal of `F_SETSIG`, where the file has `O_ASYNC`; `SIGURG` where it has an owner.
//! `SIGPIPE` is for who called: owner 0.
//!
//! Linux: `sk_wake_async`, `kill_fasync`, `sk_send_sigurg`.

use std::collections::VecDeque;

use crate::call::Call;
use crate::errno::Errno;
use crate::file::{Kind, SocketId};
use crate::linux::{MSG_NOSIGNAL, SIGIO, SIGPIPE, SIGRTMAX, SIGRTMIN, SIGURG};
use crate::sockets::Sockets;

/// Signals that wait to be polled: beyond it those with a number of `F_SETSIG` become `SIGIO`, as
/// when `RLIMIT_SIGPENDING` is reached.
const SIGNALS_MAX: usize = 1_024;

/// A signal that Linux would have sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signal {
    /// Whom it is for: what `F_SETOWN` said; a process, or a process group where it is negative.
    pub owner: i32,
    /// `SIGIO`, `SIGURG`, or what `F_SETSIG` said.
    pub number: i32,
    /// `si_fd`: the descriptor on which `O_ASYNC` was set. 0 where the signal carries nothing.
    pub fd: i32,
    /// `si_code`: `POLL_IN` and the others. 0 where the signal carries nothing.
    pub code: i32,
}

/// Who is to be told of a file, and how.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Owner {
    /// `F_SETOWN`; 0 is nobody.
    pub(crate) id: i32,
    /// `F_SETSIG`; 0 is `SIGIO` that carries nothing.
    pub(crate) signal: i32,
    /// The descriptor on which `O_ASYNC` was set.
    pub(crate) fd: i32,
}

/// What happened (`si_code` of `SIGIO`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Band {
    In = 1,
    Out = 2,
    Error = 4,
    Priority = 5,
    HangUp = 6,
}

/// Who is not told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unless {
    /// Everybody is.
    Never,
    /// Somebody sleeps in a read (`SOCK_WAKE_WAITD`).
    SomebodyReads,
}

/// Signals that were not polled yet.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    pending: VecDeque<Signal>,
}

impl Signals {
    /// A standard signal that is pending already is not queued again; others are, while there is
    /// room.
    fn raise(&mut self, mut signal: Signal) {
        if signal.number >= SIGRTMIN && self.pending.len() >= SIGNALS_MAX {
            signal.number = SIGIO;
        }
        let same = |one: &Signal| (one.owner, one.number) == (signal.owner, signal.number);
        if signal.number >= SIGRTMIN || !self.pending.iter().any(same) {
            self.pending.push_back(signal);
        }
    }
}

impl Sockets {
    /// The next signal that the host has sent.
    pub fn poll_signal(&mut self) -> Option<Signal> {
        self.signals.pending.pop_front()
    }

    /// Tells the owner of a socket with `O_ASYNC`.
    // behaviour: SOK-21 OPT-47
    pub(crate) fn wake_async(&mut self, id: SocketId, band: Band, unless: Unless) {
        let Some(file) = self.files.async_file(Kind::Socket(id)) else {
            return;
        };
        if unless == Unless::SomebodyReads && self.is_read(id) {
            return;
        }
        let owner = file.owner;
        let carries = owner.signal != 0;
        self.signals.raise(Signal {
            owner: owner.id,
            number: if carries { owner.signal } else { SIGIO },
            fd: if carries { owner.fd } else { 0 },
            code: if carries { band as i32 } else { 0 },
        });
    }

    /// The peer has announced an urgent byte.
    pub(crate) fn wake_urgent(&mut self, id: SocketId) {
        let Some(owner) = self.files.owner_of(Kind::Socket(id)) else {
            return;
        };
        self.signals.raise(Signal {
            owner: owner.id,
            number: SIGURG,
            fd: 0,
            code: 0,
        });
        // SIGURG itself says it, unless the program asked for another signal.
        if owner.signal != 0 {
            self.wake_async(id, Band::Priority, Unless::Never);
        }
    }

    /// A send of the program has failed with `EPIPE`: `SIGPIPE`, unless it wants none. It is for the
    /// caller: owner 0.
    // behaviour: OPT-45
    pub(crate) fn signal_broken_pipe(&mut self, error: Errno, flags: i32) {
        if error == Errno::EPIPE && flags & MSG_NOSIGNAL == 0 {
            self.signals.raise(Signal {
                owner: 0,
                number: SIGPIPE,
                fd: 0,
                code: 0,
            });
        }
    }

    fn is_read(&self, id: SocketId) -> bool {
        self.calls.waiting().any(|(call, file)| {
            let reads = matches!(call, Call::Read { .. } | Call::Receive { .. });
            let kind = file.and_then(|file| self.files.get(file));
            reads && kind.is_some_and(|file| file.kind == Kind::Socket(id))
        })
    }
}

/// What `F_SETSIG` takes.
pub(crate) fn signal_number(argument: i64) -> Result<i32, Errno> {
    match i32::try_from(argument) {
        Ok(number) if (0..=SIGRTMAX).contains(&number) => Ok(number),
        _ => Err(Errno::EINVAL),
    }
}
