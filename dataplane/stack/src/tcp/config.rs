//! The knobs of TCP, under the names of Linux's sysctls and with the defaults of Linux 6.x.
//!
//! A value that a sysctl gives in seconds is in seconds here; where Linux has a compile-time
//! constant instead of a sysctl, the field carries the constant's name in lower case.
//! Per-connection options are in `ConnectionOptions`; what a listener, or whoever connects, chooses
//! from among the knobs is a `Profile`.

use millrace_base::Nanos;

pub use millrace_base::CongestionControl;

use super::congestion::{CubicParameters, DctcpParameters};
use super::fastopen::cookie::FastOpenKeys;

/// Values that hold for every connection of a stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpTunables {
    /// Accept window scaling (RFC 7323). Default on.
    pub tcp_window_scaling: bool,
    /// Use timestamps (RFC 7323). Default on.
    pub tcp_timestamps: bool,
    /// Use selective acknowledgments (RFC 2018). Default on.
    pub tcp_sack: bool,
    /// Report duplicates by D-SACK (RFC 2883). Default on.
    pub tcp_dsack: bool,
    /// Data in SYNs (RFC 7413), bits: 1 may be sent, 2 may be taken by listeners that want to
    /// (`ListenOptions::fastopen`), 4 sent without a cookie, 0x200 taken without one. 0x400, all
    /// listeners want to, is read by the BSD face. Default 1.
    pub tcp_fastopen: u32,
    /// Seconds without Fast Open of ours once it was found that somebody on the way swallows it,
    /// twice as many each time; 0 does not look. Default 0.
    pub tcp_fastopen_blackhole_timeout_sec: u32,
    /// The keys behind Fast Open cookies; `None`, the default, makes one of the stack's secret.
    pub tcp_fastopen_key: Option<FastOpenKeys>,
    /// The congestion control of new connections. Default cubic.
    pub tcp_congestion_control: CongestionControl,
    /// The knobs of CUBIC.
    pub cubic: CubicParameters,
    /// The knobs of DCTCP.
    pub dctcp: DctcpParameters,
    /// A mark lowers the window less than a loss does (ABE, RFC 8511): Reno to 0.8 and CUBIC to 0.85 of
    /// it. FreeBSD's `cc.abe`; Linux has nothing like it. Default off.
    pub tcp_abe: bool,
    /// Pace every connection, as if the link had Linux's queueing discipline `fq`. Default off.
    pub fq: bool,
    /// Percent of a window per round trip that pacing allows in slow start. 0..=1,000, default 200.
    pub tcp_pacing_ss_ratio: u16,
    /// The same in congestion avoidance. 0..=1,000, default 120.
    pub tcp_pacing_ca_ratio: u16,
    /// Explicit congestion notification. With 0 never; 1 ECN of RFC 3168, asked for and agreed to; 2
    /// agreed to when the peer asks. 3 to 5 agree to Accurate ECN (RFC 9768) as well; 3 asks for it, 4
    /// asks for that of RFC 3168, 5 does not ask. Default 2.
    pub tcp_ecn: u8,
    /// The option of Accurate ECN: 0 is never sent, 1 when something has changed and some times in a
    /// round trip, 2 in every segment. Default 2.
    pub tcp_ecn_option: u8,
    /// With `tcp_ecn_option` 1, how often in a round trip it leaves at least. 0..=63, default 3.
    pub tcp_ecn_option_beacon: u8,
    /// Ask without ECN when a SYN that asks for it is not answered. Default on.
    pub tcp_ecn_fallback: bool,
    /// Collapse the window after an idle retransmission timeout (RFC 2861). Default on.
    pub tcp_slow_start_after_idle: bool,
    /// SYN retransmissions before `connect` fails. Default 6.
    pub tcp_syn_retries: u8,
    /// SYN timeouts that do not double the next one. Default 4.
    pub tcp_syn_linear_timeouts: u8,
    /// SYN-ACK retransmissions. Default 5.
    pub tcp_synack_retries: u8,
    /// What a SYN meets when its listener's half-open queue is full: 0 silence, 1 a cookie; 2 answers
    /// every SYN with a cookie. Default 1.
    pub tcp_syncookies: u8,
    /// Half-open requests of a listener of which, without SYN cookies, the last quarter is kept for
    /// peers that are known (Linux: `tcp_max_syn_backlog`). Default 4,096.
    pub tcp_max_syn_backlog: u32,
    /// Reset a client whose final ACK finds the accept backlog full, instead of letting it try again.
    /// Default off.
    pub tcp_abort_on_overflow: bool,
    /// Hypothetical doublings, from `tcp_rto_min`, after which an established connection is given
    /// up. Default 15 (924.6 s).
    pub tcp_retries2: u8,
    /// The same for a connection that the application has closed; 0 means 8. Default 0.
    pub tcp_orphan_retries: u8,
    /// Duplicate ACKs, or segments SACKed above a hole, that mean loss: the least that reordering is
    /// believed to span. 1..=127, default 3.
    pub tcp_reordering: u8,
    /// The most segments that reordering is believed to span. Default 300.
    pub tcp_max_reordering: u16,
    /// How loss is found: 2 keeps RACK's window one step wide, 4 does not shorten it because of many
    /// SACKs. RACK itself (1) is always on, as in Linux since 6.17. Default 1.
    pub tcp_recovery: u8,
    /// Probe the tail of a flight that nothing is heard of (RFC 8985 section 7): 3 or 4, else not.
    /// Default 3.
    pub tcp_early_retrans: u8,
    /// Find out whether a timeout was spurious (F-RTO, RFC 5682): 0 not. Default 2.
    pub tcp_frto: u8,
    /// Timeouts, counted as `tcp_retries2` counts, after which the route is looked up anew. Default
    /// 3.
    pub tcp_retries1: u8,
    /// The first timeouts of a stream with fewer than four segments in flight do not double. Default
    /// off.
    pub tcp_thin_linear_timeouts: bool,
    /// Smallest variance term of the retransmission timeout in milliseconds. Default 200.
    pub tcp_rto_min_ms: u32,
    /// Largest retransmission timeout in milliseconds. Default 120,000.
    pub tcp_rto_max_ms: u32,
    /// First retransmission timeout in milliseconds. Default 1,000.
    pub tcp_rto_initial_ms: u32,
    /// Shortest delay of an ACK in milliseconds. Default 40.
    pub tcp_delack_min_ms: u32,
    /// Longest delay of an ACK in milliseconds. Default 200; RFC 9293 demands less than 500
    /// (MUST-40).
    pub tcp_delack_max_ms: u32,
    /// Nanoseconds for which ACKs of out-of-order segments are held back at most, behind the first
    /// three. Default 1,000,000.
    pub tcp_comp_sack_delay_ns: u32,
    /// Nanoseconds by which they may be late. Default 100,000.
    pub tcp_comp_sack_slack_ns: u32,
    /// How many are held back at most; 0 sends every one. Default 44.
    pub tcp_comp_sack_nr: u8,
    /// Seconds of silence before the first keep-alive probe. Default 7,200.
    pub tcp_keepalive_time: u32,
    /// Seconds between keep-alive probes. Default 75.
    pub tcp_keepalive_intvl: u32,
    /// Unanswered keep-alive probes before the connection is given up. Default 9.
    pub tcp_keepalive_probes: u8,
    /// Let `connect` take a tuple that rests in TIME_WAIT when timestamps protect it (RFC 6191,
    /// RFC 7323 section 5.8). Default on; Linux's default, 2, means loopback only, and a balancer
    /// that closes first towards its backends would run out of ports (`docs/deviations.md`).
    pub tcp_tw_reuse: bool,
    /// Milliseconds a tuple must have rested in TIME_WAIT before `tcp_tw_reuse` applies. Default
    /// 1,000.
    pub tcp_tw_reuse_delay: u32,
    /// Ignore RSTs in TIME_WAIT (RFC 1337). Default off.
    pub tcp_rfc1337: bool,
    /// Seconds an orphaned connection may stay in FIN-WAIT-2. Default 60.
    pub tcp_fin_timeout: u32,
    /// Connections that may go on without their application. Beyond it those that are closed, and
    /// those that have to retransmit, are reset. Default: half of the connections that may be at work
    /// at a time, which in a small stack are all.
    pub tcp_max_orphans: Option<u32>,
    /// Records in TIME_WAIT and FIN_WAIT2 that there may be; beyond it connections end without one.
    /// Default: as many as the table holds.
    pub tcp_max_tw_buckets: u32,
    /// Milliseconds between two answers to segments outside the window, per connection. Default
    /// 500.
    pub tcp_invalid_ratelimit_ms: u32,
    /// Receive memory: first and largest value in bytes. Half of it is window (`tcp_adv_win_scale`
    /// 1), the other half pays for the unused parts of packet buffers. Default 131,072 and
    /// 6,291,456.
    pub tcp_rmem: [u32; 2],
    /// Send memory: first and largest value in bytes. Default 16,384 and 4,194,304.
    pub tcp_wmem: [u32; 2],
    /// Grow the receive window with what the application takes per round trip. Default on.
    pub tcp_moderate_rcvbuf: bool,
    /// Segments that a fresh connection may have in flight (RFC 6928). Default 10.
    pub tcp_init_cwnd: u8,
    /// Never send segments smaller than this payload, whatever the peer or a router claims. Default
    /// 48.
    pub tcp_min_snd_mss: u16,
    /// What a connection has found out of the way to its peer is forgotten with it. Default off.
    pub tcp_no_metrics_save: bool,
    /// Nor is the threshold of slow start remembered for the next. Default on.
    pub tcp_no_ssthresh_metrics_save: bool,
    /// Look for the path's MTU by probes (RFC 4821): 0 never, 1 once a path seems to swallow large
    /// segments, 2 always. Default 0.
    pub tcp_mtu_probing: u8,
    /// Payload that a search begins with in bytes. Default 1,024.
    pub tcp_base_mss: u16,
    /// Payload below which a search does not fall, in bytes. Default 48.
    pub tcp_mtu_probe_floor: u16,
    /// Seconds after which a search that has ended begins again. Default 600.
    pub tcp_probe_interval: u32,
    /// A search ends when it has come this close, in bytes. Default 8.
    pub tcp_probe_threshold: u16,
    /// Take back what the window promised when memory is short. Default off (RFC 9293 section
    /// 3.8.6, SHLD-14).
    pub tcp_shrink_window: bool,
    /// Offer no more than 32,767 bytes to a peer that does not scale, because some take the field for
    /// a signed number. Default off.
    pub tcp_workaround_signed_windows: bool,
    /// A frame for a device that cuts waits for more room while less than this part of the window is
    /// free; 0 waits for three segments. Default 3.
    pub tcp_tso_win_divisor: u8,
    /// Bytes that a connection hands to the device at most before the device has taken them: the
    /// small-queue limit. Less when a millisecond of its rate is less, and never less than one turn's
    /// quota. Default 4,194,304.
    pub tcp_limit_output_bytes: u32,
    /// Segments of the smallest packet that is cut. Default 2.
    pub tcp_min_tso_segs: u8,
    /// A packet that is cut is half as large for every so many bits of microseconds of the shortest
    /// round trip. Default 9.
    pub tcp_tso_rtt_log: u8,
    /// Send in packets of many segments, as Linux does over any device: what is left of a packet waits
    /// for room. Off by default: without a device that cuts, there is nothing to be gained.
    pub software_tso: bool,
    /// What one socket, listener or route has for itself.
    pub special: Special,
}

