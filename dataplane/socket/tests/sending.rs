//! The send buffer, corks, notices and pipes.

mod pair;

use millrace_socket::linux::{
    F_GETPIPE_SZ, F_SETPIPE_SZ, FIONREAD, MSG_ERRQUEUE, MSG_MORE, MSG_TRUNC, MSG_ZEROCOPY,
    O_NONBLOCK, SCM_TSTAMP_ACK, SCM_TSTAMP_SCHED, SCM_TSTAMP_SND, SHUT_WR, SIOCOUTQ, SIOCOUTQNSD,
    SO_EE_ORIGIN_TIMESTAMPING, SO_EE_ORIGIN_ZEROCOPY, SO_SNDBUF, SO_TIMESTAMPING, SO_ZEROCOPY,
    SOF_TIMESTAMPING_OPT_ID, SOF_TIMESTAMPING_SOFTWARE, SOF_TIMESTAMPING_TX_ACK,
    SOF_TIMESTAMPING_TX_SCHED, SOF_TIMESTAMPING_TX_SOFTWARE, SOL_SOCKET, SOL_TCP,
    SPLICE_F_NONBLOCK, TCP_CORK, TCP_NODELAY,
};
use millrace_socket::{Call, Control, Errno, HostConfig, Reply};
use pair::{Family, Pair, pattern, payload};

/// Sizes of the segments with data that host 0 sent behind packet `from`.
fn sizes(pair: &Pair, from: usize) -> Vec<usize> {
    let sent = pair.seen.iter().skip(from).filter(|(host, _)| *host == 0);
    let sizes = sent.map(|(_, packet)| payload(packet));
    sizes.filter(|bytes| *bytes > 0).collect()
}

// behaviour: OPT-21
#[test]
fn the_kernel_doubles_a_send_buffer_within_limits() {
    let mut pair = Pair::new();
    let fd = pair.socket(0, Family::V4, 0);
    for (asked, got) in [
        (21_000, 42_000),
        (1, 4_608),
        (10_000_000, 425_984),
        (-1, 425_984),
    ] {
        pair.set(0, fd, SOL_SOCKET, SO_SNDBUF, asked)
            .expect("an option");
        assert_eq!(pair.get(0, fd, SOL_SOCKET, SO_SNDBUF), Ok(got), "{asked}");
    }
}

// behaviour: A3-13 A3-24
#[test]
fn a_full_send_buffer_takes_whole_buffers_and_then_refuses() {
    let mut pair = Pair::new();
    let (client, _server) = pair.nonblocking(Family::V4, 80);
    pair.set(0, client, SOL_SOCKET, SO_SNDBUF, 20_000)
        .expect("an option");
    pair.lose = [1_000, 0];
    let first = pair.write(0, client, &pattern(1_000_000)).expect("room");
    // One buffer of half the peer's window goes in as a whole: the limit is looked at before.
    assert!((30_000..120_000).contains(&first), "{first}");
    assert_eq!(pair.write(0, client, b"x"), Err(Errno::EAGAIN));
    let now = pair.now;
    assert_eq!(
        pair.hosts[0].ioctl(now, client, SIOCOUTQ, 0),
        Ok(first as i32)
    );
    let unsent = pair.hosts[0]
        .ioctl(now, client, SIOCOUTQNSD, 0)
        .expect("open");
    assert_eq!(
        unsent as usize,
        first - sizes(&pair, 0).iter().sum::<usize>()
    );
}

#[test]
fn a_blocked_write_ends_when_everything_is_queued() {
    let mut pair = Pair::new();
    let (client, server) = pair.connected(Family::V4, 80);
    pair.set(0, client, SOL_SOCKET, SO_SNDBUF, 5_000)
        .expect("an option");
    let data = pattern(300_000);
    let writing = pair.wait_call(
        0,
        Call::Write {
            fd: client,
            data: data.clone(),
        },
    );
    let mut got = Vec::new();
    for _ in 0..200 {
        pair.run(10);
        if pair.poll(1, server) & 1 != 0 {
            got.extend(pair.read(1, server, 100_000).expect("data"));
        }
    }
    assert!(got == data, "{} bytes", got.len());
    assert_eq!(pair.result(0, writing), Some(Ok(Reply::Count(300_000))));
}

