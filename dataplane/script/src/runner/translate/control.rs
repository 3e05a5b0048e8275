//! Calls that ask, set and wait.

use super::{Translated, plain};
use crate::ast::{CallLine, Expression, Value};
use crate::failure::Stop;
use crate::fault::Fault;
use crate::kernel::{Call, EpollEvent, PollEntry};
use crate::runner::Runner;
use crate::runner::answers::Expected;
use crate::runner::arguments::{
    exactly, int, integer, is_ellipsis, is_null, length, list, member, narrow, only_of,
    option_bytes, optional, wrong_count,
};

impl Runner<'_> {
    pub(super) fn fcntl(&self, line: &CallLine) -> Translated {
        let ([fd, command] | [fd, command, _]) = line.arguments.as_slice() else {
            return Err(wrong_count(line, "2 or 3").into());
        };
        let argument = line.arguments.get(2).map(integer).transpose()?;
        plain(Call::Fcntl {
            fd: self.fd(fd)?,
            command: int(command)?,
            argument,
        })
    }

    pub(super) fn ioctl(&self, line: &CallLine) -> Translated {
        let ([fd, request] | [fd, request, _]) = line.arguments.as_slice() else {
            return Err(wrong_count(line, "2 or 3").into());
        };
        let argument = match line.arguments.get(2) {
            Some(value) => Some(int(only_of(value)?)?),
            None => None,
        };
        let call = Call::Ioctl {
            fd: self.fd(fd)?,
            request: narrow(request)?,
            argument,
        };
        Ok((call, argument.map_or(Expected::Nothing, Expected::Value)))
    }

    pub(super) fn getsockopt(&self, line: &CallLine) -> Translated {
        let [fd, level, name, value, size] = exactly(line)?;
        let room = length(only_of(size)?)?;
        let value = if is_ellipsis(value) {
            None
        } else {
            Some(option_bytes(value)?)
        };
        let (level, name) = (int(level)?, int(name)?);
        let call = Call::GetSockOpt {
            fd: self.fd(fd)?,
            level,
            name,
            room,
        };
        Ok((
            call,
            Expected::Option {
                value,
                length: room,
            },
        ))
    }

    pub(super) fn setsockopt(&self, line: &CallLine) -> Translated {
        let [fd, level, name, value, size] = exactly(line)?;
        let mut bytes = option_bytes(value)?;
        bytes.resize(length(size)?, 0);
        let (level, name) = (int(level)?, int(name)?);
        plain(Call::SetSockOpt {
            fd: self.fd(fd)?,
            level,
            name,
            value: bytes,
        })
    }

    pub(super) fn poll(&self, line: &CallLine) -> Translated {
        let [list_of, count, timeout] = exactly(line)?;
        let mut entries = Vec::new();
        let mut expected = Vec::new();
        for entry in list(list_of)? {
            let fd = self.fd(&member(entry, "fd")?.value)?;
            entries.push(PollEntry {
                fd,
                events: narrow(&member(entry, "events")?.value)?,
            });
            let found = optional(entry, "revents").map(|field| narrow(&field.value));
            expected.push(found.transpose()?.unwrap_or(0));
        }
        if length(count)? != entries.len() {
            let message = format!("{} entries, and the count is another", entries.len());
            return Err(Stop::script(count.at, message));
        }
        Ok((
            Call::Poll {
                entries,
                timeout_ms: int(timeout)?,
            },
            Expected::Polled(expected),
        ))
    }

    pub(super) fn epoll_create(line: &CallLine) -> Translated {
        let [size] = exactly(line)?;
        let expected = Expected::Descriptor(integer(&line.result)?);
        Ok((Call::EpollCreate { size: int(size)? }, expected))
    }

    pub(super) fn epoll_ctl(&self, line: &CallLine) -> Translated {
        let [epoll, operation, fd, event] = exactly(line)?;
        let has_none = is_null(event) || is_ellipsis(event);
        let event = if has_none {
            None
        } else {
            Some(epoll_event(event)?)
        };
        let (epoll, operation) = (self.fd(epoll)?, int(operation)?);
        plain(Call::EpollControl {
            epoll,
            operation,
            fd: self.fd(fd)?,
            event,
        })
    }

    pub(super) fn epoll_wait(&self, line: &CallLine) -> Translated {
        let [epoll, events, events_max, timeout] = exactly(line)?;
        let events = match &events.value {
            Value::List(events) => events.as_slice(),
            _ => std::slice::from_ref(events),
        };
        let expected: Result<Vec<_>, _> = events.iter().map(epoll_event).collect();
        let (events_max, timeout_ms) = (int(events_max)?, int(timeout)?);
        let call = Call::EpollWait {
            epoll: self.fd(epoll)?,
            events_max,
            timeout_ms,
        };
        Ok((call, Expected::Events(expected?)))
    }
}

/// `{events=EPOLLIN, fd=4}`; the mark is whatever member follows.
fn epoll_event(expression: &Expression) -> Result<EpollEvent, Fault> {
    let events = int(&member(expression, "events")?.value)?.cast_unsigned();
    let marks = ["fd", "ptr", "u32", "u64"];
    let mark = marks.iter().find_map(|name| optional(expression, name));
    let mark = mark.ok_or_else(|| Fault::new(expression.at, "an event has fd, ptr, u32 or u64"))?;
    Ok(EpollEvent {
        events,
        data: integer(&mark.value)?.cast_unsigned(),
    })
}
