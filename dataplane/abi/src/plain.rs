//! Records that are nothing but bytes, and their view as 64-bit words.
//!
//! Everything that crosses between the processes is copied word by word through atomics, so a
//! record needs exactly one property: every bit pattern is a valid value of it, and it has no byte
//! that is not part of a field.

/// A record of integers and byte arrays.
///
/// # Safety
///
/// The type is `repr(C)` or `repr(transparent)`, has no padding, has no pointer or enum in it,
/// every bit pattern is a valid value, its alignment is at most 8 and its size is a multiple of 8.
pub unsafe trait Plain: Copy + 'static {}

/// The words of a record.
pub(crate) fn words_of<T: Plain>(record: &T) -> &[u64] {
    const { assert!(size_of::<T>().is_multiple_of(8) && align_of::<T>() == 8) };
    // SAFETY: `Plain` promises initialised bytes without padding; size and alignment are those of
    // whole words (asserted above); the borrow of `record` covers the result.
    unsafe { core::slice::from_raw_parts((&raw const *record).cast::<u64>(), size_of::<T>() / 8) }
}

/// The words of a record, to be overwritten.
pub(crate) fn words_of_mut<T: Plain>(record: &mut T) -> &mut [u64] {
    const { assert!(size_of::<T>().is_multiple_of(8) && align_of::<T>() == 8) };
    // SAFETY: as in `words_of`, and any words written make a valid record because every bit pattern
    // is one.
    unsafe { core::slice::from_raw_parts_mut((&raw mut *record).cast::<u64>(), size_of::<T>() / 8) }
}

/// A record of zeros.
pub(crate) fn zeroed<T: Plain>() -> T {
    // SAFETY: every bit pattern is a valid value of a `Plain` record, all zeros included.
    unsafe { core::mem::zeroed() }
}

/// A record of zeros on the heap that was never on the stack.
pub(crate) fn zeroed_box<T: Plain>() -> Box<T> {
    // SAFETY: every bit pattern is a valid value of a `Plain` record, all zeros included.
    unsafe { Box::<T>::new_zeroed().assume_init() }
}