// behaviour: OPT-8 OPT-46
#[test]
fn a_cork_holds_what_is_less_than_a_segment() {
    let mut pair = Pair::new();
    let (client, _server) = pair.nonblocking(Family::V4, 80);
    let mss = pair.get(0, client, SOL_TCP, 2).expect("a size") as usize;
    pair.set(0, client, SOL_TCP, TCP_CORK, 1)
        .expect("an option");
    let start = pair.seen.len();
    pair.write(0, client, &pattern(40)).expect("room");
    pair.run(50);
    pair.write(0, client, &pattern(mss + 10)).expect("room");
    pair.run(50);
    assert_eq!(sizes(&pair, start), [mss]);
    pair.set(0, client, SOL_TCP, TCP_CORK, 0)
        .expect("an option");
    pair.run(50);
    assert_eq!(sizes(&pair, start), [mss, 50]);
}

#[test]
fn a_cork_gives_after_a_timeout_and_nodelay_pulls_it() {
    let mut pair = Pair::new();
    let (client, _server) = pair.nonblocking(Family::V4, 80);
    pair.set(0, client, SOL_TCP, TCP_CORK, 1)
        .expect("an option");
    let start = pair.seen.len();
    pair.write(0, client, &pattern(40)).expect("room");
    pair.run(199);
    assert_eq!(sizes(&pair, start), []);
    pair.run(50);
    assert_eq!(sizes(&pair, start), [40]);
    pair.write(0, client, &pattern(41)).expect("room");
    pair.set(0, client, SOL_TCP, TCP_NODELAY, 1)
        .expect("an option");
    pair.run(1);
    assert_eq!(sizes(&pair, start), [40, 41]);
}

#[test]
fn more_to_come_is_held_until_it_comes_or_a_segment_does() {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    let start = pair.seen.len();
    pair.send(0, client, &pattern(40), MSG_MORE).expect("room");
    pair.run(50);
    assert_eq!(sizes(&pair, start), []);
    pair.send(0, client, &pattern(5), 0).expect("room");
    pair.run(50);
    assert_eq!(sizes(&pair, start), [45]);
    pair.send(0, client, &pattern(30), MSG_MORE).expect("room");
    pair.write(1, server, b"x").expect("room");
    pair.run(10);
    assert_eq!(sizes(&pair, start), [45, 30]);
}

// behaviour: OPT-9
#[test]
fn nagle_holds_a_second_small_write_until_the_first_is_acknowledged() {
    let mut pair = Pair::new();
    let (client, _server) = pair.nonblocking(Family::V4, 80);
    let start = pair.seen.len();
    pair.write(0, client, b"1").expect("room");
    pair.write(0, client, b"2").expect("room");
    pair.write(0, client, b"3").expect("room");
    pair.run(100);
    assert_eq!(sizes(&pair, start), [1, 2]);
}

// behaviour: A3-2 OPT-44 X4-14
#[test]
fn zero_copy_sends_are_told_when_their_memory_is_free() {
    for family in pair::FAMILIES {
        let mut pair = Pair::new();
        let (client, _server) = pair.nonblocking(family, 80);
        assert_eq!(
            pair.set(0, client, SOL_SOCKET, SO_ZEROCOPY, 2),
            Err(Errno::EINVAL)
        );
        pair.set(0, client, SOL_SOCKET, SO_ZEROCOPY, 1)
            .expect("an option");
        for _ in 0..3 {
            pair.send(0, client, &pattern(4_000), MSG_ZEROCOPY)
                .expect("room");
        }
        pair.send(0, client, &[], MSG_ZEROCOPY)
            .expect("nothing is sent");
        assert_eq!(pair.receive(0, client, 0, MSG_ERRQUEUE), Err(Errno::EAGAIN));
        pair.run(100);
        assert_ne!(pair.poll(0, client) & 8, 0, "POLLERR");
        let told = pair.receive(0, client, 0, MSG_ERRQUEUE).expect("a notice");
        let [Control::Error { error, level, .. }] = told.control[..] else {
            panic!("{told:?}");
        };
        assert_eq!(i32::from(error.origin), SO_EE_ORIGIN_ZEROCOPY);
        assert_eq!(
            (error.errno, error.info, error.data),
            (0, 0, 2),
            "all three in one"
        );
        assert_eq!(level, if family == Family::V4 { 0 } else { 41 });
        assert_eq!(pair.receive(0, client, 0, MSG_ERRQUEUE), Err(Errno::EAGAIN));
    }
}

