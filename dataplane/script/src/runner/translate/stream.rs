//! Calls that move a stream's bytes.

use super::{Translated, plain};
use crate::ast::{CallLine, Expression, Value};
use crate::failure::Stop;
use crate::fault::Fault;
use crate::kernel::{Call, Piece, Room};
use crate::payload;
use crate::runner::Runner;
use crate::runner::answers::Expected;
use crate::runner::arguments::{
    exactly, int, integer, iovec, is_null, length, member, narrow, only_of, optional, room,
};
use crate::runner::message;

impl Runner<'_> {
    pub(super) fn read(&self, line: &CallLine) -> Translated {
        let [fd, buffer, count] = exactly(line)?;
        plain(Call::Read {
            fd: self.fd(fd)?,
            rooms: vec![room(buffer, count)?],
        })
    }

    pub(super) fn readv(&self, line: &CallLine) -> Translated {
        let [fd, vector, count] = exactly(line)?;
        let rooms = rooms(vector)?;
        same_count(count, rooms.len())?;
        plain(Call::Read {
            fd: self.fd(fd)?,
            rooms,
        })
    }

    pub(super) fn recv(&self, line: &CallLine) -> Translated {
        let [fd, buffer, count, flags] = exactly(line)?;
        let room = room(buffer, count)?;
        plain(Call::Receive {
            fd: self.fd(fd)?,
            room,
            flags: int(flags)?,
        })
    }

    pub(super) fn recvfrom(&self, line: &CallLine) -> Translated {
        let [fd, buffer, count, flags, _, _] = exactly(line)?;
        let room = room(buffer, count)?;
        plain(Call::Receive {
            fd: self.fd(fd)?,
            room,
            flags: int(flags)?,
        })
    }

    pub(super) fn recvmsg(&self, line: &CallLine) -> Translated {
        let [fd, header, flags] = exactly(line)?;
        let (fd, flags) = (self.fd(fd)?, int(flags)?);
        let rooms = rooms(message::vector(header)?)?;
        let control = message::controls(header)?;
        let control_bytes = control.iter().map(message::space).sum();
        let expected = Expected::Message {
            flags: int(&member(header, "msg_flags")?.value)?,
            control,
        };
        Ok((
            Call::ReceiveMessage {
                fd,
                rooms,
                control_bytes,
                flags,
            },
            expected,
        ))
    }

    pub(super) fn write(&mut self, line: &CallLine) -> Translated {
        let [fd, buffer, count] = exactly(line)?;
        let pieces = vec![self.piece(int(fd)?, buffer, count, 0)?];
        plain(Call::Write {
            fd: self.fd(fd)?,
            pieces,
        })
    }

    pub(super) fn writev(&mut self, line: &CallLine) -> Translated {
        let [fd, vector, count] = exactly(line)?;
        let pieces = self.pieces(int(fd)?, vector)?;
        same_count(count, pieces.len())?;
        plain(Call::Write {
            fd: self.fd(fd)?,
            pieces,
        })
    }

    pub(super) fn send(&mut self, line: &CallLine) -> Translated {
        let [fd, buffer, count, flags] = exactly(line)?;
        let piece = self.piece(int(fd)?, buffer, count, 0)?;
        plain(Call::Send {
            fd: self.fd(fd)?,
            piece,
            flags: int(flags)?,
            to: None,
        })
    }

    pub(super) fn sendto(&mut self, line: &CallLine) -> Translated {
        let [fd, buffer, count, flags, to, _length] = exactly(line)?;
        let script_fd = int(fd)?;
        let to = if is_null(to) {
            None
        } else {
            Some(self.peer(script_fd, to)?)
        };
        let piece = self.piece(script_fd, buffer, count, 0)?;
        plain(Call::Send {
            fd: self.fd(fd)?,
            piece,
            flags: int(flags)?,
            to,
        })
    }

    pub(super) fn sendmsg(&mut self, line: &CallLine) -> Translated {
        let [fd, header, flags] = exactly(line)?;
        let script_fd = int(fd)?;
        let name = optional(header, "msg_name").map(|field| &field.value);
        let to = match name.filter(|name| !is_null(name)) {
            Some(name) => Some(self.peer(script_fd, name)?),
            None => None,
        };
        let pieces = self.pieces(script_fd, message::vector(header)?)?;
        let control = message::controls(header)?;
        plain(Call::SendMessage {
            fd: self.fd(fd)?,
            pieces,
            flags: int(flags)?,
            to,
            control,
        })
    }

    pub(super) fn splice(&self, line: &CallLine) -> Translated {
        let [from, from_offset, to, to_offset, count, flags] = exactly(line)?;
        if let Some(offset) = [from_offset, to_offset]
            .into_iter()
            .find(|offset| !is_null(offset))
        {
            return Err(Stop::script(
                offset.at,
                "sockets and pipes have no offset: NULL",
            ));
        }
        let (from, to) = (self.fd(from)?, self.fd(to)?);
        plain(Call::Splice {
            from,
            to,
            bytes: length(count)?,
            flags: narrow(flags)?,
        })
    }

    pub(super) fn sendfile(&self, line: &CallLine) -> Translated {
        let [to, from, offset, count] = exactly(line)?;
        let offset = if is_null(offset) {
            None
        } else {
            Some(integer(only_of(offset)?)?)
        };
        let (to, from) = (self.fd(to)?, self.fd(from)?);
        plain(Call::SendFile {
            to,
            from,
            offset,
            bytes: length(count)?,
        })
    }

    /// Bytes for a stream, `skip` after where the program's last write ended.
    fn piece(
        &mut self,
        fd: i32,
        buffer: &Expression,
        count: &Expression,
        skip: u64,
    ) -> Result<Piece, Fault> {
        let length = length(count)?;
        if let Value::Text(bytes) = &buffer.value {
            if let Some(connection) = self.connection_of(fd) {
                connection.sends_other_bytes = true;
            }
            let mut bytes = bytes.clone();
            bytes.resize(length, 0);
            return Ok(Piece::Bytes(bytes));
        }
        if room(buffer, count)?.is_null {
            return Ok(Piece::Null(length));
        }
        let sent = self
            .connection_of(fd)
            .map_or(0, |connection| connection.sent);
        Ok(Piece::Bytes(payload::bytes(sent + skip, length)))
    }

    fn pieces(&mut self, fd: i32, vector: &Expression) -> Result<Vec<Piece>, Fault> {
        let mut pieces = Vec::new();
        let mut skip = 0;
        for (buffer, count) in iovec(vector)? {
            pieces.push(self.piece(fd, buffer, count, skip)?);
            skip += u64::try_from(length(count)?).unwrap_or(0);
        }
        Ok(pieces)
    }
}

fn rooms(vector: &Expression) -> Result<Vec<Room>, Fault> {
    iovec(vector)?
        .into_iter()
        .map(|(buffer, count)| room(buffer, count))
        .collect()
}

fn same_count(count: &Expression, found: usize) -> Result<(), Fault> {
    if length(count)? == found {
        return Ok(());
    }
    Err(Fault::new(
        count.at,
        format!("{found} entries, and the count is another"),
    ))
}
