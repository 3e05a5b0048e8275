//! `poll` and `epoll`: who is told what, and when.

mod pair;

use millrace_socket::linux::{
    EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLERR, EPOLLET, EPOLLEXCLUSIVE, EPOLLHUP,
    EPOLLIN, EPOLLONESHOT, EPOLLOUT, EPOLLRDHUP, POLLIN, POLLNVAL, SO_SNDBUF, SOL_SOCKET, SOL_TCP,
    TCP_NOTSENT_LOWAT,
};
use millrace_socket::{Call, EpollEvent, Errno, PollFd, Reply};
use pair::{Family, Pair, pattern};

fn wait(pair: &mut Pair, epoll: i32) -> Vec<(u32, u64)> {
    pair.epoll_events(1, epoll, 8)
}

fn control(pair: &mut Pair, epoll: i32, operation: i32, fd: i32, events: u32) -> Result<(), Errno> {
    pair.epoll_control(1, epoll, operation, fd, events)
}

/// A connection, and an epoll set of host 1 that watches its server for `events`.
fn watched(events: u32) -> (Pair, i32, i32, i32) {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    let epoll = pair.hosts[1].epoll_create(1).expect("room");
    control(&mut pair, epoll, EPOLL_CTL_ADD, server, events).expect("not watched yet");
    (pair, client, server, epoll)
}

// behaviour: EPL-1 EPL-35
#[test]
fn a_level_trigger_tells_as_long_as_it_is_so() {
    let (mut pair, client, server, epoll) = watched(EPOLLIN);
    assert_eq!(wait(&mut pair, epoll), []);
    pair.write(0, client, b"ab").expect("room");
    pair.run(20);
    let told = [(EPOLLIN, server as u64)];
    assert_eq!(wait(&mut pair, epoll), told);
    assert_eq!(wait(&mut pair, epoll), told);
    pair.read(1, server, 1).expect("data");
    assert_eq!(wait(&mut pair, epoll), told);
    pair.read(1, server, 1).expect("data");
    assert_eq!(wait(&mut pair, epoll), []);
}

// behaviour: EPL-35
#[test]
fn an_edge_trigger_tells_once_for_each_arrival() {
    let (mut pair, client, server, epoll) = watched(EPOLLIN | EPOLLET);
    for _ in 0..2 {
        pair.write(0, client, b"ab").expect("room");
        pair.run(20);
        assert_eq!(wait(&mut pair, epoll), [(EPOLLIN, server as u64)]);
        assert_eq!(wait(&mut pair, epoll), []);
    }
    control(&mut pair, epoll, EPOLL_CTL_MOD, server, EPOLLIN | EPOLLET).expect("watched");
    assert_eq!(wait(&mut pair, epoll).len(), 1, "a change looks anew");
}

// behaviour: EPL-34
#[test]
fn one_shot_tells_once_until_it_is_armed_again() {
    let (mut pair, client, server, epoll) = watched(EPOLLIN | EPOLLONESHOT);
    pair.write(0, client, b"ab").expect("room");
    pair.run(20);
    assert_eq!(wait(&mut pair, epoll).len(), 1);
    pair.write(0, client, b"cd").expect("room");
    pair.run(20);
    assert_eq!(wait(&mut pair, epoll), []);
    let events = EPOLLIN | EPOLLONESHOT;
    control(&mut pair, epoll, EPOLL_CTL_MOD, server, events).expect("watched");
    assert_eq!(wait(&mut pair, epoll).len(), 1);
}

// behaviour: EPL-10 EPL-25
#[test]
fn errors_and_hang_ups_are_told_unasked() {
    let (mut pair, client, server, epoll) = watched(0);
    pair.write(1, server, b"never read").expect("room");
    pair.run(20);
    pair.close(0, client).expect("open");
    pair.run(20);
    assert_eq!(
        wait(&mut pair, epoll),
        [(EPOLLERR | EPOLLHUP, server as u64)]
    );
}

// behaviour: EPL-20
#[test]
fn the_peers_end_is_told_as_readable_and_half_closed() {
    let (mut pair, client, server, epoll) = watched(EPOLLIN | EPOLLRDHUP | EPOLLET);
    pair.close(0, client).expect("open");
    pair.run(20);
    assert_eq!(
        wait(&mut pair, epoll),
        [(EPOLLIN | EPOLLRDHUP, server as u64)]
    );
    assert_eq!(wait(&mut pair, epoll), []);
}

