//! Bulk data in one direction: a window of equal segments per connection, kept full by the ACKs that come back as far as
//! the receiver's window allows. Nothing is repeated and no closed window probed: on a path without loss, the update that
//! opens one arrives.

use millrace_base::{PacketBuf, PacketPool};

use super::header::{Say, Segment, Writer, segment_flags, window_shift};
use super::payload::{read_token, write_token};
use super::server::segment_payload;
use super::tuples::hash;
use super::{Counts, Link, Sources};
use segment_flags::{ACK, PSH, RST, SYN};

/// What an upload is like.
#[derive(Clone, Copy, Debug)]
pub struct UploadConfig {
    /// The client's endpoints: one connection each.
    pub sources: Sources,
    /// Connections.
    pub connections: u32,
    /// The service's address (host byte order) and port.
    pub service: (u32, u16),
    /// Bytes of payload in a segment; at least 16 and at most what the MTU leaves.
    pub segment_bytes: u32,
    /// Segments on their way per connection at most, even; fewer while the service's window holds fewer.
    pub window_segments: u32,
    /// Makes the sequence numbers.
    pub key: u64,
}

/// The sending end. Keeps twelve bytes per connection: what it has sent, and what it may send.
#[derive(Clone, Debug)]
pub struct Upload {
    writer: Writer,
    config: UploadConfig,
    progress: Box<[Progress]>,
    counts: Counts,
}

/// How far a connection has come, in bytes of its stream.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Bytes sent.
    sent: u32,
    /// Where the window ends that the service offers.
    edge: u32,
    /// What the service's window fields are shifted by.
    shift: u8,
}

impl Progress {
    /// Takes note of the window that a segment offers. A service that takes back what it promised is not followed (RFC 9293
    /// section 3.8.6, SHLD-14 forbids it): what it then drops is counted there.
    fn hear(&mut self, frame: &impl PacketBuf, segment: &Segment, acked: u32) {
        // The window of a SYN has no scale (RFC 7323 section 2.2).
        let shift = if segment.has(SYN) {
            self.shift = window_shift(frame, segment);
            0
        } else {
            self.shift
        };
        let edge = acked.wrapping_add(u32::from(segment.window) << shift);
        if edge.wrapping_sub(self.edge) < 1 << 31 {
            self.edge = edge;
        }
    }
}

/// The receiving end: acknowledges every second segment, or every large frame, as Linux does.
#[derive(Clone, Debug)]
pub struct UploadSink {
    writer: Writer,
    segment_bytes: u32,
    key: u64,
    counts: Counts,
    bytes: u64,
}

impl Upload {
    /// The sending end behind `link`.
    pub fn new(link: Link, config: UploadConfig) -> Self {
        let writer = Writer::new(link);
        let most = writer.payload_max().max(16) as u32;
        Self {
            config: UploadConfig {
                segment_bytes: config.segment_bytes.clamp(16, most),
                ..config
            },
            writer,
            progress: vec![Progress::default(); config.connections as usize].into(),
            counts: Counts::default(),
        }
    }

    /// Opens connection `index`, below `connections`; data follow by themselves.
    pub fn open<P: PacketPool>(
        &mut self,
        index: u32,
        now_ms: u32,
        pool: &mut P,
        out: &mut impl FnMut(P::Buf),
    ) {
        let source = self.config.sources.endpoint(index);
        let say = Say {
            source,
            destination: self.config.service,
            seq: self.iss(source),
            ack: 0,
            flags: SYN,
            stamps: Some((now_ms, 0)),
        };
        self.counts.opens += 1;
        let frame = self.writer.frame(&say, 0, pool, &mut self.counts, |_| {});
        frame.into_iter().for_each(out);
    }

    /// Takes a frame that arrived and fills the window again.
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
        let (address, port) = segment.destination;
        let index = self.config.sources.index(address, port);
        if segment.has(RST) {
            self.counts.resets += 1;
            return;
        }
        let iss = self.iss(segment.destination);
        let acked = segment.ack.wrapping_sub(iss).wrapping_sub(1);
        let is_opened = segment.has(SYN);
        self.counts.established += u64::from(is_opened);
        let Some(progress) = self.progress.get_mut(index as usize) else {
            self.counts.unexpected += 1;
            return;
        };
        let UploadConfig {
            segment_bytes,
            window_segments,
            ..
        } = self.config;
        let on_the_way = progress.sent.wrapping_sub(acked);
        let window = segment_bytes * window_segments;
        if on_the_way > window {
            // An ACK that is older than one we have seen, or of something never sent.
            self.counts.unexpected += 1;
            return;
        }
        progress.hear(frame, &segment, acked);
        let room = window.min(progress.edge.wrapping_sub(acked));
        let seq = iss.wrapping_add(1).wrapping_add(progress.sent);
        let mut say = segment.answer(ACK, seq, now_ms);
        if is_opened {
            let bare = self.writer.frame(&say, 0, pool, &mut self.counts, |_| {});
            bare.into_iter().for_each(&mut *out);
        }
        say.flags |= PSH;
        for _ in 0..room.saturating_sub(on_the_way) / segment_bytes {
            let end = progress.sent.wrapping_add(segment_bytes);
            let token = u64::from(index) << 32 | u64::from(end);
            let fill = |bytes: &mut [u8]| write_token(bytes, token);
            let bytes = segment_bytes as usize;
            let Some(data) = self.writer.frame(&say, bytes, pool, &mut self.counts, fill) else {
                break;
            };
            out(data);
            say.seq = say.seq.wrapping_add(segment_bytes);
            progress.sent = end;
            self.counts.requests += 1;
        }
    }

    /// What was counted; a request is a segment of data.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    #[inline]
    fn iss(&self, source: (u32, u16)) -> u32 {
        hash(self.config.key, source, self.config.service) as u32
    }
}

impl UploadSink {
    /// The receiving end behind `link`, of segments of `segment_bytes`.
    pub fn new(link: Link, segment_bytes: u32, key: u64) -> Self {
        Self {
            writer: Writer::new(link),
            segment_bytes: segment_bytes.max(16),
            key,
            counts: Counts::default(),
            bytes: 0,
        }
    }

    /// Takes a frame that arrived and acknowledges it if it is its turn.
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
        let answer = if segment.has(SYN) {
            self.counts.opens += 1;
            segment.answer(SYN, iss, now_ms)
        } else if segment.payload_len > 0 {
            let segments = segment.payload_len / self.segment_bytes;
            if segments * self.segment_bytes != segment.payload_len {
                self.counts.resegmented += 1;
            }
            // The first segment's end in its stream, in segments.
            let token = read_token(segment_payload(&segment, frame)).unwrap_or_default();
            let place = token as u32 / self.segment_bytes;
            self.counts.requests += u64::from(segments);
            self.bytes = self.bytes.wrapping_add(u64::from(segment.payload_len));
            if segments == 1 && place % 2 == 1 {
                return;
            }
            segment.answer(ACK, iss.wrapping_add(1), now_ms)
        } else {
            return;
        };
        let frame = self
            .writer
            .frame(&answer, 0, pool, &mut self.counts, |_| {});
        frame.into_iter().for_each(out);
    }

    /// What was counted; a request is a segment of data, cut from a large frame or not.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Payload bytes received, repeated ones included.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}
