//! Socket options: what a socket has set, `setsockopt` and `getsockopt`.
//!
//! Ranges, defaults and clamps are Linux's. An option that is not listed here fails with
//! `ENOPROTOOPT`, as on a kernel without it: nothing is accepted that has no effect, except where
//! Linux's own effect cannot be seen from outside (`SO_PRIORITY`, `SO_MARK`, `SO_DEBUG`,
//! `SO_BROADCAST` of a stream, and the lists named `KEPT` of each level).

mod ip;
mod kept;
mod level_socket;
mod level_tcp;
mod value;

use std::collections::BTreeMap;

use millrace_base::{Instant, Nanos};
use millrace_stack::{CongestionControl, ConnectionOptions, FastOpenKeys, Special, TcpTunables};

use crate::control::StampOption;
use crate::errno::Errno;
use crate::file::SocketId;
use crate::ip_options::IpOptions;
use crate::linux::{
    IP_PMTUDISC_DO, IP_PMTUDISC_INTERFACE, IP_PMTUDISC_OMIT, IP_PMTUDISC_PROBE, IP_PMTUDISC_WANT,
    SOF_TIMESTAMPING_OPT_ID, SOF_TIMESTAMPING_SOFTWARE, SOF_TIMESTAMPING_TX_ACK,
    SOF_TIMESTAMPING_TX_SCHED, SOF_TIMESTAMPING_TX_SOFTWARE, SOL_IP, SOL_IPV6, SOL_SOCKET, SOL_TCP,
    TCP_SAVED_SYN,
};
use crate::notice::Purpose;
use crate::signing::SigningKeys;
use crate::sockets::Sockets;
use crate::sysctl::Sysctls;

