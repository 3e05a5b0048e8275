//! How a frame is made: in the chunk's own headroom, chained behind a header buffer, or without data.
//!
//! A chunk whose buffer is ours alone gets its headers in place, in its own headroom; one that the
//! device or another chunk still holds gets a header buffer chained in front of a view of it. Only
//! a device that cannot send chains makes us copy, and that is counted.
//!
//! What is sent and when is the business of `turn.rs` and `output.rs`; what the headers look like
//! below TCP is `path.rs`'s.

use millrace_base::{PacketBuf, PacketPool, SeqNumber, Stamp};
use millrace_wire::{TcpFlags, TcpOptions, TcpRepr};

use super::connection::Connection;
use super::recv_buffer::span;
use super::segment::Env;
use super::window::Advertised;
use crate::path::{FrameOptions, Path, Span, Stencil, put_signature, write_around, write_headers};
use crate::signature::SigningKey;
use crate::stats::{Stats, count};
use crate::verdict::DropReason;

/// Chunks that leave together, the first at `first`, one behind the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) first: u32,
    pub(super) count: u32,
    pub(super) bytes: u32,
    /// Payload per segment when the device cuts the frame; 0 when it is one segment.
    pub(super) segment_bytes: u16,
}

impl Connection {
    pub(super) fn emit_run<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        path: &Path,
        run: Run,
        header: &TcpRepr,
    ) -> Option<P::Buf> {
        let frame_options = FrameOptions {
            segment_bytes: run.segment_bytes,
            // What is sent again is not marked (RFC 3168 section 6.1.5).
            traffic_class: self.ack.ecn.mark(header.seq == self.nxt),
        };
        let frame = if header.options.md5 {
            self.emit_signed(env, path, run, header, frame_options)
        } else if run.count == 1 {
            self.emit_in_place(env, path, run.first, header, frame_options)
                .or_else(|| self.emit_chained(env, path, run, header, frame_options))
                .or_else(|| self.emit_copied(env, path, run, header, frame_options))
        } else if run.segment_bytes == 0 {
            self.emit_chained(env, path, run, header, frame_options)
        } else {
            // The device leaves the bit to the last segment (Linux: `__tcp_transmit_skb`; behaviour:
            // A4-7).
            let mut pushed = *header;
            pushed.flags |= TcpFlags::PSH;
            self.emit_chained(env, path, run, &pushed, frame_options)
        };
        if frame.is_some() {
            self.on_ack_sent();
        } else {
            self.ack.ecn.keep_cwr(header);
        }
        frame
    }

    /// The same headers as before in front of the next chunk, with another sequence number: in
    /// place or not at all.
    #[inline(always)] // For each segment of a stream but the first.
    pub(super) fn emit_alike<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        index: u32,
        stencil: &Stencil,
        seq: SeqNumber,
        flags: TcpFlags,
    ) -> Option<P::Buf> {
        let chunk = env.chunks.get_mut(index)?;
        let payload = Span {
            offset: usize::from(chunk.offset),
            len: usize::from(chunk.len),
        };
        let buf = chunk.buf_mut()?;
        if !stencil.write(buf, payload, seq, flags) {
            return None;
        }
        // The first of them has told what there was to acknowledge.
        buf.share()
    }

    /// Headers in the chunk's own headroom: no buffer, no copy. Only while nobody else holds the
    /// buffer.
    #[inline]
    fn emit_in_place<P: PacketPool>(
        &self,
        env: &mut Env<'_, P>,
        path: &Path,
        index: u32,
        header: &TcpRepr,
        options: FrameOptions,
    ) -> Option<P::Buf> {
        let chunk = env.chunks.get_mut(index)?;
        let payload = Span {
            offset: usize::from(chunk.offset),
            len: usize::from(chunk.len),
        };
        let buf = chunk.buf_mut()?;
        if !write_around(buf, payload, path, &self.tuple, header, options) {
            return None;
        }
        buf.share()
    }

    /// A frame with a signature, made like any other: it is filled in last, when all else is there.
    #[cold]
    fn emit_signed<P: PacketPool>(
        &self,
        env: &mut Env<'_, P>,
        path: &Path,
        run: Run,
        header: &TcpRepr,
        options: FrameOptions,
    ) -> Option<P::Buf> {
        let key = *self.signing_key(env.chunks)?;
        if run.count == 1
            && let Some(frame) =
                self.emit_signed_in_place(env, path, (run.first, &key), header, options)
        {
            return Some(frame);
        }
        let mut frame = match self.emit_chained(env, path, run, header, options) {
            Some(frame) => frame,
            // Copied is the first chunk only.
            None if run.count == 1 => self.emit_copied(env, path, run, header, options)?,
            None => return None,
        };
        self.sign(&mut frame, path, header, &key)?;
        Some(frame)
    }

    fn emit_signed_in_place<P: PacketPool>(
        &self,
        env: &mut Env<'_, P>,
        path: &Path,
        (index, key): (u32, &SigningKey),
        header: &TcpRepr,
        options: FrameOptions,
    ) -> Option<P::Buf> {
        let chunk = env.chunks.get_mut(index)?;
        let payload = Span {
            offset: usize::from(chunk.offset),
            len: usize::from(chunk.len),
        };
        let buf = chunk.buf_mut()?;
        if !write_around(buf, payload, path, &self.tuple, header, options) {
            return None;
        }
        self.sign(buf, path, header, key)?;
        buf.share()
    }

    fn sign<B: PacketBuf>(
        &self,
        frame: &mut B,
        path: &Path,
        header: &TcpRepr,
        key: &SigningKey,
    ) -> Option<()> {
        let addresses = (self.tuple.local.address, self.tuple.remote.address);
        put_signature(frame, path, &self.tuple, header, |frame, places, len| {
            key.sign_frame(addresses, frame, places, len)
        })
    }

    /// A header buffer with views of the chunks behind it.
    fn emit_chained<P: PacketPool>(
        &self,
        env: &mut Env<'_, P>,
        path: &Path,
        run: Run,
        header: &TcpRepr,
        options: FrameOptions,
    ) -> Option<P::Buf> {
        if !path.offloads.chains() {
            return None;
        }
        let mut frame = env.pool.alloc()?;
        let mut index = run.first;
        for _ in 0..run.count {
            let chunk = env.chunks.get(index)?;
            let (offset, len) = (usize::from(chunk.offset), usize::from(chunk.len));
            let view = env.pool.view(chunk.buf()?, offset, len)?;
            frame.append(view).ok()?;
            index = chunk.next();
        }
        write_headers(&mut frame, path, &self.tuple, header, options).then_some(frame)
    }

    /// A copy, for a device that takes one piece only while the buffer is held by somebody else.
    fn emit_copied<P: PacketPool>(
        &self,
        env: &mut Env<'_, P>,
        path: &Path,
        run: Run,
        header: &TcpRepr,
        options: FrameOptions,
    ) -> Option<P::Buf> {
        if path.offloads.chains() {
            return None;
        }
        let chunk = env.chunks.get(run.first)?;
        let (offset, len) = (usize::from(chunk.offset), usize::from(chunk.len));
        // A view, because the handle's own span may not cover the chunk and cannot be moved while
        // shared.
        let mut view = env.pool.view(chunk.buf()?, offset, len)?;
        let mut frame = env.pool.alloc()?;
        let start = frame.offset();
        if !frame.set_span(start, len) {
            return None;
        }
        frame
            .bytes_mut()?
            .copy_from_slice(span(&mut view, offset, len)?);
        count!(env.stats.payload_copied_bytes, len as u64);
        write_headers(&mut frame, path, &self.tuple, header, options).then_some(frame)
    }

    pub(super) fn emit_empty<P: PacketPool>(
        &self,
        env: &mut Env<'_, P>,
        path: &Path,
        header: &TcpRepr,
    ) -> Option<P::Buf> {
        let mut frame = env.pool.alloc()?;
        let options = FrameOptions {
            segment_bytes: 0,
            traffic_class: self.ack.ecn.mark(false),
        };
        if !write_headers(&mut frame, path, &self.tuple, header, options) {
            env.stats.drop(DropReason::HeadroomMissing);
            return None;
        }
        if header.options.md5 {
            self.sign(&mut frame, path, header, self.signing_key(env.chunks)?)?;
        }
        Some(frame)
    }

    /// The header of a segment of a synchronised connection; fixes the window that is promised with
    /// it.
    #[inline(always)] // Otherwise what it makes is copied twice.
    pub(super) fn header<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        seq: SeqNumber,
        flags: TcpFlags,
        options: TcpOptions,
    ) -> TcpRepr {
        let window = self.tell_window(env);
        TcpRepr {
            source_port: self.tuple.local.port,
            destination_port: self.tuple.remote.port,
            seq,
            ack: self.window.nxt,
            flags: flags | self.ack.ecn.echo(),
            window,
            urgent: 0,
            options,
        }
    }

    /// Fixes the window that is promised with the next segment, and returns its field.
    #[inline(never)] // In each of its callers it would be most of them.
    fn tell_window<P: PacketPool>(&mut self, env: &mut Env<'_, P>) -> u16 {
        let mss = u32::from(self.ack.receive_mss());
        let used = self.memory_held_back(env.chunks);
        let told = self.window.advertise(used, mss, env.tunables);
        if told.news != 0 {
            self.note_window(told, env.stats);
        }
        told.field
    }

    /// A segment with an ACK left. While something is missing, its ACK alone does not tell what
    /// came: a compressed ACK still waits (`ack_compression.rs`).
    #[inline]
    pub(super) fn on_ack_sent(&mut self) {
        if self.ack.is_in_mode() {
            let is_scheduled = self.ack.due() > 0 || !self.timers.delayed_ack.is_never();
            self.ack.leave_mode(is_scheduled);
        }
        self.ack.on_sent();
        if self.reassembly.is_empty() || !self.sack_permitted {
            self.timers.delayed_ack = Stamp::NEVER;
        }
    }

    #[cold]
    fn note_window(&mut self, told: Advertised, stats: &mut Stats) {
        if told.tells(Advertised::CROWDED) {
            self.ack.leave_quick_mode();
        }
        if told.tells(Advertised::CLOSED) {
            count!(stats.tcp_to_zero_window_adv);
        }
        if told.tells(Advertised::OPENED) {
            count!(stats.tcp_from_zero_window_adv);
        }
        if told.tells(Advertised::WANTED_ZERO) {
            count!(stats.tcp_want_zero_window_adv);
        }
    }
}
