//! Descriptors and the open files behind them, as in Linux: `dup` shares a file and its status
//! flags, and a file lives until its last descriptor is closed and no call waits on it.

use std::collections::BTreeMap;

use crate::errno::Errno;
use crate::linux::{
    F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_GETFL, F_GETOWN, F_GETSIG, F_SETFD, F_SETFL, F_SETOWN,
    F_SETSIG, FD_CLOEXEC, O_APPEND, O_ASYNC, O_DIRECT, O_NOATIME, O_NONBLOCK,
};
use crate::signals::{Owner, signal_number};

/// Status flags that `F_SETFL` may change.
const SETTABLE: i32 = O_APPEND | O_NONBLOCK | O_ASYNC | O_DIRECT | O_NOATIME;

/// Names an open file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct FileId(u64);

/// Names a socket.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct SocketId(pub(crate) u64);

/// Names an epoll set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct EpollId(pub(crate) u64);

/// Names a pipe.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct PipeId(pub(crate) u64);

/// What a file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Socket(SocketId),
    Epoll(EpollId),
    PipeReader(PipeId),
    PipeWriter(PipeId),
}

/// An open file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct File {
    pub(crate) kind: Kind,
    /// `O_RDWR` and friends, and the status flags.
    pub(crate) flags: i32,
    /// Whom `O_ASYNC` tells.
    pub(crate) owner: Owner,
    /// Descriptors that name it, and calls that wait on it.
    references: u32,
}

impl File {
    /// Whether calls on it do not wait.
    pub(crate) const fn is_nonblocking(&self) -> bool {
        self.flags & O_NONBLOCK != 0
    }
}

#[derive(Clone, Copy, Debug)]
struct Descriptor {
    file: FileId,
    close_on_exec: bool,
}

/// The descriptor table of the program.
#[derive(Debug)]
pub(crate) struct Files {
    first: i32,
    max: usize,
    descriptors: BTreeMap<i32, Descriptor>,
    files: BTreeMap<FileId, File>,
    next: u64,
}

impl Files {
    /// No descriptor; the first will be `first`, and there may be `max` at once.
    pub(crate) const fn new(first: i32, max: usize) -> Self {
        Self {
            first,
            max,
            descriptors: BTreeMap::new(),
            files: BTreeMap::new(),
            next: 1,
        }
    }

    /// Opens a file under the lowest free descriptor.
    pub(crate) fn open(&mut self, kind: Kind, flags: i32, cloexec: bool) -> Result<i32, Errno> {
        let fd = self.free_from(self.first)?;
        let file = FileId(self.next);
        self.next += 1;
        self.files.insert(
            file,
            File {
                kind,
                flags,
                owner: Owner::default(),
                references: 1,
            },
        );
        self.descriptors.insert(
            fd,
            Descriptor {
                file,
                close_on_exec: cloexec,
            },
        );
        Ok(fd)
    }

    /// Whether another descriptor may be opened.
    pub(crate) fn check_room(&self, count: usize) -> Result<(), Errno> {
        let room = self.max.saturating_sub(self.descriptors.len());
        if room < count {
            return Err(Errno::EMFILE);
        }
        Ok(())
    }

    /// The file of a descriptor; `EBADF`.
    pub(crate) fn find(&self, fd: i32) -> Result<(FileId, File), Errno> {
        let descriptor = self.descriptors.get(&fd).ok_or(Errno::EBADF)?;
        let file = self.files.get(&descriptor.file).ok_or(Errno::EBADF)?;
        Ok((descriptor.file, *file))
    }

    /// An open file.
    pub(crate) fn get(&self, file: FileId) -> Option<File> {
        self.files.get(&file).copied()
    }

