//! `msghdr` and control messages.

use super::arguments::{int, integer, iovec, list, member, narrow, optional};
use super::clock::seconds;
use crate::ast::{Expression, Value};
use crate::fault::Fault;
use crate::kernel::Control;
use crate::symbols;

const SOL_SOCKET: i32 = 1;
const SCM_TIMESTAMPING: i32 = 37;
/// Bytes of a `struct cmsghdr`, and what everything in a control buffer is aligned to.
const HEADER_BYTES: usize = 16;
const ALIGNMENT: usize = 8;

/// Bytes that a control message takes in its buffer (`CMSG_SPACE`).
pub(super) fn space(control: &Control) -> usize {
    HEADER_BYTES + control.data.len().next_multiple_of(ALIGNMENT)
}

/// `msg_iov(n)=[...]`, whose length must be as announced.
pub(super) fn vector(header: &Expression) -> Result<&Expression, Fault> {
    let field = member(header, "msg_iov")?;
    if let Some(count) = &field.argument {
        let (said, found) = (integer(count)?, iovec(&field.value)?.len());
        if usize::try_from(said) != Ok(found) {
            return Err(Fault::new(
                count.at,
                format!("{found} entries, and the count is {said}"),
            ));
        }
    }
    Ok(&field.value)
}

/// `msg_control=[{cmsg_level=, cmsg_type=, cmsg_data=}]`
pub(super) fn controls(header: &Expression) -> Result<Vec<Control>, Fault> {
    let Some(field) = optional(header, "msg_control") else {
        return Ok(Vec::new());
    };
    list(&field.value)?.iter().map(control).collect()
}

fn control(expression: &Expression) -> Result<Control, Fault> {
    let level = int(&member(expression, "cmsg_level")?.value)?;
    let kind = int(&member(expression, "cmsg_type")?.value)?;
    let data = &member(expression, "cmsg_data")?.value;
    let data = match &data.value {
        Value::Structure(_) if optional(data, "scm_sec").is_some() => timestamping(data)?,
        Value::Structure(_) => extended_error(data, level)?,
        _ => int(data)?.to_ne_bytes().to_vec(),
    };
    Ok(Control { level, kind, data })
}

/// `struct scm_timestamping`: three times, of which the script gives the first.
fn timestamping(expression: &Expression) -> Result<Vec<u8>, Fault> {
    let seconds = integer(&member(expression, "scm_sec")?.value)?;
    let nanoseconds = integer(&member(expression, "scm_nsec")?.value)?;
    let words = [seconds, nanoseconds, 0, 0, 0, 0];
    Ok(words.into_iter().flat_map(i64::to_ne_bytes).collect())
}

/// `struct sock_extended_err` with the address that Linux puts behind it.
fn extended_error(expression: &Expression, level: i32) -> Result<Vec<u8>, Fault> {
    let word = |name: &str| -> Result<u32, Fault> {
        let value = &member(expression, name)?.value;
        match &value.value {
            Value::Word(name) if symbols::errno(name).is_some() => {
                Ok(u32::try_from(symbols::errno(name).unwrap_or(0)).unwrap_or(0))
            }
            _ => narrow(value),
        }
    };
    let byte = |name: &str| -> Result<u8, Fault> { narrow(&member(expression, name)?.value) };
    let mut bytes = word("ee_errno")?.to_ne_bytes().to_vec();
    bytes.extend([byte("ee_origin")?, byte("ee_type")?, byte("ee_code")?, 0]);
    bytes.extend(word("ee_info")?.to_ne_bytes());
    bytes.extend(word("ee_data")?.to_ne_bytes());
    const SOL_IP: i32 = 0;
    let address_bytes = if level == SOL_IP { 16 } else { 28 };
    bytes.resize(bytes.len() + address_bytes, 0);
    Ok(bytes)
}

/// What differs between control messages. Times of the script count from its beginning, which was
/// at `origin_usecs` of the kernel's clock.
pub(super) fn difference(
    expected: &[Control],
    actual: &[Control],
    origin_usecs: i64,
    tolerance_usecs: i64,
) -> Option<String> {
    if expected.len() != actual.len() {
        return Some(format!(
            "{} control messages expected, {} received",
            expected.len(),
            actual.len()
        ));
    }
    expected
        .iter()
        .zip(actual)
        .enumerate()
        .find_map(|(index, (expected, actual))| {
            let which = format!("control message {}", index + 1);
            let kinds = [expected, actual].map(|control| (control.level, control.kind));
            if kinds[0] != kinds[1] {
                return Some(format!(
                    "{which}: expected (level, type) {:?}, actual {:?}",
                    kinds[0], kinds[1]
                ));
            }
            if expected.data.len() != actual.data.len() {
                let lengths = (expected.data.len(), actual.data.len());
                return Some(format!(
                    "{which}: expected {} bytes, actual {}",
                    lengths.0, lengths.1
                ));
            }
            let difference = if kinds[0] == (SOL_SOCKET, SCM_TIMESTAMPING) {
                time_difference(expected, actual, origin_usecs, tolerance_usecs)
            } else if is_error(expected) {
                error_difference(expected, actual)
            } else {
                (expected.data != actual.data)
                    .then(|| format!("expected {:?}, actual {:?}", expected.data, actual.data))
            };
            difference.map(|difference| format!("{which}: {difference}"))
        })
}

/// `IP_RECVERR`, `IPV6_RECVERR`
fn is_error(control: &Control) -> bool {
    matches!((control.level, control.kind), (0, 11) | (41, 25))
}

fn error_difference(expected: &Control, actual: &Control) -> Option<String> {
    const MEMBERS: [(&str, usize, usize); 6] = [
        ("ee_errno", 0, 4),
        ("ee_origin", 4, 1),
        ("ee_type", 5, 1),
        ("ee_code", 6, 1),
        ("ee_info", 8, 4),
        ("ee_data", 12, 4),
    ];
    let number = |control: &Control, at: usize, length: usize| -> u64 {
        let bytes = control.data.get(at..at + length).unwrap_or(&[]);
        bytes
            .iter()
            .rev()
            .fold(0, |value, byte| value << 8 | u64::from(*byte))
    };
    MEMBERS.iter().find_map(|(name, at, length)| {
        let (expected, actual) = (number(expected, *at, *length), number(actual, *at, *length));
        (expected != actual).then(|| format!("{name}: expected {expected}, actual {actual}"))
    })
}

fn time_difference(
    expected: &Control,
    actual: &Control,
    origin_usecs: i64,
    tolerance_usecs: i64,
) -> Option<String> {
    let word = |control: &Control, index: usize| -> i64 {
        let bytes = control.data.get(index * 8..index * 8 + 8);
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, i64::from_ne_bytes)
    };
    let micros = |control: &Control, index: usize| {
        word(control, index).saturating_mul(1_000_000) + word(control, index + 1) / 1_000
    };
    [0, 2, 4].into_iter().find_map(|index| {
        let expected = micros(expected, index);
        // A time of zero is not checked.
        if expected == 0 {
            return None;
        }
        let actual = micros(actual, index) - origin_usecs;
        let is_off = (actual - expected).abs() > tolerance_usecs;
        is_off.then(|| {
            format!(
                "expected the time {} s, actual {} s",
                seconds(expected),
                seconds(actual)
            )
        })
    })
}
