//! Fields of the IP header that are a socket's: identification, reflected TOS, options.

mod pair;

use millrace_socket::linux::{
    IP_OPTIONS, IP_TOS, SOL_IP, SOL_IPV6, SOL_TCP, TCP_MAXSEG, TCP_SAVE_SYN, TCP_SAVED_SYN,
};
use millrace_socket::{Call, Errno, Reply};
use pair::{Family, Pair, to};

/// A client with these IP options that has connected to port 80 of the other host, and what was
/// accepted there.
fn connected(pair: &mut Pair, family: Family, options: &[u8], tos: i32) -> (i32, i32) {
    let listener = pair.listener(family, 80, 5);
    pair.set(1, listener, SOL_TCP, TCP_SAVE_SYN, 1)
        .expect("in range");
    let fd = pair.socket(0, family, 0);
    let now = pair.now;
    if !options.is_empty() {
        pair.hosts[0]
            .setsockopt(now, fd, SOL_IP, IP_OPTIONS, options)
            .expect("good options");
    }
    let (level, name) = if family == Family::V6 {
        (SOL_IPV6, millrace_socket::linux::IPV6_TCLASS)
    } else {
        (SOL_IP, IP_TOS)
    };
    pair.set(0, fd, level, name, tos).expect("a byte");
    let address = to(family, 2, 80);
    assert_eq!(
        pair.call(0, 100, Call::Connect { fd, address }),
        Ok(Reply::Done)
    );
    pair.run(20);
    let accept = Call::Accept {
        fd: listener,
        flags: 0,
    };
    let Ok(Reply::Accepted { fd: server, .. }) = pair.now_call(1, accept) else {
        panic!("nobody there");
    };
    (fd, server)
}

fn write(pair: &mut Pair, host: usize, fd: i32, len: usize) {
    assert_eq!(pair.write(host, fd, &vec![7; len]), Ok(len));
    pair.run(50);
}

/// Packets that a host has sent.
fn sent_by(pair: &Pair, host: usize) -> Vec<Vec<u8>> {
    let of_host = pair.seen.iter().filter(|(from, _)| *from == host);
    of_host.map(|(_, packet)| packet.clone()).collect()
}

fn total_len(packet: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([packet[2], packet[3]]))
}

// Linux: `inet_id` begins at random and counts; a SYN-ACK needs none. behaviour: A12-15, CON-16, IPO-9
#[test]
fn each_packet_of_a_connection_has_the_next_identification() {
    let mut pair = Pair::new();
    let (client, _) = connected(&mut pair, Family::V4, &[], 0);
    write(&mut pair, 0, client, 4_000);
    let ids: Vec<u16> = sent_by(&pair, 0)
        .iter()
        .map(|packet| u16::from_be_bytes([packet[4], packet[5]]))
        .collect();
    assert!(ids.len() >= 4, "{ids:?}");
    assert!(
        ids.windows(2).all(|two| two[1] == two[0].wrapping_add(1)),
        "{ids:?}"
    );
    assert!(ids[0] > 1, "a random start");
    let syn_ack = &sent_by(&pair, 1)[0];
    assert_eq!(syn_ack[4..6], [0, 0]);
}

// RFC 9293 SHLD-21: TOS may change while the connection lives. behaviour: SHLD-21, MUST-48
#[test]
fn tos_changes_from_one_packet_to_the_next() {
    let mut pair = Pair::new();
    let (client, _) = connected(&mut pair, Family::V4, &[], 0x20);
    let before = pair.seen.len();
    pair.set(0, client, SOL_IP, IP_TOS, 0x48).expect("a byte");
    write(&mut pair, 0, client, 100);
    assert!(sent_by(&pair, 0).iter().any(|packet| packet[1] == 0x20));
    let later = pair.seen[before..].iter().filter(|(from, _)| *from == 0);
    assert!(later.clone().count() > 0);
    for (_, packet) in later {
        assert_eq!(packet[1], 0x48);
    }
}

// behaviour: A19-3, X2-13, A18-7
#[test]
fn answers_have_the_tos_of_the_syn_where_that_is_wanted() {
    for (family, on) in [
        (Family::V4, true),
        (Family::V4, false),
        (Family::V6, true),
        (Family::Mapped, true),
    ] {
        let mut pair = Pair::new();
        let knob = if on { "1" } else { "0" };
        pair.hosts[1]
            .set_sysctl("net.ipv4.tcp_reflect_tos", knob)
            .expect("a knob");
        let (_, server) = connected(&mut pair, family, &[], 0xa0);
        write(&mut pair, 1, server, 100);
        let expected = if on { 0xa0 } else { 0 };
        for packet in sent_by(&pair, 1) {
            let class = if family == Family::V6 {
                packet[0] << 4 | packet[1] >> 4
            } else {
                packet[1]
            };
            assert_eq!(class & 0xfc, expected, "{family:?}");
        }
    }
}

