//! Options of `SOL_TCP` (Linux: `do_tcp_setsockopt`, `do_tcp_getsockopt`).

use millrace_stack::{BbrInfo, CongestionControl, DctcpInfo, State};

use super::value::{int, of_flag, of_int, of_u32, within};
use crate::deferred::{seconds_of, timeouts_of};
use crate::errno::Errno;
use crate::fastopen::CLIENT_ENABLE;
use crate::file::SocketId;
use crate::linux::{
    TCP_CC_INFO, TCP_CONGESTION, TCP_CORK, TCP_DEFER_ACCEPT, TCP_FASTOPEN, TCP_FASTOPEN_CONNECT,
    TCP_FASTOPEN_KEY, TCP_FASTOPEN_NO_COOKIE, TCP_INFO, TCP_INQ, TCP_IS_MPTCP, TCP_KEEPCNT,
    TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_LINGER2, TCP_MAXSEG, TCP_MD5SIG, TCP_MD5SIG_EXT, TCP_NODELAY,
    TCP_NOTSENT_LOWAT, TCP_QUICKACK, TCP_SAVE_SYN, TCP_SYNCNT, TCP_THIN_DUPACK,
    TCP_THIN_LINEAR_TIMEOUTS, TCP_TX_DELAY, TCP_ULP, TCP_USER_TIMEOUT, TCP_WINDOW_CLAMP,
};
use crate::sockets::{Sockets, is_opening};
use crate::tx_delay::TX_DELAY_END;

/// Bytes of the name of a congestion control (`TCP_CA_NAME_MAX`).
const CONGESTION_NAME_BYTES: usize = 16;
/// The smallest window to be clamped to (half of `SOCK_MIN_RCVBUF`).
const CLAMP_MIN: u32 = 1_152;
/// What `TCP_MAXSEG` may be (`TCP_MIN_MSS`, `MAX_TCP_WINDOW`).
const MSS_MIN: i32 = 88;
const WINDOW_MAX: i32 = 32_767;
/// Seconds of keep-alive that may be asked for (`MAX_TCP_KEEPIDLE`, `MAX_TCP_KEEPINTVL`).
const KEEP_SECONDS_MAX: i32 = 32_767;
/// Probes and SYNs that may be asked for (`MAX_TCP_KEEPCNT`, `MAX_TCP_SYNCNT`).
const RETRIES_MAX: i32 = 127;
/// The longest FIN_WAIT2 to ask for (`TCP_FIN_TIMEOUT_MAX`).
const FIN_WAIT2_SECONDS_MAX: i32 = 120;
/// The segment size of a connection that has not agreed on one (`TCP_MSS_DEFAULT`).
const MSS_DEFAULT: i32 = 536;

