//! C structures as bytes: the layouts of Linux on 64-bit machines.
//!
//! ```text
//!   iovec        base:8 len:8
//!   msghdr       name:8 namelen:4 pad:4 iov:8 iovlen:8 control:8 controllen:8 flags:4 pad:4
//!   cmsghdr      len:8 level:4 type:4, then the data, padded to 8
//!   pollfd       fd:4 events:2 revents:2
//!   epoll_event  events:4 data:8 (x86-64: packed; elsewhere 4 bytes of padding between)
//!   timeval      seconds:8 microseconds:8
//! ```

use libc::{c_int, socklen_t};
use millrace_socket::{Control, EpollEvent, Errno, PollFd, SocketAddress};

use crate::memory::{MOVE_BYTES_MAX, Place};

const _: () = assert!(size_of::<libc::iovec>() == 16);
const _: () = assert!(size_of::<libc::msghdr>() == MSGHDR_BYTES);
const _: () = assert!(size_of::<libc::cmsghdr>() == CMSGHDR_BYTES);
const _: () = assert!(size_of::<libc::pollfd>() == POLLFD_BYTES);
const _: () = assert!(size_of::<libc::epoll_event>() == EPOLL_EVENT_BYTES);
const _: () = assert!(size_of::<libc::timeval>() == 16);

/// Elements that a vector of pieces has at most (`UIO_MAXIOV`).
const PIECES_MAX: usize = 1_024;
/// Bytes of the largest address (`struct sockaddr_storage`).
const ADDRESS_BYTES_MAX: usize = 128;
const MSGHDR_BYTES: usize = 56;
const CMSGHDR_BYTES: usize = 16;
const POLLFD_BYTES: usize = 8;
/// Where the data of an `epoll_event` are, and its size.
const EPOLL_DATA_AT: usize = if cfg!(target_arch = "x86_64") { 4 } else { 8 };
const EPOLL_EVENT_BYTES: usize = EPOLL_DATA_AT + 8;

/// The bytes at a place that is known to be within.
fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let found = bytes
        .get(at..at + N)
        .and_then(|bytes| bytes.try_into().ok());
    found.unwrap_or([0; N])
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(field(bytes, at))
}

/// A `sockaddr` that a call is given.
pub(crate) fn address(place: Place, len: socklen_t) -> Result<SocketAddress, Errno> {
    let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
    if len > ADDRESS_BYTES_MAX {
        return Err(Errno::EINVAL);
    }
    SocketAddress::parse(&place.read(len)?)
}

/// Gives an address back: as much of it as there is room for, and its full length.
pub(crate) fn give_address(bytes: &[u8], place: Place, len: Place) -> Result<(), Errno> {
    if place.is_null() {
        return Ok(());
    }
    let room = i32::from_ne_bytes(len.read_array()?);
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    place.write(bytes.get(..room.min(bytes.len())).unwrap_or(bytes))?;
    let full = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    len.write(&full.to_ne_bytes())
}

/// One piece of a program's memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) place: Place,
    pub(crate) len: usize,
}

impl Piece {
    /// What `read` and `write` are given.
    pub(crate) fn new(place: Place, len: usize) -> Self {
        Self {
            place,
            len: len.min(MOVE_BYTES_MAX),
        }
    }

    /// What stands in it.
    pub(crate) fn read(self) -> Result<Vec<u8>, Errno> {
        self.place.read(self.len)
    }
}

/// A vector of pieces; `too_many` is what more than a thousand are answered with.
pub(crate) fn pieces(place: Place, count: usize, too_many: Errno) -> Result<Vec<Piece>, Errno> {
    if count > PIECES_MAX {
        return Err(too_many);
    }
    let bytes = place.read(count * 16)?;
    let mut room = MOVE_BYTES_MAX;
    let mut pieces = Vec::with_capacity(count);
    for entry in bytes.chunks_exact(16) {
        let len = usize::try_from(word(entry, 8)).map_err(|_| Errno::EINVAL)?;
        if isize::try_from(len).is_err() {
            return Err(Errno::EINVAL);
        }
        // Linux cuts what is more than one call moves; the sum never overflows.
        let len = len.min(room);
        room -= len;
        pieces.push(Piece {
            place: Place::from_word(word(entry, 0)),
            len,
        });
    }
    Ok(pieces)
}