// RFC 9293 MAY-9: the saved SYN tells the field that it came with. behaviour: MAY-9, A18-8
#[test]
fn a_program_can_read_the_tos_that_a_client_sent() {
    let mut pair = Pair::new();
    let (_, server) = connected(&mut pair, Family::V4, &[], 0x68);
    let now = pair.now;
    let saved = pair.hosts[1].getsockopt(now, server, SOL_TCP, TCP_SAVED_SYN, 500);
    let saved = saved.expect("saved");
    assert_eq!((saved[0], saved[1]), (0x45, 0x68));
}

// behaviour: A12-8, IPO-4, LSN-38, MUST-51, MAY-11
#[test]
fn a_record_route_is_on_every_packet_of_both_ways_and_segments_are_smaller() {
    let mut pair = Pair::new();
    let route = [7, 15, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let (client, server) = connected(&mut pair, Family::V4, &route, 0);
    let now = pair.now;
    let told = pair.hosts[0].getsockopt(now, client, SOL_IP, IP_OPTIONS, 40);
    assert_eq!(told.as_deref(), Ok(&route[..]));
    assert_eq!(
        pair.get(0, client, SOL_TCP, TCP_MAXSEG),
        Ok(1_460 - 12 - 16)
    );
    write(&mut pair, 0, client, 3_000);
    write(&mut pair, 1, server, 3_000);
    for host in [0, 1] {
        for packet in sent_by(&pair, host) {
            assert_eq!((packet[0], packet[20], packet[21]), (0x49, 7, 15));
            assert!(total_len(&packet) <= 1_500 && total_len(&packet) == packet.len());
        }
    }
    let first = &sent_by(&pair, 0)[0];
    assert_eq!(first[22..27], [8, 10, 0, 0, 1], "our address is the first");
    let answer = &sent_by(&pair, 1)[0];
    assert_eq!(answer[22], 16, "the way there and the first hop back");
    let read = pair.read(1, server, 4_000).expect("data");
    assert_eq!(read.len(), 3_000, "the checksums are right");
}

#[test]
fn impossible_ip_options_are_refused() {
    let mut pair = Pair::new();
    let fd = pair.socket(0, Family::V4, 0);
    let now = pair.now;
    let refused = pair.hosts[0].setsockopt(now, fd, SOL_IP, IP_OPTIONS, &[131, 6, 4, 1, 1, 1]);
    assert_eq!(refused, Err(Errno::EINVAL));
    let none = pair.hosts[0].getsockopt(now, fd, SOL_IP, IP_OPTIONS, 40);
    assert_eq!(none, Ok(Vec::new()));
}

// Linux: `accept_source_route` is off; then such packets are dropped. behaviour: MUST-52
#[test]
fn a_routed_syn_is_dropped_unless_that_is_wanted() {
    for on in [false, true] {
        let mut pair = Pair::new();
        let knob = if on { "1" } else { "0" };
        pair.hosts[1]
            .set_sysctl("net.ipv4.conf.all.accept_source_route", knob)
            .expect("a knob");
        pair.listener(Family::V4, 80, 5);
        let fd = pair.socket(0, Family::V4, millrace_socket::linux::SOCK_NONBLOCK);
        let address = to(Family::V4, 2, 80);
        let _ = pair.now_call(0, Call::Connect { fd, address });
        let syn = sent_by(&pair, 0).remove(0);
        let mut other = Pair::new();
        other.hosts[1]
            .set_sysctl("net.ipv4.conf.all.accept_source_route", knob)
            .expect("a knob");
        other.listener(Family::V4, 80, 5);
        let mut routed = syn;
        routed.splice(20..20, [131, 7, 8, 10, 0, 0, 9, 0]);
        routed[0] = 0x47;
        let total = routed.len() as u16;
        routed[2..4].copy_from_slice(&total.to_be_bytes());
        routed[10..12].fill(0);
        let words = routed[..28].chunks(2);
        let sum: u32 = words
            .map(|two| u32::from(two[0]) << 8 | u32::from(two[1]))
            .sum();
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        routed[10..12].copy_from_slice(&sum.to_be_bytes());
        let now = other.now;
        other.hosts[1].packet_in(now, &routed);
        let answer = other.hosts[1].packet_out();
        assert_eq!(answer.is_some(), on);
        if let Some((_, answer)) = answer {
            assert_eq!(answer[16..20], [10, 0, 0, 9], "back over the same hop");
            assert_eq!(answer[20..28], [131, 7, 4, 10, 0, 0, 1, 0]);
        }
    }
}
