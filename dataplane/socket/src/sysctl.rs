//! Tunables under their sysctl names, with the defaults of Linux 6.x.
//!
//! A name is what `sysctl` prints; slashes, a missing `net.ipv4.`, `net.core.` and `fs.epoll.` are
//! understood.
//! Some knobs belong to mechanisms that the stack does not have yet: their values are kept, so that
//! scripts which set them run, and change nothing. They are the rows of `KEPT`.

use std::collections::BTreeMap;

use millrace_stack::{
    CongestionControl, CubicParameters, DctcpParameters, FastOpenKeys, FragmentTunables,
    RouteAttributes, TcpTunables,
};

use crate::errno::Errno;
use crate::sockets::Sockets;

/// Knobs without a mechanism behind them, and Linux's defaults.
const KEPT: &[(&str, &str)] = &[
    ("tcp_adv_win_scale", "1"),
    ("tcp_app_win", "31"),
    ("tcp_autocorking", "1"),
    ("tcp_challenge_ack_limit", "2147483647"),
    ("tcp_fack", "0"),
    ("tcp_migrate_req", "0"),
    ("tcp_min_rtt_wlen", "300"),
    ("tcp_plb_enabled", "0"),
    ("tcp_retrans_collapse", "1"),
    ("tcp_stdurg", "0"),
];

/// Files that epoll sets may watch, all sets together: what Linux allows a user of a machine with a
/// gigabyte (4 % of its memory, some 200 bytes for each).
const USER_WATCHES_MAX: u32 = 220_000;

/// What the route to everybody says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LinkRoute {
    /// 0: what the link says.
    pub(crate) mtu: u16,
    pub(crate) attributes: RouteAttributes,
}

/// Every knob of a host.
#[derive(Debug)]
pub(crate) struct Sysctls {
    tcp: TcpTunables,
    fragments: FragmentTunables,
    rmem: [u32; 3],
    wmem: [u32; 3],
    rmem_max: u32,
    wmem_max: u32,
    somaxconn: u32,
    reflect_tos: bool,
    accept_source_route: bool,
    /// Of IPv4 and of IPv6.
    drop_unicast_in_l2_multicast: [bool; 2],
    notsent_lowat: u32,
    port_range: (u16, u16),
    reserved_ports: Vec<(u16, u16)>,
    autobind_reuse: bool,
    nonlocal_bind: [bool; 2],
    user_watches_max: u32,
    /// `tcp_allowed_congestion_control`.
    allowed: Vec<&'static str>,
    pub(crate) route: LinkRoute,
    kept: BTreeMap<&'static str, String>,
}