// behaviour: OPT-30
#[test]
fn the_last_byte_of_a_send_is_stamped_when_it_leaves_and_arrives() {
    let mut pair = Pair::new();
    let (client, _server) = pair.nonblocking(Family::V4, 80);
    pair.write(0, client, &pattern(100)).expect("room");
    pair.run(100);
    let flags = SOF_TIMESTAMPING_TX_SCHED
        | SOF_TIMESTAMPING_TX_SOFTWARE
        | SOF_TIMESTAMPING_TX_ACK
        | SOF_TIMESTAMPING_SOFTWARE
        | SOF_TIMESTAMPING_OPT_ID;
    pair.set(0, client, SOL_SOCKET, SO_TIMESTAMPING, flags)
        .expect("an option");
    pair.set(0, client, SOL_TCP, TCP_NODELAY, 1)
        .expect("an option");
    let left = pair.now.as_nanos();
    pair.write(0, client, &pattern(2_000)).expect("room");
    pair.run(100);
    for kind in [SCM_TSTAMP_SCHED, SCM_TSTAMP_SND, SCM_TSTAMP_ACK] {
        let told = pair.receive(0, client, 0, MSG_ERRQUEUE).expect("a stamp");
        let [
            Control::Timestamping([at, 0, 0]),
            Control::Error { error, .. },
        ] = told.control[..]
        else {
            panic!("{told:?}");
        };
        assert_eq!(told.flags, MSG_ERRQUEUE | MSG_TRUNC);
        assert_eq!(i32::from(error.origin), SO_EE_ORIGIN_TIMESTAMPING);
        assert_eq!((error.info, error.data), (kind as u32, 1_999));
        let late = at - left;
        let expected = if kind == SCM_TSTAMP_ACK {
            10_000_000..=10_000_001
        } else {
            0..=0
        };
        assert!(expected.contains(&late), "{kind}: {late}");
    }
    let fresh = pair.socket(0, Family::V4, 0);
    let early = pair.set(0, fresh, SOL_SOCKET, SO_TIMESTAMPING, flags);
    assert_eq!(early, Err(Errno::EINVAL), "numbers need a connection");
}

#[test]
fn bytes_are_spliced_from_a_socket_into_a_pipe_and_out_of_one() {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    let (reader, writer) = pair.hosts[1].pipe(O_NONBLOCK).expect("room");
    let splice = |from, to, len| Call::Splice {
        from,
        to,
        len,
        flags: SPLICE_F_NONBLOCK,
    };
    assert_eq!(
        pair.now_call(1, splice(server, writer, 9)),
        Err(Errno::EAGAIN)
    );
    let data = pattern(5_000);
    pair.write(0, client, &data).expect("room");
    pair.run(50);
    assert_eq!(
        pair.now_call(1, splice(server, writer, 99)),
        Ok(Reply::Count(99))
    );
    assert_eq!(
        pair.now_call(1, splice(server, writer, 9_999)),
        Ok(Reply::Count(4_901))
    );
    let now = pair.now;
    assert_eq!(pair.hosts[1].ioctl(now, reader, FIONREAD, 0), Ok(5_000));
    assert_eq!(
        pair.now_call(1, splice(reader, server, 9_999)),
        Ok(Reply::Count(5_000))
    );
    assert_eq!(
        pair.now_call(1, splice(reader, server, 1)),
        Err(Errno::EAGAIN)
    );
    pair.run(100);
    assert!(pair.read(0, client, 9_999).as_deref() == Ok(&data[..]));
    assert_eq!(
        pair.now_call(1, splice(server, server, 1)),
        Err(Errno::EINVAL)
    );
    pair.close(0, client).expect("open");
    pair.run(50);
    assert_eq!(
        pair.now_call(1, splice(server, writer, 9)),
        Ok(Reply::Count(0))
    );
}

