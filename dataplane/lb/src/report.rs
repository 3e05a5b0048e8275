//! What the lcore tells control: probe results, failing backends, neighbours, listed sessions.
//!
//! Reports are pulled, never pushed: the caller asks for one when the event ring has room, so that
//! nothing is lost to a full ring. What can be many is bounded where it is kept: one failure per
//! backend, as many results as probes, the stack's own queues of neighbours, a few listings. A
//! listing looks at a bounded number of slots per burst; sessions that begin or end while it runs
//! may or may not be in it.

use std::collections::VecDeque;

use millrace_abi::limits::BACKENDS_MAX;
use millrace_abi::{ConnectionRow, Event, ProbeOutcome, TcpState};
use millrace_base::{BackendId, CongestionControl, Endpoint, Instant, PacketPool};
use millrace_stack::{FlowId, Stack, State};

use crate::backend::{Backend, Backends};
use crate::balancer::Balancer;
use crate::limits::{LISTING_SLOTS_PER_BURST_MAX, LISTINGS_MAX};
use crate::session::Session;

/// Reports that wait.
#[derive(Debug)]
pub(crate) struct Reports {
    /// Backends whose row has an `unreported` failure, each once.
    failures: VecDeque<BackendId>,
    listings: VecDeque<Listing>,
    /// The burst that `slots_left` is for.
    burst: Instant,
    slots_left: u32,
}

/// One `ListConnections` under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listing {
    pub(crate) token: u64,
    /// The slot to look at next.
    pub(crate) slot: u32,
    /// Rows still wanted.
    pub(crate) rows_left: u32,
    /// Rows sent.
    pub(crate) count: u32,
}

impl Reports {
    pub(crate) fn new() -> Self {
        Self {
            failures: VecDeque::with_capacity(BACKENDS_MAX),
            listings: VecDeque::with_capacity(LISTINGS_MAX),
            burst: Instant::ZERO,
            slots_left: 0,
        }
    }

    /// Notes that an attempt failed. Until control has read it, further failures of this backend
    /// add nothing.
    pub(crate) fn backend_failed(
        &mut self,
        id: BackendId,
        row: &mut Backend,
        outcome: ProbeOutcome,
    ) {
        if row.unreported.is_none() {
            row.unreported = Some(outcome);
            // Each backend is queued once, so that the queue cannot outgrow the table.
            self.failures.push_back(id);
        }
    }

    /// Begins a listing. Refuses (`false`) when too many are under way.
    #[must_use = "a refused listing must be counted"]
    pub(crate) fn list(&mut self, listing: Listing) -> bool {
        let room = self.listings.len() < LISTINGS_MAX;
        if room {
            self.listings.push_back(listing);
        }
        room
    }

    pub(crate) fn is_listing(&self) -> bool {
        !self.listings.is_empty()
    }

    fn poll_failure(&mut self, backends: &mut Backends) -> Option<Event> {
        let backend = self.failures.pop_front()?;
        let reason = backends.get_mut(backend)?.unreported.take()?;
        Some(Event::BackendFailed { backend, reason })
    }

    /// Takes one slot of this burst's budget.
    fn take_slot(&mut self, now: Instant) -> bool {
        if now != self.burst {
            self.burst = now;
            self.slots_left = LISTING_SLOTS_PER_BURST_MAX;
        }
        let left = self.slots_left > 0;
        self.slots_left = self.slots_left.saturating_sub(1);
        left
    }
}