impl Sysctls {
    pub(crate) fn new(tcp: TcpTunables) -> Self {
        let kept = KEPT
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()));
        Self {
            tcp,
            fragments: FragmentTunables::default(),
            rmem: [4_096, tcp.tcp_rmem[0], tcp.tcp_rmem[1]],
            wmem: [4_096, tcp.tcp_wmem[0], tcp.tcp_wmem[1]],
            rmem_max: 212_992,
            wmem_max: 212_992,
            somaxconn: 4_096,
            reflect_tos: false,
            accept_source_route: false,
            drop_unicast_in_l2_multicast: [false; 2],
            notsent_lowat: u32::MAX,
            port_range: (32_768, 60_999),
            reserved_ports: Vec::new(),
            autobind_reuse: false,
            nonlocal_bind: [false; 2],
            user_watches_max: USER_WATCHES_MAX,
            allowed: CongestionControl::ALL.map(CongestionControl::name).to_vec(),
            route: LinkRoute::default(),
            kept: kept.collect(),
        }
    }

    /// What the stack is told. How much may be queued to send is decided here, by Linux's account:
    /// the stack shall take everything.
    pub(crate) const fn tunables(&self) -> TcpTunables {
        TcpTunables {
            tcp_rmem: [self.rmem[1], self.rmem[2]],
            tcp_wmem: [1 << 30, 1 << 30],
            software_tso: true,
            ..self.tcp
        }
    }

    /// The knobs of a connection that has none of its own: the host's and the route's.
    pub(crate) fn of_route(&self) -> TcpTunables {
        self.route.attributes.applied_to(&self.tunables())
    }

    pub(crate) const fn somaxconn(&self) -> u32 {
        self.somaxconn
    }

    /// `tcp_reflect_tos`.
    pub(crate) const fn reflects_tos(&self) -> bool {
        self.reflect_tos
    }

    /// `accept_source_route` of all interfaces.
    pub(crate) const fn accepts_source_routes(&self) -> bool {
        self.accept_source_route
    }

    pub(crate) const fn notsent_lowat(&self) -> u32 {
        self.notsent_lowat
    }

    /// The knobs of CUBIC.
    pub(crate) const fn cubic_mut(&mut self) -> &mut CubicParameters {
        &mut self.tcp.cubic
    }

    /// The knobs of CUBIC, to be read.
    pub(crate) const fn cubic(&self) -> &CubicParameters {
        &self.tcp.cubic
    }

    /// The knobs of DCTCP.
    pub(crate) const fn dctcp_mut(&mut self) -> &mut DctcpParameters {
        &mut self.tcp.dctcp
    }

    /// The knobs of DCTCP, to be read.
    pub(crate) const fn dctcp(&self) -> &DctcpParameters {
        &self.tcp.dctcp
    }

    /// First and last ephemeral port.
    pub(crate) const fn port_range(&self) -> (u16, u16) {
        self.port_range
    }

    pub(crate) fn is_reserved(&self, port: u16) -> bool {
        let mut ranges = self.reserved_ports.iter();
        ranges.any(|(first, last)| (*first..=*last).contains(&port))
    }

    /// `ip_autobind_reuse`: ports that nobody named may be shared by `SO_REUSEADDR`.
    pub(crate) const fn autobind_reuse(&self) -> bool {
        self.autobind_reuse
    }

    /// `ip_nonlocal_bind` of a family: addresses need not be ours.
    pub(crate) const fn nonlocal_bind(&self, is_v4: bool) -> bool {
        let [v4, v6] = self.nonlocal_bind;
        if is_v4 { v4 } else { v6 }
    }

    /// `fs.epoll.max_user_watches`.
    pub(crate) const fn user_watches_max(&self) -> u32 {
        self.user_watches_max
    }

    /// `tcp_wmem`: the first send buffer, and the largest that grows by itself.
    pub(crate) const fn wmem(&self) -> [u32; 3] {
        self.wmem
    }

    /// `tcp_rmem`.
    pub(crate) const fn rmem(&self) -> [u32; 3] {
        self.rmem
    }

    /// `tcp_wmem[2]`.
    pub(crate) const fn wmem_max(&self) -> u32 {
        self.wmem[2]
    }

    /// `net.core.rmem_max`: what `SO_RCVBUF` may ask for.
    pub(crate) const fn core_rmem_max(&self) -> u32 {
        self.rmem_max
    }

    /// `net.core.wmem_max`: what `SO_SNDBUF` may ask for.
    pub(crate) const fn core_wmem_max(&self) -> u32 {
        self.wmem_max
    }

    /// A kept knob that is a number.
    pub(crate) fn number_of(&self, name: &str) -> Option<u64> {
        self.kept.get(name)?.trim().parse().ok()
    }

    fn get(&self, name: &str) -> Option<String> {
        let flag = |on: bool| u32::from(on).to_string();
        let three = |[a, b, c]: [u32; 3]| format!("{a}\t{b}\t{c}");
        let tcp = &self.tcp;
        Some(match name {
            "tcp_rmem" => three(self.rmem),
            "tcp_wmem" => three(self.wmem),
            "rmem_max" => self.rmem_max.to_string(),
            "wmem_max" => self.wmem_max.to_string(),
            "somaxconn" => self.somaxconn.to_string(),
            "tcp_reflect_tos" => flag(self.reflect_tos),
            "conf.all.accept_source_route" => flag(self.accept_source_route),
            "conf.all.drop_unicast_in_l2_multicast" => flag(self.drop_unicast_in_l2_multicast[0]),
            "net.ipv6.conf.all.drop_unicast_in_l2_multicast" => {
                flag(self.drop_unicast_in_l2_multicast[1])
            }
            "tcp_notsent_lowat" => self.notsent_lowat.to_string(),
            "ip_local_port_range" => format!("{}\t{}", self.port_range.0, self.port_range.1),
            "ip_local_reserved_ports" => ranges_text(&self.reserved_ports),
            "ip_autobind_reuse" => flag(self.autobind_reuse),
            "ip_nonlocal_bind" => flag(self.nonlocal_bind[0]),
            "net.ipv6.ip_nonlocal_bind" => flag(self.nonlocal_bind[1]),
            "max_user_watches" => self.user_watches_max.to_string(),
            "tcp_window_scaling" => flag(tcp.tcp_window_scaling),
            "tcp_timestamps" => flag(tcp.tcp_timestamps),
            "tcp_sack" => flag(tcp.tcp_sack),
            "tcp_dsack" => flag(tcp.tcp_dsack),
            "tcp_fastopen" => tcp.tcp_fastopen.to_string(),
            "tcp_fastopen_blackhole_timeout_sec" => {
                tcp.tcp_fastopen_blackhole_timeout_sec.to_string()
            }
            "tcp_fastopen_key" => keys_text(tcp.tcp_fastopen_key),
            "tcp_congestion_control" => tcp.tcp_congestion_control.name().to_owned(),
            "tcp_available_congestion_control" => CongestionControl::ALL
                .map(CongestionControl::name)
                .join(" "),
            "tcp_allowed_congestion_control" => self.allowed.join(" "),
            "tcp_pacing_ss_ratio" => tcp.tcp_pacing_ss_ratio.to_string(),
            "tcp_pacing_ca_ratio" => tcp.tcp_pacing_ca_ratio.to_string(),
            "default_qdisc" => if tcp.fq { "fq" } else { "pfifo_fast" }.to_owned(),
            "tcp_ecn" => tcp.tcp_ecn.to_string(),
            "tcp_ecn_option" => tcp.tcp_ecn_option.to_string(),
            "tcp_ecn_option_beacon" => tcp.tcp_ecn_option_beacon.to_string(),
            "tcp_ecn_fallback" => flag(tcp.tcp_ecn_fallback),
            "tcp_abe" => flag(tcp.tcp_abe),
            "tcp_slow_start_after_idle" => flag(tcp.tcp_slow_start_after_idle),
            "tcp_syn_retries" => tcp.tcp_syn_retries.to_string(),
            "tcp_syn_linear_timeouts" => tcp.tcp_syn_linear_timeouts.to_string(),
            "tcp_synack_retries" => tcp.tcp_synack_retries.to_string(),
            "tcp_syncookies" => tcp.tcp_syncookies.to_string(),
            "tcp_abort_on_overflow" => flag(tcp.tcp_abort_on_overflow),
            "tcp_max_syn_backlog" => tcp.tcp_max_syn_backlog.to_string(),
            "tcp_rfc1337" => flag(tcp.tcp_rfc1337),
            "tcp_retries2" => tcp.tcp_retries2.to_string(),
            "tcp_orphan_retries" => tcp.tcp_orphan_retries.to_string(),
            "tcp_comp_sack_delay_ns" => tcp.tcp_comp_sack_delay_ns.to_string(),
            "tcp_comp_sack_slack_ns" => tcp.tcp_comp_sack_slack_ns.to_string(),
            "tcp_comp_sack_nr" => tcp.tcp_comp_sack_nr.to_string(),
            "tcp_reordering" => tcp.tcp_reordering.to_string(),
            "tcp_max_reordering" => tcp.tcp_max_reordering.to_string(),
            "tcp_recovery" => tcp.tcp_recovery.to_string(),
            "tcp_early_retrans" => tcp.tcp_early_retrans.to_string(),
            "tcp_frto" => tcp.tcp_frto.to_string(),
            "tcp_retries1" => tcp.tcp_retries1.to_string(),
            "tcp_thin_linear_timeouts" => flag(tcp.tcp_thin_linear_timeouts),
            "tcp_rto_min_us" => (tcp.tcp_rto_min_ms * 1_000).to_string(),
            "tcp_rto_max_ms" => tcp.tcp_rto_max_ms.to_string(),
            "tcp_keepalive_time" => tcp.tcp_keepalive_time.to_string(),
            "tcp_keepalive_intvl" => tcp.tcp_keepalive_intvl.to_string(),
            "tcp_keepalive_probes" => tcp.tcp_keepalive_probes.to_string(),
            "tcp_tw_reuse" => flag(tcp.tcp_tw_reuse),
            "tcp_tw_reuse_delay" => tcp.tcp_tw_reuse_delay.to_string(),
            "tcp_fin_timeout" => tcp.tcp_fin_timeout.to_string(),
            "tcp_invalid_ratelimit" => tcp.tcp_invalid_ratelimit_ms.to_string(),
            "ipfrag_high_thresh" => self.fragments.ipfrag_high_thresh.to_string(),
            "ipfrag_time" => self.fragments.ipfrag_time.to_string(),
            "ip6frag_time" => self.fragments.ip6frag_time.to_string(),
            "ipfrag_max_dist" => self.fragments.ipfrag_max_dist.to_string(),
            "tcp_max_orphans" => tcp.tcp_max_orphans.unwrap_or(u32::MAX).to_string(),
            "tcp_max_tw_buckets" => tcp.tcp_max_tw_buckets.to_string(),
            "tcp_moderate_rcvbuf" => flag(tcp.tcp_moderate_rcvbuf),
            "tcp_min_snd_mss" => tcp.tcp_min_snd_mss.to_string(),
            "tcp_no_metrics_save" => flag(tcp.tcp_no_metrics_save),
            "tcp_no_ssthresh_metrics_save" => flag(tcp.tcp_no_ssthresh_metrics_save),
            "tcp_mtu_probing" => tcp.tcp_mtu_probing.to_string(),
            "tcp_base_mss" => tcp.tcp_base_mss.to_string(),
            "tcp_mtu_probe_floor" => tcp.tcp_mtu_probe_floor.to_string(),
            "tcp_probe_interval" => tcp.tcp_probe_interval.to_string(),
            "tcp_probe_threshold" => tcp.tcp_probe_threshold.to_string(),
            "tcp_shrink_window" => flag(tcp.tcp_shrink_window),
            "tcp_workaround_signed_windows" => flag(tcp.tcp_workaround_signed_windows),
            "tcp_tso_win_divisor" => tcp.tcp_tso_win_divisor.to_string(),
            "tcp_min_tso_segs" => tcp.tcp_min_tso_segs.to_string(),
            "tcp_limit_output_bytes" => tcp.tcp_limit_output_bytes.to_string(),
            "tcp_tso_rtt_log" => tcp.tcp_tso_rtt_log.to_string(),
            _ => return self.kept.get(name).cloned(),
        })
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Errno> {
        let tcp = &mut self.tcp;
        match name {
            "tcp_rmem" => self.rmem = triple(value)?,
            "tcp_wmem" => self.wmem = triple(value)?,
            "rmem_max" => self.rmem_max = number(value, 2_304, i32::MAX as u32)?,
            "wmem_max" => self.wmem_max = number(value, 4_608, i32::MAX as u32)?,
            "tcp_reflect_tos" => self.reflect_tos = flag(value)?,
            "conf.all.accept_source_route" => self.accept_source_route = flag(value)?,
            "conf.all.drop_unicast_in_l2_multicast" => {
                self.drop_unicast_in_l2_multicast[0] = flag(value)?;
            }
            "net.ipv6.conf.all.drop_unicast_in_l2_multicast" => {
                self.drop_unicast_in_l2_multicast[1] = flag(value)?;
            }
            "somaxconn" => self.somaxconn = number(value, 0, i32::MAX as u32)?,
            "tcp_notsent_lowat" => self.notsent_lowat = number(value, 0, u32::MAX)?,
            "ip_local_port_range" => self.port_range = port_range(value)?,
            "ip_local_reserved_ports" => self.reserved_ports = ranges(value)?,
            "ip_autobind_reuse" => self.autobind_reuse = number(value, 0, 1)? != 0,
            "ip_nonlocal_bind" => self.nonlocal_bind[0] = flag(value)?,
            "net.ipv6.ip_nonlocal_bind" => self.nonlocal_bind[1] = flag(value)?,
            "max_user_watches" => {
                self.user_watches_max = number(value, 0, i32::MAX as u32)?;
            }
            "tcp_window_scaling" => tcp.tcp_window_scaling = flag(value)?,
            "tcp_timestamps" => tcp.tcp_timestamps = number(value, 0, 2)? != 0,
            "tcp_sack" => tcp.tcp_sack = flag(value)?,
            "tcp_dsack" => tcp.tcp_dsack = flag(value)?,
            "tcp_fastopen" => tcp.tcp_fastopen = number(value, 0, i32::MAX as u32)?,
            "tcp_fastopen_blackhole_timeout_sec" => {
                tcp.tcp_fastopen_blackhole_timeout_sec = number(value, 0, i32::MAX as u32)?;
            }
            "tcp_fastopen_key" => tcp.tcp_fastopen_key = Some(keys(value)?),
            "tcp_congestion_control" => tcp.tcp_congestion_control = congestion(value)?,
            "tcp_pacing_ss_ratio" => tcp.tcp_pacing_ss_ratio = number(value, 0, 1_000)? as u16,
            "tcp_pacing_ca_ratio" => tcp.tcp_pacing_ca_ratio = number(value, 0, 1_000)? as u16,
            "default_qdisc" => tcp.fq = is_pacing(value)?,
            "tcp_ecn" => tcp.tcp_ecn = small(value, 0, 5)?,
            "tcp_ecn_option" => tcp.tcp_ecn_option = small(value, 0, 2)?,
            "tcp_ecn_option_beacon" => tcp.tcp_ecn_option_beacon = small(value, 0, 63)?,
            "tcp_ecn_fallback" => tcp.tcp_ecn_fallback = flag(value)?,
            "tcp_abe" => tcp.tcp_abe = flag(value)?,
            "tcp_slow_start_after_idle" => tcp.tcp_slow_start_after_idle = flag(value)?,
            "tcp_syn_retries" => tcp.tcp_syn_retries = small(value, 1, 127)?,
            "tcp_syn_linear_timeouts" => tcp.tcp_syn_linear_timeouts = small(value, 0, 127)?,
            "tcp_synack_retries" => tcp.tcp_synack_retries = small(value, 0, 255)?,
            "tcp_syncookies" => tcp.tcp_syncookies = small(value, 0, 2)?,
            "tcp_abort_on_overflow" => tcp.tcp_abort_on_overflow = flag(value)?,
            "tcp_max_syn_backlog" => {
                tcp.tcp_max_syn_backlog = number(value, 0, i32::MAX as u32)?;
            }
            "tcp_rfc1337" => tcp.tcp_rfc1337 = flag(value)?,
            "tcp_retries2" => tcp.tcp_retries2 = small(value, 0, 255)?,
            "tcp_orphan_retries" => tcp.tcp_orphan_retries = small(value, 0, 255)?,
            "tcp_comp_sack_delay_ns" => {
                tcp.tcp_comp_sack_delay_ns = number(value, 0, u32::MAX)?;
            }
            "tcp_comp_sack_slack_ns" => {
                tcp.tcp_comp_sack_slack_ns = number(value, 0, u32::MAX)?;
            }
            "tcp_comp_sack_nr" => tcp.tcp_comp_sack_nr = small(value, 0, 255)?,
            "tcp_reordering" => tcp.tcp_reordering = small(value, 1, 127)?,
            "tcp_max_reordering" => {
                tcp.tcp_max_reordering = number(value, 1, 65_535)? as u16;
            }
            "tcp_recovery" => tcp.tcp_recovery = small(value, 0, 255)?,
            "tcp_early_retrans" => tcp.tcp_early_retrans = small(value, 0, 4)?,
            "tcp_frto" => tcp.tcp_frto = small(value, 0, 255)?,
            "tcp_retries1" => tcp.tcp_retries1 = small(value, 0, 255)?,
            "tcp_thin_linear_timeouts" => tcp.tcp_thin_linear_timeouts = flag(value)?,
            "tcp_rto_min_us" => tcp.tcp_rto_min_ms = number(value, 1, 120_000_000)?.div_ceil(1_000),
            "tcp_rto_max_ms" => tcp.tcp_rto_max_ms = number(value, 1_000, 120_000)?,
            "tcp_keepalive_time" => tcp.tcp_keepalive_time = number(value, 1, 32_767)?,
            "tcp_keepalive_intvl" => tcp.tcp_keepalive_intvl = number(value, 1, 32_767)?,
            "tcp_keepalive_probes" => tcp.tcp_keepalive_probes = small(value, 1, 127)?,
            "tcp_tw_reuse" => tcp.tcp_tw_reuse = number(value, 0, 2)? == 1,
            "tcp_tw_reuse_delay" => tcp.tcp_tw_reuse_delay = number(value, 1, 60_000)?,
            "tcp_fin_timeout" => tcp.tcp_fin_timeout = number(value, 0, 32_767)?,
            "tcp_invalid_ratelimit" => {
                tcp.tcp_invalid_ratelimit_ms = number(value, 0, i32::MAX as u32)?;
            }
            "ipfrag_high_thresh" => {
                self.fragments.ipfrag_high_thresh = number(value, 0, i32::MAX as u32)?;
            }
            "ipfrag_time" => self.fragments.ipfrag_time = number(value, 0, 32_767)?,
            "ip6frag_time" => self.fragments.ip6frag_time = number(value, 0, 32_767)?,
            "ipfrag_max_dist" => {
                self.fragments.ipfrag_max_dist = number(value, 0, i32::MAX as u32)?;
            }
            "tcp_max_orphans" => {
                tcp.tcp_max_orphans = Some(number(value, 0, i32::MAX as u32)?);
            }
            "tcp_max_tw_buckets" => tcp.tcp_max_tw_buckets = number(value, 0, i32::MAX as u32)?,
            "tcp_moderate_rcvbuf" => tcp.tcp_moderate_rcvbuf = flag(value)?,
            "tcp_min_snd_mss" => tcp.tcp_min_snd_mss = word(value, 48)?,
            "tcp_no_metrics_save" => tcp.tcp_no_metrics_save = flag(value)?,
            "tcp_no_ssthresh_metrics_save" => {
                tcp.tcp_no_ssthresh_metrics_save = number(value, 0, 1)? != 0;
            }
            "tcp_mtu_probing" => tcp.tcp_mtu_probing = small(value, 0, 2)?,
            "tcp_base_mss" => tcp.tcp_base_mss = word(value, 0)?,
            "tcp_mtu_probe_floor" => tcp.tcp_mtu_probe_floor = word(value, 48)?,
            "tcp_probe_interval" => tcp.tcp_probe_interval = number(value, 0, i32::MAX as u32)?,
            "tcp_probe_threshold" => tcp.tcp_probe_threshold = word(value, 0)?,
            "tcp_shrink_window" => tcp.tcp_shrink_window = flag(value)?,
            "tcp_workaround_signed_windows" => tcp.tcp_workaround_signed_windows = flag(value)?,
            "tcp_min_tso_segs" => tcp.tcp_min_tso_segs = small(value, 1, 255)?,
            "tcp_limit_output_bytes" => {
                tcp.tcp_limit_output_bytes = number(value, 0, i32::MAX as u32)?;
            }
            "tcp_tso_rtt_log" => tcp.tcp_tso_rtt_log = small(value, 0, 255)?,
            "tcp_tso_win_divisor" => {
                tcp.tcp_tso_win_divisor = number(value, 0, i32::MAX as u32)?.min(255) as u8;
            }
            "tcp_available_congestion_control" => return Err(Errno::EACCES),
            "tcp_allowed_congestion_control" => self.allowed = congestions(value)?,
            _ => {
                let kept = self.kept.get_mut(name).ok_or(Errno::ENOENT)?;
                value.trim().clone_into(kept);
            }
        }
        Ok(())
    }
}

