//! What a receive call takes, waits for and tells.

mod pair;

use millrace_base::Nanos;
use millrace_socket::linux::{
    EPOLLIN, EPOLLPRI, F_GETOWN, F_SETFL, F_SETOWN, F_SETSIG, MSG_CTRUNC, MSG_DONTWAIT,
    MSG_ERRQUEUE, MSG_OOB, MSG_PEEK, MSG_TRUNC, MSG_WAITALL, O_ASYNC, O_NONBLOCK, POLL_PRI, SIGIO,
    SIGURG, SIOCATMARK, SIOCINQ, SO_KEEPALIVE, SO_OOBINLINE, SO_PEEK_OFF, SO_RCVLOWAT, SO_RCVTIMEO,
    SO_SNDTIMEO, SO_TIMESTAMP, SO_TIMESTAMPING, SO_TIMESTAMPNS, SOF_TIMESTAMPING_RX_SOFTWARE,
    SOF_TIMESTAMPING_SOFTWARE, SOL_SOCKET, SOL_TCP, TCP_INQ, TCP_KEEPCNT, TCP_KEEPIDLE,
    TCP_KEEPINTVL, TCP_NODELAY, TCP_QUICKACK,
};
use millrace_socket::{Call, Control, Errno, Reply, Signal};
use pair::{FAMILIES, Family, Pair, payload};

fn timeval(micros: i64) -> Vec<u8> {
    let mut value = (micros / 1_000_000).to_ne_bytes().to_vec();
    value.extend((micros % 1_000_000).to_ne_bytes());
    value
}

/// Sets a timeout of a socket of host 1.
fn set_timeout(pair: &mut Pair, fd: i32, name: i32, micros: i64) -> Result<(), Errno> {
    let now = pair.now;
    pair.hosts[1].setsockopt(now, fd, SOL_SOCKET, name, &timeval(micros))
}

// behaviour: RDV-1 RDV-26 A11-23
#[test]
fn every_receive_call_returns_the_same_bytes_and_no_address() {
    for family in FAMILIES {
        let mut pair = Pair::new();
        let (client, server) = pair.nonblocking(family, 80);
        for _ in 0..3 {
            pair.write(0, client, b"abc").expect("room");
            pair.run(20);
            let peeked = pair.receive(1, server, 9, MSG_PEEK).expect("data");
            let received = pair.receive(1, server, 9, 0).expect("data");
            assert_eq!(peeked, received);
            assert_eq!((received.address, received.flags), (None, 0));
            assert_eq!(received.bytes, b"abc");
        }
        pair.write(0, client, b"abc").expect("room");
        pair.run(20);
        assert_eq!(pair.read(1, server, 9).as_deref(), Ok(&b"abc"[..]));
        assert_eq!(pair.read(1, server, 9), Err(Errno::EAGAIN));
        assert_eq!(pair.read(1, server, 0).as_deref(), Ok(&b""[..]));
    }
}

// behaviour: A11-4 RDV-2
#[test]
fn a_listener_has_nothing_to_read() {
    let mut pair = Pair::new();
    let listener = pair.listener(Family::V4, 80, 1);
    for flags in [0, MSG_PEEK, MSG_OOB, MSG_DONTWAIT] {
        let result = pair.receive(1, listener, 1, flags);
        assert_eq!(result, Err(Errno::ENOTCONN), "{flags:#x}");
    }
    let told = pair.receive(1, listener, 1, MSG_ERRQUEUE);
    assert_eq!(told, Err(Errno::EAGAIN), "the error queue comes first");
}

