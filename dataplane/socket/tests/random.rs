//! Whatever programs call, in whatever order: the host goes on, and the stream keeps its bytes.

mod pair;

use millrace_base::Rng;
use millrace_socket::linux::MSG_PEEK;
use millrace_socket::linux::{
    EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, MSG_DONTWAIT, O_NONBLOCK, SOCK_NONBLOCK,
};
use millrace_socket::{Call, EpollEvent, PollFd, Progress, Reply, SocketAddress};
use pair::{FAMILIES, Family, Pair, any, to};

/// Calls of one run.
const STEPS: u32 = 400;

fn random_call(rng: &mut Rng, fd: i32) -> Call {
    let family = FAMILIES[rng.below(3) as usize];
    let other = 2 + rng.below(14) as i32;
    let len = rng.below(5_000) as usize;
    // Bits that mean something, and some that do not.
    let flags = (rng.next_u64() & 0xc1ff) as i32 | MSG_DONTWAIT;
    match rng.below(12) {
        0 => Call::Accept {
            fd,
            flags: SOCK_NONBLOCK,
        },
        1 => Call::Connect {
            fd,
            address: to(family, 1 + rng.below(2) as u8, 80),
        },
        2 => Call::Connect {
            fd,
            address: SocketAddress::Unspecified,
        },
        3 => Call::Read { fd, len },
        4 | 5 => Call::Write {
            fd,
            data: vec![7; len],
        },
        6 => Call::Receive {
            fd,
            len,
            control_len: 64,
            flags: flags | (rng.below(2) as i32 * 0x2000),
        },
        7 => Call::Send {
            fd,
            data: vec![9; len],
            flags,
            address: None,
        },
        8 => Call::Close { fd },
        9 => {
            let entry = |fd| PollFd {
                fd,
                events: 0x3f,
                revents: 0,
            };
            Call::Poll {
                fds: vec![entry(fd), entry(other)],
                timeout_ms: rng.below(50) as i32,
            }
        }
        10 => Call::EpollWait {
            fd,
            events_max: 4,
            timeout_ms: rng.below(50) as i32,
        },
        _ => Call::Splice {
            from: fd,
            to: other,
            len,
            flags: 2,
        },
    }
}

fn random_step(rng: &mut Rng, pair: &mut Pair, host: usize) {
    let fd = 2 + rng.below(14) as i32;
    let other = 2 + rng.below(14) as i32;
    let family = FAMILIES[rng.below(3) as usize];
    let now = pair.now;
    let sockets = &mut pair.hosts[host];
    match rng.below(24) {
        0..=3 => {
            let domain = if family == Family::V4 { 2 } else { 10 };
            let _ = sockets.socket(domain, 1 | SOCK_NONBLOCK, 0);
        }
        4 | 5 => {
            let _ = sockets.bind(now, fd, any(family, 80));
        }
        6 | 7 => {
            let _ = sockets.listen(now, fd, rng.below(4) as i32);
        }
        8 => {
            let _ = sockets.shutdown(now, fd, rng.below(4) as i32);
        }
        9 => {
            let level = [0, 1, 6, 41][rng.below(4) as usize];
            let value = (rng.below(70_000) as i32 - 10).to_ne_bytes();
            let _ = sockets.setsockopt(now, fd, level, rng.below(64) as i32, &value);
        }
        10 => {
            let level = [0, 1, 6, 41][rng.below(4) as usize];
            let _ = sockets.getsockopt(now, fd, level, rng.below(64) as i32, 300);
        }
        11 => {
            let _ = sockets.epoll_create(1);
        }
        12 | 13 => {
            let operation = [EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD][rng.below(3) as usize];
            let events = rng.next_u64() as u32;
            let event = EpollEvent { events, data: 1 };
            let _ = sockets.epoll_ctl(now, fd, operation, other, Some(event));
        }
        14 => {
            let _ = sockets.pipe(O_NONBLOCK);
        }
        15 => {
            let _ = sockets.dup(fd);
        }
        16 => {
            let request = [0x541b, 0x5411, 0x8905, 0x894b, 0x5421][rng.below(5) as usize];
            let _ = sockets.ioctl(now, fd, request, 1);
        }
        17 => pair.run(u64::from(rng.below(300))),
        18 => pair.lose[host] = rng.below(4) as usize,
        _ => {
            let call = random_call(rng, fd);
            let _ = pair.hosts[host].start(now, call);
        }
    }
}

#[test]
fn no_order_of_calls_stops_a_host() {
    for seed in 0..60 {
        println!("seed {seed}");
        let mut rng = Rng::new(seed);
        let mut pair = Pair::new();
        for _ in 0..STEPS {
            let host = rng.below(2) as usize;
            random_step(&mut rng, &mut pair, host);
        }
        for host in 0..2 {
            for fd in 3..2_000 {
                let _ = pair.hosts[host].start(pair.now, Call::Close { fd });
            }
        }
        pair.run(200_000);
        for host in 0..2 {
            assert_eq!(
                pair.hosts[host].socket(2, 1, 0),
                Ok(3),
                "seed {seed}: all is closed"
            );
        }
    }
}

// behaviour: A11-12 RDV-15 RDV-16
#[test]
fn a_stream_keeps_its_bytes_through_loss_and_odd_reads() {
    for seed in 0..20 {
        println!("seed {seed}");
        let mut rng = Rng::new(1_000 + seed);
        let mut pair = Pair::new();
        let (client, server) = pair.nonblocking(FAMILIES[seed as usize % 3], 80);
        let data = pair::pattern(300_000);
        let (mut sent, mut got) = (0, Vec::new());
        for _ in 0..4_000 {
            if rng.below(20) == 0 {
                pair.lose = [rng.below(3) as usize, rng.below(3) as usize];
            }
            if sent < data.len() {
                let end = data.len().min(sent + 1 + rng.below(20_000) as usize);
                let flags = [0, 0x8000, 0x80][rng.below(3) as usize];
                sent += pair.send(0, client, &data[sent..end], flags).unwrap_or(0);
            }
            pair.run(u64::from(rng.below(40)));
            let len = 1 + rng.below(30_000) as usize;
            // A peek sees what the read takes, whatever came meanwhile.
            let peeked = pair.receive(1, server, len, MSG_PEEK);
            if rng.below(2) == 0 {
                pair.run(u64::from(rng.below(10)));
            }
            let call = Call::Read { fd: server, len };
            let before = got.len();
            match pair.hosts[1].start(pair.now, call) {
                Progress::Ready(Ok(Reply::Received(received))) => got.extend(received.bytes),
                Progress::Ready(Err(error)) => assert_eq!(error.name(), "EAGAIN"),
                Progress::Ready(other) => panic!("{other:?}"),
                Progress::Pending(_) => panic!("it waits"),
            }
            if let Ok(peeked) = peeked {
                assert!(got[before..].starts_with(&peeked.bytes), "seed {seed}");
            }
            if got.len() == data.len() {
                break;
            }
        }
        assert_eq!(got.len(), data.len(), "seed {seed}");
        assert!(got == data, "seed {seed}: other bytes");
    }
}
