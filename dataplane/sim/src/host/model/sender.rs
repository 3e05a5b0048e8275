//! The sending half: a buffer, a window, a congestion window, one timer.
//!
//! Places count from the SYN, which is 0. Congestion control is RFC 5681 with the recovery of
//! RFC 6582; timeouts are RFC 6298.

use std::collections::VecDeque;

use millrace_base::{Instant, Nanos};

/// RFC 6298 section 2, with Linux's lower bound.
const RTO_FIRST: Nanos = Nanos::from_secs(1);
const RTO_MIN: Nanos = Nanos::from_millis(200);
const RTO_MAX: Nanos = Nanos::from_secs(60);
/// Timeouts in a row after which the peer is gone.
const TIMEOUTS_MAX: u32 = 15;
/// Duplicates that mean a loss.
const DUPLICATES: u32 = 3;
/// Segments of the first window (RFC 6928).
const WINDOW_FIRST: u64 = 10;

/// What leaves next: `start..end` and whether the FIN is behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) fin: bool,
}

/// The half.
#[derive(Debug)]
pub(super) struct Sender {
    /// Bytes from `una` on; the SYN is not in here.
    bytes: VecDeque<u8>,
    /// SND.UNA, SND.NXT, and the highest that was ever sent.
    pub(super) una: u64,
    pub(super) nxt: u64,
    pub(super) max: u64,
    /// The right edge of the peer's window, and the place where we ended the stream.
    pub(super) edge: u64,
    fin_at: Option<u64>,
    pub(super) mss: u64,
    cwnd: u64,
    ssthresh: u64,
    duplicates: u32,
    /// Recovery ends here.
    recover: Option<u64>,
    /// The hole at `una` is to be filled.
    resend: bool,
    srtt: Option<(Nanos, Nanos)>,
    rto: Nanos,
    timeouts: u32,
    pub(super) timer: Option<Instant>,
    /// A sample under way: up to which place, since when.
    timed: Option<(u64, Instant)>,
    probe: bool,
}

impl Sender {
    pub(super) const fn new(mss: u64) -> Self {
        Self {
            bytes: VecDeque::new(),
            una: 0,
            nxt: 0,
            max: 0,
            edge: 1,
            fin_at: None,
            mss,
            cwnd: WINDOW_FIRST * mss,
            ssthresh: u64::MAX,
            duplicates: 0,
            recover: None,
            resend: false,
            srtt: None,
            rto: RTO_FIRST,
            timeouts: 0,
            timer: None,
            timed: None,
            probe: false,
        }
    }

    /// The peer's SYN has said how large its segments may be.
    pub(super) fn set_mss(&mut self, mss: u64) {
        self.mss = mss;
        self.cwnd = WINDOW_FIRST * mss;
    }

    /// Takes bytes of the program's, as many as there is room for.
    pub(super) fn push(&mut self, bytes: &[u8], room: usize) -> usize {
        let count = bytes.len().min(room.saturating_sub(self.bytes.len()));
        self.bytes.extend(bytes.iter().take(count));
        count
    }

    /// The stream ends behind what is there.
    pub(super) fn end(&mut self) {
        let end = self.stream_end();
        self.fin_at.get_or_insert(end);
    }

    /// Whether the peer has acknowledged our FIN.
    pub(super) fn is_done(&self) -> bool {
        self.fin_at.is_some_and(|fin_at| self.una > fin_at)
    }

    /// Whether too many timeouts have passed.
    pub(super) const fn gives_up(&self) -> bool {
        self.timeouts > TIMEOUTS_MAX
    }

    fn stream_end(&self) -> u64 {
        self.una.max(1) + self.bytes.len() as u64
    }

    /// Bytes of `start..end`.
    pub(super) fn copy(&self, start: u64, end: u64) -> Vec<u8> {
        let from = (start - self.una.max(1)) as usize;
        let len = (end - start) as usize;
        self.bytes.range(from..from + len).copied().collect()
    }

    /// An acknowledgment of everything up to `ack`, with a window up to `edge`. `pure` is a segment
    /// without data that leaves the window as it was.
    pub(super) fn on_ack(&mut self, now: Instant, ack: u64, edge: u64, pure: bool) {
        // Any answer proves that the peer lives.
        self.timeouts = 0;
        if self.edge <= self.una && edge > self.una {
            // Probes may have been refused: from the beginning.
            self.nxt = self.una.max(ack);
        }
        self.edge = edge;
        if ack > self.una {
            self.advance(now, ack);
        } else if ack == self.una && pure && self.max > self.una {
            self.duplicates += 1;
            if self.recover.is_some() {
                self.cwnd += self.mss;
            } else if self.duplicates == DUPLICATES {
                self.ssthresh = ((self.max - self.una) / 2).max(2 * self.mss);
                self.cwnd = self.ssthresh + u64::from(DUPLICATES) * self.mss;
                self.recover = Some(self.max);
                self.resend = true;
            }
        }
    }

