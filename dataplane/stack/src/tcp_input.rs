//! TCP in: whom a segment belongs to, and what becomes of one that belongs to nobody.
//!
//! The tuple's owner comes first, whatever its kind, then listeners (A7-2). The checks a connection
//! does itself are in `tcp/input.rs`; those of requests and TIME_WAIT records in their own files.
//! Here is who is asked, and what their verdicts change in the tables.

use millrace_base::{
    Endpoint, FlowTuple, Instant, ListenerId, Nanos, PacketBuf, PacketPool, PortId, SeqNumber,
};
use millrace_wire::{TcpOptions, TcpRepr};

use crate::dispatch::{Carried, TcpFrame, admissible};
use crate::fast_open::FastOpenAnswer;
use crate::flow::Owner;
use crate::flow_hash::FlowHash;
use crate::knobs::group_knobs_of;
use crate::limits::DESKS_PER_SEARCH_MAX;
use crate::listener::Chosen;
use crate::network::HopCache;
use crate::signature;
use crate::stack::Stack;
use crate::stats::count;
use crate::table::{Meta, Slot};
use crate::tcp::handshake::SynAcks;
use crate::tcp::passive::Arrival;
use crate::tcp::syn_cookie::COOKIE_VALID_SECS;
use crate::tcp::syn_queue::{HalfOpen, Request, RequestVerdict};
use crate::tcp::timewait::TimeWaitVerdict;
use crate::tcp::{Connection, Env, ResetSegment, Segment};
use crate::transmit::reset_header;
use crate::verdict::DropReason;

/// A segment and the frame it came in, for replies to be written into.
pub(crate) struct Arrived<'a, B> {
    pub(crate) now: Instant,
    /// Where it came in.
    pub(crate) port: PortId,
    pub(crate) header: &'a TcpFrame,
    pub(crate) hash: FlowHash,
    pub(crate) frame: B,
}

/// What a passive connection begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begin<'a> {
    pub(crate) now: Instant,
    pub(crate) half_open: &'a HalfOpen,
    /// How often the SYN-ACK left.
    pub(crate) syn_acks: SynAcks,
    pub(crate) hop: HopCache,
    /// Who owns the tuple until then.
    pub(crate) owner: Option<Owner>,
}

impl<B: PacketBuf> Arrived<'_, B> {
    /// The segment without its payload: for mini-sockets, which keep no data.
    pub(crate) fn bare_segment(&self) -> Segment<B> {
        segment_of(self.header, self.header.options(&self.frame), None)
    }

    /// The segment with its payload, if it has any: the frame trimmed to it.
    #[inline(always)] // Otherwise the segment is copied on its way out.
    pub(crate) fn into_segment(self) -> Result<Segment<B>, DropReason> {
        let options = self.header.options(&self.frame);
        whole_segment(self.header, options, self.frame)
    }
}

/// A segment with its payload, if it has any, whose options were looked at already.
#[inline(always)] // Likewise.
pub(crate) fn whole_segment<B: PacketBuf>(
    header: &TcpFrame,
    options: TcpOptions,
    frame: B,
) -> Result<Segment<B>, DropReason> {
    let payload = if header.payload_len > 0 {
        let at = usize::from(header.payload_at);
        let payload = trim(frame, at, header.payload_len as usize);
        Some(payload.ok_or(DropReason::FrameUnusable)?)
    } else {
        // A frame without payload ends here: nobody needs its bytes any more.
        drop(frame);
        None
    };
    Ok(segment_of(header, options, payload))
}

#[inline(always)] // Put together where it is used.
fn segment_of<B>(header: &TcpFrame, options: TcpOptions, payload: Option<B>) -> Segment<B> {
    let TcpFrame {
        tuple: _,
        seq,
        ack,
        flags,
        window,
        traffic_class,
        carried: _,
        options_at: _,
        payload_at: _,
        payload_len,
    } = *header;
    Segment {
        seq,
        ack,
        flags,
        window,
        traffic_class,
        options,
        payload,
        payload_len,
    }
}

