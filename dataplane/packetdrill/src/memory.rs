//! The program's memory, reached without trusting its pointers.
//!
//! A C program may pass any number as a pointer, and a system call answers `EFAULT` to a bad one.
//! So do these: the kernel copies (`process_vm_readv` on ourselves) and checks while it does. No
//! reference to the program's memory is ever made.

use core::ffi::c_void;

use millrace_socket::Errno;

/// Bytes that one call moves at most: many times the largest socket buffer.
pub(crate) const MOVE_BYTES_MAX: usize = 64 << 20;

/// A pointer of the program. Nothing is known about what it points to.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Place(*mut c_void);

impl Place {
    /// A pointer that the program has stored in its memory.
    pub(crate) fn from_word(word: u64) -> Self {
        let address = usize::try_from(word).unwrap_or(0);
        Self(core::ptr::with_exposed_provenance_mut(address))
    }

    /// The pointer as a number.
    pub(crate) fn to_word(self) -> u64 {
        u64::try_from(self.0.addr()).unwrap_or(0)
    }

    /// The pointer itself, for a system call that takes it.
    pub(crate) const fn pointer(self) -> *mut c_void {
        self.0
    }

    pub(crate) fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// A pointer that a function was given.
    pub(crate) const fn from_pointer(pointer: *mut c_void) -> Self {
        Self(pointer)
    }

    /// So many bytes further.
    pub(crate) fn plus(self, bytes: usize) -> Self {
        Self(self.0.wrapping_byte_add(bytes))
    }

    /// The bytes there; `EFAULT` when some of them are nowhere.
    pub(crate) fn read(self, len: usize) -> Result<Vec<u8>, Errno> {
        if len == 0 {
            return Ok(Vec::new());
        }
        if self.is_null() {
            return Err(Errno::EFAULT);
        }
        let mut bytes = vec![0_u8; len];
        let ours = piece(bytes.as_mut_ptr().cast(), len);
        let theirs = piece(self.0, len);
        // SAFETY: `ours` is `len` bytes of `bytes`, which lives and is ours alone; `theirs` is only
        // a number to the kernel, which checks every page of it before it reads.
        let moved =
            unsafe { libc::process_vm_readv(own(), &raw const ours, 1, &raw const theirs, 1, 0) };
        if is_forbidden(moved) {
            // SAFETY: the kernel does not let us ask it. What remains is the contract of the C
            // function that was called: the program says that `len` bytes are there.
            unsafe { core::ptr::copy_nonoverlapping(self.0.cast(), bytes.as_mut_ptr(), len) };
            return Ok(bytes);
        }
        all(moved, len).map(|()| bytes)
    }

    /// As many bytes as the array has.
    pub(crate) fn read_array<const N: usize>(self) -> Result<[u8; N], Errno> {
        self.read(N)?.try_into().map_err(|_| Errno::EFAULT)
    }

    /// Puts bytes there; `EFAULT` when they do not all find a place.
    pub(crate) fn write(self, bytes: &[u8]) -> Result<(), Errno> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.is_null() {
            return Err(Errno::EFAULT);
        }
        let ours = piece(bytes.as_ptr().cast_mut().cast(), bytes.len());
        let theirs = piece(self.0, bytes.len());
        // SAFETY: `ours` is exactly `bytes`, which the kernel only reads; `theirs` is only a number
        // to the kernel, which checks every page of it before it writes. What the program keeps
        // there is the program's: we hold no reference into it.
        let moved =
            unsafe { libc::process_vm_writev(own(), &raw const ours, 1, &raw const theirs, 1, 0) };
        if is_forbidden(moved) {
            // SAFETY: as in `read`: the program says that it has so much room there.
            unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.cast(), bytes.len()) };
            return Ok(());
        }
        all(moved, bytes.len())
    }

    /// The text that ends with a zero byte; empty for a null pointer.
    pub(crate) fn text(self) -> String {
        /// No list of options is longer.
        const TEXT_BYTES_MAX: usize = 4_096;
        let byte = |at| self.plus(at).read_array::<1>().ok().map(|[byte]| byte);
        let bytes: Vec<u8> = (0..TEXT_BYTES_MAX)
            .map_while(byte)
            .take_while(|byte| *byte != 0)
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn own() -> libc::pid_t {
    libc::pid_t::try_from(std::process::id()).unwrap_or(0)
}

const fn piece(base: *mut c_void, len: usize) -> libc::iovec {
    libc::iovec {
        iov_base: base,
        iov_len: len,
    }
}

/// Whether the kernel refused to copy at all (a sandbox), whatever the pointer.
fn is_forbidden(moved: isize) -> bool {
    moved < 0
        && matches!(
            std::io::Error::last_os_error().raw_os_error(),
            Some(libc::ENOSYS | libc::EPERM)
        )
}

fn all(moved: isize, wanted: usize) -> Result<(), Errno> {
    match usize::try_from(moved) {
        Ok(moved) if moved == wanted => Ok(()),
        _ => Err(Errno::EFAULT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(bytes: &mut [u8]) -> Place {
        Place(bytes.as_mut_ptr().cast())
    }

    #[test]
    fn bytes_go_both_ways() {
        let mut memory = *b"abcdef";
        let at = place(&mut memory);
        assert_eq!(at.plus(2).read(3).expect("mapped"), b"cde");
        at.plus(1).write(b"XY").expect("mapped");
        assert_eq!(at.read_array::<6>().expect("mapped"), *b"aXYdef");
    }

    #[test]
    fn a_pointer_to_nowhere_is_a_fault_and_not_a_crash() {
        for word in [0, 1, 0xdead_0000_0000, u64::MAX - 4] {
            let nowhere = Place::from_word(word);
            assert_eq!(nowhere.read(8), Err(Errno::EFAULT), "{word:#x}");
            assert_eq!(nowhere.write(&[0; 8]), Err(Errno::EFAULT), "{word:#x}");
        }
    }

    #[test]
    fn nothing_may_be_moved_anywhere() {
        assert_eq!(Place::from_word(0).read(0), Ok(Vec::new()));
        assert_eq!(Place::from_word(1).write(&[]), Ok(()));
    }

    #[test]
    fn a_text_ends_with_its_zero() {
        let mut memory = *b"mtu=1400\0rest";
        assert_eq!(place(&mut memory).text(), "mtu=1400");
        assert_eq!(Place::from_word(0).text(), "");
    }
}
