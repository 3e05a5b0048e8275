//! A host of the stack itself, behind its BSD face.

use millrace_base::{Address, Endpoint, Instant};
use millrace_socket::linux::{
    AF_INET, AF_INET6, SO_LINGER, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET, SOL_TCP,
    TCP_FASTOPEN_CONNECT, TCP_NODELAY,
};
use millrace_socket::{Call, Errno, HostConfig, Progress, Reply, SocketAddress, Sockets, TcpInfo};
use millrace_stack::{Occupancy, TcpTunables};

use super::{Accepted, Conn, Host, Io, address_of};
use crate::pattern::PIECE_BYTES_MAX;

/// What is chosen of a host.
#[derive(Clone, Debug)]
pub(crate) struct StackPlan {
    pub(crate) tcp: TcpTunables,
    pub(crate) mtu: u16,
    /// Packet buffers for payload that is queued.
    pub(crate) buffers: usize,
    /// `TCP_NODELAY` of every socket.
    pub(crate) nodelay: bool,
    /// Length of the accept queue.
    pub(crate) backlog: i32,
    /// The ports that connections go out from, where they are few.
    pub(crate) ports: Option<(u16, u16)>,
    /// Bytes that one call writes at most.
    pub(crate) write_bytes: usize,
}

impl Default for StackPlan {
    fn default() -> Self {
        Self {
            tcp: TcpTunables::default(),
            mtu: 1_500,
            buffers: 8_192,
            nodelay: false,
            backlog: 128,
            ports: None,
            write_bytes: PIECE_BYTES_MAX,
        }
    }
}

/// The host.
#[derive(Debug)]
pub(crate) struct StackHost {
    sockets: Sockets,
    v6: bool,
    nodelay: bool,
    backlog: i32,
    /// Descriptors and ports.
    listeners: Vec<(i32, u16)>,
    write_bytes: usize,
    /// Every second host: what its connections forget at rest, nobody may notice.
    rests: bool,
}

impl StackHost {
    /// The host of a node; its secret follows from the seed.
    pub(crate) fn new(node: usize, v6: bool, plan: &StackPlan, secret: u64) -> Self {
        let mut bytes = [0; 32];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&secret.to_le_bytes());
        }
        let prefix_bits = if v6 { 64 } else { 24 };
        let mut sockets = Sockets::new(HostConfig {
            addresses: vec![(address_of(node, v6), prefix_bits)],
            mtu: plan.mtu,
            connections_max: 256,
            buffers_max: plan.buffers,
            secret: bytes,
            tcp: plan.tcp,
            ..HostConfig::default()
        });
        if let Some((first, last)) = plan.ports {
            let range = format!("{first} {last}");
            let set = sockets.set_sysctl("net.ipv4.ip_local_port_range", &range);
            set.expect("a range of ports");
        }
        Self {
            sockets,
            v6,
            nodelay: plan.nodelay,
            backlog: plan.backlog,
            listeners: Vec::new(),
            write_bytes: plan.write_bytes,
            rests: secret & 1 != 0,
        }
    }

    fn rest(&mut self) {
        if self.rests {
            self.sockets.rest_all();
        }
    }

    fn socket(&mut self) -> i32 {
        let family = if self.v6 { AF_INET6 } else { AF_INET };
        let kind = SOCK_STREAM | SOCK_NONBLOCK;
        let made = self.sockets.socket(family, kind, 0);
        made.expect("fewer sockets than descriptors")
    }

    fn call(&mut self, now: Instant, call: Call) -> Result<Reply, Errno> {
        match self.sockets.start(now, call) {
            Progress::Ready(result) => result,
            Progress::Pending(_) => unreachable!("no file here blocks"),
        }
    }

    fn set_nodelay(&mut self, now: Instant, fd: i32) {
        if self.nodelay {
            self.turn_on(now, fd, TCP_NODELAY);
        }
    }

    fn turn_on(&mut self, now: Instant, fd: i32, option: i32) {
        let on = 1_i32.to_ne_bytes();
        let set = self.sockets.setsockopt(now, fd, SOL_TCP, option, &on);
        set.expect("an option of every TCP socket");
    }
}

impl Host for StackHost {
    fn packet_in(&mut self, now: Instant, packet: &[u8]) {
        self.sockets.packet_in(now, packet);
        self.rest();
    }

    fn packet_out(&mut self) -> Option<Vec<u8>> {
        self.sockets.packet_out().map(|(_, packet)| packet)
    }

    fn next_deadline(&self) -> Instant {
        self.sockets.next_deadline()
    }

    fn advance(&mut self, now: Instant) {
        self.sockets.advance(now);
        self.rest();
    }

    fn listen(&mut self, now: Instant, port: u16) {
        let fd = self.socket();
        let any = socket_address(Endpoint::new(unspecified(self.v6), port));
        let bound = self.sockets.bind(now, fd, any);
        bound.expect("a port that nobody has");
        let listens = self.sockets.listen(now, fd, self.backlog);
        listens.expect("a bound socket");
        self.listeners.push((fd, port));
    }

