//! The two ends against each other, without anything in between.

use std::collections::VecDeque;

use millrace_base::{HeapBuf, HeapPool, MacAddress, PacketBuf};
use millrace_wire::{EthernetView, IpView, TcpView};

use super::payload::{read_token, write_token};
use super::*;

const SERVICE: (u32, u16) = (0x0a00_0064, 80);
const SOURCES: Sources = Sources {
    first_address: 0x0a01_0000,
    first_port: 1_024,
    ports: 3,
};

fn link(checksums: Checksums) -> Link {
    Link {
        ours: MacAddress::new([2, 0, 0, 0, 0, 1]),
        theirs: MacAddress::new([2, 0, 0, 0, 0, 2]),
        mtu: 1_500,
        checksums,
    }
}

fn script(requests: u32, closer: Closer) -> Script {
    Script {
        request: Payload::http_request(100),
        response: Payload::http_response(120),
        requests,
        asks_at_once: true,
        closer,
    }
}

struct Pair {
    client: Client,
    server: Server,
    pool: HeapPool,
    to_server: VecDeque<HeapBuf>,
    to_client: VecDeque<HeapBuf>,
    heard: Vec<Heard>,
}

impl Pair {
    fn new(script: &Script, checksums: Checksums) -> Self {
        Self {
            client: Client::new(link(checksums), SOURCES, SERVICE, script.clone(), 1),
            server: Server::new(link(checksums), script.clone(), 2),
            pool: HeapPool::new(1_000, 2_048),
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            heard: Vec::new(),
        }
    }

    fn open(&mut self, index: u32) {
        let Self {
            client,
            pool,
            to_server,
            ..
        } = self;
        client.open(index, 1, pool, &mut |frame| to_server.push_back(frame));
    }

    /// Carries frames until none is left.
    fn run(&mut self) {
        while !self.to_server.is_empty() || !self.to_client.is_empty() {
            let Self {
                client,
                server,
                pool,
                to_server,
                to_client,
                heard,
            } = self;
            for frame in to_server.drain(..) {
                assert_sound(&frame);
                server.handle(&frame, 2, pool, &mut |frame| to_client.push_back(frame));
            }
            for frame in to_client.drain(..) {
                assert_sound(&frame);
                let said = client.handle(&frame, 3, pool, &mut |frame| to_server.push_back(frame));
                if said != Heard::Nothing {
                    heard.push(said);
                }
            }
        }
    }
}

/// A frame that any other parser understands.
fn assert_sound(frame: &HeapBuf) {
    let ethernet = EthernetView::parse(frame.bytes()).expect("Ethernet");
    let len = frame.frame_len() - ethernet.header_len();
    let ip = IpView::parse(ethernet.ether_type(), ethernet.payload(), len)
        .expect("IP")
        .expect("sound");
    let tcp = TcpView::parse(ip.payload()).expect("TCP");
    assert!(tcp.source_port() == SERVICE.1 || tcp.destination_port() == SERVICE.1);
    if !frame.offload.tcp_checksum {
        assert!(ip.header_checksum_ok());
    }
}

#[test]
fn connections_open_ask_and_close_whoever_closes_and_whoever_sums() {
    for checksums in [Checksums::Software, Checksums::Device] {
        for closer in [Closer::Client, Closer::Server, Closer::Nobody] {
            let mut pair = Pair::new(&script(3, closer), checksums);
            for index in 0..7 {
                pair.open(index);
            }
            pair.run();
            let (client, server) = (pair.client.counts(), pair.server.counts());
            assert_eq!(
                (client.errors(), server.errors()),
                (0, 0),
                "{closer:?} {client:?} {server:?}"
            );
            assert_eq!((client.opens, client.established, server.opens), (7, 7, 7));
            assert_eq!((client.requests, client.responses), (21, 21));
            assert_eq!((server.requests, server.responses), (21, 21));
            let closed = if closer == Closer::Nobody { 0 } else { 7 };
            assert_eq!(
                (client.closed, server.closed),
                (closed, closed),
                "{closer:?}"
            );
            assert_eq!(client.frames_out, server.frames_in);
            let last = pair
                .heard
                .iter()
                .filter(|heard| matches!(heard, Heard::Response { number: 3, .. }));
            assert_eq!(last.count(), 7);
        }
    }
}

