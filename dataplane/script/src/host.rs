//! The stack under test: [`Kernel`] over the project's own sockets.
//!
//! What the stack lacks is refused here with its reason, so that a script fails at the line that
//! asks for it. Files exist only for `sendfile`.

mod answers;
mod files;
mod settings;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use millrace_base::{Address as BaseAddress, Instant};
use millrace_socket::{self as socket, Errno, HostConfig, SocketAddress, Sockets};

use crate::kernel::{
    Address, Applied, Call, Departure, Kernel, Network, Outcome, Output, Piece, Progress, Room,
    Setting, Ticket,
};
use files::Files;

/// A host of the stack on a link of its own, at the beginning of its time.
#[derive(Debug)]
pub struct Host {
    sockets: Sockets,
    now: Instant,
    files: Files,
    /// Calls that wait, by the ticket that stands for them.
    waiting: BTreeMap<u64, socket::CallId>,
    next_ticket: u64,
    /// Calls that are done and were not asked for.
    finished: Vec<(socket::CallId, Result<socket::Reply, Errno>)>,
    /// Counters at the last mark.
    marks: BTreeMap<&'static str, u64>,
    /// Connections at rest lose their desks after everything that happens; so many did, each time.
    rested: Option<usize>,
}

/// When a host's time begins. Not zero, which many clocks take for "never".
const BEGINNING: Instant = Instant::from_millis(1_000_000);

impl Host {
    /// A host with the addresses and the MTU that a script wants.
    #[must_use]
    pub fn new(network: &Network) -> Self {
        let local = match network.local {
            IpAddr::V4(address) => BaseAddress::v4(address.octets()),
            IpAddr::V6(address) => BaseAddress::v6(address.octets()),
        };
        let config = HostConfig {
            addresses: vec![(local, network.prefix_bits)],
            mtu: network.mtu,
            ..HostConfig::default()
        };
        let mut sockets = Sockets::new(config);
        sockets.advance(BEGINNING);
        Self {
            sockets,
            now: BEGINNING,
            files: Files::default(),
            waiting: BTreeMap::new(),
            next_ticket: 0,
            finished: Vec::new(),
            marks: BTreeMap::new(),
            rested: None,
        }
    }

    /// The same where every connection is put to rest as soon as it can be. No script can tell.
    #[must_use]
    pub fn resting(network: &Network) -> Self {
        Self {
            rested: Some(0),
            ..Self::new(network)
        }
    }

    /// Connections that were at rest, counted after each thing that happened.
    #[must_use]
    pub fn rested(&self) -> usize {
        self.rested.unwrap_or(0)
    }

    fn rest(&mut self) {
        if let Some(rested) = &mut self.rested {
            *rested += self.sockets.rest_all();
        }
    }

    fn begin(&mut self, call: socket::Call) -> Progress {
        match self.sockets.start(self.now, call) {
            socket::Progress::Ready(result) => Progress::Done(answers::reply(result)),
            socket::Progress::Pending(id) => {
                self.next_ticket += 1;
                self.waiting.insert(self.next_ticket, id);
                Progress::Pending(Ticket(self.next_ticket))
            }
        }
    }

    /// A read into `NULL`: Linux looks for bytes first, and fails when it comes to copy them.
    fn faulty_read(&mut self, fd: i32, room: usize) -> Progress {
        const MSG_PEEK: i32 = 0x2;
        const MSG_DONTWAIT: i32 = 0x40;
        let flags = MSG_PEEK | MSG_DONTWAIT;
        let call = socket::Call::Receive {
            fd,
            len: room,
            control_len: 0,
            flags,
        };
        Progress::Done(match self.sockets.start(self.now, call) {
            socket::Progress::Ready(Ok(reply)) if reply.value() > 0 => {
                answers::failure(Errno::EFAULT)
            }
            socket::Progress::Ready(result) => answers::reply(result),
            socket::Progress::Pending(_) => answers::failure(Errno::EAGAIN),
        })
    }

