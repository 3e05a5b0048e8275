//! The names that scripts use for numbers, with the values that Linux gives them on 64-bit
//! machines.
//!
//! The tables are data, checked against nothing at run time: a name that is not here is a fault of
//! the script that uses it.

mod calls;
mod errno;
mod socket;
mod tcp;

/// The value of a constant.
pub(crate) fn value(name: &str) -> Option<i64> {
    let tables = [socket::SOCKET, tcp::TCP, calls::CALLS, errno::ERRNO];
    let mut all = tables.into_iter().flatten();
    all.find(|(known, _)| *known == name)
        .map(|(_, value)| *value)
}

/// The value of an error's name.
pub(crate) fn errno(name: &str) -> Option<i64> {
    errno::ERRNO
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, value)| *value)
}

/// What to call an error number in a message.
pub(crate) fn errno_name(number: i64) -> String {
    let known = errno::ERRNO.iter().find(|(_, value)| *value == number);
    known.map_or_else(|| format!("errno {number}"), |(name, _)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_stands_twice() {
        let tables = [socket::SOCKET, tcp::TCP, calls::CALLS, errno::ERRNO];
        let mut names: Vec<_> = tables
            .into_iter()
            .flatten()
            .map(|(name, _)| *name)
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn an_error_is_called_by_its_usual_name() {
        assert_eq!(errno_name(11), "EAGAIN");
        assert_eq!(errno_name(115), "EINPROGRESS");
        assert_eq!(errno_name(-3), "errno -3");
        assert_eq!(value("MSG_FASTOPEN"), Some(0x2000_0000));
        assert_eq!(value("EPOLLET"), Some(0x8000_0000));
    }
}
