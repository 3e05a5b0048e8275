//! Waiting for a receive queue without polling it: interrupts, and the CPU's own watch on memory.
//!
//! Both need a driver that has them; the constructors say whether it does. Neither is exact: a
//! frame that comes while the wait is set up may be noticed only when the time is over, so callers
//! keep it short.

use core::fmt;
use core::marker::PhantomData;
use core::time::Duration;

use millrace_dpdk_sys as sys;

use crate::bell::Bell;
use crate::error::Errno;
use crate::queue::RxQueue;

/// Queues whose interrupts wake one wait.
const QUEUES_MAX: usize = 64;

/// The receive interrupts of some queues, for the thread that made it.
pub struct RxInterrupts {
    queues: Vec<(u16, u16)>,
    /// What ends a wait besides, and what EAL remembers of it: at one place as long as it does.
    bell: Option<(Bell, Box<sys::rte_epoll_event>)>,
    /// The thread's own epoll instance hears them: it cannot move.
    _this_thread: PhantomData<*const ()>,
}

/// The CPU's watch on the place where a device writes its next descriptor (`umwait`).
#[derive(Debug)]
pub struct RxMonitor {
    port: u16,
    queue: u16,
}

impl RxInterrupts {
    /// Directs the interrupts of these queues to the calling thread. The ports must have been
    /// configured with [`rx_interrupts`](crate::PortConfig::rx_interrupts). The error is that of
    /// the first queue whose driver has none.
    pub fn new<'q>(queues: impl IntoIterator<Item = &'q RxQueue>) -> Result<Self, Errno> {
        let mut interrupts = Self {
            queues: Vec::new(),
            bell: None,
            _this_thread: PhantomData,
        };
        for queue in queues.into_iter().take(QUEUES_MAX) {
            let (port, number) = queue.place();
            // SAFETY: the port runs (its queue handle is lent to us); the thread's own epoll
            // instance is meant by -1, and no user data is attached.
            let status = unsafe {
                sys::rte_eth_dev_rx_intr_ctl_q(
                    port,
                    number,
                    sys::RTE_EPOLL_PER_THREAD,
                    sys::MR_INTR_EVENT_ADD,
                    core::ptr::null_mut(),
                )
            };
            Errno::check(status)?;
            interrupts.queues.push((port, number));
            // Some drivers take the queue and cannot switch its interrupt.
            interrupts.arm()?;
            interrupts.disarm();
        }
        Ok(interrupts)
    }

    /// Lets this bell end the waits, too. Once.
    pub fn listen_to(&mut self, bell: &Bell) -> Result<(), Errno> {
        let mut event = Box::new(sys::rte_epoll_event::default());
        event.epdata.event = libc::EPOLLIN.cast_unsigned();
        let place = &raw mut *event;
        // SAFETY: the thread's own epoll instance is meant by -1; EAL keeps the pointer until the
        // descriptor is taken out again (`drop`), and the box lives as long.
        let status = unsafe {
            sys::rte_epoll_ctl(
                sys::RTE_EPOLL_PER_THREAD,
                libc::EPOLL_CTL_ADD,
                bell.fd(),
                place,
            )
        };
        Errno::check(status)?;
        self.bell = Some((bell.clone(), event));
        Ok(())
    }

    /// Sleeps until a frame comes, the bell rings or the time (whole milliseconds) is over; whether it
    /// rang. A few system calls.
    pub fn wait(&mut self, time: Duration) -> bool {
        let milliseconds = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
        if self.arm().is_ok() {
            let mut events = [sys::rte_epoll_event::default(); QUEUES_MAX + 1];
            // SAFETY: the array has room for as many events as are asked for.
            unsafe {
                sys::rte_epoll_wait(
                    sys::RTE_EPOLL_PER_THREAD,
                    events.as_mut_ptr(),
                    events.len() as i32,
                    milliseconds,
                )
            };
        }
        self.disarm();
        self.bell.as_ref().is_some_and(|(bell, _)| bell.hush())
    }

    fn arm(&mut self) -> Result<(), Errno> {
        for (port, queue) in &self.queues {
            // SAFETY: the queue was set up; nobody else switches its interrupt.
            let status = unsafe { sys::rte_eth_dev_rx_intr_enable(*port, *queue) };
            match Errno::check(status) {
                // net_tap: its descriptor is readable when there are frames, without a switch.
                Err(errno) if errno.number() == libc::ENOTSUP => {}
                result => drop(result?),
            }
        }
        Ok(())
    }

    fn disarm(&mut self) {
        for (port, queue) in &self.queues {
            // SAFETY: as above. A failure leaves the interrupt on, which costs a spurious wake-up.
            unsafe { sys::rte_eth_dev_rx_intr_disable(*port, *queue) };
        }
    }
}

impl Drop for RxInterrupts {
    fn drop(&mut self) {
        if let Some((bell, event)) = &mut self.bell {
            let place = &raw mut **event;
            // SAFETY: takes out what `listen_to` put in, on the same thread; nobody waits meanwhile.
            // A failure leaves EAL with the pointer, which it uses only when the bell rings in a wait
            // of this thread: the bell may live on, so that must not be.
            let status = unsafe {
                sys::rte_epoll_ctl(
                    sys::RTE_EPOLL_PER_THREAD,
                    libc::EPOLL_CTL_DEL,
                    bell.fd(),
                    place,
                )
            };
            assert!(status >= 0, "epoll keeps what it was told to forget");
        }
    }
}

impl fmt::Debug for RxInterrupts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.queues).finish()
    }
}

impl RxMonitor {
    /// A watch on this queue; `None` when the CPU has no `umwait` or the driver no place to watch.
    pub fn new(queue: &RxQueue) -> Option<Self> {
        let mut can = sys::rte_cpu_intrinsics::default();
        // SAFETY: writes the struct.
        unsafe { sys::rte_cpu_get_intrinsics_support(&raw mut can) };
        let (port, queue) = queue.place();
        let monitor = Self { port, queue };
        (can.power_monitor() != 0 && monitor.place().is_ok()).then_some(monitor)
    }

    /// Waits until the device writes or the counter shows `until_cycles`. No system call.
    pub fn wait(&mut self, until_cycles: u64) {
        if let Ok(place) = self.place() {
            // SAFETY: the driver described a place that lives as long as its queue; `new` has seen
            // that the CPU can.
            unsafe { sys::rte_power_monitor(&raw const place, until_cycles) };
        }
    }

    fn place(&self) -> Result<sys::rte_power_monitor_cond, Errno> {
        let mut place = sys::rte_power_monitor_cond::default();
        // SAFETY: the port runs and the queue was set up; writes the struct.
        let status =
            unsafe { sys::rte_eth_get_monitor_addr(self.port, self.queue, &raw mut place) };
        Errno::check(status).map(|_| place)
    }
}
