//! `epoll` in depth: who is woken, in which order, how often, and what a set refuses.

mod pair;

use millrace_base::Rng;
use millrace_socket::linux::{
    EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLERR, EPOLLET, EPOLLEXCLUSIVE,
    EPOLLHUP, EPOLLIN, EPOLLONESHOT, EPOLLOUT, EPOLLRDHUP, EPOLLRDNORM, F_GETFD, F_GETFL,
    FD_CLOEXEC, MSG_OOB, O_RDWR, POLLIN, SHUT_WR, SO_LINGER, SO_RCVLOWAT, SOL_SOCKET,
};
use millrace_socket::{Call, Errno, PollFd, Reply};
use pair::{FAMILIES, Family, Pair};

const ADD: i32 = EPOLL_CTL_ADD;

/// A connection, and a set of host 1 that watches its server for `events`.
fn watched(events: u32) -> (Pair, i32, i32, i32) {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    let epoll = pair.epoll(1);
    pair.epoll_control(1, epoll, ADD, server, events)
        .expect("not watched yet");
    (pair, client, server, epoll)
}

/// `epoll_wait` of host 1.
fn events(pair: &mut Pair, epoll: i32) -> Vec<(u32, u64)> {
    pair.epoll_events(1, epoll, 64)
}

/// Which of these calls of host 1 have ended.
fn woken(pair: &mut Pair, calls: &[millrace_socket::CallId]) -> Vec<bool> {
    calls
        .iter()
        .map(|id| pair.result(1, *id).is_some())
        .collect()
}

/// Sends a byte from host 0 and lets it arrive.
fn tell(pair: &mut Pair, client: i32) {
    pair.write(0, client, b"x").expect("room");
    pair.run(20);
}

/// Two connections to one listener of host 1, not blocking: clients and servers.
fn several(pair: &mut Pair, count: usize) -> Vec<(i32, i32)> {
    let listener = pair.listener(Family::V4, 80, 64);
    (0..count)
        .map(|_| {
            let client = pair.connecting(Family::V4, 80);
            pair.run(20);
            let server = pair.accept(1, listener).expect("connected");
            (client, server)
        })
        .collect()
}

// behaviour: EPL-2 EPL-3
#[test]
fn a_set_is_a_file_that_is_readable_when_something_in_it_is_ready() {
    let (mut pair, client, server, _) = watched(EPOLLIN);
    let epoll = pair.hosts[1].epoll_create1(EPOLL_CLOEXEC).expect("room");
    assert_eq!(pair.hosts[1].fcntl(epoll, F_GETFD, 0), Ok(FD_CLOEXEC));
    assert_eq!(pair.hosts[1].fcntl(epoll, F_GETFL, 0), Ok(O_RDWR));
    let plain = pair.epoll(1);
    assert_eq!(pair.hosts[1].fcntl(plain, F_GETFD, 0), Ok(0));
    pair.epoll_control(1, epoll, ADD, server, EPOLLIN)
        .expect("not watched");
    assert_eq!(pair.poll(1, epoll), 0);
    tell(&mut pair, client);
    assert_eq!(pair.poll(1, epoll), EPOLLIN | EPOLLRDNORM);
    assert_eq!(
        pair.read(1, epoll, 8),
        Err(Errno::EINVAL),
        "it has no bytes"
    );
    for size in [-1, 0] {
        assert_eq!(pair.hosts[1].epoll_create(size), Err(Errno::EINVAL));
    }
}