impl Sockets {
    /// A tunable by its sysctl name ("net.ipv4.tcp_sack", "net/ipv4/tcp_sack" or "tcp_sack"), as
    /// `sysctl -n` prints it.
    pub fn sysctl(&self, name: &str) -> Option<String> {
        self.sysctls.get(&leaf(name))
    }

    /// Sets a tunable as `sysctl -w` would: `EINVAL` out of range, `ENOENT` unknown. New connections
    /// see it; buffer sizes of existing ones stay.
    pub fn set_sysctl(&mut self, name: &str, value: &str) -> Result<(), Errno> {
        self.sysctls.set(&leaf(name), value)?;
        self.stack.set_tunables(self.sysctls.tunables());
        self.stack.set_fragment_tunables(self.sysctls.fragments);
        let families = self.sysctls.drop_unicast_in_l2_multicast;
        self.stack.set_drop_unicast_in_l2_multicast(families);
        // Who sets the pause, whatever to, ends the one that runs.
        if leaf(name) == "tcp_fastopen_blackhole_timeout_sec" {
            self.stack.resume_fast_open();
        }
        self.publish_row_tunables();
        Ok(())
    }
}

/// The last part of a name.
fn leaf(name: &str) -> String {
    let name = name.trim().replace('/', ".");
    let name = name
        .trim_start_matches(".proc.sys.")
        .trim_start_matches('.');
    let leaf = name
        .strip_prefix("net.ipv4.")
        .or_else(|| name.strip_prefix("net.core."))
        .or_else(|| name.strip_prefix("fs.epoll."));
    leaf.unwrap_or(name).to_owned()
}