impl<P: PacketPool> Stack<P> {
    /// Takes a segment that belongs to no connection; `owner` is whom it belongs to.
    pub(crate) fn on_other_segment(
        &mut self,
        owner: Option<Owner>,
        arrived: Arrived<'_, P::Buf>,
        pool: &mut P,
    ) -> Result<(), DropReason> {
        match owner {
            Some(Owner::Connection(index)) => {
                count!(self.stats.ip_in_delivers);
                self.deliver_one(index, arrived, pool)
            }
            Some(Owner::Request(index)) => {
                count!(self.stats.ip_in_delivers);
                self.on_request_segment(index, arrived, pool)
            }
            // behaviour: A6-11
            Some(Owner::TimeWait(index)) => {
                count!(self.stats.ip_in_delivers);
                self.on_time_wait_segment(index, arrived, pool)
            }
            None => {
                let tuple = &arrived.header.tuple;
                if let Err(reason) = admissible(tuple, &self.network.interfaces) {
                    count!(self.stats.ip_in_addr_errors);
                    return Err(reason);
                }
                count!(self.stats.ip_in_delivers);
                match self.listener_for(tuple.local, &arrived) {
                    Some(listener) => self.on_listener_segment(listener, arrived, None, pool),
                    None => self.refuse(arrived, None, pool),
                }
            }
        }
    }

    /// The listener for what comes in on `port` (behaviour: A7-5, LSN-39, OPT-26).
    fn listener_for<B>(&self, local: Endpoint, arrived: &Arrived<'_, B>) -> Option<Chosen> {
        let listener = self.listeners.lookup(local, arrived.hash)?;
        let bound = listener.options.port;
        let is_for_it = bound.is_none_or(|bound| bound == arrived.port);
        is_for_it.then_some(Chosen {
            id: listener.id,
            backlog: listener.options.backlog,
        })
    }

    /// Removes a half-open request from all tables.
    pub(crate) fn remove_request(&mut self, index: u32) {
        if let Some(request) = self.take_request(index) {
            self.leave(&request.half_open.tuple, Owner::Request(index));
        }
    }

    /// Removes a half-open request from all tables but the one of tuples.
    fn take_request(&mut self, index: u32) -> Option<Request> {
        let request = self.requests.remove(index)?;
        if let Some(pending) = self.listeners.pending_mut(request.half_open.listener) {
            pending.requests = pending.requests.saturating_sub(1);
            pending.flooded &= pending.requests > 0;
            if request.timeouts == 0 {
                pending.young = pending.young.saturating_sub(1);
            }
        }
        Some(request)
    }

    /// The SYN-ACK of a request was not answered in time; `first` when that has not happened before.
    pub(crate) fn on_request_timeout(&mut self, index: u32, first: bool) {
        let Some(request) = self.requests.get(index) else {
            return;
        };
        let listener = request.half_open.listener;
        if first && let Some(pending) = self.listeners.pending_mut(listener) {
            pending.young = pending.young.saturating_sub(1);
        }
    }

