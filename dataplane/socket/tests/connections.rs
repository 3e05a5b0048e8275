//! Opening, using and closing connections.

mod pair;

use millrace_socket::linux::{
    EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP, MSG_DONTWAIT, MSG_PEEK, MSG_TRUNC,
    MSG_WAITALL, SHUT_RD, SHUT_RDWR, SHUT_WR, SIOCINQ, SIOCOUTQ, SO_ACCEPTCONN, SO_ERROR,
    SO_LINGER, SO_RCVLOWAT, SO_RCVTIMEO, SOCK_NONBLOCK, SOL_SOCKET,
};
use millrace_socket::{Call, Errno, Reply, SocketAddress};
use pair::{FAMILIES, Family, Pair, any, is_fin, is_reset, pattern, payload, to};

// behaviour: A2-2 A2-3 RDV-8
#[test]
fn a_client_connects_and_bytes_go_both_ways() {
    for family in FAMILIES {
        let mut pair = Pair::new();
        let (client, server) = pair.connected(family, 80);
        let data = pattern(200_000);
        let write = Call::Write {
            fd: client,
            data: data.clone(),
        };
        let writing = pair.wait_call(0, write);
        let read = Call::Receive {
            fd: server,
            len: data.len(),
            control_len: 0,
            flags: MSG_WAITALL,
        };
        let Ok(Reply::Received(received)) = pair.call(1, 5_000, read) else {
            panic!("{family:?}");
        };
        assert!(received.bytes == data, "{family:?}: other bytes");
        pair.run(100);
        assert_eq!(pair.result(0, writing), Some(Ok(Reply::Count(data.len()))));
        assert_eq!(pair.write(1, server, b"answer"), Ok(6));
        pair.run(20);
        assert_eq!(pair.read(0, client, 100).as_deref(), Ok(&b"answer"[..]));
    }
}

// behaviour: HSH-1 CON-7, RTE-12, RTE-18
#[test]
fn both_ends_have_names() {
    for family in FAMILIES {
        let mut pair = Pair::new();
        let (client, server) = pair.connected(family, 80);
        let own = pair.hosts[0].getsockname(client).expect("a name");
        assert_eq!(pair.hosts[0].getpeername(client), Ok(to(family, 2, 80)));
        assert_eq!(pair.hosts[1].getpeername(server), Ok(own));
        assert_eq!(own, to(family, 1, own.port()));
        assert!((32_768..=60_999).contains(&own.port()));
        let fresh = pair.socket(0, family, 0);
        assert_eq!(pair.hosts[0].getsockname(fresh), Ok(any(family, 0)));
        assert_eq!(pair.hosts[0].getpeername(fresh), Err(Errno::ENOTCONN));
    }
}

// behaviour: CON-3 CON-22 EPL-26
#[test]
fn a_connect_that_does_not_block_is_told_by_poll() {
    let mut pair = Pair::new();
    pair.listener(Family::V4, 80, 1);
    let client = pair.socket(0, Family::V4, SOCK_NONBLOCK);
    assert_eq!(pair.poll(0, client), EPOLLOUT | EPOLLHUP | 0x100);
    let connect = Call::Connect {
        fd: client,
        address: to(Family::V4, 2, 80),
    };
    assert_eq!(pair.now_call(0, connect.clone()), Err(Errno::EINPROGRESS));
    assert_eq!(pair.now_call(0, connect.clone()), Err(Errno::EALREADY));
    assert_eq!(pair.poll(0, client), 0);
    assert_eq!(pair.write(0, client, b"early"), Err(Errno::EAGAIN));
    assert_eq!(pair.read(0, client, 1), Err(Errno::EAGAIN));
    pair.run(20);
    assert_eq!(pair.poll(0, client), EPOLLOUT | 0x100);
    assert_eq!(pair.get(0, client, SOL_SOCKET, SO_ERROR), Ok(0));
    assert_eq!(pair.now_call(0, connect.clone()), Ok(Reply::Done));
    assert_eq!(pair.now_call(0, connect), Err(Errno::EISCONN));
}

