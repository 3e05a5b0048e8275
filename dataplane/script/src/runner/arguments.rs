//! What stands in a call's parentheses, as numbers and bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::ast::{CallLine, Expression, Field, Value};
use crate::fault::Fault;
use crate::kernel::{Address, Room};
use crate::symbols;

/// The most memory that one argument may ask for.
const BYTES_MAX: i64 = 256 << 20;

/// The value of an integer expression.
pub(super) fn integer(expression: &Expression) -> Result<i64, Fault> {
    match &expression.value {
        Value::Integer(value) => Ok(*value),
        Value::Word(name) => symbols::value(name).ok_or_else(|| {
            Fault::new(
                expression.at,
                format!("`{name}` is no constant that is known"),
            )
        }),
        Value::Or(left, right) => Ok(integer(left)? | integer(right)?),
        Value::Function(name, arguments) => match (name.as_str(), arguments.as_slice()) {
            ("htons", [only]) => Ok(i64::from(narrow::<u16>(only)?.to_be())),
            ("htonl", [only]) => Ok(i64::from(narrow::<u32>(only)?.to_be())),
            _ => Err(Fault::new(
                expression.at,
                format!("`{name}` is no function of one number"),
            )),
        },
        _ => Err(Fault::new(expression.at, "expected a number or a constant")),
    }
}

/// The value in a type of so many bits, signed or not: `0x80000000` fits into 32 bits.
pub(super) fn int(expression: &Expression) -> Result<i32, Fault> {
    let value = integer(expression)?;
    let signed = i32::try_from(value).ok();
    let bits = || u32::try_from(value).ok().map(u32::cast_signed);
    signed
        .or_else(bits)
        .ok_or_else(|| Fault::new(expression.at, format!("{value} does not fit into 32 bits")))
}

pub(super) fn narrow<T: TryFrom<i64>>(expression: &Expression) -> Result<T, Fault> {
    let value = integer(expression)?;
    T::try_from(value)
        .map_err(|_| Fault::new(expression.at, format!("{value} is out of range here")))
}

/// A count of bytes that the call may have memory for.
pub(super) fn length(expression: &Expression) -> Result<usize, Fault> {
    let value = integer(expression)?;
    let fits = (0..=BYTES_MAX).contains(&value);
    let length = usize::try_from(value).ok().filter(|_| fits);
    length.ok_or_else(|| {
        Fault::new(
            expression.at,
            format!("{value} is no length that the runner has memory for"),
        )
    })
}

/// `NULL`, or 0.
pub(super) fn is_null(expression: &Expression) -> bool {
    match &expression.value {
        Value::Word(name) => name == "NULL",
        Value::Integer(value) => *value == 0,
        _ => false,
    }
}

pub(super) fn is_ellipsis(expression: &Expression) -> bool {
    expression.value == Value::Ellipsis
}

/// `[value]`
pub(super) fn only_of(expression: &Expression) -> Result<&Expression, Fault> {
    match list(expression)? {
        [only] => Ok(only),
        _ => Err(Fault::new(expression.at, "expected one value in brackets")),
    }
}

pub(super) fn list(expression: &Expression) -> Result<&[Expression], Fault> {
    match &expression.value {
        Value::List(values) => Ok(values),
        _ => Err(Fault::new(expression.at, "expected a list in brackets")),
    }
}

pub(super) fn fields(expression: &Expression) -> Result<&[Field], Fault> {
    match &expression.value {
        Value::Structure(fields) => Ok(fields),
        _ => Err(Fault::new(expression.at, "expected a structure in braces")),
    }
}

/// A member of a structure.
pub(super) fn member<'a>(expression: &'a Expression, name: &str) -> Result<&'a Field, Fault> {
    let found = fields(expression)?.iter().find(|field| field.name == name);
    found.ok_or_else(|| Fault::new(expression.at, format!("this structure has no `{name}`")))
}

pub(super) fn optional<'a>(expression: &'a Expression, name: &str) -> Option<&'a Field> {
    fields(expression)
        .ok()?
        .iter()
        .find(|field| field.name == name)
}

