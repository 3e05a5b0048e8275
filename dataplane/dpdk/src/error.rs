//! `errno` as DPDK reports it: the number, its name in words, and how calls hand it over.
//!
//! DPDK has two conventions: a negative return value *is* the errno, or the call returns
//! `-1`/`NULL` and leaves the number in the thread-local `rte_errno`. Both end here; no status code
//! travels further up. What an errno means for one operation is said by that operation's own enum
//! (`EalError`, `MempoolError`, `PortError`, …).

use core::ffi::{CStr, c_int};
use core::fmt;

use millrace_dpdk_sys as sys;

/// An error number of the operating system or of DPDK, positive.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(i32);

impl Errno {
    /// The errno with this number; a negative one, as DPDK returns it, is turned round.
    pub const fn new(number: i32) -> Self {
        Self(number.saturating_abs())
    }

    /// What the calling thread's last failed DPDK call left in `rte_errno`.
    pub fn last() -> Self {
        // SAFETY: reads a thread-local integer.
        Self::new(unsafe { sys::mr_errno() })
    }

    /// The number, as in `errno.h`.
    pub const fn number(self) -> i32 {
        self.0
    }

    /// A status that is negative on failure.
    pub(crate) fn check(status: c_int) -> Result<c_int, Self> {
        if status < 0 {
            Err(Self::new(status))
        } else {
            Ok(status)
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: always returns a NUL-terminated string in thread-local or static storage, which
        // is read before the next call on this thread.
        let text = unsafe { CStr::from_ptr(sys::rte_strerror(self.0)) };
        write!(f, "{} (errno {})", text.to_string_lossy(), self.0)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_statuses_become_positive_numbers() {
        assert_eq!(Errno::check(-libc::EINVAL), Err(Errno::new(libc::EINVAL)));
        assert_eq!(Errno::check(3), Ok(3));
        assert_eq!(Errno::new(i32::MIN).number(), i32::MAX);
        assert_eq!(
            Errno::new(libc::EINVAL).to_string(),
            "Invalid argument (errno 22)"
        );
    }
}