impl Sockets {
    pub(super) fn set_tcp_option(
        &mut self,
        id: SocketId,
        name: i32,
        value: &[u8],
    ) -> Result<(), Errno> {
        match name {
            TCP_CONGESTION => return self.set_congestion(id, value),
            TCP_FASTOPEN_KEY => return self.set_fast_open_key(id, value),
            TCP_MD5SIG | TCP_MD5SIG_EXT => return self.set_md5_key(id, name, value),
            TCP_FASTOPEN => return self.set_fast_open_queue(id, int(value)?),
            TCP_FASTOPEN_CONNECT | TCP_FASTOPEN_NO_COOKIE => {
                return self.set_fast_open(id, name, value);
            }
            _ => {}
        }
        if let Some(result) = self.set_repair_option(id, name, value) {
            return result;
        }
        let number = int(value)?;
        let options = &mut self.get_mut(id)?.options;
        match name {
            // behaviour: OPT-9
            TCP_NODELAY => {
                options.nodelay = number != 0;
                self.apply_options(id);
                // Linux pushes what waits, corked or not (`TCP_NAGLE_PUSH`).
                if number != 0 {
                    self.feed(id, true);
                }
            }
            // behaviour: OPT-8
            TCP_CORK => {
                options.cork = number != 0;
                if number == 0 {
                    self.end_more(id);
                    self.feed(id, false);
                }
            }
            // behaviour: OPT-28
            TCP_USER_TIMEOUT => {
                options.user_timeout_ms = u32::try_from(number).map_err(|_| Errno::EINVAL)?;
                self.apply_options(id);
            }
            // behaviour: OPT-27
            TCP_THIN_LINEAR_TIMEOUTS => {
                options.thin_linear_timeouts = within(value, 0, 1)? != 0;
                self.apply_options(id);
            }
            TCP_NOTSENT_LOWAT => {
                options.notsent_lowat = number as u32;
                let _ = self.tell_writable();
            }
            // behaviour: A4-24
            TCP_TX_DELAY => options.tx_delay_us = within(value, 0, TX_DELAY_END - 1)? as u32,
            // behaviour: OPT-18
            TCP_MAXSEG => {
                let allowed = number == 0 || (MSS_MIN..=WINDOW_MAX).contains(&number);
                if !allowed {
                    return Err(Errno::EINVAL);
                }
                options.user_mss = number as u16;
                self.apply_options(id);
            }
            // behaviour: OPT-13 OPT-14 OPT-15
            TCP_KEEPIDLE => {
                options.keep_idle = within(value, 1, KEEP_SECONDS_MAX)? as u32;
                self.apply_options(id);
            }
            TCP_KEEPINTVL => {
                options.keep_interval = within(value, 1, KEEP_SECONDS_MAX)? as u32;
                self.apply_options(id);
            }
            TCP_KEEPCNT => {
                options.keep_count = within(value, 1, RETRIES_MAX)? as u8;
                self.apply_options(id);
            }
            // behaviour: OPT-11
            TCP_SYNCNT => {
                options.syn_count = within(value, 1, RETRIES_MAX)? as u8;
                self.apply_options(id);
                self.publish_rows();
            }
            // behaviour: OPT-17
            TCP_LINGER2 => {
                options.linger2 = number.clamp(-1, FIN_WAIT2_SECONDS_MAX);
                self.apply_options(id);
            }
            // behaviour: OPT-10
            TCP_DEFER_ACCEPT => {
                options.defer_accept = timeouts_of(u64::try_from(number).unwrap_or(0));
                self.publish_rows();
            }
            // behaviour: OPT-49
            TCP_SAVE_SYN => options.save_syn = within(value, 0, 2)? as u8,
            // behaviour: OPT-20
            TCP_WINDOW_CLAMP => {
                let fresh = self.state(id) == State::Closed;
                if number <= 0 && !fresh {
                    return Err(Errno::EINVAL);
                }
                let clamp = match number.max(0) as u32 {
                    0 => 0,
                    clamp => clamp.max(CLAMP_MIN),
                };
                self.get_mut(id)?.options.window_clamp = clamp;
                self.apply_options(id);
            }
            TCP_QUICKACK => {
                if let Some(flow) = self.get(id)?.flow {
                    self.stack.set_quick_ack(self.now, flow, number);
                    let pushed = &mut self.get_mut(id)?.traffic.pushed;
                    *pushed = (*pushed).max(u8::from(number != 0));
                } else {
                    self.get_mut(id)?.options.acks_wait = number & 1 == 0;
                }
            }
            // Linux 4.13 took its effect away and kept its range.
            TCP_THIN_DUPACK => {
                within(value, 0, 1)?;
            }
            // There is none (kernel TLS is of a kernel).
            TCP_ULP => return Err(Errno::ENOENT),
            // behaviour: OPT-29
            TCP_INQ => options.inq = within(value, 0, 1)? != 0,
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(())
    }

    /// How a connection is to begin: before it does.
    fn set_fast_open(&mut self, id: SocketId, name: i32, value: &[u8]) -> Result<(), Errno> {
        let on = within(value, 0, 1)? != 0;
        let state = self.state(id);
        if name == TCP_FASTOPEN_CONNECT {
            if self.sysctls.tunables().tcp_fastopen & CLIENT_ENABLE == 0 {
                return Err(Errno::EOPNOTSUPP);
            }
            if state != State::Closed {
                return Err(Errno::EINVAL);
            }
            self.get_mut(id)?.options.fastopen_connect = on;
            return Ok(());
        }
        if !matches!(state, State::Closed | State::Listen) {
            return Err(Errno::EINVAL);
        }
        self.get_mut(id)?.options.fastopen_no_cookie = on;
        self.publish_rows();
        Ok(())
    }

    /// A connection changes at once, and keeps its window; a listener's are born with the choice.
    /// What there is not is `ENOENT` (Linux: `tcp_set_congestion_control`).
    fn set_congestion(&mut self, id: SocketId, value: &[u8]) -> Result<(), Errno> {
        if value.is_empty() {
            return Err(Errno::EINVAL);
        }
        let known = value.get(..CONGESTION_NAME_BYTES - 1).unwrap_or(value);
        let name = known.split(|byte| *byte == 0).next().unwrap_or_default();
        let chosen = CongestionControl::of_name(name).ok_or(Errno::ENOENT)?;
        self.get_mut(id)?.options.congestion = Some(chosen);
        self.apply_options(id);
        Ok(())
    }

    pub(super) fn tcp_option(&mut self, id: SocketId, name: i32) -> Result<Vec<u8>, Errno> {
        if name == TCP_FASTOPEN_KEY {
            return self.fast_open_key(id);
        }
        let info = self.info(id);
        let options = &self.get(id)?.options;
        let common = self.sysctls.of_route();
        let tunables = options.own_tunables(common).unwrap_or(common);
        Ok(match name {
            TCP_NODELAY => of_flag(options.nodelay),
            TCP_CORK => of_flag(options.cork),
            TCP_USER_TIMEOUT => of_u32(options.user_timeout_ms),
            TCP_THIN_LINEAR_TIMEOUTS => of_flag(options.thin_linear_timeouts),
            TCP_NOTSENT_LOWAT => of_u32(options.notsent_lowat),
            TCP_INQ => of_flag(options.inq),
            TCP_TX_DELAY => of_u32(options.tx_delay_us),
            // behaviour: X3-5
            TCP_FASTOPEN => of_u32(options.fastopen_queue),
            TCP_FASTOPEN_CONNECT => of_flag(options.fastopen_connect),
            TCP_FASTOPEN_NO_COOKIE => of_flag(options.fastopen_no_cookie),
            TCP_DEFER_ACCEPT => of_u32(seconds_of(options.defer_accept) as u32),
            TCP_SAVE_SYN => of_int(options.save_syn.into()),
            TCP_WINDOW_CLAMP => of_u32(options.window_clamp),
            // behaviour: OPT-18
            TCP_MAXSEG => {
                let agreed = info.filter(|info| !is_opening(info.state));
                let wanted = match options.user_mss {
                    0 => MSS_DEFAULT,
                    own => i32::from(own),
                };
                of_int(agreed.map_or(wanted, |info| i32::from(info.mss)))
            }
            TCP_KEEPIDLE => of_u32(tunables.tcp_keepalive_time),
            TCP_KEEPINTVL => of_u32(tunables.tcp_keepalive_intvl),
            TCP_KEEPCNT => of_int(tunables.tcp_keepalive_probes.into()),
            TCP_SYNCNT => of_int(tunables.tcp_syn_retries.into()),
            TCP_LINGER2 => match options.linger2 {
                0 => of_u32(tunables.tcp_fin_timeout),
                own => of_int(own),
            },
            TCP_QUICKACK => of_flag(info.map_or(!options.acks_wait, |info| !info.ping_pong)),
            TCP_THIN_DUPACK | TCP_IS_MPTCP => of_int(0),
            TCP_ULP => Vec::new(),
            TCP_CONGESTION => {
                let name = match info {
                    // An algorithm that needs ECN is Reno without, and says so (Linux: `dctcp_reno`).
                    Some(info)
                        if info.congestion_control.needs_ecn()
                            && !info.ecn
                            && info.state != State::SynSent =>
                    {
                        "dctcp-reno"
                    }
                    Some(info) => info.congestion_control.name(),
                    None => tunables.tcp_congestion_control.name(),
                };
                let mut bytes = name.as_bytes().to_vec();
                bytes.resize(CONGESTION_NAME_BYTES, 0);
                bytes
            }
            // Neither CUBIC nor Reno has anything to tell.
            TCP_CC_INFO => match info {
                Some(info) => info
                    .bbr
                    .map(of_bbr)
                    .or(info.dctcp.map(of_dctcp))
                    .unwrap_or_default(),
                None => Vec::new(),
            },
            // behaviour: OPT-12
            TCP_INFO => self.tcp_info_of(id).to_bytes(),
            _ => return Err(Errno::ENOPROTOOPT),
        })
    }
}

/// `struct tcp_dctcp_info`.
fn of_dctcp(info: DctcpInfo) -> Vec<u8> {
    let flags = [u16::from(info.enabled), u16::from(info.ce_state)];
    let words = [info.alpha, info.marked_bytes, info.total_bytes];
    let flags = flags.into_iter().flat_map(u16::to_ne_bytes);
    flags
        .chain(words.into_iter().flat_map(u32::to_ne_bytes))
        .collect()
}

/// `struct tcp_bbr_info`: the rate in two words, the round trip in microseconds, two gains in 1/256.
fn of_bbr(info: BbrInfo) -> Vec<u8> {
    let words = [
        (info.bandwidth & u64::from(u32::MAX)) as u32,
        (info.bandwidth >> 32) as u32,
        info.min_rtt.as_micros(),
        info.pacing_gain,
        info.cwnd_gain,
    ];
    words.into_iter().flat_map(u32::to_ne_bytes).collect()
}
