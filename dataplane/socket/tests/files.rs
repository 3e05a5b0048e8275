//! Descriptors: copies, flags, owners that are told by signals; pipes and `splice`.

mod pair;

use millrace_socket::linux::{
    F_DUPFD, F_GETFD, F_GETFL, F_GETOWN, F_GETSIG, F_SETFD, F_SETFL, F_SETOWN, F_SETSIG,
    FD_CLOEXEC, FIOASYNC, FIOGETOWN, FIONBIO, FIONREAD, FIOSETOWN, MSG_DONTWAIT, MSG_ERRQUEUE,
    MSG_OOB, MSG_PEEK, MSG_TRUNC, MSG_WAITALL, O_ASYNC, O_CLOEXEC, O_NONBLOCK, O_RDWR, POLL_HUP,
    POLL_IN, POLL_OUT, POLLHUP, POLLIN, POLLOUT, SHUT_WR, SIGIO, SIOCGPGRP, SIOCSPGRP, SO_RCVTIMEO,
    SO_SNDBUF, SOCK_NONBLOCK, SOL_SOCKET, SPLICE_F_NONBLOCK,
};
use millrace_socket::{Call, Errno, Reply, Signal};
use pair::{FAMILIES, Family, Pair, pattern, to};

/// The state that `TCP_INFO` tells.
fn state(pair: &Pair, host: usize, fd: i32) -> u8 {
    pair.hosts[host].tcp_info(fd).expect("open").state
}

// behaviour: LAY-17
#[test]
fn a_socket_is_a_file_without_places() {
    for family in FAMILIES {
        let mut pair = Pair::new();
        let (client, server) = pair.nonblocking(family, 80);
        assert_eq!(pair.hosts[0].lseek(client), Err(Errno::ESPIPE));
        assert_eq!(pair.hosts[0].lseek(99), Err(Errno::EBADF));
        assert_eq!(pair.write(0, client, b"abc"), Ok(3));
        pair.run(20);
        assert_eq!(pair.poll(1, server) & POLLIN, POLLIN);
        let now = pair.now;
        assert_eq!(pair.hosts[1].ioctl(now, server, FIONREAD, 0), Ok(3));
        assert_eq!(pair.read(1, server, 9).as_deref(), Ok(&b"abc"[..]));
        let copy = pair.hosts[1].dup(server).expect("room");
        pair.close(1, server).expect("open");
        pair.run(20);
        assert_eq!(pair.write(1, copy, b"still"), Ok(5), "released by the last");
        pair.close(1, copy).expect("open");
        pair.run(20);
        assert_eq!(pair.read(0, client, 9).as_deref(), Ok(&b"still"[..]));
        assert_eq!(pair.read(0, client, 9).as_deref(), Ok(&b""[..]));
    }
}

#[test]
fn copies_take_the_number_they_are_told_and_close_what_was_there() {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    let now = pair.now;
    let spare = pair.socket(1, Family::V4, 0);
    let host = &mut pair.hosts[1];
    assert_eq!(host.dup2(now, server, server), Ok(server));
    assert_eq!(host.dup3(now, server, server, 0), Err(Errno::EINVAL));
    assert_eq!(host.dup3(now, server, spare, 1), Err(Errno::EINVAL));
    assert_eq!(host.dup2(now, 99, spare), Err(Errno::EBADF));
    assert_eq!(host.dup2(now, server, 5_000), Err(Errno::EBADF));
    assert_eq!(host.dup2(now, 99, 99), Err(Errno::EBADF));
    assert_eq!(host.dup3(now, server, spare, O_CLOEXEC), Ok(spare));
    assert_eq!(host.fcntl(spare, F_GETFD, 0), Ok(FD_CLOEXEC));
    assert_eq!(host.fcntl(server, F_GETFD, 0), Ok(0));
    assert_eq!(host.fcntl(server, F_SETFD, 1), Ok(0));
    assert_eq!(host.fcntl(server, F_DUPFD, -1), Err(Errno::EINVAL));
    assert_eq!(host.fcntl(server, F_DUPFD, 5_000), Err(Errno::EINVAL));
    assert_eq!(host.sockstat().used, 2, "the listener and the connection");
    pair.close(1, server).expect("open");
    assert_eq!(pair.write(1, spare, b"x"), Ok(1));
    pair.run(20);
    assert_eq!(pair.read(0, client, 9).as_deref(), Ok(&b"x"[..]));
    // The last descriptor goes when another file takes its number.
    let other = pair.socket(1, Family::V4, 0);
    let now = pair.now;
    assert_eq!(pair.hosts[1].dup2(now, other, spare), Ok(spare));
    pair.run(20);
    assert_eq!(pair.read(0, client, 9).as_deref(), Ok(&b""[..]), "a FIN");
}

