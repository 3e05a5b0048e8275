//! Signed segments (RFC 2385, `TCP_MD5SIG`): who signs what, and what becomes of segments that are
//! signed with another key, or not at all.

use millrace_base::{Address, ListenerId, Prefix, SeqNumber};
use millrace_stack::{DropReason, Offloads, SigningKey};
use millrace_wire::tcp::{SIGNATURE_AT, Signature, checksum};
use millrace_wire::{EthernetView, IpView, TcpFlags, TcpRepr, TcpView};

use crate::peer::{ACK, Peer, RST, SYN};
use crate::wire::{World, address, interface, listener, mac, tuple};

const FIN: TcpFlags = TcpFlags::FIN;
const LISTENER: ListenerId = ListenerId::new(1);

fn key(text: &str) -> SigningKey {
    SigningKey::new(text.as_bytes()).expect("1 to 80 bytes")
}

fn prefix(address: Address, len: u8) -> Prefix {
    Prefix::new(address, len).expect("fits")
}

/// Everybody of the family of `address`.
fn all(address: Address) -> Prefix {
    prefix(address, 0)
}

/// Where the TCP header is.
fn tcp_at(frame: &[u8]) -> usize {
    if frame[12] == 8 { 34 } else { 54 }
}

/// The addresses and the segment of a frame.
fn segment(frame: &[u8]) -> (Address, Address, Vec<u8>) {
    let ethernet = EthernetView::parse(frame).expect("Ethernet");
    let payload = ethernet.payload();
    let ip = IpView::parse(ethernet.ether_type(), payload, payload.len());
    let ip = ip.expect("IP").expect("well formed");
    let len = ip.payload_len() as u32;
    let pieces = core::iter::once(ip.payload());
    assert!(checksum::verify(ip.source(), ip.destination(), len, pieces));
    (ip.source(), ip.destination(), ip.payload().to_vec())
}

/// Whether a frame is signed with this key.
fn is_signed(frame: &[u8], key: &SigningKey) -> bool {
    let (source, destination, bytes) = segment(frame);
    let end = usize::from(bytes[12] >> 4) * 4;
    match Signature::find(&bytes[20..end]) {
        Signature::Present(digest) => key.sign(source, destination, &bytes) == Some(*digest),
        Signature::Absent | Signature::Malformed => false,
    }
}

fn header(frame: &[u8]) -> TcpRepr {
    let (_, _, bytes) = segment(frame);
    TcpRepr::parse(&TcpView::parse(&bytes).expect("TCP"))
}

/// Puts a digest into a frame with room for one, and a right checksum.
fn sign(frame: &mut [u8], key: &SigningKey) {
    let (source, destination, mut bytes) = segment(frame);
    let digest = key.sign(source, destination, &bytes).expect("a header");
    bytes[SIGNATURE_AT..SIGNATURE_AT + 16].copy_from_slice(&digest);
    bytes[16..18].fill(0);
    let mut sum =
        millrace_wire::Checksum::pseudo_header(source, destination, 6, bytes.len() as u32);
    sum.add_bytes(&bytes);
    bytes[16..18].copy_from_slice(&sum.finish().to_be_bytes());
    let at = tcp_at(frame);
    frame[at..].copy_from_slice(&bytes);
}

impl Peer {
    /// A server that has this key for everybody of the peer's family, over either.
    fn keyed(v6: bool, key: &SigningKey) -> Self {
        let mut peer = Self::new(8);
        let server = address(v6, 0, 2);
        peer.tuple = tuple(address(v6, 0, 1), 40_000, server, 80);
        let stack = &mut peer.world.nodes[1].stack;
        stack.set_listeners(&[listener(1, server, 80)]);
        assert!(stack.set_listener_keys(LISTENER, &[(all(server), *key)]));
        peer
    }

    /// A frame that is signed.
    fn signed(
        &mut self,
        key: &SigningKey,
        (flags, seq, ack): (TcpFlags, u32, u32),
        payload: &[u8],
    ) -> Vec<u8> {
        self.md5 = true;
        let mut frame = self.frame(flags, seq, ack, payload);
        self.md5 = false;
        sign(&mut frame, key);
        frame
    }

