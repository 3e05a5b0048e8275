//! The file, its mapping, its locks: every system call of this crate, and every pointer.
//!
//! Locks are open-file-description locks on single bytes of the region file: byte 0 is held by the
//! dataplane while it lives, byte 1 by control. The kernel drops them when their holder dies,
//! however it dies, and they work across PID namespaces, which process identifiers do not.
//!
//! A process that may write the file may also truncate it, and touching a page that is gone is
//! SIGBUS. The file's mode is 0600: who can do that can do worse.

use core::fmt;
use core::ops::Deref;
use core::ptr::NonNull;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// Types that may be looked at in memory another process writes.
///
/// # Safety
///
/// The type consists of atomics only, at every depth, and is `repr(C)` or `repr(transparent)`.
pub(crate) unsafe trait Shareable: Sync + 'static {}

/// A mapped region file. Unmapped and unlocked when the last projection is gone.
pub(crate) struct Mapping {
    pointer: NonNull<u8>,
    length: usize,
    file: File,
}

/// A typed view of a part of a mapping, which keeps the mapping alive.
pub struct Projection<T> {
    pointer: NonNull<T>,
    mapping: Arc<Mapping>,
}

/// The bytes of the region file that stand for a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Dataplane = 0,
    Control = 1,
}

impl Mapping {
    /// Maps `length` bytes of `file` for both sides; `populate` faults every page in now.
    pub(crate) fn new(file: File, length: usize, populate: bool) -> io::Result<Arc<Self>> {
        let flags = libc::MAP_SHARED | if populate { libc::MAP_POPULATE } else { 0 };
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours; the
        // descriptor is open.
        let pointer = unsafe {
            libc::mmap(
                core::ptr::null_mut(),
                length,
                protection,
                flags,
                file.as_raw_fd(),
                0,
            )
        };
        if pointer == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let pointer = NonNull::new(pointer.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Arc::new(Self {
            pointer,
            length,
            file,
        }))
    }

    /// The `T` at `offset` bytes; `None` when it does not fit or is not aligned there.
    pub(crate) fn project<T: Shareable>(self: &Arc<Self>, offset: usize) -> Option<Projection<T>> {
        let end = offset.checked_add(size_of::<T>())?;
        if end > self.length {
            return None;
        }
        // SAFETY: `offset` is inside the mapping (checked above).
        let pointer = unsafe { self.pointer.add(offset) }.cast::<T>();
        if !pointer.is_aligned() {
            return None;
        }
        Some(Projection {
            pointer,
            mapping: Arc::clone(self),
        })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new` and nobody refers into it: projections hold the
        // `Arc` whose last drop this is. A failure would leave the range mapped, which harms
        // nobody.
        unsafe { libc::munmap(self.pointer.as_ptr().cast(), self.length) };
    }
}

// SAFETY: the mapping is an address range with process lifetime semantics; it is reached only
// through projections of `Shareable` (hence `Sync`) types, and unmapping may happen on any thread.
unsafe impl Send for Mapping {}
// SAFETY: see above; `&Mapping` gives nothing but projections and the file.
unsafe impl Sync for Mapping {}

impl<T> Projection<T> {
    /// The view of a part of this view.
    pub(crate) fn map<U>(&self, part: impl for<'a> FnOnce(&'a T) -> &'a U) -> Projection<U> {
        let pointer = NonNull::from(part(self));
        Projection {
            pointer,
            mapping: Arc::clone(&self.mapping),
        }
    }
}

impl<T> Deref for Projection<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the pointer is inside the mapping (or, from `map`, a reference that outlives any
        // mapping), aligned, and the mapping lives as long as `self`. `T` is `Shareable` or a part
        // of it: atomics only, for which every bit pattern is valid and concurrent writing is
        // defined.
        unsafe { self.pointer.as_ref() }
    }
}

// SAFETY: a projection is a shared reference to a `T` plus the keeper of its memory; `&T` is `Send`
// when `T` is `Sync`.
unsafe impl<T: Sync> Send for Projection<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Projection<T> {}

impl<T> fmt::Debug for Projection<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the contents: a ring of frames is a megabyte.
        write!(f, "Projection<{}>", core::any::type_name::<T>())
    }
}

/// Gives the file its length in real memory now, so that a full tmpfs is an error here and not a
/// signal later.
pub(crate) fn allocate(file: &File, length: usize) -> io::Result<()> {
    let length = libc::off_t::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the descriptor is open; the call takes no pointer.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length) } {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// Takes a role; `false` when another process (or another opening in this one) has it.
pub(crate) fn try_lock(file: &File, role: Role) -> io::Result<bool> {
    let mut lock = lock_of(role);
    // SAFETY: the descriptor is open and the pointer is to a live, initialised `flock`.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw mut lock) } == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EACCES) => Ok(false),
        _ => Err(error),
    }
}

/// Whether somebody else than this opening of the file has the role.
pub(crate) fn is_locked(file: &File, role: Role) -> io::Result<bool> {
    let mut lock = lock_of(role);
    // SAFETY: as in `try_lock`; the kernel writes its answer into `lock`.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(lock.l_type != libc::F_UNLCK as libc::c_short)
}

/// A number that no other start of a dataplane has.
pub(crate) fn random_u64() -> io::Result<u64> {
    let mut bytes = [0u8; 8];
    // SAFETY: the pointer and the length describe `bytes`.
    let count = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if usize::try_from(count) == Ok(bytes.len()) {
        Ok(u64::from_ne_bytes(bytes))
    } else {
        Err(io::Error::last_os_error())
    }
}

fn lock_of(role: Role) -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: role as libc::off_t,
        l_len: 1,
        l_pid: 0,
    }
}
