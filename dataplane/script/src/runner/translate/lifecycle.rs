//! Calls that make, join and end sockets and files.

use super::{Translated, address_length, plain};
use crate::ast::{CallLine, Expression, Value};
use crate::failure::Stop;
use crate::kernel::{Address, Call};
use crate::runner::Runner;
use crate::runner::answers::Expected;
use crate::runner::arguments::{address, exactly, int, integer, is_ellipsis, list};

impl Runner<'_> {
    pub(super) fn socket(&self, line: &CallLine) -> Translated {
        let [domain, kind, protocol] = exactly(line)?;
        let domain = if is_ellipsis(domain) {
            self.settings.variant.domain()
        } else {
            int(domain)?
        };
        let call = Call::Socket {
            domain,
            kind: int(kind)?,
            protocol: int(protocol)?,
        };
        Ok((call, Expected::Descriptor(integer(&line.result)?)))
    }

    pub(super) fn bind(&self, line: &CallLine) -> Translated {
        let [fd, to, length] = exactly(line)?;
        address_length(length)?;
        let settings = self.settings;
        let own = settings
            .variant
            .for_socket(settings.network.local, settings.bind_port);
        let address = if is_ellipsis(to) {
            Address::Ip(own)
        } else {
            address(to)?
        };
        plain(Call::Bind {
            fd: self.fd(fd)?,
            address,
        })
    }

    pub(super) fn listen(&self, line: &CallLine) -> Translated {
        let [fd, backlog] = exactly(line)?;
        plain(Call::Listen {
            fd: self.fd(fd)?,
            backlog: int(backlog)?,
        })
    }

    pub(super) fn accept(&self, line: &CallLine) -> Translated {
        let [fd, _, _] = exactly(line)?;
        self.accepting(line, fd, 0)
    }

    pub(super) fn accept4(&self, line: &CallLine) -> Translated {
        let [fd, _, _, flags] = exactly(line)?;
        self.accepting(line, fd, int(flags)?)
    }

    fn accepting(&self, line: &CallLine, fd: &Expression, flags: i32) -> Translated {
        let expected = Expected::Accepted(integer(&line.result)?);
        Ok((
            Call::Accept {
                fd: self.fd(fd)?,
                flags,
            },
            expected,
        ))
    }

    pub(super) fn connect(&mut self, line: &CallLine) -> Translated {
        let [fd, to, length] = exactly(line)?;
        address_length(length)?;
        let address = self.peer(int(fd)?, to)?;
        plain(Call::Connect {
            fd: self.fd(fd)?,
            address,
        })
    }

    pub(super) fn shutdown(&self, line: &CallLine) -> Translated {
        let [fd, how] = exactly(line)?;
        plain(Call::Shutdown {
            fd: self.fd(fd)?,
            how: int(how)?,
        })
    }

    pub(super) fn close(&self, line: &CallLine) -> Translated {
        let [fd] = exactly(line)?;
        plain(Call::Close { fd: self.fd(fd)? })
    }

    pub(super) fn pipe(line: &CallLine) -> Translated {
        let [pair] = exactly(line)?;
        match list(pair)? {
            [from, to] => Ok((Call::Pipe, Expected::Pair(int(from)?, int(to)?))),
            _ => Err(Stop::script(
                pair.at,
                "expected two descriptors in brackets",
            )),
        }
    }

    pub(super) fn open_file(line: &CallLine) -> Translated {
        let [path, flags] = exactly(line)?;
        let Value::Text(text) = &path.value else {
            return Err(Stop::script(path.at, "expected a path in quotes"));
        };
        let path = String::from_utf8_lossy(text).into_owned();
        let expected = Expected::Descriptor(integer(&line.result)?);
        Ok((
            Call::Open {
                path,
                flags: int(flags)?,
            },
            expected,
        ))
    }
}
