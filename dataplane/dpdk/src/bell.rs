//! A bell at the bed of a thread that sleeps, for those who leave work with it.
//!
//! A device can wake whoever sleeps on its interrupt; another thread that puts something into a queue
//! cannot. Ringing is a system call, so it happens only when somebody sleeps, and once per sleep: the
//! sleeper says that it lies down and *then* looks at its queues a last time, the other one fills the
//! queue and *then* looks whether there is anybody asleep. With a fence between the two steps on
//! either side at least one of them sees what the other did.
//!
//! ```text
//!   sleeper            who has work for it
//!   asleep = true      queue <- work
//!   fence              fence
//!   queue empty?       asleep?  -> asleep = false, write(eventfd)
//!   poll(eventfd)
//! ```

use core::sync::atomic::{AtomicBool, Ordering, fence};
use core::time::Duration;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// The bell of one thread. Copies are the same bell.
#[derive(Clone, Debug)]
pub struct Bell(Arc<Inner>);

/// On cache lines of its own: others look at it once per burst.
#[derive(Debug)]
#[repr(align(128))]
struct Inner {
    asleep: AtomicBool,
    event: OwnedFd,
}

impl Bell {
    /// A bell that nobody sleeps beside. One file descriptor.
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor, and nobody else knows of it.
        let event = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self(Arc::new(Inner {
            asleep: AtomicBool::new(false),
            event,
        })))
    }

    /// Says that the calling thread is about to sleep. It must look at its queues once more after
    /// this, and sleep only if they are empty.
    pub fn lie_down(&self) {
        self.0.asleep.store(true, Ordering::Relaxed);
        // Pairs with the fence in `ring`.
        fence(Ordering::SeqCst);
    }

    /// Sleeps until the bell rings or the time is over; whether it rang. One or two system calls.
    #[must_use]
    pub fn wait(&self, time: Duration) -> bool {
        let mut event = libc::pollfd {
            fd: self.fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let time = libc::timespec {
            tv_sec: libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        // SAFETY: one descriptor and a time, both alive during the call; no signal mask.
        let ready = unsafe { libc::ppoll(&raw mut event, 1, &raw const time, core::ptr::null()) };
        // A signal (-1) ends the sleep like the time does.
        ready > 0 && self.hush()
    }

    /// Says that the calling thread is awake: from here on nobody has to ring.
    pub fn get_up(&self) {
        self.0.asleep.store(false, Ordering::Relaxed);
    }

    /// Wakes the thread if it sleeps; whether that took a system call. What it shall find must lie in
    /// its queue before this. Without a sleeper it costs a fence and a look.
    #[inline]
    pub fn ring(&self) -> bool {
        // Pairs with the fence in `lie_down`.
        fence(Ordering::SeqCst);
        self.0.asleep.load(Ordering::Relaxed) && self.ring_out()
    }

    /// The file descriptor, for whoever waits for other things at the same time.
    pub(crate) fn fd(&self) -> RawFd {
        self.0.event.as_raw_fd()
    }

    /// Takes back what was rung; whether it was.
    pub(crate) fn hush(&self) -> bool {
        let mut count = 0u64;
        // SAFETY: eight bytes may be written to `count`.
        let read = unsafe { libc::read(self.fd(), (&raw mut count).cast(), size_of::<u64>()) };
        read > 0
    }

    #[cold]
    fn ring_out(&self) -> bool {
        // Whoever comes first rings; the others need not.
        if !self.0.asleep.swap(false, Ordering::Relaxed) {
            return false;
        }
        let one = 1u64;
        // SAFETY: eight bytes are read from `one`. It cannot fail: the sum of all rings that nobody
        // takes back stays below 2^64.
        unsafe { libc::write(self.fd(), (&raw const one).cast(), size_of::<u64>()) };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU64;

    /// Longer than any test may take: whoever sleeps that long was not woken.
    const FOREVER: Duration = Duration::from_secs(60);

    #[test]
    fn nobody_is_rung_who_does_not_sleep() {
        let bell = Bell::new().expect("a descriptor");
        assert!(!bell.ring());
        bell.lie_down();
        assert!(bell.ring(), "asleep");
        assert!(!bell.ring(), "once is enough");
        assert!(bell.wait(FOREVER));
        assert!(!bell.wait(Duration::ZERO), "a ring is heard once");
        bell.lie_down();
        bell.get_up();
        assert!(!bell.ring(), "awake again");
    }

    // A lost wake-up would be a sleep of a minute, and fail.
    #[test]
    fn whoever_finds_no_work_and_sleeps_is_woken_by_the_next() {
        const ROUNDS: u64 = 2_000;
        let bells = [(); 2].map(|()| Bell::new().expect("a descriptor"));
        let queues = [(); 2].map(|()| AtomicU64::new(0));
        let (bells, queues) = (Arc::new(bells), Arc::new(queues));
        let run = |me: usize| {
            let (bells, queues) = (Arc::clone(&bells), Arc::clone(&queues));
            move || {
                let peer = 1 - me;
                for round in 1..=ROUNDS {
                    if me == 0 {
                        queues[peer].store(round, Ordering::Release);
                        bells[peer].ring();
                    }
                    while queues[me].load(Ordering::Acquire) < round {
                        bells[me].lie_down();
                        if queues[me].load(Ordering::Acquire) < round {
                            assert!(bells[me].wait(FOREVER), "round {round} of {me} slept on");
                        }
                        bells[me].get_up();
                    }
                    if me == 1 {
                        queues[peer].store(round, Ordering::Release);
                        bells[peer].ring();
                    }
                }
            }
        };
        let threads = [0, 1].map(|me| std::thread::spawn(run(me)));
        for thread in threads {
            thread.join().expect("nobody slept on");
        }
    }
}
