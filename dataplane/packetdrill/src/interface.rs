//! The C side: the structure that packetdrill wants filled in, and its functions.
//!
//! Each function only takes its arguments apart; what it does is in `host`. Two members are
//! variadic in C (`fcntl`, `ioctl`): on the machines of this project a variadic argument travels as
//! a third named one would, and a function that does not look at it may be called without.

use std::sync::Arc;

use libc::{
    c_char, c_int, c_long, c_longlong, c_uint, c_ulong, c_void, nfds_t, socklen_t, ssize_t,
    useconds_t,
};
use millrace_socket::Errno;

use crate::boundary::{done, guarded, int, size};
use crate::host::Host;
use crate::layout::Piece;
use crate::memory::Place;
use crate::registry::{self, Handle};
use crate::surroundings::Surroundings;

const _: () = assert!(size_of::<Interface>() == 33 * size_of::<usize>());

/// `struct packetdrill_interface`. It has no version: the order of the members is the interface.
#[derive(Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the manual pages say what the members do")]
pub struct Interface {
    userdata: Handle,
    free: extern "C" fn(Handle),
    socket: extern "C" fn(Handle, c_int, c_int, c_int) -> c_int,
    bind: extern "C" fn(Handle, c_int, Place, socklen_t) -> c_int,
    listen: extern "C" fn(Handle, c_int, c_int) -> c_int,
    accept: extern "C" fn(Handle, c_int, Place, Place) -> c_int,
    connect: extern "C" fn(Handle, c_int, Place, socklen_t) -> c_int,
    read: extern "C" fn(Handle, c_int, Place, usize) -> ssize_t,
    readv: extern "C" fn(Handle, c_int, Place, c_int) -> ssize_t,
    recv: extern "C" fn(Handle, c_int, Place, usize, c_int) -> ssize_t,
    recvfrom: extern "C" fn(Handle, c_int, Place, usize, c_int, Place, Place) -> ssize_t,
    recvmsg: extern "C" fn(Handle, c_int, Place, c_int) -> ssize_t,
    write: extern "C" fn(Handle, c_int, Place, usize) -> ssize_t,
    writev: extern "C" fn(Handle, c_int, Place, c_int) -> ssize_t,
    send: extern "C" fn(Handle, c_int, Place, usize, c_int) -> ssize_t,
    sendto: extern "C" fn(Handle, c_int, Place, usize, c_int, Place, socklen_t) -> ssize_t,
    sendmsg: extern "C" fn(Handle, c_int, Place, c_int) -> ssize_t,
    fcntl: extern "C" fn(Handle, c_int, c_int, c_long) -> c_int,
    ioctl: extern "C" fn(Handle, c_int, c_ulong, Place) -> c_int,
    close: extern "C" fn(Handle, c_int) -> c_int,
    shutdown: extern "C" fn(Handle, c_int, c_int) -> c_int,
    getsockopt: extern "C" fn(Handle, c_int, c_int, c_int, Place, Place) -> c_int,
    setsockopt: extern "C" fn(Handle, c_int, c_int, c_int, Place, socklen_t) -> c_int,
    poll: extern "C" fn(Handle, Place, nfds_t, c_int) -> c_int,
    netdev_send: extern "C" fn(Handle, Place, usize) -> c_int,
    netdev_receive: extern "C" fn(Handle, Place, Place, Place) -> c_int,
    usleep: extern "C" fn(Handle, useconds_t) -> c_int,
    gettimeofday: extern "C" fn(Handle, Place, Place) -> c_int,
    epoll_create: extern "C" fn(Handle, c_int) -> c_int,
    epoll_ctl: extern "C" fn(Handle, c_int, c_int, c_int, Place) -> c_int,
    epoll_wait: extern "C" fn(Handle, c_int, Place, c_int, c_int) -> c_int,
    pipe: extern "C" fn(Handle, Place) -> c_int,
    splice: extern "C" fn(Handle, c_int, Place, c_int, Place, usize, c_uint) -> ssize_t,
}