    fn advance(&mut self, now: Instant, ack: u64) {
        let fin = u64::from(self.fin_at.is_some_and(|fin_at| ack > fin_at));
        let gone = (ack - fin).saturating_sub(self.una.max(1)) as usize;
        self.bytes.drain(..gone.min(self.bytes.len()));
        let acked = ack - self.una;
        self.una = ack;
        self.nxt = self.nxt.max(ack);
        self.duplicates = 0;
        if let Some((srtt, var)) = self.srtt {
            // Progress ends the backoff.
            self.rto = timeout(srtt.as_nanos(), var.as_nanos());
        }
        if let Some((place, since)) = self.timed
            && ack >= place
        {
            self.sample(now.since(since));
            self.timed = None;
        }
        match self.recover {
            Some(recover) if ack < recover => {
                // A partial acknowledgment: the next hole (RFC 6582 section 3.2).
                self.resend = true;
                self.cwnd = self.cwnd.saturating_sub(acked).max(self.mss) + self.mss;
            }
            Some(_) => {
                self.recover = None;
                self.cwnd = self.ssthresh;
            }
            None if self.cwnd < self.ssthresh => self.cwnd += acked.min(self.mss),
            None => self.cwnd += (self.mss * self.mss / self.cwnd).max(1),
        }
        self.timer = (self.max > self.una).then(|| now.after(self.rto));
    }

    /// RFC 6298 section 2.
    fn sample(&mut self, rtt: Nanos) {
        let rtt = rtt.as_nanos();
        let (srtt, var) = match self.srtt {
            None => (rtt, rtt / 2),
            Some((srtt, var)) => {
                let (srtt, var) = (srtt.as_nanos(), var.as_nanos());
                ((7 * srtt + rtt) / 8, (3 * var + srtt.abs_diff(rtt)) / 4)
            }
        };
        self.srtt = Some((Nanos::new(srtt), Nanos::new(var)));
        self.rto = timeout(srtt, var);
    }

    /// Time passes: a timeout goes back to the first byte that is not acknowledged.
    pub(super) fn on_time(&mut self, now: Instant) {
        if self.timer.is_none_or(|at| at > now) {
            return;
        }
        self.timer = None;
        self.timeouts += 1;
        self.timed = None;
        self.rto = Nanos::new(self.rto.as_nanos() * 2).min(RTO_MAX);
        if self.max > self.una {
            self.ssthresh = ((self.max - self.una) / 2).max(2 * self.mss);
            self.cwnd = self.mss;
            self.recover = None;
            self.duplicates = 0;
            self.nxt = self.una;
        }
        self.probe = self.una > 0 && self.edge <= self.una;
    }

    /// The next piece that may leave now; asked again until there is none.
    pub(super) fn next(&mut self, now: Instant) -> Option<Piece> {
        let piece = self.choose()?;
        let is_new = piece.end + u64::from(piece.fin) > self.max;
        if is_new && self.timed.is_none() && !self.probe {
            self.timed = Some((piece.end, now));
        } else if !is_new {
            // Karn: what was sent twice is not timed.
            self.timed = None;
        }
        let next = piece.end + u64::from(piece.fin);
        self.nxt = self.nxt.max(next);
        self.max = self.max.max(next);
        self.timer.get_or_insert_with(|| now.after(self.rto));
        self.probe = false;
        Some(piece)
    }

    fn choose(&mut self) -> Option<Piece> {
        let end = self.stream_end();
        if core::mem::take(&mut self.resend) && self.una > 0 {
            // What was sent, and not what followed it since: the window may not take that.
            let stop = end.min(self.una + self.mss).min(self.max);
            return Some(self.piece(self.una, stop));
        }
        let start = self.nxt.max(1);
        if self.una == 0 || start > end {
            return None;
        }
        if self.probe {
            // RFC 9293 section 3.8.6.1: a byte that the window does not allow.
            let stop = end.min(self.una + 1);
            return Some(self.piece(self.una, stop)).filter(|piece| !piece.is_empty());
        }
        let limit = self.edge.min(self.una + self.cwnd);
        let stop = end.min(start + self.mss).min(limit.max(start));
        let piece = self.piece(start, stop);
        let is_full = stop - start == self.mss || stop == end;
        // Silly windows (section 3.8.6.2.1): a part only while nothing is under way.
        let may = is_full || start == self.una;
        let is_new = piece.end + u64::from(piece.fin) > self.nxt;
        if is_new && may && !piece.is_empty() {
            return Some(piece);
        }
        None
    }

    /// Data wait and the window is shut, with nothing under way: the timer will probe.
    pub(super) fn watch_window(&mut self, now: Instant) {
        let waits = self.nxt <= self.stream_end() && !self.is_all_sent();
        if self.una > 0 && waits && self.timer.is_none() {
            self.timer = Some(now.after(self.rto));
        }
    }

    fn is_all_sent(&self) -> bool {
        let end = self.stream_end() + u64::from(self.fin_at.is_some());
        self.nxt >= end
    }

    fn piece(&self, start: u64, end: u64) -> Piece {
        let fin = self.fin_at == Some(end);
        Piece { start, end, fin }
    }
}

/// RFC 6298 section 2.3.
fn timeout(srtt: u64, var: u64) -> Nanos {
    Nanos::new(srtt + 4 * var).clamp(RTO_MIN, RTO_MAX)
}

impl Piece {
    const fn is_empty(&self) -> bool {
        self.start == self.end && !self.fin
    }
}