fn number(text: &str, low: u32, high: u32) -> Result<u32, Errno> {
    let text = text.trim();
    // Linux takes -1 for "no limit" where the value is unsigned.
    let value = match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16),
        None => text.parse::<i64>(),
    };
    let value = value.map_err(|_| Errno::EINVAL)?;
    let value = if value < 0 && high == u32::MAX {
        u32::MAX
    } else {
        u32::try_from(value).map_err(|_| Errno::EINVAL)?
    };
    if !(low..=high).contains(&value) {
        return Err(Errno::EINVAL);
    }
    Ok(value)
}

fn small(text: &str, low: u8, high: u8) -> Result<u8, Errno> {
    let value = number(text, low.into(), high.into())?;
    u8::try_from(value).map_err(|_| Errno::EINVAL)
}

fn word(text: &str, low: u32) -> Result<u16, Errno> {
    u16::try_from(number(text, low, u16::MAX.into())?).map_err(|_| Errno::EINVAL)
}

fn flag(text: &str) -> Result<bool, Errno> {
    Ok(number(text, 0, 255)? != 0)
}

fn triple(text: &str) -> Result<[u32; 3], Errno> {
    let words: Result<Vec<u32>, Errno> = text
        .split_whitespace()
        .map(|word| number(word, 1, i32::MAX as u32))
        .collect();
    words?.try_into().map_err(|_| Errno::EINVAL)
}