/// What a socket option or a route's attribute says, for the connections of that socket, listener or
/// route. The default says nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Special {
    /// `TCP_MAXSEG` in bytes; 0 says nothing.
    pub user_mss: u16,
    /// `advmss` of the route in bytes; 0 says nothing.
    pub advertised_mss: u16,
    /// `initrwnd` of the route in segments; 0 says nothing.
    pub init_rwnd: u16,
    /// `TCP_WINDOW_CLAMP` or `window` of the route in bytes; `u32::MAX` is any.
    pub window_clamp: u32,
    /// `SO_RCVBUF` as the kernel doubled it, in bytes; 0 lets the buffer grow by itself.
    pub receive_buffer: u32,
    /// `quickack` of the route: no ACK is delayed.
    pub quick_ack: bool,
    /// `mtu lock` of the route, or a socket that does not discover: routers are not believed.
    pub keeps_mtu: bool,
    /// `features ecn` of the route.
    pub ecn: bool,
}

impl Default for Special {
    fn default() -> Self {
        Self {
            user_mss: 0,
            advertised_mss: 0,
            init_rwnd: 0,
            window_clamp: u32::MAX,
            receive_buffer: 0,
            quick_ack: false,
            keeps_mtu: false,
            ecn: false,
        }
    }
}

impl Special {
    /// An announced MSS, cut to what the route and the socket say (Linux: `dst_metric_advmss`,
    /// `tcp_mss_clamp`).
    #[must_use]
    pub fn announced(&self, mss: u16) -> u16 {
        let route = match self.advertised_mss {
            0 => mss,
            said => said,
        };
        self.agreed(route)
    }