// behaviour: A3-24 EPL-22
#[test]
fn room_to_send_is_told_after_there_was_none() {
    let (mut pair, client, server, epoll) = watched(EPOLLOUT | EPOLLET);
    assert_eq!(wait(&mut pair, epoll).len(), 1);
    pair.set(1, server, SOL_SOCKET, SO_SNDBUF, 20_000)
        .expect("an option");
    let data = pattern(500_000);
    let first = pair.write(1, server, &data).expect("room");
    assert!(first < data.len());
    assert_eq!(pair.write(1, server, &data), Err(Errno::EAGAIN));
    assert_eq!(wait(&mut pair, epoll), []);
    pair.run(100);
    assert_eq!(wait(&mut pair, epoll), [(EPOLLOUT, server as u64)]);
    let _ = client;
}

#[test]
fn a_low_water_mark_of_unsent_bytes_holds_the_trigger_back() {
    let (mut pair, _client, server, epoll) = watched(EPOLLOUT | EPOLLET);
    assert_eq!(wait(&mut pair, epoll).len(), 1);
    pair.set(1, server, SOL_TCP, TCP_NOTSENT_LOWAT, 1)
        .expect("an option");
    let data = pattern(60_000);
    pair.write(1, server, &data).expect("room");
    assert_eq!(
        pair.poll(1, server) & EPOLLOUT,
        0,
        "some of it was not sent"
    );
    pair.run(100);
    assert_eq!(wait(&mut pair, epoll), [(EPOLLOUT, server as u64)]);
}

// behaviour: EPL-27
#[test]
fn waiting_ends_with_an_event_or_with_time() {
    let (mut pair, client, server, epoll) = watched(EPOLLIN);
    let call = Call::EpollWait {
        fd: epoll,
        events_max: 1,
        timeout_ms: 50,
    };
    let waiting = pair.wait_call(1, call.clone());
    pair.run(49);
    assert_eq!(pair.result(1, waiting), None);
    pair.run(2);
    assert_eq!(pair.result(1, waiting), Some(Ok(Reply::Events(vec![]))));
    let waiting = pair.wait_call(1, call);
    pair.write(0, client, b"x").expect("room");
    pair.run(10);
    let event = EpollEvent {
        events: EPOLLIN,
        data: server as u64,
    };
    assert_eq!(
        pair.result(1, waiting),
        Some(Ok(Reply::Events(vec![event])))
    );
}

// behaviour: EPL-2 EPL-7 EPL-8 EPL-9 EPL-11 EPL-12
#[test]
fn the_errors_of_epoll_are_those_of_linux() {
    let (mut pair, _client, server, epoll) = watched(EPOLLIN);
    let host = &mut pair.hosts[1];
    assert_eq!(host.epoll_create(0), Err(Errno::EINVAL));
    assert_eq!(host.epoll_create1(1), Err(Errno::EINVAL));
    let now = pair.now;
    let missing = pair.hosts[1].epoll_ctl(now, epoll, EPOLL_CTL_MOD, server, None);
    assert_eq!(missing, Err(Errno::EFAULT));
    let mut ctl = |operation, epoll, fd, events| {
        control(&mut pair, epoll, operation, fd, events).map_err(Errno::name)
    };
    assert_eq!(ctl(EPOLL_CTL_ADD, epoll, server, 0), Err("EEXIST"));
    assert_eq!(ctl(EPOLL_CTL_ADD, epoll, 99, 0), Err("EBADF"));
    assert_eq!(ctl(EPOLL_CTL_ADD, 99, server, 0), Err("EBADF"));
    assert_eq!(ctl(EPOLL_CTL_ADD, epoll, epoll, 0), Err("EINVAL"));
    assert_eq!(ctl(EPOLL_CTL_ADD, server, epoll, 0), Err("EINVAL"));
    assert_eq!(ctl(7, epoll, server, 0), Err("EINVAL"));
    assert_eq!(ctl(EPOLL_CTL_DEL, epoll, server, 0), Ok(()));
    assert_eq!(ctl(EPOLL_CTL_DEL, epoll, server, 0), Err("ENOENT"));
    assert_eq!(ctl(EPOLL_CTL_MOD, epoll, server, 0), Err("ENOENT"));
    let exclusive = EPOLLEXCLUSIVE | EPOLLIN;
    assert_eq!(
        ctl(EPOLL_CTL_ADD, epoll, server, exclusive | EPOLLONESHOT),
        Err("EINVAL")
    );
    assert_eq!(ctl(EPOLL_CTL_ADD, epoll, server, exclusive), Ok(()));
    assert_eq!(ctl(EPOLL_CTL_MOD, epoll, server, EPOLLIN), Err("EINVAL"));
    let call = Call::EpollWait {
        fd: epoll,
        events_max: 0,
        timeout_ms: 0,
    };
    assert_eq!(pair.now_call(1, call), Err(Errno::EINVAL));
    let call = Call::EpollWait {
        fd: server,
        events_max: 1,
        timeout_ms: 0,
    };
    assert_eq!(pair.now_call(1, call), Err(Errno::EINVAL));
}

