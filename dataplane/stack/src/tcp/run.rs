//! Runs of several chunks: what else leaves in one frame with the first.
//!
//! The device cuts a large frame into segments (TSO), or a short piece travels with what follows it.
//! Whether anything may leave at all is decided in `output.rs` and `turn.rs`; how the frame is made,
//! in `emit.rs`.

use millrace_base::PacketPool;

use super::chunk::Chunks;
use super::connection::Connection;
use super::emit::Run;
use super::segment::Env;
use crate::path::Path;

/// Chunks one frame may carry, whatever the device takes: 65,535 bytes in segments of 1,448.
pub(super) const FRAME_CHUNKS_MAX: u32 = 46;

impl Connection {
    /// Adds to a run what the device sends with it in one frame; `None` when it waits for more.
    #[inline(never)] // Beside the common case, of which it would take the registers.
    pub(super) fn widen_run<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        path: &Path,
        run: &mut Run,
        window: u32,
    ) -> Option<()> {
        let (mss, bytes) = (u32::from(self.mss), run.bytes);
        let cwnd_room = self
            .congestion
            .cwnd
            .saturating_sub(self.in_flight(env.chunks))
            .max(bytes);
        let room = window.min(cwnd_room);
        if bytes == mss && path.offloads.tso {
            let burst = self.burst_room(env.chunks, env.tunables).max(mss);
            let most = path.offloads.tso_bytes_max.min(burst);
            let segments = most.checked_div(mss).unwrap_or(1);
            if !env.tunables.software_tso && self.waits_for_more(env, segments, false) {
                return None;
            }
            self.extend_run(env, path, run, room.min(most));
            if run.count > 1 {
                run.segment_bytes = self.mss;
            }
        } else if bytes < mss && self.fills_segments(env.chunks, bytes) {
            // A short piece (the rest of a split, small writes) travels with what follows it.
            self.extend_run(env, path, run, room.min(mss));
        }
        Some(())
    }

    /// Fills a segment that is shorter with what follows, up to `limit` bytes.
    pub(super) fn fill_run<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        path: &Path,
        run: &mut Run,
        limit: u32,
    ) {
        if run.bytes < u32::from(self.mss) {
            self.extend_run(env, path, run, limit);
        }
    }

    /// Whether a piece of so many bytes, less than a segment, travels with what follows it: a small
    /// one always, any one where segments are lost. There it counts how many they are, and not what
    /// a chain costs.
    fn fills_segments<B>(&self, chunks: &Chunks<B>, bytes: u32) -> bool {
        bytes < u32::from(self.mss) / 2
            || self.retransmissions > 0
            || self.searched(chunks).is_some()
    }

    /// Adds chunks behind the run up to `limit` bytes. In a frame that the device cuts, every chunk
    /// but the last is a full segment, so that segments and chunks stay the same thing.
    fn extend_run<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        path: &Path,
        run: &mut Run,
        limit: u32,
    ) {
        let mss = u32::from(self.mss);
        let cut = run.bytes == mss;
        let chunks_max =
            FRAME_CHUNKS_MAX.min(u32::from(path.offloads.segments_max).saturating_sub(1));
        let mut index = run.first;
        let mut full = true;
        while run.count < chunks_max && full {
            let Some(next) = env.chunks.get(index).map(|chunk| chunk.next()) else {
                break;
            };
            let room = limit.saturating_sub(run.bytes);
            let room = if cut { room.min(mss) } else { room };
            let Some(len) = env.chunks.get(next).map(|chunk| u32::from(chunk.len)) else {
                break;
            };
            if !cut && !path.offloads.may_follow(run.bytes) {
                break;
            }
            // Not worth a sliver: the rest of a window is better sent as a full segment later.
            if room == 0 || (cut && room < len.min(mss)) {
                break;
            }
            if len > room && !self.send.limit(env.chunks, next, room) {
                break;
            }
            let len = len.min(room);
            run.bytes = run.bytes.saturating_add(len);
            run.count = run.count.saturating_add(1);
            full = !cut || len == mss;
            index = next;
        }
    }
}
