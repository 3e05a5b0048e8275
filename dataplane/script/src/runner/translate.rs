//! From a script's line to a kernel's call: which call, whose descriptor, which address.

mod control;
mod lifecycle;
mod stream;

use super::Runner;
use super::answers::Expected;
use super::arguments::{address, int, integer, is_ellipsis};
use super::connection::{Connection, Stage};
use crate::ast::{CallLine, Expression};
use crate::failure::Stop;
use crate::fault::Fault;
use crate::kernel::{Address, Call};

/// A call, and what it must answer besides its result.
pub(super) type Translated = Result<(Call, Expected), Stop>;

/// A call that writes nothing into the caller's memory.
fn plain(call: Call) -> Translated {
    Ok((call, Expected::Nothing))
}

impl Runner<'_> {
    pub(super) fn translate(&mut self, line: &CallLine) -> Translated {
        match line.name.as_str() {
            "socket" => self.socket(line),
            "bind" => self.bind(line),
            "listen" => self.listen(line),
            "accept" => self.accept(line),
            "accept4" => self.accept4(line),
            "connect" => self.connect(line),
            "shutdown" => self.shutdown(line),
            "close" => self.close(line),
            "pipe" => Self::pipe(line),
            "open" => Self::open_file(line),
            "read" => self.read(line),
            "readv" => self.readv(line),
            "recv" => self.recv(line),
            "recvfrom" => self.recvfrom(line),
            "recvmsg" => self.recvmsg(line),
            "write" => self.write(line),
            "writev" => self.writev(line),
            "send" => self.send(line),
            "sendto" => self.sendto(line),
            "sendmsg" => self.sendmsg(line),
            "splice" => self.splice(line),
            "sendfile" => self.sendfile(line),
            "fcntl" => self.fcntl(line),
            "ioctl" => self.ioctl(line),
            "getsockopt" => self.getsockopt(line),
            "setsockopt" => self.setsockopt(line),
            "poll" => self.poll(line),
            "epoll_create" => Self::epoll_create(line),
            "epoll_ctl" => self.epoll_ctl(line),
            "epoll_wait" => self.epoll_wait(line),
            other => Err(Stop::script(line.at, format!("no system call `{other}`"))),
        }
    }

    /// The kernel's descriptor.
    fn fd(&self, expression: &Expression) -> Result<i32, Fault> {
        let script = int(expression)?;
        if script < 0 {
            return Ok(script);
        }
        self.fds.get(&script).copied().ok_or_else(|| {
            Fault::new(
                expression.at,
                format!("the script never opened descriptor {script}"),
            )
        })
    }

    /// The connection whose socket this is.
    pub(super) fn connection_of(&mut self, script_fd: i32) -> Option<&mut Connection> {
        self.connections
            .iter_mut()
            .rev()
            .find(|connection| connection.fd == Some(script_fd))
    }

    /// `...` is the script's peer; a call with it may open a connection.
    fn peer(&mut self, fd: i32, expression: &Expression) -> Result<Address, Fault> {
        let settings = self.settings;
        let remote = (settings.network.remote, settings.connect_port);
        let address = if is_ellipsis(expression) {
            Address::Ip(settings.variant.for_socket(remote.0, remote.1))
        } else {
            address(expression)?
        };
        let known = |connection: &Connection| connection.fd == Some(fd);
        let Some(index) = self.connections.iter().rposition(known) else {
            return Ok(address);
        };
        let Some(connection) = self.connections.get_mut(index) else {
            return Ok(address);
        };
        match address {
            // What still leaves is of the connection that was; the next one is another.
            Address::Family(_) => {
                connection.fd = None;
                self.connections.push(Connection::new(Stage::New, Some(fd)));
            }
            Address::Ip(to) if connection.stage == Stage::New => {
                connection.stage = Stage::Connecting;
                connection.remote = Some((to.ip().to_canonical(), to.port()));
                self.current = Some(index);
            }
            Address::Ip(_) => {}
        }
        Ok(address)
    }
}

/// An address's length: the runner knows it.
fn address_length(expression: &Expression) -> Result<(), Fault> {
    if is_ellipsis(expression) || integer(expression).is_ok() {
        return Ok(());
    }
    Err(Fault::new(
        expression.at,
        "expected `...`: the runner knows the address's length",
    ))
}