    fn on_request_segment(
        &mut self,
        index: u32,
        arrived: Arrived<'_, P::Buf>,
        pool: &mut P,
    ) -> Result<(), DropReason> {
        let request = self.requests.get(index).ok_or(DropReason::Bug)?;
        let listener = request.half_open.listener;
        // behaviour: A6-12 A13-1
        if self.listeners.by_id(listener).is_none() {
            self.remove_request(index);
            return self.refuse(arrived, None, pool);
        }
        let now = arrived.now;
        let segment = arrived.bare_segment();
        let is_signed = self.check_at_listener(listener, &arrived, segment.options.md5)?;
        let request = self.requests.get(index).ok_or(DropReason::Bug)?;
        let retries = self.tunables.tcp_synack_retries;
        let patience = self.listeners.patience(listener, retries);
        let whose = (listener, &request.hop);
        let mut room = None;
        let tunables = group_knobs_of(&self.group_knobs, &self.tunables, whose, &mut room);
        match self
            .requests
            .on_segment(index, now, &segment, tunables, patience)
        {
            RequestVerdict::SynAgain => {
                self.stats.drop(DropReason::RequestSynAgain);
                self.send_syn_ack_again(now, index, Some(arrived.frame), pool);
            }
            RequestVerdict::Acknowledge { paws } => {
                if paws {
                    count!(self.stats.paws_estab);
                }
                self.stats.drop(DropReason::RequestOutOfWindow);
                let half_open = self.requests.get(index).map(|request| request.half_open);
                let half_open = half_open.ok_or(DropReason::Bug)?;
                let header = half_open.acknowledgment(now, tunables);
                let whose = is_signed.then_some(listener);
                let tuple = &half_open.tuple;
                self.send_of_listener(now, tuple, (&header, whose, 0), Some(arrived.frame), pool);
            }
            RequestVerdict::Limited => {
                count!(self.stats.tcp_ack_skipped_syn_recv);
                self.stats.drop(DropReason::RequestOutOfWindow);
            }
            RequestVerdict::BadAck => return self.refuse(arrived, Some(listener), pool),
            RequestVerdict::Reset { by_rst } => {
                count!(self.stats.tcp_attempt_fails);
                count!(self.stats.embryonic_rsts);
                self.stats.drop(DropReason::RequestReset);
                self.remove_request(index);
                if !by_rst {
                    return self.refuse(arrived, Some(listener), pool);
                }
            }
            RequestVerdict::NoAck => self.stats.drop(DropReason::RequestNoAck),
            // behaviour: A10-16, X1-20
            RequestVerdict::Deferred => {
                count!(self.stats.tcp_defer_accept_drop);
                self.stats.drop(DropReason::RequestDeferred);
            }
            RequestVerdict::Complete => return self.complete_request(index, arrived, pool),
        }
        Ok(())
    }

    /// The final ACK of a request came: a connection begins, unless there is no room for it.
    fn complete_request(
        &mut self,
        index: u32,
        arrived: Arrived<'_, P::Buf>,
        pool: &mut P,
    ) -> Result<(), DropReason> {
        let request = self.requests.get(index).ok_or(DropReason::Bug)?;
        let listener = request.half_open.listener;
        if self.is_backlog_full(listener) || self.is_full_for_clients() {
            // behaviour: A10-20. The SYN-ACK goes on being sent, so that a client that has nothing
            // to say repeats its ACK when there may be room (Linux: syn_ack_recalc).
            count!(self.stats.listen_overflows);
            self.count_listen_drop(listener);
            if self.tunables.tcp_abort_on_overflow {
                count!(self.stats.embryonic_rsts);
                self.remove_request(index);
                return self.refuse(arrived, Some(listener), pool);
            }
            if let Some(request) = self.requests.get_mut(index) {
                request.acked = true;
            }
            self.stats.drop(DropReason::RequestOverflow);
            return Ok(());
        }
        let request = self.take_request(index).ok_or(DropReason::Bug)?;
        let hash = arrived.hash;
        let begin = Begin {
            now: arrived.now,
            half_open: &request.half_open,
            syn_acks: request.syn_acks(),
            hop: request.hop,
            owner: Some(Owner::Request(index)),
        };
        let begun = self.begin_passive(&begin, hash);
        if begun.is_err() {
            self.flows.remove(hash, Owner::Request(index));
        }
        self.deliver_one(begun?, arrived, pool)
    }

