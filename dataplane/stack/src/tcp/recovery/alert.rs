//! What one ACK means for recovery and the window, state by state and in Linux's order
//! (`tcp_fastretrans_alert`, then `tcp_cong_control`).
//!
//! The states are Open, Disorder, CWR, Recovery and Loss. How loss is found is in `rack.rs`, here
//! only for peers without SACK (RFC 5681, RFC 6582); what shows that there was none, in `undo.rs`
//! and `frto.rs`.

use millrace_base::{Instant, Micros, Nanos, PacketPool, SeqNumber};
use millrace_wire::Timestamps;

use super::Phase;
use super::dsack::Duplicate;
use super::ledger::{Permission, Tally};
use super::reduction::Progress;
use crate::stats::count;
use crate::tcp::ack::Digest;
use crate::tcp::chunk::{CONTINUED, Chunks, LOST, SACKED};
use crate::tcp::congestion::CwndEvent;
use crate::tcp::connection::Connection;
use crate::tcp::segment::Env;
use crate::tcp::timers::Purpose;

/// What one ACK told, for the rules of this folder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    /// SND.UNA advanced, and where it was.
    pub(super) advanced: bool,
    pub(super) una_before: SeqNumber,
    /// 1 when it counts as a duplicate, else 0.
    pub(super) duplicates: u32,
    /// It SACKed something new.
    pub(super) sacked: bool,
    /// It says that something arrived twice.
    pub(super) dsack: Option<Duplicate>,
    /// It carries data, or another window, or acknowledges something.
    pub(super) is_more_than_duplicate: bool,
    /// It says nothing but what the last one said.
    pub(super) is_repeated: bool,
    /// Something that was sent once, before the episode began, arrived.
    pub(super) original_acked: bool,
    /// Segments that it delivered, and the round trip of the newest.
    pub(super) delivered_segments: u32,
    rtt: Option<Micros>,
    /// It acknowledges less than SND.UNA: only what it SACKs counts.
    pub(super) is_old: bool,
    /// The peer reports congestion (ECN): what was reduced stays reduced.
    ece: bool,
}