    /// Sends it; returns the frames that the server answers.
    fn send_signed(
        &mut self,
        key: &SigningKey,
        numbers: (TcpFlags, u32, u32),
        payload: &[u8],
    ) -> Vec<Vec<u8>> {
        let frame = self.signed(key, numbers, payload);
        self.world.deliver(1, crate::peer::PORT, &frame);
        self.frames()
    }

    /// Sends it; the server's only answer, which is signed too.
    fn answer(&mut self, key: &SigningKey, numbers: (TcpFlags, u32, u32), data: &[u8]) -> TcpRepr {
        let frames = self.send_signed(key, numbers, data);
        let [frame] = &frames[..] else {
            panic!("one answer: {frames:?}")
        };
        assert!(is_signed(frame, key), "{:?}", header(frame));
        header(frame)
    }

    /// A connection in signed segments: its id and the server's next number; the peer's is 101.
    fn open_signed(&mut self, key: &SigningKey) -> (millrace_stack::FlowId, u32) {
        let syn_ack = self.answer(key, (SYN, 100, 0), b"");
        assert_eq!(syn_ack.flags, SYN | ACK);
        let nxt = syn_ack.seq.value().wrapping_add(1);
        assert!(self.send_signed(key, (ACK, 101, nxt), b"").is_empty());
        (self.world.accepted(1).expect("accepted"), nxt)
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.stats().dropped(reason)
    }

    fn read(&mut self, flow: millrace_stack::FlowId) -> Vec<u8> {
        let mut out = Vec::new();
        self.world.receive(1, flow, &mut out);
        out
    }
}

// behaviour: A4-16, A6-12, A6-16, A19-8, A26-3, SND-35, X8-22
#[test]
fn who_has_a_key_signs_everything_and_takes_nothing_else() {
    for v6 in [false, true] {
        let (ours, theirs) = (key("tell nobody"), key("tell everybody"));
        let mut peer = Peer::keyed(v6, &ours);
        // Neither without a signature nor with the wrong one is there a request.
        assert!(peer.send(SYN, 100, 0, b"").is_empty());
        assert!(peer.send_signed(&theirs, (SYN, 100, 0), b"").is_empty());
        let occupancy = peer.world.nodes[1].stack.occupancy();
        assert_eq!((occupancy.half_open, occupancy.tuples), (0, 0));
        let nxt = peer
            .answer(&ours, (SYN, 100, 0), b"")
            .seq
            .value()
            .wrapping_add(1);
        // Nor does the final ACK complete one.
        assert!(peer.send(ACK, 101, nxt, b"").is_empty());
        assert!(peer.send_signed(&theirs, (ACK, 101, nxt), b"").is_empty());
        assert!(peer.send(RST, 101, 0, b"").is_empty());
        assert_eq!(peer.world.nodes[1].stack.occupancy().half_open, 1);
        assert_eq!(peer.accepted(), 0);
        assert!(peer.send_signed(&ours, (ACK, 101, nxt), b"").is_empty());
        let flow = peer.world.accepted(1).expect("accepted");
        // What header prediction expects, but for the signature.
        assert!(peer.send(ACK, 101, nxt, b"forged").is_empty());
        assert!(
            peer.send_signed(&theirs, (ACK, 101, nxt), b"forged")
                .is_empty()
        );
        let mut changed = peer.signed(&ours, (ACK, 101, nxt), b"forged");
        // Two words in another order: the checksum does not see it.
        let last = changed.len() - 4;
        changed[last..].rotate_left(2);
        assert!(peer.put(&changed).is_empty());
        assert!(peer.send(RST, 101, 0, b"").is_empty());
        assert!(peer.read(flow).is_empty());
        // And what is genuine is taken and acknowledged.
        assert_eq!(
            peer.answer(&ours, (ACK, 101, nxt), b"genuine").ack,
            SeqNumber::new(108)
        );
        assert_eq!(peer.read(flow), b"genuine");
        assert_eq!(peer.dropped(DropReason::TcpMd5NotFound), 5);
        assert_eq!(peer.stats().tcp_md5_not_found, 5);
        assert_eq!(
            peer.stats().tcp_md5_failure,
            peer.dropped(DropReason::TcpMd5Failure)
        );
        assert_eq!(peer.stats().tcp_md5_failure, 4);
        assert_eq!(peer.stats().tcp_md5_unexpected, 0);
    }
}