#[test]
fn a_pipe_holds_so_much_and_tells_of_its_ends() {
    let mut pair = Pair::new();
    let (reader, writer) = pair.hosts[0].pipe(O_NONBLOCK).expect("room");
    assert_eq!(pair.hosts[0].fcntl(writer, F_GETPIPE_SZ, 0), Ok(65_536));
    assert_eq!(pair.write(0, writer, &pattern(70_000)), Ok(65_536));
    assert_eq!(pair.write(0, writer, b"x"), Err(Errno::EAGAIN));
    assert_eq!(
        pair.read(0, reader, 65_000).map(|bytes| bytes.len()),
        Ok(65_000)
    );
    assert_eq!(pair.hosts[0].fcntl(writer, F_SETPIPE_SZ, 5_000), Ok(8_192));
    assert_eq!(pair.read(0, writer, 1), Err(Errno::EBADF));
    pair.close(0, writer).expect("open");
    assert_eq!(
        pair.read(0, reader, 9_999).map(|bytes| bytes.len()),
        Ok(536)
    );
    assert_eq!(pair.read(0, reader, 1).as_deref(), Ok(&[][..]));
    let (reader, writer) = pair.hosts[0].pipe(0).expect("room");
    pair.close(0, reader).expect("open");
    assert_eq!(pair.write(0, writer, b"x"), Err(Errno::EPIPE));
}

/// Whether the segments with data that host 0 sent behind packet `from` carry PSH.
fn pushes(pair: &Pair, from: usize) -> Vec<bool> {
    let sent = pair.seen.iter().skip(from).filter(|(host, _)| *host == 0);
    let data = sent.filter(|(_, packet)| payload(packet) > 0);
    data.map(|(_, packet)| pair::is_push(packet)).collect()
}

// behaviour: OPT-39 A3-21
#[test]
fn a_record_never_shares_a_segment_with_the_next() {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    pair.set(0, client, SOL_TCP, TCP_NODELAY, 1)
        .expect("an option");
    let mss = pair.get(0, client, SOL_TCP, 2).expect("a size") as usize;
    let start = pair.seen.len();
    let record = millrace_socket::linux::MSG_EOR;
    pair.write(0, client, &pattern(12 * mss)).expect("room");
    pair.send(0, client, &pattern(400), record).expect("room");
    pair.send(0, client, &pattern(100), record).expect("room");
    pair.write(0, client, &pattern(mss)).expect("room");
    pair.run(200);
    let sent = sizes(&pair, start);
    assert_eq!(sent[..12], [mss; 12]);
    assert_eq!(sent[12..], [400, 100, mss]);
    assert_eq!(
        pair.read(1, server, 99_999).map(|bytes| bytes.len()),
        Ok(13 * mss + 500)
    );
}

// behaviour: A3-28 A3-30
#[test]
fn a_send_ends_with_a_push_and_more_to_come_does_not() {
    let mut pair = Pair::new();
    let (client, _server) = pair.nonblocking(Family::V4, 80);
    pair.set(0, client, SOL_TCP, TCP_NODELAY, 1)
        .expect("an option");
    let mss = pair.get(0, client, SOL_TCP, 2).expect("a size") as usize;
    let start = pair.seen.len();
    pair.send(0, client, &pattern(mss), MSG_MORE).expect("room");
    pair.run(50);
    pair.send(0, client, &pattern(mss), 0).expect("room");
    pair.run(50);
    assert_eq!(pushes(&pair, start), [false, true]);
    // At this rate two segments make one packet, which has the bit on its last one.
    pair.send(0, client, &pattern(3 * mss), MSG_MORE)
        .expect("room");
    pair.run(50);
    assert_eq!(pushes(&pair, start)[2..], [false, true, false]);
}