/// The arguments, of which there must be so many.
pub(super) fn exactly<const N: usize>(line: &CallLine) -> Result<&[Expression; N], Fault> {
    let found = <&[Expression; N]>::try_from(line.arguments.as_slice());
    found.map_err(|_| wrong_count(line, &N.to_string()))
}

pub(super) fn wrong_count(line: &CallLine, wanted: &str) -> Fault {
    let message = format!(
        "`{}` has {wanted} arguments, not {}",
        line.name,
        line.arguments.len()
    );
    Fault::new(line.at, message)
}

/// `..., 1000` or `NULL, 1000`: where bytes go.
pub(super) fn room(buffer: &Expression, count: &Expression) -> Result<Room, Fault> {
    if !is_ellipsis(buffer) && !is_null(buffer) {
        return Err(Fault::new(
            buffer.at,
            "expected `...` or NULL: the runner has the buffer",
        ));
    }
    Ok(Room {
        bytes: length(count)?,
        is_null: is_null(buffer),
    })
}

/// The members of `[{..., 100}, {..., 200}]`: base and length.
pub(super) fn iovec(expression: &Expression) -> Result<Vec<(&Expression, &Expression)>, Fault> {
    let pair = |entry: &'_ Expression| -> Result<(), Fault> {
        match &entry.value {
            Value::Group(values) if values.len() == 2 => Ok(()),
            _ => Err(Fault::new(entry.at, "expected `{..., length}`")),
        }
    };
    let entries = list(expression)?;
    entries.iter().try_for_each(pair)?;
    Ok(entries
        .iter()
        .filter_map(|entry| match &entry.value {
            Value::Group(values) => Some((values.first()?, values.get(1)?)),
            _ => None,
        })
        .collect())
}

/// `{sa_family = AF_INET, sin_port = htons(8080), sin_addr = inet_addr("192.0.2.1")}`, or a family.
pub(super) fn address(expression: &Expression) -> Result<Address, Fault> {
    if !matches!(expression.value, Value::Structure(_)) {
        return Ok(Address::Family(narrow(expression)?));
    }
    let port = integer(&member(expression, "sin_port")?.value)?;
    let port = u16::try_from(port).map(u16::from_be).unwrap_or(0);
    let text = &member(expression, "sin_addr")?.value;
    Ok(Address::Ip(SocketAddr::new(ip_address(text)?, port)))
}

/// `inet_addr("192.0.2.1")`, `inet6_addr("::1")`
pub(super) fn ip_address(expression: &Expression) -> Result<IpAddr, Fault> {
    let fault = || {
        Fault::new(
            expression.at,
            "expected inet_addr(\"...\") or inet6_addr(\"...\")",
        )
    };
    let Value::Function(name, arguments) = &expression.value else {
        return Err(fault());
    };
    let [
        Expression {
            value: Value::Text(text),
            ..
        },
    ] = arguments.as_slice()
    else {
        return Err(fault());
    };
    let text = std::str::from_utf8(text).map_err(|_| fault())?;
    match name.as_str() {
        "inet_addr" => text
            .parse::<Ipv4Addr>()
            .map(IpAddr::V4)
            .map_err(|_| fault()),
        "inet6_addr" => text
            .parse::<Ipv6Addr>()
            .map(IpAddr::V6)
            .map_err(|_| fault()),
        _ => Err(fault()),
    }
}

/// The bytes of a socket option's value, as the script writes it.
pub(super) fn option_bytes(expression: &Expression) -> Result<Vec<u8>, Fault> {
    match &expression.value {
        Value::Text(bytes) => Ok(bytes.clone()),
        Value::List(values) => {
            let ints: Result<Vec<_>, _> = values.iter().map(int).collect();
            Ok(ints?.into_iter().flat_map(i32::to_ne_bytes).collect())
        }
        Value::Structure(_) => {
            let on = int(&member(expression, "onoff")?.value)?;
            let linger = int(&member(expression, "linger")?.value)?;
            Ok([on, linger]
                .into_iter()
                .flat_map(i32::to_ne_bytes)
                .collect())
        }
        Value::Function(..) => Ok(match ip_address(expression)? {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        }),
        _ if is_null(expression) => Ok(Vec::new()),
        _ => Err(Fault::new(
            expression.at,
            "expected an option's value: `[1]`, a string or a structure",
        )),
    }
}