// The peer's MSS is 1,000: 980 of it are left beside the signature.
// behaviour: A4-16, X8-22
#[test]
fn a_signature_takes_20_bytes_of_every_segment() {
    let secret = key("k");
    let mut peer = Peer::keyed(false, &secret);
    let (flow, nxt) = peer.open_signed(&secret);
    let mut sent = 0;
    peer.world.send(1, flow, &[7; 3_000], &mut sent);
    let frames = peer.frames();
    let lens: Vec<usize> = frames.iter().map(|frame| frame.len() - 34 - 40).collect();
    assert_eq!(lens, [980, 980, 980, 60]);
    assert!(frames.iter().all(|frame| is_signed(frame, &secret)));
    // What is sent again is signed again.
    let again = peer.wait(1_500);
    assert!(!again.is_empty() && again.iter().all(|(_, segment)| segment.options.md5));
    // Without the key there is room for more.
    let now = peer.world.now;
    assert!(peer.world.nodes[1].stack.set_signing_key(now, flow, None));
    peer.send(ACK, 101, nxt.wrapping_add(3_000), b"");
    peer.world.send(1, flow, &[7; 1_500], &mut { 0 });
    let lens: Vec<usize> = peer.frames().iter().map(|frame| frame.len() - 54).collect();
    assert_eq!(lens, [1_000, 500]);
}

// Linux gives up timestamps where SACK is spoken, as there is no room for blocks beside both.
// behaviour: A4-16, X8-22
#[test]
fn a_signed_syn_ack_has_timestamps_only_without_sack() {
    let secret = key("k");
    for (scale, stamped) in [(None, true), (Some(7), false)] {
        let mut peer = Peer::keyed(false, &secret);
        (peer.timestamp, peer.scale) = (Some(1_000), scale);
        let syn_ack = peer.answer(&secret, (SYN, 100, 0), b"");
        assert_eq!(syn_ack.options.timestamps.is_some(), stamped);
        assert_eq!(syn_ack.options.sack_permitted, !stamped);
        if scale.is_some() {
            peer.timestamp = None;
        }
        let nxt = syn_ack.seq.value().wrapping_add(1);
        assert!(peer.send_signed(&secret, (ACK, 101, nxt), b"").is_empty());
        // Out of order: two blocks fit beside a signature, none beside timestamps too.
        for (count, seq) in [201u32, 301, 401].into_iter().enumerate() {
            let ack = peer.answer(&secret, (ACK, seq, nxt), b"early");
            let fitting = if stamped { 0 } else { 2 };
            assert_eq!(ack.options.sack.len(), (count + 1).min(fitting));
            assert_eq!(ack.options.timestamps.is_some(), stamped);
        }
    }
}

// behaviour: A19-8
#[test]
fn the_key_of_the_longest_prefix_counts_and_of_equal_ones_the_newest() {
    let peers = address(false, 0, 1);
    let (wide, near, exact) = (key("wide"), key("near"), key("exact"));
    let mut peer = Peer::keyed(false, &wide);
    let mut listen = |keys: &[(Prefix, SigningKey)], expected: &SigningKey| {
        assert!(peer.world.nodes[1].stack.set_listener_keys(LISTENER, keys));
        peer.tuple.local.port += 1;
        peer.answer(expected, (SYN, 100, 0), b"");
    };
    listen(&[(all(peers), wide), (prefix(peers, 24), near)], &near);
    listen(&[(prefix(peers, 24), near), (all(peers), wide)], &near);
    let mut many = vec![(prefix(peers, 32), exact), (prefix(peers, 24), near)];
    listen(&many, &exact);
    many.push((prefix(peers, 32), wide));
    listen(&many, &wide);
    // Those of other peers and of another family do not count.
    let others = [
        (prefix(address(false, 0, 9), 32), exact),
        (all(address(true, 0, 1)), exact),
        (all(peers), wide),
    ];
    listen(&others, &wide);
    // Another listener's are its own.
    let stack = &mut peer.world.nodes[1].stack;
    assert!(stack.set_listener_keys(ListenerId::new(2), &[(prefix(peers, 32), exact)]));
    assert!(stack.set_listener_keys(LISTENER, &[]));
    peer.tuple.local.port += 1;
    peer.syn(100);
}