    /// Makes a connection of an agreed handshake; feed it the final ACK next. `hash` is the tuple's.
    pub(crate) fn begin_passive(
        &mut self,
        begin: &Begin<'_>,
        hash: FlowHash,
    ) -> Result<u32, DropReason> {
        let Begin {
            now,
            half_open,
            syn_acks,
            hop,
            owner: before,
        } = *begin;
        let remote = half_open.tuple.remote.address;
        let hop = self.network.route_again(remote, hop);
        let hop = hop.ok_or(DropReason::NoRouteBack)?;
        let whose = (half_open.listener, &hop);
        let mut room = None;
        let tunables = group_knobs_of(&self.group_knobs, &self.tunables, whose, &mut room);
        let handshake = half_open.handshake(hop.mtu(), syn_acks, tunables);
        // Made where it is moved from: each copy of it is as dear as a lookup.
        let mut slot = Slot {
            connection: Connection::accept(&handshake, tunables, now),
            meta: Meta::new(0, Some(half_open.listener), hop),
        };
        if !self.keys.is_empty()
            && let Some(key) = self.keys.of_listener(half_open.listener, remote)
        {
            let mut env = Env {
                now,
                pool: &mut Self::no_pool(),
                chunks: &mut self.chunks,
                stats: &mut self.stats,
                tunables,
            };
            // behaviour: A26-3
            if !slot.connection.set_signing_key(Some(key), &mut env) {
                slot.connection.release(env.chunks);
                return Err(DropReason::ConnectionTableFull);
            }
        }
        let key = match self.connections.insert(slot, DESKS_PER_SEARCH_MAX) {
            Ok(key) => key,
            Err(mut slot) => {
                slot.connection.release(&mut self.chunks);
                return Err(DropReason::ConnectionTableFull);
            }
        };
        let owner = Owner::Connection(key.index());
        let entered = match before {
            Some(request) => self.flows.replace(hash, request, owner),
            None => self.enter(hash, &half_open.tuple, owner).is_ok(),
        };
        if !entered {
            if let Some(mut slot) = self.connections.remove(key) {
                slot.connection.release(&mut self.chunks);
            }
            return Err(DropReason::ConnectionTableFull);
        }
        count!(self.stats.tcp_passive_opens);
        if let Some(pending) = self.listeners.pending_mut(half_open.listener) {
            pending.accepted = pending.accepted.saturating_add(1);
        }
        Ok(key.index())
    }

    fn on_time_wait_segment(
        &mut self,
        index: u32,
        arrived: Arrived<'_, P::Buf>,
        pool: &mut P,
    ) -> Result<(), DropReason> {
        let (now, header) = (arrived.now, arrived.header);
        let tuple = header.tuple;
        let segment = arrived.bare_segment();
        // behaviour: A26-23
        if self.time_waits.rejects(index, now, &segment) {
            count!(self.stats.paws_estab);
        }
        let (verdict, change) = self.time_waits.on_segment(index, now, &segment);
        if let Some(change) = change {
            self.tuple_changes.push(change);
        }
        if let TimeWaitVerdict::Reopen { isn } = verdict
            && let Some(listener) = self.listener_for(tuple.local, &arrived)
        {
            // behaviour: A6-25
            if let Some(gone) = self.time_waits.remove(index) {
                self.leave_time_wait(gone);
            }
            count!(self.stats.tw_recycled);
            return self.on_listener_segment(listener, arrived, Some(isn), pool);
        }
        self.stats.drop(DropReason::TimeWaitHandled);
        match verdict {
            TimeWaitVerdict::Silence => {}
            // behaviour: X1-16
            TimeWaitVerdict::Limited { in_fin_wait2: true } => {
                count!(self.stats.tcp_ack_skipped_fin_wait2);
            }
            TimeWaitVerdict::Limited {
                in_fin_wait2: false,
            } => count!(self.stats.tcp_ack_skipped_time_wait),
            TimeWaitVerdict::Killed => {
                self.keys.forget(&tuple);
                self.leave(&tuple, Owner::TimeWait(index));
            }
            TimeWaitVerdict::Refuse => {
                self.keys.forget(&tuple);
                self.leave(&tuple, Owner::TimeWait(index));
                return self.refuse(arrived, None, pool);
            }
            // behaviour: A6-26
            TimeWaitVerdict::Acknowledge | TimeWaitVerdict::Reopen { .. } => {
                if let Some((tuple, header)) = self.time_waits.acknowledgment(index, now) {
                    // behaviour: A26-3
                    let key = self.keys.of_resting(&tuple).copied();
                    let signed = (&header, key.as_ref());
                    self.send_signed(now, &tuple, signed, Some(arrived.frame), pool);
                }
            }
        }
        Ok(())
    }

