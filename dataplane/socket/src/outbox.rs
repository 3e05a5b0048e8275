//! What a socket holds back before the stack gets it: less than one segment, by Linux's rules.
//!
//! The last piece of what was written stays here while `TCP_CORK` is set, while `MSG_MORE` promised
//! more and no segment has arrived since, or by Nagle's rule as Minshall put it: while a small
//! segment is not acknowledged. A record's end (`MSG_EOR`) keeps what follows here until the record
//! has left, so that the two never share a segment. Nothing stays longer than a retransmission
//! timeout once nothing is in flight.
//!
//! Linux: `tcp_nagle_check`, `tcp_minshall_check`, `tcp_check_probe_timer`, `tcp_write_wakeup`.

use std::collections::{BTreeSet, VecDeque};

use millrace_base::{Instant, Nanos};
use millrace_stack::FlowInfo;

use crate::file::SocketId;
use crate::sockets::Sockets;

/// The shortest time that bytes are held with nothing in flight (`TCP_RTO_MIN`).
const HOLD_MIN: Nanos = Nanos::from_millis(200);

/// What our side does once the stack has got everything that was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Ending {
    /// It goes on.
    #[default]
    None,
    /// It shuts: a FIN follows.
    Shut,
    /// The socket is closed, and nobody has it any more.
    Closed,
}

/// What a socket holds back, and the marks on its byte stream. Places count bytes written.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    /// Bytes that the stack has not got.
    pub(crate) held: VecDeque<u8>,
    /// What follows them. Only when no packet buffer was free they are still here by then.
    pub(crate) ending: Ending,
    /// The last send promised more, and no segment has arrived since.
    pub(crate) more: bool,
    /// When the held bytes leave anyhow.
    release_at: Instant,
    /// Where records end that have not left.
    records: VecDeque<u64>,
    /// Where the last segment ended that was smaller than it could be (`snd_sml`).
    small_end: u64,
    /// Where a segment carries PSH.
    pub(crate) pushes: BTreeSet<u64>,
    /// Up to where bytes were pushed last (`pushed_seq`).
    pub(crate) pushed_to: u64,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            held: VecDeque::new(),
            ending: Ending::None,
            more: false,
            release_at: Instant::NEVER,
            records: VecDeque::new(),
            small_end: 0,
            pushes: BTreeSet::new(),
            pushed_to: 0,
        }
    }
}

/// Whether the stack may still be given data for a connection.
fn takes_data(info: &FlowInfo) -> bool {
    info.state.accepts_data_to_send() && !info.fin_queued && info.closed.is_none()
}

impl Sockets {
    /// Hands the stack what may leave: whole segments, and the last piece when nothing holds it or
    /// when it is `forced`. Returns whether anything was handed over.
    pub(crate) fn feed(&mut self, id: SocketId, forced: bool) -> bool {
        let mut moved = false;
        // Each round hands over at least a byte or ends.
        while let Some(count) = self.next_piece(id, forced) {
            if self.hand_over_bytes(id, count) == 0 {
                // No packet buffer is free: again when something has left.
                break;
            }
            moved = true;
        }
        moved
    }

    /// Hands the stack everything, whatever holds it. Returns whether anything was handed over.
    pub(crate) fn feed_all(&mut self, id: SocketId) -> bool {
        let held = self.get(id).map_or(0, |socket| socket.outbox.held.len());
        held > 0 && self.hand_over_bytes(id, held) > 0
    }

    /// Hands the stack everything: our side ends. Returns whether it may end now; otherwise it does
    /// when packet buffers are free, and what was written is not forgotten.
    pub(crate) fn feed_to_the_end(&mut self, id: SocketId, ending: Ending) -> bool {
        self.feed_all(id);
        let takes_more = self.info(id).is_some_and(|info| takes_data(&info));
        let Ok(socket) = self.get_mut(id) else {
            return true;
        };
        let is_done = socket.outbox.held.is_empty() || !takes_more;
        socket.outbox.ending = if is_done { Ending::None } else { ending };
        is_done
    }

    /// Whether our side is to end once the stack has got everything.
    pub(crate) fn is_to_end(&self, id: SocketId) -> bool {
        self.get(id)
            .is_ok_and(|socket| socket.outbox.ending != Ending::None)
    }

    /// Feeds every socket that holds something.
    pub(crate) fn feed_outboxes(&mut self) -> bool {
        let holding = self
            .sockets
            .iter()
            .filter(|(_, s)| !s.outbox.held.is_empty());
        let holding: Vec<SocketId> = holding.map(|(id, _)| *id).collect();
        let mut moved = false;
        for id in holding {
            let ending = self
                .get(id)
                .map_or(Ending::None, |socket| socket.outbox.ending);
            if ending == Ending::None {
                moved |= self.feed(id, false);
            } else if self.feed_to_the_end(id, ending) {
                self.end(id, ending);
                moved = true;
            }
        }
        moved
    }

    /// A record ends with what was written last.
    pub(crate) fn end_record(&mut self, id: SocketId) {
        let Ok(socket) = self.get_mut(id) else { return };
        let end = socket.written;
        socket.outbox.records.push_back(end);
        if let Some(last) = socket.buffers.back_mut() {
            last.ends_record = true;
        }
    }

