//! Options of `SOL_IP` and `SOL_IPV6` (Linux: `do_ip_setsockopt`, `do_ipv6_setsockopt`).

use super::value::{int, int_or_byte, of_flag, of_int};
use crate::address::Domain;
use crate::errno::Errno;
use crate::file::SocketId;
use crate::ip_options::IpOptions;
use crate::linux::{
    IP_BIND_ADDRESS_NO_PORT, IP_FREEBIND, IP_LOCAL_PORT_RANGE, IP_MINTTL, IP_MTU, IP_MTU_DISCOVER,
    IP_MULTICAST_LOOP, IP_MULTICAST_TTL, IP_OPTIONS, IP_PMTUDISC_DONT, IP_PMTUDISC_OMIT,
    IP_PROTOCOL, IP_RECVERR, IP_TOS, IP_TRANSPARENT, IP_TTL, IPPROTO_TCP, IPV6_FREEBIND,
    IPV6_MINHOPCOUNT, IPV6_MTU, IPV6_MTU_DISCOVER, IPV6_RECVERR, IPV6_TCLASS, IPV6_TRANSPARENT,
    IPV6_UNICAST_HOPS, IPV6_V6ONLY, SOL_IP, SOL_IPV6,
};
use crate::sockets::Sockets;

/// The ECN bits of TOS and traffic class.
const ECN_MASK: u8 = 3;
/// Hops that a packet may make (`ip_default_ttl`, `hop_limit`).
const HOPS_DEFAULT: i32 = 64;

/// A number of hops: 1..=255, or -1 for the default.
fn hops(number: i32) -> Result<Option<u8>, Errno> {
    match number {
        -1 => Ok(None),
        1..=255 => Ok(Some(number as u8)),
        _ => Err(Errno::EINVAL),
    }
}

impl Sockets {
    pub(super) fn set_ip_option(
        &mut self,
        id: SocketId,
        name: i32,
        value: &[u8],
    ) -> Result<(), Errno> {
        // behaviour: MUST-51
        if name == IP_OPTIONS {
            let wanted = IpOptions::of_program(value)?;
            self.get_mut(id)?.options.ip_options = wanted;
            self.reserve_for_ip_options(id);
            return Ok(());
        }
        let number = int_or_byte(value)?;
        let on = number != 0;
        let options = &mut self.get_mut(id)?.options;
        match name {
            IP_FREEBIND => options.freebind = on,
            IP_TRANSPARENT => {
                options.transparent = on;
                options.freebind |= on;
            }
            // behaviour: OPT-25. The ECN bits are not a program's business.
            IP_TOS => options.tos = number as u8 & !ECN_MASK,
            IP_TTL => options.ttl = hops(number)?,
            IP_RECVERR => options.recverr = on,
            IP_MINTTL => options.min_ttl = u8::try_from(number).map_err(|_| Errno::EINVAL)?,
            IP_MTU_DISCOVER => {
                if !(IP_PMTUDISC_DONT..=IP_PMTUDISC_OMIT).contains(&number) {
                    return Err(Errno::EINVAL);
                }
                options.mtu_discover = number;
                self.apply_options(id);
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
            // Only datagrams go to many.
            IP_MULTICAST_TTL => return Err(Errno::EINVAL),
            IP_MULTICAST_LOOP => {}
            _ => options.keep(SOL_IP, name, number)?,
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
            IP_OPTIONS => options.ip_options.to_program(),
            IP_TOS => of_int(options.tos.into()),
            IP_TTL => of_int(options.ttl.map_or(HOPS_DEFAULT, i32::from)),
            IP_MINTTL => of_int(options.min_ttl.into()),
            IP_RECVERR => of_flag(options.recverr),
            IP_MTU_DISCOVER => of_int(options.mtu_discover),
            IP_MTU => self.path_mtu(id)?,
            IP_PROTOCOL => of_int(IPPROTO_TCP),
            IP_MULTICAST_TTL | IP_MULTICAST_LOOP => of_int(1),
            _ => of_int(options.kept(SOL_IP, name)?),
        })
    }

    pub(super) fn set_ipv6_option(
        &mut self,
        id: SocketId,
        name: i32,
        value: &[u8],
    ) -> Result<(), Errno> {
        let number = int(value)?;
        let on = number != 0;
        let socket = self.get_mut(id)?;
        if socket.domain == Domain::V4 {
            return Err(Errno::ENOPROTOOPT);
        }
        match name {
            IPV6_V6ONLY => {
                if socket.port_held.is_some() {
                    return Err(Errno::EINVAL);
                }
                socket.options.v6only = on;
            }
            IPV6_TCLASS => {
                if !(-1..=255).contains(&number) {
                    return Err(Errno::EINVAL);
                }
                socket.options.traffic_class = number.max(0) as u8 & !ECN_MASK;
            }
            IPV6_UNICAST_HOPS => socket.options.hops = hops(number)?,
            IPV6_RECVERR => socket.options.recverr_v6 = on,
            // The values are those of IP_MTU_DISCOVER.
            IPV6_MTU_DISCOVER => {
                if !(IP_PMTUDISC_DONT..=IP_PMTUDISC_OMIT).contains(&number) {
                    return Err(Errno::EINVAL);
                }
                socket.options.mtu_discover_v6 = number;
                self.apply_options(id);
            }
            IPV6_MINHOPCOUNT => {
                socket.options.min_hops = u8::try_from(number).map_err(|_| Errno::EINVAL)?;
            }
            IPV6_FREEBIND => socket.options.freebind = on,
            IPV6_TRANSPARENT => {
                socket.options.transparent = on;
                socket.options.freebind |= on;
            }
            _ => socket.options.keep(SOL_IPV6, name, number)?,
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
            IPV6_TCLASS => of_int(socket.options.traffic_class.into()),
            IPV6_UNICAST_HOPS => of_int(socket.options.hops.map_or(HOPS_DEFAULT, i32::from)),
            IPV6_MINHOPCOUNT => of_int(socket.options.min_hops.into()),
            IPV6_RECVERR => of_flag(socket.options.recverr_v6),
            IPV6_MTU => self.path_mtu(id)?,
            IPV6_MTU_DISCOVER => of_int(socket.options.mtu_discover_v6),
            _ => of_int(socket.options.kept(SOL_IPV6, name)?),
        })
    }

    /// The path MTU; `ENOTCONN` without a connection.
    fn path_mtu(&self, id: SocketId) -> Result<Vec<u8>, Errno> {
        let info = self.info(id).ok_or(Errno::ENOTCONN)?;
        Ok(of_int(i32::from(info.path_mtu)))
    }
}
