//! One host of the interface: the sockets, their time, and the threads that call.
//!
//! Everything is behind one lock. What a call does is in the file of its kind; here is how the
//! time moves and how a call waits.
//!
//! # Time
//!
//! It moves by `usleep`, `netdev_receive`, a microsecond for each look at the clock, and by a call
//! that blocks where nobody else could move it: in the thread that made the host, or in another
//! one while that thread sleeps on something that is not ours (the tool waits so for the end of a
//! blocking call before it makes the next one). It jumps from deadline to deadline.
//!
//! # Calls that block
//!
//! A thread that waits sleeps on a condition variable, as the tool wants to see in `/proc`. When
//! something lets it go, whoever did that stays here until the thread has looked at the clock: so
//! a call returns at one time, in every run. And a thread that sleeps for a while (`usleep`) takes
//! at least as long as others need to be done with what they came back with: a moment of virtual
//! time is too short for that.

mod bytes;
mod descriptors;
mod options;
mod ready;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use libc::pid_t;
use millrace_base::{Instant, Nanos};
use millrace_socket::{Call, CallId, Errno, HostConfig, Progress, Reply, Sockets};

use crate::children::Children;
use crate::kernel;
use crate::surroundings::Surroundings;
use crate::tunables::Tunables;

/// The first descriptor: beyond those of the tool.
pub(crate) const FD_FIRST: i32 = 10_000;
/// Descriptors at once.
const FDS_MAX: usize = 1_024;
/// When a host's time begins. Not zero, which many clocks take for "never".
const BEGINNING: Instant = Instant::from_millis(1_000_000);
/// What a look at the clock takes.
const LOOK: Nanos = Nanos::from_micros(1);
/// How long the stack may stay silent, or a call block in the only thread, until we give up:
/// longer than `tcp_keepalive_time`, the longest that a stack waits by default.
const SILENCE_MAX: Nanos = Nanos::from_secs(3 * 3_600);
/// The queueing discipline of the link.
pub(crate) const DISCIPLINE: &str = "net.core.default_qdisc";
/// Real time that a thread on its way out has until the time goes on without it.
const WAY_OUT: Duration = Duration::from_secs(1);
/// Real time after which a sleeping thread looks whether it has to move the time itself, and how
/// often in a row it must find so.
const GLANCE: Duration = Duration::from_millis(2);
const GLANCES: u32 = 5;
/// Expiries without progress of the time after which a deadline is taken to never pass.
const STEPS_WITHOUT_TIME_MAX: usize = 100_000;

/// A host.
#[derive(Debug)]
pub(crate) struct Host {
    state: Mutex<State>,
    /// A call is done, or a thread is out.
    changed: Condvar,
}

/// What is behind the lock.
#[derive(Debug)]
pub(crate) struct State {
    stack: Owned,
    now: Instant,
    /// Calls that are done, for the threads that sleep.
    done: BTreeMap<CallId, Result<Reply, Errno>>,
    /// Threads that were let go and have not looked at the clock.
    leaving: BTreeSet<pid_t>,
    /// Threads that have, and may still be busy with what their call returned.
    busy: BTreeSet<pid_t>,
    /// The thread that made the host.
    driver: pid_t,
    driver_is_inside: bool,
    children: Children,
    tunables: Tunables,
    surroundings: Surroundings,
    carries_ipv6: bool,
}

/// The sockets, to be handed from thread to thread.
#[derive(Debug)]
struct Owned(Sockets);

// SAFETY: `Sockets` is not `Send` because its packet buffers count their owners without atomics.
// All these owners are inside the one `Sockets`: no buffer leaves it, packets are copied in and
// out. It is only reached behind the lock of its host, so no two threads count at once.
unsafe impl Send for Owned {}

type Guard<'a> = MutexGuard<'a, State>;