/// What a program has set on a socket, or left at its default.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    // SOL_SOCKET
    pub(crate) reuse_address: bool,
    pub(crate) reuse_port: bool,
    pub(crate) keepalive: bool,
    pub(crate) broadcast: bool,
    pub(crate) debug: bool,
    pub(crate) priority: i32,
    pub(crate) mark: i32,
    /// Seconds that `close` waits; `None` when it does not.
    pub(crate) linger: Option<u32>,
    pub(crate) receive_buffer: u32,
    /// `SO_RCVBUF` was set: the window no longer grows beyond half of it.
    pub(crate) receive_buffer_locked: bool,
    pub(crate) send_buffer: u32,
    /// `SO_SNDBUF` was set: the buffer no longer grows by itself.
    pub(crate) send_buffer_locked: bool,
    pub(crate) receive_low_water: u32,
    pub(crate) receive_timeout: Option<Nanos>,
    pub(crate) send_timeout: Option<Nanos>,
    pub(crate) zerocopy: bool,
    pub(crate) oob_inline: bool,
    pub(crate) timestamping: i32,
    /// `SO_TIMESTAMP` or one of its kin.
    pub(crate) stamp: Option<StampOption>,
    /// Where the next peek begins; negative is "at the front" (`SO_PEEK_OFF`).
    pub(crate) peek_offset: i32,
    /// Only neighbours are spoken to (`SO_DONTROUTE`).
    pub(crate) dont_route: bool,
    /// The name of the link, or nothing (`SO_BINDTODEVICE`).
    pub(crate) device: Option<String>,
    /// Options that are kept and cannot be seen from outside, by level and name.
    pub(crate) kept: BTreeMap<(i32, i32), i32>,
    // SOL_TCP
    pub(crate) nodelay: bool,
    pub(crate) cork: bool,
    pub(crate) user_timeout_ms: u32,
    /// `TCP_THIN_LINEAR_TIMEOUTS`: the first timeouts of a thin stream do not double.
    pub(crate) thin_linear_timeouts: bool,
    /// Seconds of silence before a probe, seconds between probes, and probes; 0 is "what the sysctl
    /// says".
    pub(crate) keep_idle: u32,
    pub(crate) keep_interval: u32,
    pub(crate) keep_count: u8,
    /// `TCP_CONGESTION`; `None` is "what the sysctl says".
    pub(crate) congestion: Option<CongestionControl>,
    /// `TCP_LINGER2`: seconds, -1 for none; 0 is "what the sysctl says".
    pub(crate) linger2: i32,
    /// `SO_MAX_PACING_RATE` in bytes per second; `u64::MAX` is none.
    pub(crate) max_pacing_rate: u64,
    /// SYNs sent again; 0 is "what the sysctl says".
    pub(crate) syn_count: u8,
    /// 0 is "what the sysctl says".
    pub(crate) notsent_lowat: u32,
    /// Microseconds by which packets leave late.
    pub(crate) tx_delay_us: u32,
    pub(crate) inq: bool,
    /// Timeouts to wait for data before a connection is handed out.
    pub(crate) defer_accept: u8,
    /// `TCP_QUICKACK` of a socket without a connection: the ACK of its SYN-ACK waits for data.
    pub(crate) acks_wait: bool,
    pub(crate) save_syn: u8,
    /// The largest window to offer; 0 is "any".
    pub(crate) window_clamp: u32,
    /// `TCP_MAXSEG`; 0 is "what the path allows".
    pub(crate) user_mss: u16,
    /// `TCP_MD5SIG`.
    pub(crate) signing: SigningKeys,
    /// `TCP_FASTOPEN`: connections that may be made of a SYN.
    pub(crate) fastopen_queue: u32,
    pub(crate) fastopen_connect: bool,
    pub(crate) fastopen_no_cookie: bool,
    /// `TCP_FASTOPEN_KEY`; `None` is the host's.
    pub(crate) fastopen_key: Option<FastOpenKeys>,
    // SOL_IP, SOL_IPV6
    /// `IP_OPTIONS`, or those that the SYN's answers carry back.
    pub(crate) ip_options: IpOptions,
    pub(crate) tos: u8,
    pub(crate) ttl: Option<u8>,
    pub(crate) min_ttl: u8,
    pub(crate) recverr: bool,
    pub(crate) recverr_v6: bool,
    /// `IP_PMTUDISC_*`
    pub(crate) mtu_discover: i32,
    pub(crate) mtu_discover_v6: i32,
    pub(crate) traffic_class: u8,
    pub(crate) hops: Option<u8>,
    pub(crate) min_hops: u8,
    pub(crate) v6only: bool,
    pub(crate) freebind: bool,
    pub(crate) transparent: bool,
    pub(crate) bind_address_no_port: bool,
    /// First and last ephemeral port of this socket; 0 is "what the sysctl says".
    pub(crate) port_range: (u16, u16),
}

impl Options {
    /// The defaults of a new socket.
    pub(crate) fn new(sysctls: &Sysctls) -> Self {
        let [_, receive_buffer, _] = sysctls.rmem();
        let [_, send_buffer, _] = sysctls.wmem();
        Self {
            reuse_address: false,
            reuse_port: false,
            keepalive: false,
            broadcast: false,
            debug: false,
            priority: 0,
            mark: 0,
            linger: None,
            receive_buffer,
            receive_buffer_locked: false,
            send_buffer,
            send_buffer_locked: false,
            receive_low_water: 1,
            receive_timeout: None,
            send_timeout: None,
            zerocopy: false,
            oob_inline: false,
            timestamping: 0,
            stamp: None,
            peek_offset: -1,
            dont_route: false,
            device: None,
            kept: BTreeMap::new(),
            nodelay: false,
            cork: false,
            user_timeout_ms: 0,
            thin_linear_timeouts: false,
            keep_idle: 0,
            keep_interval: 0,
            keep_count: 0,
            congestion: None,
            linger2: 0,
            max_pacing_rate: u64::MAX,
            syn_count: 0,
            notsent_lowat: 0,
            tx_delay_us: 0,
            inq: false,
            defer_accept: 0,
            acks_wait: false,
            save_syn: 0,
            window_clamp: 0,
            user_mss: 0,
            signing: SigningKeys::default(),
            ip_options: IpOptions::default(),
            fastopen_queue: 0,
            fastopen_connect: false,
            fastopen_no_cookie: false,
            fastopen_key: None,
            tos: 0,
            ttl: None,
            min_ttl: 0,
            recverr: false,
            recverr_v6: false,
            mtu_discover: IP_PMTUDISC_WANT,
            mtu_discover_v6: IP_PMTUDISC_WANT,
            traffic_class: 0,
            hops: None,
            min_hops: 0,
            v6only: false,
            freebind: false,
            transparent: false,
            bind_address_no_port: false,
            port_range: (0, 0),
        }
    }

