//! From a result of ours to what C expects: a value, or -1 and `errno`. Panics end here.

use std::panic::{AssertUnwindSafe, catch_unwind};

use libc::{c_int, ssize_t};
use millrace_socket::Errno;

use crate::host::Host;
use crate::kernel;
use crate::registry::{self, Handle};

/// Runs `call` on the host; -1 and `errno` when it fails, `EBADF` when there is no such host, `EIO`
/// when it panicked.
fn run(handle: Handle, call: impl FnOnce(&Host) -> Result<i64, Errno>) -> i64 {
    guarded(|| {
        let host = registry::find(handle).ok_or(Errno::EBADF)?;
        call(&host)
    })
}

/// The same without a host.
pub(crate) fn guarded(call: impl FnOnce() -> Result<i64, Errno>) -> i64 {
    // What a panic leaves half done stays behind the host's lock, whose poison is ignored: a script
    // that came upon a panic has failed.
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => {
            kernel::set_errno(error.number());
            -1
        }
        Err(_) => {
            kernel::set_errno(Errno::EIO.number());
            -1
        }
    }
}

/// A call that returns an `int`.
pub(crate) fn int(handle: Handle, call: impl FnOnce(&Host) -> Result<i64, Errno>) -> c_int {
    c_int::try_from(run(handle, call)).unwrap_or(c_int::MAX)
}

/// A call that returns an `int` of 0.
pub(crate) fn done(handle: Handle, call: impl FnOnce(&Host) -> Result<(), Errno>) -> c_int {
    int(handle, |host| call(host).map(|()| 0))
}

/// A call that returns a count of bytes.
pub(crate) fn size(handle: Handle, call: impl FnOnce(&Host) -> Result<i64, Errno>) -> ssize_t {
    ssize_t::try_from(run(handle, call)).unwrap_or(ssize_t::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_of_input_and_output() {
        assert_eq!(guarded(|| panic!("on purpose")), -1);
        let error = std::io::Error::last_os_error().raw_os_error();
        assert_eq!(error, Some(libc::EIO));
    }

    #[test]
    fn a_failure_is_minus_one_with_its_number() {
        assert_eq!(guarded(|| Err(Errno::EAGAIN)), -1);
        let error = std::io::Error::last_os_error().raw_os_error();
        assert_eq!(error, Some(libc::EAGAIN));
        assert_eq!(guarded(|| Ok(7)), 7);
    }
}
