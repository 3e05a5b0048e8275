//! What an ACK or a timer tells congestion control that models the path: what was delivered and at
//! which rate, and what was lost. It decides on the window then, in recovery too (Linux:
//! `tcp_cong_control` with a `cong_control`).

use millrace_base::PacketPool;

use super::Phase;
use super::alert::Told;
use crate::tcp::ack::Digest;
use crate::tcp::congestion::PathView;
use crate::tcp::connection::Connection;
use crate::tcp::segment::Env;

impl Connection {
    /// One ACK, when recovery has looked at it.
    #[cold]
    pub(super) fn drive_model<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        told: &Told,
        digest: &Digest,
    ) {
        let bytes = self.delivered_bytes(env, told, digest);
        let newest = self.newest_delivered(env.chunks, digest.advanced);
        if let Some(model) = self.congestion.model_mut(&mut env.chunks.congestion) {
            model.sampler.deliver(env.now, bytes);
        }
        let newly_lost = self.tell_losses(env);
        // An old ACK only counts.
        if told.is_old {
            return;
        }
        let path = self.path_view(env);
        let Some(model) = self.congestion.model_mut(&mut env.chunks.congestion) else {
            return;
        };
        let min_rtt = model.min_rtt();
        let mut sample = model.sampler.sample(env.now, newest, min_rtt);
        sample.newly_acked = bytes;
        sample.newly_lost = newly_lost;
        // A lone segment of a round trip that is no full one (Linux: `FLAG_ACK_MAYBE_DELAYED`).
        sample.is_ack_delayed = digest.cleaned.segments == 1
            && digest.cleaned.bytes < u32::from(self.mss)
            && sample.delivered == bytes;
        self.congestion
            .cong_control(&mut env.setting(), &sample, &path);
        self.check_app_limited(env.chunks);
    }

    /// Tells of each segment that was found lost since the last `Rates::begin`; returns their bytes.
    pub(super) fn tell_losses<P: PacketPool>(&mut self, env: &mut Env<'_, P>) -> u32 {
        let mut bytes = 0u32;
        // Without that mark nothing of ours was noted: what lies there is another connection's.
        if !self.congestion.is_modelled() || !self.send.board.view(env.chunks).samples {
            return bytes;
        }
        let path = self.path_view(env);
        while let Some(lost) = self.next_lost(env.chunks) {
            bytes = bytes.saturating_add(lost.bytes);
            self.congestion.on_lost(&mut env.setting(), &lost, &path);
        }
        bytes
    }

    fn path_view<P: PacketPool>(&self, env: &Env<'_, P>) -> PathView {
        PathView {
            now: env.now,
            srtt: self.rtt.srtt(),
            in_flight: self.in_flight(env.chunks),
            mss: u32::from(self.mss.max(1)),
            is_cwnd_limited: self.congestion.was_full(),
            has_sack: self.sack_permitted,
            is_in_fast_recovery: self.recovery.phase == Phase::Recovery,
        }
    }

    /// Bytes that an ACK delivers: the segments of which it covers the last for the first time. Not what
    /// it calls a duplicate, which a peer may say of anything: Linux counts that, and a liar raises the
    /// rate with it.
    fn delivered_bytes<P: PacketPool>(
        &self,
        env: &mut Env<'_, P>,
        told: &Told,
        digest: &Digest,
    ) -> u32 {
        let mss = u32::from(self.mss.max(1));
        if !self.sack_permitted {
            return told.delivered_segments.saturating_mul(mss);
        }
        let (_, bytes) = self.delivered_by(env, digest);
        if !digest.advanced {
            return bytes;
        }
        self.whole_segments(env.chunks, bytes)
    }
}
