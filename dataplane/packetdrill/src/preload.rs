//! Functions of libc that packetdrill calls past the interface, when this object is preloaded.
//!
//! Code blocks ask `getsockopt`, the end of a run calls `close`, `sendfile` has no member in the
//! interface, and the beginning of a run waits for ticks of `times`. Descriptors of the host are
//! its own; for all others the kernel is asked, as if we were not there.

use libc::{c_int, c_long, clock_t, ssize_t};
use millrace_socket::Errno;

use crate::boundary::guarded;
use crate::host::FD_FIRST;
use crate::kernel;
use crate::memory::Place;
use crate::registry;

/// What libc would have made of a system call past it.
fn int_of(result: c_long) -> c_int {
    c_int::try_from(result).unwrap_or(-1)
}

/// `getsockopt`.
// SAFETY: replaces libc's function of the same name and signature, and does what that one does.
#[unsafe(no_mangle)]
pub extern "C" fn getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: Place,
    len: Place,
) -> c_int {
    if fd < FD_FIRST {
        return int_of(kernel::getsockopt(fd, level, name, value, len));
    }
    int_of(guarded(|| {
        let host = registry::latest().ok_or(Errno::EBADF)?;
        host.getsockopt(fd, level, name, (value, len)).map(|()| 0)
    }))
}

/// `close`.
// SAFETY: replaces libc's function of the same name and signature, and does what that one does.
#[unsafe(no_mangle)]
pub extern "C" fn close(fd: c_int) -> c_int {
    if fd < FD_FIRST {
        return int_of(kernel::close(fd));
    }
    int_of(guarded(|| {
        let host = registry::latest();
        match host.map(|host| host.close(fd)) {
            Some(Ok(())) => Ok(0),
            // Not one of ours: the kernel may know it.
            Some(Err(Errno::EBADF)) | None => Ok(kernel::close(fd)),
            Some(Err(error)) => Err(error),
        }
    }))
}

/// `sendfile`.
// SAFETY: replaces libc's function of the same name and signature, and does what that one does.
#[unsafe(no_mangle)]
pub extern "C" fn sendfile(to: c_int, from: c_int, offset: Place, count: usize) -> ssize_t {
    if to < FD_FIRST {
        return ssize_t::try_from(kernel::sendfile(to, from, offset, count)).unwrap_or(-1);
    }
    let sent = guarded(|| {
        let host = registry::latest().ok_or(Errno::EBADF)?;
        host.send_file(to, from, offset, count)
    });
    ssize_t::try_from(sent).unwrap_or(ssize_t::MAX)
}

/// `sendfile64`, which is the same on 64-bit machines.
// SAFETY: replaces libc's function of the same name and signature, and does what that one does.
#[unsafe(no_mangle)]
pub extern "C" fn sendfile64(to: c_int, from: c_int, offset: Place, count: usize) -> ssize_t {
    sendfile(to, from, offset, count)
}

/// `times`. While there is a host each call begins a tick of its time: who waits for ticks does not
/// wait, and begins at the beginning of one. The processor times are 0 then.
// SAFETY: replaces libc's function of the same name and signature; the return value is a clock that
// only goes forward, as that one's.
#[unsafe(no_mangle)]
pub extern "C" fn times(buffer: Place) -> clock_t {
    /// Bytes of a `struct tms`.
    const TMS_BYTES: usize = size_of::<libc::tms>();
    let Some(host) = registry::latest() else {
        return kernel::times(buffer);
    };
    let tick = guarded(|| {
        if !buffer.is_null() {
            buffer.write(&[0; TMS_BYTES])?;
        }
        Ok(i64::try_from(host.next_tick()).unwrap_or(i64::MAX))
    });
    clock_t::try_from(tick).unwrap_or(clock_t::MAX)
}
