//! `TCP_REPAIR`: a connection is taken apart and goes on in another socket.

mod pair;

use millrace_socket::linux::{
    MSG_PEEK, SOCK_NONBLOCK, SOL_TCP, TCP_QUEUE_SEQ, TCP_REPAIR, TCP_REPAIR_OPTIONS,
    TCP_REPAIR_QUEUE, TCP_REPAIR_WINDOW, TCP_TIMESTAMP,
};
use millrace_socket::{Call, Errno, Reply};
use pair::{FAMILIES, Family, Pair, to};

const RECEIVE: i32 = 1;
const SEND: i32 = 2;

fn set_bytes(pair: &mut Pair, fd: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
    let now = pair.now;
    pair.hosts[0].setsockopt(now, fd, SOL_TCP, name, value)
}

fn queue(pair: &mut Pair, fd: i32, number: i32) {
    pair.set(0, fd, SOL_TCP, TCP_REPAIR_QUEUE, number)
        .expect("in repair");
}

// behaviour: OPT-31 A3-7 A3-38 A11-8 A12-21 A25-7 X3-7 CON-15 X3-15
#[test]
fn a_connection_goes_on_in_another_socket_and_its_peer_notices_nothing() {
    for family in FAMILIES {
        let mut pair = Pair::new();
        let (client, server) = pair.nonblocking(family, 80);
        pair.write(1, server, b"unread").expect("room");
        pair.run(20);
        pair.lose = [1, 0];
        pair.write(0, client, b"unsent").expect("room");
        let name = pair.hosts[0].getsockname(client).expect("a name");
        // Everything there is to know.
        pair.set(0, client, SOL_TCP, TCP_REPAIR, 1).expect("on");
        queue(&mut pair, client, RECEIVE);
        let receive_seq = pair
            .get(0, client, SOL_TCP, TCP_QUEUE_SEQ)
            .expect("a place");
        let unread = pair.receive(0, client, 99, MSG_PEEK).expect("data").bytes;
        queue(&mut pair, client, SEND);
        let write_seq = pair
            .get(0, client, SOL_TCP, TCP_QUEUE_SEQ)
            .expect("a place");
        let unsent = pair.receive(0, client, 99, MSG_PEEK).expect("data").bytes;
        assert_eq!((&unread[..], &unsent[..]), (&b"unread"[..], &b"unsent"[..]));
        let stamp = pair
            .get(0, client, SOL_TCP, TCP_TIMESTAMP)
            .expect("a clock");
        let (now, host) = (pair.now, &mut pair.hosts[0]);
        let windows = host
            .getsockopt(now, client, SOL_TCP, TCP_REPAIR_WINDOW, 20)
            .expect("five words");
        let info = host.tcp_info(client).expect("lives");
        let from = pair.seen.len();
        pair.close(0, client).expect("open");
        // Put together again.
        let fd = pair.socket(0, family, SOCK_NONBLOCK);
        pair.set(0, fd, SOL_TCP, TCP_REPAIR, 1).expect("on");
        queue(&mut pair, fd, RECEIVE);
        let begin = receive_seq.wrapping_sub(6);
        pair.set(0, fd, SOL_TCP, TCP_QUEUE_SEQ, begin)
            .expect("closed");
        queue(&mut pair, fd, SEND);
        let begin = write_seq.wrapping_sub(6);
        pair.set(0, fd, SOL_TCP, TCP_QUEUE_SEQ, begin)
            .expect("closed");
        let now = pair.now;
        pair.hosts[0].bind(now, fd, name).expect("its own port");
        let connect = Call::Connect {
            fd,
            address: to(family, 2, 80),
        };
        assert_eq!(pair.now_call(0, connect), Ok(Reply::Done));
        let mut options = Vec::new();
        let shifts = u32::from(info.wscales & 0xf) | u32::from(info.wscales >> 4) << 16;
        for word in [2, info.snd_mss + 12, 3, shifts, 4, 0, 8, 0] {
            options.extend(word.to_ne_bytes());
        }
        set_bytes(&mut pair, fd, TCP_REPAIR_OPTIONS, &options).expect("fresh");
        pair.set(0, fd, SOL_TCP, TCP_TIMESTAMP, stamp).expect("on");
        assert_eq!(pair.write(0, fd, b"unsent"), Ok(6));
        queue(&mut pair, fd, RECEIVE);
        assert_eq!(pair.write(0, fd, b"unread"), Ok(6));
        set_bytes(&mut pair, fd, TCP_REPAIR_WINDOW, &windows).expect("they agree");
        assert_eq!(pair.seen.len(), from, "not a segment has left");
        pair.set(0, fd, SOL_TCP, TCP_REPAIR, 0).expect("off");
        let told = pair.hosts[0].tcp_info(fd).expect("lives");
        assert_eq!((told.state, told.snd_mss), (1, info.snd_mss));
        assert_eq!((told.options & 7, told.wscales), (7, info.wscales));
        // It goes on: what was lost is sent again, what was unread is read.
        pair.run(2_000);
        assert_eq!(pair.read(1, server, 99).as_deref(), Ok(&b"unsent"[..]));
        assert_eq!(pair.read(0, fd, 99).as_deref(), Ok(&b"unread"[..]));
        pair.write(0, fd, b"more").expect("room");
        pair.write(1, server, b"again").expect("room");
        pair.run(100);
        assert_eq!(pair.read(1, server, 99).as_deref(), Ok(&b"more"[..]));
        assert_eq!(pair.read(0, fd, 99).as_deref(), Ok(&b"again"[..]));
    }
}