impl Host {
    pub(crate) fn new(surroundings: Surroundings) -> Self {
        let mut sockets = Sockets::new(HostConfig {
            addresses: surroundings.addresses(),
            mtu: surroundings.mtu(false),
            fd_first: FD_FIRST,
            fds_max: FDS_MAX,
            ..HostConfig::default()
        });
        sockets.advance(BEGINNING);
        if let Some(discipline) = surroundings.discipline() {
            // One that the host lacks is one that does not pace.
            let _refused = sockets.set_sysctl(DISCIPLINE, discipline);
        }
        let tunables = Tunables::new(&sockets);
        let last = u64::try_from(FD_FIRST).unwrap_or(0) + u64::try_from(FDS_MAX).unwrap_or(0);
        kernel::allow_descriptors(last);
        Self {
            state: Mutex::new(State {
                stack: Owned(sockets),
                now: BEGINNING,
                done: BTreeMap::new(),
                leaving: BTreeSet::new(),
                busy: BTreeSet::new(),
                driver: kernel::thread(),
                driver_is_inside: false,
                children: Children::new(),
                tunables,
                surroundings,
                carries_ipv6: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// Gives back what the kernel holds for it.
    pub(crate) fn release(self) {
        let mut state = self
            .state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let last = FD_FIRST + i32::try_from(FDS_MAX).unwrap_or(0);
        for fd in FD_FIRST..last {
            if state.sockets().fcntl(fd, libc::F_GETFD, 0).is_ok() {
                kernel::close(fd);
            }
        }
    }

    /// A call that may block, to its end.
    pub(crate) fn call(&self, call: Call) -> Result<Reply, Errno> {
        let mut state = self.enter();
        let now = state.now;
        match state.sockets().start(now, call) {
            Progress::Ready(result) => {
                self.leave(state);
                result
            }
            Progress::Pending(id) if state.driver == kernel::thread() => self.drive(state, id),
            Progress::Pending(id) => self.sleep(state, id),
        }
    }

    /// Something that does not block.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.enter();
        let result = work(&mut state);
        self.leave(state);
        result
    }

    /// `usleep`: the microseconds, and 20 more, which is what a sleeper oversleeps.
    pub(crate) fn usleep(&self, micros: u64) {
        self.let_finish();
        let state = self.enter();
        let until = state.now.after(Nanos::from_micros(micros + 20));
        let state = self.advance(state, until);
        self.leave(state);
        self.let_finish();
    }

    /// Waits, in real time, until the threads whose calls have returned sleep again.
    fn let_finish(&self) {
        let own = kernel::thread();
        let busy = self.with(|state| core::mem::take(&mut state.busy));
        let end = std::time::Instant::now() + WAY_OUT;
        for thread in busy.into_iter().filter(|thread| *thread != own) {
            while !is_asleep(thread) && std::time::Instant::now() < end {
                std::thread::sleep(Duration::from_micros(20));
            }
        }
    }

    /// `gettimeofday`.
    pub(crate) fn look(&self) -> Instant {
        self.with(|state| {
            let later = state.now.after(LOOK);
            state.step(later);
            state.now
        })
    }

    /// `times`: hundredths of a second. The next one begins, so that who waits for it waits no
    /// longer.
    pub(crate) fn next_tick(&self) -> u64 {
        const TICK_NANOS: u64 = 10_000_000;
        let state = self.enter();
        let tick = state.now.as_nanos() / TICK_NANOS + 1;
        let state = self.advance(state, Instant::from_nanos(tick * TICK_NANOS));
        self.leave(state);
        tick
    }

    /// Moves the time until `is_found` finds something, but no further than the silence that is
    /// borne.
    fn wait_for<T>(&self, mut found: impl FnMut(&mut State) -> Option<T>) -> Option<T> {
        let mut state = self.enter();
        let limit = state.now.after(SILENCE_MAX);
        loop {
            let result = found(&mut state);
            let next = state.next_step().filter(|next| *next <= limit);
            let Some(next) = next.filter(|_| result.is_none()) else {
                self.leave(state);
                return result;
            };
            state.step(next);
            state = self.let_out(state);
        }
    }

    /// Moves the time to `until`, from deadline to deadline.
    fn advance<'a>(&'a self, mut state: Guard<'a>, until: Instant) -> Guard<'a> {
        let mut steps = 0;
        loop {
            let next = state.next_step().filter(|next| *next <= until);
            let before = state.now;
            state.step(next.unwrap_or(until));
            steps = if state.now > before { 0 } else { steps + 1 };
            state = self.let_out(state);
            if next.is_none() || steps > STEPS_WITHOUT_TIME_MAX {
                return state;
            }
        }
    }

    /// Waits for a call in the thread that moves the time.
    fn drive<'a>(&'a self, mut state: Guard<'a>, id: CallId) -> Result<Reply, Errno> {
        let limit = state.now.after(SILENCE_MAX);
        loop {
            state.collect();
            if let Some(result) = state.done.remove(&id) {
                self.leave(state);
                return result;
            }
            let Some(next) = state.next_step().filter(|next| *next <= limit) else {
                let result = state.interrupt(id);
                self.leave(state);
                return result;
            };
            state.step(next);
            // Our own result is not for another thread.
            if !state.done.contains_key(&id) {
                state = self.let_out(state);
            }
        }
    }

    /// Waits for a call in a thread that really sleeps.
    fn sleep<'a>(&'a self, mut state: Guard<'a>, id: CallId) -> Result<Reply, Errno> {
        let mut glances = 0;
        state = self.let_out(state);
        loop {
            if let Some(result) = state.done.remove(&id) {
                state.leaving.insert(kernel::thread());
                self.changed.notify_all();
                return result;
            }
            let (awake, timeout) = self
                .changed
                .wait_timeout(state, GLANCE)
                .unwrap_or_else(PoisonError::into_inner);
            state = awake;
            if !timeout.timed_out() || state.done.contains_key(&id) {
                continue;
            }
            glances = if state.is_driver_waiting() {
                glances + 1
            } else {
                0
            };
            if glances >= GLANCES
                && let Some(next) = state.next_step()
            {
                state.step(next);
            }
        }
    }

    /// Everything that happens at the beginning of a call.
    fn enter(&self) -> Guard<'_> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let thread = kernel::thread();
        if state.leaving.remove(&thread) {
            state.busy.insert(thread);
            self.changed.notify_all();
        }
        state.driver_is_inside |= state.driver == thread;
        if state.children.have_ended() {
            state.refresh_tunables();
        }
        state
    }

