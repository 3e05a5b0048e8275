//! What a host tells of its sockets: states, queues, memory, errors.

mod pair;

use millrace_base::Nanos;
use millrace_socket::linux::{
    IP_MINTTL, IP_TTL, MSG_CONFIRM, MSG_FIN, MSG_NOSIGNAL, MSG_PROBE, MSG_RST, MSG_SYN, SIGPIPE,
    SO_BINDTODEVICE, SO_BUF_LOCK, SO_COOKIE, SO_DONTROUTE, SO_MEMINFO, SO_PEERNAME, SO_RCVTIMEO,
    SO_SNDBUF, SO_TXREHASH, SOCK_NONBLOCK, SOL_IP, SOL_SOCKET,
};
use millrace_socket::{Call, Errno, Reply, SocketAddress};
use pair::{FAMILIES, Family, Pair, any, is_fin, is_reset, to};

/// Linux's numbers of states.
const ESTABLISHED: u8 = 1;
const SYN_SENT: u8 = 2;
const CLOSE: u8 = 7;
const LISTEN: u8 = 10;

fn state(pair: &Pair, host: usize, fd: i32) -> u8 {
    pair.hosts[host].tcp_info(fd).expect("a socket").state
}

// behaviour: X6-1 X6-2 X6-20 MUST-44 MUST-45
#[test]
fn a_socket_goes_back_to_closed_when_it_cannot_listen_or_connect() {
    for family in FAMILIES {
        let mut pair = Pair::new();
        let listener = pair.listener(family, 80, 1);
        assert_eq!(state(&pair, 1, listener), LISTEN);
        // A port that nobody may have: listening fails, and the socket is as before.
        pair.hosts[1]
            .set_sysctl("ip_local_port_range", "40000 40000")
            .expect("a range");
        let holder = pair.socket(1, family, 0);
        let now = pair.now;
        pair.hosts[1]
            .bind(now, holder, any(family, 0))
            .expect("the port");
        let late = pair.socket(1, family, 0);
        let listened = pair.hosts[1].listen(now, late, 1);
        assert_eq!(listened, Err(Errno::EADDRINUSE));
        assert_eq!(state(&pair, 1, late), CLOSE);
        // A way that does not exist: connecting fails before a SYN leaves.
        let client = pair.socket(0, family, SOCK_NONBLOCK);
        let many = SocketAddress::v4([224, 0, 0, 1], 80);
        let nowhere = Call::Connect {
            fd: client,
            address: many,
        };
        let seen = pair.seen.len();
        assert!(pair.now_call(0, nowhere).is_err());
        assert_eq!((state(&pair, 0, client), pair.seen.len()), (CLOSE, seen));
        let connect = Call::Connect {
            fd: client,
            address: to(family, 2, 80),
        };
        let begun = pair.now_call(0, connect.clone());
        assert_eq!(begun, Err(Errno::EINPROGRESS));
        assert_eq!(state(&pair, 0, client), SYN_SENT);
        assert_eq!(
            pair.now_call(0, connect.clone()),
            Err(Errno::EALREADY),
            "connecting"
        );
        pair.run(50);
        assert_eq!(state(&pair, 0, client), ESTABLISHED);
        assert_eq!(
            pair.now_call(0, connect.clone()),
            Ok(Reply::Done),
            "told once"
        );
        assert_eq!(pair.now_call(0, connect), Err(Errno::EISCONN));
        let ours = pair.hosts[0].getsockname(client).expect("a name");
        let SocketAddress::V4 { address, .. } = ours else {
            continue;
        };
        assert_eq!(address, [10, 0, 0, 1], "chosen for the way");
    }
}