    /// Calls that move bytes.
    fn stream(&mut self, call: &Call) -> Progress {
        match call {
            Call::Read { fd, rooms } => match length(rooms) {
                Some(len) => self.begin(socket::Call::Read { fd: *fd, len }),
                None => self.faulty_read(*fd, all(rooms)),
            },
            Call::Receive { fd, room, flags } => match length(std::slice::from_ref(room)) {
                Some(len) => self.receive(*fd, len, 0, *flags, false),
                None => self.faulty_read(*fd, room.bytes),
            },
            Call::ReceiveMessage {
                fd,
                rooms,
                control_bytes,
                flags,
            } => match length(rooms) {
                Some(len) => self.receive(*fd, len, *control_bytes, *flags, true),
                None => self.faulty_read(*fd, all(rooms)),
            },
            Call::Write { fd, pieces } => match bytes(pieces) {
                Some(data) => self.begin(socket::Call::Write { fd: *fd, data }),
                None => Progress::Done(answers::failure(Errno::EFAULT)),
            },
            Call::Send {
                fd,
                piece,
                flags,
                to,
            } => self.send(*fd, std::slice::from_ref(piece), *flags, *to),
            Call::SendMessage {
                fd,
                pieces,
                flags,
                to,
                control,
            } => match apart(pieces) {
                Some(pieces) => self.begin(socket::Call::SendMessage {
                    fd: *fd,
                    pieces,
                    flags: *flags,
                    address: to.map(socket_address),
                    control: control.iter().map(answers::control_of).collect(),
                }),
                None => Progress::Done(answers::failure(Errno::EFAULT)),
            },
            Call::Splice {
                from,
                to,
                bytes,
                flags,
            } => self.begin(socket::Call::Splice {
                from: *from,
                to: *to,
                len: *bytes,
                flags: flags.cast_signed(),
            }),
            Call::SendFile {
                to,
                from,
                offset,
                bytes,
            } => match self.files.read(*from, *offset, *bytes) {
                Ok(data) => self.begin(socket::Call::Write { fd: *to, data }),
                Err(error) => Progress::Done(answers::failure(error)),
            },
            _ => Progress::Done(answers::failure(Errno::ENOSYS)),
        }
    }

    fn receive(
        &mut self,
        fd: i32,
        len: usize,
        control_len: usize,
        flags: i32,
        whole: bool,
    ) -> Progress {
        let progress = self.begin(socket::Call::Receive {
            fd,
            len,
            control_len,
            flags,
        });
        match progress {
            // `recv` returns the bytes alone.
            Progress::Done(Outcome {
                result,
                errno,
                output: Output::Message { bytes, .. },
            }) if !whole => Progress::Done(Outcome {
                result,
                errno,
                output: Output::Bytes(bytes),
            }),
            other => other,
        }
    }

    fn send(&mut self, fd: i32, pieces: &[Piece], flags: i32, to: Option<Address>) -> Progress {
        let Some(data) = bytes(pieces) else {
            return Progress::Done(answers::failure(Errno::EFAULT));
        };
        let address = to.map(socket_address);
        self.begin(socket::Call::Send {
            fd,
            data,
            flags,
            address,
        })
    }

    /// Calls that never wait.
    fn immediate(&mut self, call: &Call) -> Result<Outcome, Errno> {
        let now = self.now;
        let sockets = &mut self.sockets;
        let number = |value: i32| Outcome::success(i64::from(value));
        Ok(match call {
            Call::Socket {
                domain,
                kind,
                protocol,
            } => number(sockets.socket(*domain, *kind, *protocol)?),
            Call::Bind { fd, address } => {
                sockets.bind(now, *fd, socket_address(*address))?;
                number(0)
            }
            Call::Listen { fd, backlog } => {
                sockets.listen(now, *fd, *backlog)?;
                number(0)
            }
            Call::Shutdown { fd, how } => {
                sockets.shutdown(now, *fd, *how)?;
                number(0)
            }
            Call::Pipe => {
                let (from, to) = sockets.pipe(0)?;
                Outcome {
                    result: 0,
                    errno: 0,
                    output: Output::Pair(from, to),
                }
            }
            Call::Open { path, .. } => number(self.files.open(path)?),
            _ => return self.control(call),
        })
    }

    /// Calls that ask and set.
    fn control(&mut self, call: &Call) -> Result<Outcome, Errno> {
        let now = self.now;
        let sockets = &mut self.sockets;
        let number = |value: i32| Outcome::success(i64::from(value));
        Ok(match call {
            Call::Fcntl {
                fd,
                command,
                argument,
            } => number(sockets.fcntl(*fd, *command, argument.unwrap_or(0))?),
            Call::Ioctl {
                fd,
                request,
                argument,
            } => {
                let value = sockets.ioctl(now, *fd, *request, argument.unwrap_or(0))?;
                Outcome {
                    result: 0,
                    errno: 0,
                    output: Output::Value(value),
                }
            }
            Call::GetSockOpt {
                fd,
                level,
                name,
                room,
            } => {
                let value = sockets.getsockopt(now, *fd, *level, *name, *room)?;
                Outcome {
                    result: 0,
                    errno: 0,
                    output: Output::Bytes(value),
                }
            }
            Call::SetSockOpt {
                fd,
                level,
                name,
                value,
            } => {
                sockets.setsockopt(now, *fd, *level, *name, value)?;
                number(0)
            }
            Call::EpollCreate { size } => number(sockets.epoll_create(*size)?),
            Call::EpollControl {
                epoll,
                operation,
                fd,
                event,
            } => {
                let event = event.map(|event| socket::EpollEvent {
                    events: event.events,
                    data: event.data,
                });
                sockets.epoll_ctl(now, *epoll, *operation, *fd, event)?;
                number(0)
            }
            _ => return Err(Errno::ENOSYS),
        })
    }
}