    /// No more is promised.
    pub(crate) fn end_more(&mut self, id: SocketId) {
        if let Ok(socket) = self.get_mut(id) {
            socket.outbox.more = false;
        }
    }

    /// A segment has arrived: promises of more are over for its connection (`tcp_data_snd_check`
    /// knows nothing of `MSG_MORE`).
    pub(crate) fn note_arrival(&mut self) {
        let Self {
            sockets,
            stack,
            now,
            ..
        } = self;
        for socket in sockets.values_mut().filter(|socket| socket.outbox.more) {
            let info = socket.flow.and_then(|flow| stack.info(flow));
            let arrived = |at: Instant| at.as_micros() == now.as_micros();
            if info.is_some_and(|info| arrived(info.received_at)) {
                socket.outbox.more = false;
            }
        }
    }

    /// Held bytes with nothing in flight wait for a timeout.
    pub(crate) fn watch_outboxes(&mut self) {
        let Self {
            sockets,
            stack,
            now,
            ..
        } = self;
        for socket in sockets.values_mut() {
            let info = socket.flow.and_then(|flow| stack.info(flow));
            let outbox = &mut socket.outbox;
            let waiting = info.filter(|info| info.queued_bytes == 0 && takes_data(info));
            let waiting = waiting.filter(|_| !outbox.held.is_empty());
            outbox.release_at = match waiting {
                // What is in flight has a timer of its own, and its ACK looks at the outbox.
                None => Instant::NEVER,
                Some(info) if outbox.release_at == Instant::NEVER => {
                    now.after(info.rto.max(HOLD_MIN))
                }
                Some(_) => outbox.release_at,
            };
        }
    }

    /// Releases what was held for too long.
    pub(crate) fn release_due(&mut self) {
        let now = self.now;
        let due = self
            .sockets
            .iter()
            .filter(|(_, socket)| socket.outbox.release_at.is_due(now));
        let due: Vec<SocketId> = due.map(|(id, _)| *id).collect();
        for id in due {
            self.mark_push(id);
            self.feed_all(id);
            // What found no packet buffer is looked at again after as long a time.
            if let Ok(socket) = self.get_mut(id) {
                socket.outbox.release_at = Instant::NEVER;
            }
        }
    }

    /// When something was held for too long.
    pub(crate) fn next_release(&self) -> Instant {
        let due = self.sockets.values().map(|socket| socket.outbox.release_at);
        due.min().unwrap_or(Instant::NEVER)
    }

    /// Bytes of the next piece that may leave.
    fn next_piece(&self, id: SocketId, forced: bool) -> Option<usize> {
        let socket = self.get(id).ok()?;
        let info = self.info(id)?;
        let outbox = &socket.outbox;
        let handed = socket.written.saturating_sub(outbox.held.len() as u64);
        let record = outbox.records.iter().find(|end| **end > handed).copied();
        let after_record = outbox.records.contains(&handed);
        let end = record.unwrap_or(socket.written);
        let piece = usize::try_from(end.saturating_sub(handed)).ok()?;
        if piece == 0 || (after_record && info.unsent_bytes > 0) {
            return None;
        }
        let sent = info.queued_bytes.saturating_sub(info.unsent_bytes);
        let small_in_flight = sent > 0 && info.bytes_acked < outbox.small_end;
        let nagle = !socket.options.nodelay && small_in_flight;
        let waits = socket.options.cork || outbox.more || nagle;
        // A probe of the path takes from the front what is no multiple of a segment: what is left must
        // be filled up from here.
        if !waits && self.sysctls.tunables().tcp_mtu_probing != 0 {
            return Some(piece);
        }
        let mss = usize::from(info.mss.max(1));
        let whole = piece - piece % mss;
        if whole > 0 {
            return Some(whole);
        }
        // Only the last piece of all is held (`tcp_skb_is_last`).
        if end < socket.written || forced {
            return Some(piece);
        }
        let held = info.unsent_bytes > 0 || (waits && !socket.is_urgent(info.bytes_acked));
        (!held).then_some(piece)
    }

    /// Hands the first `count` held bytes to the stack; returns how many it took.
    fn hand_over_bytes(&mut self, id: SocketId, count: usize) -> usize {
        let mss = self.info(id).map_or(1, |info| usize::from(info.mss.max(1)));
        let Some(socket) = self.sockets.get_mut(&id) else {
            return 0;
        };
        let Some(flow) = socket.flow else {
            return 0;
        };
        let held = socket.outbox.held.make_contiguous();
        let bytes = held.get(..count.min(held.len())).unwrap_or_default();
        let taken = self.stack.send(self.now, flow, bytes, &mut self.pool);
        socket.outbox.held.drain(..taken);
        let handed = socket
            .written
            .saturating_sub(socket.outbox.held.len() as u64);
        let outbox = &mut socket.outbox;
        if !taken.is_multiple_of(mss) {
            outbox.small_end = handed;
        }
        while outbox.records.front().is_some_and(|end| *end < handed) {
            outbox.records.pop_front();
        }
        taken
    }
}
