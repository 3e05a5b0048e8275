//! Local ports: which one a socket gets, who shares one, and when it is free again.

mod pair;

use std::collections::BTreeSet;

use millrace_socket::linux::{
    IP_BIND_ADDRESS_NO_PORT, IP_LOCAL_PORT_RANGE, IPV6_V6ONLY, SHUT_RD, SO_LINGER, SO_REUSEADDR,
    SO_REUSEPORT, SOCK_NONBLOCK, SOL_IP, SOL_IPV6, SOL_SOCKET,
};
use millrace_socket::{Call, Errno, HostConfig, SocketAddress};
use pair::{FAMILIES, Family, Pair, any, host, to};

/// A pair whose host 0 has these ephemeral ports, and whose host 1 listens on 80 and 81.
fn with_range(range: &str) -> Pair {
    let mut pair = Pair::new();
    pair.hosts[0]
        .set_sysctl("net.ipv4.ip_local_port_range", range)
        .expect("a range");
    pair.listener(Family::V4, 80, 64);
    pair.listener(Family::V4, 81, 64);
    pair
}

/// Connects a new socket of host 0 and tells its port.
fn connect(pair: &mut Pair, family: Family, port: u16) -> Result<(i32, u16), Errno> {
    let fd = pair.socket(0, family, SOCK_NONBLOCK);
    match pair.connect(0, fd, to(family, 2, port)) {
        Err(Errno::EINPROGRESS) => {
            pair.run(20);
            Ok((fd, pair.port(0, fd)))
        }
        Err(error) => Err(error),
        Ok(()) => panic!("it did not wait"),
    }
}

/// The ports that so many connections to one place get.
fn ports(pair: &mut Pair, port: u16, count: usize) -> Vec<u16> {
    (0..count)
        .map(|_| connect(pair, Family::V4, port).expect("a port").1)
        .collect()
}

/// Resets the connection of host 0.
fn reset(pair: &mut Pair, fd: i32) {
    let mut linger = 1i32.to_ne_bytes().to_vec();
    linger.extend(0i32.to_ne_bytes());
    pair.hosts[0]
        .setsockopt(pair.now, fd, SOL_SOCKET, SO_LINGER, &linger)
        .expect("an option");
    pair.close(0, fd).expect("open");
    pair.run(20);
}

// behaviour: A30-9 X2-21 TUN-12 A30-16 X7-3
#[test]
fn both_ends_of_the_range_are_used_and_nothing_beside_it() {
    let mut pair = with_range("5000 5003");
    let used: BTreeSet<u16> = ports(&mut pair, 80, 4).into_iter().collect();
    assert_eq!(used, (5_000..=5_003).collect());
    let full = connect(&mut pair, Family::V4, 80);
    assert_eq!(full, Err(Errno::EADDRNOTAVAIL));
    let fresh = pair.socket(0, Family::V4, 0);
    let now = pair.now;
    assert_eq!(
        pair.hosts[0].bind(now, fresh, any(Family::V4, 0)),
        Err(Errno::EADDRINUSE)
    );
    assert_eq!(pair.hosts[0].listen(now, fresh, 1), Err(Errno::EADDRINUSE));
}

// behaviour: A30-11
#[test]
fn connect_and_bind_begin_with_different_parities() {
    for (range, even) in [("5000 5099", true), ("5001 5100", false)] {
        let mut pair = with_range(range);
        for port in ports(&mut pair, 80, 12) {
            assert_eq!(port.is_multiple_of(2), even, "{range}: connect got {port}");
        }
        for _ in 0..12 {
            let fd = pair.bound(0, Family::V4, any(Family::V4, 0), &[]);
            let port = pair.port(0, fd.expect("a port"));
            assert_ne!(port.is_multiple_of(2), even, "{range}: bind got {port}");
        }
    }
    // When one parity is used up, the other one serves.
    let mut pair = with_range("5000 5009");
    let used: BTreeSet<u16> = ports(&mut pair, 80, 10).into_iter().collect();
    assert_eq!(used.len(), 10);
}