// behaviour: EPL-6
#[test]
fn a_set_shows_its_watches_and_has_no_places_to_go_to() {
    let (mut pair, _client, server, epoll) = watched(EPOLLIN | EPOLLET);
    let outer = pair.epoll(1);
    pair.epoll_control(1, outer, ADD, epoll, EPOLLIN)
        .expect("not watched");
    assert_eq!(pair.hosts[1].lseek(epoll), Ok(0));
    assert_eq!(pair.hosts[1].lseek(server), Err(Errno::ESPIPE));
    let shown = pair.hosts[1].epoll_fdinfo(epoll).expect("a set");
    let events = EPOLLIN | EPOLLET | EPOLLERR | EPOLLHUP;
    let line = format!("tfd: {server:8} events: {events:8x} data: {server:16x}\n");
    assert!(shown.ends_with(&line), "{shown}");
    assert!(shown.starts_with("pos:\t0\nflags:\t02\n"), "{shown}");
    let shown = pair.hosts[1].epoll_fdinfo(outer).expect("a set");
    assert_eq!(shown.lines().count(), 3, "{shown}");
    assert_eq!(pair.hosts[1].epoll_fdinfo(server), Err(Errno::EINVAL));
}

// behaviour: EPL-14
#[test]
fn a_file_has_only_so_many_ways_up() {
    let (mut pair, _client, server, inner) = watched(EPOLLIN);
    // Sets that nobody watches are not counted.
    let mut direct = Vec::new();
    for _ in 0..60 {
        let set = pair.epoll(1);
        pair.epoll_control(1, set, ADD, server, EPOLLIN)
            .expect("not limited");
        direct.push(set);
    }
    let mut results = Vec::new();
    for _ in 0..501 {
        let outer = pair.epoll(1);
        results.push(pair.epoll_control(1, outer, ADD, inner, EPOLLIN));
    }
    assert!(results[..500].iter().all(Result::is_ok));
    assert_eq!(results[500], Err(Errno::EINVAL));
    let last = pair.epoll(1);
    assert_eq!(
        pair.epoll_control(1, last, ADD, direct[0], EPOLLIN),
        Err(Errno::EINVAL),
        "the socket has them already, whatever the way"
    );
    let alone = pair.epoll(1);
    pair.epoll_control(1, last, ADD, alone, EPOLLIN)
        .expect("nothing below it");
}

// behaviour: EPL-15
#[test]
fn what_is_ready_when_it_is_added_wakes_at_once() {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    tell(&mut pair, client);
    let epoll = pair.epoll(1);
    let sleeping = pair.epoll_sleep(1, epoll);
    let outer = pair.epoll(1);
    pair.epoll_control(1, outer, ADD, epoll, EPOLLIN | EPOLLET)
        .expect("not watched");
    pair.epoll_control(1, epoll, ADD, server, EPOLLIN)
        .expect("not watched");
    let Some(Ok(Reply::Events(told))) = pair.result(1, sleeping) else {
        panic!("sleeps on");
    };
    assert_eq!(told.len(), 1);
    assert_eq!(events(&mut pair, outer), [(EPOLLIN, epoll as u64)]);
}

// behaviour: EPL-16
#[test]
fn so_many_files_can_be_watched_and_no_more() {
    let mut pair = Pair::new();
    let fds: Vec<i32> = (0..3).map(|_| pair.socket(1, Family::V4, 0)).collect();
    let (first, second) = (pair.epoll(1), pair.epoll(1));
    let host = &mut pair.hosts[1];
    assert!(host.sysctl("fs.epoll.max_user_watches").is_some());
    host.set_sysctl("fs.epoll.max_user_watches", "2")
        .expect("a knob");
    let mut add = |epoll, fd| pair.epoll_control(1, epoll, ADD, fd, EPOLLIN);
    assert_eq!(add(first, fds[0]), Ok(()));
    assert_eq!(add(second, fds[0]), Ok(()));
    assert_eq!(add(first, fds[1]), Err(Errno::ENOSPC));
    assert_eq!(add(first, fds[0]), Err(Errno::EEXIST), "asked first");
    assert_eq!(pair.hosts[1].epoll_watches(), 2);
    pair.epoll_control(1, first, EPOLL_CTL_DEL, fds[0], 0)
        .expect("watched");
    assert_eq!(pair.hosts[1].epoll_watches(), 1);
    let mut add = |epoll, fd| pair.epoll_control(1, epoll, ADD, fd, EPOLLIN);
    assert_eq!(add(first, fds[1]), Ok(()));
    pair.close(1, second).expect("open");
    pair.close(1, fds[1]).expect("open");
    assert_eq!(pair.hosts[1].epoll_watches(), 0, "both are gone");
}

