//! `socket`, `bind`, `listen`: who gets which port.

mod pair;

use millrace_base::Address;
use millrace_socket::linux::{
    AF_INET, AF_INET6, AF_UNIX, IP_BIND_ADDRESS_NO_PORT, IP_FREEBIND, IPPROTO_TCP, IPPROTO_UDP,
    IPV6_V6ONLY, SO_REUSEADDR, SO_REUSEPORT, SOCK_DGRAM, SOCK_NONBLOCK, SOCK_STREAM, SOL_IP,
    SOL_IPV6, SOL_SOCKET,
};
use millrace_socket::{Call, Errno, Reply, SocketAddress};
use pair::{FAMILIES, Family, Pair, any, to};

// behaviour: SOK-5 SOK-6
#[test]
fn only_tcp_sockets_can_be_made() {
    let mut pair = Pair::new();
    let host = &mut pair.hosts[0];
    assert_eq!(host.socket(AF_INET, SOCK_STREAM, IPPROTO_TCP), Ok(3));
    assert_eq!(host.socket(AF_INET6, SOCK_STREAM, 0), Ok(4));
    assert_eq!(
        host.socket(AF_UNIX, SOCK_STREAM, 0),
        Err(Errno::EAFNOSUPPORT)
    );
    assert_eq!(
        host.socket(AF_INET, SOCK_DGRAM, 0),
        Err(Errno::ESOCKTNOSUPPORT)
    );
    let udp = host.socket(AF_INET, SOCK_STREAM, IPPROTO_UDP);
    assert_eq!(udp, Err(Errno::EPROTONOSUPPORT));
    assert_eq!(host.socket(AF_INET, 1 << 20, 0), Err(Errno::EINVAL));
}

/// Binds a new socket of host 0 with these of `SO_REUSEADDR` and `SO_REUSEPORT`.
fn bind(
    pair: &mut Pair,
    family: Family,
    address: SocketAddress,
    reuse: &[i32],
) -> Result<i32, Errno> {
    pair.bound(0, family, address, reuse)
}

// behaviour: HSH-2
#[test]
fn two_sockets_share_a_port_only_when_both_agree() {
    let address = any(Family::V4, 700);
    for (first, second, shared) in [
        (&[][..], &[][..], false),
        (&[SO_REUSEADDR], &[], false),
        (&[], &[SO_REUSEADDR], false),
        (&[SO_REUSEADDR], &[SO_REUSEADDR], true),
        (&[SO_REUSEPORT], &[], false),
        (&[SO_REUSEPORT], &[SO_REUSEADDR], false),
        (&[SO_REUSEPORT], &[SO_REUSEPORT], true),
    ] {
        let mut pair = Pair::new();
        bind(&mut pair, Family::V4, address, first).expect("the first");
        let result = bind(&mut pair, Family::V4, address, second);
        let expected = if shared {
            Ok(())
        } else {
            Err(Errno::EADDRINUSE)
        };
        assert_eq!(result.map(|_| ()), expected, "{first:?} {second:?}");
    }
}

// behaviour: HSH-7 LSN-4
#[test]
fn sockets_that_share_a_port_cannot_both_listen_without_reuseport() {
    for (reuse, expected) in [
        (SO_REUSEADDR, Err(Errno::EADDRINUSE)),
        (SO_REUSEPORT, Ok(())),
    ] {
        let mut pair = Pair::new();
        let first = bind(&mut pair, Family::V4, any(Family::V4, 700), &[reuse]).expect("bound");
        let second = bind(&mut pair, Family::V4, any(Family::V4, 700), &[reuse]).expect("bound");
        let now = pair.now;
        assert_eq!(pair.hosts[0].listen(now, first, 1), Ok(()));
        assert_eq!(pair.hosts[0].listen(now, second, 1), expected);
    }
}

#[test]
fn different_addresses_do_not_meet_and_any_address_meets_all() {
    let mut pair = Pair::new();
    let own = to(Family::V4, 1, 700);
    bind(&mut pair, Family::V4, own, &[]).expect("free");
    let wildcard = bind(&mut pair, Family::V4, any(Family::V4, 700), &[]);
    assert_eq!(wildcard, Err(Errno::EADDRINUSE));
    let both = bind(&mut pair, Family::V6, any(Family::V6, 700), &[]);
    assert_eq!(both, Err(Errno::EADDRINUSE), "it also means IPv4");
    bind(&mut pair, Family::V6, to(Family::V6, 1, 700), &[]).expect("another family");
    let mapped = bind(&mut pair, Family::V6, to(Family::Mapped, 1, 700), &[]);
    assert_eq!(mapped, Err(Errno::EADDRINUSE));
}

