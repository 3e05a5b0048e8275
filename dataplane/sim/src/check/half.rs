//! One host's half of a connection, and what must hold of every segment it sends.
//!
//! Places in a stream are counted from the SYN, which is 0, so that the first byte is 1.

use millrace_base::SeqNumber;

use super::ranges::Ranges;
use crate::packet::{ECN_FLAGS, Ecn, Segment};
use crate::pattern::Stream;

/// SYN-ACKs of different numbers that may answer one SYN: cookies, and a request that was forgotten
/// and made again.
const GREETINGS_MAX: usize = 8;
/// Bytes of a TCP header without options.
const HEADER_BYTES: usize = 20;
/// What a peer takes that announces no MSS (RFC 9293 section 3.7.1).
const MSS_DEFAULT: [usize; 2] = [536, 1_220];

/// The half.
#[derive(Clone, Debug)]
pub(crate) struct Half {
    stream: Stream,
    mtu: u16,
    is_confused: bool,
    /// A SYN may carry data (RFC 7413).
    is_fast: bool,
    /// We have answered the peer's SYN for good: it is the one of this connection.
    has_answered: bool,
    /// The numbers of our SYN; more than one only before it is known which one the peer took.
    greetings: Vec<SeqNumber>,
    /// The end of what was sent.
    sent_max: i64,
    /// The place of our FIN.
    fin_at: Option<i64>,
    /// Behind it the peer has given no leave to send.
    edge: i64,
    /// The highest acknowledgment sent and the edge that we gave leave to.
    acked: i64,
    given_edge: i64,
    own_scale: Option<u8>,
    own_stamps: bool,
    last_stamp: Option<u32>,
    /// The peer's SYN.
    irs: Option<SeqNumber>,
    arrived: Ranges,
    peer_scale: Option<u8>,
    peer_stamps: bool,
    peer_sacks: bool,
    peer_mss: usize,
    /// The newest stamp of the peer's that reached us.
    newest_echo: Option<u32>,
    /// Our SYN has spoken of ECN, and the peer's.
    own_ecn: bool,
    peer_ecn: bool,
}

/// A sequence number as a place behind `start`.
fn place(number: SeqNumber, start: SeqNumber) -> i64 {
    i64::from(number.distance(start))
}

