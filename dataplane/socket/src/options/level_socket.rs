//! Options of `SOL_SOCKET` (Linux: `sk_setsockopt`, `sk_getsockopt`).

use millrace_base::Nanos;
use millrace_stack::State;

use super::value::{int, of_flag, of_int, of_u32, word};
use crate::address::SocketAddress;
use crate::control::{StampOption, is_stamp_option};
use crate::errno::Errno;
use crate::file::SocketId;
use crate::linux::{
    IPPROTO_TCP, SO_ACCEPTCONN, SO_BINDTODEVICE, SO_BINDTOIFINDEX, SO_BROADCAST, SO_BSDCOMPAT,
    SO_BUF_LOCK, SO_CNX_ADVICE, SO_COOKIE, SO_DEBUG, SO_DETACH_FILTER, SO_DOMAIN, SO_DONTROUTE,
    SO_ERROR, SO_INCOMING_NAPI_ID, SO_KEEPALIVE, SO_LINGER, SO_MARK, SO_MAX_PACING_RATE,
    SO_MEMINFO, SO_OOBINLINE, SO_PEEK_OFF, SO_PEERCRED, SO_PEERNAME, SO_PRIORITY, SO_PROTOCOL,
    SO_RCVBUF, SO_RCVBUFFORCE, SO_RCVLOWAT, SO_RCVTIMEO, SO_RCVTIMEO_NEW, SO_REUSEADDR,
    SO_REUSEPORT, SO_SNDBUF, SO_SNDBUFFORCE, SO_SNDLOWAT, SO_SNDTIMEO, SO_SNDTIMEO_NEW,
    SO_TIMESTAMPING, SO_TIMESTAMPING_NEW, SO_TYPE, SO_ZEROCOPY, SOCK_STREAM,
    SOF_TIMESTAMPING_OPT_ID, SOF_TIMESTAMPING_OPT_ID_TCP, SOL_SOCKET,
};
use crate::news::DATA_READY;
use crate::signals::{Band, Unless};
use crate::sockets::Sockets;

/// The smallest send buffer (`SOCK_MIN_SNDBUF`): two of the smallest `sk_buff`s.
const SEND_BUFFER_MIN: u32 = 4_608;
/// The smallest receive buffer (`SOCK_MIN_RCVBUF`): one of them.
const RECEIVE_BUFFER_MIN: u32 = 2_304;
/// Every `SOF_TIMESTAMPING_*` bit there is.
const TIMESTAMPING_MASK: i32 = 0x7_ffff;
/// What `SO_BUF_LOCK` may lock.
const SEND_BUFFER_LOCK: i32 = 1;
const RECEIVE_BUFFER_LOCK: i32 = 2;
const BUFFER_LOCKS: i32 = SEND_BUFFER_LOCK | RECEIVE_BUFFER_LOCK;