    /// The socket of a descriptor; `EBADF`, `ENOTSOCK`.
    pub(crate) fn socket(&self, fd: i32) -> Result<SocketId, Errno> {
        match self.find(fd)?.1.kind {
            Kind::Socket(socket) => Ok(socket),
            Kind::Epoll(_) | Kind::PipeReader(_) | Kind::PipeWriter(_) => Err(Errno::ENOTSOCK),
        }
    }

    /// A call waits on the file.
    pub(crate) fn hold(&mut self, file: FileId) {
        if let Some(file) = self.files.get_mut(&file) {
            file.references += 1;
        }
    }

    /// One reference less; the file when that was the last.
    pub(crate) fn release(&mut self, id: FileId) -> Option<Kind> {
        let file = self.files.get_mut(&id)?;
        file.references = file.references.saturating_sub(1);
        if file.references > 0 {
            return None;
        }
        self.files.remove(&id).map(|file| file.kind)
    }

    /// Takes a descriptor out of the table: its file, still referenced.
    pub(crate) fn take(&mut self, fd: i32) -> Result<FileId, Errno> {
        let descriptor = self.descriptors.remove(&fd).ok_or(Errno::EBADF)?;
        Ok(descriptor.file)
    }

    /// Another descriptor for the same file.
    pub(crate) fn duplicate(&mut self, fd: i32, from: i32, cloexec: bool) -> Result<i32, Errno> {
        let (file, _) = self.find(fd)?;
        let new = self.free_from(from)?;
        self.hold(file);
        let descriptor = Descriptor {
            file,
            close_on_exec: cloexec,
        };
        self.descriptors.insert(new, descriptor);
        Ok(new)
    }

    /// The first descriptor number of the table.
    pub(crate) const fn first(&self) -> i32 {
        self.first
    }