// behaviour: A11-6 OPT-23 X5-12
#[test]
fn a_read_waits_as_long_as_its_timeout_says() {
    let mut pair = Pair::new();
    let (_client, server) = pair.connected(Family::V4, 80);
    let started = pair.now;
    set_timeout(&mut pair, server, SO_RCVTIMEO, 250_000).expect("a time");
    let read = Call::Read { fd: server, len: 1 };
    assert_eq!(pair.call(1, 1_000, read.clone()), Err(Errno::EAGAIN));
    assert_eq!(pair.now.since(started), Nanos::from_millis(250));
    assert_eq!(
        pair.receive(1, server, 1, MSG_DONTWAIT),
        Err(Errno::EAGAIN),
        "at once"
    );
    for bad in [1_000_000i64, -1] {
        let mut value = 0i64.to_ne_bytes().to_vec();
        value.extend(bad.to_ne_bytes());
        let now = pair.now;
        let set = pair.hosts[1].setsockopt(now, server, SOL_SOCKET, SO_RCVTIMEO, &value);
        assert_eq!(set, Err(Errno::EDOM));
    }
    let now = pair.now;
    let told = pair.hosts[1].getsockopt(now, server, SOL_SOCKET, SO_RCVTIMEO, 16);
    assert_eq!(told, Ok(timeval(250_000)));
    set_timeout(&mut pair, server, SO_RCVTIMEO, 0).expect("for ever");
    let waiting = pair.wait_call(1, read);
    pair.run(600_000);
    assert_eq!(pair.result(1, waiting), None);
}

// behaviour: A11-10 RDV-10 A11-13 A11-25
#[test]
fn a_read_ends_as_soon_as_its_target_is_met() {
    let mut pair = Pair::new();
    let (client, server) = pair.connected(Family::V4, 80);
    let receive = |len, flags| Call::Receive {
        fd: server,
        len,
        control_len: 0,
        flags,
    };
    let all = pair.wait_call(1, receive(5, MSG_WAITALL));
    for byte in [b"1", b"2", b"3", b"4"] {
        pair.write(0, client, byte).expect("room");
        pair.run(50);
        assert_eq!(pair.result(1, all), None);
    }
    pair.write(0, client, b"56").expect("room");
    pair.run(50);
    let Some(Ok(Reply::Received(received))) = pair.result(1, all) else {
        panic!("it still waits");
    };
    assert_eq!(received.bytes, b"12345", "no more than asked for");
    let Ok(Reply::Received(rest)) = pair.now_call(1, receive(5, 0)) else {
        panic!("one byte is enough");
    };
    assert_eq!(rest.bytes, b"6");
    pair.set(1, server, SOL_SOCKET, SO_RCVLOWAT, 4)
        .expect("a mark");
    let some = pair.wait_call(1, receive(3, 0));
    pair.write(0, client, b"abc").expect("room");
    pair.run(50);
    let done = pair
        .result(1, some)
        .expect("the buffer is smaller than the mark");
    assert_eq!(done.map(|reply| reply.value()), Ok(3));
}

// behaviour: A11-14 A11-22 X3-8
#[test]
fn a_read_that_has_something_returns_it_and_the_reason_comes_next() {
    let mut pair = Pair::new();
    let (client, server) = pair.connected(Family::V4, 80);
    pair.set(1, server, SOL_SOCKET, SO_RCVLOWAT, 100)
        .expect("a mark");
    let reading = pair.wait_call(
        1,
        Call::Read {
            fd: server,
            len: 100,
        },
    );
    pair.write(0, client, b"last").expect("room");
    pair.run(50);
    assert_eq!(pair.result(1, reading), None, "below the mark");
    let now = pair.now;
    pair.hosts[0].shutdown(now, client, 1).expect("connected");
    pair.run(50);
    let Some(Ok(Reply::Received(received))) = pair.result(1, reading) else {
        panic!("the end of the stream wakes");
    };
    assert_eq!(received.bytes, b"last");
    for _ in 0..2 {
        assert_eq!(
            pair.read(1, server, 100).as_deref(),
            Ok(&b""[..]),
            "the end"
        );
    }
    // An interrupted read with something returns it, one without is interrupted.
    let (client, server) = pair.connected(Family::V4, 81);
    pair.write(0, client, b"some").expect("room");
    pair.run(50);
    let all = |len| Call::Receive {
        fd: server,
        len,
        control_len: 0,
        flags: MSG_WAITALL,
    };
    let waiting = pair.wait_call(1, all(9));
    let now = pair.now;
    let stopped = pair.hosts[1].interrupt(now, waiting).expect("it waits");
    assert_eq!(stopped.map(|reply| reply.value()), Ok(4));
    let waiting = pair.wait_call(1, all(9));
    let stopped = pair.hosts[1].interrupt(now, waiting);
    assert_eq!(stopped, Some(Err(Errno::EINTR)));
}