impl Sockets {
    pub(super) fn set_socket_option(
        &mut self,
        id: SocketId,
        name: i32,
        value: &[u8],
    ) -> Result<(), Errno> {
        if name == SO_BINDTODEVICE {
            return self.bind_to_device(id, value);
        }
        if name == SO_MAX_PACING_RATE {
            self.get_mut(id)?.options.max_pacing_rate = pacing_rate(value)?;
            self.apply_options(id);
            return Ok(());
        }
        let number = int(value)?;
        let on = number != 0;
        let options = &mut self.get_mut(id)?.options;
        match name {
            SO_DEBUG => options.debug = on,
            // behaviour: OPT-35
            SO_DONTROUTE => options.dont_route = on,
            SO_PEEK_OFF => options.peek_offset = number,
            SO_BSDCOMPAT => {}
            // The last of the four that is set counts; switching one off switches all off.
            name if is_stamp_option(name) => {
                options.stamp = on.then_some(StampOption { name });
            }
            // 1 sends and 2 receives with the buffer as it is, for good.
            SO_BUF_LOCK => {
                if number & !BUFFER_LOCKS != 0 {
                    return Err(Errno::EINVAL);
                }
                options.send_buffer_locked = number & SEND_BUFFER_LOCK != 0;
                options.receive_buffer_locked = number & RECEIVE_BUFFER_LOCK != 0;
            }
            SO_DETACH_FILTER => return Err(Errno::ENOENT),
            // Advice about the route, which there is one of.
            SO_CNX_ADVICE if number == 1 => {}
            SO_CNX_ADVICE => return Err(Errno::EINVAL),
            SO_BINDTOIFINDEX => {
                let device = self.device_by_index(number)?;
                self.get_mut(id)?.options.device = device;
            }
            SO_REUSEADDR => options.reuse_address = on,
            SO_REUSEPORT => options.reuse_port = on,
            SO_BROADCAST => options.broadcast = on,
            SO_PRIORITY => options.priority = number,
            SO_MARK => options.mark = number,
            // behaviour: OPT-24
            SO_OOBINLINE => options.oob_inline = on,
            SO_KEEPALIVE => {
                options.keepalive = on;
                self.apply_options(id);
            }
            SO_LINGER => {
                let seconds = word(value, 4)?;
                // A negative time is as long as an unsigned one.
                options.linger = on.then_some(seconds as u32);
            }
            SO_SNDBUF => {
                let most = self.sysctls.core_wmem_max();
                self.set_send_buffer(id, (number as u32).min(most))?;
            }
            SO_SNDBUFFORCE => self.set_send_buffer(id, number.max(0) as u32)?,
            SO_RCVBUF => {
                let most = self.sysctls.core_rmem_max();
                self.set_receive_buffer(id, (number as u32).min(most))?;
            }
            SO_RCVBUFFORCE => self.set_receive_buffer(id, number.max(0) as u32)?,
            SO_RCVLOWAT => self.set_low_water(id, number)?,
            SO_RCVTIMEO | SO_RCVTIMEO_NEW => options.receive_timeout = timeout(value)?,
            SO_SNDTIMEO | SO_SNDTIMEO_NEW => options.send_timeout = timeout(value)?,
            SO_ZEROCOPY => {
                if !(0..=1).contains(&number) {
                    return Err(Errno::EINVAL);
                }
                options.zerocopy = on;
            }
            SO_TIMESTAMPING | SO_TIMESTAMPING_NEW => self.set_timestamping(id, number)?,
            // What a socket is and does cannot be set: `SO_TYPE`, `SO_ERROR`, `SO_COOKIE`...
            _ => options.keep(SOL_SOCKET, name, number)?,
        }
        Ok(())
    }

    pub(super) fn socket_option(&mut self, id: SocketId, name: i32) -> Result<Vec<u8>, Errno> {
        let state = self.state(id);
        if name == SO_ERROR {
            let error = self.get_mut(id)?.take_error();
            return Ok(of_int(error.map_or(0, Errno::number)));
        }
        let socket = self.get(id)?;
        let options = &socket.options;
        Ok(match name {
            SO_DEBUG => of_flag(options.debug),
            SO_REUSEADDR => of_flag(options.reuse_address),
            SO_REUSEPORT => of_flag(options.reuse_port),
            SO_BROADCAST => of_flag(options.broadcast),
            SO_PRIORITY => of_int(options.priority),
            // Who has room for an int only gets the lower half: all ones mean the same in both.
            SO_MAX_PACING_RATE => options.max_pacing_rate.to_ne_bytes().to_vec(),
            SO_MARK => of_int(options.mark),
            SO_KEEPALIVE => of_flag(options.keepalive),
            SO_OOBINLINE => of_flag(options.oob_inline),
            SO_TYPE => of_int(SOCK_STREAM),
            SO_PROTOCOL => of_int(IPPROTO_TCP),
            SO_DOMAIN => of_int(socket.domain.number()),
            SO_ACCEPTCONN => of_flag(state == State::Listen),
            SO_LINGER => {
                let mut bytes = of_flag(options.linger.is_some());
                bytes.extend(of_u32(options.linger.unwrap_or(0)));
                bytes
            }
            SO_SNDBUF => of_u32(options.send_buffer),
            SO_RCVBUF => of_u32(options.receive_buffer),
            SO_RCVLOWAT => of_u32(options.receive_low_water),
            SO_SNDLOWAT => of_int(1),
            SO_RCVTIMEO | SO_RCVTIMEO_NEW => of_timeout(options.receive_timeout),
            SO_SNDTIMEO | SO_SNDTIMEO_NEW => of_timeout(options.send_timeout),
            SO_ZEROCOPY => of_flag(options.zerocopy),
            // `so_timestamping`: the flags and the number of a clock.
            SO_TIMESTAMPING | SO_TIMESTAMPING_NEW => {
                let mut bytes = of_int(options.timestamping);
                bytes.extend(of_int(0));
                bytes
            }
            name if is_stamp_option(name) => {
                of_flag(options.stamp.is_some_and(|set| set.name == name))
            }
            SO_DONTROUTE => of_flag(options.dont_route),
            SO_PEEK_OFF => of_int(options.peek_offset),
            SO_BSDCOMPAT => of_int(0),
            SO_BUF_LOCK => {
                let send = i32::from(options.send_buffer_locked) * SEND_BUFFER_LOCK;
                let receive = i32::from(options.receive_buffer_locked) * RECEIVE_BUFFER_LOCK;
                of_int(send | receive)
            }
            // Who is at the other end of a Unix socket: nobody.
            SO_PEERCRED => [0, -1, -1].into_iter().flat_map(of_int).collect(),
            // No queue of a NIC is waited for.
            SO_INCOMING_NAPI_ID => of_int(0),
            SO_BINDTODEVICE => {
                let mut name = options.device.clone().unwrap_or_default().into_bytes();
                if !name.is_empty() {
                    name.push(0);
                }
                name
            }
            SO_BINDTOIFINDEX => of_int(options.device.is_some().into()),
            SO_COOKIE => id.0.to_ne_bytes().to_vec(),
            SO_MEMINFO => self.memory_info(id)?,
            SO_PEERNAME => self.peer_name(id)?,
            _ => of_int(options.kept(SOL_SOCKET, name)?),
        })
    }