/// What a signal with a number of its own says.
fn told(pair: &mut Pair, host: usize) -> Vec<i32> {
    let signals = std::iter::from_fn(|| pair.hosts[host].poll_signal());
    signals.map(|signal| signal.code).collect()
}

/// Makes 77 the owner of a file, who is told by signal 40.
fn own(pair: &mut Pair, host: usize, fd: i32) {
    let flags = i64::from(O_RDWR | O_NONBLOCK | O_ASYNC);
    for (command, argument) in [(F_SETOWN, 77), (F_SETSIG, 40), (F_SETFL, flags)] {
        let set = pair.hosts[host].fcntl(fd, command, argument);
        assert_eq!(set, Ok(0));
    }
}

// behaviour: SOK-21 OPT-47
#[test]
fn an_owner_is_told_instead_of_somebody_who_waits() {
    let mut pair = Pair::new();
    let listener = pair.listener(Family::V4, 80, 4);
    own(&mut pair, 1, listener);
    let flags = pair.hosts[1].fcntl(listener, F_GETFL, 0);
    assert_eq!(flags, Ok(O_RDWR | O_NONBLOCK | O_ASYNC));
    assert_eq!(pair.hosts[1].fcntl(listener, F_GETOWN, 0), Ok(77));
    assert_eq!(pair.hosts[1].fcntl(listener, F_GETSIG, 0), Ok(40));
    assert_eq!(
        pair.hosts[1].fcntl(listener, F_SETSIG, 65),
        Err(Errno::EINVAL)
    );
    let client = pair.socket(0, Family::V4, SOCK_NONBLOCK);
    own(&mut pair, 0, client);
    let sleeping = pair.epoll(1);
    pair.epoll_control(
        1,
        sleeping,
        millrace_socket::linux::EPOLL_CTL_ADD,
        listener,
        POLLIN,
    )
    .expect("not watched");
    let sleeping = pair.epoll_sleep(1, sleeping);
    let going = pair.connect(0, client, to(Family::V4, 2, 80));
    assert_eq!(going, Err(Errno::EINPROGRESS));
    pair.run(20);
    assert_eq!(told(&mut pair, 0), [POLL_OUT], "connected");
    let signal = pair.hosts[1].poll_signal();
    assert_eq!(
        signal,
        Some(Signal {
            owner: 77,
            number: 40,
            fd: listener,
            code: POLL_IN,
        })
    );
    assert!(
        pair.result(1, sleeping).is_some(),
        "who sleeps is woken too"
    );
    // Without a number of its own it is SIGIO, which says nothing and is pending once.
    pair.hosts[0].fcntl(client, F_SETSIG, 0).expect("a number");
    let server = pair.accept(1, listener).expect("connected");
    for _ in 0..2 {
        pair.write(1, server, b"x").expect("room");
        pair.run(20);
    }
    let signals: Vec<Signal> = std::iter::from_fn(|| pair.hosts[0].poll_signal()).collect();
    let plain = Signal {
        owner: 77,
        number: SIGIO,
        fd: 0,
        code: 0,
    };
    assert_eq!(signals, [plain]);
}