// behaviour: RDV-11
#[test]
fn what_came_before_a_timeout_is_read_before_its_error() {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    for (name, value) in [(TCP_KEEPIDLE, 5), (TCP_KEEPINTVL, 1), (TCP_KEEPCNT, 2)] {
        pair.set(1, server, SOL_TCP, name, value).expect("in range");
    }
    pair.set(1, server, SOL_SOCKET, SO_KEEPALIVE, 1)
        .expect("an option");
    pair.write(0, client, b"0123456789").expect("room");
    pair.run(50);
    pair.lose = [1_000, 1_000];
    pair.run(20_000);
    let now = pair.now;
    assert_eq!(pair.hosts[1].ioctl(now, server, SIOCINQ, 0), Ok(10));
    let peeked = pair.receive(1, server, 4, MSG_PEEK).expect("data");
    assert_eq!(peeked.bytes, b"0123");
    assert_eq!(pair.read(1, server, 6).as_deref(), Ok(&b"012345"[..]));
    assert_eq!(pair.read(1, server, 9).as_deref(), Ok(&b"6789"[..]));
    assert_eq!(pair.read(1, server, 9), Err(Errno::ETIMEDOUT), "once");
    assert_eq!(pair.read(1, server, 9).as_deref(), Ok(&b""[..]));
    // The tuple is free again, and the old socket leaves the new connection alone.
    pair.lose = [0, 0];
    pair.close(1, server).expect("open");
}

// behaviour: A11-9
#[test]
fn a_peek_moves_on_when_it_is_told_to() {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    assert_eq!(pair.get(1, server, SOL_SOCKET, SO_PEEK_OFF), Ok(-1));
    pair.write(0, client, b"0123456789").expect("room");
    pair.run(20);
    let peek = |pair: &mut Pair, len| {
        let received = pair.receive(1, server, len, MSG_PEEK);
        received.map(|received| String::from_utf8(received.bytes).expect("text"))
    };
    assert_eq!(peek(&mut pair, 4).as_deref(), Ok("0123"));
    assert_eq!(peek(&mut pair, 4).as_deref(), Ok("0123"), "nothing moved");
    pair.set(1, server, SOL_SOCKET, SO_PEEK_OFF, 2)
        .expect("an offset");
    assert_eq!(peek(&mut pair, 3).as_deref(), Ok("234"));
    assert_eq!(pair.get(1, server, SOL_SOCKET, SO_PEEK_OFF), Ok(5));
    assert_eq!(peek(&mut pair, 2).as_deref(), Ok("56"));
    assert_eq!(pair.read(1, server, 3).as_deref(), Ok(&b"012"[..]));
    assert_eq!(pair.get(1, server, SOL_SOCKET, SO_PEEK_OFF), Ok(4));
    assert_eq!(peek(&mut pair, 9).as_deref(), Ok("789"));
    assert_eq!(peek(&mut pair, 9), Err(Errno::EAGAIN), "nothing behind");
    assert_eq!(pair.read(1, server, 5).as_deref(), Ok(&b"34567"[..]));
    assert_eq!(pair.get(1, server, SOL_SOCKET, SO_PEEK_OFF), Ok(2));
    pair.set(1, server, SOL_SOCKET, SO_PEEK_OFF, -1)
        .expect("off");
    assert_eq!(peek(&mut pair, 9).as_deref(), Ok("89"));
}

// behaviour: A11-17
#[test]
fn truncated_bytes_are_gone_and_a_peek_at_them_is_not() {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    pair.write(0, client, b"0123456789").expect("room");
    pair.run(20);
    let only = pair
        .receive(1, server, 3, MSG_TRUNC | MSG_PEEK)
        .expect("data");
    assert_eq!((only.count, only.bytes.len(), only.flags), (3, 0, 0));
    let gone = pair.receive(1, server, 3, MSG_TRUNC).expect("data");
    assert_eq!((gone.count, gone.bytes.len(), gone.flags), (3, 0, 0));
    assert_eq!(pair.read(1, server, 99).as_deref(), Ok(&b"3456789"[..]));
}