// behaviour: OPT-31 A11-8 A3-7
#[test]
fn repair_has_its_errors() {
    let mut pair = Pair::new();
    let (client, _server) = pair.nonblocking(Family::V4, 80);
    let option = |pair: &mut Pair, name, value| pair.set(0, client, SOL_TCP, name, value);
    assert_eq!(option(&mut pair, TCP_REPAIR_QUEUE, 1), Err(Errno::EPERM));
    assert_eq!(option(&mut pair, TCP_TIMESTAMP, 1), Err(Errno::EPERM));
    assert_eq!(option(&mut pair, TCP_REPAIR, 2), Err(Errno::EINVAL));
    let asked = pair.get(0, client, SOL_TCP, TCP_REPAIR_QUEUE);
    assert_eq!(asked, Err(Errno::EINVAL));
    option(&mut pair, TCP_REPAIR, 1).expect("on");
    assert_eq!(pair.get(0, client, SOL_TCP, TCP_REPAIR), Ok(1));
    assert_eq!(option(&mut pair, TCP_REPAIR_QUEUE, 3), Err(Errno::EINVAL));
    let asked = pair.get(0, client, SOL_TCP, TCP_QUEUE_SEQ);
    assert_eq!(asked, Err(Errno::EINVAL), "no queue");
    assert_eq!(pair.write(0, client, b"x"), Err(Errno::EINVAL));
    assert_eq!(
        pair.receive(0, client, 1, MSG_PEEK),
        Err(Errno::EINVAL),
        "no queue"
    );
    assert_eq!(pair.read(0, client, 1), Err(Errno::EPERM), "only to look");
    option(&mut pair, TCP_REPAIR_QUEUE, SEND).expect("a queue");
    assert_eq!(
        option(&mut pair, TCP_QUEUE_SEQ, 1),
        Err(Errno::EPERM),
        "it lives"
    );
    let shifts = [3u32.to_ne_bytes(), 15u32.to_ne_bytes()].concat();
    assert_eq!(
        set_bytes(&mut pair, client, TCP_REPAIR_OPTIONS, &shifts),
        Err(Errno::EFBIG)
    );
    let windows: Vec<u8> = [0u32, 9, 8, 0, 0]
        .into_iter()
        .flat_map(u32::to_ne_bytes)
        .collect();
    assert_eq!(
        set_bytes(&mut pair, client, TCP_REPAIR_WINDOW, &windows),
        Err(Errno::EINVAL)
    );
    option(&mut pair, TCP_REPAIR, -1).expect("off");
    let from = pair.seen.len();
    pair.run(1);
    assert_eq!(pair.seen.len(), from, "no probe");
    let listener = pair.socket(0, Family::V4, 0);
    let now = pair.now;
    pair.hosts[0].listen(now, listener, 1).expect("a port");
    let on = pair.set(0, listener, SOL_TCP, TCP_REPAIR, 1);
    assert_eq!(on, Err(Errno::EPERM));
}