// behaviour: A9-18 SOK-21
#[test]
fn data_are_told_unless_somebody_reads_already() {
    let mut pair = Pair::new();
    let (client, server) = pair.connected(Family::V4, 80);
    own(&mut pair, 1, server);
    pair.write(0, client, b"x").expect("room");
    pair.run(20);
    assert_eq!(told(&mut pair, 1), [POLL_IN]);
    pair.read(1, server, 9).expect("data");
    let flags = i64::from(O_RDWR | O_ASYNC);
    pair.hosts[1].fcntl(server, F_SETFL, flags).expect("flags");
    let reading = pair.wait_call(1, Call::Read { fd: server, len: 9 });
    pair.write(0, client, b"x").expect("room");
    pair.run(20);
    assert!(pair.result(1, reading).is_some());
    assert_eq!(told(&mut pair, 1), []);
    // Room is told when there was none.
    pair.set(1, server, SOL_SOCKET, SO_SNDBUF, 20_000)
        .expect("an option");
    let flags = i64::from(O_RDWR | O_NONBLOCK | O_ASYNC);
    pair.hosts[1].fcntl(server, F_SETFL, flags).expect("flags");
    pair.write(1, server, b"little").expect("room");
    pair.run(50);
    assert_eq!(told(&mut pair, 1), [], "there was room all the time");
    pair.write(1, server, &pattern(500_000)).expect("room");
    pair.run(100);
    assert!(told(&mut pair, 1).contains(&POLL_OUT));
    let off = i64::from(O_RDWR | O_NONBLOCK);
    pair.hosts[1].fcntl(server, F_SETFL, off).expect("flags");
    pair.write(0, client, b"x").expect("room");
    pair.run(20);
    assert_eq!(told(&mut pair, 1), [], "without O_ASYNC");
}

// behaviour: A27-5
#[test]
fn the_peers_end_is_told_as_data_and_as_a_hang_up_when_ours_was_first() {
    for (first, code) in [(false, POLL_IN), (true, POLL_HUP)] {
        let mut pair = Pair::new();
        let (client, server) = pair.nonblocking(Family::V4, 80);
        own(&mut pair, 1, server);
        if first {
            pair.hosts[1]
                .shutdown(pair.now, server, SHUT_WR)
                .expect("open");
            pair.run(20);
            told(&mut pair, 1);
        }
        pair.close(0, client).expect("open");
        pair.run(20);
        assert_eq!(
            told(&mut pair, 1).first(),
            Some(&code),
            "ours first: {first}"
        );
    }
}

#[test]
fn owners_and_flags_can_be_set_by_ioctl() {
    let mut pair = Pair::new();
    let fd = pair.socket(0, Family::V4, 0);
    let now = pair.now;
    let host = &mut pair.hosts[0];
    for (set, get, owner) in [(FIOSETOWN, FIOGETOWN, 5), (SIOCSPGRP, SIOCGPGRP, -9)] {
        assert_eq!(host.ioctl(now, fd, set, owner), Ok(owner));
        assert_eq!(host.ioctl(now, fd, get, 0), Ok(owner));
        assert_eq!(host.fcntl(fd, F_GETOWN, 0), Ok(owner));
    }
    host.ioctl(now, fd, FIOASYNC, 1).expect("a flag");
    host.ioctl(now, fd, FIONBIO, 1).expect("a flag");
    let flags = host.fcntl(fd, F_GETFL, 0);
    assert_eq!(flags, Ok(O_RDWR | O_NONBLOCK | O_ASYNC));
    host.ioctl(now, fd, FIOASYNC, 0).expect("a flag");
    host.ioctl(now, fd, FIONBIO, 0).expect("a flag");
    assert_eq!(host.fcntl(fd, F_GETFL, 0), Ok(O_RDWR));
}

// behaviour: A33-2 A33-5
#[test]
fn accept_waits_as_long_as_the_socket_says_and_gives_the_oldest() {
    let mut pair = Pair::new();
    let listener = pair.listener(Family::V4, 80, 4);
    let mut timeout = 0i64.to_ne_bytes().to_vec();
    timeout.extend(30_000i64.to_ne_bytes());
    pair.hosts[1]
        .setsockopt(pair.now, listener, SOL_SOCKET, SO_RCVTIMEO, &timeout)
        .expect("an option");
    let accept = Call::Accept {
        fd: listener,
        flags: 0,
    };
    let started = pair.now;
    let nobody = pair.call(1, 1_000, accept.clone());
    assert_eq!(nobody, Err(Errno::EAGAIN));
    assert_eq!(pair.now.since(started).as_nanos(), 30_000_000);
    let clients = [80, 80].map(|port| pair.connecting(Family::V4, port));
    pair.run(20);
    for client in clients {
        let Ok(Reply::Accepted { fd, peer }) = pair.now_call(1, accept.clone()) else {
            panic!("nobody there");
        };
        assert_eq!(Ok(peer), pair.hosts[0].getsockname(client), "in order");
        assert_eq!(state(&pair, 1, fd), 1, "ESTABLISHED");
    }
    let queue = pair.hosts[1].listen_queue(listener).expect("listens");
    assert_eq!((queue.half_open, queue.completed), (0, 0), "all released");
}