// behaviour: CON-21 CON-23
#[test]
fn a_refused_connect_fails_once_and_the_socket_can_try_again() {
    for family in FAMILIES {
        let mut pair = Pair::new();
        let client = pair.socket(0, family, 0);
        let connect = Call::Connect {
            fd: client,
            address: to(family, 2, 81),
        };
        assert_eq!(pair.call(0, 100, connect.clone()), Err(Errno::ECONNREFUSED));
        pair.listener(family, 81, 1);
        assert_eq!(pair.call(0, 100, connect), Ok(Reply::Done));
    }
}

// behaviour: EPL-25
#[test]
fn a_refused_connect_that_does_not_block_leaves_its_error() {
    let mut pair = Pair::new();
    let client = pair.socket(0, Family::V4, SOCK_NONBLOCK);
    let connect = Call::Connect {
        fd: client,
        address: to(Family::V4, 2, 81),
    };
    assert_eq!(pair.now_call(0, connect), Err(Errno::EINPROGRESS));
    pair.run(20);
    let expected = EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLRDHUP | 0x140;
    assert_eq!(pair.poll(0, client), expected);
    let error = pair.get(0, client, SOL_SOCKET, SO_ERROR);
    assert_eq!(error, Ok(Errno::ECONNREFUSED.number()));
    assert_eq!(pair.get(0, client, SOL_SOCKET, SO_ERROR), Ok(0));
}

#[test]
fn a_connect_that_nobody_answers_times_out() {
    let mut pair = Pair::new();
    pair.hosts[0]
        .set_sysctl("tcp_syn_retries", "1")
        .expect("set");
    let linear = pair.hosts[0].set_sysctl("net.ipv4.tcp_syn_linear_timeouts", "0");
    assert_eq!(linear, Ok(()));
    let client = pair.socket(0, Family::V4, 0);
    let connect = Call::Connect {
        fd: client,
        address: to(Family::V4, 9, 80),
    };
    pair.lose = [100, 0];
    assert_eq!(pair.call(0, 10_000, connect), Err(Errno::ETIMEDOUT));
    assert_eq!(pair.seen.len(), 2, "a SYN and one more");
}

// behaviour: STA-20 STA-21 RDV-12 LSN-29
#[test]
fn writing_and_reading_without_a_connection_fails() {
    let mut pair = Pair::new();
    let fd = pair.socket(0, Family::V4, 0);
    assert_eq!(pair.write(0, fd, b"x"), Err(Errno::EPIPE));
    assert_eq!(pair.read(0, fd, 1), Err(Errno::ENOTCONN));
    assert_eq!(pair.read(0, 99, 1), Err(Errno::EBADF));
    assert_eq!(
        pair.now_call(0, Call::Accept { fd, flags: 0 }),
        Err(Errno::EINVAL)
    );
    assert_eq!(
        pair.hosts[0].shutdown(pair.now, fd, SHUT_RDWR),
        Err(Errno::ENOTCONN)
    );
    // behaviour: STA-20
    assert_eq!(pair.hosts[0].shutdown(pair.now, fd, 3), Err(Errno::EINVAL));
}

// behaviour: LSN-27 LSN-28 LSN-30
#[test]
fn accept_waits_for_a_connection_and_tells_the_peer() {
    let mut pair = Pair::new();
    let listener = pair.listener(Family::V4, 80, 1);
    assert_eq!(pair.get(1, listener, SOL_SOCKET, SO_ACCEPTCONN), Ok(1));
    let accepting = pair.wait_call(
        1,
        Call::Accept {
            fd: listener,
            flags: SOCK_NONBLOCK,
        },
    );
    assert_eq!(pair.poll(1, listener), 0);
    let client = pair.socket(0, Family::V4, 0);
    let connect = Call::Connect {
        fd: client,
        address: to(Family::V4, 2, 80),
    };
    assert_eq!(pair.call(0, 100, connect), Ok(Reply::Done));
    pair.run(10);
    let own = pair.hosts[0].getsockname(client).expect("a name");
    let Some(Ok(Reply::Accepted { fd, peer })) = pair.result(1, accepting) else {
        panic!("not accepted");
    };
    assert_eq!(peer, own);
    assert_eq!(
        pair.read(1, fd, 1),
        Err(Errno::EAGAIN),
        "accept4 made it so"
    );
}

