//! What packets of a socket look like: TOS, TTL, MSS; urgent data both ways.

mod pair;

use millrace_socket::linux::{
    EPOLLIN, EPOLLPRI, IP_MINTTL, IP_MTU_DISCOVER, IP_PMTUDISC_DONT, IP_TOS, IP_TTL, IPV6_TCLASS,
    IPV6_UNICAST_HOPS, MSG_OOB, MSG_PEEK, SIOCATMARK, SIOCINQ, SO_OOBINLINE, SO_RCVBUF,
    SOCK_NONBLOCK, SOL_IP, SOL_IPV6, SOL_SOCKET, SOL_TCP, SPLICE_F_NONBLOCK, TCP_DEFER_ACCEPT,
    TCP_MAXSEG, TCP_SAVE_SYN, TCP_SAVED_SYN, TCP_WINDOW_CLAMP,
};
use millrace_socket::{Call, Errno, Reply};
use pair::{Family, Pair, to};

// RFC 9293 section 3.9.1, 3.9.2: the application says TOS and TTL, and they are on the packets.
// behaviour: OPT-25 SOK-8 MUST-48 MUST-49 SHLD-22
#[test]
fn tos_and_ttl_of_a_socket_are_on_its_packets() {
    let mut pair = Pair::new();
    pair.listener(Family::V4, 80, 1);
    let fd = pair.socket(0, Family::V4, 0);
    assert_eq!(pair.get(0, fd, SOL_IP, IP_TTL), Ok(64));
    assert_eq!(pair.set(0, fd, SOL_IP, IP_TTL, 0), Err(Errno::EINVAL));
    assert_eq!(pair.set(0, fd, SOL_IP, IP_TTL, 256), Err(Errno::EINVAL));
    pair.set(0, fd, SOL_IP, IP_TTL, 9).expect("in range");
    pair.set(0, fd, SOL_IP, IP_TOS, 0x13).expect("a byte");
    assert_eq!(
        pair.get(0, fd, SOL_IP, IP_TOS),
        Ok(0x10),
        "without the ECN bits"
    );
    pair.set(0, fd, SOL_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
        .expect("a policy");
    let connect = Call::Connect {
        fd,
        address: to(Family::V4, 2, 80),
    };
    assert_eq!(
        pair.call(0, 100, connect),
        Ok(Reply::Done),
        "the checksums are right"
    );
    for (_, packet) in pair.seen.iter().filter(|(from, _)| *from == 0) {
        assert_eq!((packet[1], packet[8]), (0x10, 9));
        assert_eq!(packet[6] & 0x40, 0, "may be fragmented");
    }
    for (_, packet) in pair.seen.iter().filter(|(from, _)| *from == 1) {
        assert_eq!((packet[1], packet[8], packet[6]), (0, 64, 0x40));
    }
}

#[test]
fn traffic_class_and_hops_are_on_ipv6_packets() {
    let mut pair = Pair::new();
    pair.listener(Family::V6, 80, 1);
    let fd = pair.socket(0, Family::V6, 0);
    assert_eq!(
        pair.set(0, fd, SOL_IPV6, IPV6_TCLASS, 256),
        Err(Errno::EINVAL)
    );
    pair.set(0, fd, SOL_IPV6, IPV6_TCLASS, 0xb8)
        .expect("in range");
    pair.set(0, fd, SOL_IPV6, IPV6_UNICAST_HOPS, 5)
        .expect("in range");
    let connect = Call::Connect {
        fd,
        address: to(Family::V6, 2, 80),
    };
    assert_eq!(pair.call(0, 100, connect), Ok(Reply::Done));
    for (_, packet) in pair.seen.iter().filter(|(from, _)| *from == 0) {
        assert_eq!(packet[..2], [0x6b, 0x80]);
        assert_eq!(packet[7], 5);
    }
}

// behaviour: A6-15, X1-13
#[test]
fn packets_from_too_far_away_are_not_let_in() {
    let mut pair = Pair::new();
    let listener = pair.listener(Family::V4, 80, 1);
    pair.set(1, listener, SOL_IP, IP_MINTTL, 64)
        .expect("in range");
    let far = pair.socket(0, Family::V4, SOCK_NONBLOCK);
    pair.set(0, far, SOL_IP, IP_TTL, 63).expect("in range");
    let address = to(Family::V4, 2, 80);
    let connect = Call::Connect { fd: far, address };
    assert_eq!(pair.now_call(0, connect), Err(Errno::EINPROGRESS));
    pair.run(500);
    assert_eq!(pair.poll(0, far), 0, "nobody answers");
    let mut dropped = 0;
    pair.hosts[1].netstat(|name, value| {
        if name == "TcpExtTCPMinTTLDrop" {
            dropped = value;
        }
    });
    assert_eq!(dropped, 1);
    let near = pair.socket(0, Family::V4, 0);
    let connect = Call::Connect { fd: near, address };
    assert_eq!(pair.call(0, 100, connect), Ok(Reply::Done));
}

/// The MSS option of the last SYN from a host.
fn mss_told(pair: &Pair, host: usize) -> u16 {
    let mut syns = pair
        .seen
        .iter()
        .filter(|(from, packet)| *from == host && packet[33] & 2 != 0);
    let (_, syn) = syns.next_back().expect("a SYN");
    assert_eq!(syn[40..42], [2, 4]);
    u16::from_be_bytes([syn[42], syn[43]])
}

// behaviour: OPT-18, A17-8, A19-6
#[test]
fn a_listener_and_a_client_can_ask_for_smaller_segments() {
    let mut pair = Pair::new();
    let listener = pair.listener(Family::V4, 80, 1);
    for bad in [87, 32_768, -1] {
        assert_eq!(
            pair.set(1, listener, SOL_TCP, TCP_MAXSEG, bad),
            Err(Errno::EINVAL)
        );
    }
    pair.set(1, listener, SOL_TCP, TCP_MAXSEG, 1_100)
        .expect("in range");
    assert_eq!(pair.get(1, listener, SOL_TCP, TCP_MAXSEG), Ok(1_100));
    let client = pair.socket(0, Family::V4, 0);
    assert_eq!(pair.get(0, client, SOL_TCP, TCP_MAXSEG), Ok(536));
    let address = to(Family::V4, 2, 80);
    let connect = Call::Connect {
        fd: client,
        address,
    };
    assert_eq!(pair.call(0, 100, connect), Ok(Reply::Done));
    pair.run(20);
    assert_eq!((mss_told(&pair, 0), mss_told(&pair, 1)), (1_460, 1_100));
    let accept = Call::Accept {
        fd: listener,
        flags: 0,
    };
    let Ok(Reply::Accepted { fd: server, .. }) = pair.now_call(1, accept) else {
        panic!("nobody there");
    };
    // Both ends send no more than that, less the time stamps.
    assert_eq!(pair.get(0, client, SOL_TCP, TCP_MAXSEG), Ok(1_088));
    assert_eq!(pair.get(1, server, SOL_TCP, TCP_MAXSEG), Ok(1_088));
    assert_eq!(
        pair.hosts[1].tcp_info(server).map(|info| info.advmss),
        Ok(1_100)
    );
    let small = pair.socket(0, Family::V4, 0);
    pair.set(0, small, SOL_TCP, TCP_MAXSEG, 500)
        .expect("in range");
    let connect = Call::Connect { fd: small, address };
    assert_eq!(pair.call(0, 100, connect), Ok(Reply::Done));
    assert_eq!(mss_told(&pair, 0), 500);
}

// behaviour: OPT-24 OPT-33 RDV-5 RDV-6 RDV-7 EPL-23
#[test]
fn an_urgent_byte_is_read_apart_from_the_stream() {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    assert_eq!(
        pair.receive(1, server, 1, MSG_OOB),
        Err(Errno::EINVAL),
        "there is none"
    );
    assert_eq!(pair.send(0, client, b"abc", MSG_OOB), Ok(3));
    pair.run(20);
    let (_, sent) = pair
        .seen
        .iter()
        .rfind(|(from, _)| *from == 0)
        .expect("a segment");
    assert_eq!(sent[33] & 0x20, 0x20, "URG");
    assert_eq!(sent[38..40], [0, 3]);
    assert_eq!(
        pair.poll(1, server) & (EPOLLPRI | EPOLLIN),
        EPOLLPRI | EPOLLIN
    );
    let now = pair.now;
    assert_eq!(
        pair.hosts[1].ioctl(now, server, SIOCINQ, 0),
        Ok(2),
        "up to the mark"
    );
    assert_eq!(pair.hosts[1].ioctl(now, server, SIOCATMARK, 0), Ok(0));
    assert_eq!(pair.read(1, server, 100).as_deref(), Ok(&b"ab"[..]));
    assert_eq!(pair.hosts[1].ioctl(now, server, SIOCATMARK, 0), Ok(1));
    for flags in [MSG_OOB | MSG_PEEK, MSG_OOB] {
        let urgent = pair.receive(1, server, 9, flags).expect("here");
        assert_eq!(
            (urgent.bytes.as_slice(), urgent.flags),
            (&b"c"[..], MSG_OOB)
        );
    }
    assert_eq!(
        pair.receive(1, server, 1, MSG_OOB),
        Err(Errno::EINVAL),
        "it was taken"
    );
    assert_eq!(pair.poll(1, server) & (EPOLLPRI | EPOLLIN), 0);
    assert_eq!(pair.read(1, server, 1), Err(Errno::EAGAIN));
    assert_eq!(pair.write(0, client, b"def"), Ok(3));
    pair.run(20);
    assert_eq!(pair.read(1, server, 100).as_deref(), Ok(&b"def"[..]));
    let now = pair.now;
    assert_eq!(pair.hosts[1].ioctl(now, server, SIOCATMARK, 0), Ok(0));
}

#[test]
fn an_urgent_byte_can_stay_in_the_stream() {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    pair.set(1, server, SOL_SOCKET, SO_OOBINLINE, 1)
        .expect("an option");
    pair.send(0, client, b"abc", MSG_OOB).expect("room");
    pair.write(0, client, b"def").expect("room");
    pair.run(30);
    assert_eq!(pair.receive(1, server, 1, MSG_OOB), Err(Errno::EINVAL));
    assert_eq!(
        pair.read(1, server, 100).as_deref(),
        Ok(&b"ab"[..]),
        "stops before it"
    );
    assert_eq!(pair.read(1, server, 100).as_deref(), Ok(&b"cdef"[..]));
}

#[test]
fn a_splice_stops_at_an_urgent_byte() {
    let mut pair = Pair::new();
    let (client, server) = pair.connected(Family::V4, 80);
    pair.send(0, client, b"abc", MSG_OOB).expect("room");
    pair.run(20);
    let (_, writer) = pair.hosts[1].pipe(0).expect("room");
    let splice = |flags| Call::Splice {
        from: server,
        to: writer,
        len: 99,
        flags,
    };
    assert_eq!(pair.now_call(1, splice(0)), Ok(Reply::Count(2)));
    assert_eq!(pair.now_call(1, splice(0)), Ok(Reply::Count(0)));
    let pipe_only = pair.now_call(1, splice(SPLICE_F_NONBLOCK));
    assert_eq!(pipe_only, Ok(Reply::Count(0)), "it is about the pipe");
    let flag = i64::from(millrace_socket::linux::O_NONBLOCK);
    pair.hosts[1]
        .fcntl(server, millrace_socket::linux::F_SETFL, flag)
        .expect("flags");
    assert_eq!(pair.now_call(1, splice(0)), Err(Errno::EAGAIN));
}

// behaviour: OPT-12
#[test]
fn tcp_info_counts_what_came_and_went() {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    let mss = pair.get(0, client, SOL_TCP, TCP_MAXSEG).expect("a size") as usize;
    pair.write(0, client, &vec![1; 3 * mss]).expect("room");
    pair.run(100);
    let now = pair.now;
    pair.hosts[1].advance(now);
    let sender = pair.hosts[0].tcp_info(client).expect("open");
    let receiver = pair.hosts[1].tcp_info(server).expect("open");
    assert_eq!(
        (sender.state, sender.snd_mss as usize, sender.unacked),
        (1, mss, 0)
    );
    assert_eq!((sender.data_segs_out, receiver.data_segs_in), (3, 3));
    assert_eq!(
        (sender.bytes_sent, sender.bytes_retrans),
        (3 * mss as u64, 0)
    );
    assert_eq!((sender.delivered, sender.options), (4, 7));
    assert_eq!((sender.rtt, sender.min_rtt), (10_000, 10_000));
    assert_eq!(receiver.last_data_recv, 95);
    assert_eq!(receiver.bytes_received, 3 * mss as u64);
    let value = pair.hosts[0]
        .getsockopt(pair.now, client, SOL_TCP, 11, 20)
        .expect("an option");
    assert_eq!(
        value,
        sender.to_bytes()[..20],
        "as much as there is room for"
    );
}

#[test]
fn a_client_chooses_its_congestion_control() {
    let mut pair = Pair::new();
    pair.listener(Family::V4, 80, 1);
    let fd = pair.socket(0, Family::V4, 0);
    let now = pair.now;
    let name = 13;
    let host = &mut pair.hosts[0];
    let vegas = host.setsockopt(now, fd, SOL_TCP, name, b"vegas\0");
    assert_eq!(vegas, Err(Errno::ENOENT));
    host.setsockopt(now, fd, SOL_TCP, name, b"reno")
        .expect("there is one");
    let connect = Call::Connect {
        fd,
        address: to(Family::V4, 2, 80),
    };
    assert_eq!(pair.call(0, 100, connect), Ok(Reply::Done));
    let now = pair.now;
    let host = &mut pair.hosts[0];
    let value = host.getsockopt(now, fd, SOL_TCP, name, 16).expect("a name");
    assert_eq!(value, *b"reno\0\0\0\0\0\0\0\0\0\0\0\0");
    host.setsockopt(now, fd, SOL_TCP, name, b"cubic")
        .expect("a living connection changes too");
    let value = host.getsockopt(now, fd, SOL_TCP, name, 6).expect("a name");
    assert_eq!(value, *b"cubic\0");
}

// behaviour: OPT-20
#[test]
fn a_clamped_window_is_never_larger_and_never_taken_back() {
    let mut pair = Pair::new();
    pair.listener(Family::V4, 80, 1);
    let fd = pair.socket(0, Family::V4, 0);
    assert_eq!(pair.set(0, fd, SOL_TCP, TCP_WINDOW_CLAMP, 100), Ok(()));
    assert_eq!(
        pair.get(0, fd, SOL_TCP, TCP_WINDOW_CLAMP),
        Ok(1_152),
        "at least"
    );
    pair.set(0, fd, SOL_TCP, TCP_WINDOW_CLAMP, 5_000)
        .expect("in range");
    let connect = Call::Connect {
        fd,
        address: to(Family::V4, 2, 80),
    };
    assert_eq!(pair.call(0, 100, connect), Ok(Reply::Done));
    pair.run(20);
    let window = |packet: &[u8]| u32::from(u16::from_be_bytes([packet[34], packet[35]]));
    let last = |pair: &Pair| {
        let (_, packet) = pair
            .seen
            .iter()
            .rfind(|(from, _)| *from == 0)
            .expect("a segment");
        window(packet)
    };
    // Nothing to scale, and whole segments of what was announced.
    assert_eq!(last(&pair), 5_000 / 1_460 * 1_460);
    assert_eq!(
        pair.set(0, fd, SOL_TCP, TCP_WINDOW_CLAMP, 0),
        Err(Errno::EINVAL),
        "connected"
    );
    pair.set(0, fd, SOL_TCP, TCP_WINDOW_CLAMP, 3_000)
        .expect("in range");
    pair.write(0, fd, b"x").expect("room");
    assert_eq!(last(&pair), 5_000 / 1_460 * 1_460, "it was promised");
}

// behaviour: OPT-10
#[test]
fn a_deferred_connection_is_accepted_with_its_first_data_or_late() {
    let mut pair = Pair::new();
    let listener = pair.listener(Family::V4, 80, 4);
    pair.set(1, listener, SOL_TCP, TCP_DEFER_ACCEPT, 5)
        .expect("an option");
    assert_eq!(pair.get(1, listener, SOL_TCP, TCP_DEFER_ACCEPT), Ok(7));
    let address = to(Family::V4, 2, 80);
    let open = |pair: &mut Pair| {
        let fd = pair.socket(0, Family::V4, 0);
        let result = pair.call(0, 100, Call::Connect { fd, address });
        assert_eq!(result, Ok(Reply::Done));
        pair.run(20);
        fd
    };
    let accept = Call::Accept {
        fd: listener,
        flags: SOCK_NONBLOCK,
    };
    let flag = i64::from(SOCK_NONBLOCK);
    pair.hosts[1].fcntl(listener, 4, flag).expect("flags");
    let talker = open(&mut pair);
    assert_eq!(pair.now_call(1, accept.clone()), Err(Errno::EAGAIN));
    assert_eq!(pair.poll(1, listener), 0);
    pair.write(0, talker, b"hello").expect("room");
    pair.run(20);
    assert!(pair.now_call(1, accept.clone()).is_ok());
    open(&mut pair);
    pair.run(6_900);
    assert_eq!(pair.now_call(1, accept.clone()), Err(Errno::EAGAIN));
    pair.run(200);
    assert!(
        pair.now_call(1, accept).is_ok(),
        "it has waited long enough"
    );
}

// behaviour: OPT-49 LSN-20
#[test]
fn the_syn_of_a_connection_can_be_kept_and_is_told_once() {
    let mut pair = Pair::new();
    let listener = pair.listener(Family::V4, 80, 4);
    assert_eq!(
        pair.set(1, listener, SOL_TCP, TCP_SAVE_SYN, 3),
        Err(Errno::EINVAL)
    );
    pair.set(1, listener, SOL_TCP, TCP_SAVE_SYN, 1)
        .expect("in range");
    let fd = pair.socket(0, Family::V4, 0);
    let connect = Call::Connect {
        fd,
        address: to(Family::V4, 2, 80),
    };
    assert_eq!(pair.call(0, 100, connect), Ok(Reply::Done));
    pair.run(20);
    let accept = Call::Accept {
        fd: listener,
        flags: 0,
    };
    let Ok(Reply::Accepted { fd: server, .. }) = pair.now_call(1, accept) else {
        panic!("nobody there");
    };
    let now = pair.now;
    let host = &mut pair.hosts[1];
    let short = host.getsockopt(now, server, SOL_TCP, TCP_SAVED_SYN, 20);
    assert_eq!(short, Err(Errno::EINVAL));
    let syn = host.getsockopt(now, server, SOL_TCP, TCP_SAVED_SYN, 500);
    assert_eq!(syn.as_deref(), Ok(&pair.seen[0].1[..]));
    let again = pair.hosts[1].getsockopt(now, server, SOL_TCP, TCP_SAVED_SYN, 500);
    assert_eq!(again.as_deref(), Ok(&[][..]));
}

// behaviour: OPT-21
#[test]
fn half_of_a_receive_buffer_is_window() {
    let mut pair = Pair::new();
    let listener = pair.listener(Family::V4, 80, 4);
    for (asked, got) in [(1, 2_304), (10_000_000, 425_984), (8_192, 16_384)] {
        pair.set(1, listener, SOL_SOCKET, SO_RCVBUF, asked)
            .expect("an option");
        assert_eq!(pair.get(1, listener, SOL_SOCKET, SO_RCVBUF), Ok(got));
    }
    let fd = pair.socket(0, Family::V4, SOCK_NONBLOCK);
    let connect = Call::Connect {
        fd,
        address: to(Family::V4, 2, 80),
    };
    assert_eq!(pair.now_call(0, connect), Err(Errno::EINPROGRESS));
    pair.run(50);
    let window = |packet: &[u8]| u32::from(u16::from_be_bytes([packet[34], packet[35]]));
    let (_, syn_ack) = pair
        .seen
        .iter()
        .find(|(from, _)| *from == 1)
        .expect("a SYN-ACK");
    assert_eq!(window(syn_ack), 8_192 / 1_448 * 1_448, "whole segments");
    // Nobody reads: full segments fill more than half of their buffers, so a little more than half of
    // the memory ever comes (160 of 256 parts).
    let mut sent = 0;
    for _ in 0..50 {
        sent += pair.write(0, fd, &[7; 10_000]).unwrap_or(0);
        pair.run(100);
    }
    let Ok(Reply::Accepted { fd: server, .. }) = pair.now_call(
        1,
        Call::Accept {
            fd: listener,
            flags: 0,
        },
    ) else {
        panic!("nobody there");
    };
    let now = pair.now;
    let unread = pair.hosts[1].ioctl(now, server, SIOCINQ, 0).expect("open");
    assert!((8_192..=10_240).contains(&unread), "{unread} of {sent}");
}
