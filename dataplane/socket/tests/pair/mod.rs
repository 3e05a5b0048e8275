//! Two hosts on a wire of virtual time: what one sends arrives at the other 5 ms later.
#![allow(dead_code, reason = "each test file uses a part of this")]
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "whatever else a call returned, the test fails and shows it"
)]

use std::collections::VecDeque;

use millrace_base::{Address, Instant, Nanos};
use millrace_socket::linux::{
    AF_INET, AF_INET6, SO_REUSEADDR, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET,
};
use millrace_socket::{
    Call, CallId, Domain, EpollEvent, Errno, HostConfig, Progress, Received, Reply, SocketAddress,
    Sockets,
};

/// One way through the wire.
const DELAY: Nanos = Nanos::from_millis(5);

/// The families a test runs over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Family {
    V4,
    V6,
    /// IPv6 sockets that speak IPv4.
    Mapped,
}

/// All of them.
pub(crate) const FAMILIES: [Family; 3] = [Family::V4, Family::V6, Family::Mapped];

/// Host 0 and host 1, and packets between them.
pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) hosts: [Sockets; 2],
    in_flight: [VecDeque<(Instant, Vec<u8>)>; 2],
    finished: [Vec<(CallId, Result<Reply, Errno>)>; 2],
    /// Packets from host 0 and from host 1 that are lost instead of delivered.
    pub(crate) lose: [usize; 2],
    /// Every packet that left, and from whom.
    pub(crate) seen: Vec<(usize, Vec<u8>)>,
}

pub(crate) fn host(number: u8) -> HostConfig {
    HostConfig {
        addresses: vec![
            (Address::v4([10, 0, 0, number]), 24),
            (
                Address::v6([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, number]),
                64,
            ),
        ],
        connections_max: 64,
        secret: [number; 32],
        ..HostConfig::default()
    }
}

impl Pair {
    pub(crate) fn new() -> Self {
        Self::with(host(1), host(2))
    }

    pub(crate) fn with(first: HostConfig, second: HostConfig) -> Self {
        Self {
            now: Instant::from_millis(1_000),
            hosts: [Sockets::new(first), Sockets::new(second)],
            in_flight: [VecDeque::new(), VecDeque::new()],
            finished: [Vec::new(), Vec::new()],
            lose: [0, 0],
            seen: Vec::new(),
        }
    }

    /// Lets `ms` of time pass.
    pub(crate) fn run(&mut self, ms: u64) {
        let end = self.now.after(Nanos::from_millis(ms));
        while self.step(end) {}
        self.now = end;
        self.collect();
    }

    /// Goes to the next thing that happens, not beyond `end`; `false` when there is none.
    fn step(&mut self, end: Instant) -> bool {
        self.collect();
        let arrivals = self.in_flight.iter().filter_map(|queue| queue.front());
        let deadlines = self.hosts.iter().map(Sockets::next_deadline);
        let next = arrivals.map(|(at, _)| *at).chain(deadlines).min();
        let Some(next) = next.filter(|next| *next <= end) else {
            return false;
        };
        self.now = self.now.max(next);
        for from in 0..2 {
            while let Some((at, packet)) = self.in_flight[from].pop_front() {
                if at > self.now {
                    self.in_flight[from].push_front((at, packet));
                    break;
                }
                self.hosts[1 - from].packet_in(self.now, &packet);
            }
        }
        for host in &mut self.hosts {
            host.advance(self.now);
        }
        true
    }

    fn collect(&mut self) {
        for from in 0..2 {
            while let Some((at, packet)) = self.hosts[from].packet_out() {
                self.seen.push((from, packet.clone()));
                if self.lose[from] > 0 {
                    self.lose[from] -= 1;
                    continue;
                }
                self.in_flight[from].push_back((at.after(DELAY), packet));
            }
            while let Some(done) = self.hosts[from].poll_finished() {
                self.finished[from].push(done);
            }
        }
    }