fn demand(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

impl Half {
    /// The half of a host that writes `stream` in packets of at most `mtu` bytes. Of one whose peer
    /// makes numbers up, answers are not judged. Only of one that `is_fast` a SYN may carry data.
    pub(crate) const fn new(stream: Stream, mtu: u16, is_confused: bool, is_fast: bool) -> Self {
        Self {
            stream,
            mtu,
            is_confused,
            is_fast,
            has_answered: false,
            greetings: Vec::new(),
            sent_max: 0,
            fin_at: None,
            edge: 0,
            acked: 0,
            given_edge: 0,
            own_scale: None,
            own_stamps: false,
            last_stamp: None,
            irs: None,
            arrived: Ranges(Vec::new()),
            peer_scale: None,
            peer_stamps: false,
            peer_sacks: false,
            peer_mss: 0,
            newest_echo: None,
            own_ecn: false,
            peer_ecn: false,
        }
    }

    /// A segment reaches the host.
    pub(super) fn received(&mut self, segment: &Segment<'_>) {
        let header = &segment.header;
        if header.flags.rst() {
            return;
        }
        if header.flags.syn() {
            self.learn_greeting(segment);
            // Of any: which of several was taken nobody sees.
            self.peer_ecn |= header.flags.intersects(ECN_FLAGS);
        }
        let Some(irs) = self.irs else {
            return;
        };
        let start = place(header.seq, irs);
        // What lies before the SYN is of another connection between the same ends.
        self.arrived.insert(start.max(0), start + space(segment));
        if let Some(stamps) = header.options.timestamps {
            let newest = self.newest_echo.get_or_insert(stamps.value);
            if stamps.value.wrapping_sub(*newest).cast_signed() > 0 {
                *newest = stamps.value;
            }
        }
        if !header.flags.ack() {
            if header.flags.syn() {
                self.edge = self.edge.max(1 + i64::from(header.window));
            }
            return;
        }
        self.choose_greeting(header.ack.minus(1));
        if let Some(iss) = self.greetings.first() {
            let scale = match header.flags.syn() {
                true => 0,
                false => self.scale(self.peer_scale),
            };
            let edge = place(header.ack, *iss) + (i64::from(header.window) << scale);
            self.edge = self.edge.max(edge);
        }
    }

    /// Whether this was the number of the peer's SYN.
    pub(super) fn was_greeted_with(&self, number: SeqNumber) -> bool {
        self.irs == Some(number)
    }

    /// The host sends a segment.
    pub(super) fn sent(&mut self, segment: &Segment<'_>) -> Result<(), String> {
        let header = &segment.header;
        let fits = segment.packet_len <= usize::from(self.mtu);
        demand(fits, "a packet larger than the MTU")?;
        if header.flags.rst() {
            return Ok(());
        }
        if header.flags.syn() {
            return self.greet(segment);
        }
        self.choose_greeting(header.seq.minus(1));
        self.has_answered |= self.irs.is_some();
        let Some(iss) = self.greetings.first() else {
            return Err("a segment before any SYN".to_owned());
        };
        let start = place(header.seq, *iss);
        self.check_text(start, segment)?;
        self.check_ecn(segment)?;
        if self.is_confused {
            return Ok(());
        }
        if let Some(irs) = self.irs {
            self.check_acknowledgment(irs, segment)?;
            self.check_window(irs, segment)?;
        }
        self.check_stamps(segment)
    }

    /// The peer's SYN, or a copy of it.
    fn learn_greeting(&mut self, segment: &Segment<'_>) {
        let header = &segment.header;
        let is_settled =
            self.irs.is_some() && (self.sent_max > 1 || self.has_answered || self.is_confused);
        if self.irs == Some(header.seq) || is_settled {
            return;
        }
        self.irs = Some(header.seq);
        self.arrived = Ranges::default();
        let options = &header.options;
        self.peer_scale = options.window_scale;
        self.peer_stamps = options.timestamps.is_some();
        self.peer_sacks = options.sack_permitted;
        let default = MSS_DEFAULT[usize::from(!segment.from.address.is_v4())];
        self.peer_mss = options.mss.map_or(default, usize::from);
    }

    /// Our SYN.
    fn greet(&mut self, segment: &Segment<'_>) -> Result<(), String> {
        let header = &segment.header;
        if self.answers_an_old_syn(segment) {
            return Ok(());
        }
        demand(self.sent_max <= 1 || self.is_fast, "a SYN behind data")?;
        demand(segment.payload.is_empty() || self.is_fast, "data in a SYN")?;
        let holds = self.stream.holds(0, segment.payload);
        demand(holds, "other bytes than the program wrote")?;
        // RFC 3168 section 6.1.1; DCTCP does, as in Linux, but nobody marks what he sends himself.
        demand(
            matches!(segment.ecn, Ecn::NotCapable | Ecn::Ect0),
            "a SYN that leaves marked",
        )?;
        if !self.greetings.contains(&header.seq) {
            demand(self.greetings.len() < GREETINGS_MAX, "one SYN too many")?;
            self.greetings.insert(0, header.seq);
        }
        self.sent_max = self.sent_max.max(1 + segment.payload.len() as i64);
        self.own_ecn |= header.flags.intersects(ECN_FLAGS);
        self.own_scale = header.options.window_scale;
        self.own_stamps = header.options.timestamps.is_some();
        self.given_edge = self.given_edge.max(1 + i64::from(header.window));
        if header.flags.ack() {
            let irs = self.irs.ok_or("an answer to no SYN")?;
            let acked = place(header.ack, irs);
            let with_data = self.is_fast && acked <= self.arrived.contiguous();
            demand(
                acked == 1 || (acked > 1 && with_data),
                "a SYN acknowledges wrongly",
            )?;
            demand(
                self.own_scale.is_none() || self.peer_scale.is_some(),
                "a window scale that was not offered",
            )?;
            demand(
                !self.own_stamps || self.peer_stamps,
                "timestamps that were not offered",
            )?;
            demand(
                !header.options.sack_permitted || self.peer_sacks,
                "SACK that was not offered",
            )?;
            self.acked = self.acked.max(acked);
        }
        Ok(())
    }

    /// A copy of the peer's SYN that comes when all is over meets a listener like any other.
    fn answers_an_old_syn(&self, segment: &Segment<'_>) -> bool {
        let header = &segment.header;
        let is_over = self.fin_at.is_some() && !self.greetings.contains(&header.seq);
        let is_answer = self.irs.is_some_and(|irs| header.ack == irs.plus(1));
        is_over && is_answer && header.flags.ack() && segment.payload.is_empty()
    }

    /// Of several SYNs the one whose number this is; the others are forgotten.
    fn choose_greeting(&mut self, number: SeqNumber) {
        if self.greetings.len() > 1 && self.greetings.contains(&number) {
            self.greetings = vec![number];
        }
    }

    fn check_text(&mut self, start: i64, segment: &Segment<'_>) -> Result<(), String> {
        let flags = segment.header.flags;
        let text_end = start + segment.payload.len() as i64;
        let end = text_end + i64::from(flags.fin());
        demand(start >= 0, "it begins before the stream")?;
        // While memory is short, a FIN is taken for sent with the last data, and leaves when these are sent
        // again (Linux: `tcp_send_fin`): nothing but ACKs stands behind it.
        let is_behind_fin = start == self.sent_max + 1 && self.fin_at.is_none();
        if is_behind_fin && segment.payload.is_empty() && !flags.fin() {
            return Ok(());
        }
        demand(start <= self.sent_max, "it leaves a hole in the stream")?;
        if let Some(fin_at) = self.fin_at {
            let is_before = segment.payload.is_empty() || text_end <= fin_at;
            demand(is_before, "data behind a FIN")?;
            demand(!flags.fin() || text_end == fin_at, "a FIN at another place")?;
        }
        if flags.fin() {
            demand(
                text_end >= self.sent_max || self.fin_at.is_some(),
                "a FIN before data",
            )?;
            self.fin_at = Some(text_end);
        }
        self.sent_max = self.sent_max.max(end);
        if segment.payload.is_empty() {
            return Ok(());
        }
        demand(start >= 1, "data in the place of the SYN")?;
        let holds = self.stream.holds((start - 1) as u64, segment.payload);
        demand(holds, "other bytes than the program wrote")?;
        let options_len = segment.header.header_len() - HEADER_BYTES;
        let len = segment.payload.len() + options_len;
        demand(len <= self.peer_mss, "more than the peer's MSS")?;
        // One byte may probe a window that is shut (RFC 9293 section 3.8.6.1).
        let allowed = self.edge + i64::from(segment.payload.len() == 1);
        demand(text_end <= allowed, "data beyond the peer's window")
    }

    fn check_acknowledgment(
        &mut self,
        irs: SeqNumber,
        segment: &Segment<'_>,
    ) -> Result<(), String> {
        let header = &segment.header;
        demand(header.flags.ack(), "a segment without ACK")?;
        let acked = place(header.ack, irs);
        let arrived = self.arrived.contiguous();
        demand(acked <= arrived, "it acknowledges what has not arrived")?;
        demand(acked >= self.acked, "an acknowledgment goes back")?;
        self.acked = acked;
        let blocks = header.options.sack.as_slice();
        demand(blocks.is_empty() || self.peer_sacks, "SACK without leave")?;
        for (index, (start, end)) in blocks.iter().enumerate() {
            let (start, end) = (place(*start, irs), place(*end, irs));
            demand(start < end, "an empty SACK block")?;
            // The first may report what came late of the connection before.
            let is_older = index == 0 && end <= 0;
            demand(
                is_older || self.arrived.contains(start, end),
                "a SACK of what has not arrived",
            )?;
            // Only the first may report a duplicate (RFC 2883 section 4).
            demand(index == 0 || start > acked, "a SACK block below the ACK")?;
        }
        Ok(())
    }

    fn check_window(&mut self, irs: SeqNumber, segment: &Segment<'_>) -> Result<(), String> {
        let header = &segment.header;
        let scale = self.scale(self.own_scale);
        let edge = place(header.ack, irs) + (i64::from(header.window) << scale);
        // A record of TIME_WAIT or FIN_WAIT2 rounds the window down (Linux: `tw_rcv_wnd`), and needs our
        // FIN; so does one that is half-open (`tcp_v4_reqsk_send_ack`), and has sent a SYN at most.
        let is_record = self.fin_at.is_some() || self.sent_max <= 1;
        let rounded = if is_record { (1 << scale) - 1 } else { 0 };
        // Who had no memory for what it allowed drops it and says 0 (Linux: `ICSK_ACK_NOMEM`).
        demand(
            header.window == 0 || edge + rounded >= self.given_edge,
            "the window's edge goes back",
        )?;
        // From there the window opens anew, as far as there is memory.
        self.given_edge = match header.window {
            0 => edge,
            _ => self.given_edge.max(edge),
        };
        Ok(())
    }

    fn check_stamps(&mut self, segment: &Segment<'_>) -> Result<(), String> {
        let Some(stamps) = segment.header.options.timestamps else {
            let agreed = self.own_stamps && self.peer_stamps;
            return demand(!agreed, "a segment without the timestamps agreed on");
        };
        demand(
            self.own_stamps && self.peer_stamps,
            "timestamps nobody agreed on",
        )?;
        if let Some(last) = self.last_stamp {
            let step = stamps.value.wrapping_sub(last).cast_signed();
            demand(step >= 0, "its clock goes back")?;
        }
        self.last_stamp = Some(stamps.value);
        let newest = self.newest_echo.ok_or("an echo of nothing")?;
        let ahead = stamps.echo.wrapping_sub(newest).cast_signed();
        demand(ahead <= 0, "an echo of a stamp that has not arrived")
    }

    /// What can be marked has to be agreed on, and nobody marks what he sends (RFC 3168 section 6.1).
    fn check_ecn(&self, segment: &Segment<'_>) -> Result<(), String> {
        let agreed = self.own_ecn && self.peer_ecn;
        demand(
            agreed || segment.header.options.accecn.is_none(),
            "counters of marks that nobody agreed on",
        )?;
        match segment.ecn {
            Ecn::NotCapable => Ok(()),
            Ecn::Ect0 | Ecn::Ect1 => demand(agreed, "ECN that nobody agreed on"),
            Ecn::Marked => Err("a segment that leaves marked".to_owned()),
        }
    }

    /// The shift of a window, given the scale that its sender announced.
    fn scale(&self, announced: Option<u8>) -> u8 {
        match (self.own_scale, self.peer_scale) {
            (Some(_), Some(_)) => announced.unwrap_or(0),
            _ => 0,
        }
    }
}

/// The sequence numbers that a segment takes up.
fn space(segment: &Segment<'_>) -> i64 {
    let flags = segment.header.flags;
    segment.payload.len() as i64 + i64::from(flags.syn()) + i64::from(flags.fin())
}