    /// `fcntl`.
    pub(crate) fn control(&mut self, fd: i32, command: i32, argument: i64) -> Result<i32, Errno> {
        let (id, file) = self.find(fd)?;
        match command {
            F_GETFL => Ok(file.flags),
            F_SETFL => {
                let flags = file.flags & !SETTABLE | argument as i32 & SETTABLE;
                self.set_async(fd, id, flags & O_ASYNC != 0);
                if let Some(file) = self.files.get_mut(&id) {
                    file.flags = flags;
                }
                Ok(0)
            }
            F_GETFD => {
                let set = self.descriptors.get(&fd).is_some_and(|d| d.close_on_exec);
                Ok(if set { FD_CLOEXEC } else { 0 })
            }
            F_SETFD => {
                if let Some(descriptor) = self.descriptors.get_mut(&fd) {
                    descriptor.close_on_exec = argument as i32 & FD_CLOEXEC != 0;
                }
                Ok(0)
            }
            F_DUPFD | F_DUPFD_CLOEXEC => {
                let from = i32::try_from(argument).map_err(|_| Errno::EINVAL)?;
                if from < 0 || from >= self.limit() {
                    return Err(Errno::EINVAL);
                }
                self.duplicate(fd, from.max(self.first), command == F_DUPFD_CLOEXEC)
            }
            F_GETOWN => Ok(file.owner.id),
            F_GETSIG => Ok(file.owner.signal),
            F_SETOWN | F_SETSIG => {
                let mut owner = file.owner;
                if command == F_SETSIG {
                    owner.signal = signal_number(argument)?;
                } else {
                    owner.id = i32::try_from(argument).map_err(|_| Errno::EINVAL)?;
                }
                if let Some(file) = self.files.get_mut(&id) {
                    file.owner = owner;
                }
                Ok(0)
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// Sets or clears `O_ASYNC` (`FIOASYNC`); signals will name this descriptor.
    pub(crate) fn set_async(&mut self, fd: i32, id: FileId, on: bool) {
        let Some(file) = self.files.get_mut(&id) else {
            return;
        };
        if on && file.flags & O_ASYNC == 0 {
            file.owner.fd = fd;
        }
        file.flags = file.flags & !O_ASYNC | if on { O_ASYNC } else { 0 };
    }

    /// The file of an object, where it has `O_ASYNC` and somebody to tell.
    pub(crate) fn async_file(&self, kind: Kind) -> Option<&File> {
        let mut files = self.files.values();
        files.find(|file| file.kind == kind && file.owner.id != 0 && file.flags & O_ASYNC != 0)
    }

    /// Who owns the file of an object.
    pub(crate) fn owner_of(&self, kind: Kind) -> Option<Owner> {
        let mut files = self.files.values();
        let owned = files.find(|file| file.kind == kind && file.owner.id != 0);
        owned.map(|file| file.owner)
    }

    /// Files that are sockets.
    pub(crate) fn socket_count(&self) -> usize {
        let kinds = self.files.values().map(|file| file.kind);
        kinds.filter(|kind| matches!(kind, Kind::Socket(_))).count()
    }

    /// The first number that no descriptor may have (`RLIMIT_NOFILE`).
    pub(crate) fn limit(&self) -> i32 {
        let max = i32::try_from(self.max).unwrap_or(i32::MAX);
        self.first.saturating_add(max)
    }

    /// A descriptor of this very number for a file, whose former one must be closed.
    pub(crate) fn place(&mut self, fd: i32, file: FileId, cloexec: bool) {
        self.hold(file);
        let descriptor = Descriptor {
            file,
            close_on_exec: cloexec,
        };
        self.descriptors.insert(fd, descriptor);
    }

    /// Sets or clears `O_NONBLOCK` (`FIONBIO`).
    pub(crate) fn set_nonblocking(&mut self, file: FileId, on: bool) {
        if let Some(file) = self.files.get_mut(&file) {
            file.flags = file.flags & !O_NONBLOCK | if on { O_NONBLOCK } else { 0 };
        }
    }

    fn free_from(&self, from: i32) -> Result<i32, Errno> {
        self.check_room(1)?;
        let mut fd = from;
        for (taken, _) in self.descriptors.range(from..) {
            if *taken != fd {
                break;
            }
            fd = fd.checked_add(1).ok_or(Errno::EMFILE)?;
        }
        Ok(fd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::O_RDWR;

    // behaviour: SOK-1
    #[test]
    fn the_lowest_free_descriptor_is_taken() {
        let mut files = Files::new(10_000, 3);
        let open = |files: &mut Files| files.open(Kind::Epoll(EpollId(1)), O_RDWR, false);
        assert_eq!(open(&mut files), Ok(10_000));
        assert_eq!(open(&mut files), Ok(10_001));
        assert_eq!(open(&mut files), Ok(10_002));
        // behaviour: SOK-16
        assert_eq!(open(&mut files), Err(Errno::EMFILE));
        let file = files.take(10_001).expect("open");
        assert!(files.release(file).is_some(), "the last reference");
        assert_eq!(open(&mut files), Ok(10_001));
        assert_eq!(files.find(9).map(|_| ()), Err(Errno::EBADF));
    }

    #[test]
    fn duplicates_share_status_flags_but_not_close_on_exec() {
        let mut files = Files::new(3, 10);
        let fd = files
            .open(Kind::Epoll(EpollId(1)), O_RDWR, true)
            .expect("room");
        let copy = files.control(fd, F_DUPFD, 7).expect("room");
        assert_eq!(copy, 7);
        assert_eq!(files.control(copy, F_SETFL, i64::from(O_NONBLOCK)), Ok(0));
        assert_eq!(files.control(fd, F_GETFL, 0), Ok(O_RDWR | O_NONBLOCK));
        assert_eq!(files.control(fd, F_GETFD, 0), Ok(FD_CLOEXEC));
        assert_eq!(files.control(copy, F_GETFD, 0), Ok(0));
        assert_eq!(files.control(fd, 9_999, 0), Err(Errno::EINVAL));
        let file = files.take(fd).expect("open");
        assert_eq!(files.release(file), None, "the copy still names it");
    }
}
