//! Fast Open as a program sees it: `MSG_FASTOPEN`, `TCP_FASTOPEN_CONNECT`, and the options of
//! listeners.
//!
//! A send with the flag opens the connection itself and says how much of its data the SYN carries; a
//! deferred `connect` succeeds at once and leaves the SYN to the first send. What the SYN looks like
//! is the stack's business.
//!
//! Linux: `tcp_sendmsg_fastopen`, `tcp_fastopen_defer_connect`, `fastopen_queue_tune`.

use core::ops::ControlFlow;

use millrace_base::FlowTuple;
use millrace_stack::{
    FASTOPEN_KEY_BYTES, FastOpenFailure, FastOpenKeys, FastOpenListen, FastOpenRequest, State,
};

use crate::address::SocketAddress;
use crate::call::Reply;
use crate::errno::Errno;
use crate::file::SocketId;
use crate::linux::MSG_FASTOPEN;
use crate::socket::Association;
use crate::sockets::{Sockets, is_opening};

/// Bits of `tcp_fastopen`.
pub(crate) const CLIENT_ENABLE: u32 = 0x1;
const SERVER_ENABLE: u32 = 0x2;
const ALL_LISTENERS: u32 = 0x400;

/// What a socket has of Fast Open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct FastOpen {
    /// `connect` has succeeded, and the SYN leaves with the first data (`defer_connect`).
    pub(crate) deferred: bool,
    /// A send waits for the connection that it opens (`fastopen_req`).
    opening: bool,
    /// Data in a SYN was acknowledged; survives the connection.
    pub(crate) syn_data: bool,
    pub(crate) failure: FastOpenFailure,
}

/// How far a send has come with opening its connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Step {
    /// It has not looked.
    #[default]
    Untried,
    /// The SYN has left; this error if it may not wait for the answer.
    Opening(Errno),
    /// There is nothing to open.
    Over,
}

/// A send call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) data: &'a [u8],
    pub(crate) flags: i32,
    pub(crate) address: Option<SocketAddress>,
}

impl Sockets {
    /// What comes before the rest of a send: opens the connection, if that is asked for, and waits
    /// for it. Breaks with what the call returns, or with `None` while it waits.
    pub(crate) fn open_for_send(
        &mut self,
        id: SocketId,
        message: Message<'_>,
        (step, done): (&mut Step, &mut usize),
        last: bool,
    ) -> ControlFlow<Option<Result<Reply, Errno>>> {
        if *step == Step::Untried {
            let wanted = message.flags & MSG_FASTOPEN != 0;
            *step = if wanted || self.is_deferred(id) {
                match self.begin_fast_send(id, message, done) {
                    Ok(step) => step,
                    Err(error) => return ControlFlow::Break(Some(Err(error))),
                }
            } else {
                Step::Over
            };
        }
        let Step::Opening(error) = *step else {
            return ControlFlow::Continue(());
        };
        let finished = self.finish_connect(id);
        if finished.is_none() && !last {
            return ControlFlow::Break(None);
        }
        if let Ok(socket) = self.get_mut(id) {
            socket.fast_open.opening = false;
        }
        match finished {
            Some(Ok(_)) => {
                *step = Step::Over;
                ControlFlow::Continue(())
            }
            Some(Err(error)) => ControlFlow::Break(Some(Err(error))),
            // behaviour: A3-3
            None if *done > 0 => {
                self.mark_sent(id, message.flags, *done);
                ControlFlow::Break(Some(Ok(Reply::Count(*done))))
            }
            None => ControlFlow::Break(Some(Err(error))),
        }
    }

    /// Opens the connection of a send (behaviour: A3-27).
    fn begin_fast_send(
        &mut self,
        id: SocketId,
        message: Message<'_>,
        done: &mut usize,
    ) -> Result<Step, Errno> {
        let is_off = self.sysctls.tunables().tcp_fastopen & CLIENT_ENABLE == 0;
        if is_off || message.address == Some(SocketAddress::Unspecified) {
            return Err(Errno::EOPNOTSUPP);
        }
        let socket = self.get(id)?;
        if socket.fast_open.opening {
            return Err(Errno::EALREADY);
        }
        let taken = match socket.association {
            Association::Connected => return Err(Errno::EISCONN),
            Association::Disconnecting => return Err(Errno::EINVAL),
            Association::Connecting if socket.fast_open.deferred => {
                self.open_deferred(id, message.data)?
            }
            Association::Connecting => {
                let step = if self.is_opening(id) {
                    Step::Opening(Errno::EALREADY)
                } else {
                    // What came of it, is looked at next.
                    Step::Opening(Errno::EINPROGRESS)
                };
                return Ok(step);
            }
            Association::Unconnected if self.state(id) != State::Closed => {
                return Err(Errno::EISCONN);
            }
            Association::Unconnected => {
                let address = message.address.ok_or(Errno::EINVAL)?;
                let tuple = self.choose_tuple(id, address)?;
                self.begin_opening(id, tuple, Some(message.data))?
            }
        };
        if taken > 0 {
            // Linux queues the SYN's data as a segment of its own, with PSH.
            self.note_written(id, taken as u64, true);
            self.mark_push(id);
        }
        *done = taken;
        self.get_mut(id)?.fast_open.opening = true;
        Ok(Step::Opening(Errno::EINPROGRESS))
    }