    /// `SK_MEMINFO_*`: what is unread, the receive buffer, what a device holds, the send buffer,
    /// memory ahead, what is queued, option memory, backlog, drops. A device holds nothing here.
    fn memory_info(&self, id: SocketId) -> Result<Vec<u8>, Errno> {
        let options = &self.get(id)?.options;
        let unread = u32::try_from(self.unread(id)).unwrap_or(u32::MAX);
        let queued = u32::try_from(self.queued_cost(id)).unwrap_or(u32::MAX);
        let (receive, send) = (options.receive_buffer, options.send_buffer);
        let refused = self.get(id)?.traffic.refused;
        let words = [unread, receive, 0, send, 0, queued, 0, 0, refused];
        Ok(words.into_iter().flat_map(u32::to_ne_bytes).collect())
    }

    /// behaviour: OPT-21. The kernel doubles what it is asked for, for its own bookkeeping.
    fn set_send_buffer(&mut self, id: SocketId, bytes: u32) -> Result<(), Errno> {
        let options = &mut self.get_mut(id)?.options;
        let doubled = bytes.min(i32::MAX as u32 / 2) * 2;
        options.send_buffer = doubled.max(SEND_BUFFER_MIN);
        options.send_buffer_locked = true;
        // There may be room now for who waits.
        let _ = self.tell_writable();
        Ok(())
    }

    /// The same for receiving. What was offered stays offered.
    fn set_receive_buffer(&mut self, id: SocketId, bytes: u32) -> Result<(), Errno> {
        let options = &mut self.get_mut(id)?.options;
        let doubled = bytes.min(i32::MAX as u32 / 2) * 2;
        options.receive_buffer = doubled.max(RECEIVE_BUFFER_MIN);
        options.receive_buffer_locked = true;
        self.apply_options(id);
        Ok(())
    }

    /// behaviour: OPT-22. The buffer grows to hold twice as much, unless it was set; who waits may
    /// have enough now (`tcp_set_rcvlowat`).
    fn set_low_water(&mut self, id: SocketId, number: i32) -> Result<(), Errno> {
        let [_, _, most] = self.sysctls.rmem();
        let wanted = if number < 0 { i32::MAX } else { number.max(1) };
        let unread = self.unread(id);
        let options = &mut self.get_mut(id)?.options;
        let cap = if options.receive_buffer_locked {
            options.receive_buffer
        } else {
            most
        };
        let mark = (wanted as u32).min(cap / 2).max(1);
        options.receive_low_water = mark;
        if !options.receive_buffer_locked {
            options.receive_buffer = options.receive_buffer.max(mark * 2);
        }
        if unread >= mark as usize {
            self.wake(id, DATA_READY);
            self.wake_async(id, Band::In, Unless::SomebodyReads);
        }
        Ok(())
    }