// behaviour: X8-24
#[test]
fn both_ends_begin_with_what_the_handshake_agreed_on() {
    let mut pair = Pair::new();
    let (client, server) = pair.connected(Family::V4, 80);
    for (host, fd) in [(0, client), (1, server)] {
        let info = pair.hosts[host].tcp_info(fd).expect("connected");
        assert_eq!((info.state, info.ca_state), (ESTABLISHED, 0));
        assert_eq!(info.options & 7, 7, "time stamps, SACK, scaling");
        assert_eq!(
            (info.snd_mss, info.advmss),
            (1_448, 1_448 + 12 * u32::from(info.advmss > 1_448))
        );
        assert_eq!((info.snd_cwnd, info.pmtu), (10, 1_500));
        assert!((9_000..12_000).contains(&info.rtt), "{}", info.rtt);
        assert!(info.rto >= 200_000 && info.rto < 400_000, "{}", info.rto);
        assert!(info.snd_wnd >= 60_000 && info.rcv_wnd >= 60_000);
        assert_eq!((info.unacked, info.retrans, info.lost), (0, 0, 0));
        assert_eq!((info.bytes_acked, info.bytes_received), (0, 0));
    }
}

// behaviour: CNT-6
#[test]
fn a_listener_tells_how_many_wait_and_how_many_may() {
    let mut pair = Pair::new();
    let listener = pair.listener(Family::V4, 80, 5);
    for waiting in 1..=3 {
        let fd = pair.socket(0, Family::V4, 0);
        let connect = Call::Connect {
            fd,
            address: to(Family::V4, 2, 80),
        };
        assert_eq!(pair.call(0, 100, connect), Ok(Reply::Done));
        pair.run(20);
        let info = pair.hosts[1].tcp_info(listener).expect("listens");
        assert_eq!((info.unacked, info.sacked), (waiting, 5));
    }
    let accept = Call::Accept {
        fd: listener,
        flags: 0,
    };
    pair.now_call(1, accept).expect("one waits");
    let info = pair.hosts[1].tcp_info(listener).expect("listens");
    assert_eq!(info.unacked, 2);
}

// behaviour: A33-2 A33-5 X5-12
#[test]
fn accept_waits_as_long_as_the_receive_timeout_and_returns_the_child() {
    let mut pair = Pair::new();
    let listener = pair.listener(Family::V4, 80, 5);
    let mut value = 0i64.to_ne_bytes().to_vec();
    value.extend(40_000i64.to_ne_bytes());
    let (now, host) = (pair.now, &mut pair.hosts[1]);
    host.setsockopt(now, listener, SOL_SOCKET, SO_RCVTIMEO, &value)
        .expect("a time");
    let accept = |flags| Call::Accept {
        fd: listener,
        flags,
    };
    assert_eq!(pair.call(1, 500, accept(0)), Err(Errno::EAGAIN));
    assert_eq!(pair.now.since(now), Nanos::from_millis(40));
    assert_eq!(pair.now_call(1, accept(1)), Err(Errno::EINVAL));
    let waiting = pair.wait_call(1, accept(0));
    let client = pair.socket(0, Family::V4, SOCK_NONBLOCK);
    let connect = Call::Connect {
        fd: client,
        address: to(Family::V4, 2, 80),
    };
    let begun = pair.now_call(0, connect);
    assert_eq!(begun, Err(Errno::EINPROGRESS));
    pair.run(30);
    let Some(Ok(Reply::Accepted { fd, peer })) = pair.result(1, waiting) else {
        panic!("it still waits");
    };
    assert_eq!(pair.hosts[0].getsockname(client), Ok(peer));
    assert_eq!(state(&pair, 1, fd), ESTABLISHED);
    let info = pair.hosts[1].tcp_info(listener).expect("listens");
    assert_eq!(info.unacked, 0, "the request is gone");
}

// behaviour: OPT-45 SND-4
#[test]
fn a_broken_pipe_is_signalled_unless_nobody_wants_to_know() {
    let mut pair = Pair::new();
    let (client, _server) = pair.nonblocking(Family::V4, 80);
    let now = pair.now;
    pair.hosts[0].shutdown(now, client, 1).expect("connected");
    let sent = pair.send(0, client, b"x", MSG_NOSIGNAL);
    assert_eq!(sent, Err(Errno::EPIPE));
    assert_eq!(pair.hosts[0].poll_signal(), None);
    assert_eq!(pair.write(0, client, b"x"), Err(Errno::EPIPE));
    let signal = pair.hosts[0].poll_signal().map(|signal| signal.number);
    assert_eq!(signal, Some(SIGPIPE));
}