    /// What a connection takes over from its listener (`sk_clone_lock`: everything but pending
    /// time-stamp counters).
    pub(crate) fn inherited(&self) -> Self {
        self.clone()
    }

    /// The knobs of a connection that has its own; `None` when the host's will do.
    pub(crate) fn own_tunables(&self, common: TcpTunables) -> Option<TcpTunables> {
        let or = |own: u32, common: u32| if own == 0 { common } else { own };
        let or_small = |own: u8, common: u8| if own == 0 { common } else { own };
        let own = TcpTunables {
            tcp_keepalive_time: or(self.keep_idle, common.tcp_keepalive_time),
            tcp_keepalive_intvl: or(self.keep_interval, common.tcp_keepalive_intvl),
            tcp_keepalive_probes: or_small(self.keep_count, common.tcp_keepalive_probes),
            tcp_congestion_control: self.congestion.unwrap_or(common.tcp_congestion_control),
            tcp_syn_retries: or_small(self.syn_count, common.tcp_syn_retries),
            // The SYN-ACK of a child leaves once more than that of a half-open connection.
            tcp_synack_retries: match self.syn_count {
                0 => common.tcp_synack_retries,
                own => own.saturating_sub(1),
            },
            special: self.special(common.special),
            ..common
        };
        (own != common).then_some(own)
    }

    /// Whether packets may be fragmented on the way; `is_locked` when the route's MTU is (Linux:
    /// `ip_dont_fragment`).
    pub(crate) const fn fragments(&self, is_locked: bool) -> bool {
        match self.mtu_discover {
            IP_PMTUDISC_DO => false,
            IP_PMTUDISC_WANT => is_locked,
            _ => true,
        }
    }

    /// What the socket says beside the route.
    fn special(&self, route: Special) -> Special {
        Special {
            user_mss: self.user_mss,
            // behaviour: OPT-20
            window_clamp: match self.window_clamp {
                0 => route.window_clamp,
                clamp => clamp,
            },
            receive_buffer: if self.receive_buffer_locked {
                self.receive_buffer
            } else {
                0
            },
            keeps_mtu: route.keeps_mtu
                || !matches!(
                    self.mtu_discover,
                    IP_PMTUDISC_WANT | IP_PMTUDISC_DO | IP_PMTUDISC_PROBE
                )
                || matches!(
                    self.mtu_discover_v6,
                    IP_PMTUDISC_INTERFACE | IP_PMTUDISC_OMIT
                ),
            ..route
        }
    }

    /// What a time-stamped send waits for; `own` is what the message asks for instead.
    pub(crate) fn stamps_wanted(&self, own: Option<i32>) -> Vec<Purpose> {
        let asked = own.unwrap_or(self.timestamping);
        let has = |bit| asked & bit != 0;
        let scheduled = has(SOF_TIMESTAMPING_TX_SCHED);
        let sent = has(SOF_TIMESTAMPING_TX_SOFTWARE);
        let mut wanted = Vec::new();
        if scheduled || sent {
            wanted.push(Purpose::Sent { scheduled, sent });
        }
        if has(SOF_TIMESTAMPING_TX_ACK) {
            wanted.push(Purpose::Acknowledged);
        }
        wanted
    }