/// Bytes there is room for in all.
pub(crate) fn room(pieces: &[Piece]) -> usize {
    pieces.iter().map(|piece| piece.len).sum()
}

/// Puts bytes into the pieces, one after the other.
pub(crate) fn scatter(mut bytes: &[u8], pieces: &[Piece]) -> Result<(), Errno> {
    for piece in pieces {
        let (head, rest) = bytes.split_at(piece.len.min(bytes.len()));
        piece.place.write(head)?;
        bytes = rest;
    }
    Ok(())
}

/// A `msghdr`.
#[derive(Debug)]
pub(crate) struct Message {
    place: Place,
    pub(crate) name: Place,
    pub(crate) name_len: socklen_t,
    pub(crate) pieces: Vec<Piece>,
    pub(crate) control: Place,
    pub(crate) control_len: usize,
}

impl Message {
    /// Reads the structure and its vector.
    pub(crate) fn read(place: Place) -> Result<Self, Errno> {
        let bytes = place.read(MSGHDR_BYTES)?;
        let count = usize::try_from(word(&bytes, 24)).map_err(|_| Errno::EMSGSIZE)?;
        Ok(Self {
            place,
            name: Place::from_word(word(&bytes, 0)),
            name_len: socklen_t::from_ne_bytes(field(&bytes, 8)),
            pieces: pieces(Place::from_word(word(&bytes, 16)), count, Errno::EMSGSIZE)?,
            control: Place::from_word(word(&bytes, 32)),
            control_len: usize::try_from(word(&bytes, 40)).map_err(|_| Errno::EINVAL)?,
        })
    }

    /// The address that stands in it, if any.
    pub(crate) fn address(&self) -> Result<Option<SocketAddress>, Errno> {
        if self.name.is_null() || self.name_len == 0 {
            return Ok(None);
        }
        // Linux takes what is longer than the longest address for that one.
        let len = self.name_len.min(ADDRESS_BYTES_MAX as socklen_t);
        address(self.name, len).map(Some)
    }

    /// Whether there is room for the control messages of a receive call.
    pub(crate) fn control_room(&self) -> usize {
        if self.control.is_null() {
            return 0;
        }
        self.control_len
    }

    /// The control messages that a send call passes in; `EINVAL` where one says that it is longer
    /// than what there is.
    pub(crate) fn controls(&self) -> Result<Vec<Control>, Errno> {
        let bytes = self.control.read(self.control_room())?;
        let mut rest = bytes.as_slice();
        let mut controls = Vec::new();
        while rest.len() >= CMSGHDR_BYTES {
            let len = usize::try_from(word(rest, 0)).map_err(|_| Errno::EINVAL)?;
            let data = rest.get(CMSGHDR_BYTES..len).ok_or(Errno::EINVAL)?;
            controls.push(Control::Data {
                level: c_int::from_ne_bytes(field(rest, 8)),
                kind: c_int::from_ne_bytes(field(rest, 12)),
                bytes: data.to_vec(),
            });
            rest = rest.get(len.next_multiple_of(8)..).unwrap_or_default();
        }
        Ok(controls)
    }

    /// Fills in what a receive call answers beside the bytes.
    pub(crate) fn answer(
        &self,
        address: Option<SocketAddress>,
        control: &[Control],
        flags: c_int,
    ) -> Result<(), Errno> {
        if !self.name.is_null() {
            let bytes = address.map_or_else(Vec::new, SocketAddress::to_bytes);
            let room = usize::try_from(self.name_len).unwrap_or(0);
            self.name
                .write(bytes.get(..room.min(bytes.len())).unwrap_or(&bytes))?;
            let len = u32::try_from(bytes.len()).unwrap_or(0);
            self.place.plus(8).write(&len.to_ne_bytes())?;
        }
        let (bytes, is_cut) = control_bytes(control, self.control_room());
        self.control.write(&bytes)?;
        let used = u64::try_from(bytes.len()).unwrap_or(0);
        self.place.plus(40).write(&used.to_ne_bytes())?;
        let flags = if is_cut {
            flags | libc::MSG_CTRUNC
        } else {
            flags
        };
        self.place.plus(48).write(&flags.to_ne_bytes())
    }
}

