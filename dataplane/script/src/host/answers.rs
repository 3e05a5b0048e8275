//! What the sockets replied, as a program sees it in its memory.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use millrace_socket::{self as socket, Errno, Reply, SocketAddress};

use crate::kernel::{Control, EpollEvent, Outcome, Output};

pub(super) fn failure(error: Errno) -> Outcome {
    Outcome::failure(error.number())
}

pub(super) fn reply(result: Result<Reply, Errno>) -> Outcome {
    let reply = match result {
        Ok(reply) => reply,
        Err(error) => return failure(error),
    };
    let result = reply.value();
    let output = match reply {
        Reply::Done | Reply::Count(_) => Output::None,
        Reply::Accepted { peer, .. } => address(peer).map_or(Output::None, Output::Peer),
        Reply::Received(received) => Output::Message {
            bytes: received.bytes,
            flags: received.flags,
            control: received.control.into_iter().map(control).collect(),
        },
        Reply::Polled(fds) => Output::Polled(fds.into_iter().map(|fd| fd.revents).collect()),
        Reply::Events(events) => {
            let event = |event: socket::EpollEvent| EpollEvent {
                events: event.events,
                data: event.data,
            };
            Output::Events(events.into_iter().map(event).collect())
        }
    };
    Outcome {
        result,
        errno: 0,
        output,
    }
}

fn address(address: SocketAddress) -> Option<SocketAddr> {
    match address {
        SocketAddress::V4 { address, port } => {
            Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(address)), port))
        }
        SocketAddress::V6 { address, port, .. } => {
            Some(SocketAddr::new(IpAddr::V6(Ipv6Addr::from(address)), port))
        }
        SocketAddress::Unspecified | SocketAddress::Other(_) => None,
    }
}

/// A control message in the layout of Linux on 64-bit machines.
fn control(control: socket::Control) -> Control {
    const SOL_SOCKET: i32 = 1;
    const SOL_TCP: i32 = 6;
    const TCP_CM_INQ: i32 = 36;
    const SCM_TIMESTAMPING: i32 = 37;
    const SOL_IP: i32 = 0;
    match control {
        socket::Control::Inq(left) => Control {
            level: SOL_TCP,
            kind: TCP_CM_INQ,
            data: left.to_ne_bytes().to_vec(),
        },
        socket::Control::Timestamping(times) => {
            let words = times
                .into_iter()
                .flat_map(|nanos| [nanos / 1_000_000_000, nanos % 1_000_000_000]);
            let data = words.flat_map(u64::to_ne_bytes).collect();
            Control {
                level: SOL_SOCKET,
                kind: SCM_TIMESTAMPING,
                data,
            }
        }
        socket::Control::Error { level, kind, error } => {
            let mut data = error.errno.to_ne_bytes().to_vec();
            data.extend([error.origin, error.kind, error.code, 0]);
            data.extend(error.info.to_ne_bytes());
            data.extend(error.data.to_ne_bytes());
            // The offender's address follows; a local origin has none.
            let address_bytes = if level == SOL_IP { 16 } else { 28 };
            data.resize(data.len() + address_bytes, 0);
            Control { level, kind, data }
        }
    }
}
