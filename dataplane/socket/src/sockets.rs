//! The host: a stack, its wire, its descriptors and its sockets.
//!
//! What a call does is in the file of its name; packets and time are in `wire`, calls that wait in
//! `pending`, news of the stack in `news`.

use std::collections::{BTreeMap, VecDeque};

use millrace_base::{FlowTuple, HeapPool, Instant, Rng, SeqNumber};
use millrace_stack::{FlowInfo, Occupancy, Stack, StackConfig, State};

use crate::address::{Domain, SocketAddress};
use crate::config::HostConfig;
use crate::dress::SynLooks;
use crate::ephemeral::Perturbations;
use crate::epoll::Epoll;
use crate::errno::Errno;
use crate::file::{EpollId, Files, Kind, PipeId, SocketId};
use crate::linux::{
    AF_INET, AF_INET6, F_SETOWN, FIOASYNC, FIOCLEX, FIOGETOWN, FIONBIO, FIONCLEX, FIOSETOWN,
    IPPROTO_IP, IPPROTO_TCP, O_CLOEXEC, O_NONBLOCK, O_RDWR, SIOCGPGRP, SIOCSPGRP, SOCK_CLOEXEC,
    SOCK_NONBLOCK, SOCK_STREAM,
};
use crate::listen::Rows;
use crate::options::Options;
use crate::pending::Calls;
use crate::pipe::Pipe;
use crate::ports::Ports;
use crate::signals::Signals;
use crate::socket::Socket;
use crate::sysctl::Sysctls;

/// Connections that rest in TIME_WAIT or FIN_WAIT2.
const TIME_WAITS_MAX: usize = 4_096;
/// Bytes of one packet buffer, headroom included: a full segment of an Ethernet.
pub(crate) const BUFFER_BYTES: usize = 2_176;

/// One host with its sockets.
///
/// After every packet and every call each socket is looked at once: this is a host for programs,
/// tests and scripts with thousands of sockets, not for a balancer's millions of connections.
#[derive(Debug)]
pub struct Sockets {
    pub(crate) stack: Stack<HeapPool>,
    pub(crate) pool: HeapPool,
    pub(crate) config: HostConfig,
    /// The latest time that was passed in.
    pub(crate) now: Instant,
    /// Packets that have left, oldest first.
    pub(crate) left: VecDeque<(Instant, Vec<u8>)>,
    /// Packets that leave later (`TCP_TX_DELAY`), by the time when they do.
    pub(crate) delayed: VecDeque<(Instant, Vec<u8>)>,
    /// Of these, how many have the PSH bits that Linux would give them.
    pub(crate) finished: usize,
    pub(crate) files: Files,
    pub(crate) sockets: BTreeMap<SocketId, Socket>,
    /// Sockets of living connections.
    pub(crate) flows: BTreeMap<FlowTuple, SocketId>,
    pub(crate) epolls: BTreeMap<EpollId, Epoll>,
    pub(crate) pipes: BTreeMap<PipeId, Pipe>,
    pub(crate) calls: Calls,
    pub(crate) rows: Rows,
    pub(crate) sysctls: Sysctls,
    /// Peers that were answered and have no socket yet: the sequence number of their first byte.
    pub(crate) greeted: BTreeMap<FlowTuple, SeqNumber>,
    /// SYNs whose listener wants to keep them.
    pub(crate) syns: BTreeMap<FlowTuple, Vec<u8>>,
    /// What the SYNs of half-open connections looked like, where their answers shall look alike.
    pub(crate) syn_looks: BTreeMap<FlowTuple, SynLooks>,
    /// Packets dropped because too few hops were left (`IP_MINTTL`, `IPV6_MINHOPCOUNT`).
    pub(crate) min_ttl_drops: u64,
    /// What the ICMP error that is being handled means.
    pub(crate) reported: Option<Errno>,
    /// Chooses ephemeral ports.
    pub(crate) rng: Rng,
    pub(crate) ports: Ports,
    pub(crate) perturbations: Perturbations,
    pub(crate) signals: Signals,
    next_id: u64,
}