    /// Everything that happens at its end.
    fn leave(&self, state: Guard<'_>) {
        let mut state = self.let_out(state);
        if state.driver == kernel::thread() {
            state.driver_is_inside = false;
        }
    }

    /// Wakes the threads whose calls are done, and waits until they have looked at the clock.
    fn let_out<'a>(&'a self, mut state: Guard<'a>) -> Guard<'a> {
        state.collect();
        if state.done.is_empty() && state.leaving.is_empty() {
            return state;
        }
        self.changed.notify_all();
        let is_in = |state: &mut State| !state.done.is_empty() || !state.leaving.is_empty();
        let (mut state, timeout) = self
            .changed
            .wait_timeout_while(state, WAY_OUT, is_in)
            .unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            // A caller that never looks at the clock.
            state.leaving.clear();
        }
        state
    }
}

impl State {
    pub(crate) const fn sockets(&mut self) -> &mut Sockets {
        &mut self.stack.0
    }

    /// Tells the host the namespace's tunables.
    pub(crate) fn refresh_tunables(&mut self) {
        self.tunables.refresh(&mut self.stack.0);
    }

    /// When something will happen by itself.
    fn next_step(&self) -> Option<Instant> {
        let deadline = self.stack.0.next_deadline();
        (deadline != Instant::NEVER).then_some(deadline)
    }

    /// Moves the time to `to`.
    fn step(&mut self, to: Instant) {
        self.now = self.now.max(to);
        self.stack.0.advance(self.now);
        self.collect();
    }

    /// Takes note of calls that are done.
    fn collect(&mut self) {
        while let Some((id, result)) = self.stack.0.poll_finished() {
            self.done.insert(id, result);
        }
    }

    /// Ends a call that nothing will end.
    fn interrupt(&mut self, id: CallId) -> Result<Reply, Errno> {
        let now = self.now;
        let result = self.stack.0.interrupt(now, id);
        result.unwrap_or(Err(Errno::EINTR))
    }

    /// Whether the thread that moves the time sleeps on something that is not ours: it waits for
    /// another thread.
    fn is_driver_waiting(&self) -> bool {
        !self.driver_is_inside && is_asleep(self.driver)
    }
}

/// Whether a thread of this process sleeps until another one wakes it, or is no more.
fn is_asleep(thread: pid_t) -> bool {
    let path = format!("/proc/self/task/{thread}/syscall");
    let Ok(line) = fs::read_to_string(path) else {
        return !fs::exists(format!("/proc/self/task/{thread}")).unwrap_or(false);
    };
    let number = line.split(' ').next().and_then(|word| word.parse().ok());
    number == Some(libc::SYS_futex)
}