    /// Runs a call that must not wait.
    pub(crate) fn now_call(&mut self, host: usize, call: Call) -> Result<Reply, Errno> {
        let progress = self.hosts[host].start(self.now, call.clone());
        self.collect();
        match progress {
            Progress::Ready(result) => result,
            Progress::Pending(_) => panic!("{call:?} waits"),
        }
    }

    /// Starts a call that must wait.
    pub(crate) fn wait_call(&mut self, host: usize, call: Call) -> CallId {
        let progress = self.hosts[host].start(self.now, call.clone());
        self.collect();
        match progress {
            Progress::Pending(id) => id,
            Progress::Ready(result) => panic!("{call:?} is done: {result:?}"),
        }
    }

    /// What a call that waited returned, if it has.
    pub(crate) fn result(&mut self, host: usize, id: CallId) -> Option<Result<Reply, Errno>> {
        self.collect();
        let at = self.finished[host]
            .iter()
            .position(|(done, _)| *done == id)?;
        Some(self.finished[host].remove(at).1)
    }

    /// Runs a call, however long it takes, at most `ms`.
    pub(crate) fn call(&mut self, host: usize, ms: u64, call: Call) -> Result<Reply, Errno> {
        let progress = self.hosts[host].start(self.now, call.clone());
        let id = match progress {
            Progress::Ready(result) => return result,
            Progress::Pending(id) => id,
        };
        let end = self.now.after(Nanos::from_millis(ms));
        loop {
            if let Some(result) = self.result(host, id) {
                return result;
            }
            assert!(self.step(end), "{call:?} not done after {ms} ms");
        }
    }

    pub(crate) fn socket(&mut self, host: usize, family: Family, flags: i32) -> i32 {
        let domain = if family == Family::V4 {
            AF_INET
        } else {
            AF_INET6
        };
        let fd = self.hosts[host].socket(domain, SOCK_STREAM | flags, 0);
        fd.expect("a socket")
    }

    /// A socket of host 1 that listens on `port`.
    pub(crate) fn listener(&mut self, family: Family, port: u16, backlog: i32) -> i32 {
        let fd = self.socket(1, family, 0);
        let host = &mut self.hosts[1];
        host.setsockopt(self.now, fd, SOL_SOCKET, SO_REUSEADDR, &1i32.to_ne_bytes())
            .expect("an option");
        host.bind(self.now, fd, any(family, port)).expect("a port");
        host.listen(self.now, fd, backlog).expect("listens");
        fd
    }

    /// A connection from host 0 to `port` of host 1: both descriptors.
    pub(crate) fn connected(&mut self, family: Family, port: u16) -> (i32, i32) {
        let listener = self.listener(family, port, 8);
        let client = self.socket(0, family, 0);
        let address = to(family, 2, port);
        let connect = Call::Connect {
            fd: client,
            address,
        };
        assert_eq!(self.call(0, 1_000, connect), Ok(Reply::Done));
        let accept = Call::Accept {
            fd: listener,
            flags: 0,
        };
        match self.call(1, 1_000, accept) {
            Ok(Reply::Accepted { fd, .. }) => (client, fd),
            other => panic!("{other:?}"),
        }
    }

    /// A socket with these options of `SOL_SOCKET`, bound.
    pub(crate) fn bound(
        &mut self,
        host: usize,
        family: Family,
        address: SocketAddress,
        options: &[i32],
    ) -> Result<i32, Errno> {
        let fd = self.socket(host, family, SOCK_NONBLOCK);
        for name in options {
            self.set(host, fd, SOL_SOCKET, *name, 1).expect("an option");
        }
        self.hosts[host].bind(self.now, fd, address).map(|()| fd)
    }