impl Sockets {
    /// A host with no descriptor open.
    pub fn new(mut config: HostConfig) -> Self {
        let tcp = &mut config.tcp;
        let half = config.connections_max as u32 / 2;
        tcp.tcp_max_orphans = tcp.tcp_max_orphans.or(Some(half));
        tcp.tcp_max_tw_buckets = tcp.tcp_max_tw_buckets.min(TIME_WAITS_MAX as u32);
        let sysctls = Sysctls::new(config.tcp);
        let stack = Stack::new(StackConfig {
            connections_max: config.connections_max,
            syn_queue_max: 4_096,
            time_wait_max: TIME_WAITS_MAX,
            chunks_max: config.buffers_max,
            neighbors_max: 1_024,
            secret: config.secret,
            tcp: sysctls.tunables(),
        });
        let [a, b, c, d, e, f, g, h, .., y, z] = config.secret;
        let mut port_key = [y ^ z; 16];
        for (key, secret) in port_key.iter_mut().zip(config.secret.iter().skip(8)) {
            *key ^= secret;
        }
        let mut host = Self {
            stack,
            pool: HeapPool::new(config.buffers_max.saturating_mul(2), BUFFER_BYTES),
            now: Instant::ZERO,
            left: VecDeque::new(),
            delayed: VecDeque::new(),
            finished: 0,
            files: Files::new(config.fd_first, config.fds_max),
            sockets: BTreeMap::new(),
            flows: BTreeMap::new(),
            epolls: BTreeMap::new(),
            pipes: BTreeMap::new(),
            calls: Calls::default(),
            rows: Rows::default(),
            sysctls,
            greeted: BTreeMap::new(),
            syns: BTreeMap::new(),
            syn_looks: BTreeMap::new(),
            min_ttl_drops: 0,
            reported: None,
            rng: Rng::new(u64::from_le_bytes([a, b, c, d, e, f, g, h])),
            ports: Ports::default(),
            perturbations: Perturbations::new(port_key),
            signals: Signals::default(),
            next_id: 1,
            config,
        };
        host.set_up_link();
        host
    }

    /// `socket`: a descriptor. Only TCP: `EAFNOSUPPORT` for other families, `ESOCKTNOSUPPORT` for
    /// other types, `EPROTONOSUPPORT` for other protocols.
    // behaviour: SOK-5 SOK-6
    pub fn socket(&mut self, domain: i32, kind: i32, protocol: i32) -> Result<i32, Errno> {
        let flags = kind & (SOCK_NONBLOCK | SOCK_CLOEXEC);
        let kind = kind & !flags;
        if !(0..=0xf).contains(&kind) {
            return Err(Errno::EINVAL);
        }
        let domain = match domain {
            AF_INET => Domain::V4,
            AF_INET6 => Domain::V6,
            _ => return Err(Errno::EAFNOSUPPORT),
        };
        if kind != SOCK_STREAM {
            return Err(Errno::ESOCKTNOSUPPORT);
        }
        if protocol != IPPROTO_IP && protocol != IPPROTO_TCP {
            return Err(if (0..256).contains(&protocol) {
                Errno::EPROTONOSUPPORT
            } else {
                Errno::EINVAL
            });
        }
        let options = Options::new(&self.sysctls);
        let socket = self.add_socket(Socket::new(domain, options));
        let opened = self.open_socket(socket, flags);
        if opened.is_err() {
            self.sockets.remove(&socket);
        }
        opened
    }

    /// `getsockname`.
    pub fn getsockname(&self, fd: i32) -> Result<SocketAddress, Errno> {
        let socket = self.get(self.files.socket(fd)?)?;
        Ok(SocketAddress::of(socket.local, socket.domain))
    }

    /// `getpeername`; `ENOTCONN` before a connection and after its end.
    pub fn getpeername(&self, fd: i32) -> Result<SocketAddress, Errno> {
        let id = self.files.socket(fd)?;
        let socket = self.get(id)?;
        let state = self.state(id);
        match socket.remote {
            Some(remote) if !matches!(state, State::Closed | State::SynSent) => {
                Ok(SocketAddress::of(remote, socket.domain))
            }
            _ => Err(Errno::ENOTCONN),
        }
    }

    /// `fcntl`: returns what the call returns. `EINVAL` for commands that sockets, epoll sets and
    /// pipes do not have here.
    pub fn fcntl(&mut self, fd: i32, command: i32, argument: i64) -> Result<i32, Errno> {
        if let Some(result) = self.pipe_control(fd, command, argument) {
            return result;
        }
        self.files.control(fd, command, argument)
    }

    /// `dup`.
    pub fn dup(&mut self, fd: i32) -> Result<i32, Errno> {
        let first = self.files.first();
        self.files.duplicate(fd, first, false)
    }

    /// `dup3`: the file of `fd` under the number `new`, whose own is closed. `EINVAL` where the two
    /// are one, `EBADF` for numbers that cannot be.
    pub fn dup3(&mut self, now: Instant, fd: i32, new: i32, flags: i32) -> Result<i32, Errno> {
        self.step_to(now);
        if flags & !O_CLOEXEC != 0 || fd == new {
            return Err(Errno::EINVAL);
        }
        if !(self.files.first()..self.files.limit()).contains(&new) {
            return Err(Errno::EBADF);
        }
        let (file, _) = self.files.find(fd)?;
        if let Ok(before) = self.files.take(new) {
            // Nobody waits for a lingering socket here.
            if let Some((socket, _)) = self.release_file(before) {
                self.bury_socket(socket);
            }
        }
        self.files.place(new, file, flags & O_CLOEXEC != 0);
        self.settle();
        Ok(new)
    }

    /// `dup2`: as `dup3`, and nothing happens where the two are one.
    pub fn dup2(&mut self, now: Instant, fd: i32, new: i32) -> Result<i32, Errno> {
        if fd == new {
            return self.files.find(fd).map(|_| new);
        }
        self.dup3(now, fd, new, 0)
    }