// behaviour: EPL-17 EPL-37
#[test]
fn news_come_to_the_set_without_polling_until_the_watch_is_removed() {
    let (mut pair, client, server, epoll) = watched(EPOLLIN | EPOLLET);
    let outer = pair.epoll(1);
    pair.epoll_control(1, outer, ADD, epoll, EPOLLIN)
        .expect("not watched");
    let sleeping = [pair.epoll_sleep(1, outer)];
    tell(&mut pair, client);
    assert_eq!(woken(&mut pair, &sleeping), [true]);
    tell(&mut pair, client);
    assert_eq!(events(&mut pair, epoll).len(), 1, "listed once");
    pair.epoll_control(1, epoll, EPOLL_CTL_DEL, server, 0)
        .expect("watched");
    let sleeping = [pair.epoll_sleep(1, epoll)];
    tell(&mut pair, client);
    assert_eq!(woken(&mut pair, &sleeping), [false]);
}

// behaviour: EPL-18
#[test]
fn a_listener_is_readable_when_somebody_waits_to_be_accepted() {
    for family in FAMILIES {
        let mut pair = Pair::new();
        let listener = pair.listener(family, 80, 4);
        let epoll = pair.epoll(1);
        let all = EPOLLIN | EPOLLRDNORM | EPOLLOUT | EPOLLRDHUP;
        pair.epoll_control(1, epoll, ADD, listener, all)
            .expect("not watched");
        assert_eq!(events(&mut pair, epoll), []);
        // A SYN alone is nobody yet: the third packet is lost.
        pair.lose = [0, 1];
        let client = pair.connecting(family, 80);
        pair.run(20);
        assert_eq!(events(&mut pair, epoll), []);
        pair.run(2_000);
        let told = [(EPOLLIN | EPOLLRDNORM, listener as u64)];
        assert_eq!(events(&mut pair, epoll), told);
        pair.accept(1, listener).expect("connected");
        assert_eq!(events(&mut pair, epoll), []);
        let _ = client;
    }
}

// behaviour: EPL-19 EPL-20
#[test]
fn a_connection_hangs_up_when_both_sides_have_ended() {
    let (mut pair, client, server, epoll) = watched(EPOLLRDHUP);
    pair.hosts[1]
        .shutdown(pair.now, server, SHUT_WR)
        .expect("open");
    pair.run(20);
    assert_eq!(events(&mut pair, epoll), [], "our half alone");
    pair.close(0, client).expect("open");
    pair.run(20);
    assert_eq!(
        events(&mut pair, epoll),
        [(EPOLLRDHUP | EPOLLHUP, server as u64)]
    );
    let fresh = pair.socket(1, Family::V4, 0);
    assert_eq!(pair.poll(1, fresh) & EPOLLHUP, EPOLLHUP, "never connected");
}

// behaviour: EPL-21 A9-17
#[test]
fn few_bytes_do_not_wake_until_the_end_comes() {
    let (mut pair, client, server, epoll) = watched(EPOLLIN | EPOLLET);
    pair.set(1, server, SOL_SOCKET, SO_RCVLOWAT, 6)
        .expect("an option");
    let sleeping = [pair.epoll_sleep(1, epoll)];
    pair.write(0, client, b"1234").expect("room");
    pair.run(20);
    assert_eq!(woken(&mut pair, &sleeping), [false]);
    assert_eq!(pair.poll(1, server) & EPOLLIN, 0);
    pair.write(0, client, b"56").expect("room");
    pair.run(20);
    assert_eq!(woken(&mut pair, &sleeping), [true]);
    assert_eq!(pair.read(1, server, 5).map(|b| b.len()), Ok(5));
    assert_eq!(pair.poll(1, server) & EPOLLIN, 0, "one is too few again");
    pair.hosts[0]
        .shutdown(pair.now, client, SHUT_WR)
        .expect("open");
    pair.run(20);
    assert_eq!(events(&mut pair, epoll), [(EPOLLIN, server as u64)]);
}