// behaviour: A10-25, A19-8
#[test]
fn a_syn_ack_that_comes_again_is_signed_with_the_key_of_that_time() {
    let (first, second) = (key("first"), key("second"));
    let mut peer = Peer::keyed(false, &first);
    peer.answer(&first, (SYN, 100, 0), b"");
    let peers = all(address(false, 0, 1));
    let stack = &mut peer.world.nodes[1].stack;
    assert!(stack.set_listener_keys(LISTENER, &[(peers, second)]));
    peer.world.run_for(0);
    let later = peer
        .world
        .now
        .after(millrace_base::Nanos::from_millis(1_100));
    peer.world.now = later;
    let node = &mut peer.world.nodes[1];
    node.stack.advance(later, &mut node.pool);
    let frames = peer.frames();
    assert_eq!(frames.len(), 1);
    assert!(is_signed(&frames[0], &second) && header(&frames[0]).flags == SYN | ACK);
    // The ACK of a segment outside the window, and the RST for a wrong ACK, are signed as well.
    let iss = header(&frames[0]).seq.value();
    let ack = peer.answer(&second, (ACK, 90_000_101, iss.wrapping_add(1)), b"");
    assert_eq!((ack.flags, ack.options.mss), (ACK, None));
    let reset = peer.answer(&second, (ACK, 101, iss.wrapping_add(77)), b"");
    assert_eq!(reset.flags, RST);
}

// behaviour: A26-25, A26-26, A26-3, X6-18
#[test]
fn resets_and_the_acks_of_a_rest_are_signed() {
    let secret = key("k");
    for v6 in [false, true] {
        let mut peer = Peer::keyed(v6, &secret);
        let (flow, nxt) = peer.open_signed(&secret);
        // Unread data makes `close` a reset.
        peer.answer(&secret, (ACK, 101, nxt), b"unread");
        peer.world.nodes[1].stack.close(peer.world.now, flow);
        let frames = peer.frames();
        assert_eq!(frames.len(), 1);
        assert!(is_signed(&frames[0], &secret));
        assert_eq!(header(&frames[0]).flags, RST | ACK);
        // A connection that the server closes first rests there.
        peer.tuple.local.port += 1;
        peer.world.nodes[1].events.clear();
        let (flow, nxt) = peer.open_signed(&secret);
        peer.world.nodes[1].stack.close(peer.world.now, flow);
        assert!(is_signed(&peer.frames()[0], &secret));
        let fin = (ACK | FIN, 101, nxt.wrapping_add(1));
        assert_eq!(peer.answer(&secret, fin, b"").flags, ACK);
        let stack = &peer.world.nodes[1].stack;
        assert_eq!(
            (stack.occupancy().time_wait, stack.occupancy().connections),
            (1, 0)
        );
        let later = peer
            .world
            .now
            .after(millrace_base::Nanos::from_millis(2_000));
        peer.world.now = later;
        assert_eq!(peer.answer(&secret, fin, b"").ack, SeqNumber::new(102));
        assert_eq!(
            peer.world.nodes[1].stack.occupancy().disordered,
            0,
            "no key is left behind"
        );
    }
}