    /// Begins to connect a new socket of host 0 that does not block.
    pub(crate) fn connecting(&mut self, family: Family, port: u16) -> i32 {
        let fd = self.socket(0, family, SOCK_NONBLOCK);
        assert_eq!(
            self.connect(0, fd, to(family, 2, port)),
            Err(Errno::EINPROGRESS)
        );
        fd
    }

    /// `connect` of a socket that does not block.
    pub(crate) fn connect(
        &mut self,
        host: usize,
        fd: i32,
        address: SocketAddress,
    ) -> Result<(), Errno> {
        self.now_call(host, Call::Connect { fd, address })
            .map(|_| ())
    }

    /// `accept` where somebody waits to be accepted.
    pub(crate) fn accept(&mut self, host: usize, fd: i32) -> Result<i32, Errno> {
        match self.now_call(host, Call::Accept { fd, flags: 0 })? {
            Reply::Accepted { fd, .. } => Ok(fd),
            other => panic!("{other:?}"),
        }
    }

    /// The local port of a socket.
    pub(crate) fn port(&self, host: usize, fd: i32) -> u16 {
        self.hosts[host].getsockname(fd).expect("a name").port()
    }

    /// A new epoll set.
    pub(crate) fn epoll(&mut self, host: usize) -> i32 {
        self.hosts[host].epoll_create(1).expect("room")
    }

    /// `epoll_ctl` with the descriptor as the program's mark.
    pub(crate) fn epoll_control(
        &mut self,
        host: usize,
        epoll: i32,
        operation: i32,
        fd: i32,
        events: u32,
    ) -> Result<(), Errno> {
        let event = EpollEvent {
            events,
            data: fd as u64,
        };
        self.hosts[host].epoll_ctl(self.now, epoll, operation, fd, Some(event))
    }

    /// `epoll_wait` that does not wait: events and marks.
    pub(crate) fn epoll_events(&mut self, host: usize, epoll: i32, max: i32) -> Vec<(u32, u64)> {
        let call = Call::EpollWait {
            fd: epoll,
            events_max: max,
            timeout_ms: 0,
        };
        match self.now_call(host, call) {
            Ok(Reply::Events(events)) => events.iter().map(|e| (e.events, e.data)).collect(),
            other => panic!("{other:?}"),
        }
    }

    /// A call of `epoll_wait` that sleeps for ever.
    pub(crate) fn epoll_sleep(&mut self, host: usize, epoll: i32) -> CallId {
        let call = Call::EpollWait {
            fd: epoll,
            events_max: 8,
            timeout_ms: -1,
        };
        self.wait_call(host, call)
    }

    /// A connection whose both ends do not block.
    pub(crate) fn nonblocking(&mut self, family: Family, port: u16) -> (i32, i32) {
        let (client, server) = self.connected(family, port);
        let flag = i64::from(SOCK_NONBLOCK);
        let set = millrace_socket::linux::F_SETFL;
        self.hosts[0].fcntl(client, set, flag).expect("flags");
        self.hosts[1].fcntl(server, set, flag).expect("flags");
        (client, server)
    }