    /// The peer's MSS, cut to what the socket says.
    pub(crate) fn agreed(&self, mss: u16) -> u16 {
        match self.user_mss {
            0 => mss,
            user => mss.min(user),
        }
    }
}

/// Values that one connection may have for itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectionOptions {
    /// `TCP_NODELAY`: never hold back a small segment (Nagle). On by default: a spliced connection
    /// must not add latency to what the other end has already decided to send.
    pub nodelay: bool,
    /// `SO_KEEPALIVE`. Off by default (MUST-25).
    pub keepalive: bool,
    /// What was received is for a program to read: what is unread outlives a reset or a timeout of the
    /// peer's, and tiny payloads may share a buffer while memory is short. Off by default: a balancer
    /// forgets them with the connection, and never copies a payload.
    pub keep_unread: bool,
    /// `TCP_USER_TIMEOUT` in milliseconds: how long data may stay unacknowledged. 0, the default,
    /// means `tcp_retries2`.
    pub user_timeout_ms: u32,
    /// `TCP_THIN_LINEAR_TIMEOUTS`: as the sysctl, for this connection. Off by default.
    pub thin_linear_timeouts: bool,
}

/// What a listener, or whoever connects, wants its connections to begin with. What it leaves open is
/// as the stack's knobs say, and so is everything that a connection asks for later in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Profile {
    /// The congestion control, which stays with the connection.
    pub congestion_control: Option<CongestionControl>,
}