/// Makes a host and fills in `out`. Does nothing when `out` is null.
///
/// `flags` is what `--so_flags` said, or null: `local=ADDRESS` and `mtu=BYTES`, with commas between.
///
/// # Safety
///
/// `out` is null or has room for an [`Interface`]; nobody else uses it meanwhile.
// SAFETY: nothing else in the process has this name: it is packetdrill's own for its plug-ins.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn packetdrill_interface_init(flags: *const c_char, out: *mut Interface) {
    guarded(|| {
        if out.is_null() {
            return Err(Errno::EFAULT);
        }
        let flags = Place::from_pointer(flags.cast_mut().cast::<c_void>()).text();
        let arguments: Vec<String> = std::env::args_os()
            .skip(1)
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect();
        let host = Host::new(Surroundings::new(&flags, &arguments));
        let interface = table(registry::add(host));
        // SAFETY: `out` is not null and, as the caller promises, has room for an `Interface` that
        // nobody else looks at; writing does not read or drop what was there.
        unsafe { out.write(interface) };
        Ok(0)
    });
}

fn table(userdata: Handle) -> Interface {
    Interface {
        userdata,
        free,
        socket,
        bind,
        listen,
        accept,
        connect,
        read,
        readv,
        recv,
        recvfrom,
        recvmsg,
        write,
        writev,
        send,
        sendto,
        sendmsg,
        fcntl,
        ioctl,
        close,
        shutdown,
        getsockopt,
        setsockopt,
        poll,
        netdev_send,
        netdev_receive,
        usleep,
        gettimeofday,
        epoll_create,
        epoll_ctl,
        epoll_wait,
        pipe,
        splice,
    }
}

extern "C" fn free(handle: Handle) {
    guarded(|| {
        if let Some(host) = registry::remove(handle).and_then(Arc::into_inner) {
            host.release();
        }
        Ok(0)
    });
}

extern "C" fn socket(handle: Handle, domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    int(handle, |host| host.socket(domain, kind, protocol))
}

extern "C" fn bind(handle: Handle, fd: c_int, address: Place, len: socklen_t) -> c_int {
    done(handle, |host| host.bind(fd, address, len))
}

extern "C" fn listen(handle: Handle, fd: c_int, backlog: c_int) -> c_int {
    done(handle, |host| host.listen(fd, backlog))
}

extern "C" fn accept(handle: Handle, fd: c_int, address: Place, len: Place) -> c_int {
    int(handle, |host| host.accept(fd, address, len))
}

extern "C" fn connect(handle: Handle, fd: c_int, address: Place, len: socklen_t) -> c_int {
    done(handle, |host| host.connect(fd, address, len))
}

extern "C" fn read(handle: Handle, fd: c_int, buffer: Place, count: usize) -> ssize_t {
    size(handle, |host| host.read(fd, &[Piece::new(buffer, count)]))
}

extern "C" fn readv(handle: Handle, fd: c_int, vector: Place, length: c_int) -> ssize_t {
    size(handle, |host| host.readv(fd, vector, length))
}

extern "C" fn recv(
    handle: Handle,
    fd: c_int,
    buffer: Place,
    count: usize,
    flags: c_int,
) -> ssize_t {
    size(handle, |host| {
        host.receive(fd, Piece::new(buffer, count), flags)
    })
}

extern "C" fn recvfrom(
    handle: Handle,
    fd: c_int,
    buffer: Place,
    count: usize,
    flags: c_int,
    address: Place,
    len: Place,
) -> ssize_t {
    size(handle, |host| {
        host.receive_from(fd, Piece::new(buffer, count), flags, (address, len))
    })
}

extern "C" fn recvmsg(handle: Handle, fd: c_int, message: Place, flags: c_int) -> ssize_t {
    size(handle, |host| host.receive_message(fd, message, flags))
}

extern "C" fn write(handle: Handle, fd: c_int, buffer: Place, count: usize) -> ssize_t {
    size(handle, |host| host.write(fd, &[Piece::new(buffer, count)]))
}

extern "C" fn writev(handle: Handle, fd: c_int, vector: Place, length: c_int) -> ssize_t {
    size(handle, |host| host.writev(fd, vector, length))
}

extern "C" fn send(
    handle: Handle,
    fd: c_int,
    buffer: Place,
    count: usize,
    flags: c_int,
) -> ssize_t {
    let nobody = (Place::from_word(0), 0);
    size(handle, |host| {
        host.send(fd, Piece::new(buffer, count), flags, nobody)
    })
}

extern "C" fn sendto(
    handle: Handle,
    fd: c_int,
    buffer: Place,
    count: usize,
    flags: c_int,
    address: Place,
    len: socklen_t,
) -> ssize_t {
    size(handle, |host| {
        host.send(fd, Piece::new(buffer, count), flags, (address, len))
    })
}