    /// `lseek`: nothing here has places to go to. `ESPIPE` for sockets and pipes; an epoll set
    /// stays where it is.
    // behaviour: LAY-17
    pub fn lseek(&self, fd: i32) -> Result<i64, Errno> {
        match self.files.find(fd)?.1.kind {
            Kind::Epoll(_) => Ok(0),
            Kind::Socket(_) | Kind::PipeReader(_) | Kind::PipeWriter(_) => Err(Errno::ESPIPE),
        }
    }

    /// `ioctl` with an `int *`: `argument` goes in, the result is what is written back.
    pub fn ioctl(
        &mut self,
        now: Instant,
        fd: i32,
        request: u64,
        argument: i32,
    ) -> Result<i32, Errno> {
        self.step_to(now);
        let (file, found) = self.files.find(fd)?;
        match request {
            FIONBIO => {
                self.files.set_nonblocking(file, argument != 0);
                return Ok(argument);
            }
            FIOASYNC => {
                self.files.set_async(fd, file, argument != 0);
                return Ok(argument);
            }
            FIOCLEX | FIONCLEX => {
                let set = i64::from(request == FIOCLEX);
                self.files.control(fd, crate::linux::F_SETFD, set)?;
                return Ok(argument);
            }
            _ => {}
        }
        match found.kind {
            Kind::Socket(_) if matches!(request, FIOSETOWN | SIOCSPGRP) => {
                self.files.control(fd, F_SETOWN, argument.into())?;
                Ok(argument)
            }
            Kind::Socket(_) if matches!(request, FIOGETOWN | SIOCGPGRP) => Ok(found.owner.id),
            Kind::Socket(socket) => self.socket_ioctl(socket, request),
            Kind::PipeReader(pipe) | Kind::PipeWriter(pipe) => self.pipe_ioctl(pipe, request),
            Kind::Epoll(_) => Err(Errno::ENOTTY),
        }
    }

    /// Every counter under its MIB name (`TcpExtTCPTimeouts`).
    pub fn netstat(&self, mut visit: impl FnMut(&'static str, u64)) {
        self.stack
            .stats()
            .for_each(|name, _help, value| visit(name, value));
        // behaviour: X1-13
        visit("TcpExtTCPMinTTLDrop", self.min_ttl_drops);
    }

    /// Packet buffers that somebody holds: those of payload that is queued, and of frames.
    pub fn buffers_live(&self) -> usize {
        self.pool.live()
    }

    /// How full the tables of the stack are: what lives on behind closed sockets, too.
    pub fn occupancy(&self) -> Occupancy {
        self.stack.occupancy()
    }

    /// Clears the desks of all connections at rest; tells how many there are (`Stack::rest_all`).
    pub fn rest_all(&mut self) -> usize {
        self.stack.rest_all()
    }

    /// Makes a descriptor for a socket. `flags` are `SOCK_NONBLOCK` and `SOCK_CLOEXEC`.
    pub(crate) fn open_socket(&mut self, socket: SocketId, flags: i32) -> Result<i32, Errno> {
        let status = if flags & SOCK_NONBLOCK != 0 {
            O_NONBLOCK
        } else {
            0
        };
        let cloexec = flags & SOCK_CLOEXEC != 0;
        self.files
            .open(Kind::Socket(socket), O_RDWR | status, cloexec)
    }

    pub(crate) fn add_socket(&mut self, socket: Socket) -> SocketId {
        let id = SocketId(self.next_number());
        self.sockets.insert(id, socket);
        id
    }

    /// A number that no socket, epoll set or pipe had before.
    pub(crate) fn next_number(&mut self) -> u64 {
        let number = self.next_id;
        self.next_id += 1;
        number
    }

    pub(crate) fn get(&self, id: SocketId) -> Result<&Socket, Errno> {
        self.sockets.get(&id).ok_or(Errno::EBADF)
    }

    pub(crate) fn get_mut(&mut self, id: SocketId) -> Result<&mut Socket, Errno> {
        self.sockets.get_mut(&id).ok_or(Errno::EBADF)
    }

    /// The connection's facts; `None` without a living one.
    pub(crate) fn info(&self, id: SocketId) -> Option<FlowInfo> {
        let flow = self.sockets.get(&id)?.flow?;
        self.stack.info(flow)
    }

    /// The state that Linux's socket would have.
    pub(crate) fn state(&self, id: SocketId) -> State {
        let Some(socket) = self.sockets.get(&id) else {
            return State::Closed;
        };
        if socket.listening.is_some() {
            return State::Listen;
        }
        if socket.fast_open.deferred {
            return State::SynSent;
        }
        match self.info(id).map(|info| info.state) {
            // behaviour: STA-15. The record has the tuple, the socket is done.
            None | Some(State::TimeWait) => State::Closed,
            Some(state) => state,
        }
    }
}

/// Whether a connection is being opened.
pub(crate) const fn is_opening(state: State) -> bool {
    matches!(state, State::SynSent | State::SynReceived)
}