    /// The number of a stamped byte: its place since `SOF_TIMESTAMPING_OPT_ID` was set.
    pub(crate) const fn stamp_number(&self, end: u64, from: u64) -> u32 {
        if self.timestamping & SOF_TIMESTAMPING_OPT_ID == 0 {
            return 0;
        }
        end.saturating_sub(from).saturating_sub(1) as u32
    }

    /// Whether entries of the error queue carry the time.
    pub(crate) const fn stamps_are_reported(&self) -> bool {
        self.timestamping & SOF_TIMESTAMPING_SOFTWARE != 0
    }
}

impl Sockets {
    /// `setsockopt`; `value` is the bytes of the C structure in native order.
    pub fn setsockopt(
        &mut self,
        now: Instant,
        fd: i32,
        level: i32,
        name: i32,
        value: &[u8],
    ) -> Result<(), Errno> {
        self.step_to(now);
        let id = self.files.socket(fd)?;
        match level {
            SOL_SOCKET => self.set_socket_option(id, name, value)?,
            SOL_TCP => self.set_tcp_option(id, name, value)?,
            SOL_IP => self.set_ip_option(id, name, value)?,
            SOL_IPV6 => self.set_ipv6_option(id, name, value)?,
            _ => return Err(Errno::ENOPROTOOPT),
        }
        self.settle();
        Ok(())
    }

    /// `getsockopt`: the bytes the kernel would write for a buffer of `len`.
    pub fn getsockopt(
        &mut self,
        now: Instant,
        fd: i32,
        level: i32,
        name: i32,
        len: usize,
    ) -> Result<Vec<u8>, Errno> {
        self.step_to(now);
        let id = self.files.socket(fd)?;
        if level == SOL_TCP && name == TCP_SAVED_SYN {
            return self.saved_syn(id, len);
        }
        if level == SOL_TCP
            && let Some(result) = self.repair_option(id, name, len)
        {
            return result.map(|mut value| {
                value.truncate(len);
                value
            });
        }
        let mut value = match level {
            SOL_SOCKET => self.socket_option(id, name)?,
            SOL_TCP => self.tcp_option(id, name)?,
            SOL_IP => self.ip_option(id, name)?,
            SOL_IPV6 => self.ipv6_option(id, name)?,
            _ => return Err(Errno::ENOPROTOOPT),
        };
        // A buffer without room for an `int` gets a small number as one byte (`do_ip_getsockopt`).
        let small = matches!(value.as_slice(), [_, 0, 0, 0]);
        if level == SOL_IP && (1..4).contains(&len) && small {
            value.truncate(1);
        }
        value.truncate(len);
        Ok(value)
    }

    /// Tells the connection what concerns it.
    pub(crate) fn apply_options(&mut self, id: SocketId) {
        let Ok(socket) = self.get(id) else { return };
        let options = ConnectionOptions {
            // Small segments are held back here (`outbox`), by Linux's rule.
            nodelay: true,
            keepalive: socket.options.keepalive,
            keep_unread: true,
            user_timeout_ms: socket.options.user_timeout_ms,
            thin_linear_timeouts: socket.options.thin_linear_timeouts,
        };
        let own = socket.options.own_tunables(self.sysctls.of_route());
        let linger2 = socket.options.linger2;
        let max_pacing_rate = socket.options.max_pacing_rate;
        let congestion = socket.options.congestion;
        if socket.listening.is_some() {
            self.publish_row_tunables();
            return;
        }
        if let Some(flow) = socket.flow {
            self.stack.set_linger2(flow, linger2);
            self.stack.set_pacing_rate_max(flow, max_pacing_rate);
            if let Some(own) = own {
                self.stack.set_own_tunables(flow, own);
            }
            self.stack.set_options(self.now, flow, options);
            if let Some(control) = congestion {
                self.stack.set_congestion_control(flow, control);
            }
        }
    }
}
