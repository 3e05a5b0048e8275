//! Options of `SOL_IP` and `SOL_IPV6` (Linux: `do_ip_setsockopt`, `do_ipv6_setsockopt`).

use super::value::{int, int_or_byte, of_flag, of_int};
use crate::address::Domain;
use crate::errno::Errno;
use crate::file::SocketId;
use crate::linux::{
    IP_BIND_ADDRESS_NO_PORT, IP_FREEBIND, IP_LOCAL_PORT_RANGE, IP_MTU, IP_TRANSPARENT,
    IPV6_FREEBIND, IPV6_MTU, IPV6_TRANSPARENT, IPV6_V6ONLY,
};
use crate::sockets::Sockets;

impl Sockets {
    pub(super) fn set_ip_option(
        &mut self,
        id: SocketId,
        name: i32,
        value: &[u8],
    ) -> Result<(), Errno> {
        let number = int_or_byte(value)?;
        let on = number != 0;
        let options = &mut self.get_mut(id)?.options;
        match name {
            IP_FREEBIND => options.freebind = on,
            IP_TRANSPARENT => {
                options.transparent = on;
                options.freebind |= on;
            }
            // behaviour: HSH-3
            IP_BIND_ADDRESS_NO_PORT => options.bind_address_no_port = on,
            IP_LOCAL_PORT_RANGE => {
                let (low, high) = (int(value)? as u16, (int(value)? as u32 >> 16) as u16);
                if low != 0 && high != 0 && low > high {
                    return Err(Errno::EINVAL);
                }
                options.port_range = (low, high);
            }
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(())
    }

    pub(super) fn ip_option(&mut self, id: SocketId, name: i32) -> Result<Vec<u8>, Errno> {
        let options = &self.get(id)?.options;
        Ok(match name {
            IP_FREEBIND => of_flag(options.freebind),
            IP_TRANSPARENT => of_flag(options.transparent),
            IP_BIND_ADDRESS_NO_PORT => of_flag(options.bind_address_no_port),
            IP_LOCAL_PORT_RANGE => {
                let (low, high) = options.port_range;
                of_int((u32::from(high) << 16 | u32::from(low)) as i32)
            }
            IP_MTU => self.path_mtu(id)?,
            _ => return Err(Errno::ENOPROTOOPT),
        })
    }

    pub(super) fn set_ipv6_option(
        &mut self,
        id: SocketId,
        name: i32,
        value: &[u8],
    ) -> Result<(), Errno> {
        let on = int(value)? != 0;
        let socket = self.get_mut(id)?;
        if socket.domain == Domain::V4 {
            return Err(Errno::ENOPROTOOPT);
        }
        match name {
            IPV6_V6ONLY => {
                if socket.local.port != 0 {
                    return Err(Errno::EINVAL);
                }
                socket.options.v6only = on;
            }
            IPV6_FREEBIND => socket.options.freebind = on,
            IPV6_TRANSPARENT => {
                socket.options.transparent = on;
                socket.options.freebind |= on;
            }
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(())
    }

    pub(super) fn ipv6_option(&mut self, id: SocketId, name: i32) -> Result<Vec<u8>, Errno> {
        let socket = self.get(id)?;
        if socket.domain == Domain::V4 {
            return Err(Errno::ENOPROTOOPT);
        }
        Ok(match name {
            IPV6_V6ONLY => of_flag(socket.options.v6only),
            IPV6_FREEBIND => of_flag(socket.options.freebind),
            IPV6_TRANSPARENT => of_flag(socket.options.transparent),
            IPV6_MTU => self.path_mtu(id)?,
            _ => return Err(Errno::ENOPROTOOPT),
        })
    }

    /// The path MTU; `ENOTCONN` without a connection.
    fn path_mtu(&self, id: SocketId) -> Result<Vec<u8>, Errno> {
        let info = self.info(id).ok_or(Errno::ENOTCONN)?;
        Ok(of_int(i32::from(info.path_mtu)))
    }
}