// behaviour: OPT-29 A11-5 X3-17 A11-3
#[test]
fn what_is_left_unread_is_told_with_each_read() {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    for bad in [2, -1] {
        let set = pair.set(1, server, SOL_TCP, TCP_INQ, bad);
        assert_eq!(set, Err(Errno::EINVAL));
    }
    pair.write(0, client, b"0123456789").expect("room");
    pair.run(20);
    let plain = pair.receive(1, server, 1, 0).expect("data");
    assert_eq!(plain.control, [], "nobody asked");
    pair.set(1, server, SOL_TCP, TCP_INQ, 1).expect("a flag");
    assert_eq!(pair.get(1, server, SOL_TCP, TCP_INQ), Ok(1));
    for (len, left) in [(4, 5), (5, 0)] {
        let received = pair.receive(1, server, len, 0).expect("data");
        assert_eq!(received.control, [Control::Inq(left)]);
    }
    let now = pair.now;
    pair.hosts[0].shutdown(now, client, 1).expect("connected");
    pair.run(20);
    let end = pair.receive(1, server, 9, 0).expect("the end");
    assert_eq!((end.count, end.control), (0, vec![Control::Inq(1)]));
}

// behaviour: OPT-36 X3-17
#[test]
fn a_control_message_without_room_is_left_out_and_said_to_be() {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    pair.set(1, server, SOL_TCP, TCP_INQ, 1).expect("a flag");
    pair.write(0, client, b"0123456789").expect("room");
    pair.run(20);
    for (control_len, told, flags) in [
        (0, 0, MSG_CTRUNC),
        (15, 0, MSG_CTRUNC),
        (19, 1, MSG_CTRUNC),
        (20, 1, 0),
    ] {
        let call = Call::Receive {
            fd: server,
            len: 1,
            control_len,
            flags: 0,
        };
        let Ok(Reply::Received(received)) = pair.now_call(1, call) else {
            panic!("data waits");
        };
        assert_eq!((received.control.len(), received.flags), (told, flags));
        assert_eq!(received.count, 1, "the bytes come all the same");
        if control_len == 19 {
            let (_, _, data) = received.control[0].parts();
            assert_eq!(data.len(), 3, "as much as fits");
        }
    }
}

// behaviour: A11-21 X3-17
#[test]
fn a_read_tells_when_its_last_byte_came() {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    pair.set(1, server, SOL_SOCKET, SO_TIMESTAMPNS, 1)
        .expect("a flag");
    let rx = SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE;
    pair.set(1, server, SOL_SOCKET, SO_TIMESTAMPING, rx)
        .expect("flags");
    let mut came = Vec::new();
    for bytes in [b"aa", b"bb"] {
        pair.write(0, client, bytes).expect("room");
        came.push(pair.now.after(Nanos::from_millis(5)).as_nanos());
        pair.run(50);
    }
    let told = |at: u64| {
        let mut bytes = (at / 1_000_000_000).to_ne_bytes().to_vec();
        bytes.extend((at % 1_000_000_000).to_ne_bytes());
        let nanos = Control::Data {
            level: SOL_SOCKET,
            kind: SO_TIMESTAMPNS,
            bytes,
        };
        vec![nanos, Control::Timestamping([at, 0, 0])]
    };
    let peeked = pair.receive(1, server, 3, MSG_PEEK).expect("data");
    assert_eq!(peeked.control, told(came[1]), "of its last byte");
    let first = pair.receive(1, server, 1, 0).expect("data");
    assert_eq!(first.control, told(came[0]));
    let rest = pair.receive(1, server, 9, 0).expect("data");
    assert_eq!((rest.count, rest.control), (3, told(came[1])));
    // The other way to ask tells microseconds; nobody is told of what came before asking.
    pair.set(1, server, SOL_SOCKET, SO_TIMESTAMPING, 0)
        .expect("flags");
    pair.set(1, server, SOL_SOCKET, SO_TIMESTAMP, 0)
        .expect("a flag");
    pair.write(0, client, b"c").expect("room");
    pair.run(50);
    pair.set(1, server, SOL_SOCKET, SO_TIMESTAMP, 1)
        .expect("a flag");
    pair.run(1);
    assert_eq!(pair.get(1, server, SOL_SOCKET, SO_TIMESTAMPNS), Ok(0));
    assert_eq!(pair.get(1, server, SOL_SOCKET, SO_TIMESTAMP), Ok(1));
    pair.read(1, server, 9).expect("data");
    pair.write(0, client, b"d").expect("room");
    let came = pair.now.after(Nanos::from_millis(5)).as_micros();
    pair.run(50);
    let received = pair.receive(1, server, 9, 0).expect("data");
    let [Control::Data { kind, bytes, .. }] = &received.control[..] else {
        panic!("{received:?}");
    };
    assert_eq!(
        (*kind, bytes[8..].to_vec()),
        (SO_TIMESTAMP, (came % 1_000_000).to_ne_bytes().to_vec())
    );
}

