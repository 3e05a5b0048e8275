//! The fields of Linux's `struct tcp_info`, by the names that scripts use.
//!
//! Kernels have let the structure grow: what lies beyond the bytes that a kernel returned is
//! unknown.

/// `IPPROTO_TCP`, `TCP_INFO`
pub(crate) const OPTION: (i32, i32) = (6, 11);
/// More than any kernel returns.
pub(crate) const ROOM: usize = 512;

/// Name, offset, bytes.
const FIELDS: &[(&str, usize, usize)] = &[
    ("tcpi_state", 0, 1),
    ("tcpi_ca_state", 1, 1),
    ("tcpi_retransmits", 2, 1),
    ("tcpi_probes", 3, 1),
    ("tcpi_backoff", 4, 1),
    ("tcpi_options", 5, 1),
    ("tcpi_rto", 8, 4),
    ("tcpi_ato", 12, 4),
    ("tcpi_snd_mss", 16, 4),
    ("tcpi_rcv_mss", 20, 4),
    ("tcpi_unacked", 24, 4),
    ("tcpi_sacked", 28, 4),
    ("tcpi_lost", 32, 4),
    ("tcpi_retrans", 36, 4),
    ("tcpi_fackets", 40, 4),
    ("tcpi_last_data_sent", 44, 4),
    ("tcpi_last_ack_sent", 48, 4),
    ("tcpi_last_data_recv", 52, 4),
    ("tcpi_last_ack_recv", 56, 4),
    ("tcpi_pmtu", 60, 4),
    ("tcpi_rcv_ssthresh", 64, 4),
    ("tcpi_rtt", 68, 4),
    ("tcpi_rttvar", 72, 4),
    ("tcpi_snd_ssthresh", 76, 4),
    ("tcpi_snd_cwnd", 80, 4),
    ("tcpi_advmss", 84, 4),
    ("tcpi_reordering", 88, 4),
    ("tcpi_rcv_rtt", 92, 4),
    ("tcpi_rcv_space", 96, 4),
    ("tcpi_total_retrans", 100, 4),
    ("tcpi_pacing_rate", 104, 8),
    ("tcpi_max_pacing_rate", 112, 8),
    ("tcpi_bytes_acked", 120, 8),
    ("tcpi_bytes_received", 128, 8),
    ("tcpi_segs_out", 136, 4),
    ("tcpi_segs_in", 140, 4),
    ("tcpi_notsent_bytes", 144, 4),
    ("tcpi_min_rtt", 148, 4),
    ("tcpi_data_segs_in", 152, 4),
    ("tcpi_data_segs_out", 156, 4),
    ("tcpi_delivery_rate", 160, 8),
    ("tcpi_busy_time", 168, 8),
    ("tcpi_rwnd_limited", 176, 8),
    ("tcpi_sndbuf_limited", 184, 8),
    ("tcpi_delivered", 192, 4),
    ("tcpi_delivered_ce", 196, 4),
    ("tcpi_bytes_sent", 200, 8),
    ("tcpi_bytes_retrans", 208, 8),
    ("tcpi_dsack_dups", 216, 4),
    ("tcpi_reord_seen", 220, 4),
    ("tcpi_rcv_ooopack", 224, 4),
    ("tcpi_snd_wnd", 228, 4),
    ("tcpi_rcv_wnd", 232, 4),
    ("tcpi_rehash", 236, 4),
    ("tcpi_total_rto", 240, 2),
    ("tcpi_total_rto_recoveries", 242, 2),
    ("tcpi_total_rto_time", 244, 4),
    ("tcpi_received_ce", 248, 4),
    ("tcpi_delivered_e1_bytes", 252, 4),
    ("tcpi_delivered_e0_bytes", 256, 4),
    ("tcpi_delivered_ce_bytes", 260, 4),
    ("tcpi_received_e1_bytes", 264, 4),
    ("tcpi_received_e0_bytes", 268, 4),
    ("tcpi_received_ce_bytes", 272, 4),
];

/// Bit fields: name, offset of their byte, first bit, bits.
const BITS: &[(&str, usize, u32, u32)] = &[
    ("tcpi_snd_wscale", 6, 0, 4),
    ("tcpi_rcv_wscale", 6, 4, 4),
    ("tcpi_delivery_rate_app_limited", 7, 0, 1),
    ("tcpi_fastopen_client_fail", 7, 1, 2),
    ("tcpi_ecn_mode", 276, 0, 2),
    ("tcpi_accecn_opt_seen", 276, 2, 2),
    ("tcpi_accecn_fail_mode", 276, 4, 4),
];

/// The field's value in the bytes of a `struct tcp_info`.
pub(crate) fn field(name: &str, bytes: &[u8]) -> Option<i64> {
    if let Some((_, offset, length)) = FIELDS.iter().find(|(known, ..)| *known == name) {
        let found = bytes.get(*offset..offset + length)?;
        let value = found
            .iter()
            .rev()
            .fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        return Some(i64::try_from(value).unwrap_or(i64::MAX));
    }
    let (_, offset, first, bits) = BITS.iter().find(|(known, ..)| *known == name)?;
    let byte = u32::from(*bytes.get(*offset)?);
    Some(i64::from(byte >> first & ((1 << bits) - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_follow_each_other_without_overlap() {
        for pair in FIELDS.windows(2) {
            assert!(
                pair[0].1 + pair[0].2 <= pair[1].1,
                "{} overlaps {}",
                pair[0].0,
                pair[1].0
            );
            assert_eq!(pair[1].1 % pair[1].2, 0, "{} is aligned", pair[1].0);
        }
    }

    #[test]
    fn a_field_beyond_the_bytes_is_unknown() {
        let mut bytes = vec![0; 104];
        bytes[6] = 0x87;
        bytes[80] = 10;
        assert_eq!(field("tcpi_snd_cwnd", &bytes), Some(10));
        assert_eq!(field("tcpi_rcv_wscale", &bytes), Some(8));
        assert_eq!(field("tcpi_snd_wscale", &bytes), Some(7));
        assert_eq!(field("tcpi_busy_time", &bytes), None);
    }
}