// behaviour: A3-18
#[test]
fn a_zero_copy_message_of_many_pieces_is_cut_after_seventeen() {
    let mut pair = Pair::new();
    let (client, _server) = pair.nonblocking(Family::V4, 80);
    let start = pair.seen.len();
    let message = |flags| Call::SendMessage {
        fd: client,
        pieces: vec![vec![1]; 18],
        flags,
        address: None,
        control: Vec::new(),
    };
    assert_eq!(pair.now_call(0, message(0)), Ok(Reply::Count(18)));
    pair.run(50);
    assert_eq!(sizes(&pair, start), [18]);
    pair.set(0, client, SOL_SOCKET, SO_ZEROCOPY, 1)
        .expect("an option");
    assert_eq!(
        pair.now_call(0, message(MSG_ZEROCOPY)),
        Ok(Reply::Count(18))
    );
    pair.run(50);
    assert_eq!(sizes(&pair, start), [18, 17, 1]);
    let told = pair.receive(0, client, 0, MSG_ERRQUEUE).expect("a notice");
    assert_eq!(told.control.len(), 1, "one call, one notice");
}

/// `TCP_TX_DELAY`.
const TX_DELAY: i32 = 37;

// Linux: tcp_add_tx_delay; the link's fq is what waits. behaviour: A4-24 A19-11
#[test]
fn a_socket_with_a_delay_sends_late_where_the_link_has_fq_and_nowhere_else() {
    for has_fq in [false, true] {
        let mut pair = Pair::new();
        let (client, server) = pair.nonblocking(Family::V4, 80);
        if has_fq {
            pair.hosts[0]
                .set_sysctl("net.core.default_qdisc", "fq")
                .expect("a knob");
        }
        assert_eq!(pair.get(0, client, SOL_TCP, TX_DELAY), Ok(0));
        for wrong in [-1, 1 << 28] {
            let refused = pair.set(0, client, SOL_TCP, TX_DELAY, wrong);
            assert_eq!(refused, Err(Errno::EINVAL), "{wrong}");
        }
        pair.set(0, client, SOL_TCP, TX_DELAY, 300_000)
            .expect("an option");
        assert_eq!(pair.get(0, client, SOL_TCP, TX_DELAY), Ok(300_000));
        pair.write(0, client, b"late").expect("room");
        pair.run(250);
        assert_eq!(pair.read(1, server, 10).is_err(), has_fq);
        pair.run(100);
        assert_eq!(pair.read(1, server, 10).is_ok(), has_fq);
    }
}

// Whatever was written leaves before the FIN, though no packet buffer was free for it when the program
// closed: `close` only says that no more comes.
#[test]
fn what_found_no_packet_buffer_still_leaves_before_the_fin() {
    for how in ["shutdown", "close"] {
        let poor = HostConfig {
            buffers_max: 8,
            ..pair::host(1)
        };
        let mut pair = Pair::with(poor, pair::host(2));
        let (client, server) = pair.nonblocking(Family::V4, 80);
        let data = pattern(40_000);
        // The first flight is lost: its buffers are held until a timeout.
        pair.lose = [8, 0];
        let written = pair.write(0, client, &data).expect("room");
        assert!(written > 8 * 1_460, "{written} fit into the buffers");
        let now = pair.now;
        if how == "shutdown" {
            pair.hosts[0].shutdown(now, client, SHUT_WR).expect("open");
        } else {
            let closed = pair.now_call(0, Call::Close { fd: client });
            assert!(matches!(closed, Ok(Reply::Done)), "{closed:?}");
        }
        let mut got = Vec::new();
        for _ in 0..200 {
            pair.run(100);
            while let Ok(bytes) = pair.read(1, server, 100_000) {
                if bytes.is_empty() {
                    break;
                }
                got.extend(bytes);
            }
        }
        assert!(got == data[..written], "{how}: {} of {written}", got.len());
        assert_eq!(pair.read(1, server, 1), Ok(Vec::new()), "{how}: the end");
    }
}