/// The ACKs without data that host 1 sent behind packet `from`.
fn acks(pair: &Pair, from: usize) -> usize {
    let sent = pair.seen.iter().skip(from).filter(|(host, _)| *host == 1);
    sent.filter(|(_, packet)| payload(packet) == 0).count()
}

// behaviour: OPT-19
#[test]
fn quick_acks_are_a_switch_that_the_connection_turns_too() {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    assert_eq!(pair.get(1, server, SOL_TCP, TCP_QUICKACK), Ok(1));
    pair.set(1, server, SOL_TCP, TCP_QUICKACK, 0).expect("off");
    assert_eq!(pair.get(1, server, SOL_TCP, TCP_QUICKACK), Ok(0));
    let from = pair.seen.len();
    pair.write(0, client, b"a").expect("room");
    pair.run(20);
    assert_eq!(acks(&pair, from), 0, "it waits for an answer");
    pair.run(30);
    assert_eq!(acks(&pair, from), 1, "for 40 ms");
    pair.set(1, server, SOL_TCP, TCP_QUICKACK, 0).expect("off");
    pair.write(0, client, b"b").expect("room");
    pair.run(20);
    pair.set(1, server, SOL_TCP, TCP_QUICKACK, 1).expect("on");
    assert_eq!(acks(&pair, from), 1, "nothing was read");
    pair.read(1, server, 9).expect("data");
    assert_eq!(acks(&pair, from), 2, "at once");
    pair.set(1, server, SOL_TCP, TCP_QUICKACK, 0).expect("off");
    pair.write(0, client, b"c").expect("room");
    pair.run(20);
    pair.read(1, server, 9).expect("data");
    assert_eq!(acks(&pair, from), 2, "it waits for an answer");
    pair.set(1, server, SOL_TCP, TCP_QUICKACK, 2).expect("once");
    pair.run(1);
    assert_eq!(acks(&pair, from), 3, "at once");
    pair.set(1, server, SOL_TCP, TCP_QUICKACK, 0).expect("off");
    pair.set(0, client, SOL_TCP, TCP_NODELAY, 1).expect("on");
    for byte in [b"d", b"e"] {
        pair.write(0, client, byte).expect("room");
        pair.run(10);
    }
    assert_eq!(acks(&pair, from), 3);
    pair.read(1, server, 9).expect("data");
    assert_eq!(acks(&pair, from), 4, "of the second pushed segment");
    pair.set(1, server, SOL_TCP, TCP_QUICKACK, 2).expect("once");
    assert_eq!(pair.get(1, server, SOL_TCP, TCP_QUICKACK), Ok(0), "once");
}