#[test]
fn an_ipv6_socket_that_is_ipv6_only_leaves_ipv4_alone() {
    let mut pair = Pair::new();
    bind(&mut pair, Family::V4, any(Family::V4, 700), &[]).expect("free");
    let fd = pair.socket(0, Family::V6, 0);
    pair.set(0, fd, SOL_IPV6, IPV6_V6ONLY, 1).expect("unbound");
    let now = pair.now;
    assert_eq!(pair.hosts[0].bind(now, fd, any(Family::V6, 700)), Ok(()));
    assert_eq!(
        pair.set(0, fd, SOL_IPV6, IPV6_V6ONLY, 0),
        Err(Errno::EINVAL)
    );
    let mapped = Call::Connect {
        fd,
        address: to(Family::Mapped, 2, 80),
    };
    assert_eq!(pair.now_call(0, mapped), Err(Errno::ENETUNREACH));
}

#[test]
fn addresses_that_are_not_ours_need_freebind() {
    let mut pair = Pair::new();
    let foreign = SocketAddress::v4([192, 0, 2, 77], 700);
    let refused = bind(&mut pair, Family::V4, foreign, &[]);
    assert_eq!(refused, Err(Errno::EADDRNOTAVAIL));
    let fd = pair.socket(0, Family::V4, 0);
    pair.set(0, fd, SOL_IP, IP_FREEBIND, 1).expect("an option");
    let now = pair.now;
    assert_eq!(pair.hosts[0].bind(now, fd, foreign), Ok(()));
    assert_eq!(
        pair.hosts[0].bind(now, fd, foreign),
        Err(Errno::EINVAL),
        "bound already"
    );
    let connect = Call::Connect {
        fd,
        address: to(Family::V4, 2, 80),
    };
    pair.wait_call(0, connect);
    let (_, syn) = &pair.seen[0];
    assert_eq!(syn[12..16], [192, 0, 2, 77]);
}