    /// A segment for a listener (RFC 9293 section 3.10.7.2): a SYN, a cookie, or nothing of ours.
    /// `reuse` is the initial sequence number when a TIME_WAIT record gave way.
    fn on_listener_segment(
        &mut self,
        listener: Chosen,
        arrived: Arrived<'_, P::Buf>,
        reuse: Option<SeqNumber>,
        pool: &mut P,
    ) -> Result<(), DropReason> {
        let flags = arrived.header.flags;
        // behaviour: LSN-34
        let segment = arrived.bare_segment();
        let is_signed = self.check_at_listener(listener.id, &arrived, segment.options.md5)?;
        if flags.rst() {
            return Err(DropReason::ListenerIgnored);
        }
        // behaviour: LSN-33
        if flags.ack() {
            return self.on_listener_ack(listener, arrived, pool);
        }
        // behaviour: LSN-35 LSN-36
        if !flags.syn() || flags.fin() {
            return Err(DropReason::ListenerFlags);
        }
        self.on_syn(listener, arrived, (&segment, is_signed), reuse, pool)
            .inspect_err(|_| self.count_listen_drop(listener.id))
    }

    /// Linux: `tcp_listendrop`.
    pub(crate) fn count_listen_drop(&mut self, listener: ListenerId) {
        count!(self.stats.listen_drops);
        if let Some(pending) = self.listeners.pending_mut(listener) {
            pending.drops = pending.drops.wrapping_add(1);
        }
    }

    /// behaviour: A18-14 A18-15 LSN-7 LSN-8 LSN-10
    fn on_syn(
        &mut self,
        listener: Chosen,
        arrived: Arrived<'_, P::Buf>,
        (segment, is_signed): (&Segment<P::Buf>, bool),
        reuse: Option<SeqNumber>,
        pool: &mut P,
    ) -> Result<(), DropReason> {
        let now = arrived.now;
        let signed_by = is_signed.then_some(listener.id);
        if let Some(reason) = self.sheds_new_work() {
            return Err(reason);
        }
        let wants_cookie = self.wants_cookie(listener, reuse.is_some())?;
        if self.has_backlog_over(listener.id, listener.backlog) {
            count!(self.stats.listen_overflows);
            return Err(DropReason::AcceptQueueFull);
        }
        let tuple = arrived.header.tuple;
        // behaviour: LSN-15
        let route = self.network.route(tuple.remote.address);
        let hop = route.ok_or(DropReason::NoRouteBack)?;
        if self.tunables.tcp_syncookies == 0 && reuse.is_none() {
            self.check_last_quarter(now, listener.id, &tuple)?;
        }
        let arrival = Arrival {
            now,
            tuple,
            listener: listener.id,
            mtu: hop.mtu(),
        };
        let whose = (listener.id, &hop);
        let mut room = None;
        let tunables = group_knobs_of(&self.group_knobs, &self.tunables, whose, &mut room);
        let mut half_open = HalfOpen::from_syn(&arrival, segment, reuse, &self.secrets, tunables);
        let half_open_mark = half_open.ecn.mark(false);
        if wants_cookie {
            // behaviour: LSN-11
            count!(self.stats.syncookies_sent);
            self.cookie_sent_at = Some(now);
            let header = half_open.into_cookie(now, &self.secrets, tunables);
            let whole = (&header, signed_by, half_open_mark);
            self.send_of_listener(now, &tuple, whole, Some(arrived.frame), pool);
            return Ok(());
        }
        if is_signed {
            half_open.make_room_for_signature();
        }
        let mut header = half_open.syn_ack(now, tunables);
        let mut cookie = None;
        if segment.payload_len > 0 || segment.options.fastopen.is_some() {
            let begin = Begin {
                now,
                half_open: &half_open,
                syn_acks: SynAcks::Unknown,
                hop,
                owner: None,
            };
            match self.try_fast_open(listener, &segment.options, &begin, arrived.hash) {
                FastOpenAnswer::Child(index) => {
                    self.feed_child(index, arrived, pool);
                    return Ok(());
                }
                FastOpenAnswer::Cookie(given) => cookie = given,
            }
        }
        let whose = (listener.id, &hop);
        let mut room = None;
        let tunables = group_knobs_of(&self.group_knobs, &self.tunables, whose, &mut room);
        let index = self.requests.insert(now, half_open, hop, tunables);
        let index = index.ok_or(DropReason::SynQueueFull)?;
        let entered = self.enter(arrived.hash, &tuple, Owner::Request(index));
        if entered.is_err() {
            self.requests.remove(index);
            count!(self.stats.tcp_req_q_full_drop);
            return Err(DropReason::SynQueueFull);
        }
        if let Some(pending) = self.listeners.pending_mut(listener.id) {
            pending.requests = pending.requests.saturating_add(1);
            pending.young = pending.young.saturating_add(1);
        }
        // A cookie has no room beside a signature.
        header.options.fastopen = cookie.filter(|_| !is_signed);
        let whole = (&header, signed_by, half_open_mark);
        self.send_of_listener(now, &tuple, whole, Some(arrived.frame), pool);
        Ok(())
    }

