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

/// The way back, of a message that is sent.
pub(super) fn control_of(control: &Control) -> socket::Control {
    socket::Control::Data {
        level: control.level,
        kind: control.kind,
        bytes: control.data.clone(),
    }
}

fn control(control: socket::Control) -> Control {
    let (level, kind, data) = control.parts();
    Control { level, kind, data }
}