fn port_range(text: &str) -> Result<(u16, u16), Errno> {
    let mut words = text.split_whitespace().map(str::parse::<u16>);
    match (words.next(), words.next(), words.next()) {
        (Some(Ok(low)), Some(Ok(high)), None) if low != 0 && low <= high => Ok((low, high)),
        _ => Err(Errno::EINVAL),
    }
}

fn ranges(text: &str) -> Result<Vec<(u16, u16)>, Errno> {
    let parts = text.trim().split(',').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let parse = |text: &str| text.trim().parse::<u16>().map_err(|_| Errno::EINVAL);
            Ok((parse(first)?, parse(last)?))
        })
        .collect()
}

fn ranges_text(ranges: &[(u16, u16)]) -> String {
    let parts: Vec<String> = ranges
        .iter()
        .map(|(first, last)| {
            if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            }
        })
        .collect();
    parts.join(",")
}

/// `a0bf63f7-ed803d81-cd641d30-cebc4a90`, and a second key behind a comma.
fn keys(text: &str) -> Result<FastOpenKeys, Errno> {
    let key = |text: &str| {
        let words = text.trim().split('-').map(|word| {
            let fits = (1..=8).contains(&word.len());
            let value = u32::from_str_radix(word, 16).ok().filter(|_| fits);
            value.map(u32::to_le_bytes).ok_or(Errno::EINVAL)
        });
        let words: Vec<[u8; 4]> = words.collect::<Result<_, _>>()?;
        let words: [[u8; 4]; 4] = words.try_into().map_err(|_| Errno::EINVAL)?;
        words.as_flattened().try_into().map_err(|_| Errno::EINVAL)
    };
    match text.split_once(',') {
        None => Ok(FastOpenKeys::new(key(text)?, None)),
        Some((primary, backup)) => Ok(FastOpenKeys::new(key(primary)?, Some(key(backup)?))),
    }
}