// behaviour: MUST-32 MUST-33 OPT-47 X8-6
#[test]
fn an_owner_is_told_of_urgent_data_and_of_any_by_signals() {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    pair.send(0, client, b"a", MSG_OOB).expect("room");
    pair.run(20);
    assert_eq!(pair.hosts[1].poll_signal(), None, "nobody owns it");
    pair.hosts[1]
        .fcntl(server, F_SETOWN, 77)
        .expect("a process");
    assert_eq!(pair.hosts[1].fcntl(server, F_GETOWN, 0), Ok(77));
    pair.send(0, client, b"bc", MSG_OOB).expect("room");
    pair.run(20);
    let urgent = Signal {
        owner: 77,
        number: SIGURG,
        fd: 0,
        code: 0,
    };
    assert_eq!(pair.hosts[1].poll_signal(), Some(urgent));
    assert_eq!(pair.hosts[1].poll_signal(), None, "without O_ASYNC");
    let now = pair.now;
    assert_eq!(pair.poll(1, server) & EPOLLPRI, EPOLLPRI);
    assert_eq!(
        pair.hosts[1].ioctl(now, server, SIOCINQ, 0),
        Ok(1),
        "so much is before it"
    );
    let flags = i64::from(O_ASYNC | O_NONBLOCK);
    pair.hosts[1].fcntl(server, F_SETFL, flags).expect("flags");
    let io = |number, fd, code| Signal {
        owner: 77,
        number,
        fd,
        code,
    };
    pair.write(0, client, b"d").expect("room");
    pair.run(20);
    assert_eq!(pair.hosts[1].poll_signal(), Some(io(SIGIO, 0, 0)));
    assert_eq!(pair.hosts[1].poll_signal(), None);
    pair.hosts[1].fcntl(server, F_SETSIG, 40).expect("in range");
    assert_eq!(
        pair.hosts[1].fcntl(server, F_SETSIG, 65),
        Err(Errno::EINVAL)
    );
    pair.send(0, client, b"e", MSG_OOB).expect("room");
    pair.run(20);
    assert_eq!(pair.hosts[1].poll_signal(), Some(urgent));
    assert_eq!(pair.hosts[1].poll_signal(), Some(io(40, server, POLL_PRI)));
}

// behaviour: RCV-59
#[test]
fn less_than_the_low_water_mark_wakes_nobody() {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    pair.hosts[1].fcntl(server, F_SETOWN, 1).expect("a process");
    let flags = i64::from(O_ASYNC | O_NONBLOCK);
    pair.hosts[1].fcntl(server, F_SETFL, flags).expect("flags");
    pair.set(1, server, SOL_SOCKET, SO_RCVLOWAT, 5)
        .expect("a mark");
    pair.write(0, client, b"1234").expect("room");
    pair.run(50);
    assert_eq!(pair.poll(1, server) & EPOLLIN, 0);
    assert_eq!(pair.hosts[1].poll_signal(), None);
    pair.write(0, client, b"5").expect("room");
    pair.run(50);
    assert_eq!(pair.poll(1, server) & EPOLLIN, EPOLLIN);
    assert!(pair.hosts[1].poll_signal().is_some());
    // A lower mark finds that there is enough.
    pair.set(1, server, SOL_SOCKET, SO_RCVLOWAT, 9)
        .expect("a mark");
    assert_eq!(pair.poll(1, server) & EPOLLIN, 0);
    pair.set(1, server, SOL_SOCKET, SO_RCVLOWAT, 2)
        .expect("a mark");
    assert!(pair.hosts[1].poll_signal().is_some());
    assert_eq!(pair.get(1, server, SOL_SOCKET, SO_RCVLOWAT), Ok(2));
}

// behaviour: A11-7 A11-11 A11-16 A11-20 A16-21 MUST-30 MUST-31 RCV-60
#[test]
fn urgent_data_of_any_length_is_marked_by_its_last_byte() {
    for family in FAMILIES {
        let mut pair = Pair::new();
        let (client, server) = pair.nonblocking(family, 80);
        let urgent = pair::pattern(5_000);
        assert_eq!(pair.send(0, client, &urgent, MSG_OOB), Ok(5_000));
        pair.write(0, client, b"then").expect("room");
        pair.run(100);
        let at_mark = |pair: &mut Pair| {
            let now = pair.now;
            pair.hosts[1].ioctl(now, server, SIOCATMARK, 0)
        };
        assert_eq!(at_mark(&mut pair), Ok(0));
        let mut got = Vec::new();
        while at_mark(&mut pair) == Ok(0) {
            let read = pair.read(1, server, 1_777).expect("data before the mark");
            got.extend(read);
        }
        assert!(got == urgent[..4_999], "it stops before the last byte");
        let last = pair.receive(1, server, 9, MSG_OOB).expect("it is here");
        assert_eq!(last.bytes, urgent[4_999..]);
        assert_eq!(pair.read(1, server, 99).as_deref(), Ok(&b"then"[..]));
        assert_eq!(at_mark(&mut pair), Ok(0), "behind it");
        assert_eq!(pair.receive(1, server, 1, MSG_OOB), Err(Errno::EINVAL));
    }
}