    pub(crate) fn write(&mut self, host: usize, fd: i32, data: &[u8]) -> Result<usize, Errno> {
        let data = data.to_vec();
        match self.now_call(host, Call::Write { fd, data })? {
            Reply::Count(count) => Ok(count),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn read(&mut self, host: usize, fd: i32, len: usize) -> Result<Vec<u8>, Errno> {
        match self.now_call(host, Call::Read { fd, len })? {
            Reply::Received(received) => Ok(received.bytes),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn receive(
        &mut self,
        host: usize,
        fd: i32,
        len: usize,
        flags: i32,
    ) -> Result<Received, Errno> {
        let call = Call::Receive {
            fd,
            len,
            control_len: 256,
            flags,
        };
        match self.now_call(host, call)? {
            Reply::Received(received) => Ok(received),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn send(
        &mut self,
        host: usize,
        fd: i32,
        data: &[u8],
        flags: i32,
    ) -> Result<usize, Errno> {
        let data = data.to_vec();
        let call = Call::Send {
            fd,
            data,
            flags,
            address: None,
        };
        match self.now_call(host, call)? {
            Reply::Count(count) => Ok(count),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn close(&mut self, host: usize, fd: i32) -> Result<Reply, Errno> {
        self.now_call(host, Call::Close { fd })
    }

    pub(crate) fn poll(&mut self, host: usize, fd: i32) -> u32 {
        let fds = vec![millrace_socket::PollFd {
            fd,
            events: 0x3fff,
            revents: 0,
        }];
        match self.now_call(host, Call::Poll { fds, timeout_ms: 0 }) {
            Ok(Reply::Polled(fds)) => u32::from(fds[0].revents),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn set(
        &mut self,
        host: usize,
        fd: i32,
        level: i32,
        name: i32,
        value: i32,
    ) -> Result<(), Errno> {
        self.hosts[host].setsockopt(self.now, fd, level, name, &value.to_ne_bytes())
    }

    pub(crate) fn get(
        &mut self,
        host: usize,
        fd: i32,
        level: i32,
        name: i32,
    ) -> Result<i32, Errno> {
        let value = self.hosts[host].getsockopt(self.now, fd, level, name, 4)?;
        Ok(i32::from_ne_bytes(value.try_into().expect("an int")))
    }
}

/// The unspecified address.
pub(crate) fn any(family: Family, port: u16) -> SocketAddress {
    match family {
        Family::V4 => SocketAddress::v4([0; 4], port),
        Family::V6 | Family::Mapped => SocketAddress::v6([0; 16], port),
    }
}

/// The address of a host.
pub(crate) fn to(family: Family, number: u8, port: u16) -> SocketAddress {
    match family {
        Family::V4 => SocketAddress::v4([10, 0, 0, number], port),
        Family::V6 => SocketAddress::v6(
            [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, number],
            port,
        ),
        Family::Mapped => SocketAddress::v6(*Address::v4([10, 0, 0, number]).octets(), port),
    }
}

/// Bytes that differ from position to position.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}

/// The domain of a family.
pub(crate) fn domain(family: Family) -> Domain {
    if family == Family::V4 {
        Domain::V4
    } else {
        Domain::V6
    }
}

/// Whether a packet has the RST bit.
pub(crate) fn is_reset(packet: &[u8]) -> bool {
    let tcp = if packet[0] >> 4 == 4 { 20 } else { 40 };
    packet[tcp + 13] & 4 != 0
}

/// Whether a packet has the FIN bit.
pub(crate) fn is_fin(packet: &[u8]) -> bool {
    let tcp = if packet[0] >> 4 == 4 { 20 } else { 40 };
    packet[tcp + 13] & 1 != 0
}

/// Bytes of payload.
pub(crate) fn payload(packet: &[u8]) -> usize {
    let (tcp, total) = if packet[0] >> 4 == 4 {
        (20, usize::from(u16::from_be_bytes([packet[2], packet[3]])))
    } else {
        (
            40,
            40 + usize::from(u16::from_be_bytes([packet[4], packet[5]])),
        )
    };
    total - tcp - usize::from(packet[tcp + 12] >> 4) * 4
}

/// Whether a packet has the PSH bit; its checksum is looked at too.
pub(crate) fn is_push(packet: &[u8]) -> bool {
    assert_eq!(packet[0] >> 4, 4, "IPv4 only");
    let mut sum = packet[12..20].chunks(2).map(word).sum::<u32>() + 6;
    sum += (packet.len() - 20) as u32;
    sum += packet[20..].chunks(2).map(word).sum::<u32>();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    assert_eq!(sum, 0xffff, "a wrong checksum");
    packet[20 + 13] & 8 != 0
}

fn word(bytes: &[u8]) -> u32 {
    u32::from(bytes[0]) << 8 | u32::from(bytes.get(1).copied().unwrap_or(0))
}
