//! Calls that ask and set.

use libc::{c_int, c_long, c_ulong, socklen_t};
use millrace_socket::Errno;

use super::Host;
use super::descriptors::opened;
use crate::memory::Place;

/// Requests that read their argument; the others only write it.
const FIONBIO: u64 = 0x5421;
const FIOASYNC: u64 = 0x5452;
/// Requests without an argument.
const FIOCLEX: u64 = 0x5451;
const FIONCLEX: u64 = 0x5450;

impl Host {
    pub(crate) fn fcntl(&self, fd: c_int, command: c_int, argument: c_long) -> Result<i64, Errno> {
        // The tool passes an `int`: what is above it is not defined.
        let argument = i64::from(argument as c_int);
        let result = self.with(|state| state.sockets().fcntl(fd, command, argument))?;
        Ok(match command {
            libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => opened(result),
            _ => i64::from(result),
        })
    }

    pub(crate) fn ioctl(&self, fd: c_int, request: c_ulong, argument: Place) -> Result<i64, Errno> {
        self.with(|state| state.sockets().fcntl(fd, libc::F_GETFD, 0))?;
        // The tool passes an `int`, which the C compiler has widened with its sign.
        let request = u64::from(request as u32);
        let given = match request {
            FIONBIO | FIOASYNC => i32::from_ne_bytes(argument.read_array()?),
            _ => 0,
        };
        let result = self.with(|state| {
            let now = state.now;
            state.sockets().ioctl(now, fd, request, given)
        })?;
        if !matches!(request, FIONBIO | FIOASYNC | FIOCLEX | FIONCLEX) {
            argument.write(&result.to_ne_bytes())?;
        }
        Ok(0)
    }

    pub(crate) fn getsockopt(
        &self,
        fd: c_int,
        level: c_int,
        name: c_int,
        (value, len): (Place, Place),
    ) -> Result<(), Errno> {
        self.with(|state| state.sockets().getsockname(fd))?;
        let room = i32::from_ne_bytes(len.read_array()?);
        let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
        let bytes = self.with(|state| {
            let now = state.now;
            state.sockets().getsockopt(now, fd, level, name, room)
        })?;
        value.write(&bytes)?;
        let written = socklen_t::try_from(bytes.len()).unwrap_or(socklen_t::MAX);
        len.write(&written.to_ne_bytes())
    }

    pub(crate) fn setsockopt(
        &self,
        fd: c_int,
        level: c_int,
        name: c_int,
        (value, len): (Place, socklen_t),
    ) -> Result<(), Errno> {
        /// No option is longer; Linux refuses what does not fit into a page or two.
        const VALUE_BYTES_MAX: i32 = 1 << 16;
        self.with(|state| state.sockets().getsockname(fd))?;
        let len = len.cast_signed();
        if len < 0 {
            return Err(Errno::EINVAL);
        }
        let len = usize::try_from(len.min(VALUE_BYTES_MAX)).unwrap_or(0);
        let bytes = value.read(len)?;
        self.with(|state| {
            let now = state.now;
            state.sockets().setsockopt(now, fd, level, name, &bytes)
        })
    }
}