/// Control messages as `put_cmsg` lays them out in so much room, and whether some were cut.
fn control_bytes(control: &[Control], room: usize) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let mut is_cut = false;
    for message in control {
        let (level, kind, data) = message.parts();
        let left = room - bytes.len();
        if left < CMSGHDR_BYTES {
            is_cut = true;
            continue;
        }
        let whole = CMSGHDR_BYTES + data.len();
        let kept = whole.min(left);
        is_cut |= kept < whole;
        bytes.extend(u64::try_from(kept).unwrap_or(0).to_ne_bytes());
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(data.get(..kept - CMSGHDR_BYTES).unwrap_or(&data));
        let padded = bytes.len().next_multiple_of(8).min(room);
        bytes.resize(padded, 0);
    }
    (bytes, is_cut)
}

/// What `poll` is given.
pub(crate) fn poll_fds(place: Place, count: usize) -> Result<Vec<PollFd>, Errno> {
    let bytes = place.read(count.checked_mul(POLLFD_BYTES).ok_or(Errno::EINVAL)?)?;
    let entries = bytes.chunks_exact(POLLFD_BYTES).map(|entry| PollFd {
        fd: i32::from_ne_bytes(field(entry, 0)),
        events: u16::from_ne_bytes(field(entry, 4)),
        revents: 0,
    });
    Ok(entries.collect())
}

/// What `poll` gives back: of each entry only `revents`.
pub(crate) fn give_revents(entries: &[PollFd], place: Place) -> Result<(), Errno> {
    entries.iter().enumerate().try_for_each(|(index, entry)| {
        let at = place.plus(index * POLLFD_BYTES + 6);
        at.write(&entry.revents.to_ne_bytes())
    })
}

/// An `epoll_event`.
pub(crate) fn epoll_event(place: Place) -> Result<EpollEvent, Errno> {
    let bytes = place.read(EPOLL_EVENT_BYTES)?;
    Ok(EpollEvent {
        events: u32::from_ne_bytes(field(&bytes, 0)),
        data: word(&bytes, EPOLL_DATA_AT),
    })
}

/// What `epoll_wait` gives back.
pub(crate) fn give_events(events: &[EpollEvent], place: Place) -> Result<(), Errno> {
    let mut bytes = Vec::with_capacity(events.len() * EPOLL_EVENT_BYTES);
    for event in events {
        let start = bytes.len();
        bytes.extend(event.events.to_ne_bytes());
        bytes.resize(start + EPOLL_DATA_AT, 0);
        bytes.extend(event.data.to_ne_bytes());
    }
    place.write(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Control = Control::Timestamping([1_000_000_001, 0, 0]);

    #[test]
    fn control_messages_are_padded_to_words() {
        let (bytes, is_cut) = control_bytes(&[Control::Inq(5), TIMES], 256);
        assert!(!is_cut);
        assert_eq!(bytes.len(), 24 + 64);
        assert_eq!(word(&bytes, 0), 20);
        assert_eq!(i32::from_ne_bytes(field(&bytes, 16)), 5);
        assert_eq!(word(&bytes, 24), 64);
        assert_eq!((word(&bytes, 40), word(&bytes, 48)), (1, 1));
    }

    #[test]
    fn a_control_message_without_room_is_cut_and_said_to_be() {
        let (bytes, is_cut) = control_bytes(&[TIMES], 32);
        assert!(is_cut);
        assert_eq!((bytes.len(), word(&bytes, 0)), (32, 32));
        let (bytes, is_cut) = control_bytes(&[TIMES], 15);
        assert_eq!((bytes.len(), is_cut), (0, true));
    }

    #[test]
    fn too_many_pieces_are_refused_as_the_call_wants() {
        let nowhere = Place::from_word(0);
        let refused = pieces(nowhere, PIECES_MAX + 1, Errno::EMSGSIZE);
        assert_eq!(refused.map(|pieces| pieces.len()), Err(Errno::EMSGSIZE));
        let faulty = pieces(nowhere, 1, Errno::EINVAL);
        assert_eq!(faulty.map(|pieces| pieces.len()), Err(Errno::EFAULT));
        assert_eq!(
            pieces(nowhere, 0, Errno::EINVAL).map(|pieces| pieces.len()),
            Ok(0)
        );
    }
}