extern "C" fn sendmsg(handle: Handle, fd: c_int, message: Place, flags: c_int) -> ssize_t {
    size(handle, |host| host.send_message(fd, message, flags))
}

extern "C" fn fcntl(handle: Handle, fd: c_int, command: c_int, argument: c_long) -> c_int {
    int(handle, |host| host.fcntl(fd, command, argument))
}

extern "C" fn ioctl(handle: Handle, fd: c_int, request: c_ulong, argument: Place) -> c_int {
    int(handle, |host| host.ioctl(fd, request, argument))
}

extern "C" fn close(handle: Handle, fd: c_int) -> c_int {
    done(handle, |host| host.close(fd))
}

extern "C" fn shutdown(handle: Handle, fd: c_int, how: c_int) -> c_int {
    done(handle, |host| host.shutdown(fd, how))
}

extern "C" fn getsockopt(
    handle: Handle,
    fd: c_int,
    level: c_int,
    name: c_int,
    value: Place,
    len: Place,
) -> c_int {
    done(handle, |host| {
        host.getsockopt(fd, level, name, (value, len))
    })
}

extern "C" fn setsockopt(
    handle: Handle,
    fd: c_int,
    level: c_int,
    name: c_int,
    value: Place,
    len: socklen_t,
) -> c_int {
    done(handle, |host| {
        host.setsockopt(fd, level, name, (value, len))
    })
}

extern "C" fn poll(handle: Handle, fds: Place, count: nfds_t, timeout_ms: c_int) -> c_int {
    int(handle, |host| host.poll(fds, count, timeout_ms))
}

extern "C" fn netdev_send(handle: Handle, buffer: Place, count: usize) -> c_int {
    done(handle, |host| {
        host.deliver(&Piece::new(buffer, count).read()?);
        Ok(())
    })
}

extern "C" fn netdev_receive(handle: Handle, buffer: Place, count: Place, usecs: Place) -> c_int {
    done(handle, |host| {
        let room = usize::from_ne_bytes(count.read_array()?);
        let (left, packet) = host.next_packet().unwrap_or((host.look(), Vec::new()));
        let packet = packet.get(..room.min(packet.len())).unwrap_or(&packet);
        buffer.write(packet)?;
        count.write(&packet.len().to_ne_bytes())?;
        let left = c_longlong::try_from(left.as_nanos() / 1_000).unwrap_or(c_longlong::MAX);
        usecs.write(&left.to_ne_bytes())
    })
}

extern "C" fn usleep(handle: Handle, micros: useconds_t) -> c_int {
    done(handle, |host| {
        host.usleep(u64::from(micros));
        Ok(())
    })
}

extern "C" fn gettimeofday(handle: Handle, time: Place, zone: Place) -> c_int {
    done(handle, |host| {
        let micros = host.look().as_nanos() / 1_000;
        let mut bytes = (micros / 1_000_000).to_ne_bytes().to_vec();
        bytes.extend((micros % 1_000_000).to_ne_bytes());
        if !time.is_null() {
            time.write(&bytes)?;
        }
        if !zone.is_null() {
            zone.write(&[0; 8])?;
        }
        Ok(())
    })
}

extern "C" fn epoll_create(handle: Handle, size: c_int) -> c_int {
    int(handle, |host| host.epoll_create(size))
}

extern "C" fn epoll_ctl(
    handle: Handle,
    epoll: c_int,
    operation: c_int,
    fd: c_int,
    event: Place,
) -> c_int {
    done(handle, |host| host.epoll_ctl(epoll, operation, fd, event))
}

extern "C" fn epoll_wait(
    handle: Handle,
    fd: c_int,
    events: Place,
    events_max: c_int,
    timeout_ms: c_int,
) -> c_int {
    int(handle, |host| {
        host.epoll_wait(fd, events, events_max, timeout_ms)
    })
}

extern "C" fn pipe(handle: Handle, ends: Place) -> c_int {
    done(handle, |host| host.pipe(ends))
}

extern "C" fn splice(
    handle: Handle,
    from: c_int,
    from_offset: Place,
    to: c_int,
    to_offset: Place,
    len: usize,
    flags: c_uint,
) -> ssize_t {
    size(handle, |host| {
        host.splice((from, from_offset), (to, to_offset), len, flags)
    })
}
