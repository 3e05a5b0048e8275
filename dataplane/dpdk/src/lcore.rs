//! Lcores: threads that EAL has pinned to CPUs, and closures that run on them.
//!
//! An lcore that no task occupies sleeps. A task runs until it returns: nothing here stops it, so a
//! poll loop looks at a flag. The main lcore (the thread that started EAL) runs no tasks; it may
//! simply call the loop.

use core::ffi::{c_int, c_uint, c_void};
use core::fmt;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use millrace_dpdk_sys as sys;

use crate::eal::Eal;

/// An lcore and the CPU it is pinned to, for [`EalArgs`](crate::EalArgs).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LcoreCpu {
    /// The lcore's number, 0 to 127.
    pub lcore: u16,
    /// The CPU, as Linux numbers it.
    pub cpu: u16,
}

/// An enabled lcore.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Lcore(c_uint);

/// A NUMA node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SocketId(pub u16);

/// A task that runs on an lcore. Dropping this lets it run on; `join` waits for its result.
#[must_use = "a task whose handle is dropped cannot be waited for"]
#[derive(Debug)]
pub struct Task<T> {
    lcore: Lcore,
    slot: Arc<Slot<T>>,
}

/// Why a task did not start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LaunchError {
    /// The lcore runs a task already.
    #[error("lcore {0} runs a task already")]
    Busy(Lcore),
    /// The main lcore takes no tasks: call the function instead.
    #[error("the main lcore takes no tasks")]
    Main,
    /// EAL could not wake the lcore's thread.
    #[error("EAL could not wake lcore {0}")]
    Unreachable(Lcore),
}

struct Slot<T> {
    result: Mutex<Option<std::thread::Result<T>>>,
    done: Condvar,
}

struct Parcel<F, T> {
    work: F,
    slot: Arc<Slot<T>>,
}

/// Launching writes to a pipe per lcore and waits for the answer: one at a time.
static LAUNCHING: Mutex<()> = Mutex::new(());

impl Lcore {
    /// The number EAL knows it by.
    pub fn number(self) -> u16 {
        u16::try_from(self.0).unwrap_or(u16::MAX)
    }

    /// The CPU it is pinned to, or `None` when that is more than one.
    pub fn cpu(self) -> Option<u16> {
        // SAFETY: reads EAL's table for an enabled lcore.
        u16::try_from(unsafe { sys::rte_lcore_to_cpu_id(self.signed()) }).ok()
    }

    /// The NUMA node of its CPU. Pools and queues used by this lcore belong there.
    pub fn socket(self) -> SocketId {
        // SAFETY: reads EAL's table for an enabled lcore.
        let socket = unsafe { sys::rte_lcore_to_socket_id(self.0) };
        SocketId(u16::try_from(socket).unwrap_or(0))
    }

    fn signed(self) -> c_int {
        c_int::try_from(self.0).unwrap_or(c_int::MAX)
    }
}

impl fmt::Display for LcoreCpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.lcore, self.cpu)
    }
}

impl fmt::Display for Lcore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Eal {
    /// The lcore whose thread started EAL.
    pub fn main_lcore(&self) -> Lcore {
        // SAFETY: EAL runs.
        Lcore(unsafe { sys::rte_get_main_lcore() })
    }

    /// All enabled lcores in ascending order, the main one included.
    pub fn lcores(&self) -> Vec<Lcore> {
        let mut found = Vec::new();
        let mut at = c_uint::MAX;
        loop {
            // SAFETY: EAL runs; `-1` starts the walk, and no wrapping makes RTE_MAX_LCORE its end.
            at = unsafe { sys::rte_get_next_lcore(at, 0, 0) };
            if at >= sys::RTE_MAX_LCORE {
                return found;
            }
            found.push(Lcore(at));
        }
    }

    /// The lcores that take tasks: all but the main one.
    pub fn worker_lcores(&self) -> Vec<Lcore> {
        let main = self.main_lcore();
        self.lcores()
            .into_iter()
            .filter(|lcore| *lcore != main)
            .collect()
    }

    /// The lcore of the calling thread; `None` in a thread that EAL did not make.
    pub fn current_lcore(&self) -> Option<Lcore> {
        // SAFETY: reads a thread-local integer.
        let lcore = unsafe { sys::mr_lcore_id() };
        (lcore != sys::MR_LCORE_ID_ANY).then_some(Lcore(lcore))
    }

    /// Runs `work` on an idle lcore.
    pub fn launch<T, F>(&self, lcore: Lcore, work: F) -> Result<Task<T>, LaunchError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        if lcore == self.main_lcore() {
            return Err(LaunchError::Main);
        }
        let slot = Arc::new(Slot {
            result: Mutex::new(None),
            done: Condvar::new(),
        });
        let parcel = Box::into_raw(Box::new(Parcel {
            work,
            slot: Arc::clone(&slot),
        }));
        let guard = LAUNCHING.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: `run::<T, F>` takes back exactly this box, once; on failure it is taken back
        // below.
        let status = unsafe {
            sys::rte_eal_remote_launch(Some(run::<T, F>), parcel.cast::<c_void>(), lcore.0)
        };
        drop(guard);
        if status == 0 {
            return Ok(Task { lcore, slot });
        }
        // SAFETY: the launch failed, so nobody else will open the box.
        drop(unsafe { Box::from_raw(parcel) });
        Err(if status == -libc::EBUSY {
            LaunchError::Busy(lcore)
        } else {
            LaunchError::Unreachable(lcore)
        })
    }
}

impl<T> Task<T> {
    /// Sleeps until the task returns. `Err` holds the message of its panic.
    pub fn join(self) -> Result<T, Box<dyn Any + Send>> {
        let mut result = self
            .slot
            .result
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(value) = result.take() {
                // SAFETY: the lcore is about to leave its task; this waits (spinning) for the last
                // instructions, after which it takes another.
                unsafe { sys::rte_eal_wait_lcore(self.lcore.0) };
                return value;
            }
            result = self
                .slot
                .done
                .wait(result)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether the task has returned: `join` will not wait.
    pub fn is_finished(&self) -> bool {
        self.slot
            .result
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    /// Where it runs.
    pub fn lcore(&self) -> Lcore {
        self.lcore
    }
}

impl<T> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}

/// What EAL calls on the lcore's thread.
unsafe extern "C" fn run<T, F: FnOnce() -> T>(parcel: *mut c_void) -> c_int {
    // SAFETY: `launch` passed a box of exactly this type and gave it away.
    let parcel = unsafe { Box::from_raw(parcel.cast::<Parcel<F, T>>()) };
    let Parcel { work, slot } = *parcel;
    // A panic must not unwind into C; it is handed to whoever joins, who cannot see a half-changed
    // `work`.
    let value = catch_unwind(AssertUnwindSafe(work));
    *slot.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
    slot.done.notify_all();
    0
}
