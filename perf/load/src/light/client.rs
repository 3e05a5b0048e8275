//! The client: opens connections by number, asks, closes; everything else it knows from the frame at hand.

use millrace_base::{PacketBuf, PacketPool};

use super::header::{Say, Segment, Writer, segment_flags};
use super::tuples::hash;
use super::{Closer, Counts, Link, Script, Sources};
use segment_flags::{ACK, FIN, PSH, RST, SYN};

/// The client end of any number of connections to one service.
#[derive(Clone, Debug)]
pub struct Client {
    writer: Writer,
    sources: Sources,
    service: (u32, u16),
    script: Script,
    key: u64,
    counts: Counts,
}

/// What a frame told the client. `index` is the connection's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing that matters to anybody: an ACK, or something that was counted as an error.
    Nothing,
    /// The handshake is complete.
    Established {
        /// The connection.
        index: u32,
        /// What [`Client::ask`] wants to be told.
        next: u32,
    },
    /// The response to request `number` (from 1) is here.
    Response {
        /// The connection.
        index: u32,
        /// The request's number.
        number: u32,
        /// What [`Client::ask`] wants to be told.
        next: u32,
    },
    /// Both directions are closed and acknowledged.
    Closed {
        /// The connection.
        index: u32,
    },
    /// The service reset the connection.
    Reset {
        /// The connection.
        index: u32,
    },
}

impl Client {
    /// A client behind `link` with these endpoints, for the service at an address (host byte order) and port. `key` makes
    /// its sequence numbers; another run wants another key.
    pub fn new(
        link: Link,
        sources: Sources,
        service: (u32, u16),
        script: Script,
        key: u64,
    ) -> Self {
        Self {
            writer: Writer::new(link),
            sources,
            service,
            script,
            key,
            counts: Counts::default(),
        }
    }

    /// Opens connection `index`. `now_ms` is the clock of the timestamps, which must move on before an endpoint is used
    /// again.
    #[inline]
    pub fn open<P: PacketPool>(
        &mut self,
        index: u32,
        now_ms: u32,
        pool: &mut P,
        out: &mut impl FnMut(P::Buf),
    ) {
        let source = self.sources.endpoint(index);
        let say = Say {
            source,
            destination: self.service,
            seq: self.hash(source) as u32,
            ack: 0,
            flags: SYN,
            stamps: Some((now_ms, 0)),
        };
        self.counts.opens += 1;
        self.send(&say, pool, out);
    }

    /// Sends request `number` (from 1) of connection `index`; `next` as `Heard` told it last.
    #[inline]
    pub fn ask<P: PacketPool>(
        &mut self,
        (index, number, next): (u32, u32, u32),
        stamps: Option<(u32, u32)>,
        pool: &mut P,
        out: &mut impl FnMut(P::Buf),
    ) {
        let source = self.sources.endpoint(index);
        let hash = self.hash(source);
        let sent = number.wrapping_sub(1).wrapping_mul(self.request_bytes());
        let say = Say {
            source,
            destination: self.service,
            seq: (hash as u32).wrapping_add(1).wrapping_add(sent),
            ack: next,
            flags: ACK | PSH,
            stamps,
        };
        self.send_request(&say, hash, number, pool, out);
    }

    /// Takes a frame that arrived and sends what it calls for.
    #[inline]
    pub fn handle<P: PacketPool>(
        &mut self,
        frame: &P::Buf,
        now_ms: u32,
        pool: &mut P,
        out: &mut impl FnMut(P::Buf),
    ) -> Heard {
        let Some(segment) = self.writer.receive(frame, &mut self.counts) else {
            return Heard::Nothing;
        };
        if segment.source != self.service {
            self.counts.unexpected += 1;
            return Heard::Nothing;
        }
        let (address, port) = segment.destination;
        let index = self.sources.index(address, port);
        if segment.has(RST) {
            self.counts.resets += 1;
            return Heard::Reset { index };
        }
        let hash = self.hash(segment.destination);
        // Our bytes that the service has acknowledged; one more when it has acknowledged our FIN.
        let acked = segment.ack.wrapping_sub(hash as u32).wrapping_sub(1);
        if segment.has(SYN) {
            return self.on_syn_ack(index, (hash, acked), &segment, now_ms, pool, out);
        }
        let mut heard = Heard::Nothing;
        if segment.payload_len > 0 {
            heard = self.on_response(index, (hash, acked), (&segment, frame), now_ms, pool, out);
        }
        if segment.has(FIN) {
            return self.on_fin(index, acked, &segment, now_ms, pool, out);
        }
        let is_last_ack = segment.payload_len == 0
            && self.script.closer == Closer::Server
            && acked % self.request_bytes() == 1;
        if is_last_ack {
            self.counts.closed += 1;
            return Heard::Closed { index };
        }
        heard
    }