    /// Whether a SYN is answered by a cookie because there is no room to remember it; an error when
    /// there are no cookies either. A tuple that was in TIME_WAIT is its peer's for certain.
    ///
    /// behaviour: A17-4, A17-5, LSN-9, TUN-7
    fn wants_cookie(&mut self, listener: Chosen, reused: bool) -> Result<bool, DropReason> {
        let requests = self.listeners.pending(listener.id).requests;
        let cookies = self.tunables.tcp_syncookies;
        let is_full = requests > listener.backlog && !reused;
        if is_full || self.requests.is_full() || (cookies == 2 && !reused) {
            self.tell_flood(listener.id);
            if cookies == 0 {
                count!(self.stats.tcp_req_q_full_drop);
                return Err(DropReason::SynQueueFull);
            }
            count!(self.stats.tcp_req_q_full_do_cookies);
            return Ok(true);
        }
        Ok(false)
    }

    /// Once per flood: until the queue has been empty. With `tcp_syncookies` 2 cookies are no sign.
    fn tell_flood(&mut self, listener: ListenerId) {
        if self.tunables.tcp_syncookies == 2 {
            return;
        }
        if let Some(pending) = self.listeners.pending_mut(listener)
            && !core::mem::replace(&mut pending.flooded, true)
        {
            count!(self.stats.syn_floods);
        }
    }

    /// An ACK to a listener is a cookie come back, or a reason for a RST.
    fn on_listener_ack(
        &mut self,
        listener: Chosen,
        arrived: Arrived<'_, P::Buf>,
        pool: &mut P,
    ) -> Result<(), DropReason> {
        let (now, header) = (arrived.now, arrived.header);
        // behaviour: A17-1. Without a recent overflow no cookie of ours can be out there.
        let valid = Nanos::from_secs(COOKIE_VALID_SECS);
        let recent = self.cookie_sent_at.is_some_and(|at| now.since(at) < valid);
        if !recent || header.flags.syn() {
            return self.refuse(arrived, Some(listener.id), pool);
        }
        let tuple = header.tuple;
        let route = self.network.route(tuple.remote.address);
        let hop = route.ok_or(DropReason::NoRouteBack)?;
        let arrival = Arrival {
            now,
            tuple,
            listener: listener.id,
            mtu: hop.mtu(),
        };
        let segment = arrived.bare_segment();
        let whose = (listener.id, &hop);
        let mut room = None;
        let tunables = group_knobs_of(&self.group_knobs, &self.tunables, whose, &mut room);
        let half_open = HalfOpen::from_cookie(&arrival, &segment, &self.secrets, tunables);
        let Some(half_open) = half_open else {
            count!(self.stats.syncookies_failed);
            self.refuse(arrived, Some(listener.id), pool)?;
            return Err(DropReason::CookieInvalid);
        };
        if self.is_backlog_full(listener.id) || self.is_full_for_clients() {
            count!(self.stats.listen_overflows);
            self.count_listen_drop(listener.id);
            return Err(DropReason::AcceptQueueFull);
        }
        count!(self.stats.syncookies_recv);
        let begin = Begin {
            now,
            half_open: &half_open,
            syn_acks: SynAcks::Unknown,
            hop,
            owner: None,
        };
        let begun = self.begin_passive(&begin, arrived.hash)?;
        self.deliver_one(begun, arrived, pool)
    }

