//! System calls of our own, each as a safe function.
//!
//! The functions of libc that this object replaces when it is preloaded are called by number, past
//! our own symbols.

use libc::{c_int, c_long, pid_t, rusage};

use crate::memory::Place;

/// The number of the calling thread.
pub(crate) fn thread() -> pid_t {
    // SAFETY: takes nothing, and always succeeds.
    unsafe { libc::gettid() }
}

/// Pages that child processes have touched which have ended: it grows with every child.
pub(crate) fn pages_of_children() -> c_long {
    // SAFETY: a `rusage` is numbers only, for which all zeros is a value.
    let mut usage: rusage = unsafe { core::mem::zeroed() };
    // SAFETY: `usage` is a `rusage` of ours, which the kernel fills in.
    unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) };
    usage.ru_minflt
}

/// Says why a call failed, where C programs look.
pub(crate) fn set_errno(number: c_int) {
    // SAFETY: the place of the calling thread's own `errno`, valid as long as the thread lives.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: see above; nobody else writes it at the same time, it belongs to this thread.
    unsafe { place.write(number) };
}

/// Lets the process have descriptors up to `last`, where its hard limit allows it.
pub(crate) fn allow_descriptors(last: libc::rlim_t) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is ours, and the kernel fills it in.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0;
    if known && limit.rlim_cur <= last {
        limit.rlim_cur = limit.rlim_max.min(last + 1);
        // SAFETY: `limit` is ours, and the kernel only reads it.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    }
}

/// Takes the number `fd` in the kernel's table, unless it is taken or out of reach.
pub(crate) fn hold_descriptor(fd: c_int) {
    // SAFETY: asks about a number; without effect.
    let is_taken = unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0;
    if is_taken {
        return;
    }
    // SAFETY: the path is a C string that lives for ever.
    let null = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
    if null < 0 {
        return;
    }
    // SAFETY: `null` is open and ours, `fd` was found free; neither belongs to another owner.
    unsafe { libc::dup3(null, fd, libc::O_CLOEXEC) };
    close(null);
}

/// Makes the kernel's descriptor `fd` a listening socket on this port, of the loopback only, so
/// that who looks into `/proc/net/tcp` finds one. Without effect where the port is taken.
pub(crate) fn hold_port(fd: c_int, port: u16) {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: takes numbers only.
    let socket = unsafe { libc::socket(libc::AF_INET, kind, 0) };
    if socket < 0 {
        return;
    }
    let on: c_int = 1;
    let on_len = libc::socklen_t::try_from(size_of::<c_int>()).unwrap_or(0);
    // The loopback of a fresh namespace is down; listeners may share a port.
    let options = [
        (libc::IPPROTO_IP, libc::IP_FREEBIND),
        (libc::SOL_SOCKET, libc::SO_REUSEADDR),
        (libc::SOL_SOCKET, libc::SO_REUSEPORT),
    ];
    for (level, name) in options {
        // SAFETY: `on` is an `int` of ours, which the kernel only reads.
        unsafe { libc::setsockopt(socket, level, name, (&raw const on).cast(), on_len) };
    }
    // SAFETY: a `sockaddr_in` is numbers only, for which all zeros is a value.
    let mut address: libc::sockaddr_in = unsafe { core::mem::zeroed() };
    address.sin_family = libc::sa_family_t::try_from(libc::AF_INET).unwrap_or(0);
    address.sin_port = port.to_be();
    address.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
    let len = libc::socklen_t::try_from(size_of::<libc::sockaddr_in>()).unwrap_or(0);
    // SAFETY: `address` is ours and as long as `len` says; the kernel only reads it.
    let is_bound = unsafe { libc::bind(socket, (&raw const address).cast(), len) } == 0;
    // SAFETY: takes numbers only.
    if is_bound && unsafe { libc::listen(socket, 0) } == 0 {
        // SAFETY: `socket` is open and ours; `fd` is the placeholder of a descriptor of ours.
        unsafe { libc::dup3(socket, fd, libc::O_CLOEXEC) };
    }
    close(socket);
}

/// `close`.
pub(crate) fn close(fd: c_int) -> c_long {
    // SAFETY: passes on a number that its owner wants closed.
    unsafe { libc::syscall(libc::SYS_close, c_long::from(fd)) }
}

/// `getsockopt` of the kernel.
pub(crate) fn getsockopt(fd: c_int, level: c_int, name: c_int, value: Place, len: Place) -> c_long {
    // SAFETY: every argument is the program's own; the kernel checks each pointer.
    unsafe {
        libc::syscall(
            libc::SYS_getsockopt,
            c_long::from(fd),
            c_long::from(level),
            c_long::from(name),
            value.pointer(),
            len.pointer(),
        )
    }
}

/// `times` of the kernel.
pub(crate) fn times(buffer: Place) -> c_long {
    // SAFETY: the argument is the program's own; the kernel checks the pointer.
    unsafe { libc::syscall(libc::SYS_times, buffer.pointer()) }
}

/// `sendfile` of the kernel.
pub(crate) fn sendfile(out: c_int, from: c_int, offset: Place, count: usize) -> c_long {
    // SAFETY: every argument is the program's own; the kernel checks the pointer.
    unsafe {
        libc::syscall(
            libc::SYS_sendfile,
            c_long::from(out),
            c_long::from(from),
            offset.pointer(),
            count,
        )
    }
}

/// Bytes of a file of the kernel's: at an offset, or where it was read to.
pub(crate) fn read_file(fd: c_int, offset: Option<i64>, count: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0_u8; count];
    let room = bytes.as_mut_ptr().cast();
    let read = match offset {
        // SAFETY: `room` is `count` bytes of `bytes`, which the kernel fills in.
        Some(offset) => unsafe { libc::pread64(fd, room, count, offset) },
        // SAFETY: as above.
        None => unsafe { libc::read(fd, room, count) },
    };
    let read = usize::try_from(read).map_err(|_| std::io::Error::last_os_error())?;
    bytes.truncate(read);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_number_can_be_closed_once() {
        const FD: c_int = 900;
        hold_descriptor(FD);
        hold_descriptor(FD);
        assert_eq!(close(FD), 0);
        assert_eq!(close(FD), -1);
    }

    #[test]
    fn a_held_port_is_seen_to_listen_until_its_descriptor_is_closed() {
        const FD: c_int = 901;
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("bound").port();
        drop(free);
        let listens = || {
            let table = std::fs::read_to_string("/proc/net/tcp").expect("a table");
            table.contains(&format!("0100007F:{port:04X} 00000000:0000 0A"))
        };
        hold_descriptor(FD);
        hold_port(FD, port);
        assert!(listens());
        assert_eq!(close(FD), 0);
        assert!(!listens());
    }

    #[test]
    fn a_child_that_has_ended_is_noticed() {
        let before = pages_of_children();
        assert_eq!(pages_of_children(), before);
        let status = std::process::Command::new("true").status();
        assert!(status.is_ok_and(|status| status.success()));
        assert!(pages_of_children() > before);
    }
}
