//! `TCP_MD5SIG`: keys of listeners and of those who connect, what their packets look like, and which
//! errors there are.

mod pair;

use millrace_base::Address;
use millrace_socket::linux::{
    MSG_OOB, SOCK_NONBLOCK, SOL_TCP, TCP_INFO, TCP_MAXSEG, TCP_MD5SIG, TCP_MD5SIG_EXT,
    TCP_MD5SIG_FLAG_IFINDEX, TCP_MD5SIG_FLAG_PREFIX,
};
use millrace_socket::{Call, Errno, Reply};
use millrace_stack::SigningKey;
use pair::{FAMILIES, Family, Pair, to};

/// What a program asks for with `struct tcp_md5sig`.
#[derive(Clone, Debug)]
struct Wish {
    family: Family,
    /// The last byte of the peer's address, and bits of it that count.
    peer: u8,
    flags: u8,
    prefix_len: u8,
    ifindex: i32,
    key: Vec<u8>,
    key_len: usize,
}

impl Wish {
    fn of(family: Family, peer: u8, key: &[u8]) -> Self {
        Self {
            family,
            peer,
            flags: 0,
            prefix_len: 0,
            ifindex: 0,
            key: key.to_vec(),
            key_len: key.len(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0u8; 216];
        let (family, at, address): (u16, _, Vec<u8>) = match self.family {
            Family::V4 => (2, 4, vec![10, 0, 0, self.peer]),
            Family::V6 => (10, 8, {
                let mut address = vec![0xfd];
                address.resize(15, 0);
                address.push(self.peer);
                address
            }),
            Family::Mapped => (10, 8, {
                let mut address = vec![0; 10];
                address.extend([0xff, 0xff, 10, 0, 0, self.peer]);
                address
            }),
        };
        bytes[..2].copy_from_slice(&family.to_ne_bytes());
        bytes[at..at + address.len()].copy_from_slice(&address);
        bytes[128] = self.flags;
        bytes[129] = self.prefix_len;
        bytes[130..132].copy_from_slice(&(self.key_len as u16).to_ne_bytes());
        bytes[132..136].copy_from_slice(&self.ifindex.to_ne_bytes());
        bytes[136..136 + self.key.len()].copy_from_slice(&self.key);
        bytes
    }
}

fn set(pair: &mut Pair, host: usize, fd: i32, name: i32, wish: &Wish) -> Result<(), Errno> {
    let now = pair.now;
    pair.hosts[host].setsockopt(now, fd, SOL_TCP, name, &wish.bytes())
}

/// Whether a packet is signed with this key.
fn is_signed(packet: &[u8], key: &[u8]) -> bool {
    let v4 = packet[0] >> 4 == 4;
    let tcp = if v4 { 20 } else { 40 };
    let address = |at: usize| {
        if v4 {
            Address::v4(packet[at..at + 4].try_into().expect("four"))
        } else {
            Address::v6(packet[at..at + 16].try_into().expect("sixteen"))
        }
    };
    let (from, to) = if v4 { (12, 16) } else { (8, 24) };
    let segment = &packet[tcp..];
    let key = SigningKey::new(key).expect("a key");
    let digest = key.sign(address(from), address(to), segment).expect("TCP");
    segment.get(20..24) == Some(&[1, 1, 19, 18]) && segment.get(24..40) == Some(&digest)
}

fn counter(pair: &Pair, host: usize, name: &str) -> u64 {
    let mut found = None;
    pair.hosts[host].netstat(|counter, value| {
        if counter == name {
            found = Some(value);
        }
    });
    found.expect("a counter")
}

/// Both ends with a key each: a listener of host 1 and a socket of host 0 that has begun to connect.
fn connecting(pair: &mut Pair, family: Family, keys: [&[u8]; 2]) -> (i32, i32) {
    let listener = pair.listener(family, 179, 8);
    set(pair, 1, listener, TCP_MD5SIG, &Wish::of(family, 1, keys[1])).expect("a key");
    (client(pair, family, keys[0]), listener)
}

/// A socket of host 0 with a key for host 1, to which it has begun to connect.
fn client(pair: &mut Pair, family: Family, key: &[u8]) -> i32 {
    let client = pair.socket(0, family, SOCK_NONBLOCK);
    set(pair, 0, client, TCP_MD5SIG, &Wish::of(family, 2, key)).expect("a key");
    assert_eq!(
        pair.connect(0, client, to(family, 2, 179)),
        Err(Errno::EINPROGRESS)
    );
    client
}

fn number(bytes: &[u8]) -> i32 {
    i32::from_ne_bytes(bytes[..4].try_into().expect("four"))
}

// PSH and the urgent pointer are written behind the stack: the signature is of what leaves.
// behaviour: A4-16, A26-3, SND-35, OPT-49
#[test]
fn two_ends_with_one_key_talk_in_packets_that_are_all_signed() {
    for family in FAMILIES {
        let mut pair = Pair::new();
        let secret = b"the same on both ends";
        let (client, listener) = connecting(&mut pair, family, [secret, secret]);
        pair.run(50);
        let server = pair.accept(1, listener).expect("accepted");
        let data: Vec<u8> = (0..40_000u32).map(|at| at as u8).collect();
        assert_eq!(pair.write(0, client, &data), Ok(data.len()));
        let mut out = Vec::new();
        while out.len() < data.len() {
            pair.run(20);
            let part = pair.read(1, server, 100_000).expect("data");
            assert!(!part.is_empty());
            out.extend(part);
        }
        assert!(out == data);
        let urgent = Call::Send {
            fd: server,
            data: b"!".to_vec(),
            flags: MSG_OOB,
            address: None,
        };
        assert_eq!(pair.now_call(1, urgent), Ok(Reply::Count(1)));
        pair.write(1, server, b"and on").expect("room");
        pair.run(50);
        assert_eq!(
            pair.now_call(0, Call::Close { fd: client }),
            Ok(Reply::Done)
        );
        pair.run(50);
        assert_eq!(
            pair.now_call(1, Call::Close { fd: server }),
            Ok(Reply::Done)
        );
        pair.run(500);
        assert!(pair.seen.len() > 40);
        for (host, packet) in &pair.seen {
            assert!(
                is_signed(packet, secret),
                "{family:?}: of host {host}: {packet:02x?}"
            );
        }
        let flags_at = if family == Family::V6 { 53 } else { 33 };
        let has = |bit| {
            pair.seen
                .iter()
                .any(|(_, packet)| packet[flags_at] & bit != 0)
        };
        assert!(has(0x20) && has(0x08), "URG and PSH");
        for host in 0..2 {
            assert_eq!(counter(&pair, host, "TcpExtTCPMD5Failure"), 0);
            assert_eq!(counter(&pair, host, "TcpExtTCPMD5NotFound"), 0);
        }
    }
}

// behaviour: A6-16
#[test]
fn without_the_right_key_nobody_connects_and_nobody_is_refused() {
    for family in FAMILIES {
        let mut pair = Pair::new();
        let (client, listener) = connecting(&mut pair, family, [b"mine", b"yours"]);
        pair.run(3_000);
        let queue = pair.hosts[1].listen_queue(listener).expect("listens");
        assert_eq!((queue.half_open, queue.completed), (0, 0));
        assert_eq!(
            pair.connect(0, client, to(family, 2, 179)),
            Err(Errno::EALREADY)
        );
        assert!(pair.seen.iter().all(|(host, _)| *host == 0), "no answer");
        let plain = pair.socket(0, family, SOCK_NONBLOCK);
        assert_eq!(
            pair.connect(0, plain, to(family, 2, 179)),
            Err(Errno::EINPROGRESS)
        );
        pair.run(10);
        assert!(counter(&pair, 1, "TcpExtTCPMD5Failure") >= 2);
        assert_eq!(counter(&pair, 1, "TcpExtTCPMD5NotFound"), 1);
        // The key is corrected: the next SYN is taken.
        set(
            &mut pair,
            0,
            client,
            TCP_MD5SIG,
            &Wish::of(family, 2, b"yours"),
        )
        .expect("a key");
        pair.run(5_000);
        assert!(pair.accept(1, listener).is_ok());
    }
}

// behaviour: A26-3
#[test]
fn a_connection_has_its_listeners_key_for_its_peer_and_for_nobody_else() {
    for family in FAMILIES {
        let mut pair = Pair::new();
        let (client, listener) = connecting(&mut pair, family, [b"k", b"k"]);
        for peer in [3, 4] {
            set(
                &mut pair,
                1,
                listener,
                TCP_MD5SIG,
                &Wish::of(family, peer, b"o"),
            )
            .expect("a key");
        }
        pair.run(50);
        let server = pair.accept(1, listener).expect("accepted");
        // What becomes of the listener's keys is nothing to it.
        set(
            &mut pair,
            1,
            listener,
            TCP_MD5SIG,
            &Wish::of(family, 1, b""),
        )
        .expect("was there");
        pair.write(0, client, b"signed").expect("room");
        pair.run(50);
        assert_eq!(pair.read(1, server, 100).as_deref(), Ok(&b"signed"[..]));
        let none =
            |pair: &mut Pair, peer| set(pair, 1, server, TCP_MD5SIG, &Wish::of(family, peer, b""));
        assert_eq!(none(&mut pair, 3), Err(Errno::ENOENT));
        assert_eq!(none(&mut pair, 1), Ok(()));
        assert_eq!(none(&mut pair, 1), Err(Errno::ENOENT));
        pair.write(0, client, b"still signed").expect("room");
        pair.run(50);
        let info = pair.hosts[1].getsockopt(pair.now, server, SOL_TCP, TCP_INFO, 104);
        assert_eq!(info.expect("info")[0], 1, "open");
        assert!(counter(&pair, 1, "TcpExtTCPMD5Unexpected") >= 1);
        set(&mut pair, 0, client, TCP_MD5SIG, &Wish::of(family, 2, b"")).expect("was there");
        pair.run(2_000);
        assert_eq!(
            pair.read(1, server, 100).as_deref(),
            Ok(&b"still signed"[..])
        );
    }
}

// behaviour: A19-8
#[test]
fn keys_of_prefixes_are_found_by_the_longest() {
    for family in FAMILIES {
        let mut pair = Pair::new();
        let listener = pair.listener(family, 179, 8);
        let (all, near) = (0, if family == Family::V6 { 64 } else { 24 });
        for (prefix_len, key) in [(near, &b"near"[..]), (all, b"all")] {
            let flags = TCP_MD5SIG_FLAG_PREFIX;
            let wish = Wish {
                flags,
                prefix_len,
                ..Wish::of(family, 9, key)
            };
            set(&mut pair, 1, listener, TCP_MD5SIG_EXT, &wish).expect("a key");
        }
        client(&mut pair, family, b"near");
        pair.run(50);
        assert!(pair.accept(1, listener).is_ok(), "{family:?}");
        // Without its rule the peer has the key of all.
        let flags = TCP_MD5SIG_FLAG_PREFIX;
        let wish = Wish {
            flags,
            prefix_len: near,
            ..Wish::of(family, 9, b"")
        };
        set(&mut pair, 1, listener, TCP_MD5SIG_EXT, &wish).expect("was there");
        assert_eq!(
            set(&mut pair, 1, listener, TCP_MD5SIG_EXT, &wish),
            Err(Errno::ENOENT)
        );
        client(&mut pair, family, b"all");
        pair.run(50);
        assert!(pair.accept(1, listener).is_ok(), "{family:?}");
    }
}

// Linux: tcp_v4_parse_md5_keys, tcp_v6_parse_md5_keys.
// behaviour: OPT-49, SND-35
#[test]
fn impossible_keys_have_the_errors_of_linux() {
    for family in FAMILIES {
        let mut pair = Pair::new();
        let fd = pair.socket(0, family, SOCK_NONBLOCK);
        let good = Wish::of(family, 2, b"k");
        let short = &good.bytes()[..215];
        let now = pair.now;
        let host = &mut pair.hosts[0];
        assert_eq!(
            host.setsockopt(now, fd, SOL_TCP, TCP_MD5SIG, short),
            Err(Errno::EINVAL)
        );
        assert_eq!(
            host.getsockopt(now, fd, SOL_TCP, TCP_MD5SIG, 216),
            Err(Errno::ENOPROTOOPT)
        );
        let other = if family == Family::V4 {
            Family::V6
        } else {
            Family::V4
        };
        let longest = if family == Family::V6 { 128 } else { 32 };
        let prefix = |prefix_len| Wish {
            flags: TCP_MD5SIG_FLAG_PREFIX,
            prefix_len,
            ..good.clone()
        };
        let link = Wish {
            flags: TCP_MD5SIG_FLAG_IFINDEX,
            ifindex: 1,
            ..good.clone()
        };
        let long = Wish {
            key_len: 81,
            ..good.clone()
        };
        for (name, wish, expected) in [
            (TCP_MD5SIG, Wish::of(other, 2, b"k"), Err(Errno::EINVAL)),
            (TCP_MD5SIG, long.clone(), Err(Errno::EINVAL)),
            (TCP_MD5SIG, Wish::of(family, 2, &[7; 80]), Ok(())),
            (TCP_MD5SIG, Wish::of(family, 3, b""), Err(Errno::ENOENT)),
            (TCP_MD5SIG, Wish::of(family, 2, b""), Ok(())),
            (TCP_MD5SIG, Wish::of(family, 2, b""), Err(Errno::ENOENT)),
            (TCP_MD5SIG_EXT, prefix(longest + 1), Err(Errno::EINVAL)),
            (TCP_MD5SIG_EXT, prefix(longest), Ok(())),
            // The plain option looks at neither prefix nor link; this is the same rule again.
            (TCP_MD5SIG, prefix(longest + 1), Ok(())),
            (TCP_MD5SIG_EXT, link.clone(), Err(Errno::EINVAL)),
            (TCP_MD5SIG, link.clone(), Ok(())),
            (
                TCP_MD5SIG,
                Wish {
                    key_len: 0,
                    ..good.clone()
                },
                Ok(()),
            ),
            (
                TCP_MD5SIG,
                Wish {
                    key_len: 0,
                    ..link.clone()
                },
                Ok(()),
            ),
            (
                TCP_MD5SIG,
                Wish {
                    key_len: 0,
                    ..link.clone()
                },
                Err(Errno::ENOENT),
            ),
        ] {
            assert_eq!(
                set(&mut pair, 0, fd, name, &wish),
                expected,
                "{family:?} {wish:?}"
            );
        }
    }
}

#[test]
fn a_socket_has_a_thousand_keys_and_no_more() {
    let mut pair = Pair::new();
    let fd = pair.socket(0, Family::V4, SOCK_NONBLOCK);
    let wish = |number: u32| {
        let prefix_len = (number / 250) as u8 + 20;
        let flags = TCP_MD5SIG_FLAG_PREFIX;
        Wish {
            flags,
            prefix_len,
            ..Wish::of(Family::V4, (number % 250) as u8, b"k")
        }
    };
    for number in 0..1_024 {
        set(&mut pair, 0, fd, TCP_MD5SIG_EXT, &wish(number)).expect("room");
    }
    let one_more = set(&mut pair, 0, fd, TCP_MD5SIG_EXT, &wish(1_024));
    assert_eq!(one_more, Err(Errno::ENOMEM));
    // One that is there can be changed, and one that goes makes room.
    assert_eq!(set(&mut pair, 0, fd, TCP_MD5SIG_EXT, &wish(7)), Ok(()));
    let gone = Wish {
        key_len: 0,
        ..wish(7)
    };
    assert_eq!(set(&mut pair, 0, fd, TCP_MD5SIG_EXT, &gone), Ok(()));
    assert_eq!(set(&mut pair, 0, fd, TCP_MD5SIG_EXT, &wish(1_024)), Ok(()));
    // Two listeners have no room for so many: the second does not listen at all.
    let (now, any) = (pair.now, pair::any(Family::V4, 179));
    let second = pair.socket(0, Family::V4, SOCK_NONBLOCK);
    set(
        &mut pair,
        0,
        second,
        TCP_MD5SIG,
        &Wish::of(Family::V4, 2, b"k"),
    )
    .expect("a key");
    pair.hosts[0].bind(now, fd, any).expect("a port");
    pair.hosts[0].listen(now, fd, 1).expect("room for its keys");
    assert_eq!(pair.hosts[0].listen(now, second, 1), Err(Errno::ENOBUFS));
}

// behaviour: A4-16
#[test]
fn segments_are_smaller_by_the_signature() {
    for family in FAMILIES {
        let mut pair = Pair::new();
        let (client, listener) = connecting(&mut pair, family, [b"k", b"k"]);
        pair.run(50);
        let server = pair.accept(1, listener).expect("accepted");
        let whole = if family == Family::V6 { 1_440 } else { 1_460 };
        let now = pair.now;
        for (host, fd) in [(0, client), (1, server)] {
            let mss = pair.hosts[host].getsockopt(now, fd, SOL_TCP, TCP_MAXSEG, 4);
            assert_eq!(mss.map(|mss| number(&mss)), Ok(whole - 20));
            let info = pair.hosts[host]
                .getsockopt(now, fd, SOL_TCP, TCP_INFO, 8)
                .expect("info");
            // Window scale and SACK, no timestamps.
            assert_eq!(info[5] & 7, 6);
        }
    }
}