impl Balancer {
    /// The next report for control. Call it while the event ring has room, until `None`; what is
    /// left (a long listing) comes with later bursts.
    pub fn poll_report<P: PacketPool>(
        &mut self,
        now: Instant,
        stack: &mut Stack<P>,
    ) -> Option<Event> {
        if let Some(result) = self.probes.poll_result() {
            return Some(Event::ProbeResult {
                token: result.token,
                outcome: result.outcome,
                rtt_us: result.rtt_us,
            });
        }
        if let Some(request) = stack.poll_neighbor_request() {
            return Some(Event::NeighborNeeded {
                port: request.port,
                address: request.address,
            });
        }
        if let Some((port, address)) = stack.poll_confirmation() {
            return Some(Event::NeighborConfirmed { port, address });
        }
        if let Some(failure) = self.reports.poll_failure(&mut self.tables.backends) {
            return Some(failure);
        }
        self.poll_listing(now, stack)
    }

    fn poll_listing<P: PacketPool>(&mut self, now: Instant, stack: &Stack<P>) -> Option<Event> {
        // Bounded by `take_slot`.
        while let Some(listing) = self.reports.listings.front().copied() {
            let at_end = listing.slot as usize >= self.sessions.capacity();
            if at_end || listing.rows_left == 0 {
                self.reports.listings.pop_front();
                return Some(Event::ConnectionsEnd {
                    token: listing.token,
                    next_cursor: if at_end { 0 } else { u64::from(listing.slot) },
                    count: listing.count,
                });
            }
            if !self.reports.take_slot(now) {
                return None;
            }
            let key = self.sessions.key_at(listing.slot);
            let session = key.and_then(|key| self.sessions.get(key));
            if let Some(listing) = self.reports.listings.front_mut() {
                listing.slot = listing.slot.saturating_add(1);
                if session.is_some() {
                    listing.rows_left = listing.rows_left.saturating_sub(1);
                    listing.count = listing.count.saturating_add(1);
                }
            }
            if let Some(session) = session {
                return Some(Event::ConnectionRow(row(
                    now,
                    listing.token,
                    session,
                    stack,
                )));
            }
        }
        None
    }
}

fn row<P: PacketPool>(
    now: Instant,
    token: u64,
    session: &Session,
    stack: &Stack<P>,
) -> ConnectionRow {
    let client = leg(session.client, stack);
    let server = leg(session.server, stack);
    ConnectionRow {
        token,
        client: client.remote,
        vip: client.local,
        snat: server.local,
        backend: server.remote,
        client_state: client.state,
        backend_state: server.state,
        client_congestion: client.congestion,
        backend_congestion: server.congestion,
        bytes_in: session.bytes_in,
        bytes_out: session.bytes_out,
        age_ms: now.since(session.started.instant()).as_millis(),
        retransmissions: client
            .retransmissions
            .saturating_add(server.retransmissions),
        listener_id: session.listener,
        backend_id: session.backend,
    }
}

/// What a listing shows of one connection.
struct LegRow {
    local: Endpoint,
    remote: Endpoint,
    state: TcpState,
    congestion: Option<CongestionControl>,
    retransmissions: u32,
}

fn leg<P: PacketPool>(flow: FlowId, stack: &Stack<P>) -> LegRow {
    match stack.info(flow) {
        Some(info) => LegRow {
            local: info.tuple.local,
            remote: info.tuple.remote,
            state: state_number(info.state),
            congestion: Some(info.congestion_control),
            retransmissions: info.retransmissions,
        },
        None => LegRow {
            local: Endpoint::default(),
            remote: Endpoint::default(),
            state: TcpState::Closed,
            congestion: None,
            retransmissions: 0,
        },
    }
}

const fn state_number(state: State) -> TcpState {
    match state {
        State::Closed => TcpState::Closed,
        State::Listen => TcpState::Listen,
        State::SynSent => TcpState::SynSent,
        State::SynReceived => TcpState::SynReceived,
        State::Established => TcpState::Established,
        State::FinWait1 => TcpState::FinWait1,
        State::FinWait2 => TcpState::FinWait2,
        State::CloseWait => TcpState::CloseWait,
        State::Closing => TcpState::Closing,
        State::LastAck => TcpState::LastAck,
        State::TimeWait => TcpState::TimeWait,
    }
}
