//! What the stack counts: plain 64-bit integers with one writer, under the names Linux gives them.
//!
//! A name is what `nstat` prints (`TcpInSegs`, `TcpExtListenOverflows`). Counters of our own, for
//! which Linux has no name, are in snake case. A row appears with the code that counts it: none
//! stays 0 for want of a writer. Drop reasons come from the table in `verdict.rs`.

use crate::verdict::{DROP_REASONS, DropReason};

/// Adds to a counter of `Stats`: `count!(stats.tcp_in_segs)` or `count!(stats.payload_copied_bytes,
/// n)`.
macro_rules! count {
    ($stats:ident . $($counter:ident).+) => {
        $stats.$($counter).+ = $stats.$($counter).+.wrapping_add(1)
    };
    ($stats:ident . $($counter:ident).+, $amount:expr) => {
        $stats.$($counter).+ = $stats.$($counter).+.wrapping_add($amount)
    };
}
pub(crate) use count;

macro_rules! counters {
    ($( $(#[doc = $help:literal])+ $field:ident = $name:literal, )+) => {
        /// All counters of one stack.
        #[derive(Clone, Debug)]
        pub struct Stats {
            $( $(#[doc = $help])+ pub $field: u64, )+
            /// Frames and segments that went no further, by `DropReason::index`.
            pub drops: [u64; DROP_REASONS],
        }

        impl Default for Stats {
            fn default() -> Self {
                Self { $( $field: 0, )+ drops: [0; DROP_REASONS] }
            }
        }

        impl Stats {
            /// Calls `visit` with the name, the help text and the value of every counter, in a
            /// fixed order.
            pub fn for_each(&self, mut visit: impl FnMut(&'static str, &'static str, u64)) {
                $( visit($name, concat!($($help),+).trim_ascii(), self.$field); )+
                for reason in DropReason::ALL {
                    visit(reason.counter(), reason.sentence(), self.dropped(*reason));
                }
            }
        }
    };
}

counters! {
    /// Frames handed to the stack.
    frames_in = "frames_in",
    /// Frames handed out for transmission.
    frames_out = "frames_out",
    /// Frames that were the control plane's business (ARP, neighbour discovery, other traffic to
    /// our addresses).
    frames_punted = "frames_punted",
    /// Frames that reached their connection, mini-socket or handler.
    frames_delivered = "frames_delivered",
    /// Bytes handed to the stack, Ethernet headers included.
    bytes_in = "bytes_in",
    /// Bytes handed out for transmission, Ethernet headers included.
    bytes_out = "bytes_out",
    /// Payload bytes the CPU copied, by the copying `send` and `receive`; a spliced byte adds
    /// nothing.
    payload_copied_bytes = "payload_copied_bytes",
    /// Payload bytes moved by reference from one connection to another.
    payload_spliced_bytes = "payload_spliced_bytes",

    /// IP packets received.
    ip_in_receives = "IpInReceives",
    /// IP packets with a bad header.
    ip_in_hdr_errors = "IpInHdrErrors",
    /// IP packets to an address that is not ours.
    ip_in_addr_errors = "IpInAddrErrors",
    /// IP packets shorter than their header says.
    ip_in_truncated_pkts = "IpExtInTruncatedPkts",
    /// IP packets with a wrong header checksum.
    ip_in_csum_errors = "IpExtInCsumErrors",
    /// IP packets to a multicast address.
    ip_in_mcast_pkts = "IpExtInMcastPkts",
    /// Bytes of IP packets to a multicast address.
    ip_in_mcast_octets = "IpExtInMcastOctets",
    /// IP packets to a broadcast address.
    ip_in_bcast_pkts = "IpExtInBcastPkts",
    /// Bytes of IP packets to a broadcast address.
    ip_in_bcast_octets = "IpExtInBcastOctets",
    /// IP packets whose sender does not speak ECN.
    ip_in_no_ect_pkts = "IpExtInNoECTPkts",
    /// IP packets that may be marked, by the code point ECT(1).
    ip_in_ect1_pkts = "IpExtInECT1Pkts",
    /// IP packets that may be marked, by the code point ECT(0).
    ip_in_ect0_pkts = "IpExtInECT0Pkts",
    /// IP packets that were marked: congestion experienced.
    ip_in_ce_pkts = "IpExtInCEPkts",
    /// IP packets given to a transport protocol.
    ip_in_delivers = "IpInDelivers",
    /// IP packets of other protocols to our addresses.
    ip_in_unknown_protos = "IpInUnknownProtos",
    /// IP packets sent.
    ip_out_requests = "IpOutRequests",
    /// IP packets not sent for want of a route.
    ip_out_no_routes = "IpOutNoRoutes",
    /// IP packets not sent for other reasons.
    ip_out_discards = "IpOutDiscards",
    /// IP fragments received that were to be put together.
    ip_reasm_reqds = "IpReasmReqds",
    /// IP packets put together.
    ip_reasm_oks = "IpReasmOKs",
    /// Failures to put a packet together, for whatever reason.
    ip_reasm_fails = "IpReasmFails",
    /// Packets whose pieces did not come in time.
    ip_reasm_timeout = "IpReasmTimeout",
    /// Fragments that overlapped others.
    ip_reasm_overlaps = "IpExtReasmOverlaps",
    /// IP packets sent in pieces.
    ip_frag_oks = "IpFragOKs",
    /// IP packets that were to be sent in pieces and were not.
    ip_frag_fails = "IpFragFails",
    /// Pieces of packets sent.
    ip_frag_creates = "IpFragCreates",

    /// ICMP messages received.
    icmp_in_msgs = "IcmpInMsgs",
    /// ICMP messages that were malformed.
    icmp_in_errors = "IcmpInErrors",
    /// ICMP messages with a wrong checksum.
    icmp_in_csum_errors = "IcmpInCsumErrors",
    /// ICMP and ICMPv6 errors about unreachable destinations received (time exceeded and parameter
    /// problem included).
    icmp_in_dest_unreachs = "IcmpInDestUnreachs",
    /// ICMPv6 packet-too-big messages received.
    icmp6_in_pkt_too_bigs = "Icmp6InPktTooBigs",
    /// Echo requests received.
    icmp_in_echos = "IcmpInEchos",
    /// Echo replies received.
    icmp_in_echo_reps = "IcmpInEchoReps",
    /// ICMP and ICMPv6 time exceeded messages sent: packets that were never whole.
    icmp_out_time_excds = "IcmpOutTimeExcds",
    /// ICMP errors not sent because of the rate limit.
    icmp_out_rate_limit = "IcmpOutRateLimitGlobal",
    /// Echo replies sent.
    icmp_out_echo_reps = "IcmpOutEchoReps",

    /// Connections opened by us.
    tcp_active_opens = "TcpActiveOpens",
    /// Connections opened by peers.
    tcp_passive_opens = "TcpPassiveOpens",
    /// Handshakes that failed.
    tcp_attempt_fails = "TcpAttemptFails",
    /// Established connections that were reset.
    tcp_estab_resets = "TcpEstabResets",
    /// Connections now in ESTABLISHED or CLOSE-WAIT.
    tcp_curr_estab = "TcpCurrEstab",
    /// Segments received, bad ones included.
    tcp_in_segs = "TcpInSegs",
    /// Segments sent, retransmissions excluded.
    tcp_out_segs = "TcpOutSegs",
    /// Segments sent again.
    tcp_retrans_segs = "TcpRetransSegs",
    /// Segments received in error.
    tcp_in_errs = "TcpInErrs",
    /// Segments sent with RST.
    tcp_out_rsts = "TcpOutRsts",
    /// Segments with a wrong checksum.
    tcp_in_csum_errors = "TcpInCsumErrors",

    /// SYN cookies sent.
    syncookies_sent = "TcpExtSyncookiesSent",
    /// Connections made from a SYN cookie.
    syncookies_recv = "TcpExtSyncookiesRecv",
    /// ACKs to a listener without a valid cookie.
    syncookies_failed = "TcpExtSyncookiesFailed",
    /// Half-open connections that were reset.
    embryonic_rsts = "TcpExtEmbryonicRsts",
    /// Packets dropped because they came too late to a TIME_WAIT or by PAWS in SYN-SENT.
    paws_active = "TcpExtPAWSActive",
    /// Packets of established connections dropped because of an old timestamp.
    paws_estab = "TcpExtPAWSEstab",
    /// TIME_WAIT records made.
    tw = "TcpExtTW",
    /// TIME_WAIT records that gave way to a new SYN, the peer's or ours.
    tw_recycled = "TcpExtTWRecycled",
    /// FIN_WAIT2 records made for less than four seconds.
    tw_killed = "TcpExtTWKilled",
    /// Connections that ended without a TIME_WAIT record because there were too many.
    tcp_time_wait_overflow = "TcpExtTCPTimeWaitOverflow",
    /// Times the accept backlog of a listener was full.
    listen_overflows = "TcpExtListenOverflows",
    /// SYNs dropped by listeners.
    listen_drops = "TcpExtListenDrops",
    /// Times a SYN met a full half-open queue and cookies were sent.
    tcp_req_q_full_do_cookies = "TcpExtTCPReqQFullDoCookies",
    /// Times a SYN met a full half-open queue and was dropped.
    tcp_req_q_full_drop = "TcpExtTCPReqQFullDrop",
    /// Floods: times a listener's half-open queue became full, each told once until it was empty.
    syn_floods = "syn_floods",
    /// Final ACKs not taken because their data is waited for (`TCP_DEFER_ACCEPT`).
    tcp_defer_accept_drop = "TcpExtTCPDeferAcceptDrop",
    /// SYN-ACKs retransmitted, and SYNs.
    tcp_syn_retrans = "TcpExtTCPSynRetrans",
    /// Answers not sent to a half-open connection because of the rate limit.
    tcp_ack_skipped_syn_recv = "TcpExtTCPACKSkippedSynRecv",
    /// Answers not sent for a TIME_WAIT because of the rate limit.
    tcp_ack_skipped_time_wait = "TcpExtTCPACKSkippedTimeWait",
    /// Answers not sent for a FIN_WAIT2 because of the rate limit.
    tcp_ack_skipped_fin_wait2 = "TcpExtTCPACKSkippedFinWait2",
    /// Answers not sent to an old timestamp because of the rate limit.
    tcp_ack_skipped_paws = "TcpExtTCPACKSkippedPAWS",
    /// Answers not sent to an out-of-window segment because of the rate limit.
    tcp_ack_skipped_seq = "TcpExtTCPACKSkippedSeq",
    /// Challenge ACKs not sent because of the rate limit.
    tcp_ack_skipped_challenge = "TcpExtTCPACKSkippedChallenge",
    /// Retransmission timeouts and SYN timeouts.
    tcp_timeouts = "TcpExtTCPTimeouts",
    /// Slow starts left because ACKs came in a train as long as half of a round trip.
    tcp_hystart_train_detect = "TcpExtTCPHystartTrainDetect",
    /// The windows of these, in segments.
    tcp_hystart_train_cwnd = "TcpExtTCPHystartTrainCwnd",
    /// Slow starts left because round trips became longer.
    tcp_hystart_delay_detect = "TcpExtTCPHystartDelayDetect",
    /// The windows of these, in segments.
    tcp_hystart_delay_cwnd = "TcpExtTCPHystartDelayCwnd",
    /// Challenge ACKs sent (RFC 5961).
    tcp_challenge_ack = "TcpExtTCPChallengeACK",
    /// SYNs on a synchronised connection answered with a challenge ACK.
    tcp_syn_challenge = "TcpExtTCPSYNChallenge",
    /// Recoveries entered by SACK.
    tcp_sack_recovery = "TcpExtTCPSackRecovery",
    /// Recoveries entered by duplicate ACKs alone.
    tcp_reno_recovery = "TcpExtTCPRenoRecovery",
    /// Times a peer took back a SACK.
    tcp_sack_reneging = "TcpExtTCPSACKReneging",
    /// First timeouts of a row in fast recovery by SACK.
    tcp_sack_recovery_fail = "TcpExtTCPSackRecoveryFail",
    /// First timeouts of a row in fast recovery without SACK.
    tcp_reno_recovery_fail = "TcpExtTCPRenoRecoveryFail",
    /// First timeouts of a row while an earlier one was being recovered from.
    tcp_loss_failures = "TcpExtTCPLossFailures",
    /// First timeouts of a row after SACKs that did not yet show a loss.
    tcp_sack_failures = "TcpExtTCPSackFailures",
    /// First timeouts of a row after duplicate ACKs that did not yet show a loss.
    tcp_reno_failures = "TcpExtTCPRenoFailures",
    /// Segments retransmitted whose retransmission was lost.
    tcp_lost_retransmit = "TcpExtTCPLostRetransmit",
    /// Tail loss probes sent.
    tcp_loss_probes = "TcpExtTCPLossProbes",
    /// Tail losses that a probe repaired.
    tcp_loss_probe_recovery = "TcpExtTCPLossProbeRecovery",
    /// Timeouts that F-RTO found to be spurious.
    tcp_spurious_rtos = "TcpExtTCPSpuriousRTOs",
    /// Recoveries that were undone as a whole.
    tcp_full_undo = "TcpExtTCPFullUndo",
    /// Recoveries that were undone when a hole was filled by what was delayed.
    tcp_partial_undo = "TcpExtTCPPartialUndo",
    /// Recoveries that were undone because every retransmission was a duplicate.
    tcp_dsack_undo = "TcpExtTCPDSACKUndo",
    /// Timeouts that were undone.
    tcp_loss_undo = "TcpExtTCPLossUndo",
    /// Times reordering was seen by SACK.
    tcp_sack_reorder = "TcpExtTCPSACKReorder",
    /// Times reordering was seen by a timestamp.
    tcp_ts_reorder = "TcpExtTCPTSReorder",
    /// Times reordering was seen by duplicate ACKs.
    tcp_reno_reorder = "TcpExtTCPRenoReorder",
    /// SACK blocks that say nothing.
    tcp_sack_discard = "TcpExtTCPSACKDiscard",
    /// D-SACKs received for data above the acknowledgment.
    tcp_dsack_ofo_recv = "TcpExtTCPDSACKOfoRecv",
    /// Segments that D-SACKs reported.
    tcp_dsack_recv_segs = "TcpExtTCPDSACKRecvSegs",
    /// D-SACKs of more than was ever sent twice.
    tcp_dsack_ignored_dubious = "TcpExtTCPDSACKIgnoredDubious",
    /// D-SACKs while there was nothing to undo.
    tcp_dsack_ignored_no_undo = "TcpExtTCPDSACKIgnoredNoUndo",
    /// Segments retransmitted in fast recovery.
    tcp_fast_retrans = "TcpExtTCPFastRetrans",
    /// Segments retransmitted in slow start after a timeout.
    tcp_slow_start_retrans = "TcpExtTCPSlowStartRetrans",
    /// Retransmissions that found no buffer.
    tcp_retrans_fail = "TcpExtTCPRetransFail",
    /// D-SACKs received.
    tcp_dsack_recv = "TcpExtTCPDSACKRecv",
    /// D-SACKs sent for data already acknowledged.
    tcp_dsack_old_sent = "TcpExtTCPDSACKOldSent",
    /// D-SACKs sent for out-of-order data.
    tcp_dsack_ofo_sent = "TcpExtTCPDSACKOfoSent",
    /// Segments with data whose header was the expected one.
    tcp_hp_hits = "TcpExtTCPHPHits",
    /// Acknowledgments of new data whose header was the expected one.
    tcp_hp_acks = "TcpExtTCPHPAcks",
    /// Delayed ACKs sent.
    delayed_acks = "TcpExtDelayedACKs",
    /// Delayed ACKs that found the connection in use by a thread. Always 0: a connection has one
    /// thread.
    delayed_ack_locked = "TcpExtDelayedACKLocked",
    /// ACKs of out-of-order segments that were spared because a later one told the same.
    tcp_ack_compressed = "TcpExtTCPAckCompressed",
    /// Times a duplicate segment showed that a delayed ACK was lost.
    delayed_ack_lost = "TcpExtDelayedACKLost",
    /// Segments queued out of order.
    tcp_ofo_queue = "TcpExtTCPOFOQueue",
    /// Out-of-order segments dropped for want of room.
    tcp_ofo_drop = "TcpExtTCPOFODrop",
    /// Out-of-order ranges thrown away under memory pressure.
    ofo_pruned = "TcpExtOfoPruned",
    /// Segments dropped because the receive queue was full.
    tcp_rcvq_drop = "TcpExtTCPRcvQDrop",
    /// Tiny payloads copied into the buffer in front of them, while memory was short.
    tcp_rcv_coalesce = "TcpExtTCPRcvCoalesce",
    /// Segments for which a connection's receive memory was too small at first.
    prune_called = "TcpExtPruneCalled",
    /// Those for which there was no memory in the end.
    rcv_pruned = "TcpExtRcvPruned",
    /// Connections reset because data arrived after close.
    tcp_abort_on_data = "TcpExtTCPAbortOnData",
    /// Connections reset because unread data was thrown away by close.
    tcp_abort_on_close = "TcpExtTCPAbortOnClose",
    /// Connections ended by a timeout.
    tcp_abort_on_timeout = "TcpExtTCPAbortOnTimeout",
    /// Connections closed in FIN-WAIT-2 that were not to linger there (`TCP_LINGER2` below 0).
    tcp_abort_on_linger = "TcpExtTCPAbortOnLinger",
    /// Orphans reset because there were too many, or no memory for them.
    tcp_abort_on_memory = "TcpExtTCPAbortOnMemory",
    /// Keep-alive probes sent.
    tcp_keep_alive = "TcpExtTCPKeepAlive",
    /// Probes of the path's MTU that arrived.
    tcp_mtup_success = "TcpExtTCPMTUPSuccess",
    /// Probes of the path's MTU that were lost while what followed arrived.
    tcp_mtup_fail = "TcpExtTCPMTUPFail",
    /// Segments refused because they reach beyond the window.
    beyond_window = "TcpExtBeyondWindow",
    /// Segments dropped because the window is closed.
    tcp_zero_window_drop = "TcpExtTCPZeroWindowDrop",
    /// Zero-window probes sent.
    tcp_win_probe = "TcpExtTCPWinProbe",
    /// Times a zero window was advertised.
    tcp_to_zero_window_adv = "TcpExtTCPToZeroWindowAdv",
    /// Times the window was opened again after zero.
    tcp_from_zero_window_adv = "TcpExtTCPFromZeroWindowAdv",
    /// Times a zero window was wanted while the old one could not shrink.
    tcp_want_zero_window_adv = "TcpExtTCPWantZeroWindowAdv",
    /// Data in SYNs of ours that SYN-ACKs acknowledged.
    tcp_fast_open_active = "TcpExtTCPFastOpenActive",
    /// Data in SYNs of ours that had to be sent again.
    tcp_fast_open_active_fail = "TcpExtTCPFastOpenActiveFail",
    /// Connections made of a SYN.
    tcp_fast_open_passive = "TcpExtTCPFastOpenPassive",
    /// SYNs with a Fast Open cookie that was wrong, or that no connection could be made of.
    tcp_fast_open_passive_fail = "TcpExtTCPFastOpenPassiveFail",
    /// SYNs not taken as Fast Open because their listener had too many such connections.
    tcp_fast_open_listen_overflow = "TcpExtTCPFastOpenListenOverflow",
    /// SYNs that asked for a Fast Open cookie.
    tcp_fast_open_cookie_reqd = "TcpExtTCPFastOpenCookieReqd",
    /// Times that Fast Open was switched off because somebody on the way swallows it.
    tcp_fast_open_blackhole = "TcpExtTCPFastOpenBlackhole",
    /// Connections made of a SYN by a cookie of the backup key.
    tcp_fast_open_passive_alt_key = "TcpExtTCPFastOpenPassiveAltKey",
    /// Original data segments sent.
    tcp_orig_data_sent = "TcpExtTCPOrigDataSent",
    /// Segments dropped because their peer has a key and they were not signed.
    tcp_md5_not_found = "TcpExtTCPMD5NotFound",
    /// Segments dropped because they were signed and their peer has no key.
    tcp_md5_unexpected = "TcpExtTCPMD5Unexpected",
    /// Segments dropped because their signature is of another key, or of another segment.
    tcp_md5_failure = "TcpExtTCPMD5Failure",
    /// ICMP messages dropped because the quoted sequence number was not in flight.
    out_of_window_icmps = "TcpExtOutOfWindowIcmps",
}

impl Stats {
    /// Counts one frame or segment that went no further.
    pub fn drop(&mut self, reason: DropReason) {
        if let Some(counter) = self.drops.get_mut(reason.index()) {
            *counter = counter.wrapping_add(1);
        }
    }

    /// Frames and segments that went no further for this reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.get(reason.index()).copied().unwrap_or(0)
    }

    /// Frames and segments that went no further in this stage of the pipeline.
    pub fn dropped_in(&self, stage: crate::verdict::Stage) -> u64 {
        let of_stage = DropReason::ALL
            .iter()
            .filter(|reason| reason.stage() == stage);
        of_stage.fold(0, |sum: u64, reason| {
            sum.wrapping_add(self.dropped(*reason))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_counter_has_its_own_name_and_a_sentence() {
        let mut stats = Stats::default();
        count!(stats.tcp_in_segs);
        count!(stats.tcp_in_segs, 2);
        stats.drop(DropReason::TcpChecksum);
        let mut names = HashSet::new();
        let mut seen = Vec::new();
        stats.for_each(|name, help, value| {
            assert!(names.insert(name), "{name} twice");
            assert!(help.ends_with('.'), "{name}");
            if value != 0 {
                seen.push((name, value));
            }
        });
        assert_eq!(seen, [("TcpInSegs", 3), ("drop_tcp_checksum", 1)]);
        assert!(
            names.len() <= 512,
            "the counter block of the shared region holds 512"
        );
    }
}