// behaviour: A30-12 X2-22
#[test]
fn reserved_ports_are_left_alone_unless_they_are_named() {
    let mut pair = with_range("5000 5003");
    pair.hosts[0]
        .set_sysctl("net.ipv4.ip_local_reserved_ports", "5000,5002-5003")
        .expect("ranges");
    let bound = pair.bound(0, Family::V4, any(Family::V4, 0), &[]);
    let bound = bound.expect("a port");
    assert_eq!(pair.port(0, bound), 5_001);
    pair.close(0, bound).expect("open");
    assert_eq!(connect(&mut pair, Family::V4, 80).map(|c| c.1), Ok(5_001));
    let full = connect(&mut pair, Family::V4, 80);
    assert_eq!(full, Err(Errno::EADDRNOTAVAIL));
    let named = pair.bound(0, Family::V4, any(Family::V4, 5_002), &[]);
    assert!(named.is_ok(), "by name");
}

// behaviour: A30-8 A30-13 A30-14 HSH-16
#[test]
fn connect_shares_ports_between_peers_but_not_with_bind() {
    let mut pair = with_range("5000 5001");
    let (_, first) = connect(&mut pair, Family::V4, 80).expect("a port");
    let (_, second) = connect(&mut pair, Family::V4, 81).expect("a port");
    let (third, _) = connect(&mut pair, Family::V4, 80).expect("a port");
    let (fourth, _) = connect(&mut pair, Family::V4, 81).expect("a port");
    assert_eq!(pair.hosts[0].ports_in_use(), [(5_000, 2), (5_001, 2)]);
    let _ = (first, second);
    reset(&mut pair, third);
    reset(&mut pair, fourth);
    let free = pair.hosts[0].ports_in_use();
    let left: usize = free.iter().map(|(_, sharers)| sharers).sum();
    assert_eq!(left, 2, "{free:?}");

    let mut pair = with_range("5000 5001");
    pair.bound(0, Family::V4, any(Family::V4, 5_000), &[SO_REUSEADDR])
        .expect("free");
    assert_eq!(connect(&mut pair, Family::V4, 80).map(|c| c.1), Ok(5_001));
    let full = connect(&mut pair, Family::V4, 80);
    assert_eq!(full, Err(Errno::EADDRNOTAVAIL), "bind has the other");
}

// behaviour: A30-7
#[test]
fn a_bound_port_connects_where_the_tuple_is_new() {
    let mut pair = with_range("5000 5001");
    let place = to(Family::V4, 1, 700);
    let shared = [SO_REUSEADDR];
    let first = pair.bound(0, Family::V4, place, &shared).expect("free");
    let second = pair.bound(0, Family::V4, place, &shared).expect("shared");
    let peer = |port| to(Family::V4, 2, port);
    assert_eq!(
        pair.connect(0, first, peer(80)),
        Err(Errno::EINPROGRESS),
        "it is alone with this peer"
    );
    assert_eq!(pair.connect(0, second, peer(80)), Err(Errno::EADDRNOTAVAIL));
    assert_eq!(pair.connect(0, second, peer(81)), Err(Errno::EINPROGRESS));
    pair.run(20);
    assert_eq!(pair.connect(0, second, peer(81)), Ok(()));
    assert_eq!((pair.port(0, first), pair.port(0, second)), (700, 700));
}