// Linux: tcp_v4_send_reset without a socket. The peer's port is the port of our listener: both ends of
// a routing session listen on the same port.
// behaviour: A6-16
#[test]
fn what_belongs_to_nobody_draws_a_signed_reset_if_its_key_is_known() {
    let (ours, theirs) = (key("ours"), key("theirs"));
    let mut peer = Peer::keyed(false, &ours);
    peer.tuple.remote.port = 33_333;
    peer.tuple.local.port = 80;
    assert_eq!(peer.answer(&ours, (ACK, 5, 77), b"").flags, RST);
    assert!(peer.send_signed(&theirs, (ACK, 5, 77), b"").is_empty());
    let plain = peer.send(ACK, 5, 77, b"");
    assert!(plain[0].flags == RST && !plain[0].options.md5);
    // Nobody listens on 81.
    peer.tuple.local.port = 81;
    assert!(peer.send_signed(&ours, (ACK, 5, 77), b"").is_empty());
}

// behaviour: A6-16
#[test]
fn a_signature_for_a_connection_without_a_key_is_unexpected() {
    let secret = key("k");
    let mut peer = Peer::new(8);
    assert!(peer.send_signed(&secret, (SYN, 100, 0), b"").is_empty());
    assert_eq!(peer.stats().tcp_md5_unexpected, 1);
    let nxt = peer.syn(100).wrapping_add(1);
    assert!(peer.send_signed(&secret, (ACK, 101, nxt), b"").is_empty());
    assert_eq!((peer.stats().tcp_md5_unexpected, peer.accepted()), (2, 0));
    assert!(peer.send(ACK, 101, nxt, b"").is_empty());
    let flow = peer.world.accepted(1).expect("accepted");
    assert!(
        peer.send_signed(&secret, (ACK, 101, nxt), b"forged")
            .is_empty()
    );
    assert_eq!(peer.dropped(DropReason::TcpMd5Unexpected), 3);
    // A key that comes later counts from then on.
    let now = peer.world.now;
    let stack = &mut peer.world.nodes[1].stack;
    assert!(stack.set_signing_key(now, flow, Some(&secret)));
    assert!(peer.send(ACK, 101, nxt, b"forged").is_empty());
    assert_eq!(
        peer.answer(&secret, (ACK, 101, nxt), b"genuine").ack,
        SeqNumber::new(108)
    );
    // So does another one, and none.
    let next = key("next");
    let stack = &mut peer.world.nodes[1].stack;
    assert!(stack.set_signing_key(now, flow, Some(&next)));
    assert!(
        peer.send_signed(&secret, (ACK, 108, nxt), b"old")
            .is_empty()
    );
    assert_eq!(peer.stats().tcp_md5_failure, 1);
    peer.answer(&next, (ACK, 108, nxt), b"new");
    assert!(peer.world.nodes[1].stack.set_signing_key(now, flow, None));
    assert!(peer.send_signed(&next, (ACK, 111, nxt), b"old").is_empty());
    let plain = peer.send(ACK, 111, nxt, b"plain");
    assert!(!plain.iter().any(|ack| ack.options.md5));
    assert_eq!(peer.read(flow), b"genuinenewplain");
}

// Linux 6.7 and later: who cannot read the options cannot know that there is no signature in them.
#[test]
fn options_that_cannot_be_read_to_their_end_are_dropped_where_a_signature_may_be() {
    let mut peer = Peer::new(8);
    peer.md5 = true;
    for (at, len) in [(23, 17), (23, 19), (23, 1), (21, 0)] {
        let mut frame = peer.frame(SYN, 100, 0, b"");
        let tcp = tcp_at(&frame);
        frame[tcp + at] = len;
        if at == 21 {
            // An unknown kind without a length, in front of everything.
            frame[tcp + 20] = 99;
        }
        frame[tcp + 16..tcp + 18].fill(0);
        let bytes = frame[tcp..].to_vec();
        let (from, to) = (peer.tuple.local.address, peer.tuple.remote.address);
        let mut sum = millrace_wire::Checksum::pseudo_header(from, to, 6, bytes.len() as u32);
        sum.add_bytes(&bytes);
        frame[tcp + 16..tcp + 18].copy_from_slice(&sum.finish().to_be_bytes());
        assert!(peer.put(&frame).is_empty());
    }
    assert_eq!(peer.dropped(DropReason::TcpAuthHeader), 4);
    assert_eq!(peer.world.nodes[1].stack.occupancy().half_open, 0);
}