impl Profile {
    /// The knobs of connections with this profile.
    #[must_use]
    #[inline(never)] // Beside the common case, in which nobody wants anything.
    pub(crate) fn applied_to(&self, common: &TcpTunables) -> TcpTunables {
        let Self { congestion_control } = *self;
        TcpTunables {
            tcp_congestion_control: congestion_control.unwrap_or(common.tcp_congestion_control),
            ..*common
        }
    }

    /// Whether the knobs are already as it wants them.
    #[inline]
    pub(crate) fn is_met_by(&self, knobs: &TcpTunables) -> bool {
        let Self { congestion_control } = *self;
        congestion_control.is_none_or(|wanted| wanted == knobs.tcp_congestion_control)
    }
}

impl Default for TcpTunables {
    fn default() -> Self {
        Self {
            tcp_window_scaling: true,
            tcp_timestamps: true,
            tcp_sack: true,
            tcp_dsack: true,
            tcp_fastopen: super::fastopen::CLIENT_ENABLE,
            tcp_fastopen_blackhole_timeout_sec: 0,
            tcp_fastopen_key: None,
            tcp_congestion_control: CongestionControl::default(),
            cubic: CubicParameters::LINUX,
            dctcp: DctcpParameters::LINUX,
            tcp_abe: false,
            fq: false,
            tcp_pacing_ss_ratio: 200,
            tcp_pacing_ca_ratio: 120,
            tcp_ecn: 2,
            tcp_ecn_option: 2,
            tcp_ecn_option_beacon: 3,
            tcp_ecn_fallback: true,
            tcp_slow_start_after_idle: true,
            tcp_syn_retries: 6,
            tcp_syn_linear_timeouts: 4,
            tcp_synack_retries: 5,
            tcp_syncookies: 1,
            tcp_max_syn_backlog: 4_096,
            tcp_abort_on_overflow: false,
            tcp_retries2: 15,
            tcp_orphan_retries: 0,
            tcp_reordering: 3,
            tcp_max_reordering: 300,
            tcp_recovery: 1,
            tcp_early_retrans: 3,
            tcp_frto: 2,
            tcp_retries1: 3,
            tcp_thin_linear_timeouts: false,
            tcp_rto_min_ms: 200,
            tcp_rto_max_ms: 120_000,
            tcp_rto_initial_ms: 1_000,
            tcp_delack_min_ms: 40,
            tcp_delack_max_ms: 200,
            tcp_comp_sack_delay_ns: 1_000_000,
            tcp_comp_sack_slack_ns: 100_000,
            tcp_comp_sack_nr: 44,
            tcp_keepalive_time: 7_200,
            tcp_keepalive_intvl: 75,
            tcp_keepalive_probes: 9,
            tcp_tw_reuse: true,
            tcp_tw_reuse_delay: 1_000,
            tcp_rfc1337: false,
            tcp_fin_timeout: 60,
            tcp_max_orphans: None,
            tcp_max_tw_buckets: u32::MAX,
            tcp_invalid_ratelimit_ms: 500,
            tcp_rmem: [131_072, 6_291_456],
            tcp_wmem: [16_384, 4_194_304],
            tcp_moderate_rcvbuf: true,
            tcp_init_cwnd: 10,
            tcp_min_snd_mss: 48,
            tcp_no_metrics_save: false,
            tcp_no_ssthresh_metrics_save: true,
            tcp_mtu_probing: 0,
            tcp_base_mss: 1_024,
            tcp_mtu_probe_floor: 48,
            tcp_probe_interval: 600,
            tcp_probe_threshold: 8,
            tcp_shrink_window: false,
            tcp_workaround_signed_windows: false,
            tcp_tso_win_divisor: 3,
            tcp_limit_output_bytes: 4_194_304,
            tcp_min_tso_segs: 2,
            tcp_tso_rtt_log: 9,
            software_tso: false,
            special: Special::default(),
        }
    }
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            nodelay: true,
            keepalive: false,
            keep_unread: false,
            user_timeout_ms: 0,
            thin_linear_timeouts: false,
        }
    }
}