// behaviour: A30-6 A30-10 A30-17 X4-4
#[test]
fn ports_to_one_place_move_on_by_chance_and_other_places_begin_elsewhere() {
    for family in [Family::V4, Family::V6] {
        let first_port = |secret: u8, peer: u8, at_ms: u64| {
            let config = HostConfig {
                secret: [secret; 32],
                ..host(1)
            };
            let mut pair = Pair::with(config, host(2));
            pair.run(at_ms);
            let fd = pair.socket(0, family, SOCK_NONBLOCK);
            let going = pair.connect(0, fd, to(family, peer, 80));
            assert_eq!(going, Err(Errno::EINPROGRESS));
            pair.port(0, fd)
        };
        assert_eq!(
            first_port(1, 2, 0),
            first_port(1, 2, 0),
            "no clock, no luck"
        );
        let elsewhere: BTreeSet<u16> = (2..10).map(|peer| first_port(1, peer, 0)).collect();
        assert!(elsewhere.len() > 6, "another peer, another place");
        let others: BTreeSet<u16> = (1..9).map(|secret| first_port(secret, 2, 0)).collect();
        assert!(others.len() > 6, "another secret, another place");
        assert_ne!(first_port(1, 2, 0), first_port(1, 2, 10_000), "a new order");
    }
    let mut pair = with_range("32768 60999");
    let used = ports(&mut pair, 80, 40);
    let count = 60_999 - 32_768 + 1;
    let steps: BTreeSet<u32> = used
        .windows(2)
        .map(|two| (u32::from(two[1]) + count - u32::from(two[0])) % count)
        .collect();
    assert!(steps.iter().all(|step| step.is_multiple_of(2)), "{steps:?}");
    assert!(
        steps.iter().all(|step| (2..=16).contains(step)),
        "{steps:?}"
    );
    assert!(steps.len() > 4, "the step is random: {steps:?}");
}

// behaviour: A1-11 HSH-5 HSH-6 X4-2 X8-28 Z1-4
#[test]
fn a_bucket_is_made_with_the_first_socket_on_a_port_and_goes_with_the_last() {
    let mut pair = Pair::new();
    assert_eq!(pair.hosts[0].ports_in_use(), []);
    let place = any(Family::V4, 2_222);
    let reuse = [SO_REUSEADDR];
    let first = pair.bound(0, Family::V4, place, &reuse).expect("free");
    assert_eq!(pair.hosts[0].ports_in_use(), [(2_222, 1)]);
    let second = pair.bound(0, Family::V4, place, &reuse).expect("shared");
    let other = pair.bound(0, Family::V4, any(Family::V4, 81), &[]);
    assert_eq!(pair.hosts[0].ports_in_use(), [(81, 1), (2_222, 2)]);
    assert_eq!(
        pair.bound(0, Family::V4, place, &[]),
        Err(Errno::EADDRINUSE)
    );
    for fd in [first, second, other.expect("free")] {
        pair.close(0, fd).expect("open");
    }
    assert_eq!(pair.hosts[0].ports_in_use(), []);
    let again = pair.bound(0, Family::V4, place, &[]);
    assert!(again.is_ok(), "nobody is left");
}

// behaviour: X4-2 HSH-2
#[test]
fn who_agreed_to_share_when_he_came_has_agreed() {
    // Linux remembers in the bucket (`fastreuse`): the option of a bound socket changes nothing.
    let mut pair = Pair::new();
    let place = any(Family::V4, 700);
    let first = pair
        .bound(0, Family::V4, place, &[SO_REUSEADDR])
        .expect("free");
    pair.set(0, first, SOL_SOCKET, SO_REUSEADDR, 0)
        .expect("an option");
    assert!(pair.bound(0, Family::V4, place, &[SO_REUSEADDR]).is_ok());
    let mut pair = Pair::new();
    let first = pair.bound(0, Family::V4, place, &[]).expect("free");
    pair.set(0, first, SOL_SOCKET, SO_REUSEPORT, 1)
        .expect("an option");
    assert!(
        pair.bound(0, Family::V4, place, &[SO_REUSEPORT]).is_ok(),
        "both have it now"
    );
}

// behaviour: HSH-7 LSN-4
#[test]
fn a_port_that_nobody_named_is_shared_with_nobody_or_as_the_knob_says() {
    for option in [SO_REUSEADDR, SO_REUSEPORT] {
        let mut pair = with_range("5000 5001");
        let bind = |pair: &mut Pair| {
            let fd = pair.bound(0, Family::V4, any(Family::V4, 0), &[option]);
            fd.map(|fd| pair.port(0, fd))
        };
        let mut used = [bind(&mut pair), bind(&mut pair)];
        used.sort_by_key(|port| port.unwrap_or(0));
        assert_eq!(used, [Ok(5_000), Ok(5_001)]);
        assert_eq!(bind(&mut pair), Err(Errno::EADDRINUSE));
        pair.hosts[0]
            .set_sysctl("net.ipv4.ip_autobind_reuse", "1")
            .expect("a knob");
        let shared = bind(&mut pair).is_ok();
        assert_eq!(shared, option == SO_REUSEADDR);
    }
}