// behaviour: OPT-37 OPT-42 OPT-43
#[test]
fn flags_of_the_kernel_and_of_datagrams_mean_nothing_to_a_stream() {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    let from = pair.seen.len();
    for flags in [MSG_SYN, MSG_FIN, MSG_RST, MSG_PROBE, MSG_CONFIRM] {
        assert_eq!(pair.send(0, client, b"abc", flags), Ok(3), "{flags:#x}");
        pair.run(100);
        assert_eq!(pair.read(1, server, 9).as_deref(), Ok(&b"abc"[..]));
    }
    let packets = pair.seen.iter().skip(from).map(|(_, packet)| packet);
    for packet in packets {
        assert!(!is_reset(packet) && !is_fin(packet) && packet[33] & 2 == 0);
    }
}

// behaviour: SHLD-9
#[test]
fn a_program_can_see_that_segments_are_sent_again() {
    let mut pair = Pair::new();
    let (client, _server) = pair.nonblocking(Family::V4, 80);
    pair.lose = [1_000, 0];
    pair.write(0, client, b"x").expect("room");
    let mut told = Vec::new();
    for _ in 0..6 {
        pair.run(1_000);
        told.push(pair.hosts[0].tcp_info(client).expect("lives").retransmits);
    }
    assert!(told.windows(2).all(|pair| pair[0] <= pair[1]), "{told:?}");
    assert!(told[5] >= 3, "{told:?} reaches tcp_retries1");
    assert_eq!(state(&pair, 0, client), ESTABLISHED, "R2 is far");
    pair.lose = [0, 0];
    pair.run(10_000);
    let info = pair.hosts[0].tcp_info(client).expect("lives");
    assert_eq!((info.retransmits, info.backoff), (0, 0));
}

// behaviour: A6-27 CNT-5
#[test]
fn packets_that_a_socket_refuses_are_its_drops() {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    let drops = |pair: &mut Pair| {
        let now = pair.now;
        let told = pair.hosts[1].getsockopt(now, server, SOL_SOCKET, SO_MEMINFO, 36);
        let told = told.expect("nine words");
        u32::from_ne_bytes(told[32..36].try_into().expect("a word"))
    };
    assert_eq!(drops(&mut pair), 0);
    pair.set(1, server, SOL_IP, IP_MINTTL, 64).expect("hops");
    pair.set(0, client, SOL_IP, IP_TTL, 63).expect("hops");
    pair.write(0, client, b"far").expect("room");
    pair.run(20);
    assert_eq!(drops(&mut pair), 1);
    assert_eq!(pair.read(1, server, 9), Err(Errno::EAGAIN));
}

// behaviour: A1-4 CNT-7
#[test]
fn sockets_orphans_and_memory_are_counted_for_the_host() {
    let mut pair = Pair::new();
    assert_eq!(
        pair.hosts[0].sockstat(),
        millrace_socket::SockStat::default()
    );
    let (client, server) = pair.nonblocking(Family::V4, 80);
    let idle = pair.socket(0, Family::V6, 0);
    let told = pair.hosts[0].sockstat();
    assert_eq!((told.allocated, told.in_use, told.orphans), (2, 1, 0));
    assert_eq!((told.time_wait, told.memory_pages), (0, 0));
    pair.write(1, server, &[7; 5_000]).expect("room");
    pair.run(50);
    assert!(pair.hosts[0].sockstat().memory_pages >= 2, "unread");
    pair.read(0, client, 5_000).expect("data");
    pair.close(0, idle).expect("open");
    pair.lose = [1_000, 1_000];
    pair.write(0, client, b"never told").expect("room");
    pair.close(0, client).expect("open");
    let told = pair.hosts[0].sockstat();
    assert_eq!((told.allocated, told.in_use, told.orphans), (1, 1, 1));
    pair.lose = [0, 0];
    pair.run(2_000);
    pair.read(1, server, 99).expect("data");
    pair.close(1, server).expect("open");
    pair.run(2_000);
    let told = pair.hosts[0].sockstat();
    assert_eq!((told.allocated, told.orphans, told.time_wait), (0, 0, 1));
}