/// The same way back; zeros before there is a key.
fn keys_text(keys: Option<FastOpenKeys>) -> String {
    let keys = keys.unwrap_or(FastOpenKeys::new([0; 16], None));
    let one = |key: &[u8; 16]| {
        let words = key.as_chunks::<4>().0.iter();
        let words = words.map(|word| format!("{:08x}", u32::from_le_bytes(*word)));
        words.collect::<Vec<_>>().join("-")
    };
    keys.all().map(one).collect::<Vec<_>>().join(",")
}

fn congestion(text: &str) -> Result<CongestionControl, Errno> {
    CongestionControl::of_name(text.trim().as_bytes()).ok_or(Errno::ENOENT)
}

/// Whether a queueing discipline paces: `fq` does, the FIFOs do not, and others there are none.
fn is_pacing(name: &str) -> Result<bool, Errno> {
    match name.trim() {
        "fq" => Ok(true),
        "pfifo" | "pfifo_fast" | "bfifo" | "noqueue" => Ok(false),
        _ => Err(Errno::ENOENT),
    }
}

/// Names that all exist. Every program may choose any that there is, as with `CAP_NET_ADMIN`: the
/// list says what a program without it could.
fn congestions(text: &str) -> Result<Vec<&'static str>, Errno> {
    let names = text.split_whitespace().map(congestion);
    names
        .map(|name| name.map(CongestionControl::name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_that_scripts_begin_with_can_be_set() {
        let mut sysctls = Sysctls::new(TcpTunables::default());
        for (name, value) in [
            ("net.ipv4.tcp_rmem", "4096 540000 15728640"),
            ("net/ipv4/tcp_wmem", "4096 262144 4194304"),
            ("net.ipv4.tcp_timestamps", "1"),
            ("net.ipv4.tcp_early_retrans", "4"),
            ("tcp_notsent_lowat", "-1"),
            ("net.ipv4.tcp_fastopen", "0x70403"),
            ("net.core.somaxconn", "5"),
            ("net.ipv4.tcp_congestion_control", "reno"),
        ] {
            assert_eq!(sysctls.set(&leaf(name), value), Ok(()), "{name}");
        }
        assert_eq!(sysctls.rmem(), [4_096, 540_000, 15_728_640]);
        assert_eq!(sysctls.tunables().tcp_rmem, [540_000, 15_728_640]);
        assert_eq!(
            sysctls.get("tcp_wmem").as_deref(),
            Some("4096\t262144\t4194304")
        );
        assert_eq!(sysctls.get("tcp_early_retrans").as_deref(), Some("4"));
        assert_eq!(sysctls.notsent_lowat(), u32::MAX);
    }

    // Linux: `tcp_init`. The middle is what a new socket begins with.
    // behaviour: A1-15, A1-16, X2-2, X2-3, TUN-3
    #[test]
    fn buffers_have_linuxs_least_first_and_largest_sizes() {
        let mut sysctls = Sysctls::new(TcpTunables::default());
        assert_eq!(
            sysctls.get("tcp_wmem").as_deref(),
            Some("4096\t16384\t4194304")
        );
        assert_eq!(
            sysctls.get("tcp_rmem").as_deref(),
            Some("4096\t131072\t6291456")
        );
        let options = crate::options::Options::new(&sysctls);
        assert_eq!(
            (options.send_buffer, options.receive_buffer),
            (16_384, 131_072)
        );
        sysctls
            .set("tcp_rmem", "5000 70000 80000")
            .expect("a triple");
        sysctls
            .set("tcp_wmem", "5000 30000 40000")
            .expect("a triple");
        let options = crate::options::Options::new(&sysctls);
        assert_eq!(
            (options.send_buffer, options.receive_buffer),
            (30_000, 70_000)
        );
    }

    #[test]
    fn values_out_of_range_and_unknown_names_are_refused() {
        let mut sysctls = Sysctls::new(TcpTunables::default());
        assert_eq!(sysctls.set("tcp_syn_retries", "0"), Err(Errno::EINVAL));
        assert_eq!(sysctls.set("tcp_syn_retries", "128"), Err(Errno::EINVAL));
        assert_eq!(sysctls.set("tcp_rmem", "1 2"), Err(Errno::EINVAL));
        assert_eq!(sysctls.set("tcp_nonsense", "1"), Err(Errno::ENOENT));
        assert_eq!(
            sysctls.set("ip_local_port_range", "9 3"),
            Err(Errno::EINVAL)
        );
        assert_eq!(
            sysctls.set("tcp_congestion_control", "vegas"),
            Err(Errno::ENOENT)
        );
    }
}