// behaviour: LSN-6 LSN-10 A18-15
#[test]
fn a_full_accept_queue_takes_no_more_connections() {
    let mut pair = Pair::new();
    let listener = pair.listener(Family::V4, 80, 1);
    let mut clients = Vec::new();
    for _ in 0..3 {
        let fd = pair.socket(0, Family::V4, SOCK_NONBLOCK);
        let connect = Call::Connect {
            fd,
            address: to(Family::V4, 2, 80),
        };
        assert_eq!(pair.now_call(0, connect), Err(Errno::EINPROGRESS));
        pair.run(100);
        clients.push(fd);
    }
    assert_ne!(
        pair.poll(0, clients[1]) & EPOLLOUT,
        0,
        "one more than the backlog"
    );
    assert_eq!(pair.poll(0, clients[2]), 0, "its SYN was dropped");
    let accept = Call::Accept {
        fd: listener,
        flags: 0,
    };
    assert!(pair.now_call(1, accept).is_ok());
    pair.run(2_000);
    assert_ne!(pair.poll(0, clients[2]) & EPOLLOUT, 0, "its SYN came again");
}

// behaviour: STA-26 A25-1 STA-32 EPL-20
#[test]
fn a_half_closed_connection_still_receives() {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    pair.hosts[0]
        .shutdown(pair.now, client, SHUT_WR)
        .expect("open");
    assert_eq!(pair.write(0, client, b"x"), Err(Errno::EPIPE));
    pair.run(20);
    let half = pair.poll(1, server);
    assert_eq!(
        half & (EPOLLIN | EPOLLRDHUP | EPOLLHUP),
        EPOLLIN | EPOLLRDHUP
    );
    assert_eq!(pair.read(1, server, 10).as_deref(), Ok(&[][..]));
    assert_eq!(pair.write(1, server, b"late"), Ok(4));
    pair.run(20);
    assert_eq!(pair.read(0, client, 10).as_deref(), Ok(&b"late"[..]));
    pair.close(1, server).expect("open");
    pair.run(20);
    assert_eq!(pair.read(0, client, 10).as_deref(), Ok(&[][..]));
    assert_ne!(pair.poll(0, client) & EPOLLHUP, 0);
}

// behaviour: RDV-12
#[test]
fn a_side_that_is_shut_for_reading_reads_the_end() {
    let mut pair = Pair::new();
    let (client, _server) = pair.nonblocking(Family::V4, 80);
    assert_eq!(pair.read(0, client, 10), Err(Errno::EAGAIN));
    pair.hosts[0]
        .shutdown(pair.now, client, SHUT_RD)
        .expect("open");
    assert_eq!(pair.read(0, client, 10).as_deref(), Ok(&[][..]));
    assert_eq!(pair.write(0, client, b"still"), Ok(5));
}

// behaviour: A25-8 STA-42
// behaviour: X8-25
#[test]
fn closing_with_unread_data_resets() {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    pair.write(0, client, b"never read").expect("room");
    pair.run(20);
    pair.close(1, server).expect("open");
    assert!(
        pair.seen
            .last()
            .is_some_and(|(from, packet)| *from == 1 && is_reset(packet))
    );
    pair.run(20);
    assert_eq!(pair.read(0, client, 10), Err(Errno::ECONNRESET));
    assert_eq!(
        pair.read(0, client, 10).as_deref(),
        Ok(&[][..]),
        "told once"
    );
    assert_eq!(pair.write(0, client, b"x"), Err(Errno::EPIPE));
}

// behaviour: A25-10
// behaviour: X8-25
#[test]
fn closing_with_no_time_to_linger_resets() {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    let mut linger = 1i32.to_ne_bytes().to_vec();
    linger.extend(0i32.to_ne_bytes());
    let host = &mut pair.hosts[1];
    host.setsockopt(pair.now, server, SOL_SOCKET, SO_LINGER, &linger)
        .expect("an option");
    pair.close(1, server).expect("open");
    assert!(pair.seen.last().is_some_and(|(_, packet)| is_reset(packet)));
    pair.run(20);
    assert_eq!(pair.read(0, client, 10), Err(Errno::ECONNRESET));
}

