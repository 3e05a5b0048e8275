//! Calls that move bytes.

use libc::{c_int, c_uint, socklen_t};
use millrace_socket::{Call, Errno, Received, Reply};

use super::Host;
use crate::kernel;
use crate::layout::{self, Message, Piece};
use crate::memory::{MOVE_BYTES_MAX, Place};

impl Host {
    pub(crate) fn read(&self, fd: c_int, pieces: &[Piece]) -> Result<i64, Errno> {
        let len = layout::room(pieces);
        if is_faulty(pieces) {
            return self.read_nowhere(fd, len, 0);
        }
        let received = received(self.call(Call::Read { fd, len })?);
        layout::scatter(&received.bytes, pieces)?;
        Ok(count(received.count))
    }

    pub(crate) fn readv(&self, fd: c_int, vector: Place, length: c_int) -> Result<i64, Errno> {
        let length = usize::try_from(length).map_err(|_| Errno::EINVAL)?;
        self.read(fd, &layout::pieces(vector, length, Errno::EINVAL)?)
    }

    pub(crate) fn receive(&self, fd: c_int, piece: Piece, flags: c_int) -> Result<i64, Errno> {
        let pieces = [piece];
        if is_faulty(&pieces) {
            return self.read_nowhere(fd, piece.len, flags);
        }
        let received = received(self.call(Call::Receive {
            fd,
            len: piece.len,
            control_len: 0,
            flags,
        })?);
        layout::scatter(&received.bytes, &pieces)?;
        Ok(count(received.count))
    }

    pub(crate) fn receive_from(
        &self,
        fd: c_int,
        piece: Piece,
        flags: c_int,
        (address, len): (Place, Place),
    ) -> Result<i64, Errno> {
        let received = self.receive(fd, piece, flags)?;
        // A stream has no sender to name.
        layout::give_address(&[], address, len)?;
        Ok(received)
    }

    pub(crate) fn receive_message(
        &self,
        fd: c_int,
        message: Place,
        flags: c_int,
    ) -> Result<i64, Errno> {
        self.with(|state| state.sockets().fcntl(fd, libc::F_GETFD, 0))?;
        let message = Message::read(message)?;
        let len = layout::room(&message.pieces);
        if is_faulty(&message.pieces) {
            return self.read_nowhere(fd, len, flags);
        }
        let received = received(self.call(Call::Receive {
            fd,
            len,
            control_len: message.control_room(),
            flags,
        })?);
        layout::scatter(&received.bytes, &message.pieces)?;
        message.answer(received.address, &received.control, received.flags)?;
        Ok(count(received.count))
    }

    pub(crate) fn write(&self, fd: c_int, pieces: &[Piece]) -> Result<i64, Errno> {
        let Some(data) = gather(pieces) else {
            return self.write_nowhere(fd, 0);
        };
        self.call(Call::Write {
            fd,
            data: data.concat(),
        })
        .map(|reply| reply.value())
    }

    pub(crate) fn writev(&self, fd: c_int, vector: Place, length: c_int) -> Result<i64, Errno> {
        let length = usize::try_from(length).map_err(|_| Errno::EINVAL)?;
        self.write(fd, &layout::pieces(vector, length, Errno::EINVAL)?)
    }

    pub(crate) fn send(
        &self,
        fd: c_int,
        piece: Piece,
        flags: c_int,
        (address, len): (Place, socklen_t),
    ) -> Result<i64, Errno> {
        self.with(|state| state.sockets().fcntl(fd, libc::F_GETFD, 0))?;
        let address = if address.is_null() {
            None
        } else {
            Some(layout::address(address, len)?)
        };
        if let Some(address) = address {
            self.note_family(address);
        }
        let Some(data) = gather(&[piece]) else {
            return self.write_nowhere(fd, flags);
        };
        self.call(Call::Send {
            fd,
            data: data.concat(),
            flags,
            address,
        })
        .map(|reply| reply.value())
    }

    pub(crate) fn send_message(
        &self,
        fd: c_int,
        message: Place,
        flags: c_int,
    ) -> Result<i64, Errno> {
        self.with(|state| state.sockets().fcntl(fd, libc::F_GETFD, 0))?;
        let message = Message::read(message)?;
        let address = message.address()?;
        if let Some(address) = address {
            self.note_family(address);
        }
        let Some(pieces) = gather(&message.pieces) else {
            return self.write_nowhere(fd, flags);
        };
        self.call(Call::SendMessage {
            fd,
            pieces,
            flags,
            address,
            control: message.controls()?,
        })
        .map(|reply| reply.value())
    }

    /// The tool passes pointers to its offsets where the script says none: a zero there is none.
    pub(crate) fn splice(
        &self,
        (from, from_offset): (c_int, Place),
        (to, to_offset): (c_int, Place),
        len: usize,
        flags: c_uint,
    ) -> Result<i64, Errno> {
        for offset in [from_offset, to_offset] {
            if !offset.is_null() && offset.read_array::<8>()? != [0; 8] {
                return Err(Errno::ESPIPE);
            }
        }
        self.call(Call::Splice {
            from,
            to,
            len: len.min(MOVE_BYTES_MAX),
            flags: flags.cast_signed(),
        })
        .map(|reply| reply.value())
    }

    /// `sendfile` from a file of the kernel's.
    pub(crate) fn send_file(
        &self,
        to: c_int,
        from: c_int,
        offset: Place,
        len: usize,
    ) -> Result<i64, Errno> {
        let start = if offset.is_null() {
            None
        } else {
            Some(i64::from_ne_bytes(offset.read_array()?))
        };
        let data = kernel::read_file(from, start, len.min(MOVE_BYTES_MAX))
            .map_err(|error| Errno::new(error.raw_os_error().unwrap_or(libc::EIO)))?;
        let sent = self.call(Call::Write { fd: to, data })?.value();
        if let Some(start) = start {
            offset.write(&(start + sent).to_ne_bytes())?;
        }
        Ok(sent)
    }

    /// A read into nowhere: Linux looks for bytes first, and fails when it comes to copy them.
    fn read_nowhere(&self, fd: c_int, len: usize, flags: c_int) -> Result<i64, Errno> {
        let reply = self.call(Call::Receive {
            fd,
            len,
            control_len: 0,
            flags: flags | libc::MSG_PEEK,
        })?;
        match reply.value() {
            0 => Ok(0),
            _ => Err(Errno::EFAULT),
        }
    }

    /// A write from nowhere: what is wrong with the socket comes first.
    fn write_nowhere(&self, fd: c_int, flags: c_int) -> Result<i64, Errno> {
        self.call(Call::Send {
            fd,
            data: Vec::new(),
            flags: flags & !(libc::MSG_ZEROCOPY | libc::MSG_FASTOPEN),
            address: None,
        })?;
        Err(Errno::EFAULT)
    }
}

/// Whether there are bytes to be put to a null pointer.
fn is_faulty(pieces: &[Piece]) -> bool {
    pieces
        .iter()
        .any(|piece| piece.place.is_null() && piece.len > 0)
}

/// The pieces' bytes; `None` when some are nowhere.
fn gather(pieces: &[Piece]) -> Option<Vec<Vec<u8>>> {
    pieces.iter().map(|piece| piece.read().ok()).collect()
}

fn received(reply: Reply) -> Received {
    let value = reply.value();
    if let Reply::Received(received) = reply {
        return received;
    }
    Received {
        count: usize::try_from(value).unwrap_or(0),
        ..Received::default()
    }
}

fn count(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