impl Kernel for Host {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.now.as_nanos())
    }

    fn start(&mut self, call: &Call) -> Progress {
        match call {
            Call::Accept { fd, flags } => self.begin(socket::Call::Accept {
                fd: *fd,
                flags: *flags,
            }),
            Call::Connect { fd, address } => {
                let address = socket_address(*address);
                self.begin(socket::Call::Connect { fd: *fd, address })
            }
            Call::Close { fd } if self.files.close(*fd) => Progress::Done(Outcome::success(0)),
            Call::Close { fd } => self.begin(socket::Call::Close { fd: *fd }),
            Call::Poll {
                entries,
                timeout_ms,
            } => {
                let fds = entries
                    .iter()
                    .map(|entry| socket::PollFd {
                        fd: entry.fd,
                        events: entry.events,
                        revents: 0,
                    })
                    .collect();
                self.begin(socket::Call::Poll {
                    fds,
                    timeout_ms: *timeout_ms,
                })
            }
            Call::EpollWait {
                epoll,
                events_max,
                timeout_ms,
            } => {
                let (fd, events_max, timeout_ms) = (*epoll, *events_max, *timeout_ms);
                self.begin(socket::Call::EpollWait {
                    fd,
                    events_max,
                    timeout_ms,
                })
            }
            Call::Read { .. }
            | Call::Receive { .. }
            | Call::ReceiveMessage { .. }
            | Call::Write { .. }
            | Call::Send { .. }
            | Call::SendMessage { .. }
            | Call::Splice { .. }
            | Call::SendFile { .. } => self.stream(call),
            _ => Progress::Done(self.immediate(call).unwrap_or_else(answers::failure)),
        }
    }

    fn poll(&mut self, ticket: Ticket) -> Option<Outcome> {
        let id = *self.waiting.get(&ticket.0)?;
        while let Some(finished) = self.sockets.poll_finished() {
            self.finished.push(finished);
        }
        let at = self
            .finished
            .iter()
            .position(|(finished, _)| *finished == id)?;
        let (_, result) = self.finished.remove(at);
        self.waiting.remove(&ticket.0);
        Some(answers::reply(result))
    }

    fn deliver(&mut self, packet: &[u8], segment_bytes: u16) {
        self.sockets
            .merged_packet_in(self.now, packet, segment_bytes);
        self.rest();
    }

    fn take_packet(&mut self) -> Option<Departure> {
        let (at, packet) = self.sockets.packet_out()?;
        Some(Departure {
            at: Duration::from_nanos(at.as_nanos()),
            packet,
        })
    }

    fn next_deadline(&self) -> Option<Duration> {
        let deadline = self.sockets.next_deadline();
        (deadline != Instant::NEVER).then(|| Duration::from_nanos(deadline.as_nanos()))
    }

    fn advance(&mut self, to: Duration) {
        self.now = Instant::from_nanos(u64::try_from(to.as_nanos()).unwrap_or(u64::MAX));
        self.sockets.advance(self.now);
        self.rest();
    }

    fn apply(&mut self, setting: &Setting) -> Applied {
        self.set(setting)
    }
}

fn socket_address(address: Address) -> SocketAddress {
    match address {
        Address::Ip(SocketAddr::V4(address)) => {
            SocketAddress::v4(address.ip().octets(), address.port())
        }
        Address::Ip(SocketAddr::V6(address)) => {
            SocketAddress::v6(address.ip().octets(), address.port())
        }
        Address::Family(0) => SocketAddress::Unspecified,
        Address::Family(family) => SocketAddress::Other(family),
    }
}

fn all(rooms: &[Room]) -> usize {
    rooms.iter().map(|room| room.bytes).sum()
}

/// Room in all; `None` when some of it is nowhere.
fn length(rooms: &[Room]) -> Option<usize> {
    let is_faulty = rooms.iter().any(|room| room.is_null && room.bytes > 0);
    (!is_faulty).then(|| all(rooms))
}

/// The pieces; `None` when one is nowhere.
fn apart(pieces: &[Piece]) -> Option<Vec<Vec<u8>>> {
    let apart = pieces
        .iter()
        .map(|piece| bytes(std::slice::from_ref(piece)));
    apart.collect()
}

/// All pieces in one; `None` when one is nowhere.
fn bytes(pieces: &[Piece]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Bytes(piece) => bytes.extend(piece),
            Piece::Null(0) => {}
            Piece::Null(_) => return None,
        }
    }
    Some(bytes)
}