// behaviour: A25-13 STA-10
#[test]
fn a_lingering_close_waits_for_the_last_acknowledgment() {
    let mut pair = Pair::new();
    let (client, _server) = pair.connected(Family::V4, 80);
    let mut linger = 1i32.to_ne_bytes().to_vec();
    linger.extend(2i32.to_ne_bytes());
    let host = &mut pair.hosts[0];
    host.setsockopt(pair.now, client, SOL_SOCKET, SO_LINGER, &linger)
        .expect("an option");
    pair.write(0, client, &pattern(3_000)).expect("room");
    let closing = pair.wait_call(0, Call::Close { fd: client });
    assert_eq!(
        pair.read(0, client, 1),
        Err(Errno::EBADF),
        "the descriptor is gone"
    );
    pair.run(5);
    assert_eq!(pair.result(0, closing), None);
    pair.run(100);
    assert_eq!(pair.result(0, closing), Some(Ok(Reply::Done)));
}

#[test]
fn a_lingering_close_gives_up_when_its_time_is_over() {
    let mut pair = Pair::new();
    let (client, _server) = pair.connected(Family::V4, 80);
    let mut linger = 1i32.to_ne_bytes().to_vec();
    linger.extend(2i32.to_ne_bytes());
    let host = &mut pair.hosts[0];
    host.setsockopt(pair.now, client, SOL_SOCKET, SO_LINGER, &linger)
        .expect("an option");
    pair.lose = [100, 0];
    let closing = pair.wait_call(0, Call::Close { fd: client });
    pair.run(1_900);
    assert_eq!(pair.result(0, closing), None);
    pair.run(200);
    assert_eq!(pair.result(0, closing), Some(Ok(Reply::Done)));
}

// behaviour: STA-39
// behaviour: A25-4
#[test]
fn closing_a_listener_resets_who_waits_to_be_accepted() {
    let mut pair = Pair::new();
    let listener = pair.listener(Family::V4, 80, 4);
    let client = pair.socket(0, Family::V4, SOCK_NONBLOCK);
    let connect = Call::Connect {
        fd: client,
        address: to(Family::V4, 2, 80),
    };
    assert_eq!(pair.now_call(0, connect), Err(Errno::EINPROGRESS));
    pair.run(20);
    pair.close(1, listener).expect("open");
    pair.run(20);
    assert_eq!(pair.read(0, client, 1), Err(Errno::ECONNRESET));
    let again = pair.socket(0, Family::V4, 0);
    let connect = Call::Connect {
        fd: again,
        address: to(Family::V4, 2, 80),
    };
    assert_eq!(pair.call(0, 100, connect), Err(Errno::ECONNREFUSED));
}

// behaviour: OPT-34 OPT-38
#[test]
fn peeking_leaves_and_truncating_throws_away() {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    pair.write(0, client, b"0123456789").expect("room");
    pair.run(20);
    for _ in 0..2 {
        let peeked = pair.receive(1, server, 4, MSG_PEEK).expect("data");
        assert_eq!(peeked.bytes, b"0123");
    }
    let thrown = pair.receive(1, server, 4, MSG_TRUNC).expect("data");
    assert_eq!((thrown.count, thrown.bytes.len()), (4, 0));
    assert_eq!(pair.read(1, server, 100).as_deref(), Ok(&b"456789"[..]));
}

// behaviour: OPT-22 OPT-23 OPT-40 OPT-41 RDV-13
#[test]
fn a_read_waits_for_its_low_water_mark_but_not_for_ever() {
    let mut pair = Pair::new();
    let (client, server) = pair.connected(Family::V4, 80);
    pair.set(1, server, SOL_SOCKET, SO_RCVLOWAT, 6)
        .expect("an option");
    let reading = pair.wait_call(
        1,
        Call::Read {
            fd: server,
            len: 100,
        },
    );
    pair.write(0, client, b"1234").expect("room");
    pair.run(50);
    assert_eq!(pair.result(1, reading), None);
    pair.write(0, client, b"56").expect("room");
    pair.run(50);
    let Some(Ok(Reply::Received(received))) = pair.result(1, reading) else {
        panic!("still waits");
    };
    assert_eq!(received.bytes, b"123456");
    let mut timeout = 0i64.to_ne_bytes().to_vec();
    timeout.extend(30_000i64.to_ne_bytes());
    let host = &mut pair.hosts[1];
    host.setsockopt(pair.now, server, SOL_SOCKET, SO_RCVTIMEO, &timeout)
        .expect("an option");
    let started = pair.now;
    assert_eq!(
        pair.call(1, 100, Call::Read { fd: server, len: 1 }),
        Err(Errno::EAGAIN)
    );
    assert_eq!(pair.now.since(started).as_nanos(), 30_000_000);
    let flags = MSG_WAITALL | MSG_DONTWAIT;
    assert_eq!(pair.receive(1, server, 10, flags), Err(Errno::EAGAIN));
}

