//! Option values as bytes.

use crate::errno::Errno;

/// An `int`; `EINVAL` when there are fewer bytes.
pub(crate) fn int(value: &[u8]) -> Result<i32, Errno> {
    word(value, 0)
}

/// The `int` at a place.
pub(crate) fn word(value: &[u8], at: usize) -> Result<i32, Errno> {
    let bytes = value
        .get(at..at + 4)
        .and_then(|bytes| bytes.try_into().ok());
    bytes.map(i32::from_ne_bytes).ok_or(Errno::EINVAL)
}

/// An `int`, or a single byte where Linux takes one (`do_ip_setsockopt`).
pub(crate) fn int_or_byte(value: &[u8]) -> Result<i32, Errno> {
    match value {
        [] => Err(Errno::EINVAL),
        [byte] | [byte, _] | [byte, _, _] => Ok(i32::from(*byte)),
        _ => int(value),
    }
}

/// An `int` in a range; `EINVAL` outside.
pub(crate) fn within(value: &[u8], low: i32, high: i32) -> Result<i32, Errno> {
    let number = int(value)?;
    if !(low..=high).contains(&number) {
        return Err(Errno::EINVAL);
    }
    Ok(number)
}

/// The bytes of an `int`.
pub(crate) fn of_int(value: i32) -> Vec<u8> {
    value.to_ne_bytes().to_vec()
}

/// The bytes of a flag.
pub(crate) fn of_flag(on: bool) -> Vec<u8> {
    of_int(i32::from(on))
}

/// The bytes of an unsigned number, as an `int`.
pub(crate) fn of_u32(value: u32) -> Vec<u8> {
    value.to_ne_bytes().to_vec()
}