// behaviour: STA-1 STA-3
#[test]
fn every_state_can_be_seen() {
    const ESTABLISHED: u8 = 1;
    let mut pair = Pair::new();
    let listener = pair.listener(Family::V4, 80, 4);
    assert_eq!(state(&pair, 1, listener), 10, "LISTEN");
    let client = pair.socket(0, Family::V4, SOCK_NONBLOCK);
    assert_eq!(state(&pair, 0, client), 7, "CLOSE");
    let going = pair.connect(0, client, to(Family::V4, 2, 80));
    assert_eq!(going, Err(Errno::EINPROGRESS));
    assert_eq!(state(&pair, 0, client), 2, "SYN_SENT");
    pair.run(7);
    let queue = pair.hosts[1].listen_queue(listener).expect("listens");
    assert_eq!(queue.half_open, 1, "NEW_SYN_RECV");
    pair.run(20);
    let server = pair.accept(1, listener).expect("connected");
    assert_eq!(state(&pair, 0, client), ESTABLISHED);
    assert_eq!(state(&pair, 1, server), ESTABLISHED);
    let shut = |pair: &mut Pair, host: usize, fd| {
        let now = pair.now;
        pair.hosts[host].shutdown(now, fd, SHUT_WR).expect("open");
    };
    shut(&mut pair, 0, client);
    assert_eq!(state(&pair, 0, client), 4, "FIN_WAIT1");
    pair.run(60);
    assert_eq!(state(&pair, 0, client), 5, "FIN_WAIT2");
    assert_eq!(state(&pair, 1, server), 8, "CLOSE_WAIT");
    shut(&mut pair, 1, server);
    assert_eq!(state(&pair, 1, server), 9, "LAST_ACK");
    pair.run(20);
    assert_eq!(pair.hosts[0].sockstat().time_wait, 1, "TIME_WAIT");
    assert_eq!(state(&pair, 1, server), 7, "CLOSE");
    // Both ends at once.
    let (client, server) = pair.nonblocking(Family::V4, 81);
    shut(&mut pair, 0, client);
    shut(&mut pair, 1, server);
    pair.run(7);
    assert_eq!(state(&pair, 0, client), 11, "CLOSING");
    // Both beginnings at once.
    let mut ends = Vec::new();
    for (host, own, peer) in [(0, 700, 800), (1, 800, 700)] {
        let place = to(Family::V4, host as u8 + 1, own);
        let fd = pair.bound(host, Family::V4, place, &[]).expect("free");
        let going = pair.connect(host, fd, to(Family::V4, 2 - host as u8, peer));
        assert_eq!(going, Err(Errno::EINPROGRESS));
        ends.push(fd);
    }
    pair.run(7);
    assert_eq!(state(&pair, 0, ends[0]), 3, "SYN_RECV");
    pair.run(20);
    assert_eq!(state(&pair, 0, ends[0]), ESTABLISHED);
    assert_eq!(state(&pair, 1, ends[1]), ESTABLISHED);
}

// behaviour: X3-2 X4-8
#[test]
fn the_flags_of_receiving_do_what_they_say() {
    let mut pair = Pair::new();
    let (client, server) = pair.connected(Family::V4, 80);
    let receive = |pair: &mut Pair, len, flags| {
        let got = pair.receive(1, server, len, flags)?;
        Ok::<_, Errno>((got.count, got.bytes))
    };
    assert_eq!(receive(&mut pair, 9, MSG_DONTWAIT), Err(Errno::EAGAIN));
    assert_eq!(receive(&mut pair, 9, MSG_ERRQUEUE), Err(Errno::EAGAIN));
    assert_eq!(receive(&mut pair, 9, MSG_OOB), Err(Errno::EINVAL));
    let waiting = Call::Receive {
        fd: server,
        len: 6,
        control_len: 0,
        flags: MSG_WAITALL,
    };
    let waiting = pair.wait_call(1, waiting);
    pair.write(0, client, b"abcd").expect("room");
    pair.run(20);
    assert_eq!(pair.result(1, waiting), None, "MSG_WAITALL");
    pair.write(0, client, b"efgh").expect("room");
    pair.run(20);
    assert!(pair.result(1, waiting).is_some());
    assert_eq!(receive(&mut pair, 1, MSG_PEEK), Ok((1, b"g".to_vec())));
    assert_eq!(receive(&mut pair, 1, MSG_TRUNC), Ok((1, vec![])));
    pair.send(0, client, b"!", MSG_OOB).expect("room");
    pair.run(20);
    assert_eq!(receive(&mut pair, 1, MSG_OOB), Ok((1, b"!".to_vec())));
    pair.close(0, client).expect("open");
    pair.run(20);
    // The end of the stream stands behind the data, and stays there.
    assert_eq!(receive(&mut pair, 9, 0), Ok((1, b"h".to_vec())));
    for flags in [MSG_PEEK, MSG_WAITALL, 0] {
        assert_eq!(receive(&mut pair, 9, flags), Ok((0, vec![])));
    }
}