// behaviour: EPL-13 EPL-41
#[test]
fn a_set_in_a_set_is_readable_and_circles_are_refused() {
    let (mut pair, client, _server, inner) = watched(EPOLLIN);
    let outer = pair.hosts[1].epoll_create(1).expect("room");
    control(&mut pair, outer, EPOLL_CTL_ADD, inner, EPOLLIN).expect("not watched yet");
    assert_eq!(wait(&mut pair, outer), []);
    pair.write(0, client, b"x").expect("room");
    pair.run(20);
    assert_eq!(wait(&mut pair, outer), [(EPOLLIN, inner as u64)]);
    let circle = control(&mut pair, inner, EPOLL_CTL_ADD, outer, EPOLLIN);
    assert_eq!(circle, Err(Errno::ELOOP));
    let mut top = outer;
    for level in 0..4 {
        let next = pair.hosts[1].epoll_create(1).expect("room");
        let result = control(&mut pair, next, EPOLL_CTL_ADD, top, EPOLLIN);
        let expected = if level < 3 { Ok(()) } else { Err(Errno::ELOOP) };
        assert_eq!(result, expected, "level {level}");
        top = next;
    }
}

// behaviour: EPL-38
#[test]
fn an_exclusive_watch_wakes_one_waiter() {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let epoll = pair.hosts[1].epoll_create(1).expect("room");
        let events = EPOLLIN | EPOLLET | EPOLLEXCLUSIVE;
        control(&mut pair, epoll, EPOLL_CTL_ADD, server, events).expect("not watched");
        let call = Call::EpollWait {
            fd: epoll,
            events_max: 1,
            timeout_ms: -1,
        };
        waiting.push(pair.wait_call(1, call));
    }
    pair.write(0, client, b"x").expect("room");
    pair.run(20);
    let woken = waiting.iter().filter(|id| pair.result(1, **id).is_some());
    assert_eq!(woken.count(), 1);
}

// behaviour: EPL-39
#[test]
fn closing_a_watched_socket_takes_it_out_of_the_set() {
    let (mut pair, client, server, epoll) = watched(EPOLLIN);
    pair.write(0, client, b"x").expect("room");
    pair.run(20);
    pair.close(1, server).expect("open");
    assert_eq!(wait(&mut pair, epoll), []);
    pair.close(1, epoll).expect("open");
}

#[test]
fn poll_looks_at_many_and_ignores_negative_descriptors() {
    let (mut pair, client, server, _epoll) = watched(EPOLLIN);
    pair.write(0, client, b"x").expect("room");
    pair.run(20);
    let entry = |fd| PollFd {
        fd,
        events: POLLIN as u16,
        revents: 9,
    };
    let fds = vec![entry(-1), entry(server), entry(99)];
    let Ok(Reply::Polled(fds)) = pair.now_call(
        1,
        Call::Poll {
            fds,
            timeout_ms: -1,
        },
    ) else {
        panic!("waits");
    };
    let revents: Vec<u32> = fds.iter().map(|fd| u32::from(fd.revents)).collect();
    assert_eq!(revents, [0, POLLIN, POLLNVAL]);
    let fds = vec![PollFd {
        fd: client,
        events: POLLIN as u16,
        revents: 0,
    }];
    let started = pair.now;
    let polled = pair.call(
        0,
        100,
        Call::Poll {
            fds,
            timeout_ms: 30,
        },
    );
    assert_eq!(polled.map(|reply| reply.value()), Ok(0));
    assert_eq!(pair.now.since(started).as_nanos(), 30_000_000);
}