#[test]
fn a_signal_interrupts_a_call_that_waits() {
    let mut pair = Pair::new();
    let (_client, server) = pair.connected(Family::V4, 80);
    let reading = pair.wait_call(1, Call::Read { fd: server, len: 1 });
    let now = pair.now;
    assert_eq!(
        pair.hosts[1].interrupt(now, reading),
        Some(Err(Errno::EINTR))
    );
    assert_eq!(pair.hosts[1].interrupt(now, reading), None);
}

// behaviour: OPT-48
#[test]
fn queue_lengths_are_told_by_ioctl() {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    pair.write(0, client, &pattern(3_000)).expect("room");
    let now = pair.now;
    assert_eq!(pair.hosts[0].ioctl(now, client, SIOCOUTQ, 0), Ok(3_000));
    pair.run(50);
    let now = pair.now;
    assert_eq!(pair.hosts[0].ioctl(now, client, SIOCOUTQ, 0), Ok(0));
    assert_eq!(pair.hosts[1].ioctl(now, server, SIOCINQ, 0), Ok(3_000));
    pair.read(1, server, 1_000).expect("data");
    assert_eq!(pair.hosts[1].ioctl(now, server, SIOCINQ, 0), Ok(2_000));
    assert_eq!(
        pair.hosts[1].ioctl(now, server, 0x1234, 0),
        Err(Errno::ENOTTY)
    );
}

// behaviour: STA-43
// behaviour: X8-25
#[test]
fn connecting_to_nobody_disconnects() {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    let nobody = Call::Connect {
        fd: client,
        address: SocketAddress::Unspecified,
    };
    assert_eq!(pair.now_call(0, nobody), Ok(Reply::Done));
    assert_eq!(pair.hosts[0].getpeername(client), Err(Errno::ENOTCONN));
    pair.run(20);
    assert_eq!(pair.read(1, server, 1), Err(Errno::ECONNRESET));
    let again = Call::Connect {
        fd: client,
        address: to(Family::V4, 2, 80),
    };
    assert_eq!(pair.now_call(0, again.clone()), Err(Errno::EINPROGRESS));
    pair.run(20);
    assert_eq!(pair.now_call(0, again), Ok(Reply::Done));
}

// behaviour: RDV-9
#[test]
fn an_orderly_close_ends_with_one_fin_each_and_the_port_rests() {
    for family in FAMILIES {
        let mut pair = Pair::new();
        let (client, server) = pair.nonblocking(family, 80);
        pair.close(0, client).expect("open");
        pair.run(50);
        assert_eq!(pair.read(1, server, 1).as_deref(), Ok(&[][..]));
        pair.close(1, server).expect("open");
        pair.run(200);
        for host in 0..2 {
            let fins = pair
                .seen
                .iter()
                .filter(|(from, packet)| *from == host && is_fin(packet));
            assert_eq!(fins.count(), 1, "{family:?}");
        }
        assert!(pair.seen.iter().all(|(_, packet)| !is_reset(packet)));
        assert!(pair.seen.iter().all(|(_, packet)| payload(packet) == 0));
    }
}

// behaviour: RDV-11
#[test]
fn what_came_before_a_reset_is_read_before_its_error() {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    pair.write(0, client, b"never read").expect("room");
    pair.write(1, server, b"0123456789").expect("room");
    pair.run(20);
    pair.close(0, client).expect("open");
    pair.run(20);
    let now = pair.now;
    assert_eq!(pair.hosts[1].ioctl(now, server, SIOCINQ, 0), Ok(10));
    let peeked = pair.receive(1, server, 100, MSG_PEEK).expect("data");
    assert_eq!(peeked.bytes, b"never read");
    assert_eq!(pair.read(1, server, 4).as_deref(), Ok(&b"neve"[..]));
    assert_eq!(
        pair.receive(1, server, 100, MSG_WAITALL).map(|r| r.count),
        Ok(6)
    );
    assert_eq!(pair.read(1, server, 4), Err(Errno::ECONNRESET));
    assert_eq!(pair.read(1, server, 4).as_deref(), Ok(&[][..]));
}