impl TcpTunables {
    /// No timeout is shorter, whatever the round trip.
    #[inline]
    pub(crate) fn timeout_least(&self) -> Nanos {
        let least = self.tcp_rto_min_ms.min(self.tcp_rto_max_ms);
        Nanos::from_millis(least.min(self.tcp_rto_initial_ms).into())
    }

    /// `tcp_rto_min_ms` in microseconds.
    #[inline]
    pub(crate) fn rto_min_us(&self) -> u64 {
        u64::from(self.tcp_rto_min_ms).wrapping_mul(1_000)
    }

    /// `tcp_rto_max_ms` in microseconds.
    #[inline]
    pub(crate) fn rto_max_us(&self) -> u64 {
        u64::from(self.tcp_rto_max_ms).wrapping_mul(1_000)
    }

    /// Whether tails are probed.
    #[inline]
    pub(crate) fn probes_tails(&self) -> bool {
        matches!(self.tcp_early_retrans, 3 | 4)
    }

    /// The memory that data may take in a fresh connection, in bytes.
    pub(crate) fn receive_memory_initial(&self) -> u32 {
        match self.special.receive_buffer {
            0 => {
                let [first, max] = self.tcp_rmem;
                first.min(max).max(RECEIVE_MEMORY_MIN)
            }
            own => own.max(RECEIVE_BUFFER_MIN),
        }
    }

    /// The most memory that data may come to take, in bytes; what was chosen does not grow.
    pub(crate) fn receive_memory_most(&self) -> u32 {
        if self.special.receive_buffer != 0 {
            return self.receive_memory_initial();
        }
        let [_, max] = self.tcp_rmem;
        max.clamp(RECEIVE_MEMORY_MIN, RECEIVE_MEMORY_MAX)
    }

    /// The same for what grows with the application's reading.
    pub(crate) fn receive_memory_max(&self) -> u32 {
        if self.tcp_moderate_rcvbuf {
            self.receive_memory_most()
        } else {
            self.receive_memory_initial()
        }
    }

    /// The window of a fresh connection: half of its memory, the other half pays for the unused parts
    /// of packet buffers (Linux: `tcp_win_from_space`).
    pub(crate) fn receive_window_initial(&self) -> u32 {
        (self.receive_memory_initial() / 2).min(self.special.window_clamp)
    }

