//! What the network reports and what a program hears of it; keep-alive and retries of one socket.

mod pair;

use millrace_socket::linux::{
    IP_RECVERR, MSG_ERRQUEUE, MSG_TRUNC, SO_ERROR, SO_KEEPALIVE, SOCK_NONBLOCK, SOL_IP, SOL_SOCKET,
    SOL_TCP, TCP_KEEPCNT, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_SYNCNT, TCP_USER_TIMEOUT,
};
use millrace_socket::{Call, Control, Errno};
use pair::{Family, Pair, to};

/// The ones' complement sum of some bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| {
        let low = pair.get(1).copied().unwrap_or(0);
        u32::from(u16::from_be_bytes([pair[0], low]))
    });
    let mut sum: u32 = words.sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A router's complaint about `about`: destination unreachable, or its ICMPv6 sibling.
fn unreachable(about: &[u8], code: u8) -> Vec<u8> {
    let is_v4 = about[0] >> 4 == 4;
    let quoted = &about[..about.len().min(if is_v4 { 28 } else { 48 })];
    let mut icmp = vec![if is_v4 { 3 } else { 1 }, code, 0, 0, 0, 0, 0, 0];
    icmp.extend_from_slice(quoted);
    if is_v4 {
        let sum = checksum(&icmp).to_be_bytes();
        icmp[2..4].copy_from_slice(&sum);
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 99];
        packet.extend_from_slice(&about[12..16]);
        let len = (20 + icmp.len()) as u16;
        packet[2..4].copy_from_slice(&len.to_be_bytes());
        let sum = checksum(&packet).to_be_bytes();
        packet[10..12].copy_from_slice(&sum);
        packet.extend_from_slice(&icmp);
        return packet;
    }
    let source = &about[24..40];
    let mut pseudo = source.to_vec();
    pseudo.extend_from_slice(&about[8..24]);
    pseudo.extend_from_slice(&(icmp.len() as u32).to_be_bytes());
    pseudo.extend_from_slice(&[0, 0, 0, 58]);
    pseudo.extend_from_slice(&icmp);
    let sum = checksum(&pseudo).to_be_bytes();
    icmp[2..4].copy_from_slice(&sum);
    let mut packet = vec![0x60, 0, 0, 0, 0, icmp.len() as u8, 58, 64];
    packet.extend_from_slice(source);
    packet.extend_from_slice(&about[8..24]);
    packet.extend_from_slice(&icmp);
    packet
}

// behaviour: X7-3
#[test]
fn a_connect_ends_with_what_icmp_says() {
    for (family, code, error) in [
        (Family::V4, 0, Errno::ENETUNREACH),
        (Family::V4, 1, Errno::EHOSTUNREACH),
        (Family::V4, 3, Errno::ECONNREFUSED),
        (Family::V4, 13, Errno::EHOSTUNREACH),
        (Family::V6, 0, Errno::ENETUNREACH),
        (Family::V6, 3, Errno::EHOSTUNREACH),
        (Family::V6, 4, Errno::ECONNREFUSED),
        (Family::Mapped, 1, Errno::EHOSTUNREACH),
    ] {
        let mut pair = Pair::new();
        pair.lose = [1_000, 0];
        let fd = pair.socket(0, family, 0);
        let id = pair.wait_call(
            0,
            Call::Connect {
                fd,
                address: to(family, 2, 80),
            },
        );
        let (_, syn) = pair.seen.last().expect("a SYN").clone();
        pair.hosts[0].packet_in(pair.now, &unreachable(&syn, code));
        assert_eq!(pair.result(0, id), Some(Err(error)), "{family:?} {code}");
    }
}

#[test]
fn what_icmp_said_of_a_connection_is_why_it_timed_out() {
    let mut pair = Pair::new();
    let (client, _server) = pair.nonblocking(Family::V4, 80);
    pair.set(0, client, SOL_TCP, TCP_USER_TIMEOUT, 1_000)
        .expect("an option");
    pair.lose = [1_000, 0];
    pair.write(0, client, b"lost").expect("room");
    pair.run(1);
    let (_, sent) = pair.seen.last().expect("a segment").clone();
    pair.hosts[0].packet_in(pair.now, &unreachable(&sent, 1));
    assert_eq!(
        pair.get(0, client, SOL_SOCKET, SO_ERROR),
        Ok(0),
        "it goes on"
    );
    pair.run(5_000);
    assert_eq!(pair.read(0, client, 1), Err(Errno::EHOSTUNREACH));
}

// behaviour: OPT-28
#[test]
fn a_user_timeout_ends_a_connection_nobody_answers() {
    let mut pair = Pair::new();
    let (client, _server) = pair.nonblocking(Family::V4, 80);
    assert_eq!(
        pair.set(0, client, SOL_TCP, TCP_USER_TIMEOUT, -1),
        Err(Errno::EINVAL)
    );
    pair.set(0, client, SOL_TCP, TCP_USER_TIMEOUT, 3_000)
        .expect("an option");
    assert_eq!(pair.get(0, client, SOL_TCP, TCP_USER_TIMEOUT), Ok(3_000));
    pair.lose = [1_000, 0];
    pair.write(0, client, b"lost").expect("room");
    pair.run(2_900);
    assert_eq!(pair.read(0, client, 1), Err(Errno::EAGAIN));
    pair.run(3_000);
    assert_eq!(pair.read(0, client, 1), Err(Errno::ETIMEDOUT));
}