// behaviour: EPL-21
#[test]
fn an_urgent_byte_at_the_front_is_nothing_to_read() {
    let (mut pair, client, server, _) = watched(EPOLLIN);
    pair.send(0, client, b"!", MSG_OOB).expect("room");
    pair.run(20);
    assert_eq!(pair.poll(1, server) & EPOLLIN, 0, "only the urgent byte");
    tell(&mut pair, client);
    assert_eq!(pair.poll(1, server) & EPOLLIN, EPOLLIN);
}

// behaviour: EPL-29 EPL-42
#[test]
fn one_event_ends_one_wait_and_a_lasting_one_all() {
    for (how, ended) in [
        (EPOLLIN | EPOLLET, [true, false, false]),
        (EPOLLIN, [true, true, true]),
    ] {
        let (mut pair, client, _server, epoll) = watched(how);
        let sleeping: Vec<_> = (0..3).map(|_| pair.epoll_sleep(1, epoll)).collect();
        tell(&mut pair, client);
        assert_eq!(woken(&mut pair, &sleeping), ended, "oldest first");
    }
}

// behaviour: EPL-30
#[test]
fn a_signal_ends_a_wait_and_no_event_is_lost() {
    let (mut pair, client, server, epoll) = watched(EPOLLIN | EPOLLET);
    let sleeping = pair.epoll_sleep(1, epoll);
    let now = pair.now;
    let ended = pair.hosts[1].interrupt(now, sleeping);
    assert_eq!(ended, Some(Err(Errno::EINTR)));
    let fds = vec![PollFd {
        fd: server,
        events: POLLIN as u16,
        revents: 0,
    }];
    let polling = pair.wait_call(
        1,
        Call::Poll {
            fds,
            timeout_ms: 1_000,
        },
    );
    let ended = pair.hosts[1].interrupt(now, polling);
    assert_eq!(ended, Some(Err(Errno::EINTR)));
    tell(&mut pair, client);
    assert_eq!(events(&mut pair, epoll), [(EPOLLIN, server as u64)]);
}

// behaviour: EPL-31
#[test]
fn a_wait_sleeps_on_when_somebody_else_has_taken_the_event() {
    let (mut pair, client, server, epoll) = watched(EPOLLIN);
    let flags = i64::from(millrace_socket::linux::O_RDWR);
    pair.hosts[1]
        .fcntl(server, millrace_socket::linux::F_SETFL, flags)
        .expect("blocking");
    let reading = pair.wait_call(1, Call::Read { fd: server, len: 8 });
    let wait = Call::EpollWait {
        fd: epoll,
        events_max: 8,
        timeout_ms: 100,
    };
    let sleeping = pair.wait_call(1, wait);
    tell(&mut pair, client);
    assert!(pair.result(1, reading).is_some(), "it was first");
    assert_eq!(pair.result(1, sleeping), None);
    pair.run(79);
    assert_eq!(pair.result(1, sleeping), None);
    pair.run(2);
    assert_eq!(pair.result(1, sleeping), Some(Ok(Reply::Events(vec![]))));
}

