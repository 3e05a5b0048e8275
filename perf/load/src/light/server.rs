//! The server: answers on every address and port that frames are sent to.

use millrace_base::{PacketBuf, PacketPool};

use super::header::{Say, Segment, Writer, segment_flags};
use super::tuples::hash;
use super::{Closer, Counts, Link, Script};
use segment_flags::{ACK, FIN, PSH, RST, SYN};

/// The server end of any number of connections, at any number of addresses.
#[derive(Clone, Debug)]
pub struct Server {
    writer: Writer,
    script: Script,
    key: u64,
    counts: Counts,
}

impl Server {
    /// A server behind `link`. `key` makes its sequence numbers.
    pub fn new(link: Link, script: Script, key: u64) -> Self {
        Self {
            writer: Writer::new(link),
            script,
            key,
            counts: Counts::default(),
        }
    }

    /// Takes a frame that arrived and sends what it calls for.
    #[inline]
    pub fn handle<P: PacketPool>(
        &mut self,
        frame: &P::Buf,
        now_ms: u32,
        pool: &mut P,
        out: &mut impl FnMut(P::Buf),
    ) {
        let Some(segment) = self.writer.receive(frame, &mut self.counts) else {
            return;
        };
        if segment.has(RST) {
            self.counts.resets += 1;
            return;
        }
        let iss = hash(self.key, segment.destination, segment.source) as u32;
        if segment.has(SYN) {
            self.counts.opens += 1;
            self.send(&segment.answer(SYN, iss, now_ms), pool, out);
            return;
        }
        // Our bytes that the peer has acknowledged; one more when it has acknowledged our FIN.
        let acked = segment.ack.wrapping_sub(iss).wrapping_sub(1);
        let is_fin_acked = acked % self.response_bytes() == 1;
        if segment.payload_len > 0 {
            self.on_request((iss, acked), (&segment, frame), now_ms, pool, out);
        }
        if segment.has(FIN) {
            let is_ours_sent = is_fin_acked || self.script.closer == Closer::Server;
            let flags = if is_ours_sent { ACK } else { FIN };
            let seq = segment
                .ack
                .wrapping_add(u32::from(is_ours_sent && !is_fin_acked));
            self.send(&segment.answer(flags, seq, now_ms), pool, out);
            self.counts.closed += u64::from(is_fin_acked);
        } else if segment.payload_len == 0 && is_fin_acked && self.script.closer == Closer::Client {
            self.counts.closed += 1;
        }
    }

    /// What was counted.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    fn on_request<P: PacketPool>(
        &mut self,
        (iss, acked): (u32, u32),
        (segment, frame): (&Segment, &P::Buf),
        now_ms: u32,
        pool: &mut P,
        out: &mut impl FnMut(P::Buf),
    ) {
        if segment.payload_len as usize != self.script.request.len() {
            self.counts.resegmented += 1;
            return;
        }
        let payload = segment_payload(segment, frame);
        let Some(token) = self.script.request.token(payload) else {
            self.counts.unexpected += 1;
            return;
        };
        let number = token as u32;
        // A data segment acknowledges everything that came before it: the responses to all earlier requests.
        if acked != number.wrapping_sub(1).wrapping_mul(self.response_bytes()) {
            self.counts.unexpected += 1;
            return;
        }
        self.counts.requests += 1;
        self.counts.responses += 1;
        let seq = iss.wrapping_add(1).wrapping_add(acked);
        let say = segment.answer(PSH, seq, now_ms);
        let Self {
            writer,
            script,
            counts,
            ..
        } = self;
        let response = &script.response;
        let fill = |bytes: &mut [u8]| response.write(bytes, token);
        let answer = writer.frame(&say, response.len(), pool, counts, fill);
        answer.into_iter().for_each(&mut *out);
        if self.script.closer == Closer::Server && number >= self.script.requests {
            let seq = seq.wrapping_add(self.response_bytes());
            self.send(
                &Say {
                    seq,
                    flags: FIN | ACK,
                    ..say
                },
                pool,
                out,
            );
        }
    }

    #[inline]
    fn send<P: PacketPool>(&mut self, say: &Say, pool: &mut P, out: &mut impl FnMut(P::Buf)) {
        let frame = self.writer.frame(say, 0, pool, &mut self.counts, |_| {});
        frame.into_iter().for_each(out);
    }

    #[inline]
    fn response_bytes(&self) -> u32 {
        self.script.response.len() as u32
    }
}

/// The payload's first bytes: in the first buffer, or in the second when the first holds headers only.
#[inline]
pub(super) fn segment_payload<'f>(segment: &Segment, frame: &'f impl PacketBuf) -> &'f [u8] {
    let here = frame.bytes().get(segment.payload_at..).unwrap_or_default();
    if here.is_empty() {
        return frame.segments().nth(1).unwrap_or_default();
    }
    here
}