// behaviour: OPT-13 OPT-14 OPT-15 OPT-16
#[test]
fn keep_alive_runs_by_the_sockets_own_times() {
    let mut pair = Pair::new();
    let (client, _server) = pair.nonblocking(Family::V4, 80);
    assert_eq!(pair.get(0, client, SOL_TCP, TCP_KEEPIDLE), Ok(7_200));
    for (name, value, bad) in [
        (TCP_KEEPIDLE, 10, 32_768),
        (TCP_KEEPINTVL, 2, 0),
        (TCP_KEEPCNT, 3, 128),
    ] {
        assert_eq!(pair.set(0, client, SOL_TCP, name, bad), Err(Errno::EINVAL));
        pair.set(0, client, SOL_TCP, name, value).expect("in range");
        assert_eq!(pair.get(0, client, SOL_TCP, name), Ok(value));
    }
    pair.set(0, client, SOL_SOCKET, SO_KEEPALIVE, 1)
        .expect("an option");
    let before = pair.seen.len();
    pair.run(9_900);
    assert_eq!(pair.seen.len(), before, "silent");
    pair.run(200);
    assert_eq!(pair.seen.len(), before + 2, "a probe and its answer");
    pair.lose = [1_000, 0];
    pair.run(20_000);
    assert_eq!(pair.read(0, client, 1), Err(Errno::ETIMEDOUT));
}

// behaviour: OPT-11 CON-19
#[test]
fn a_socket_has_its_own_number_of_syns() {
    let mut pair = Pair::new();
    pair.hosts[0]
        .set_sysctl("tcp_syn_linear_timeouts", "0")
        .expect("a knob");
    pair.lose = [1_000, 0];
    let fd = pair.socket(0, Family::V4, SOCK_NONBLOCK);
    assert_eq!(pair.set(0, fd, SOL_TCP, TCP_SYNCNT, 0), Err(Errno::EINVAL));
    pair.set(0, fd, SOL_TCP, TCP_SYNCNT, 2).expect("in range");
    let connect = Call::Connect {
        fd,
        address: to(Family::V4, 2, 80),
    };
    assert_eq!(pair.now_call(0, connect), Err(Errno::EINPROGRESS));
    pair.run(30_000);
    assert_eq!(pair.seen.len(), 3);
    let error = pair.get(0, fd, SOL_SOCKET, SO_ERROR);
    assert_eq!(error, Ok(Errno::ETIMEDOUT.number()));
}

// behaviour: RDV-3
// MUST-47
#[test]
fn who_wants_to_know_hears_of_icmp_at_once() {
    let mut pair = Pair::new();
    let (client, _server) = pair.nonblocking(Family::V4, 80);
    pair.set(0, client, SOL_IP, IP_RECVERR, 1)
        .expect("an option");
    pair.write(0, client, b"x").expect("room");
    let (_, sent) = pair.seen.last().expect("a segment").clone();
    let mut stale = sent.clone();
    stale[27] = stale[27].wrapping_sub(99);
    pair.hosts[0].packet_in(pair.now, &unreachable(&stale, 1));
    assert_eq!(
        pair.read(0, client, 1),
        Err(Errno::EAGAIN),
        "not of anything in flight"
    );
    pair.hosts[0].packet_in(pair.now, &unreachable(&sent, 1));
    assert_eq!(pair.read(0, client, 1), Err(Errno::EHOSTUNREACH));
    pair.run(50);
    assert_eq!(pair.write(0, client, b"y"), Ok(1), "the connection goes on");

    let fd = pair.socket(0, Family::V4, SOCK_NONBLOCK);
    pair.set(0, fd, SOL_IP, IP_RECVERR, 1).expect("an option");
    pair.lose = [1_000, 0];
    let connect = Call::Connect {
        fd,
        address: to(Family::V4, 2, 80),
    };
    assert_eq!(pair.now_call(0, connect), Err(Errno::EINPROGRESS));
    let (_, syn) = pair.seen.last().expect("a SYN").clone();
    pair.hosts[0].packet_in(pair.now, &unreachable(&syn, 3));
    let told = pair.receive(0, fd, 4, MSG_ERRQUEUE).expect("an entry");
    assert_eq!(told.flags, MSG_ERRQUEUE | MSG_TRUNC);
    assert_eq!(told.bytes, syn[20..24], "of the quoted header");
    assert_eq!(told.address, Some(to(Family::V4, 2, 80)));
    let [Control::Error { error, .. }] = told.control[..] else {
        panic!("{told:?}");
    };
    assert_eq!((error.origin, error.kind, error.code), (2, 3, 3));
    assert_eq!(error.errno, Errno::ECONNREFUSED.number() as u32);
}