// behaviour: EPL-32 EPL-37
#[test]
fn no_event_is_lost_in_a_storm() {
    for seed in 1..=8 {
        let mut rng = Rng::new(seed);
        let mut pair = Pair::new();
        let connections = several(&mut pair, 12);
        let epoll = pair.epoll(1);
        for (_, server) in &connections {
            pair.epoll_control(1, epoll, ADD, *server, EPOLLIN | EPOLLET)
                .expect("not watched");
        }
        let mut read = vec![0; connections.len()];
        let mut sent = vec![0; connections.len()];
        for _ in 0..120 {
            let at = rng.below(12) as usize;
            let bytes = vec![7; 1 + rng.below(3) as usize];
            let count = pair.write(0, connections[at].0, &bytes).expect("room");
            sent[at] += count;
            if rng.below(2) == 0 {
                pair.run(u64::from(rng.below(7)));
            }
            // Only what the set tells is read, and that to the end.
            let max = 1 + rng.below(3) as i32;
            drain(&mut pair, epoll, max, &connections, &mut read);
        }
        pair.run(100);
        while drain(&mut pair, epoll, 2, &connections, &mut read) > 0 {}
        assert_eq!(read, sent, "seed {seed}");
    }
}

/// Reads to the end whatever one `epoll_wait` tells of; how many that were.
fn drain(
    pair: &mut Pair,
    epoll: i32,
    max: i32,
    connections: &[(i32, i32)],
    read: &mut [usize],
) -> usize {
    let told = pair.epoll_events(1, epoll, max);
    for (_, mark) in &told {
        let fd = *mark as i32;
        let at = connections.iter().position(|(_, server)| *server == fd);
        let flags = millrace_socket::linux::MSG_DONTWAIT;
        while let Ok(received) = pair.receive(1, fd, 64, flags) {
            read[at.expect("one of ours")] += received.count;
        }
    }
    told.len()
}

// behaviour: EPL-33
#[test]
fn each_wait_takes_the_next_ones_of_those_that_are_ready() {
    let mut pair = Pair::new();
    let connections = several(&mut pair, 3);
    let epoll = pair.epoll(1);
    for (_, server) in &connections {
        pair.epoll_control(1, epoll, ADD, *server, EPOLLIN)
            .expect("not watched");
    }
    // They become ready in another order than they were added in.
    for at in [2, 0, 1] {
        tell(&mut pair, connections[at].0);
    }
    let order: Vec<u64> = [2, 0, 1].map(|at| connections[at].1 as u64).to_vec();
    for round in 0..2 {
        for mark in &order {
            let told = pair.epoll_events(1, epoll, 1);
            assert_eq!(told, [(EPOLLIN, *mark)], "round {round}");
        }
    }
    let two = pair.epoll_events(1, epoll, 2);
    assert_eq!(two.iter().map(|e| e.1).collect::<Vec<_>>(), order[..2]);
    // What is no longer so is not told.
    pair.read(1, order[2] as i32, 8).expect("a byte");
    let rest = pair.epoll_events(1, epoll, 3);
    assert_eq!(rest.iter().map(|e| e.1).collect::<Vec<_>>(), order[..2]);
}

// behaviour: EPL-36
#[test]
fn what_is_not_asked_for_does_not_wake() {
    let (mut pair, client, server, epoll) = watched(EPOLLRDHUP | EPOLLET);
    let sleeping = [pair.epoll_sleep(1, epoll)];
    tell(&mut pair, client);
    assert_eq!(woken(&mut pair, &sleeping), [false]);
    let events_wanted = EPOLLIN | EPOLLONESHOT;
    pair.epoll_control(1, epoll, EPOLL_CTL_MOD, server, events_wanted)
        .expect("watched");
    assert_eq!(woken(&mut pair, &sleeping), [true]);
    // It has fired: it is off, even for hang-ups.
    let sleeping = [pair.epoll_sleep(1, epoll)];
    pair.close(0, client).expect("open");
    pair.run(20);
    assert_eq!(woken(&mut pair, &sleeping), [false]);
}

/// `count` sets that watch one file exclusively, each with a sleeper.
fn exclusive(pair: &mut Pair, fd: i32, count: usize) -> Vec<millrace_socket::CallId> {
    (0..count)
        .map(|_| {
            let epoll = pair.epoll(1);
            let how = EPOLLIN | EPOLLET | EPOLLEXCLUSIVE;
            pair.epoll_control(1, epoll, ADD, fd, how)
                .expect("not watched");
            pair.epoll_sleep(1, epoll)
        })
        .collect()
}