#[test]
fn a_pipe_wakes_both_ends_and_ends_with_its_writer() {
    let mut pair = Pair::new();
    let host = &mut pair.hosts[0];
    assert_eq!(host.pipe(1), Err(Errno::EINVAL));
    let (reader, writer) = host.pipe(0).expect("room");
    assert_eq!(host.lseek(reader), Err(Errno::ESPIPE));
    let reading = pair.wait_call(0, Call::Read { fd: reader, len: 9 });
    assert_eq!(pair.write(0, writer, b"abc"), Ok(3));
    assert!(pair.result(0, reading).is_some());
    let full = pattern(65_536);
    assert_eq!(pair.write(0, writer, &full), Ok(full.len()));
    assert_eq!(pair.poll(0, writer) & POLLOUT, 0);
    let writing = pair.wait_call(
        0,
        Call::Write {
            fd: writer,
            data: full.clone(),
        },
    );
    assert_eq!(pair.read(0, reader, 70_000).as_ref(), Ok(&full));
    assert_eq!(pair.result(0, writing), Some(Ok(Reply::Count(full.len()))));
    assert_eq!(pair.read(0, writer, 9), Err(Errno::EBADF), "the wrong end");
    pair.close(0, writer).expect("open");
    assert_eq!(pair.read(0, reader, 70_000).map(|b| b.len()), Ok(65_536));
    assert_eq!(pair.poll(0, reader), POLLHUP);
    assert_eq!(pair.read(0, reader, 9).as_deref(), Ok(&b""[..]));
    let (reader, writer) = pair.hosts[0].pipe(O_NONBLOCK).expect("room");
    assert_eq!(pair.read(0, reader, 9), Err(Errno::EAGAIN));
    pair.close(0, reader).expect("open");
    assert_eq!(pair.write(0, writer, b"x"), Err(Errno::EPIPE));
}

#[test]
fn a_splice_to_a_socket_waits_until_everything_has_gone() {
    let mut pair = Pair::new();
    let (client, server) = pair.connected(Family::V4, 80);
    pair.set(0, client, SOL_SOCKET, SO_SNDBUF, 4_608)
        .expect("an option");
    let (reader, writer) = pair.hosts[0].pipe(0).expect("room");
    let data = pattern(60_000);
    assert_eq!(pair.write(0, writer, &data), Ok(60_000));
    let splice = |len, flags| Call::Splice {
        from: reader,
        to: client,
        len,
        flags,
    };
    let splicing = pair.wait_call(0, splice(60_000, SPLICE_F_NONBLOCK));
    let mut got = Vec::new();
    for _ in 0..60 {
        pair.run(20);
        let more = pair.receive(1, server, 60_000, MSG_DONTWAIT);
        got.extend(more.map(|received| received.bytes).unwrap_or_default());
    }
    assert_eq!(pair.result(0, splicing), Some(Ok(Reply::Count(60_000))));
    assert!(got == data, "other bytes");
    // The pipe side does not wait, the socket side would.
    let empty = pair.now_call(0, splice(1, SPLICE_F_NONBLOCK));
    assert_eq!(empty, Err(Errno::EAGAIN));
    let splicing = pair.wait_call(0, splice(9, 0));
    assert_eq!(pair.write(0, writer, b"late"), Ok(4));
    assert_eq!(pair.result(0, splicing), Some(Ok(Reply::Count(4))));
}
