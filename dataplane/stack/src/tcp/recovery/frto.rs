//! Loss: the ACKs after a timeout, and F-RTO, which finds out from them whether the timeout was
//! spurious (RFC 5682 with SACK).
//!
//! After the first segment went out again, an ACK that moves SND.UNA lets new data leave instead of
//! more retransmissions. If then something arrives that was never retransmitted, nothing was lost.

use millrace_base::PacketPool;

use super::Phase;
use super::alert::Told;
use super::ledger::Permission;
use crate::tcp::connection::Connection;
use crate::tcp::segment::Env;

impl Connection {
    /// An ACK in Loss; tells what may leave (Linux: `tcp_process_loss`).
    //= https://www.rfc-editor.org/rfc/rfc5682#section-3.1
    // behaviour: A21-15, X2-15
    pub(super) fn process_loss<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        told: &Told,
    ) -> Permission {
        let recovered = self.una.after_or_eq(self.recovery.point);
        if told.advanced && self.try_undo_loss(env, false) {
            return Permission::None;
        }
        if self.send.board.view(env.chunks).frto {
            //# 3.b) ... the retransmission timeout was spurious
            if told.original_acked && self.try_undo_loss(env, true) {
                return Permission::None;
            }
            if self.nxt.after(self.recovery.point) {
                if told.sacked || told.duplicates > 0 {
                    //# 3.a) If this acknowledgment is a duplicate ACK, ... the loss recovery
                    self.end_frto(env);
                }
            } else if told.advanced && !recovered {
                self.recovery.point = self.nxt;
                if self.has_new_to_send() {
                    return Permission::New;
                }
                self.end_frto(env);
            }
        }
        if recovered {
            self.end_episode(env);
            return Permission::None;
        }
        if !self.sack_permitted {
            if self.nxt.after(self.recovery.point) && told.duplicates > 0 {
                self.count_duplicate(env, told.duplicates);
            } else if told.advanced {
                self.recovery.dup_acks = 0;
            }
        }
        Permission::Lost
    }

    pub(in crate::tcp) fn end_frto<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        if !self.send.board.is_clear() {
            let board = &mut self.send.board;
            board.edit(env.chunks, |ledger| ledger.frto = false);
        }
    }

    /// Step 2b's new data did not leave: what is lost may, after all.
    pub(in crate::tcp) fn give_up_frto<P: PacketPool>(&mut self, env: &mut Env<'_, P>) -> bool {
        if self.send.board.permission(env.chunks) != Permission::New
            || self.nxt.after(self.recovery.point)
        {
            return false;
        }
        self.end_frto(env);
        self.permit(env, Permission::Lost);
        self.recovery.phase == Phase::Loss
    }

    fn has_new_to_send(&self) -> bool {
        self.unsent_bytes() > 0 && self.usable_window() > 0
    }
}