// behaviour: EPL-38 EPL-42 LSN-31
#[test]
fn an_exclusive_watch_passes_an_event_by_that_another_takes() {
    let mut pair = Pair::new();
    let listener = pair.listener(Family::V4, 80, 8);
    let sleeping = exclusive(&mut pair, listener, 3);
    let shared = pair.epoll(1);
    pair.epoll_control(1, shared, ADD, listener, EPOLLIN)
        .expect("not watched");
    let all = pair.epoll_sleep(1, shared);
    let _first = pair.connecting(Family::V4, 80);
    pair.run(20);
    assert_eq!(woken(&mut pair, &sleeping), [true, false, false]);
    assert_eq!(woken(&mut pair, &[all]), [true], "it shares with nobody");
    let _second = pair.connecting(Family::V4, 80);
    pair.run(20);
    assert_eq!(
        woken(&mut pair, &sleeping),
        [false, true, false],
        "the first one is not waiting"
    );
}

// behaviour: EPL-43
#[test]
fn a_reset_wakes_everybody() {
    let mut pair = Pair::new();
    let (client, server) = pair.nonblocking(Family::V4, 80);
    let sleeping = exclusive(&mut pair, server, 3);
    let mut linger = 1i32.to_ne_bytes().to_vec();
    linger.extend(0i32.to_ne_bytes());
    pair.hosts[0]
        .setsockopt(pair.now, client, SOL_SOCKET, SO_LINGER, &linger)
        .expect("an option");
    pair.close(0, client).expect("open");
    pair.run(20);
    assert_eq!(woken(&mut pair, &sleeping), [true, true, true]);
}

// behaviour: EPL-44 EPL-11
#[test]
fn a_change_looks_anew_and_a_removed_watch_is_gone() {
    let (mut pair, client, server, epoll) = watched(EPOLLOUT | EPOLLET);
    tell(&mut pair, client);
    assert_eq!(events(&mut pair, epoll), [(EPOLLOUT, server as u64)]);
    assert_eq!(events(&mut pair, epoll), []);
    pair.epoll_control(1, epoll, EPOLL_CTL_MOD, server, EPOLLIN | EPOLLET)
        .expect("watched");
    assert_eq!(events(&mut pair, epoll), [(EPOLLIN, server as u64)]);
    pair.epoll_control(1, epoll, EPOLL_CTL_MOD, server, EPOLLRDHUP)
        .expect("watched");
    assert_eq!(events(&mut pair, epoll), [], "neither is asked for");
    pair.epoll_control(1, epoll, EPOLL_CTL_MOD, server, EPOLLIN)
        .expect("watched");
    pair.epoll_control(1, epoll, EPOLL_CTL_DEL, server, 0)
        .expect("watched");
    assert_eq!(events(&mut pair, epoll), [], "though it was listed");
    pair.epoll_control(1, epoll, ADD, server, EPOLLIN)
        .expect("not watched any more");
    assert_eq!(events(&mut pair, epoll).len(), 1);
}

// behaviour: EPL-39
#[test]
fn a_copy_of_the_descriptor_keeps_the_watch_alive() {
    let (mut pair, client, server, epoll) = watched(EPOLLIN);
    let copy = pair.hosts[1].dup(server).expect("room");
    pair.close(1, server).expect("open");
    tell(&mut pair, client);
    assert_eq!(events(&mut pair, epoll), [(EPOLLIN, server as u64)]);
    pair.epoll_control(1, epoll, ADD, copy, EPOLLIN)
        .expect("another descriptor, another watch");
    assert_eq!(events(&mut pair, epoll).len(), 2);
    pair.close(1, copy).expect("open");
    assert_eq!(events(&mut pair, epoll), []);
}