    /// `SO_BINDTODEVICE`: there is one link. `ENODEV` for another, nothing for none
    /// (behaviour: OPT-26).
    fn bind_to_device(&mut self, id: SocketId, value: &[u8]) -> Result<(), Errno> {
        let name = value.split(|byte| *byte == 0).next().unwrap_or_default();
        let link = self.config.device.clone();
        self.get_mut(id)?.options.device = match name {
            b"" => None,
            name if name == link.as_bytes() => Some(link),
            _ => return Err(Errno::ENODEV),
        };
        Ok(())
    }

    /// The same by number: the link is the first.
    fn device_by_index(&self, index: i32) -> Result<Option<String>, Errno> {
        match index {
            0 => Ok(None),
            1 => Ok(Some(self.config.device.clone())),
            ..0 => Err(Errno::EINVAL),
            2.. => Err(Errno::ENODEV),
        }
    }

    /// `SO_PEERNAME`: what `getpeername` tells.
    fn peer_name(&self, id: SocketId) -> Result<Vec<u8>, Errno> {
        let socket = self.get(id)?;
        let living = !matches!(self.state(id), State::Closed | State::SynSent);
        let remote = socket.remote.filter(|_| living).ok_or(Errno::ENOTCONN)?;
        Ok(SocketAddress::of(remote, socket.domain).to_bytes())
    }

    fn set_timestamping(&mut self, id: SocketId, flags: i32) -> Result<(), Errno> {
        if flags & !TIMESTAMPING_MASK != 0 {
            return Err(Errno::EINVAL);
        }
        let state = self.state(id);
        let acked = self.info(id).map_or(0, |info| info.bytes_acked);
        let socket = self.get_mut(id)?;
        let has_numbers = socket.options.timestamping & SOF_TIMESTAMPING_OPT_ID != 0;
        if flags & SOF_TIMESTAMPING_OPT_ID_TCP != 0 && flags & SOF_TIMESTAMPING_OPT_ID == 0 {
            return Err(Errno::EINVAL);
        }
        if flags & SOF_TIMESTAMPING_OPT_ID != 0 && !has_numbers {
            if matches!(state, State::Closed | State::Listen) {
                return Err(Errno::EINVAL);
            }
            socket.counters.stamps_from = if flags & SOF_TIMESTAMPING_OPT_ID_TCP != 0 {
                socket.written
            } else {
                acked
            };
        }
        socket.options.timestamping = flags;
        Ok(())
    }
}

/// A `timeval`: 0 is for ever, a negative one gives up at once.
/// Bytes per second: a `long` where there is room for one, else an `int`; all ones are no limit.
fn pacing_rate(value: &[u8]) -> Result<u64, Errno> {
    if let Some(long) = value.first_chunk() {
        return Ok(u64::from_ne_bytes(*long));
    }
    Ok(match int(value)? as u32 {
        u32::MAX => u64::MAX,
        rate => rate.into(),
    })
}

fn timeout(value: &[u8]) -> Result<Option<Nanos>, Errno> {
    let long = |at: usize| {
        let bytes = value.get(at..at + 8).and_then(|b| b.try_into().ok());
        bytes.map(i64::from_ne_bytes).ok_or(Errno::EINVAL)
    };
    let (seconds, micros) = (long(0)?, long(8)?);
    if !(0..1_000_000).contains(&micros) {
        return Err(Errno::EDOM);
    }
    let Ok(seconds) = u64::try_from(seconds) else {
        return Ok(Some(Nanos::ZERO));
    };
    if seconds == 0 && micros == 0 {
        return Ok(None);
    }
    let nanos = seconds.saturating_mul(1_000_000_000);
    Ok(Some(Nanos::new(
        nanos.saturating_add(micros as u64 * 1_000),
    )))
}

fn of_timeout(timeout: Option<Nanos>) -> Vec<u8> {
    let nanos = timeout.map_or(0, Nanos::as_nanos);
    let mut bytes = (nanos / 1_000_000_000).to_ne_bytes().to_vec();
    bytes.extend((nanos % 1_000_000_000 / 1_000).to_ne_bytes());
    bytes
}
