//! Options of `SOL_SOCKET` (Linux: `sk_setsockopt`, `sk_getsockopt`).

use millrace_base::Nanos;
use millrace_stack::State;

use super::value::{int, of_flag, of_int, of_u32, word};
use crate::errno::Errno;
use crate::file::SocketId;
use crate::linux::{
    IPPROTO_TCP, SO_ACCEPTCONN, SO_BROADCAST, SO_DEBUG, SO_DOMAIN, SO_ERROR, SO_KEEPALIVE,
    SO_LINGER, SO_MARK, SO_MEMINFO, SO_OOBINLINE, SO_PRIORITY, SO_PROTOCOL, SO_RCVBUF,
    SO_RCVBUFFORCE, SO_RCVLOWAT, SO_RCVTIMEO, SO_REUSEADDR, SO_REUSEPORT, SO_SNDBUF,
    SO_SNDBUFFORCE, SO_SNDLOWAT, SO_SNDTIMEO, SO_TIMESTAMPING, SO_TYPE, SO_ZEROCOPY, SOCK_STREAM,
    SOF_TIMESTAMPING_OPT_ID, SOF_TIMESTAMPING_OPT_ID_TCP,
};
use crate::sockets::Sockets;

/// The smallest send buffer (`SOCK_MIN_SNDBUF`): two of the smallest `sk_buff`s.
const SEND_BUFFER_MIN: u32 = 4_608;
/// The smallest receive buffer (`SOCK_MIN_RCVBUF`): one of them.
const RECEIVE_BUFFER_MIN: u32 = 2_304;
/// Every `SOF_TIMESTAMPING_*` bit there is.
const TIMESTAMPING_MASK: i32 = 0x1_ffff;

impl Sockets {
    pub(super) fn set_socket_option(
        &mut self,
        id: SocketId,
        name: i32,
        value: &[u8],
    ) -> Result<(), Errno> {
        let number = int(value)?;
        let on = number != 0;
        let options = &mut self.get_mut(id)?.options;
        match name {
            SO_DEBUG => options.debug = on,
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
            SO_RCVTIMEO => options.receive_timeout = timeout(value)?,
            SO_SNDTIMEO => options.send_timeout = timeout(value)?,
            SO_ZEROCOPY => {
                if !(0..=1).contains(&number) {
                    return Err(Errno::EINVAL);
                }
                options.zerocopy = on;
            }
            SO_TIMESTAMPING => self.set_timestamping(id, number)?,
            SO_TYPE | SO_PROTOCOL | SO_DOMAIN | SO_ERROR | SO_ACCEPTCONN | SO_SNDLOWAT => {
                return Err(Errno::ENOPROTOOPT);
            }
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(())
    }

    pub(super) fn socket_option(&mut self, id: SocketId, name: i32) -> Result<Vec<u8>, Errno> {
        let state = self.state(id);
        let socket = self.get_mut(id)?;
        let options = &socket.options;
        Ok(match name {
            SO_DEBUG => of_flag(options.debug),
            SO_REUSEADDR => of_flag(options.reuse_address),
            SO_REUSEPORT => of_flag(options.reuse_port),
            SO_BROADCAST => of_flag(options.broadcast),
            SO_PRIORITY => of_int(options.priority),
            SO_MARK => of_int(options.mark),
            SO_KEEPALIVE => of_flag(options.keepalive),
            SO_OOBINLINE => of_flag(options.oob_inline),
            SO_TYPE => of_int(SOCK_STREAM),
            SO_PROTOCOL => of_int(IPPROTO_TCP),
            SO_DOMAIN => of_int(socket.domain.number()),
            SO_ACCEPTCONN => of_flag(state == State::Listen),
            SO_ERROR => of_int(socket.take_error().map_or(0, Errno::number)),
            SO_LINGER => {
                let mut bytes = of_flag(options.linger.is_some());
                bytes.extend(of_u32(options.linger.unwrap_or(0)));
                bytes
            }
            SO_SNDBUF => of_u32(options.send_buffer),
            SO_RCVBUF => of_u32(options.receive_buffer),
            SO_RCVLOWAT => of_u32(options.receive_low_water),
            SO_SNDLOWAT => of_int(1),
            SO_RCVTIMEO => of_timeout(options.receive_timeout),
            SO_SNDTIMEO => of_timeout(options.send_timeout),
            SO_ZEROCOPY => of_flag(options.zerocopy),
            SO_MEMINFO => self.memory_info(id)?,
            SO_TIMESTAMPING => of_int(options.timestamping),
            _ => return Err(Errno::ENOPROTOOPT),
        })
    }

    /// `SK_MEMINFO_*`: what is unread, the receive buffer, what a device holds, the send buffer,
    /// memory ahead, what is queued, option memory, backlog, drops. A device holds nothing here.
    fn memory_info(&self, id: SocketId) -> Result<Vec<u8>, Errno> {
        let options = &self.get(id)?.options;
        let unread = u32::try_from(self.unread(id)).unwrap_or(u32::MAX);
        let queued = u32::try_from(self.queued_cost(id)).unwrap_or(u32::MAX);
        let (receive, send) = (options.receive_buffer, options.send_buffer);
        let words = [unread, receive, 0, send, 0, queued, 0, 0, 0];
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
        Ok(())
    }

    /// behaviour: OPT-22
    fn set_low_water(&mut self, id: SocketId, number: i32) -> Result<(), Errno> {
        let [_, _, most] = self.sysctls.rmem();
        let wanted = if number < 0 { i32::MAX } else { number.max(1) };
        let options = &mut self.get_mut(id)?.options;
        options.receive_low_water = (wanted as u32).min(most / 2);
        Ok(())
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
