//! What the stack tells of its connections, turned into what Linux does to a socket: its error, its
//! shut halves, and who is woken.

use millrace_base::FlowTuple;
use millrace_stack::{Event, FlowId, Ready, State};

use crate::errno::Errno;
use crate::file::SocketId;
use crate::linux::{EPOLLERR, EPOLLIN, EPOLLOUT, EPOLLRDNORM, EPOLLWRNORM};
use crate::signals::{Band, Unless};
use crate::socket::{Association, Shut, Socket};
use crate::sockets::Sockets;

/// Events of a wake-up that may mean anything (`sk_state_change` passes no key).
pub(crate) const ANYTHING: u32 = 0;
/// Events of `sk_data_ready`.
pub(crate) const DATA_READY: u32 = EPOLLIN | EPOLLRDNORM;
/// Events of `sk_write_space`.
pub(crate) const WRITE_SPACE: u32 = EPOLLOUT | EPOLLWRNORM;

impl Sockets {
    /// Takes every event of the stack.
    pub(crate) fn take_news(&mut self) -> bool {
        let mut moved = false;
        // A connection stays in the backlog of its listener until `accept`.
        while let Some(event) = self.stack.poll_event_in_backlog() {
            moved = true;
            if event.ready.contains(Ready::ACCEPTED) {
                self.on_accepted(&event);
            } else {
                self.on_event(SocketId(event.user), &event);
            }
        }
        moved
    }

    /// News of a connection that has a socket.
    pub(crate) fn on_event(&mut self, id: SocketId, event: &Event) {
        let ready = event.ready;
        let (state, reported) = (self.state(id), self.reported);
        let unread = self.unread(id);
        let Some(socket) = self.sockets.get_mut(&id) else {
            return;
        };
        if socket.flow != Some(event.flow) {
            return;
        }
        let mut wakes = Vec::new();
        if ready.contains(Ready::CONNECTED) {
            wakes.extend([ANYTHING, WRITE_SPACE]);
        }
        // behaviour: RCV-59. Less than the low-water mark wakes nobody.
        let enough = unread >= socket.options.receive_low_water as usize || socket.done;
        if ready.contains(Ready::READABLE) && enough {
            wakes.push(DATA_READY);
        }
        if ready.contains(Ready::PEER_CLOSED) {
            // behaviour: A27-3 STA-31
            socket.done = true;
            socket.shut.receive = true;
            wakes.push(ANYTHING);
        }
        let half_closed = socket.done && !socket.shut.send;
        let error = error_of(ready, half_closed).map(|error| match error {
            // What ICMP said is more precise than what the stack can say.
            Errno::EHOSTUNREACH | Errno::ECONNREFUSED => reported.unwrap_or(error),
            Errno::ETIMEDOUT => socket.soft_error.map_or(error, |soft| soft.error),
            _ => error,
        });
        if let Some(error) = error {
            socket.error = Some(error);
            wakes.push(EPOLLERR);
        }
        let over = ready.contains(Ready::CLOSED);
        let cut_off = error_of(ready, false).is_some();
        if over || cut_off {
            // Linux: `tcp_done`.
            socket.shut = Shut::BOTH;
            wakes.push(ANYTHING);
            let (tuple, locked) = (tuple_of(socket), socket.port_locked);
            if over {
                socket.flow = None;
            }
            // Unread bytes may outlive the connection, whose tuple is anybody's then.
            if let Some(tuple) = tuple
                && self.flows.get(&tuple) == Some(&id)
            {
                self.flows.remove(&tuple);
            }
            // Linux: `tcp_set_state` puts a port back that no `bind` has named.
            if !locked {
                self.release_port(id);
            }
        }
        let Some(socket) = self.sockets.get_mut(&id) else {
            return;
        };
        if !over && state == State::Closed && !socket.shut.send {
            socket.shut = Shut::BOTH;
        }
        if ready.contains(Ready::CONNECTED) {
            // Keep-alive runs by the socket's own times from now on.
            self.apply_options(id);
            self.reserve_for_ip_options(id);
            self.expand_send_buffer(id);
            self.note_fast_open(id);
        }
        for events in wakes {
            self.wake(id, events);
        }
        self.signal_news(id, ready);
    }

    /// The same news for the owner of the file.
    // behaviour: A9-18 A27-5
    fn signal_news(&mut self, id: SocketId, ready: Ready) {
        let Ok(socket) = self.get(id) else { return };
        let whole = socket.shut.receive && socket.shut.send;
        let enough = self.unread(id) >= socket.options.receive_low_water as usize || socket.done;
        if ready.contains(Ready::CONNECTED) {
            self.wake_async(id, Band::Out, Unless::Never);
        }
        if ready.contains(Ready::READABLE) && enough {
            self.wake_async(id, Band::In, Unless::SomebodyReads);
        }
        if ready.contains(Ready::PEER_CLOSED) {
            let band = if whole { Band::HangUp } else { Band::In };
            self.wake_async(id, band, Unless::SomebodyReads);
        }
        if error_of(ready, false).is_some() {
            self.wake_async(id, Band::Error, Unless::Never);
        }
    }