impl Connection {
    /// Begins to collect what one ACK tells of sent data.
    pub(in crate::tcp) fn begin_tally<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        stamps: Option<Timestamps>,
    ) {
        let offset = self.timestamps.offset;
        let echo_ms = stamps
            .filter(|stamps| self.timestamps.agreed() && stamps.echo != 0)
            .map(|stamps| stamps.echo.wrapping_sub(offset));
        let tally = Tally {
            now: env.now,
            min_rtt_us: self.rtt.min().map_or(0, Micros::as_micros),
            echo_ms,
            point: self.recovery.point,
            ..Tally::NONE
        };
        let una = self.una;
        self.send.board.begin_tally(env.chunks, una, tally);
    }

    /// Moves recovery and the congestion window according to one ACK; `true` when that also set the
    /// timer of what is in flight.
    pub(in crate::tcp) fn recover<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        digest: &Digest,
    ) -> bool {
        let mut told = self.told(env, digest);
        if self.sack_permitted {
            self.note_reordering_told(env);
        } else if told.advanced {
            told.delivered_segments = self.take_back_duplicates(env, digest.cleaned.segments);
        }
        if told.delivered_segments > 0 && !told.is_old {
            self.adapt_reordering_window(env);
        }
        let found_before = self.send.board.view(env.chunks).found_lost;
        if !told.is_old && self.is_probe_out(env.chunks) {
            self.process_probe_ack(env, &told);
        }
        // With nothing in flight only a D-SACK has something to say (Linux: `tcp_ack`, "no_queue").
        let was_idle = told.una_before == self.nxt;
        let is_dubious = told.dsack.is_some()
            || !was_idle
                && (!told.is_more_than_duplicate
                    || told.sacked
                    || told.ece
                    || self.recovery.phase != Phase::Open);
        let mut timer_is_set = false;
        if is_dubious {
            timer_is_set = self.alert(env, &mut told);
        }
        if told.ece {
            self.count_congested(env, told.delivered_segments);
        }
        if self.congestion.is_modelled() {
            self.drive_model(env, &told, digest);
        } else if !told.is_old && !was_idle {
            let lost = self.send.board.view(env.chunks).found_lost != found_before;
            self.control(env, &told, lost);
        }
        if !self.send.board.is_clear() {
            self.end_undo_watch(env);
        }
        let is_idle = self.send.queue().head() == self.send.unsent();
        self.send.board.settle(env.chunks, is_idle);
        timer_is_set
    }

    /// Segments and bytes that an ACK newly reports as delivered.
    pub(in crate::tcp) fn delivered_by<P: PacketPool>(
        &self,
        env: &Env<'_, P>,
        digest: &Digest,
    ) -> (u32, u32) {
        let tally = self.send.board.view(env.chunks).tally;
        if !self.send.board.is_clear() && tally.now == env.now {
            (tally.delivered_segments, tally.delivered_bytes)
        } else {
            (digest.cleaned.segments, digest.cleaned.bytes)
        }
    }

    fn told<P: PacketPool>(&self, env: &Env<'_, P>, digest: &Digest) -> Told {
        let tally = self.send.board.view(env.chunks).tally;
        let counted = !self.send.board.is_clear() && tally.now == env.now;
        let original_acked =
            counted && tally.original_acked && (self.sack_permitted || !tally.retransmission_acked);
        Told {
            advanced: digest.advanced,
            una_before: digest.una_before,
            duplicates: u32::from(digest.duplicate && digest.dsack.is_none()),
            sacked: digest.sacked.bytes > 0,
            dsack: digest.dsack,
            is_more_than_duplicate: digest.advanced || !digest.duplicate,
            is_repeated: digest.is_repeated,
            original_acked,
            delivered_segments: self.delivered_segments(env.chunks, env.now, digest),
            rtt: digest.rtt,
            is_old: digest.is_old,
            ece: digest.ece,
        }
    }

    /// Segments that an ACK reports as received, duplicates among them.
    pub(in crate::tcp) fn delivered_segments<B>(
        &self,
        chunks: &Chunks<B>,
        now: Instant,
        digest: &Digest,
    ) -> u32 {
        let tally = self.send.board.view(chunks).tally;
        let segments = if !self.send.board.is_clear() && tally.now == now {
            tally.delivered_segments
        } else {
            digest.cleaned.segments
        };
        segments.saturating_add(digest.dsack.map_or(0, |it| it.segments))
    }

    /// First transmissions that arrived behind what was sent later.
    fn note_reordering_told<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        let ledger = self.send.board.view(env.chunks);
        let (tally, has_undo) = (ledger.tally, ledger.undo.is_some());
        if tally.now != env.now {
            return;
        }
        if let Some(low) = tally.sacked_late
            && (self.recovery.phase != Phase::Loss || has_undo)
        {
            self.note_reordering(env, low, false);
        }
        if let Some(low) = tally.filled_late
            && low.before(tally.fack_before)
        {
            self.note_reordering(env, low, false);
        }
    }

    /// The state machine; `true` when it set the timer.
    // behaviour: X8-15
    fn alert<P: PacketPool>(&mut self, env: &mut Env<'_, P>, told: &mut Told) -> bool {
        if told.ece {
            self.send.board.edit(env.chunks, |ledger| {
                if let Some(undo) = &mut ledger.undo {
                    undo.ssthresh = None;
                }
            });
        }
        self.permit(env, Permission::None);
        if told.advanced && self.is_head_sacked(env) {
            self.wait_for_reneging(env);
            return true;
        }
        match self.recovery.phase {
            Phase::Open => self.forget_first_retransmission(env),
            Phase::Cwr if self.una.after(self.recovery.point) => {
                // Strictly beyond, so that the peer has seen CWR.
                self.end_reduction(env);
                self.enter_phase(env, Phase::Open);
            }
            Phase::Recovery if self.una.after_or_eq(self.recovery.point) => {
                self.recovery.dup_acks = 0;
                if self.end_episode(env) {
                    return false;
                }
                self.end_reduction(env);
            }
            Phase::Disorder | Phase::Cwr | Phase::Recovery | Phase::Loss => {}
        }
        match self.recovery.phase {
            Phase::Recovery => self.go_on_recovering(env, told),
            Phase::Loss => {
                let permission = self.process_loss(env, told);
                self.permit(env, permission);
                let (is_timer_set, lost_again) = self.find_loss(env, told);
                if self.recovery.phase != Phase::Open && !lost_again {
                    return is_timer_set;
                }
                self.watch_for_loss(env, told)
            }
            Phase::Open | Phase::Disorder | Phase::Cwr => self.watch_for_loss(env, told),
        }
    }

    // behaviour: A22-6
    fn go_on_recovering<P: PacketPool>(&mut self, env: &mut Env<'_, P>, told: &mut Told) -> bool {
        if !told.advanced {
            if !self.sack_permitted {
                told.delivered_segments = self.count_duplicate(env, told.duplicates);
            }
        } else if self.try_undo_partial(env, told.una_before) {
            return false;
        }
        if self.try_undo_by_dsack(env) {
            self.try_to_open(env, told);
        }
        let (is_timer_set, _) = self.find_loss(env, told);
        if self.recovery.phase != Phase::Recovery {
            if self.send.board.lost(env.chunks) == 0 {
                return is_timer_set;
            }
            // Undone, but something is lost in truth.
            self.enter_recovery(env, told.ece);
        }
        self.permit(env, Permission::Lost);
        is_timer_set
    }

    /// Open, Disorder and CWR: is something lost? (Linux: the default case.)
    // behaviour: A21-5, A22-9
    fn watch_for_loss<P: PacketPool>(&mut self, env: &mut Env<'_, P>, told: &mut Told) -> bool {
        if !self.sack_permitted {
            if told.advanced {
                self.recovery.dup_acks = 0;
            }
            let delivered = self.count_duplicate(env, told.duplicates);
            told.delivered_segments = told.delivered_segments.saturating_add(delivered);
        }
        if self.recovery.phase <= Phase::Disorder {
            self.try_undo_by_dsack(env);
        }
        let (is_timer_set, _) = self.find_loss(env, told);
        if self.send.board.lost(env.chunks) == 0 {
            self.try_to_open(env, told);
            return is_timer_set;
        }
        if self.is_probe_lost(env) {
            self.recover_without_congestion(env);
        } else {
            self.enter_recovery(env, told.ece);
        }
        self.permit(env, Permission::Lost);
        is_timer_set
    }

    /// Marks what is lost; tells whether a timer was set, and whether a retransmission was lost.
    fn find_loss<P: PacketPool>(&mut self, env: &mut Env<'_, P>, told: &Told) -> (bool, bool) {
        if self.send.queue().head() == self.send.unsent() {
            return (false, false);
        }
        if !self.sack_permitted {
            self.find_loss_by_duplicates(env, told.advanced);
            return (false, false);
        }
        let before = self.send.board.view(env.chunks).found_lost_again;
        let is_timer_set = self.detect_loss_by_time(env);
        let after = self.send.board.view(env.chunks).found_lost_again;
        (is_timer_set, after != before)
    }

    /// Three duplicates, and then every partial ACK, say that the oldest segment is lost.
    //= https://www.rfc-editor.org/rfc/rfc6582#section-3.2
    //# Partial acknowledgments: ... retransmit the first unacknowledged segment.
    fn find_loss_by_duplicates<P: PacketPool>(&mut self, env: &mut Env<'_, P>, advanced: bool) {
        let threshold = self.reordering(env.chunks).degree(env.tunables);
        let many = u32::from(self.recovery.dup_acks) >= threshold;
        let found = match self.recovery.phase {
            Phase::Open | Phase::Disorder | Phase::Cwr => many,
            Phase::Recovery => advanced,
            Phase::Loss => false,
        };
        let head = self.send.queue().head();
        let known = env.chunks.get(head).is_none_or(|chunk| chunk.has(LOST));
        if found && !known {
            self.send.board.mark_lost(env.chunks, head);
        }
    }

    /// Duplicate ACKs stand for segments that left the network (Linux: `tcp_add_reno_sack`); tells
    /// how many did.
    pub(in crate::tcp) fn count_duplicate<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        duplicates: u32,
    ) -> u32 {
        let before = u32::from(self.recovery.dup_acks);
        if duplicates == 0 {
            return 0;
        }
        let counted = before.saturating_add(duplicates).min(255);
        let counted = self.limit_duplicates(env, counted, 0);
        self.recovery.dup_acks = counted as u8;
        counted.saturating_sub(before)
    }

    /// How many of so many duplicates can stand for segments in flight: beside them there is a hole.
    /// More than that were for reordered segments, of which this ACK took `acked` (Linux:
    /// `tcp_check_reno_reordering`). A comparison while there is room for all; else O(`counted`), and
    /// O(`tcp_max_reordering`) where there is not.
    fn limit_duplicates<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        counted: u32,
        acked: u32,
    ) -> u32 {
        let board = &self.send.board;
        // No segment is longer than the MSS: so many bytes that are no hole are at least as many.
        let mss = u32::from(self.mss);
        let lost = board.lost(env.chunks);
        if self.sent_bytes() >= counted.saturating_mul(mss).saturating_add(lost.max(mss)) {
            return counted;
        }
        let hole = u32::from(lost == 0);
        let room = self.segments_not_lost(env.chunks, counted.saturating_add(hole));
        let room = room.saturating_sub(hole);
        if counted <= room {
            return counted;
        }
        // More than the largest degree, or than the present one, say no more.
        let present = self.reordering(env.chunks).degree(env.tunables);
        let most = u32::from(env.tunables.tcp_max_reordering).max(present.saturating_add(1));
        let out = self.segments_out(env.chunks, most);
        self.raise_reordering(env, out.saturating_add(acked));
        count!(env.stats.tcp_reno_reorder);
        room
    }

    /// Segments that were sent, are not acknowledged and not lost, `most` at most. Without SACK what is
    /// lost lies before what is not (but for segments that became too long for the path): counted from
    /// behind that is O(`most`).
    pub(in crate::tcp) fn segments_not_lost<B>(&self, chunks: &Chunks<B>, most: u32) -> u32 {
        let mut segments = u32::from(self.has_separate_fin_out(chunks));
        let lost = self.send.board.lost(chunks);
        let mut left = self.sent_bytes().saturating_sub(lost);
        let head = self.send.queue().head();
        let mut index = match chunks.get(self.send.unsent()) {
            Some(unsent) => unsent.prev(),
            None => self.send.queue().tail(),
        };
        while left > 0 && segments < most {
            let Some(chunk) = chunks.get(index) else {
                break;
            };
            if !chunk.has(LOST) {
                left = left.saturating_sub(chunk.len.into());
                // What is left of a segment of which an ACK took the first part is a segment, too.
                let begins = !chunk.has(CONTINUED) || index == head;
                segments = segments.wrapping_add(u32::from(begins));
            }
            index = chunk.prev();
        }
        segments.min(most)
    }

    /// Segments that were sent and not acknowledged, `most` at most. O(`most`).
    pub(in crate::tcp) fn segments_out<B>(&self, chunks: &Chunks<B>, most: u32) -> u32 {
        let mut segments = u32::from(self.has_separate_fin_out(chunks));
        let head = self.send.queue().head();
        let mut index = head;
        while index != self.send.unsent() && segments < most {
            let Some(chunk) = chunks.get(index) else {
                break;
            };
            // What is left of a segment of which an ACK took the first part is a segment, too.
            let begins = !chunk.has(CONTINUED) || index == head;
            segments = segments.wrapping_add(u32::from(begins));
            index = chunk.next();
        }
        segments.min(most)
    }

    /// An ACK after a hole was filled covers the hole and what the duplicates stood for (Linux:
    /// `tcp_remove_reno_sacks`); tells how many segments it delivered.
    fn take_back_duplicates<P: PacketPool>(&mut self, env: &mut Env<'_, P>, acked: u32) -> u32 {
        let known = u32::from(self.recovery.dup_acks);
        if acked == 0 {
            return 0;
        }
        let left = known.saturating_sub(acked.saturating_sub(1));
        if left > 0 {
            self.recovery.dup_acks = self.limit_duplicates(env, left, acked) as u8;
        } else {
            self.recovery.dup_acks = 0;
        }
        acked.saturating_sub(known).max(1)
    }

    /// Fast recovery begins.
    pub(super) fn enter_recovery<P: PacketPool>(&mut self, env: &mut Env<'_, P>, ece: bool) {
        if !self.has_retransmitted_head(env) {
            self.forget_first_retransmission(env);
        }
        if self.sack_permitted {
            count!(env.stats.tcp_sack_recovery);
        } else {
            count!(env.stats.tcp_reno_recovery);
        }
        let reducing = matches!(self.recovery.phase, Phase::Cwr | Phase::Recovery);
        let ssthresh = (!reducing && !ece).then(|| self.current_ssthresh());
        self.remember_for_undo(env, ssthresh);
        if !reducing {
            self.begin_reduction(env, false);
        }
        self.enter_phase(env, Phase::Recovery);
    }

    /// Congestion without loss: the window goes down, at most once in a round trip (Linux:
    /// `tcp_enter_cwr`).
    pub(in crate::tcp) fn enter_cwr<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        if self.recovery.phase >= Phase::Cwr {
            return;
        }
        self.send
            .board
            .edit(env.chunks, |ledger| ledger.undo = None);
        self.begin_reduction(env, true);
        self.enter_phase(env, Phase::Cwr);
    }

    /// Linux: `tcp_init_cwnd_reduction`.
    pub(super) fn begin_reduction<P: PacketPool>(&mut self, env: &mut Env<'_, P>, by_mark: bool) {
        self.recovery.point = self.nxt;
        let segments = self.congestion.cwnd.checked_div(self.mss.max(1).into());
        self.send
            .board
            .begin_reduction(env.chunks, segments.unwrap_or(1));
        self.lower_threshold(env, by_mark);
    }

    /// The episode is over: the window is the threshold, unless that was undone (Linux:
    /// `tcp_end_cwnd_reduction`).
    pub(super) fn end_reduction<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        let has_undo = self.send.board.view(env.chunks).undo.is_some();
        let counts = self.recovery.phase == Phase::Cwr || has_undo;
        if counts && self.congestion.ssthresh != u32::MAX {
            self.congestion.cwnd = self.congestion.ssthresh.max(u32::from(self.mss));
        }
        let setting = &mut env.setting();
        self.congestion.cwnd_event(setting, CwndEvent::CompleteCwr);
        self.send.board.end_reduction(env.chunks);
    }

    /// The state changes, and congestion control hears of it first (Linux: `tcp_set_ca_state`).
    pub(super) fn enter_phase<P: PacketPool>(&mut self, env: &mut Env<'_, P>, phase: Phase) {
        let setting = &mut env.setting();
        self.congestion.set_state(setting, phase, self.nxt);
        self.recovery.phase = phase;
    }

    /// The window goes down no further: the state that demanded it was left.
    pub(super) fn leave_reduction<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        if !matches!(self.recovery.phase, Phase::Cwr | Phase::Recovery) {
            self.send.board.end_reduction(env.chunks);
        }
    }

    fn try_to_open<P: PacketPool>(&mut self, env: &mut Env<'_, P>, told: &Told) {
        if !self.has_retransmitted_head(env) {
            self.forget_first_retransmission(env);
        }
        if told.ece {
            self.enter_cwr(env);
        }
        if self.recovery.phase != Phase::Cwr {
            self.keep_open(env);
            self.leave_reduction(env);
        }
    }

    /// Open, or Disorder while something is reported or was sent again (Linux:
    /// `tcp_try_keep_open`).
    pub(super) fn keep_open<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        let board = &self.send.board;
        let left = board.sacked(env.chunks) | board.lost(env.chunks);
        let is_disordered =
            left != 0 || self.recovery.dup_acks > 0 || self.has_retransmitted_head(env);
        let phase = if is_disordered {
            Phase::Disorder
        } else {
            Phase::Open
        };
        if self.recovery.phase != phase {
            self.enter_phase(env, phase);
        }
    }

    /// The window after this ACK: down in CWR and Recovery, else perhaps up.
    fn control<P: PacketPool>(&mut self, env: &mut Env<'_, P>, told: &Told, lost: bool) {
        if matches!(self.recovery.phase, Phase::Cwr | Phase::Recovery) {
            if let Some(rtt) = told.rtt {
                // The queue is short now, if ever (Linux: `pkts_acked` in any state).
                let shelves = &mut env.chunks.congestion;
                self.congestion.learn(shelves, rtt, env.now);
            }
            self.reduce(env, told.delivered_segments, told.advanced && !lost);
            return;
        }
        let raised = self.reordering(env.chunks).degree(env.tunables)
            > u32::from(env.tunables.tcp_reordering.clamp(1, 127));
        if told.advanced || (raised && told.sacked) {
            self.grow(env, told.delivered_segments, told.rtt);
        }
    }

    /// The window that proportional rate reduction allows after so many delivered segments.
    pub(super) fn reduce<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        delivered: u32,
        is_good: bool,
    ) {
        let flight = self.in_flight(env.chunks);
        let mss = u32::from(self.mss.max(1));
        let progress = Progress {
            delivered,
            flight: flight.div_ceil(mss),
            ssthresh: self.congestion.ssthresh.checked_div(mss).unwrap_or(1),
            is_good,
        };
        let Some(reduction) = self.send.board.reduction(env.chunks) else {
            return;
        };
        if let Some(segments) = reduction.allowance(progress) {
            let window = flight.saturating_add(segments.saturating_mul(mss));
            self.congestion.cwnd = window.max(mss);
        }
    }

    /// Whether retransmissions may leave until the next ACK.
    pub(super) fn permit<P: PacketPool>(&mut self, env: &mut Env<'_, P>, permission: Permission) {
        if !self.send.board.is_clear() {
            let board = &mut self.send.board;
            board.edit(env.chunks, |ledger| ledger.permission = permission);
        }
    }

    fn is_head_sacked<P: PacketPool>(&self, env: &Env<'_, P>) -> bool {
        let head = self.send.queue().head();
        head != self.send.unsent() && env.chunks.get(head).is_some_and(|it| it.has(SACKED))
    }

    /// The peer acknowledged up to what it had SACKed and no further: it may have thrown that away.
    /// It gets half a round trip to say more (Linux: `tcp_check_sack_reneging`).
    fn wait_for_reneging<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        let srtt = self.rtt.srtt().map_or(0, Micros::as_micros);
        let wait = Nanos::from_micros(u64::from(srtt / 2)).max(Nanos::from_millis(10));
        self.timers.arm(Purpose::Retransmit, env.now, wait);
    }
}
