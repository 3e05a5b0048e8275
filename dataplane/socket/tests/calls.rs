//! `connect`, `listen`, `accept` and `shutdown`: what each refuses, whom it wakes, what it leaves.

mod pair;

use std::collections::BTreeSet;

use millrace_base::Address;
use millrace_socket::linux::{
    AF_INET, AF_INET6, EPOLL_CTL_ADD, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP,
    MSG_DONTWAIT, MSG_FASTOPEN, MSG_MORE, SHUT_RD, SHUT_RDWR, SHUT_WR, SIOCINQ, SIOCOUTQ, SO_ERROR,
    SO_KEEPALIVE, SO_LINGER, SO_RCVBUF, SO_SNDBUF, SO_SNDTIMEO, SOCK_CLOEXEC, SOCK_NONBLOCK,
    SOCK_STREAM, SOL_SOCKET, SOL_TCP, TCP_FASTOPEN_CONNECT, TCP_NODELAY,
};
use millrace_socket::{Call, Errno, HostConfig, PollFd, Reply, SocketAddress};
use pair::{
    FAMILIES, Family, Pair, any, domain, host, is_fin, is_push, is_reset, pattern, payload, to,
};

/// `CLOSE`, `ESTABLISHED`, `SYN_SENT` and `LISTEN` in `TCP_INFO`.
const CLOSE: u8 = 7;
const ESTABLISHED: u8 = 1;
const SYN_SENT: u8 = 2;
const LISTEN: u8 = 10;

const NOBODY: SocketAddress = SocketAddress::Unspecified;

fn state(pair: &Pair, host: usize, fd: i32) -> u8 {
    pair.hosts[host].tcp_info(fd).expect("open").state
}