    fn stop_listening(&mut self, now: Instant) {
        for (fd, _) in core::mem::take(&mut self.listeners) {
            let closed = self.call(now, Call::Close { fd });
            closed.expect("a descriptor of ours");
        }
    }

    fn connect(&mut self, now: Instant, to: Endpoint, fast: bool) -> Option<(Conn, u16)> {
        let fd = self.socket();
        self.set_nodelay(now, fd);
        if fast {
            self.turn_on(now, fd, TCP_FASTOPEN_CONNECT);
        }
        let address = socket_address(to);
        match self.call(now, Call::Connect { fd, address }) {
            // Who has a cookie leaves the SYN to the first data.
            Ok(_) if fast => {}
            Err(Errno::EINPROGRESS) => {}
            Err(Errno::EADDRNOTAVAIL) => {
                self.close(now, Conn(fd), false);
                return None;
            }
            other => unreachable!("a first connect that says {other:?}"),
        }
        let local = self.sockets.getsockname(fd);
        let port = endpoint(local.expect("a descriptor of ours")).port;
        Some((Conn(fd), port))
    }

    fn accept(&mut self, now: Instant) -> Option<Accepted> {
        let flags = SOCK_NONBLOCK;
        for (fd, port) in self.listeners.clone() {
            if let Ok(Reply::Accepted { fd, peer }) = self.call(now, Call::Accept { fd, flags }) {
                self.set_nodelay(now, fd);
                let (conn, peer) = (Conn(fd), endpoint(peer));
                return Some(Accepted { conn, port, peer });
            }
        }
        None
    }

    fn write(&mut self, now: Instant, conn: Conn, bytes: &[u8]) -> Io {
        let len = bytes.len().min(self.write_bytes);
        let (fd, data) = (conn.0, bytes[..len].to_vec());
        match self.call(now, Call::Write { fd, data }) {
            Ok(reply) => Io::Moved(reply.value() as usize),
            // A SYN that took no data with it is on its way.
            Err(Errno::EAGAIN | Errno::EINPROGRESS | Errno::EALREADY) => Io::Later,
            Err(error) => Io::Broken(error.name().to_owned()),
        }
    }

    fn read(&mut self, now: Instant, conn: Conn, len: usize, into: &mut Vec<u8>) -> Io {
        match self.call(now, Call::Read { fd: conn.0, len }) {
            Ok(Reply::Received(received)) if received.bytes.is_empty() => Io::End,
            Ok(Reply::Received(received)) => {
                into.extend_from_slice(&received.bytes);
                Io::Moved(received.bytes.len())
            }
            Ok(other) => unreachable!("a read that replies {other:?}"),
            Err(Errno::EAGAIN) => Io::Later,
            Err(error) => Io::Broken(error.name().to_owned()),
        }
    }

    fn shut_down(&mut self, now: Instant, conn: Conn) {
        // A connection that broke meanwhile has nothing to shut down.
        let _ = self.sockets.shutdown(now, conn.0, 1);
    }

    fn close(&mut self, now: Instant, conn: Conn, abort: bool) {
        let fd = conn.0;
        if abort {
            let mut linger = 1_i32.to_ne_bytes().to_vec();
            linger.extend_from_slice(&0_i32.to_ne_bytes());
            let set = self
                .sockets
                .setsockopt(now, fd, SOL_SOCKET, SO_LINGER, &linger);
            set.expect("an option of every socket");
        }
        let closed = self.call(now, Call::Close { fd });
        closed.expect("a descriptor of ours");
    }

    fn left_over(&self) -> Option<String> {
        let (tables, buffers) = (self.sockets.occupancy(), self.sockets.buffers_live());
        if tables == Occupancy::default() && buffers == 0 {
            return None;
        }
        Some(format!("{buffers} buffers, {tables:?}"))
    }

    fn is_honest(&self) -> bool {
        true
    }

    fn info(&self, conn: Conn) -> Option<TcpInfo> {
        self.sockets.tcp_info(conn.0).ok()
    }

    fn counter(&self, name: &str) -> Option<u64> {
        let mut found = None;
        self.sockets.netstat(|counter, value| {
            if counter == name {
                found = Some(value);
            }
        });
        found
    }
}

fn unspecified(v6: bool) -> Address {
    if v6 {
        Address::UNSPECIFIED_V6
    } else {
        Address::UNSPECIFIED_V4
    }
}

fn socket_address(endpoint: Endpoint) -> SocketAddress {
    match endpoint.address.as_v4() {
        Some(octets) => SocketAddress::v4(octets, endpoint.port),
        None => SocketAddress::v6(*endpoint.address.octets(), endpoint.port),
    }
}

fn endpoint(address: SocketAddress) -> Endpoint {
    match address {
        SocketAddress::V4 { address, port } => Endpoint::new(Address::v4(address), port),
        SocketAddress::V6 { address, port, .. } => Endpoint::new(Address::v6(address), port),
        SocketAddress::Unspecified | SocketAddress::Other(_) => {
            unreachable!("sockets here speak IP")
        }
    }
}