// behaviour: OPT-26 OPT-35 X8-29
#[test]
fn the_link_is_the_only_device_and_neighbours_are_in_its_subnet() {
    let mut pair = Pair::new();
    let fd = pair.socket(0, Family::V4, SOCK_NONBLOCK);
    let now = pair.now;
    let host = &mut pair.hosts[0];
    let set = host.setsockopt(now, fd, SOL_SOCKET, SO_BINDTODEVICE, b"eth1\0");
    assert_eq!(set, Err(Errno::ENODEV));
    let told = host.getsockopt(now, fd, SOL_SOCKET, SO_BINDTODEVICE, 16);
    assert_eq!(told, Ok(Vec::new()));
    host.setsockopt(now, fd, SOL_SOCKET, SO_BINDTODEVICE, b"eth0\0")
        .expect("the link");
    let told = host.getsockopt(now, fd, SOL_SOCKET, SO_BINDTODEVICE, 16);
    assert_eq!(told, Ok(b"eth0\0".to_vec()));
    pair.set(0, fd, SOL_SOCKET, SO_DONTROUTE, 1)
        .expect("a flag");
    let address = SocketAddress::v4([192, 0, 2, 1], 80);
    let far = Call::Connect { fd, address };
    assert_eq!(pair.now_call(0, far), Err(Errno::ENETUNREACH));
    let near = Call::Connect {
        fd,
        address: to(Family::V4, 2, 80),
    };
    assert_eq!(pair.now_call(0, near), Err(Errno::EINPROGRESS));
    pair.run(50);
    let fd = pair.socket(0, Family::V4, SOCK_NONBLOCK);
    let far = Call::Connect { fd, address };
    assert_eq!(pair.now_call(0, far), Err(Errno::EINPROGRESS), "routed");
}

// behaviour: X8-29
#[test]
fn small_options_keep_what_they_are_set_to() {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    assert_eq!(pair.get(0, client, SOL_SOCKET, SO_TXREHASH), Ok(1));
    pair.set(0, client, SOL_SOCKET, SO_TXREHASH, 0)
        .expect("off");
    pair.set(0, client, SOL_SOCKET, SO_TXREHASH, -1)
        .expect("the default");
    assert_eq!(pair.get(0, client, SOL_SOCKET, SO_TXREHASH), Ok(1));
    assert_eq!(pair.get(0, client, SOL_SOCKET, SO_BUF_LOCK), Ok(0));
    pair.set(0, client, SOL_SOCKET, SO_SNDBUF, 10_000)
        .expect("bytes");
    assert_eq!(pair.get(0, client, SOL_SOCKET, SO_BUF_LOCK), Ok(1));
    let set = pair.set(0, client, SOL_SOCKET, SO_BUF_LOCK, 4);
    assert_eq!(set, Err(Errno::EINVAL));
    pair.set(0, client, SOL_SOCKET, SO_BUF_LOCK, 2)
        .expect("the other");
    assert_eq!(pair.get(0, client, SOL_SOCKET, SO_BUF_LOCK), Ok(2));
    let now = pair.now;
    let cookies = [client, server].map(|fd| {
        let host = usize::from(fd == server && fd != client);
        pair.hosts[host].getsockopt(now, fd, SOL_SOCKET, SO_COOKIE, 8)
    });
    assert!(
        cookies
            .iter()
            .all(|cookie| cookie.as_ref().is_ok_and(|c| c.len() == 8))
    );
    let told = pair.hosts[0].getsockopt(now, client, SOL_SOCKET, SO_PEERNAME, 128);
    assert_eq!(told, Ok(to(Family::V4, 2, 80).to_bytes()));
    let peerless = pair.socket(0, Family::V4, 0);
    let told = pair.hosts[0].getsockopt(now, peerless, SOL_SOCKET, SO_PEERNAME, 128);
    assert_eq!(told, Err(Errno::ENOTCONN));
}