// behaviour: HSH-3 TUN-15
#[test]
fn an_address_without_a_port_waits_for_connect_and_shares_by_peer() {
    let mut pair = with_range("5000 5000");
    let mut fds = Vec::new();
    for _ in 0..2 {
        let fd = pair.socket(0, Family::V4, SOCK_NONBLOCK);
        pair.set(0, fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            .expect("an option");
        let now = pair.now;
        assert_eq!(pair.hosts[0].bind(now, fd, to(Family::V4, 1, 0)), Ok(()));
        assert_eq!(pair.port(0, fd), 0);
        fds.push(fd);
    }
    assert_eq!(pair.hosts[0].ports_in_use(), []);
    for (fd, port) in fds.iter().zip([80, 81]) {
        let going = pair.connect(0, *fd, to(Family::V4, 2, port));
        assert_eq!(going, Err(Errno::EINPROGRESS));
        assert_eq!(pair.port(0, *fd), 5_000);
    }
    let named = pair.bound(0, Family::V4, to(Family::V4, 1, 0), &[]);
    assert_eq!(named, Err(Errno::EADDRINUSE), "without the option");
}

#[test]
fn a_socket_may_narrow_the_range_for_itself() {
    let mut pair = with_range("5000 5999");
    let own = |pair: &mut Pair, low: u32, high: u32| {
        let fd = pair.socket(0, Family::V4, SOCK_NONBLOCK);
        let range = (high << 16 | low).cast_signed();
        let set = pair.set(0, fd, SOL_IP, IP_LOCAL_PORT_RANGE, range);
        let going = pair.connect(0, fd, to(Family::V4, 2, 80));
        assert_eq!(going, Err(Errno::EINPROGRESS));
        set.map(|()| pair.port(0, fd))
    };
    let used: BTreeSet<u16> = (0..3)
        .map(|_| own(&mut pair, 5_101, 5_103).expect("a port"))
        .collect();
    assert_eq!(used, (5_101..=5_103).collect(), "both parities alike");
    let port = own(&mut pair, 0, 5_000).expect("a port");
    assert_eq!(port, 5_000, "one end only");
    let port = own(&mut pair, 100, 200).expect("a port");
    assert!((5_000..=5_999).contains(&port), "outside of the host's");
    let fd = pair.socket(0, Family::V4, SOCK_NONBLOCK);
    let upside_down = (10 << 16) | 20;
    assert_eq!(
        pair.set(0, fd, SOL_IP, IP_LOCAL_PORT_RANGE, upside_down),
        Err(Errno::EINVAL)
    );
}

// behaviour: A12-17 CON-21
#[test]
fn a_port_that_connect_chose_is_free_when_the_connection_is_over() {
    let mut pair = with_range("5000 5000");
    let refused = pair.socket(0, Family::V4, 0);
    let call = Call::Connect {
        fd: refused,
        address: to(Family::V4, 2, 9),
    };
    assert_eq!(pair.call(0, 100, call), Err(Errno::ECONNREFUSED));
    assert_eq!(pair.hosts[0].ports_in_use(), []);
    let (client, _) = connect(&mut pair, Family::V4, 80).expect("free");
    let named = pair.bound(0, Family::V4, any(Family::V4, 5_000), &[]);
    assert_eq!(named, Err(Errno::EADDRINUSE));
    // The peer resets it: the socket stays open, its port does not.
    pair.hosts[1] = millrace_socket::Sockets::new(host(2));
    pair.write(0, client, b"x").expect("room");
    pair.run(20);
    assert_eq!(pair.hosts[0].ports_in_use(), []);
    let named = pair.bound(0, Family::V4, any(Family::V4, 5_000), &[]);
    assert!(named.is_ok(), "{named:?}");
}

#[test]
fn foreign_addresses_are_bound_where_the_host_allows_it() {
    for (family, knob, address) in [
        (
            Family::V4,
            "net.ipv4.ip_nonlocal_bind",
            SocketAddress::v4([192, 0, 2, 77], 700),
        ),
        (
            Family::V6,
            "net.ipv6.ip_nonlocal_bind",
            SocketAddress::v6(
                [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7],
                700,
            ),
        ),
    ] {
        let mut pair = Pair::new();
        assert_eq!(
            pair.bound(0, family, address, &[]),
            Err(Errno::EADDRNOTAVAIL)
        );
        pair.hosts[0].set_sysctl(knob, "1").expect("a knob");
        let fd = pair.bound(0, family, address, &[]).expect("allowed");
        let now = pair.now;
        let again = pair.hosts[0].bind(now, fd, address);
        assert_eq!(again, Err(Errno::EINVAL), "bound already");
    }
}

#[test]
fn addresses_of_an_interface_need_its_number_and_groups_are_refused() {
    let mut pair = Pair::new();
    let mut link_local = [0; 16];
    link_local[..2].copy_from_slice(&[0xfe, 0x80]);
    let without = SocketAddress::v6(link_local, 700);
    assert_eq!(pair.bound(0, Family::V6, without, &[]), Err(Errno::EINVAL));
    let fd = pair.socket(0, Family::V6, SOCK_NONBLOCK);
    assert_eq!(pair.connect(0, fd, without), Err(Errno::EINVAL));
    let mut group = [0; 16];
    group[..2].copy_from_slice(&[0xff, 2]);
    let group = SocketAddress::v6(group, 700);
    assert_eq!(pair.bound(0, Family::V6, group, &[]), Err(Errno::EINVAL));
}

/// Listeners of host 1 with `SO_REUSEPORT` on one place.
fn group(pair: &mut Pair, family: Family, place: SocketAddress, backlogs: &[i32]) -> Vec<i32> {
    let now = pair.now;
    backlogs
        .iter()
        .map(|backlog| {
            let fd = pair.bound(1, family, place, &[SO_REUSEPORT]);
            let fd = fd.expect("shared");
            pair.hosts[1].listen(now, fd, *backlog).expect("shared");
            fd
        })
        .collect()
}

/// Takes all that wait to be accepted; how many that were.
fn accept_all(pair: &mut Pair, fd: i32) -> usize {
    std::iter::from_fn(|| pair.accept(1, fd).ok()).count()
}

// behaviour: A7-7
#[test]
fn each_of_a_group_has_a_backlog_of_its_own() {
    let mut pair = Pair::new();
    let group = group(&mut pair, Family::V4, any(Family::V4, 80), &[0, 64]);
    for _ in 0..24 {
        pair.connecting(Family::V4, 80);
    }
    pair.run(100);
    let small = accept_all(&mut pair, group[0]);
    let large = accept_all(&mut pair, group[1]);
    assert_eq!(small, 1, "one more than its backlog");
    assert!((4..24).contains(&large), "the others are not its business");
    let netstat = |pair: &Pair, wanted: &str| {
        let mut found = 0;
        pair.hosts[1].netstat(|name, value| {
            if name == wanted {
                found = value;
            }
        });
        found
    };
    assert!(netstat(&pair, "TcpExtListenOverflows") > 0);
}

#[test]
fn who_leaves_a_group_takes_his_queue_with_him() {
    let mut pair = Pair::new();
    let group = group(&mut pair, Family::V4, any(Family::V4, 80), &[64, 64]);
    let clients: Vec<i32> = (0..16).map(|_| pair.connecting(Family::V4, 80)).collect();
    pair.run(50);
    pair.close(1, group[0]).expect("open");
    pair.run(50);
    let reset = clients
        .iter()
        .filter(|fd| pair.read(0, **fd, 1) == Err(Errno::ECONNRESET))
        .count();
    let kept = accept_all(&mut pair, group[1]);
    assert!(reset > 0 && kept > 0);
    assert_eq!(reset + kept, 16);
    for _ in 0..8 {
        pair.connecting(Family::V4, 80);
    }
    pair.run(50);
    assert_eq!(accept_all(&mut pair, group[1]), 8, "all come to the rest");
}

#[test]
fn an_address_beats_any_address_and_ipv4_beats_both() {
    let mut pair = Pair::new();
    let wildcard = group(&mut pair, Family::V4, any(Family::V4, 80), &[8])[0];
    let exact = group(&mut pair, Family::V4, to(Family::V4, 2, 80), &[8])[0];
    let both = group(&mut pair, Family::V6, any(Family::V6, 80), &[8])[0];
    pair.connecting(Family::V4, 80);
    pair.connecting(Family::V6, 80);
    pair.run(50);
    let counts = [wildcard, exact, both].map(|fd| accept_all(&mut pair, fd));
    assert_eq!(counts, [0, 1, 1]);
    pair.close(1, exact).expect("open");
    pair.connecting(Family::V4, 80);
    pair.run(50);
    let counts = [wildcard, both].map(|fd| accept_all(&mut pair, fd));
    assert_eq!(counts, [1, 0]);
    pair.close(1, wildcard).expect("open");
    pair.connecting(Family::V4, 80);
    pair.run(50);
    assert_eq!(accept_all(&mut pair, both), 1, "it takes IPv4 as well");
    pair.set(1, both, SOL_IPV6, IPV6_V6ONLY, 1)
        .expect_err("it is bound");
}

// behaviour: LSN-3 A29-9 X7-4
#[test]
fn a_port_takes_connections_when_listen_has_succeeded_and_not_before() {
    for family in FAMILIES {
        let mut pair = Pair::new();
        let place = any(family, 80);
        let first = pair.bound(1, family, place, &[SO_REUSEADDR]).expect("free");
        let second = pair
            .bound(1, family, place, &[SO_REUSEADDR])
            .expect("shared");
        let client = pair.connecting(family, 80);
        pair.run(20);
        let refused = pair.connect(0, client, to(family, 2, 80));
        assert_eq!(refused, Err(Errno::ECONNREFUSED), "bound is not enough");
        let now = pair.now;
        pair.hosts[1].listen(now, first, 4).expect("nobody listens");
        let failed = pair.hosts[1].listen(now, second, 4);
        assert_eq!(failed, Err(Errno::EADDRINUSE));
        assert_eq!(pair.hosts[1].tcp_info(second).expect("open").state, 7);
        assert_eq!(pair.hosts[1].tcp_info(first).expect("open").state, 10);
        assert_eq!(pair.accept(1, second), Err(Errno::EINVAL));
        let client = pair.connecting(family, 80);
        pair.run(20);
        assert!(pair.accept(1, first).is_ok());
        // The first one stops: the second one may.
        pair.hosts[1]
            .shutdown(now, first, SHUT_RD)
            .expect("listens");
        pair.close(1, first).expect("open");
        let now = pair.now;
        assert_eq!(pair.hosts[1].listen(now, second, 4), Ok(()));
        let _ = client;
    }
}

// behaviour: SOK-15 SOK-17 SOK-19 HSH-19
#[test]
fn opening_and_closing_leaves_nothing_behind() {
    let mut pair = Pair::new();
    let before = pair.hosts.each_ref().map(|host| host.sockstat());
    assert_eq!(before[0].used + before[0].allocated + before[0].in_use, 0);
    for family in FAMILIES {
        for round in 0..20 {
            let (client, server) = pair.nonblocking(family, 80 + round);
            pair.write(0, client, &[1; 5_000]).expect("room");
            let now = pair.hosts[0].sockstat();
            assert_eq!((now.used, now.in_use, now.allocated), (1, 1, 1));
            assert!(now.memory_pages > 0);
            let peer = pair.hosts[1].sockstat();
            assert_eq!((peer.used, peer.in_use), (2, 2), "the listener too");
            pair.run(100);
            pair.close(0, client).expect("open");
            let now = pair.hosts[0].sockstat();
            assert_eq!((now.used, now.orphans, now.allocated), (0, 1, 1));
            pair.run(20);
            pair.close(1, server).expect("open");
            let listener = server - 1;
            pair.close(1, listener).expect("open");
            pair.run(100);
        }
    }
    pair.run(120_000);
    let after = pair.hosts.each_ref().map(|host| host.sockstat());
    assert_eq!(after, before);
    assert_eq!(pair.hosts[0].ports_in_use(), []);
    assert_eq!(pair.hosts[1].ports_in_use(), []);
}