#[test]
fn a_client_that_waits_asks_when_it_is_told_to() {
    let script = Script {
        asks_at_once: false,
        ..script(u32::MAX, Closer::Nobody)
    };
    let mut pair = Pair::new(&script, Checksums::Software);
    pair.open(5);
    pair.run();
    let Some(&Heard::Established { index: 5, mut next }) = pair.heard.last() else {
        panic!("{:?}", pair.heard);
    };
    for number in 1..=4 {
        let Pair {
            client,
            pool,
            to_server,
            ..
        } = &mut pair;
        client.ask((5, number, next), Some((9, 2)), pool, &mut |frame| {
            to_server.push_back(frame)
        });
        pair.run();
        let Some(&Heard::Response {
            index: 5,
            number: heard,
            next: after,
        }) = pair.heard.last()
        else {
            panic!("{:?}", pair.heard);
        };
        assert_eq!(heard, number);
        next = after;
    }
    assert_eq!(
        pair.client.counts().errors() + pair.server.counts().errors(),
        0
    );
}

#[test]
fn damage_is_counted_and_not_answered() {
    let mut pair = Pair::new(&script(1, Closer::Client), Checksums::Software);
    pair.open(0);
    let frame = pair.to_server.pop_front().expect("a SYN");
    let mut bytes = frame.to_vec();
    bytes[40] ^= 1;
    for damaged in [&bytes[..], &bytes[..50]] {
        let frame = HeapBuf::from_frame(damaged);
        pair.server
            .handle(&frame, 1, &mut pair.pool, &mut |_| panic!("an answer"));
    }
    let counts = pair.server.counts();
    assert_eq!(
        (counts.bad_checksums, counts.unexpected, counts.frames_out),
        (1, 1, 0)
    );
}

#[test]
fn a_response_that_somebody_else_asked_for_is_an_error() {
    let script = Script {
        response: Payload::raw(100),
        ..script(1, Closer::Nobody)
    };
    for digit in [false, true] {
        let mut pair = Pair::new(&script, Checksums::Device);
        pair.open(0);
        for _ in 0..2 {
            let Pair {
                client,
                server,
                pool,
                to_server,
                to_client,
                ..
            } = &mut pair;
            for frame in to_server.drain(..) {
                server.handle(&frame, 1, pool, &mut |frame| to_client.push_back(frame));
            }
            for frame in to_client.drain(..) {
                let mut bytes = frame.to_vec();
                if let Some(first) = bytes.get_mut(66).filter(|_| digit) {
                    *first ^= 1;
                }
                let frame = HeapBuf::from_frame(&bytes);
                client.handle(&frame, 1, pool, &mut |frame| to_server.push_back(frame));
            }
        }
        let counts = pair.client.counts();
        assert_eq!(
            (counts.responses, counts.unexpected),
            (u64::from(!digit), u64::from(digit))
        );
    }
}