    /// Sends the SYN that a `connect` has left to this; when it cannot be, the socket is as it was
    /// before that.
    fn open_deferred(&mut self, id: SocketId, data: &[u8]) -> Result<usize, Errno> {
        let socket = self.get_mut(id)?;
        socket.fast_open.deferred = false;
        let remote = socket.remote.ok_or(Errno::ENOTCONN)?;
        let local = socket.local;
        let opened = self.begin_opening(id, FlowTuple { local, remote }, Some(data));
        if opened.is_err() {
            self.forget_association(id);
        }
        opened
    }

    /// Whether `connect` shall leave the SYN to the first send (`tcp_fastopen_defer_connect`;
    /// behaviour: A12-16).
    pub(crate) fn may_defer(&self, id: SocketId, tuple: &FlowTuple) -> bool {
        self.get(id).is_ok_and(|socket| {
            let options = &socket.options;
            let no_cookie = options.fastopen_no_cookie;
            options.fastopen_connect && self.stack.may_fast_open(self.now, tuple, no_cookie)
        })
    }

    /// What the stack shall open a connection with.
    pub(crate) fn fast_open_request<'a>(
        &self,
        id: SocketId,
        data: &'a [u8],
    ) -> FastOpenRequest<'a> {
        let options = self.get(id).ok().map(|socket| &socket.options);
        FastOpenRequest {
            data,
            no_cookie: options.is_some_and(|options| options.fastopen_no_cookie),
            user_mss: options.map_or(0, |options| options.user_mss),
        }
    }

    /// Whether the SYN waits for the first send.
    pub(crate) fn is_deferred(&self, id: SocketId) -> bool {
        self.get(id).is_ok_and(|socket| socket.fast_open.deferred)
    }

    /// Whether the connection is on its way, and not one that may be used before it is there.
    pub(crate) fn is_opening(&self, id: SocketId) -> bool {
        is_opening(self.state(id)) && !self.is_child(id)
    }

    /// Whether a peer has opened it with its SYN and the handshake is not over.
    pub(crate) fn is_child(&self, id: SocketId) -> bool {
        self.info(id).is_some_and(|info| info.fast_open.is_child)
    }

    /// Keeps what became of Fast Open beyond the connection's end.
    pub(crate) fn note_fast_open(&mut self, id: SocketId) {
        let Some(info) = self.info(id) else { return };
        if let Ok(socket) = self.get_mut(id) {
            socket.fast_open.syn_data = info.fast_open.syn_data;
            socket.fast_open.failure = info.fast_open.failure;
        }
    }

    /// A socket begins to listen: the sysctl alone may give it a queue (behaviour: A29-6 A29-7).
    pub(crate) fn listen_fast(&mut self, id: SocketId, backlog: u32) {
        let wanted = SERVER_ENABLE | ALL_LISTENERS;
        let is_on = self.sysctls.tunables().tcp_fastopen & wanted == wanted;
        if let Ok(socket) = self.get_mut(id)
            && is_on
            && socket.options.fastopen_queue == 0
        {
            socket.options.fastopen_queue = backlog;
        }
    }

    /// `TCP_FASTOPEN`: how many connections may be made of a SYN.
    pub(crate) fn set_fast_open_queue(&mut self, id: SocketId, number: i32) -> Result<(), Errno> {
        let fits = matches!(self.state(id), State::Closed | State::Listen);
        let count = u32::try_from(number).map_err(|_| Errno::EINVAL)?;
        if !fits {
            return Err(Errno::EINVAL);
        }
        let count = count.min(self.sysctls.somaxconn());
        self.get_mut(id)?.options.fastopen_queue = count;
        self.publish_rows();
        Ok(())
    }

    /// `TCP_FASTOPEN_KEY`: one key, or two.
    pub(crate) fn set_fast_open_key(&mut self, id: SocketId, value: &[u8]) -> Result<(), Errno> {
        let keys = match value.as_chunks::<FASTOPEN_KEY_BYTES>() {
            ([primary], []) => FastOpenKeys::new(*primary, None),
            ([primary, backup], []) => FastOpenKeys::new(*primary, Some(*backup)),
            _ => return Err(Errno::EINVAL),
        };
        self.get_mut(id)?.options.fastopen_key = Some(keys);
        self.publish_rows();
        Ok(())
    }

    /// The same, read.
    pub(crate) fn fast_open_key(&self, id: SocketId) -> Result<Vec<u8>, Errno> {
        let own = self.get(id)?.options.fastopen_key;
        let keys = own.unwrap_or_else(|| self.stack.fast_open_keys());
        Ok(keys.all().flatten().copied().collect())
    }

    /// What a listening socket wants of the stack.
    pub(crate) fn fast_listen_of(&self, id: SocketId) -> FastOpenListen {
        let options = self.get(id).map(|socket| &socket.options);
        options.map_or_else(
            |_| FastOpenListen::default(),
            |options| FastOpenListen {
                queue_max: options.fastopen_queue,
                no_cookie: options.fastopen_no_cookie,
                keys: options.fastopen_key,
            },
        )
    }

    /// Forgets what was learned of peers (`ip tcp_metrics flush`).
    pub fn flush_metrics(&mut self) {
        self.stack.forget_peers();
    }
}