    /// The connection of a socket is gone, or is somebody else's business from now on.
    pub(crate) fn let_go(&mut self, id: SocketId) -> Option<FlowId> {
        let socket = self.sockets.get_mut(&id)?;
        let flow = socket.flow.take()?;
        if let Some(tuple) = tuple_of(socket)
            && self.flows.get(&tuple) == Some(&id)
        {
            self.flows.remove(&tuple);
        }
        Some(flow)
    }

    /// A connection attempt has failed or was given up: the socket may be used again (the end of
    /// `inet_stream_connect`).
    pub(crate) fn forget_association(&mut self, id: SocketId) {
        if self.get(id).is_ok_and(|socket| !socket.port_locked) {
            self.release_port(id);
        }
        let any = self.sockets.get(&id).map(|socket| socket.domain.any());
        let (Some(socket), Some(any)) = (self.sockets.get_mut(&id), any) else {
            return;
        };
        socket.association = Association::Unconnected;
        socket.remote = None;
        socket.shut = Shut::default();
        socket.done = false;
        socket.outbox = crate::outbox::Outbox::default();
        socket.fast_open = crate::fastopen::FastOpen::default();
        socket.marks.clear();
        socket.written = 0;
        socket.traffic = crate::traffic::Traffic::default();
        socket.arrivals.clear();
        socket.stamped_to = 0;
        socket.saved_syn = None;
        socket.urgent = None;
        socket.urgent_end = 0;
        socket.receive_base = None;
        socket.soft_error = None;
        socket.buffers.clear();
        socket.chrono = crate::chrono::Chrono::default();
        if !socket.address_locked {
            socket.local.address = any;
        }
        if !socket.port_locked {
            socket.local.port = 0;
        }
    }

    /// Wakes who waits for room to send, where there is some again (`sk_stream_write_space`).
    pub(crate) fn tell_writable(&mut self) -> bool {
        let waiting = self.sockets.iter().filter(|(_, socket)| socket.no_space);
        let waiting: Vec<SocketId> = waiting.map(|(id, _)| *id).collect();
        let mut moved = false;
        for id in waiting {
            self.free_buffers(id);
            if self.may_expand(id) {
                self.expand_send_buffer(id);
            }
            if !self.has_write_space(id) {
                continue;
            }
            if let Some(socket) = self.sockets.get_mut(&id) {
                socket.no_space = false;
            }
            self.wake(id, WRITE_SPACE);
            if self.get(id).is_ok_and(|socket| !socket.shut.send) {
                self.wake_async(id, Band::Out, Unless::Never);
            }
            moved = true;
        }
        moved
    }

    /// Turns marks that the connections have passed into entries of the error queues.
    pub(crate) fn fulfil_marks(&mut self) -> bool {
        let marked = self.sockets.iter().filter(|(_, s)| !s.marks.is_empty());
        let marked: Vec<SocketId> = marked.map(|(id, _)| *id).collect();
        let mut moved = false;
        for id in marked {
            let (sent, acked) = match self.info(id) {
                Some(info) => {
                    let in_queue = u64::from(info.queued_bytes);
                    let unsent = u64::from(info.unsent_bytes);
                    (
                        (info.bytes_acked + in_queue).saturating_sub(unsent),
                        info.bytes_acked,
                    )
                }
                // What was not sent never will be: its memory is free.
                None => (u64::MAX, u64::MAX),
            };
            let now = self.now;
            let Some(socket) = self.sockets.get_mut(&id) else {
                continue;
            };
            if socket.fulfil_marks(now, sent, acked) {
                self.wake(id, EPOLLERR);
                self.wake_async(id, Band::Error, Unless::Never);
                moved = true;
            }
        }
        moved
    }
}

fn tuple_of(socket: &Socket) -> Option<FlowTuple> {
    Some(FlowTuple {
        local: socket.local,
        remote: socket.remote?,
    })
}

/// The error that ended a connection. `half_closed`: the peer had closed its side, and ours was
/// open.
// Linux: `tcp_reset`, `tcp_write_err`.
fn error_of(ready: Ready, half_closed: bool) -> Option<Errno> {
    if ready.contains(Ready::REFUSED) {
        Some(Errno::ECONNREFUSED)
    } else if ready.contains(Ready::RESET) {
        Some(if half_closed {
            Errno::EPIPE
        } else {
            Errno::ECONNRESET
        })
    } else if ready.contains(Ready::TIMED_OUT) {
        Some(Errno::ETIMEDOUT)
    } else if ready.contains(Ready::UNREACHABLE) {
        Some(Errno::EHOSTUNREACH)
    } else {
        None
    }
}