/// A field of the TCP header: bytes from `at` on.
fn tcp(packet: &[u8], at: usize, len: usize) -> u32 {
    let begin = at + if packet[0] >> 4 == 4 { 20 } else { 40 };
    let bytes = &packet[begin..begin + len];
    bytes
        .iter()
        .fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

/// The SYNs that host 0 has sent.
fn syns(pair: &Pair) -> Vec<Vec<u8>> {
    let sent = pair.seen.iter().filter(|(from, _)| *from == 0);
    let packets = sent.map(|(_, packet)| packet.clone());
    packets.filter(|packet| tcp(packet, 13, 1) == 2).collect()
}

/// What a SYN echoes of the peer's clock.
fn echoed(packet: &[u8]) -> u32 {
    let at = (20..56).find(|at| tcp(packet, *at, 2) == 0x080a);
    tcp(packet, at.expect("time stamps") + 6, 4)
}

fn reset_on_close(pair: &mut Pair, host: usize, fd: i32) {
    let mut linger = 1i32.to_ne_bytes().to_vec();
    linger.extend(0i32.to_ne_bytes());
    pair.hosts[host]
        .setsockopt(pair.now, fd, SOL_SOCKET, SO_LINGER, &linger)
        .expect("an option");
}

// behaviour: A2-1 A2-5 LAY-7 LAY-16
#[test]
fn every_operation_of_a_socket_can_be_called() {
    for family in FAMILIES {
        let mut pair = Pair::new();
        let (client, server) = pair.nonblocking(family, 80);
        assert!(
            pair.port(0, client) != 0,
            "socket, bind, listen, connect, accept"
        );
        assert!(pair.hosts[0].getpeername(client).is_ok());
        assert_eq!(pair.send(0, client, b"12", 0), Ok(2), "sendmsg");
        assert_eq!(pair.write(0, client, b"3"), Ok(1), "write_iter");
        pair.run(20);
        assert_eq!(
            pair.receive(1, server, 1, 0).map(|r| r.count),
            Ok(1),
            "recvmsg"
        );
        let now = pair.now;
        assert_eq!(pair.hosts[1].ioctl(now, server, SIOCINQ, 0), Ok(2), "ioctl");
        assert_eq!(pair.read(1, server, 9).map(|b| b.len()), Ok(2), "read_iter");
        assert_eq!(pair.poll(1, server) & EPOLLOUT, EPOLLOUT, "poll");
        pair.set(0, client, SOL_TCP, TCP_NODELAY, 1)
            .expect("setsockopt");
        assert_eq!(pair.get(0, client, SOL_TCP, TCP_NODELAY), Ok(1));
        pair.set(0, client, SOL_SOCKET, SO_KEEPALIVE, 1)
            .expect("the keep-alive switch");
        pair.hosts[0]
            .shutdown(now, client, SHUT_WR)
            .expect("shutdown");
        assert_eq!(pair.connect(1, server, NOBODY), Ok(()), "disconnect");
        assert_eq!(state(&pair, 1, server), CLOSE);
        pair.close(1, server).expect("close and destroy");
        assert_eq!(pair.read(1, server, 1), Err(Errno::EBADF));
    }
}

// behaviour: LAY-13
#[test]
fn families_that_are_not_here_cannot_be_had() {
    let mut pair = Pair::new();
    for family in [-1, 0, 1, 16, 17, 28, 44, 4_711] {
        let refused = pair.hosts[0].socket(family, SOCK_STREAM, 0);
        assert_eq!(refused, Err(Errno::EAFNOSUPPORT), "{family}");
    }
    for (family, shown) in [(AF_INET, Family::V4), (AF_INET6, Family::V6)] {
        let fd = pair.hosts[0].socket(family, SOCK_STREAM, 0).expect("here");
        assert_eq!(pair.hosts[0].getsockname(fd), Ok(any(shown, 0)));
        assert_eq!(domain(shown).number(), family);
    }
}

// behaviour: SOK-2
#[test]
fn the_kinds_flags_are_those_of_the_descriptor() {
    let mut pair = Pair::new();
    let listener = pair.listener(Family::V4, 80, 4);
    let _client = pair.connecting(Family::V4, 80);
    pair.run(20);
    let call = Call::Accept {
        fd: listener,
        flags: SOCK_NONBLOCK | SOCK_CLOEXEC,
    };
    let Ok(Reply::Accepted { fd, .. }) = pair.now_call(1, call) else {
        panic!("nobody there");
    };
    let kind = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
    let own = pair.hosts[1].socket(AF_INET, kind, 0).expect("room");
    for fd in [fd, own] {
        let flags = pair.hosts[1].fcntl(fd, millrace_socket::linux::F_GETFL, 0);
        assert_eq!(flags, Ok(2 | 0x800), "O_RDWR and O_NONBLOCK");
        let flags = pair.hosts[1].fcntl(fd, millrace_socket::linux::F_GETFD, 0);
        assert_eq!(flags, Ok(1), "FD_CLOEXEC");
    }
    assert_eq!(pair.read(1, fd, 1), Err(Errno::EAGAIN));
    let other = Call::Accept {
        fd: listener,
        flags: 1,
    };
    assert_eq!(pair.now_call(1, other), Err(Errno::EINVAL));
}

// behaviour: SOK-10 SOK-11 SOK-12
#[test]
fn a_fresh_socket_tells_what_a_connection_will_begin_with() {
    for family in FAMILIES {
        let mut pair = Pair::new();
        let host = &mut pair.hosts[0];
        host.set_sysctl("net.ipv4.tcp_rmem", "4096 100000 200000")
            .expect("a knob");
        host.set_sysctl("net.ipv4.tcp_wmem", "4096 50000 200000")
            .expect("a knob");
        let fd = pair.socket(0, family, 0);
        let info = pair.hosts[0].tcp_info(fd).expect("open");
        assert_eq!(info.state, CLOSE);
        assert_eq!((info.snd_cwnd, info.snd_ssthresh), (10, 0x7fff_ffff));
        assert_eq!((info.snd_mss, info.rto), (536, 1_000_000));
        assert_eq!(pair.get(0, fd, SOL_SOCKET, SO_RCVBUF), Ok(100_000));
        assert_eq!(pair.get(0, fd, SOL_SOCKET, SO_SNDBUF), Ok(50_000));
    }
}

// behaviour: A12-1 A12-2 CON-2 X7-3
#[test]
fn addresses_that_connect_does_not_take_leave_the_socket_as_it_was() {
    for family in FAMILIES {
        let mut pair = Pair::new();
        pair.listener(family, 80, 4);
        let fd = pair.socket(0, family, SOCK_NONBLOCK);
        let (other, error) = if family == Family::V4 {
            (to(Family::V6, 2, 80), Errno::EAFNOSUPPORT)
        } else {
            (to(Family::V4, 2, 80), Errno::EINVAL)
        };
        assert_eq!(pair.connect(0, fd, other), Err(error), "{family:?}");
        let strange = SocketAddress::Other(99);
        assert_eq!(pair.connect(0, fd, strange), Err(Errno::EAFNOSUPPORT));
        let short = SocketAddress::parse(&to(family, 2, 80).to_bytes()[..8]);
        assert_eq!(short, Err(Errno::EINVAL));
        assert_eq!(pair.hosts[0].ports_in_use(), []);
        assert_eq!(state(&pair, 0, fd), CLOSE);
        let going = pair.connect(0, fd, to(family, 2, 80));
        assert_eq!(going, Err(Errno::EINPROGRESS));
        assert_eq!(state(&pair, 0, fd), SYN_SENT);
        pair.run(20);
        assert_eq!(pair.connect(0, fd, to(family, 2, 80)), Ok(()));
        assert_eq!(state(&pair, 0, fd), ESTABLISHED);
    }
}

// behaviour: A12-5 CON-6
#[test]
fn nobody_connects_to_a_crowd() {
    let mut pair = Pair::new();
    let mut group = [0; 16];
    group[..2].copy_from_slice(&[0xff, 5]);
    let mapped = |bytes| SocketAddress::v6(*Address::v4(bytes).octets(), 80);
    for (family, address) in [
        (Family::V4, SocketAddress::v4([224, 0, 0, 1], 80)),
        (Family::V4, SocketAddress::v4([255; 4], 80)),
        (Family::V4, SocketAddress::v4([10, 0, 0, 255], 80)),
        (Family::Mapped, mapped([239, 1, 2, 3])),
        (Family::V6, SocketAddress::v6(group, 80)),
    ] {
        let fd = pair.socket(0, family, SOCK_NONBLOCK);
        let refused = pair.connect(0, fd, address);
        assert_eq!(refused, Err(Errno::ENETUNREACH), "{address:?}");
    }
    assert!(pair.seen.is_empty());
}

// behaviour: A12-6 CON-7
// MUST-44
// MUST-45
#[test]
fn a_connection_comes_from_the_bound_address_or_from_the_one_nearest_to_the_peer() {
    let config = HostConfig {
        addresses: vec![
            (Address::v4([10, 0, 0, 1]), 24),
            (Address::v4([10, 0, 0, 7]), 24),
            (Address::v4([192, 168, 7, 1]), 16),
        ],
        ..host(1)
    };
    let mut pair = Pair::with(config, host(2));
    let mut source = |bound: Option<[u8; 4]>, remote: [u8; 4]| {
        let fd = pair.socket(0, Family::V4, SOCK_NONBLOCK);
        if let Some(bound) = bound {
            let now = pair.now;
            let place = SocketAddress::v4(bound, 0);
            pair.hosts[0].bind(now, fd, place).expect("ours");
        }
        let going = pair.connect(0, fd, SocketAddress::v4(remote, 80));
        assert_eq!(going, Err(Errno::EINPROGRESS));
        let syn = syns(&pair).pop().expect("a SYN");
        let name = pair.hosts[0].getsockname(fd).expect("a name");
        let source: [u8; 4] = syn[12..16].try_into().expect("four bytes");
        // behaviour: A12-10 CON-11
        let port = tcp(&syn, 0, 2) as u16;
        assert_eq!(name, SocketAddress::v4(source, port));
        source
    };
    assert_eq!(source(None, [10, 0, 0, 2]), [10, 0, 0, 1]);
    assert_eq!(source(None, [192, 168, 9, 9]), [192, 168, 7, 1]);
    assert_eq!(source(None, [8, 8, 8, 8]), [10, 0, 0, 1]);
    assert_eq!(source(Some([10, 0, 0, 7]), [10, 0, 0, 2]), [10, 0, 0, 7]);
    assert_eq!(source(Some([0; 4]), [10, 0, 0, 2]), [10, 0, 0, 1]);
}

// behaviour: A12-10 CON-11
#[test]
fn a_connecting_socket_has_the_port_that_its_syn_shows() {
    for family in FAMILIES {
        let mut pair = Pair::new();
        let fd = pair.connecting(family, 80);
        let syn = syns(&pair).pop().expect("a SYN");
        assert_eq!(u32::from(pair.port(0, fd)), tcp(&syn, 0, 2));
        assert_ne!(pair.port(0, fd), 0);
        assert_eq!(state(&pair, 0, fd), SYN_SENT);
    }
}

// behaviour: A12-18 A12-22 CON-17 A30-21
#[test]
fn a_syn_takes_one_number_and_is_the_same_when_it_is_sent_again() {
    let mut pair = Pair::new();
    pair.listener(Family::V4, 80, 4);
    pair.lose = [1, 0];
    let fd = pair.connecting(Family::V4, 80);
    pair.run(1_500);
    let sent = syns(&pair);
    assert_eq!(sent.len(), 2, "lost, and sent again after a second");
    let seq = tcp(&sent[0], 4, 4);
    assert_eq!(tcp(&sent[1], 4, 4), seq);
    assert_eq!(tcp(&sent[0], 8, 4), 0, "nothing to acknowledge");
    assert!(sent.iter().all(|syn| payload(syn) == 0));
    pair.write(0, fd, b"x").expect("connected");
    let (_, data) = pair.seen.last().expect("data");
    assert_eq!(tcp(data, 4, 4), seq.wrapping_add(1));
}

// behaviour: A12-22 X7-3
#[test]
fn a_connection_that_there_is_no_room_for_is_refused_at_once() {
    let config = HostConfig {
        connections_max: 1,
        ..host(1)
    };
    let mut pair = Pair::with(config, host(2));
    let _first = pair.connecting(Family::V4, 80);
    let fd = pair.socket(0, Family::V4, SOCK_NONBLOCK);
    let full = pair.connect(0, fd, to(Family::V4, 2, 80));
    assert_eq!(full, Err(Errno::ENOBUFS));
}

// behaviour: A12-7 A12-17 CON-8 CON-21
#[test]
fn a_second_connection_of_a_socket_knows_nothing_of_the_first() {
    for family in FAMILIES {
        let mut pair = Pair::new();
        pair.listener(family, 80, 4);
        pair.listener(family, 81, 4);
        let fd = pair.connecting(family, 80);
        pair.run(20);
        pair.write(0, fd, b"first").expect("connected");
        pair.run(2_000);
        assert_eq!(pair.connect(0, fd, NOBODY), Ok(()));
        assert_eq!(pair.hosts[0].getpeername(fd), Err(Errno::ENOTCONN));
        let going = pair.connect(0, fd, to(family, 2, 81));
        assert_eq!(going, Err(Errno::EINPROGRESS));
        let error = pair.get(0, fd, SOL_SOCKET, SO_ERROR);
        assert_eq!(error, Ok(0), "the reset was of the first");
        let sent = syns(&pair);
        assert_eq!(sent.len(), 2);
        assert_ne!(tcp(&sent[0], 4, 4), tcp(&sent[1], 4, 4), "another number");
        assert_eq!(echoed(&sent[1]), 0, "no time of the first peer");
        pair.run(20);
        assert_eq!(pair.connect(0, fd, to(family, 2, 81)), Ok(()));
        assert_eq!(pair.write(0, fd, b"second"), Ok(6));
    }
}

// behaviour: A30-2 A30-4 X7-3
#[test]
fn connect_says_where_a_socket_stands() {
    for family in FAMILIES {
        let mut pair = Pair::new();
        let place = to(family, 2, 80);
        let listener = pair.listener(family, 80, 4);
        let refused = pair.now_call(
            1,
            Call::Connect {
                fd: listener,
                address: place,
            },
        );
        assert_eq!(refused, Err(Errno::EISCONN), "it listens");
        let fd = pair.socket(0, family, SOCK_NONBLOCK);
        assert_eq!(pair.connect(0, fd, place), Err(Errno::EINPROGRESS));
        assert_eq!(pair.connect(0, fd, place), Err(Errno::EALREADY));
        pair.run(20);
        assert_eq!(pair.connect(0, fd, place), Ok(()), "told once");
        assert_eq!(pair.connect(0, fd, place), Err(Errno::EISCONN));
    }
}

// behaviour: SOK-18 STA-23 STA-24
#[test]
fn shutting_a_socket_that_connects() {
    // In SYN-SENT the attempt ends, and the socket can be used again.
    let mut pair = Pair::new();
    pair.listener(Family::V4, 80, 4);
    let place = to(Family::V4, 2, 80);
    let fd = pair.connecting(Family::V4, 80);
    assert_eq!(pair.hosts[0].shutdown(pair.now, fd, SHUT_WR), Ok(()));
    assert_eq!(state(&pair, 0, fd), CLOSE);
    assert_eq!(pair.hosts[0].ports_in_use(), []);
    pair.run(20);
    let (from, answer) = pair.seen.last().expect("an answer");
    assert!(*from == 0 && is_reset(answer), "nobody expects the SYN-ACK");
    assert_eq!(pair.connect(0, fd, place), Err(Errno::EINPROGRESS));
    pair.run(20);
    assert_eq!(pair.connect(0, fd, place), Ok(()));
    // Where the handshake is done the socket counts as connected from then on.
    let fd = pair.connecting(Family::V4, 80);
    pair.run(20);
    assert_eq!(pair.hosts[0].shutdown(pair.now, fd, SHUT_WR), Ok(()));
    assert_eq!(pair.connect(0, fd, place), Err(Errno::EISCONN));
    // Where it has failed meanwhile, nothing can be done with it but disconnecting.
    let fd = pair.connecting(Family::V4, 9);
    pair.run(20);
    let late = pair.hosts[0].shutdown(pair.now, fd, SHUT_RDWR);
    assert_eq!(late, Err(Errno::ENOTCONN));
    assert_eq!(pair.connect(0, fd, place), Err(Errno::EINVAL));
    assert_eq!(pair.connect(0, fd, NOBODY), Ok(()));
    assert_eq!(pair.connect(0, fd, place), Err(Errno::EINPROGRESS));
}

// behaviour: STA-21 STA-25
#[test]
fn shutting_wakes_who_polls() {
    let mut pair = Pair::new();
    let (_client, server) = pair.nonblocking(Family::V4, 80);
    let fds = vec![PollFd {
        fd: server,
        events: (EPOLLIN | EPOLLRDHUP) as u16,
        revents: 0,
    }];
    let polling = pair.wait_call(
        1,
        Call::Poll {
            fds,
            timeout_ms: -1,
        },
    );
    pair.hosts[1]
        .shutdown(pair.now, server, SHUT_RD)
        .expect("open");
    let Some(Ok(Reply::Polled(fds))) = pair.result(1, polling) else {
        panic!("sleeps on");
    };
    assert_eq!(u32::from(fds[0].revents), EPOLLIN | EPOLLRDHUP);
    // Even where nothing is connected.
    let fresh = pair.socket(1, Family::V4, 0);
    let epoll = pair.epoll(1);
    let events = EPOLLIN | EPOLLRDHUP | EPOLLET;
    pair.epoll_control(1, epoll, EPOLL_CTL_ADD, fresh, events)
        .expect("not watched");
    assert_eq!(pair.epoll_events(1, epoll, 8), [(EPOLLHUP, fresh as u64)]);
    let sleeping = pair.epoll_sleep(1, epoll);
    let refused = pair.hosts[1].shutdown(pair.now, fresh, SHUT_RD);
    assert_eq!(refused, Err(Errno::ENOTCONN));
    let Some(Ok(Reply::Events(told))) = pair.result(1, sleeping) else {
        panic!("sleeps on");
    };
    assert_eq!(told[0].events, EPOLLHUP | EPOLLIN | EPOLLRDHUP);
}

// behaviour: STA-22 STA-28 LSN-30 X7-5
#[test]
fn shutting_a_listener_ends_accept_and_refuses_syns() {
    for family in FAMILIES {
        let mut pair = Pair::new();
        let listener = pair.listener(family, 80, 4);
        let accept = Call::Accept {
            fd: listener,
            flags: 0,
        };
        let first = pair.wait_call(1, accept.clone());
        let second = pair.wait_call(1, accept);
        pair.hosts[1]
            .shutdown(pair.now, listener, SHUT_WR)
            .expect("listens");
        assert_eq!(state(&pair, 1, listener), LISTEN, "only reading counts");
        assert_eq!(pair.result(1, first), None);
        let now = pair.now;
        let ended = pair.hosts[1].interrupt(now, first);
        assert_eq!(ended, Some(Err(Errno::EINTR)));
        pair.hosts[1]
            .shutdown(pair.now, listener, SHUT_RD)
            .expect("listens");
        assert_eq!(pair.result(1, second), Some(Err(Errno::EINVAL)));
        assert_eq!(state(&pair, 1, listener), CLOSE);
        let fd = pair.connecting(family, 80);
        pair.run(20);
        let refused = pair.connect(0, fd, to(family, 2, 80));
        assert_eq!(refused, Err(Errno::ECONNREFUSED));
        // The port is still its own.
        let now = pair.now;
        assert_eq!(pair.hosts[1].listen(now, listener, 4), Ok(()));
        let _fd = pair.connecting(family, 80);
        pair.run(20);
        assert!(pair.accept(1, listener).is_ok());
    }
}

// behaviour: LSN-31 LSN-27
#[test]
fn one_connection_ends_one_accept() {
    let mut pair = Pair::new();
    let listener = pair.listener(Family::V4, 80, 8);
    let accept = Call::Accept {
        fd: listener,
        flags: 0,
    };
    let calls: Vec<_> = (0..8).map(|_| pair.wait_call(1, accept.clone())).collect();
    for round in 0..3 {
        let _client = pair.connecting(Family::V4, 80);
        pair.run(20);
        let ended: Vec<usize> = (0..8)
            .filter(|at| pair.result(1, calls[*at]).is_some())
            .collect();
        assert_eq!(ended, [round], "who came first is served first");
    }
}

// behaviour: A29-3 A29-4 A29-5 X7-4
#[test]
fn listen_wants_a_socket_that_nothing_has_happened_to() {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    let now = pair.now;
    assert_eq!(pair.hosts[0].listen(now, client, 1), Err(Errno::EINVAL));
    assert_eq!(pair.hosts[1].listen(now, server, 1), Err(Errno::EINVAL));
    let connecting = pair.connecting(Family::V4, 80);
    assert_eq!(pair.hosts[0].listen(now, connecting, 1), Err(Errno::EINVAL));
    let listener = pair.listener(Family::V4, 81, 3);
    let backlog = |pair: &Pair| pair.hosts[1].tcp_info(listener).expect("open").sacked;
    assert_eq!(backlog(&pair), 3);
    for _ in 0..2 {
        pair.connecting(Family::V4, 81);
    }
    pair.run(20);
    pair.hosts[1]
        .set_sysctl("net.core.somaxconn", "1000")
        .expect("a knob");
    for (asked, got) in [(7, 7), (0, 0), (-1, 1_000), (i32::MIN, 1_000)] {
        let now = pair.now;
        assert_eq!(pair.hosts[1].listen(now, listener, asked), Ok(()));
        assert_eq!(backlog(&pair), got, "{asked}");
    }
    let waiting = pair.hosts[1].tcp_info(listener).expect("open").unacked;
    assert_eq!(waiting, 2, "only the backlog changes");
}

// behaviour: LSN-5 A29-12
#[test]
fn a_listener_counts_who_is_half_open_young_and_complete() {
    let mut pair = Pair::new();
    let listener = pair.listener(Family::V4, 80, 8);
    let queue = |pair: &Pair| {
        let queue = pair.hosts[1].listen_queue(listener).expect("listens");
        (queue.half_open, queue.young, queue.completed, queue.backlog)
    };
    assert_eq!(queue(&pair), (0, 0, 0, 8));
    // Its SYN-ACK is lost, and the next one too.
    pair.lose = [0, 2];
    let _first = pair.connecting(Family::V4, 80);
    pair.run(20);
    assert_eq!(queue(&pair), (1, 1, 0, 8));
    pair.lose = [0, 4];
    pair.run(1_100);
    assert_eq!(queue(&pair), (1, 0, 0, 8), "sent again: not young any more");
    pair.lose = [0, 0];
    let _second = pair.connecting(Family::V4, 80);
    pair.run(20);
    let (_, young, completed, _) = queue(&pair);
    assert_eq!((young, completed), (0, 1));
    pair.accept(1, listener).expect("connected");
    assert_eq!(queue(&pair).2, 0);
    let fresh = pair.socket(1, Family::V4, 0);
    assert_eq!(pair.hosts[1].listen_queue(fresh), None);
}

// behaviour: X7-5
#[test]
fn accept_fails_as_on_linux() {
    let mut pair = Pair::new();
    let listener = pair.listener(Family::V4, 80, 4);
    let flag = i64::from(SOCK_NONBLOCK);
    pair.hosts[1]
        .fcntl(listener, millrace_socket::linux::F_SETFL, flag)
        .expect("flags");
    assert_eq!(pair.accept(1, listener), Err(Errno::EAGAIN));
    let (reader, _) = pair.hosts[1].pipe(0).expect("room");
    assert_eq!(pair.accept(1, reader), Err(Errno::ENOTSOCK));
    assert_eq!(pair.accept(1, 99), Err(Errno::EBADF));
    let fresh = pair.socket(1, Family::V4, 0);
    assert_eq!(pair.accept(1, fresh), Err(Errno::EINVAL));
    // The descriptor is looked for before the connection is taken.
    let _client = pair.connecting(Family::V4, 80);
    pair.run(20);
    let mut taken = Vec::new();
    while let Ok(fd) = pair.hosts[1].dup(fresh) {
        taken.push(fd);
    }
    assert_eq!(pair.accept(1, listener), Err(Errno::EMFILE));
    pair.close(1, taken[0]).expect("open");
    assert!(pair.accept(1, listener).is_ok(), "it still waits");
}

// behaviour: X7-2 A6-3 A6-5
#[test]
fn receiving_fails_as_on_linux_and_tells_no_address() {
    for family in FAMILIES {
        let mut pair = Pair::new();
        let fresh = pair.socket(1, family, 0);
        assert_eq!(pair.receive(1, fresh, 9, 0), Err(Errno::ENOTCONN));
        let oob = millrace_socket::linux::MSG_OOB;
        assert_eq!(pair.receive(1, fresh, 9, oob), Err(Errno::EINVAL));
        let (client, server) = pair.connected(family, 80);
        let nothing = pair.receive(1, server, 9, MSG_DONTWAIT);
        assert_eq!(nothing, Err(Errno::EAGAIN), "the file would wait");
        let reading = pair.wait_call(1, Call::Read { fd: server, len: 1 });
        let now = pair.now;
        let ended = pair.hosts[1].interrupt(now, reading);
        assert_eq!(ended, Some(Err(Errno::EINTR)));
        pair.write(0, client, b"hello").expect("room");
        pair.run(20);
        let received = pair.receive(1, server, 9, 0).expect("data");
        assert_eq!(received.bytes, b"hello");
        assert_eq!(received.address, None, "a stream has none");
        reset_on_close(&mut pair, 0, client);
        pair.close(0, client).expect("open");
        pair.run(20);
        assert_eq!(pair.receive(1, server, 9, 0), Err(Errno::ECONNRESET));
    }
}

// behaviour: A3-4
#[test]
fn a_send_waits_as_long_as_the_socket_says() {
    let mut pair = Pair::new();
    let (client, _server) = pair.connected(Family::V4, 80);
    let mut timeout = 0i64.to_ne_bytes().to_vec();
    timeout.extend(40_000i64.to_ne_bytes());
    pair.hosts[0]
        .setsockopt(pair.now, client, SOL_SOCKET, SO_SNDTIMEO, &timeout)
        .expect("an option");
    let data = pattern(9_000_000);
    let send = |data: &[u8], flags| Call::Send {
        fd: client,
        data: data.to_vec(),
        flags,
        address: None,
    };
    let started = pair.now;
    let sent = pair.call(0, 1_000, send(&data, 0)).expect("some of it");
    assert!(sent.value() < 9_000_000);
    let waited = pair.now.since(started).as_nanos() / 1_000_000;
    assert_eq!(waited, 40);
    // Until there is no room: nothing at all then, at once or after the time.
    while pair.now_call(0, send(&data, MSG_DONTWAIT)).is_ok() {
        pair.run(1_000);
    }
    let full = pair.now_call(0, send(b"x", MSG_DONTWAIT));
    assert_eq!(full, Err(Errno::EAGAIN));
    let started = pair.now;
    assert_eq!(pair.call(0, 1_000, send(b"x", 0)), Err(Errno::EAGAIN));
    assert_eq!(pair.now.since(started).as_nanos() / 1_000_000, 40);
    // `connect` has the same time.
    let fd = pair.socket(0, Family::V4, 0);
    pair.hosts[0]
        .setsockopt(pair.now, fd, SOL_SOCKET, SO_SNDTIMEO, &timeout)
        .expect("an option");
    pair.lose = [1_000, 0];
    let connect = Call::Connect {
        fd,
        address: to(Family::V4, 2, 80),
    };
    assert_eq!(pair.call(0, 1_000, connect), Err(Errno::EINPROGRESS));
}

// behaviour: STA-43
#[test]
fn who_sleeps_through_a_disconnect_does_not_go_on() {
    let mut pair = Pair::new();
    let (client, _server) = pair.connected(Family::V4, 80);
    let reading = pair.wait_call(0, Call::Read { fd: client, len: 1 });
    let copy = pair.hosts[0].dup(client).expect("room");
    assert_eq!(pair.connect(0, copy, NOBODY), Ok(()));
    assert_eq!(pair.result(0, reading), Some(Err(Errno::EPIPE)));
    pair.lose = [1_000, 0];
    let connect = Call::Connect {
        fd: client,
        address: to(Family::V4, 2, 80),
    };
    let connecting = pair.wait_call(0, connect);
    assert_eq!(pair.connect(0, copy, NOBODY), Ok(()));
    assert_eq!(pair.result(0, connecting), Some(Err(Errno::EPIPE)));
}

// behaviour: SOK-9 CON-23
#[test]
fn each_event_ends_the_call_that_waits_for_it() {
    let mut pair = Pair::new();
    let listener = pair.listener(Family::V4, 80, 4);
    let client = pair.socket(0, Family::V4, 0);
    let connecting = pair.wait_call(
        0,
        Call::Connect {
            fd: client,
            address: to(Family::V4, 2, 80),
        },
    );
    pair.run(20);
    assert_eq!(pair.result(0, connecting), Some(Ok(Reply::Done)), "state");
    let server = pair.accept(1, listener).expect("connected");
    let reading = pair.wait_call(1, Call::Read { fd: server, len: 9 });
    pair.write(0, client, b"x").expect("room");
    pair.run(20);
    assert!(pair.result(1, reading).is_some(), "data");
    let writing = pair.wait_call(
        0,
        Call::Write {
            fd: client,
            data: pattern(9_000_000),
        },
    );
    pair.run(200);
    assert_eq!(pair.result(0, writing), None);
    let flags = millrace_socket::linux::MSG_WAITALL;
    let taking = pair.wait_call(
        1,
        Call::Receive {
            fd: server,
            len: 9_000_000,
            control_len: 0,
            flags,
        },
    );
    pair.run(5_000);
    assert!(pair.result(0, writing).is_some(), "room");
    assert!(pair.result(1, taking).is_some());
    let reading = pair.wait_call(1, Call::Read { fd: server, len: 9 });
    pair.close(0, client).expect("open");
    pair.run(20);
    let Some(Ok(end)) = pair.result(1, reading) else {
        panic!("the end of the stream is an event");
    };
    assert_eq!(end.value(), 0);
}

// behaviour: A25-6 A25-19
#[test]
fn closing_what_is_over_sends_nothing_and_leaves_nothing() {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    reset_on_close(&mut pair, 0, client);
    pair.close(0, client).expect("open");
    assert_eq!(pair.hosts[0].sockstat().allocated, 0, "destroyed at once");
    pair.run(20);
    let sent = pair.seen.len();
    pair.close(1, server).expect("open");
    assert_eq!(pair.seen.len(), sent, "it was reset already");
    assert_eq!(pair.hosts[1].sockstat().orphans, 0);
    // A living connection outlives its socket until the protocol is done with it.
    let (client, server) = pair.nonblocking(Family::V4, 81);
    pair.close(0, client).expect("open");
    assert_eq!(pair.hosts[0].sockstat().orphans, 1);
    assert!(pair.seen.last().is_some_and(|(_, packet)| is_fin(packet)));
    pair.run(20);
    pair.close(1, server).expect("open");
    pair.run(20);
    let stat = pair.hosts[0].sockstat();
    assert_eq!((stat.orphans, stat.time_wait, stat.allocated), (0, 1, 0));
}

// behaviour: A3-22 A3-23 X3-1
// MAY-15
#[test]
fn a_send_pushes_unless_it_says_that_more_comes() {
    let mut pair = Pair::new();
    let (client, _server) = pair.nonblocking(Family::V4, 80);
    let mss = pair.hosts[0].tcp_info(client).expect("open").snd_mss as usize;
    let begin = pair.seen.len();
    let pushed = |pair: &Pair, from: usize| -> Vec<(usize, bool)> {
        let sent = pair.seen[from..].iter().filter(|(from, _)| *from == 0);
        sent.map(|(_, packet)| (payload(packet), is_push(packet)))
            .filter(|(bytes, _)| *bytes > 0)
            .collect()
    };
    assert_eq!(pair.send(0, client, &pattern(mss), MSG_MORE), Ok(mss));
    assert_eq!(pushed(&pair, begin), [(mss, false)], "full, and no push");
    assert_eq!(pair.send(0, client, b"end", 0), Ok(3));
    pair.run(20);
    assert_eq!(pushed(&pair, begin)[1..], [(3, true)]);
    // Small pieces of one call are one segment.
    let begin = pair.seen.len();
    let pieces = Call::SendMessage {
        fd: client,
        pieces: vec![vec![7; 10]; 5],
        flags: 0,
        address: None,
        control: vec![],
    };
    assert_eq!(pair.now_call(0, pieces), Ok(Reply::Count(50)));
    assert_eq!(pushed(&pair, begin), [(50, true)]);
    pair.run(20);
    // In a long send half of the peer's window is as much as goes without a push.
    let begin = pair.seen.len();
    let data = pattern(60 * mss);
    let sent = pair.write(0, client, &data).expect("room");
    assert_eq!(sent, data.len());
    pair.run(100);
    let pushes = pushed(&pair, begin)
        .iter()
        .filter(|(_, push)| *push)
        .count();
    assert!((2..30).contains(&pushes), "{pushes} pushes");
}

// behaviour: SOK-20 OPT-7 X1-29
#[test]
fn queues_and_counters_of_a_socket_can_be_read() {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    let before = pair.hosts[0].tcp_info(client).expect("open");
    let data = pattern(50_000);
    pair.write(0, client, &data).expect("room");
    let now = pair.now;
    let outq = pair.hosts[0].ioctl(now, client, SIOCOUTQ, 0);
    assert_eq!(outq, Ok(50_000), "the write queue");
    let info = pair.hosts[0].tcp_info(client).expect("open");
    assert_eq!(info.unacked, 10, "the first window is in flight");
    let in_flight = 10 * info.snd_mss;
    assert_eq!(info.notsent_bytes, 50_000 - in_flight, "the send head");
    pair.run(100);
    let inq = pair.hosts[1].ioctl(pair.now, server, SIOCINQ, 0);
    assert_eq!(inq, Ok(50_000), "the receive queue");
    let info = pair.hosts[0].tcp_info(client).expect("open");
    let segments = 50_000u32.div_ceil(info.snd_mss);
    assert_eq!(info.data_segs_out - before.data_segs_out, segments);
    assert!(info.segs_out > info.data_segs_out);
    assert_eq!((info.bytes_sent, info.bytes_acked), (50_000, 50_000));
    assert_eq!((info.unacked, info.total_retrans), (0, 0));
    assert!(info.delivered >= segments);
    let peer = pair.hosts[1].tcp_info(server).expect("open");
    assert_eq!(peer.bytes_received, 50_000);
    assert_eq!(peer.data_segs_in, segments);
    assert_eq!(peer.snd_mss, info.snd_mss);
    let stat = pair.hosts[1].sockstat();
    assert_eq!((stat.allocated, stat.orphans), (2, 0));
    assert!(stat.memory_pages >= 50_000 / 4_096);
    let different: BTreeSet<u32> = [info.rcv_mss, info.advmss].into_iter().collect();
    assert!(different.iter().all(|bytes| *bytes >= 536));
}

// behaviour: EPL-24
#[test]
fn a_connection_put_off_until_its_first_data_is_writable() {
    let mut pair = Pair::new();
    pair.listener(Family::V4, 80, 4);
    // A client that needs no cookie.
    pair.hosts[0]
        .set_sysctl("net.ipv4.tcp_fastopen", "0x5")
        .expect("a knob");
    let fd = pair.socket(0, Family::V4, SOCK_NONBLOCK);
    pair.set(0, fd, SOL_TCP, TCP_FASTOPEN_CONNECT, 1)
        .expect("an option");
    assert_eq!(pair.connect(0, fd, to(Family::V4, 2, 80)), Ok(()));
    assert!(pair.seen.is_empty(), "nothing has left yet");
    let ready = pair.poll(0, fd) & (EPOLLIN | EPOLLOUT);
    assert_eq!(ready, EPOLLOUT);
    let plain = pair.connecting(Family::V4, 80);
    assert_eq!(pair.poll(0, plain) & EPOLLOUT, 0, "the others are not");
}

// behaviour: X7-1
#[test]
fn sending_fails_as_on_linux() {
    let mut pair = Pair::new();
    pair.listener(Family::V4, 80, 4);
    let fresh = pair.socket(0, Family::V4, SOCK_NONBLOCK);
    assert_eq!(pair.send(0, fresh, b"x", 0), Err(Errno::EPIPE));
    assert_eq!(pair.send(0, 99, b"x", 0), Err(Errno::EBADF));
    let fd = pair.connecting(Family::V4, 80);
    assert_eq!(pair.send(0, fd, b"x", 0), Err(Errno::EAGAIN));
    let open = |pair: &mut Pair, fd| {
        let call = Call::Send {
            fd,
            data: b"x".to_vec(),
            flags: MSG_FASTOPEN,
            address: Some(to(Family::V4, 2, 80)),
        };
        pair.now_call(0, call)
    };
    pair.hosts[0]
        .set_sysctl("net.ipv4.tcp_fastopen", "0")
        .expect("a knob");
    assert_eq!(open(&mut pair, fresh), Err(Errno::EOPNOTSUPP));
    pair.hosts[0]
        .set_sysctl("net.ipv4.tcp_fastopen", "1")
        .expect("a knob");
    assert_eq!(open(&mut pair, fresh), Err(Errno::EINPROGRESS));
    pair.run(20);
    reset_on_close(&mut pair, 0, fd);
    pair.hosts[0]
        .shutdown(pair.now, fd, SHUT_WR)
        .expect("connected");
    assert_eq!(pair.send(0, fd, b"x", 0), Err(Errno::EPIPE));
}