// behaviour: MUST-62
#[test]
fn the_pointer_is_of_the_byte_behind_and_may_be_read_otherwise() {
    for (strict, before) in [("0", &b"ab"[..]), ("1", &b"abc"[..])] {
        let mut pair = Pair::new();
        pair.hosts[1]
            .set_sysctl("tcp_stdurg", strict)
            .expect("a knob");
        let (client, server) = pair.nonblocking(Family::V4, 80);
        pair.send(0, client, b"abc", MSG_OOB).expect("room");
        let (_, sent) = pair.seen.last().expect("a segment");
        assert_eq!(sent[38..40], [0, 3], "the first byte that is not urgent");
        pair.write(0, client, b"d").expect("room");
        pair.run(50);
        assert_eq!(pair.read(1, server, 9).as_deref(), Ok(before));
    }
}

#[test]
fn urgent_data_outside_the_window_is_not_believed() {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    pair.send(0, client, b"abc", MSG_OOB).expect("room");
    let (_, sent) = pair.seen.last().expect("a segment").clone();
    let mut far = sent;
    far[24] = far[24].wrapping_add(0x40);
    let now = pair.now;
    pair.hosts[1].packet_in(now, &far);
    assert_eq!(pair.poll(1, server) & EPOLLPRI, 0);
    pair.run(20);
    assert_eq!(pair.poll(1, server) & EPOLLPRI, EPOLLPRI);
    pair.set(1, server, SOL_SOCKET, SO_OOBINLINE, 1)
        .expect("a flag");
    assert_eq!(pair.read(1, server, 9).as_deref(), Ok(&b"ab"[..]));
}

// behaviour: A11-15 RDV-18 RDV-19
#[test]
fn a_read_acknowledges_what_waited_and_opens_the_window() {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    let data = pair::pattern(70_000);
    let mut sent = 0;
    while sent < data.len() {
        match pair.write(0, client, &data[sent..]) {
            Ok(count) => sent += count,
            Err(_) => pair.run(20),
        }
    }
    pair.run(1_000);
    let now = pair.now;
    let waits = pair.hosts[1].ioctl(now, server, SIOCINQ, 0).expect("open");
    assert!(waits > 60_000, "{waits} fill the window");
    let from = pair.seen.len();
    pair.read(1, server, 100).expect("data");
    assert_eq!(acks(&pair, from), 0, "a little room is not worth telling");
    pair.read(1, server, 60_000).expect("data");
    assert_eq!(acks(&pair, from), 1, "a window update");
}

// behaviour: X5-12 SND-3
#[test]
fn a_send_timeout_bounds_a_connect_and_a_blocked_write() {
    let mut pair = Pair::new();
    let (_client, server) = pair.connected(Family::V4, 80);
    set_timeout(&mut pair, server, SO_SNDTIMEO, 100_000).expect("a time");
    let started = pair.now;
    let write = Call::Write {
        fd: server,
        data: vec![1; 1 << 20],
    };
    let done = pair.call(1, 5_000, write.clone()).expect("some of it");
    assert!(done.value() > 0 && done.value() < 1 << 20);
    assert!(pair.now.since(started) >= Nanos::from_millis(100));
    while pair.call(1, 5_000, write.clone()).is_ok() {}
    let before = pair.now;
    assert_eq!(pair.call(1, 5_000, write), Err(Errno::EAGAIN));
    assert_eq!(pair.now.since(before), Nanos::from_millis(100));
    let fd = pair.socket(1, Family::V4, 0);
    set_timeout(&mut pair, fd, SO_SNDTIMEO, 100_000).expect("a time");
    pair.lose = [1_000, 1_000];
    let address = pair::to(Family::V4, 1, 9);
    let started = pair.now;
    let connect = Call::Connect { fd, address };
    assert_eq!(pair.call(1, 5_000, connect), Err(Errno::EINPROGRESS));
    assert_eq!(pair.now.since(started), Nanos::from_millis(100));
    let write = Call::Write {
        fd,
        data: b"early".to_vec(),
    };
    assert_eq!(pair.call(1, 5_000, write), Err(Errno::EAGAIN));
    assert_eq!(pair.now.since(started), Nanos::from_millis(200));
}