#[test]
fn an_upload_keeps_its_window_full_and_arrives_whole() {
    let config = UploadConfig {
        sources: SOURCES,
        connections: 4,
        service: SERVICE,
        segment_bytes: 1_448,
        window_segments: 8,
        key: 3,
    };
    let mut upload = Upload::new(link(Checksums::Software), config);
    let mut sink = UploadSink::new(link(Checksums::Software), 1_448, 4);
    let mut pool = HeapPool::new(1_000, 2_048);
    let (mut forth, mut back) = (VecDeque::new(), VecDeque::new());
    for index in 0..4 {
        upload.open(index, 1, &mut pool, &mut |frame| forth.push_back(frame));
    }
    for _ in 0..100 {
        for frame in forth.drain(..) {
            assert_sound(&frame);
            sink.handle(&frame, 1, &mut pool, &mut |frame| back.push_back(frame));
        }
        for frame in back.drain(..) {
            upload.handle(&frame, 1, &mut pool, &mut |frame| forth.push_back(frame));
        }
    }
    assert_eq!((upload.counts().errors(), sink.counts().errors()), (0, 0));
    assert_eq!(upload.counts().established, 4);
    // A window a round trip on every connection, but for the one that the handshake took.
    assert_eq!(sink.counts().requests, 99 * 4 * 8);
    assert_eq!(sink.bytes(), 99 * 4 * 8 * 1_448);
}

// RFC 9293 section 3.8.6: a balancer short of buffers offers less than the sender would like, and drops what lies beyond.
#[test]
fn an_upload_stays_inside_the_window_that_it_is_offered() {
    const SEGMENT: u32 = 1_448;
    let config = UploadConfig {
        sources: SOURCES,
        connections: 1,
        service: SERVICE,
        segment_bytes: SEGMENT,
        window_segments: 8,
        key: 3,
    };
    let mut upload = Upload::new(link(Checksums::Device), config);
    let mut sink = UploadSink::new(link(Checksums::Device), SEGMENT, 4);
    let mut pool = HeapPool::new(1_000, 2_048);
    let mut forth = VecDeque::new();
    upload.open(0, 1, &mut pool, &mut |frame| forth.push_back(frame));
    // The SYN-ACK's field is not scaled, those of the ACK of two segments behind it are shifted by 7.
    let mut answer = None;
    let mut sent = Vec::new();
    for field in [5_068u16, 10, 40, 0, 800] {
        for frame in forth.drain(..) {
            sink.handle(&frame, 1, &mut pool, &mut |frame| answer = Some(frame));
        }
        let frame = answer.as_mut().expect("an ACK");
        let window = frame.bytes_mut().and_then(|bytes| bytes.get_mut(48..50));
        let window = window.expect("a header");
        window.copy_from_slice(&field.to_be_bytes());
        let before = upload.counts().requests;
        upload.handle(frame, 1, &mut pool, &mut |frame| {
            if sent.is_empty() {
                forth.push_back(frame);
            }
        });
        sent.push(upload.counts().requests - before);
    }
    // 5,068 bytes; 1,280, which takes back nothing; 5,120; 0; more than the eight segments that are wanted.
    assert_eq!(sent, [3, 0, 2, 0, 5]);
}

#[test]
fn tokens_and_endpoints_read_back() {
    let mut bytes = [0; 16];
    for token in [0, 1, 0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, u64::MAX] {
        write_token(&mut bytes, token);
        assert_eq!(bytes.as_slice(), format!("{token:016x}").as_bytes());
        assert_eq!(read_token(&bytes), Some(token));
    }
    assert_eq!(read_token(&bytes[..15]), None);
    for index in [0, 1, 2, 3, 1_000, 10_000_000] {
        let (address, port) = SOURCES.endpoint(index);
        assert_eq!(SOURCES.index(address, port), index);
    }
}

#[test]
fn http_payloads_are_as_long_as_asked_and_say_their_length() {
    for bytes in [90, 100, 109, 110, 111, 1_000, 1_448] {
        let request = Payload::http_request(bytes);
        assert_eq!(request.len(), bytes);
        let response = Payload::http_response(bytes);
        assert_eq!(response.len(), bytes);
        let mut text = vec![0; bytes];
        response.write(&mut text, 0xabc);
        let text = String::from_utf8(text).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.ends_with(&format!(": {}", body.len())), "{head}");
        assert!(body.starts_with("0000000000000abc"));
        assert_eq!(response.token(text.as_bytes()), Some(0xabc));
    }
}