    /// Checks the signature of a segment to a listener or to one of its requests; `claims` when it
    /// says that it has one. Tells whether answers are signed.
    #[inline]
    fn check_at_listener(
        &mut self,
        listener: ListenerId,
        arrived: &Arrived<'_, P::Buf>,
        claims: bool,
    ) -> Result<bool, DropReason> {
        if !claims && self.keys.is_empty() {
            return Ok(false);
        }
        let peer = arrived.header.tuple.remote.address;
        // behaviour: A19-8
        let key = self.keys.of_listener(listener, peer);
        signature::check(key, arrived.header, &arrived.frame, &mut self.stats)?;
        Ok(key.is_some())
    }

    /// Answers a segment that belongs to nobody, or to the half-open request of a listener, with a
    /// RST, unless it is one.
    //= https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.1
    //# all data in the incoming segment is discarded. An incoming segment containing a RST is
    //# discarded. An incoming segment not containing a RST causes a RST to be sent in response.
    fn refuse(
        &mut self,
        arrived: Arrived<'_, P::Buf>,
        listener: Option<ListenerId>,
        pool: &mut P,
    ) -> Result<(), DropReason> {
        let is_plain = arrived.header.carried != Carried::Options && self.keys.is_empty();
        let key = if is_plain || arrived.header.flags.rst() {
            None
        } else {
            self.key_of_reset(&arrived, listener)?
        };
        let Arrived {
            now, header, frame, ..
        } = arrived;
        if header.flags.rst() {
            return Err(DropReason::NoConnection);
        }
        if !self.reset_budget.take(now) {
            return Err(DropReason::ResetLimited);
        }
        let reset = if header.flags.ack() {
            ResetSegment::refusing(header.ack)
        } else {
            let end = header.end();
            ResetSegment::answer(SeqNumber::new(0), Some(end))
        };
        let reply = reset_header(&header.tuple, reset);
        let signed = (&reply, key.as_ref());
        self.send_signed(now, &header.tuple, signed, Some(frame), pool);
        Err(DropReason::NoConnection)
    }

    pub(crate) fn send_syn_ack_again(
        &mut self,
        now: Instant,
        index: u32,
        frame: Option<P::Buf>,
        pool: &mut P,
    ) {
        let Some(request) = self.requests.get_mut(index) else {
            return;
        };
        request.retransmissions = request.retransmissions.saturating_add(1);
        let (half_open, hop) = (request.half_open, request.hop);
        let request_timeouts = request.timeouts;
        let whose = (half_open.listener, &hop);
        let mut room = None;
        let tunables = group_knobs_of(&self.group_knobs, &self.tunables, whose, &mut room);
        let mut header: TcpRepr = half_open.syn_ack(now, tunables);
        if request_timeouts > 0 {
            //= https://www.rfc-editor.org/rfc/rfc9768#section-3.2.3.2.2
            //# If this retransmission times out, to further expedite connection setup, the TCP
            //# Server SHOULD retry the SYN/ACK without any AccECN Option
            header.options.accecn = None;
        }
        // behaviour: A10-25
        count!(self.stats.tcp_retrans_segs);
        count!(self.stats.tcp_syn_retrans);
        let whole = (&header, Some(half_open.listener), half_open.ecn.mark(false));
        self.send_of_listener(now, &half_open.tuple, whole, frame, pool);
    }

    /// Sends a segment of a request, with a signature if the listener `signed_by` has a key for the
    /// peer.
    #[inline]
    fn send_of_listener(
        &mut self,
        now: Instant,
        tuple: &FlowTuple,
        (header, signed_by, traffic_class): (&TcpRepr, Option<ListenerId>, u8),
        frame: Option<P::Buf>,
        pool: &mut P,
    ) {
        let Some(listener) = signed_by.filter(|_| !self.keys.is_empty()) else {
            return self.send_marked(now, tuple, (header, None, traffic_class), frame, pool);
        };
        let key = self.keys.of_listener(listener, tuple.remote.address);
        let key = key.copied();
        self.send_marked(
            now,
            tuple,
            (header, key.as_ref(), traffic_class),
            frame,
            pool,
        );
    }