// behaviour: HSH-3
#[test]
fn a_port_can_be_left_to_connect() {
    let mut pair = Pair::new();
    pair.listener(Family::V4, 80, 4);
    let fd = pair.socket(0, Family::V4, 0);
    pair.set(0, fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        .expect("an option");
    let now = pair.now;
    assert_eq!(pair.hosts[0].bind(now, fd, to(Family::V4, 1, 0)), Ok(()));
    assert_eq!(pair.hosts[0].getsockname(fd), Ok(to(Family::V4, 1, 0)));
    let connect = Call::Connect {
        fd,
        address: to(Family::V4, 2, 80),
    };
    assert_eq!(pair.call(0, 100, connect), Ok(Reply::Done));
    assert_ne!(pair.hosts[0].getsockname(fd).expect("a name").port(), 0);
}

// behaviour: HSH-16 HSH-17
#[test]
fn ephemeral_ports_come_from_the_range_until_it_is_used_up() {
    let mut pair = Pair::new();
    pair.hosts[0]
        .set_sysctl("net.ipv4.ip_local_port_range", "5000 5001")
        .expect("a range");
    pair.listener(Family::V4, 80, 8);
    pair.listener(Family::V4, 81, 8);
    let connect = |pair: &mut Pair, port| {
        let fd = pair.socket(0, Family::V4, 0);
        let address = to(Family::V4, 2, port);
        let result = pair.call(0, 100, Call::Connect { fd, address });
        result.map(|_| pair.hosts[0].getsockname(fd).expect("a name").port())
    };
    let mut ports = [connect(&mut pair, 80), connect(&mut pair, 80)];
    ports.sort_by_key(|port| port.unwrap_or(0));
    assert_eq!(ports, [Ok(5_000), Ok(5_001)]);
    assert_eq!(connect(&mut pair, 80), Err(Errno::EADDRNOTAVAIL));
    assert!(
        connect(&mut pair, 81).is_ok(),
        "another peer shares the ports"
    );
    let bound = bind(&mut pair, Family::V4, any(Family::V4, 0), &[]);
    assert_eq!(bound, Err(Errno::EADDRINUSE), "binding does not share");
}

// behaviour: HSH-18
#[test]
fn a_connection_keeps_its_port_after_its_listener_and_its_socket() {
    let mut pair = Pair::new();
    let listener = pair.listener(Family::V4, 80, 8);
    let client = pair.socket(0, Family::V4, SOCK_NONBLOCK);
    let connect = Call::Connect {
        fd: client,
        address: to(Family::V4, 2, 80),
    };
    assert_eq!(pair.now_call(0, connect), Err(Errno::EINPROGRESS));
    pair.run(20);
    let Ok(Reply::Accepted { fd: server, .. }) = pair.now_call(
        1,
        Call::Accept {
            fd: listener,
            flags: 0,
        },
    ) else {
        panic!("nobody there");
    };
    pair.close(1, listener).expect("open");
    let rebind = |pair: &mut Pair, reuse: i32| {
        let fd = pair.socket(1, Family::V4, 0);
        pair.set(1, fd, SOL_SOCKET, SO_REUSEADDR, reuse)
            .expect("an option");
        let now = pair.now;
        let result = pair.hosts[1].bind(now, fd, any(Family::V4, 80));
        pair.close(1, fd).expect("open");
        result
    };
    assert_eq!(rebind(&mut pair, 0), Err(Errno::EADDRINUSE));
    assert_eq!(rebind(&mut pair, 1), Ok(()), "the listener had it set");
    pair.close(1, server).expect("open");
    assert_eq!(rebind(&mut pair, 0), Err(Errno::EADDRINUSE), "FIN-WAIT");
    pair.run(20);
    pair.close(0, client).expect("open");
    pair.run(1_000);
    assert_eq!(rebind(&mut pair, 0), Err(Errno::EADDRINUSE), "TIME-WAIT");
    pair.run(61_000);
    assert_eq!(rebind(&mut pair, 0), Ok(()));
}

// behaviour: A7-7
#[test]
fn reuseport_spreads_connections_over_its_group() {
    let mut pair = Pair::new();
    let mut group = Vec::new();
    for _ in 0..3 {
        let fd = pair.socket(1, Family::V4, SOCK_NONBLOCK);
        pair.set(1, fd, SOL_SOCKET, SO_REUSEPORT, 1)
            .expect("an option");
        let now = pair.now;
        pair.hosts[1]
            .bind(now, fd, any(Family::V4, 80))
            .expect("shared");
        pair.hosts[1].listen(now, fd, 64).expect("shared");
        group.push(fd);
    }
    for _ in 0..30 {
        let fd = pair.socket(0, Family::V4, 0);
        let address = to(Family::V4, 2, 80);
        assert_eq!(
            pair.call(0, 100, Call::Connect { fd, address }),
            Ok(Reply::Done)
        );
    }
    pair.run(20);
    let mut counts = Vec::new();
    for fd in group {
        let mut count = 0;
        while pair.now_call(1, Call::Accept { fd, flags: 0 }).is_ok() {
            count += 1;
        }
        counts.push(count);
    }
    assert_eq!(counts.iter().sum::<i32>(), 30);
    assert!(counts.iter().all(|count| *count > 2), "{counts:?}");
}

#[test]
fn an_ipv6_listener_takes_ipv4_and_shows_it_mapped() {
    let mut pair = Pair::new();
    let listener = pair.listener(Family::V6, 80, 4);
    let client = pair.socket(0, Family::V4, 0);
    let connect = Call::Connect {
        fd: client,
        address: to(Family::V4, 2, 80),
    };
    assert_eq!(pair.call(0, 100, connect), Ok(Reply::Done));
    pair.run(20);
    let accepted = pair.now_call(
        1,
        Call::Accept {
            fd: listener,
            flags: 0,
        },
    );
    let Ok(Reply::Accepted {
        peer: SocketAddress::V6 { address, .. },
        ..
    }) = accepted
    else {
        panic!("{accepted:?}");
    };
    assert_eq!(address, *Address::v4([10, 0, 0, 1]).octets());
}

#[test]
fn binding_refuses_addresses_of_other_families() {
    for family in FAMILIES {
        let mut pair = Pair::new();
        let fd = pair.socket(0, family, 0);
        let now = pair.now;
        let host = &mut pair.hosts[0];
        let other = if family == Family::V4 {
            (SocketAddress::v6([0; 16], 1), Errno::EAFNOSUPPORT)
        } else {
            (SocketAddress::v4([0; 4], 1), Errno::EINVAL)
        };
        assert_eq!(host.bind(now, fd, other.0), Err(other.1));
        assert_eq!(
            host.bind(now, fd, SocketAddress::Other(99)),
            Err(Errno::EAFNOSUPPORT)
        );
        assert_eq!(host.bind(now, 77, any(family, 1)), Err(Errno::EBADF));
    }
}

// behaviour: LSN-1 LSN-2 TUN-6
#[test]
fn a_backlog_is_cut_to_somaxconn_and_can_be_changed() {
    let mut pair = Pair::new();
    let fd = pair.listener(Family::V4, 80, 5);
    let backlog = |pair: &Pair| pair.hosts[1].tcp_info(fd).expect("open").sacked;
    assert_eq!(backlog(&pair), 5);
    for (asked, got) in [(50, 50), (-1, 4_096), (1_000_000, 4_096)] {
        let now = pair.now;
        assert_eq!(pair.hosts[1].listen(now, fd, asked), Ok(()));
        assert_eq!(backlog(&pair), got);
    }
    pair.hosts[1]
        .set_sysctl("net.core.somaxconn", "7")
        .expect("a knob");
    let now = pair.now;
    assert_eq!(pair.hosts[1].listen(now, fd, 100), Ok(()));
    assert_eq!(backlog(&pair), 7);
    let client = pair.socket(0, Family::V4, 0);
    let connect = Call::Connect {
        fd: client,
        address: to(Family::V4, 2, 80),
    };
    assert_eq!(pair.call(0, 100, connect), Ok(Reply::Done));
    let now = pair.now;
    assert_eq!(
        pair.hosts[0].listen(now, client, 1),
        Err(Errno::EINVAL),
        "it is connected"
    );
}