    /// What was counted.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    fn on_syn_ack<P: PacketPool>(
        &mut self,
        index: u32,
        (hash, acked): (u64, u32),
        segment: &Segment,
        now_ms: u32,
        pool: &mut P,
        out: &mut impl FnMut(P::Buf),
    ) -> Heard {
        if acked != 0 {
            self.counts.unexpected += 1;
            return Heard::Nothing;
        }
        self.counts.established += 1;
        let say = segment.answer(ACK, segment.ack, now_ms);
        self.send(&say, pool, out);
        if self.script.asks_at_once {
            let say = Say {
                flags: ACK | PSH,
                ..say
            };
            self.send_request(&say, hash, 1, pool, out);
        }
        Heard::Established {
            index,
            next: segment.end(),
        }
    }

    fn on_response<P: PacketPool>(
        &mut self,
        index: u32,
        (hash, acked): (u64, u32),
        (segment, frame): (&Segment, &P::Buf),
        now_ms: u32,
        pool: &mut P,
        out: &mut impl FnMut(P::Buf),
    ) -> Heard {
        if segment.payload_len as usize != self.script.response.len() {
            self.counts.resegmented += 1;
            return Heard::Nothing;
        }
        let number = acked / self.request_bytes();
        let payload = frame.bytes().get(segment.payload_at..).unwrap_or_default();
        let expected = token(hash, number);
        let is_whole = acked == number.wrapping_mul(self.request_bytes());
        if !is_whole || self.script.response.token(payload) != Some(expected) {
            self.counts.unexpected += 1;
            return Heard::Nothing;
        }
        self.counts.responses += 1;
        let next = segment.end();
        let is_last = number >= self.script.requests;
        if is_last && self.script.closer == Closer::Client {
            self.send(&segment.answer(FIN, segment.ack, now_ms), pool, out);
        } else if is_last || !self.script.asks_at_once {
            // With its FIN in the same segment, one ACK answers both: see `on_fin`.
            if !segment.has(FIN) {
                self.send(&segment.answer(ACK, segment.ack, now_ms), pool, out);
            }
        } else {
            let say = segment.answer(PSH, segment.ack, now_ms);
            self.send_request(&say, hash, number.wrapping_add(1), pool, out);
        }
        Heard::Response {
            index,
            number,
            next,
        }
    }

    fn on_fin<P: PacketPool>(
        &mut self,
        index: u32,
        acked: u32,
        segment: &Segment,
        now_ms: u32,
        pool: &mut P,
        out: &mut impl FnMut(P::Buf),
    ) -> Heard {
        let is_ours_acked = acked % self.request_bytes() == 1;
        if is_ours_acked {
            self.send(&segment.answer(ACK, segment.ack, now_ms), pool, out);
            self.counts.closed += 1;
            return Heard::Closed { index };
        }
        match self.script.closer {
            // Ours is on its way, and theirs came before its acknowledgment.
            Closer::Client => {
                let seq = segment.ack.wrapping_add(1);
                self.send(&segment.answer(ACK, seq, now_ms), pool, out);
            }
            Closer::Server => self.send(&segment.answer(FIN, segment.ack, now_ms), pool, out),
            Closer::Nobody => self.counts.unexpected += 1,
        }
        Heard::Nothing
    }

    #[inline]
    fn send<P: PacketPool>(&mut self, say: &Say, pool: &mut P, out: &mut impl FnMut(P::Buf)) {
        let frame = self.writer.frame(say, 0, pool, &mut self.counts, |_| {});
        frame.into_iter().for_each(out);
    }

    #[inline]
    fn send_request<P: PacketPool>(
        &mut self,
        say: &Say,
        hash: u64,
        number: u32,
        pool: &mut P,
        out: &mut impl FnMut(P::Buf),
    ) {
        let Self {
            writer,
            script,
            counts,
            ..
        } = self;
        let request = &script.request;
        counts.requests += 1;
        let fill = |bytes: &mut [u8]| request.write(bytes, token(hash, number));
        let frame = writer.frame(say, request.len(), pool, counts, fill);
        frame.into_iter().for_each(out);
    }

    #[inline]
    fn hash(&self, ours: (u32, u16)) -> u64 {
        hash(self.key, ours, self.service)
    }

    #[inline]
    fn request_bytes(&self) -> u32 {
        self.script.request.len() as u32
    }
}

/// The token of request `number`: who asks, and what.
#[inline]
fn token(hash: u64, number: u32) -> u64 {
    (hash & !u64::from(u32::MAX)) | u64::from(number)
}