    /// behaviour: A18-15. Strictly greater: one more than the backlog may wait.
    fn is_backlog_full(&self, listener: ListenerId) -> bool {
        let backlog = self
            .listeners
            .by_id(listener)
            .map_or(0, |row| row.options.backlog);
        self.has_backlog_over(listener, backlog)
    }

    #[inline]
    fn has_backlog_over(&self, listener: ListenerId, backlog: u32) -> bool {
        self.listeners.pending(listener).accepted > backlog
    }
}

/// Narrows a frame to the bytes `start .. start + len`: headers off the front, link padding off the
/// end. `start` lies in the first segment or at its end. `None` when the first segment is shared.
pub(crate) fn trim<B: PacketBuf>(mut frame: B, start: usize, len: usize) -> Option<B> {
    let end = start.checked_add(len)?;
    let excess = frame.frame_len().checked_sub(end)?;
    let first_len = frame.bytes().len();
    let offset = frame.offset().checked_add(start)?;
    if end <= first_len {
        drop(frame.detach_next());
        return frame.set_span(offset, len).then_some(frame);
    }
    // The payload goes on in further segments. Link padding never does (only frames below 60 bytes
    // are padded), so a chain with excess is cut segment by segment, which is slow and never
    // happens.
    let rest_len = len.checked_sub(first_len.checked_sub(start)?)?;
    let mut rest = frame.detach_next()?;
    if excess > 0 {
        rest = cut(rest, rest_len)?;
    }
    if start == first_len {
        return Some(rest);
    }
    if !frame.set_span(offset, first_len.checked_sub(start)?) {
        return None;
    }
    frame.append(rest).ok()?;
    Some(frame)
}

/// Cuts a chain to its first `len` bytes. Recursion is bounded by the 255 segments of a chain.
fn cut<B: PacketBuf>(mut chain: B, len: usize) -> Option<B> {
    let first_len = chain.bytes().len();
    let next = chain.detach_next();
    if len <= first_len {
        let offset = chain.offset();
        return chain.set_span(offset, len).then_some(chain);
    }
    let rest = cut(next?, len.checked_sub(first_len)?)?;
    chain.append(rest).ok()?;
    Some(chain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_base::{HeapBuf, HeapPool};

    fn chain(pool: &mut HeapPool, parts: &[&[u8]]) -> HeapBuf {
        let mut parts = parts.iter();
        let first = parts.next().expect("one part");
        let mut frame = pool.receive(first).expect("room");
        for part in parts {
            frame
                .append(pool.receive(part).expect("room"))
                .expect("unique");
        }
        frame
    }

    #[test]
    fn a_frame_is_narrowed_to_its_payload_over_all_its_segments() {
        let mut pool = HeapPool::new(16, 512);
        let whole: [&[&[u8]]; 4] = [
            &[b"headPAYLOAD"],
            &[b"headPAY", b"LOAD"],
            &[b"head", b"PAY", b"LOAD"],
            &[b"headP", b"AY", b"LOADpad", b"pad"],
        ];
        for parts in whole {
            let trimmed = trim(chain(&mut pool, parts), 4, 7).expect("unique");
            assert_eq!(trimmed.to_vec(), b"PAYLOAD");
            assert!(trimmed.segments().all(|segment| !segment.is_empty()));
        }
        let padded = trim(chain(&mut pool, &[b"headPAYpadding"]), 4, 3).expect("unique");
        assert_eq!(padded.to_vec(), b"PAY");
        drop(padded);
        assert_eq!(pool.live(), 0);
    }

    #[test]
    fn a_shared_frame_is_not_narrowed() {
        let mut pool = HeapPool::new(2, 512);
        let frame = pool.receive(b"headPAY").expect("room");
        let _other = frame.share().expect("shares");
        assert!(trim(frame, 4, 3).is_none());
    }
}