    /// What a SYN offers when segments of `mss` bytes will come: whole segments (Linux:
    /// `tcp_select_initial_window`). Its field says 65,535 at most; the rest is promised all the same.
    pub(crate) fn receive_window_offer(&self, mss: u16) -> u32 {
        let mss = u32::from(mss.max(1));
        let first = u32::from(self.special.init_rwnd).saturating_mul(mss);
        let space = self
            .receive_window_initial()
            .max(first)
            .min(self.special.window_clamp);
        let whole = space.saturating_sub(space.checked_rem(mss).unwrap_or(0));
        let space = if space > mss { whole } else { space };
        let offered = if self.tcp_workaround_signed_windows {
            space.min(SIGNED_WINDOW_MAX)
        } else {
            space
        };
        if first == 0 {
            offered
        } else {
            offered.min(first)
        }
    }

    /// The largest window that `scale` can express for this connection.
    pub(crate) fn window_field_max(&self, scale: u8) -> u32 {
        if scale == 0 && self.tcp_workaround_signed_windows {
            SIGNED_WINDOW_MAX
        } else {
            0xffff
        }
    }

    /// The window scale we offer: enough for all of `tcp_rmem`, or for the buffer that was chosen
    /// (Linux: `tcp_select_initial_window`).
    pub(crate) fn window_scale(&self) -> u8 {
        if !self.tcp_window_scaling {
            return 0;
        }
        let space = match self.special.receive_buffer {
            0 => self.tcp_rmem[1],
            own => own / 2,
        };
        let space = space.min(self.special.window_clamp);
        // The highest bit of the space, less the 15 bits that fit without loss.
        let bits = 31u32.saturating_sub(space.max(1).leading_zeros());
        bits.saturating_sub(15).min(u32::from(WINDOW_SCALE_MAX)) as u8
    }
}

/// The largest shift count (RFC 7323 section 2.3).
pub(crate) const WINDOW_SCALE_MAX: u8 = 14;

/// The largest window of a peer that takes the field for a signed number (Linux: `MAX_TCP_WINDOW`).
const SIGNED_WINDOW_MAX: u32 = 32_767;

/// The smallest receive buffer that can be chosen (Linux: `SOCK_MIN_RCVBUF`).
const RECEIVE_BUFFER_MIN: u32 = 2_304;

/// No connection offers less than one segment of an ordinary Ethernet, however small `tcp_rmem` is.
const RECEIVE_MEMORY_MIN: u32 = 4_096;

/// No window exceeds what the scale of 14 can express (RFC 7323 section 2.2), and half of the memory
/// is window at least, once it is large.
const RECEIVE_MEMORY_MAX: u32 = (0xffff << WINDOW_SCALE_MAX) * 2;

#[cfg(test)]
mod tests {
    use super::*;

    // Linux: a default machine offers window scale 7 and a first window of 64 KiB.
    #[test]
    fn the_default_window_is_64_kib_with_scale_7() {
        let tunables = TcpTunables::default();
        assert_eq!(tunables.receive_window_initial(), 65_536);
        assert_eq!(tunables.window_scale(), 7);
        assert!((tunables.receive_memory_max() / 2) >> tunables.window_scale() <= 0xffff);
    }

    #[test]
    fn a_scale_can_always_express_the_largest_window() {
        for max in [1, 4_096, 65_535, 65_536, 1 << 24, u32::MAX] {
            let tunables = TcpTunables {
                tcp_rmem: [4_096, max],
                ..TcpTunables::default()
            };
            assert!(tunables.window_scale() <= WINDOW_SCALE_MAX);
            assert!(
                (tunables.receive_memory_max() / 2) >> tunables.window_scale() <= 0xffff,
                "{max}"
            );
        }
    }

    // Linux: BUILD_BUG_ON in tcp_init. behaviour: A1-3
    #[test]
    fn the_smallest_segment_has_room_beside_all_options() {
        let smallest = usize::from(TcpTunables::default().tcp_min_snd_mss);
        assert!(smallest > millrace_wire::tcp::OPTIONS_BYTES_MAX);
    }
}
