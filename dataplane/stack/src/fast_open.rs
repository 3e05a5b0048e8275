//! Fast Open between the tables: which SYN becomes a connection at once, and how one of ours begins.
//!
//! What a connection does with it is in `tcp/fastopen`. Linux: `tcp_try_fastopen`,
//! `tcp_fastopen_cookie_check`.

use millrace_base::{FlowTuple, Instant, PacketPool, Stamp};
use millrace_wire::TcpOptions;
use millrace_wire::tcp::FastOpenCookie;

use crate::flow::FlowId;
use crate::flow_hash::FlowHash;
use crate::knobs::group_knobs_of;
use crate::listener::Chosen;
use crate::stack::Stack;
use crate::stats::count;
use crate::table::ConnectError;
use crate::tcp::fastopen::cookie::Match;
use crate::tcp::fastopen::{CLIENT_NO_COOKIE, Child, SERVER_COOKIE_NOT_REQUIRED, SERVER_ENABLE};
use crate::tcp::{Disposition, FastOpenKeys, FastOpenRequest, TcpTunables};
use crate::tcp_input::{Arrived, Begin};

/// What becomes of a SYN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FastOpenAnswer {
    /// A connection.
    Child(u32),
    /// A half-open one; its SYN-ACK carries this cookie.
    Cookie(Option<FastOpenCookie>),
}

impl<P: PacketPool> Stack<P> {
    /// `connect_with`, and the SYN carries what is known of the server and as much of the data as
    /// fits: the number of bytes is returned, and the rest is the caller's.
    pub fn connect_fast_open(
        &mut self,
        now: Instant,
        tuple: FlowTuple,
        user: u64,
        (own, request): (Option<&TcpTunables>, &FastOpenRequest<'_>),
        pool: &mut P,
    ) -> Result<(FlowId, usize), ConnectError> {
        let flow = self.connect_with(now, tuple, user, own)?;
        let taken = self.with_env(now, flow.key(), pool, |connection, env| {
            connection.prepare_fast_open(request, env)
        });
        self.settle(now, flow.key(), Disposition::Continue);
        Ok((flow, taken.unwrap_or(0)))
    }

    /// Whether a SYN to the server of `tuple` could carry data now.
    pub fn may_fast_open(&self, now: Instant, tuple: &FlowTuple, no_cookie: bool) -> bool {
        let memory = &self.chunks.fastopen;
        let timeout_secs = self.tunables.tcp_fastopen_blackhole_timeout_sec;
        let (is_paused, _) = memory.is_paused(now, timeout_secs);
        let is_free = no_cookie || self.tunables.tcp_fastopen & CLIENT_NO_COOKIE != 0;
        !is_paused && (is_free || !self.chunks.metrics.server(tuple).cookie.is_empty())
    }

    /// Uses Fast Open again although it was found not to come through: somebody has set
    /// `tcp_fastopen_blackhole_timeout_sec`.
    pub fn resume_fast_open(&mut self) {
        self.chunks.fastopen.resume();
    }

    /// The keys that listeners without their own use.
    pub fn fast_open_keys(&self) -> FastOpenKeys {
        let own = self.tunables.tcp_fastopen_key;
        own.unwrap_or_else(|| self.secrets.fastopen())
    }

    /// Looks what Fast Open makes of a SYN with its option or with data. Only those come here.
    pub(crate) fn try_fast_open(
        &mut self,
        listener: Chosen,
        options: &TcpOptions,
        begin: &Begin<'_>,
        hash: FlowHash,
    ) -> FastOpenAnswer {
        let offered = options.fastopen;
        if offered.is_some_and(|cookie| cookie.is_empty()) {
            count!(self.stats.tcp_fast_open_cookie_reqd);
        }
        let row = self.listeners.by_id(listener.id);
        let Some(wanted) = row.map(|row| row.options.fastopen) else {
            return FastOpenAnswer::Cookie(None);
        };
        let bits = self.tunables.tcp_fastopen;
        if bits & SERVER_ENABLE == 0 || wanted.queue_max == 0 {
            return FastOpenAnswer::Cookie(None);
        }
        let queues = &mut self.chunks.fastopen.queues;
        if !queues.has_room(listener.id, wanted.queue_max, begin.now) {
            count!(self.stats.tcp_fast_open_listen_overflow);
            return FastOpenAnswer::Cookie(None);
        }
        let is_free = wanted.no_cookie || bits & SERVER_COOKIE_NOT_REQUIRED != 0;
        let tuple = &begin.half_open.tuple;
        let keys = wanted.keys.unwrap_or_else(|| self.fast_open_keys());
        let given = |like: FastOpenCookie| {
            let cookie = keys.cookie(tuple);
            Some(cookie.in_experiment(like.is_experimental()))
        };
        let (matched, cookie) = match offered {
            _ if is_free => (Match::Primary, None),
            None => return FastOpenAnswer::Cookie(None),
            Some(question) if question.is_empty() => {
                return FastOpenAnswer::Cookie(given(question));
            }
            Some(offered) => (keys.check(tuple, &offered), given(offered)),
        };
        // A cookie that is out of date is replaced.
        let renewed = cookie.filter(|_| matched == Match::Backup);
        let begun = match matched {
            Match::None => None,
            Match::Primary | Match::Backup => self.begin_child(listener, begin, hash, renewed),
        };
        let Some(index) = begun else {
            count!(self.stats.tcp_fast_open_passive_fail);
            return FastOpenAnswer::Cookie(cookie);
        };
        count!(self.stats.tcp_fast_open_passive);
        if matched == Match::Backup {
            count!(self.stats.tcp_fast_open_passive_alt_key);
        }
        FastOpenAnswer::Child(index)
    }

    /// Gives a new child its SYN.
    pub(crate) fn feed_child(&mut self, index: u32, arrived: Arrived<'_, P::Buf>, pool: &mut P) {
        let now = arrived.now;
        let Some(key) = self.connections.key_at(index) else {
            return;
        };
        let bare = arrived.bare_segment();
        // Without a buffer of their own the data come again.
        let segment = arrived.into_segment().unwrap_or(bare);
        self.with_env(now, key, pool, |connection, env| {
            connection.take_syn(env, segment);
        });
        self.settle(now, key, Disposition::Continue);
    }

    /// Makes a connection of a SYN; `None` when there is no room for one, and nothing has changed.
    fn begin_child(
        &mut self,
        listener: Chosen,
        begin: &Begin<'_>,
        hash: FlowHash,
        cookie: Option<FastOpenCookie>,
    ) -> Option<u32> {
        if self.is_full_for_clients() || self.chunks.extras.is_full() {
            return None;
        }
        let index = self.begin_passive(begin, hash).ok()?;
        let child = Child {
            listener: listener.id,
            epoch: self.chunks.fastopen.queues.enter(listener.id),
            irs: begin.half_open.irs,
            sent_at: Stamp::NEVER,
            accepted: false,
        };
        let key = self.connections.key_at(index)?;
        let slot = self.connections.get_mut(key)?;
        let whose = (listener.id, &slot.meta.hop);
        let mut room = None;
        let tunables = group_knobs_of(&self.group_knobs, &self.tunables, whose, &mut room);
        slot.connection
            .begin_as_child(&mut self.chunks, child, cookie, tunables);
        let now = begin.now;
        slot.connection
            .expect_way(&mut self.chunks, now, &self.tunables);
        Some(index)
    }
}