#[test]
fn listeners_have_a_thousand_keys_together() {
    let mut peer = Peer::new(8);
    let stack = &mut peer.world.nodes[1].stack;
    let rows = vec![(all(address(false, 0, 1)), key("k")); 1_024];
    assert!(stack.set_listener_keys(LISTENER, &rows));
    assert!(
        stack.set_listener_keys(LISTENER, &rows),
        "in place of the others"
    );
    assert!(!stack.set_listener_keys(ListenerId::new(2), &rows[..1]));
    assert!(stack.set_listener_keys(LISTENER, &rows[1..]));
    assert!(stack.set_listener_keys(ListenerId::new(2), &rows[..1]));
}

// Two of us, over a link that loses and reorders, through a device that would cut large frames.
// behaviour: A4-16, A26-3, SND-35, X8-22
#[test]
fn a_signed_stream_arrives_whole_and_no_device_cuts_its_segments() {
    for (seed, v6, offloads) in [
        (
            7,
            false,
            Offloads {
                segments_max: 8,
                ..Offloads::default()
            },
        ),
        (
            8,
            true,
            Offloads {
                segments_max: 1,
                ..Offloads::default()
            },
        ),
        (
            9,
            false,
            Offloads {
                segments_max: 32,
                tcp_checksum: false,
                tso: true,
                tso_bytes_max: 60_000,
                ..Offloads::default()
            },
        ),
    ] {
        let mut world = World::chain(seed, 2);
        world.recorded = Some(Vec::new());
        let (client, server) = (address(v6, 0, 1), address(v6, 0, 2));
        let mut own = interface(1, mac(0, 1), &[address(false, 0, 1), address(true, 0, 1)]);
        own.offloads = offloads;
        world.nodes[0].stack.set_interfaces(world.now, &[own]);
        world.resolve_all();
        let secret = key("between the two of us");
        world.nodes[1]
            .stack
            .set_listeners(&[listener(1, server, 179)]);
        assert!(
            world.nodes[1]
                .stack
                .set_listener_keys(LISTENER, &[(all(server), secret)])
        );
        let now = world.now;
        let stack = &mut world.nodes[0].stack;
        let flow = stack
            .connect(now, tuple(client, 50_000, server, 179), 1)
            .expect("connects");
        assert!(stack.set_signing_key(now, flow, Some(&secret)));
        world.faults.loss_percent = 3;
        world.faults.reorder_percent = 10;
        let data: Vec<u8> = (0..200_000u32).map(|at| (at * 7 % 251) as u8).collect();
        let (mut sent, mut out) = (0, Vec::new());
        world.run_until(120_000, |world| {
            world.send(0, flow, &data, &mut sent);
            if let Some(accepted) = world.accepted(1) {
                world.receive(1, accepted, &mut out);
            }
            out.len() == data.len()
        });
        assert!(out == data, "seed {seed}");
        world.nodes[0].stack.close(world.now, flow);
        let accepted = world.accepted(1).expect("accepted");
        world.nodes[1].stack.close(world.now, accepted);
        world.run_for(2_000);
        let frames = world.recorded.take().expect("recorded");
        assert!(frames.len() > 150);
        for frame in &frames {
            assert!(frame.len() <= 1_514, "seed {seed}: {} bytes", frame.len());
            assert!(
                is_signed(frame, &secret),
                "seed {seed}: {:?}",
                header(frame)
            );
        }
        let syn = header(&frames[0]);
        assert!(syn.flags == SYN && syn.options.timestamps.is_none());
        for node in &world.nodes {
            assert_eq!(node.stack.stats().tcp_md5_failure, 0);
            assert_eq!(node.stack.occupancy().disordered, 0, "seed {seed}");
        }
    }
}
