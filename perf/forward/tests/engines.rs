//! What each mode does to frames, over a loop of DPDK rings: a test sends into a loop port, the
//! engine under test receives it, and what the engine sends comes round again.
//!
//! EAL starts once per process and pins nothing that matters here; ordinary pages, no PCI, no root.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use millrace_base::{Address, HEADROOM_BYTES_DEFAULT, MacAddress, PacketBuf, Rng};
use millrace_dpdk::{
    Burst, Device, Eal, EalArgs, LcoreCpu, LogLevel, Memory, Mempool, MempoolConfig, Port,
    PortConfig, RxQueue, TxOffloads, TxQueue, Vdev,
};
use millrace_forward::engine::{
    Csum, Engine, FiveTupleSwap, FlowGen, IcmpEcho, Io, Mac, MacSwap, RxOnly, TxOnly,
};
use millrace_forward::{Forwarder, Mode, Noisy, Settings, Setup, Stream, StreamPlace, Topology};
use millrace_wire::arp::{ArpOperation, ArpRepr};
use millrace_wire::icmpv4::{Icmpv4Message, Icmpv4View};
use millrace_wire::{Checksum, EtherType, EthernetView, IpRepr, IpView, ethernet, protocol};

const A: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 0xa]);
const B: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 0xb]);
const OURS: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 1]);
const PEER: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 2]);
const V4: [Address; 2] = [Address::v4([192, 0, 2, 1]), Address::v4([198, 51, 100, 7])];

static EAL: OnceLock<Eal> = OnceLock::new();
static NAMES: AtomicU32 = AtomicU32::new(0);
/// Tests of `Forwarder` share lcore 1.
static LCORE: Mutex<()> = Mutex::new(());
/// Wires that no test uses: EAL has 32 ports and none goes away.
static WIRES: Mutex<Vec<Wire>> = Mutex::new(Vec::new());

fn eal() -> Eal {
    *EAL.get_or_init(|| {
        let args = EalArgs {
            lcores: vec![LcoreCpu { lcore: 0, cpu: 0 }, LcoreCpu { lcore: 1, cpu: 0 }],
            memory: Memory::Ordinary { mebibytes: 256 },
            file_prefix: Some(format!("millrace-forward-test-{}", std::process::id())),
            log_level: LogLevel::Error,
            extra: vec!["--no-telemetry".to_owned()],
            ..EalArgs::default()
        };
        // A thread of its own: EAL pins its caller to a CPU.
        std::thread::spawn(move || Eal::start(&args))
            .join()
            .expect("no panic")
            .expect("EAL starts")
    })
}

fn alone() -> MutexGuard<'static, ()> {
    LCORE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unique(stem: &str) -> String {
    format!("{stem}{}", NAMES.fetch_add(1, Ordering::Relaxed))
}

fn pool(count: u32) -> Mempool {
    let name = unique("forward");
    let config = MempoolConfig {
        name: &name,
        count,
        cache: 0,
        ..MempoolConfig::default()
    };
    Mempool::new(&eal(), &config).expect("pool")
}

/// The names of two connected devices, and the frames that fit between them.
#[derive(Clone)]
struct Wire {
    ends: [String; 2],
    ring_frames: u32,
}

impl Wire {
    fn take(ring_frames: u32) -> Self {
        let mut free = WIRES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = free.iter().position(|wire| wire.ring_frames == ring_frames) {
            return free.swap_remove(index);
        }
        let (near, far) = eal()
            .plug_ring_pair(&unique("wire"), 1, ring_frames)
            .expect("rings");
        Self {
            ends: [near.name().to_owned(), far.name().to_owned()],
            ring_frames,
        }
    }
}

/// Gives a wire back when its ports are gone.
struct Lease(Wire);

impl Drop for Lease {
    fn drop(&mut self) {
        // Frames that a failed test left in it would disturb the next one.
        if !std::thread::panicking() {
            let mut free = WIRES.lock().unwrap_or_else(PoisonError::into_inner);
            free.push(self.0.clone());
        }
    }
}

/// An engine between two ends of a wire: what the far end sends, the stream receives.
struct Bench {
    stream: Stream,
    far_rx: RxQueue,
    far_tx: TxQueue,
    pool: Mempool,
    count: usize,
    settings: Settings,
    _ports: [Port; 2],
    /// Dropped last.
    _lease: Lease,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        Self::with_ring(settings, 128, 255)
    }

    fn with_ring(settings: Settings, ring_frames: u32, buffers: u32) -> Self {
        let pool = pool(buffers);
        let wire = Wire::take(ring_frames);
        let config = PortConfig {
            tx_offloads: TxOffloads::MULTI_SEGS,
            ..PortConfig::default()
        };
        let start = |name: &str| {
            let device = Device::by_name(&eal(), name).expect("there");
            let port = device.configure(&config, &[pool]).expect("configured");
            port.start().expect("started")
        };
        let (near_port, mut near_rx, mut near_tx) = start(&wire.ends[0]);
        let (far_port, mut far_rx, mut far_tx) = start(&wire.ends[1]);
        let place = StreamPlace {
            rx_port: 0,
            tx_port: 0,
            queue: 0,
            tx_mac: OURS,
            peer_mac: PEER,
        };
        let queues = (near_rx.remove(0), near_tx.remove(0));
        Self {
            stream: Stream::new(place, queues, pool, &settings),
            far_rx: far_rx.remove(0),
            far_tx: far_tx.remove(0),
            pool,
            count: pool.count(),
            settings,
            _ports: [near_port, far_port],
            _lease: Lease(wire),
        }
    }

    fn send(&mut self, frames: &[Vec<u8>]) {
        let mut burst = Burst::new();
        for bytes in frames {
            let mut frame = self.pool.alloc().expect("free buffer");
            assert!(frame.set_span(HEADROOM_BYTES_DEFAULT, bytes.len()));
            frame.bytes_mut().expect("ours").copy_from_slice(bytes);
            burst.try_push(frame).expect("room");
        }
        assert_eq!(
            self.far_tx.burst(&mut burst).discard(),
            0,
            "the ring has room"
        );
    }

    fn arrived(&mut self) -> Vec<Vec<u8>> {
        let mut burst = Burst::new();
        let mut frames = Vec::new();
        while self.far_rx.burst(&mut burst) != 0 {
            frames.extend(burst.drain().map(|frame| frame.bytes().to_vec()));
        }
        frames
    }

    /// What an engine makes of these frames. No buffer is lost on the way.
    fn pass<E: Engine>(&mut self, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
        self.send(frames);
        let mut engine = E::begin(&self.stream, &self.settings);
        let did_something = engine.burst(&mut self.stream);
        assert_eq!(did_something, !frames.is_empty());
        engine.end(&mut self.stream);
        let arrived = self.arrived();
        assert_eq!(self.pool.available(), self.count, "the pool is full again");
        arrived
    }

    fn pass_one<E: Engine>(&mut self, frame: &[u8]) -> Vec<u8> {
        let mut arrived = self.pass::<E>(&[frame.to_vec()]);
        assert_eq!(arrived.len(), 1);
        arrived.remove(0)
    }
}

fn frame(ether_type: EtherType, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; ethernet::HEADER_BYTES];
    ethernet::emit(&mut bytes, A, B, ether_type).expect("room");
    bytes.extend_from_slice(payload);
    bytes
}

/// An IP packet from the first address to the second, behind Ethernet, with Ethernet padding.
fn packet([source, destination]: [Address; 2], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let ip = IpRepr {
        source,
        destination,
        protocol,
        hop_limit: 9,
        traffic_class: 0,
        dont_fragment: true,
        identification: 77,
        payload_len: u16::try_from(payload.len()).expect("short"),
    };
    let mut bytes = vec![0; ip.header_len()];
    ip.emit(&mut bytes, false).expect("room");
    bytes.extend_from_slice(payload);
    let mut bytes = frame(ip.ether_type(), &bytes);
    bytes.resize(bytes.len().max(60), 0xee);
    bytes
}

/// A TCP segment or UDP datagram between these addresses with the right checksum; an odd length.
fn with_ports(addresses: [Address; 2], protocol: u8) -> Vec<u8> {
    let (mut bytes, field) = if protocol == protocol::TCP {
        let mut header = vec![
            0x1f, 0x90, 0xc0, 0x01, 1, 2, 3, 4, 5, 6, 7, 8, 0x50, 0x18, 9, 9,
        ];
        header.extend_from_slice(&[0, 0, 0, 0]);
        (header, 16)
    } else {
        (vec![0x1f, 0x90, 0xc0, 0x01, 0, 13, 0, 0], 6)
    };
    bytes.extend_from_slice(b"hello");
    let sum = checksum(addresses, protocol, &bytes);
    bytes[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn checksum([source, destination]: [Address; 2], protocol: u8, bytes: &[u8]) -> u16 {
    let len = u32::try_from(bytes.len()).expect("short");
    let mut sum = Checksum::pseudo_header(source, destination, protocol, len);
    sum.add_bytes(bytes);
    sum.finish()
}

fn v6() -> [Address; 2] {
    let mut other = [0xfd; 16];
    other[15] = 9;
    [Address::v6([0xfd; 16]), Address::v6(other)]
}

/// Source, destination and payload of an intact IP packet.
fn parse(bytes: &[u8]) -> (Address, Address, &[u8]) {
    let ethernet = EthernetView::parse(bytes).expect("Ethernet");
    let payload = ethernet.payload();
    let ip = IpView::parse(ethernet.ether_type(), payload, payload.len())
        .expect("IP")
        .expect("well formed");
    assert!(ip.header_checksum_ok());
    (ip.source(), ip.destination(), ip.payload())
}

fn macs(bytes: &[u8]) -> (MacAddress, MacAddress) {
    let view = EthernetView::parse(bytes).expect("Ethernet");
    (view.destination(), view.source())
}

fn random_frames(count: usize) -> Vec<Vec<u8>> {
    let mut rng = Rng::new(7);
    let one = |_| {
        let len = 14 + rng.below(1_500) as usize;
        (0..len).map(|_| rng.next_u64() as u8).collect()
    };
    (0..count).map(one).collect()
}

#[test]
fn io_changes_nothing_and_keeps_the_order() {
    let frames = random_frames(32);
    let mut bench = Bench::new(Settings::default());
    assert_eq!(bench.pass::<Io>(&frames), frames);
    assert_eq!(bench.pass::<Io>(&[]), Vec::<Vec<u8>>::new());
    let counted = bench.stream.counters().snapshot();
    assert_eq!((counted.rx_frames, counted.tx_frames), (32, 32));
}

#[test]
fn macswap_exchanges_the_addresses_of_every_frame_and_nothing_else() {
    let mut frames = random_frames(31);
    frames.push(vec![1, 2, 3]);
    let arrived = Bench::new(Settings::default()).pass::<MacSwap>(&frames);
    for (sent, swapped) in frames.iter().zip(&arrived) {
        let expected = match sent.split_first_chunk::<12>() {
            Some((macs, rest)) => [&macs[6..], &macs[..6], rest].concat(),
            None => sent.clone(),
        };
        assert_eq!(*swapped, expected);
    }
    assert_eq!(arrived.len(), 32);
}

#[test]
fn mac_addresses_frames_from_the_port_to_its_peer() {
    for sent in random_frames(3) {
        let arrived = Bench::new(Settings::default()).pass_one::<Mac>(&sent);
        assert_eq!(macs(&arrived), (PEER, OURS));
        assert_eq!(arrived[12..], sent[12..]);
    }
}

#[test]
fn five_tuple_swap_exchanges_every_layer_and_checksums_stay_right() {
    let mut bench = Bench::new(Settings::default());
    for addresses in [V4, v6()] {
        for protocol in [protocol::TCP, protocol::UDP] {
            let segment = with_ports(addresses, protocol);
            let arrived = bench.pass_one::<FiveTupleSwap>(&packet(addresses, protocol, &segment));
            assert_eq!(macs(&arrived), (B, A));
            let (source, destination, payload) = parse(&arrived);
            assert_eq!([destination, source], addresses);
            assert_eq!(payload[..4], [0xc0, 0x01, 0x1f, 0x90]);
            assert_eq!(payload[4..], segment[4..]);
            assert_eq!(checksum([source, destination], protocol, payload), 0);
        }
    }
}

#[test]
fn five_tuple_swap_leaves_the_bytes_of_a_later_fragment_alone() {
    let mut sent = packet(V4, protocol::UDP, &[7; 16]);
    // Fragment offset 8 bytes; the header checksum changes with it.
    sent[20..22].copy_from_slice(&[0, 1]);
    sent[24..26].fill(0);
    let mut sum = Checksum::new();
    sum.add_bytes(&sent[14..34]);
    sent[24..26].copy_from_slice(&sum.finish().to_be_bytes());
    sent[34..38].copy_from_slice(&[1, 2, 3, 4]);
    let arrived = Bench::new(Settings::default()).pass_one::<FiveTupleSwap>(&sent);
    let (source, destination, payload) = parse(&arrived);
    assert_eq!([destination, source], V4);
    assert_eq!(payload[..4], [1, 2, 3, 4]);
}

#[test]
fn csum_mends_every_checksum_and_counts_the_wrong_ones() {
    let mut bench = Bench::new(Settings::default());
    for addresses in [V4, v6()] {
        for (protocol, field) in [(protocol::TCP, 16), (protocol::UDP, 6)] {
            let segment = with_ports(addresses, protocol);
            let good = packet(addresses, protocol, &segment);
            let transport = good
                .len()
                .min(14 + if addresses[0].is_v4() { 20 } else { 40 });
            let mut bad = good.clone();
            bad[transport + field] ^= 0x40;
            if addresses[0].is_v4() {
                bad[24] ^= 0x01;
            }
            for sent in [&good, &bad] {
                let arrived = bench.pass_one::<Csum>(sent);
                assert_eq!(macs(&arrived), (PEER, OURS));
                assert_eq!(arrived[12..], good[12..]);
            }
        }
    }
    let counted = bench.stream.counters().snapshot();
    assert_eq!((counted.bad_ip_checksum, counted.bad_l4_checksum), (2, 4));
}

// RFC 768: over IPv4 a zero checksum field means that there is none; a sum of zero is sent as ones.
#[test]
fn csum_leaves_a_missing_udp_checksum_out_and_never_sends_a_computed_zero() {
    let mut bench = Bench::new(Settings::default());
    let mut none = with_ports(V4, protocol::UDP);
    none[6..8].fill(0);
    let sent = packet(V4, protocol::UDP, &none);
    assert_eq!(bench.pass_one::<Csum>(&sent)[34..], sent[34..]);
    // The two bytes that make the sum of everything else come out as zero.
    let mut zero = with_ports(V4, protocol::UDP);
    zero.truncate(8);
    zero[5] = 10;
    zero.extend_from_slice(&[0, 0]);
    zero[6..8].fill(0);
    let rest = checksum(V4, protocol::UDP, &zero);
    zero[8..10].copy_from_slice(&rest.to_be_bytes());
    zero[6..8].copy_from_slice(&[0x12, 0x34]);
    let arrived = bench.pass_one::<Csum>(&packet(V4, protocol::UDP, &zero));
    assert_eq!(arrived[40..42], [0xff, 0xff]);
}

#[test]
fn csum_forwards_hostile_frames_as_they_are() {
    let mut bench = Bench::new(Settings::default());
    let whole = packet(V4, protocol::TCP, &with_ports(V4, protocol::TCP));
    let mut short_udp = packet(V4, protocol::UDP, &[0, 1, 0, 2, 0, 200, 9, 9]);
    short_udp.truncate(42);
    let mut frames: Vec<Vec<u8>> = (12..54).map(|len| whole[..len].to_vec()).collect();
    frames.push(short_udp);
    for sent in frames {
        let arrived = bench.pass_one::<Csum>(&sent);
        assert_eq!(arrived[12..], sent[12..], "{} bytes", sent.len());
    }
}

fn ping(to: Address, data: &[u8]) -> Vec<u8> {
    let message = Icmpv4Message::EchoRequest {
        ident: 5,
        sequence: 6,
        data,
    };
    let mut bytes = vec![0; 8 + data.len()];
    message.emit(&mut bytes).expect("room");
    packet([V4[0], to], protocol::ICMPV4, &bytes)
}

#[test]
fn icmpecho_answers_a_ping_with_a_right_checksum() {
    let mut bench = Bench::new(Settings::default());
    for len in [0, 1, 56, 1_400] {
        let data = vec![0xa5; len];
        let arrived = bench.pass_one::<IcmpEcho>(&ping(V4[1], &data));
        assert_eq!(macs(&arrived), (B, A));
        let (source, destination, payload) = parse(&arrived);
        assert_eq!([destination, source], V4);
        let view = Icmpv4View::parse(payload).expect("ICMP");
        assert!(view.checksum_ok());
        let reply = Icmpv4Message::EchoReply {
            ident: 5,
            sequence: 6,
            data: &data,
        };
        assert_eq!(view.message(), reply);
    }
}

#[test]
fn icmpecho_says_who_has_an_address_and_frees_the_rest() {
    let mut bench = Bench::new(Settings::default());
    let request = ArpRepr {
        operation: ArpOperation::Request,
        sender_mac: A,
        sender_ip: V4[0],
        target_mac: MacAddress::ZERO,
        target_ip: V4[1],
    };
    let mut arp = [0; 28];
    request.emit(&mut arp).expect("room");
    let arrived = bench.pass_one::<IcmpEcho>(&frame(EtherType::ARP, &arp));
    assert_eq!(macs(&arrived), (A, OURS));
    assert_eq!(
        ArpRepr::parse(&arrived[14..]),
        Ok(request.answered_by(OURS))
    );
    request.answered_by(B).emit(&mut arp).expect("room");
    let mut fragment = ping(V4[1], b"x");
    fragment[20] = 0x20;
    let unanswered = [
        frame(EtherType::ARP, &arp),
        fragment,
        ping(Address::v4([224, 0, 0, 1]), b"x"),
        packet(V4, protocol::UDP, &with_ports(V4, protocol::UDP)),
        packet(v6(), protocol::TCP, &with_ports(v6(), protocol::TCP)),
        vec![0; 3],
    ];
    assert_eq!(bench.pass::<IcmpEcho>(&unanswered), Vec::<Vec<u8>>::new());
    assert_eq!(bench.stream.counters().snapshot().absorbed, 6);
}

#[test]
fn rxonly_frees_and_counts() {
    let mut bench = Bench::new(Settings::default());
    assert!(bench.pass::<RxOnly>(&random_frames(20)).is_empty());
    let counted = bench.stream.counters().snapshot();
    assert_eq!(
        (counted.rx_frames, counted.absorbed, counted.tx_frames),
        (20, 20, 0)
    );
}

fn generated<E: Engine>(settings: Settings, bursts: usize) -> Vec<Vec<u8>> {
    let mut bench = Bench::new(settings);
    let mut engine = E::begin(&bench.stream, &settings);
    let mut frames = Vec::new();
    for _ in 0..bursts {
        assert!(engine.burst(&mut bench.stream));
        frames.append(&mut bench.arrived());
    }
    engine.end(&mut bench.stream);
    assert_eq!(bench.pool.available(), bench.count);
    frames
}

#[test]
fn txonly_sends_whole_bursts_of_one_flow() {
    let settings = Settings {
        frame_bytes: 100,
        ..Settings::default()
    };
    let frames = generated::<TxOnly>(settings, 2);
    assert_eq!(frames.len(), 64);
    for bytes in &frames {
        assert_eq!((bytes.len(), macs(bytes)), (100, (PEER, OURS)));
        assert_eq!(bytes[..42], frames[0][..42]);
        parse(bytes);
    }
}

#[test]
fn the_flows_of_flowgen_differ_and_come_in_turn() {
    let settings = Settings {
        flows: 40,
        ..Settings::default()
    };
    let frames = generated::<FlowGen>(settings, 3);
    assert_eq!(frames.len(), 96);
    let flows: Vec<Address> = frames.iter().map(|bytes| parse(bytes).1).collect();
    let expected: Vec<Address> = (0..96u8)
        .map(|n| Address::v4([198, 19, 0, n % 40]))
        .collect();
    assert_eq!(flows, expected);
}

#[test]
fn flowgen_frees_what_it_receives() {
    let mut bench = Bench::new(Settings::default());
    assert_eq!(bench.pass::<FlowGen>(&random_frames(9)).len(), 32);
    assert_eq!(bench.stream.counters().snapshot().absorbed, 9);
}

#[test]
fn a_generator_without_buffers_counts_what_it_could_not_make() {
    let mut bench = Bench::with_ring(Settings::default(), 128, 63);
    let mut engine = TxOnly::begin(&bench.stream, &bench.settings);
    for _ in 0..3 {
        engine.burst(&mut bench.stream);
    }
    let counted = bench.stream.counters().snapshot();
    assert_eq!((counted.tx_frames, counted.no_buffer), (63, 33));
    assert_eq!(bench.arrived().len(), 63);
    assert_eq!(bench.pool.available(), bench.count);
}

#[test]
fn unsent_frames_are_asked_for_again_then_counted_and_freed() {
    let settings = Settings {
        retries: 3,
        ..Settings::default()
    };
    let mut bench = Bench::with_ring(settings, 40, 255);
    let mut engine = Io::begin(&bench.stream, &settings);
    for _ in 0..2 {
        bench.send(&random_frames(32));
        assert!(engine.burst(&mut bench.stream));
    }
    let counted = bench.stream.counters().snapshot();
    assert_eq!(counted.rx_frames, 64);
    assert_eq!((counted.tx_frames, counted.tx_dropped), (40, 24));
    assert_eq!(counted.tx_retries, 3);
    assert_eq!(bench.arrived().len(), 40);
    assert_eq!(bench.pool.available(), bench.count);
}

#[test]
fn noisy_lets_the_oldest_go_first_and_all_at_the_end() {
    let noisy = Noisy {
        queue_frames: 40,
        memory_mib: 1,
        reads: 3,
        writes: 2,
        updates: 1,
        ..Noisy::default()
    };
    let settings = Settings {
        noisy,
        ..Settings::default()
    };
    let mut bench = Bench::new(settings);
    let frames = random_frames(96);
    let mut engine = <millrace_forward::engine::Noisy as Engine>::begin(&bench.stream, &settings);
    let mut arrived = Vec::new();
    for (sent, expected) in frames.chunks(32).zip([0, 24, 32]) {
        bench.send(sent);
        engine.burst(&mut bench.stream);
        let mut left = bench.arrived();
        assert_eq!(left.len(), expected);
        arrived.append(&mut left);
    }
    // Nothing is flushed unless asked for.
    assert!(!engine.burst(&mut bench.stream));
    engine.end(&mut bench.stream);
    arrived.append(&mut bench.arrived());
    assert_eq!(arrived, frames);
    assert_eq!(bench.pool.available(), bench.count);
}

#[test]
fn noisy_empties_its_queue_when_nothing_left_it_for_long() {
    let noisy = Noisy {
        queue_frames: 100,
        flush_ms: 1,
        ..Noisy::default()
    };
    // A clock of one cycle per second makes every wait a long one.
    let settings = Settings {
        noisy,
        hertz: 1_000,
        ..Settings::default()
    };
    let mut bench = Bench::new(settings);
    let mut engine = <millrace_forward::engine::Noisy as Engine>::begin(&bench.stream, &settings);
    let frames = random_frames(60);
    bench.send(&frames);
    for _ in 0..4 {
        engine.burst(&mut bench.stream);
    }
    assert_eq!(bench.arrived(), frames);
    engine.end(&mut bench.stream);
}

#[test]
fn burst_sizes_are_counted_and_a_small_burst_is_kept_small() {
    let settings = Settings {
        burst_frames: 8,
        record_burst_stats: true,
        ..Settings::default()
    };
    let mut bench = Bench::new(settings);
    bench.send(&random_frames(20));
    let mut engine = Io::begin(&bench.stream, &settings);
    for _ in 0..4 {
        engine.burst(&mut bench.stream);
    }
    let counted = bench.stream.counters().snapshot();
    let at = |sizes: &[u64]| [sizes[0], sizes[4], sizes[8], sizes.iter().sum()];
    assert_eq!(at(&counted.rx_sizes), [1, 1, 2, 4]);
    assert_eq!(at(&counted.tx_sizes), [0, 1, 2, 3]);
    assert_eq!(bench.arrived().len(), 20);
}

fn setup(devices: &[&str]) -> Setup {
    Setup {
        devices: devices.iter().map(|name| (*name).to_owned()).collect(),
        queues: 1,
        rx_descriptors: 256,
        tx_descriptors: 256,
        buffers: Some(4_095),
        buffer_bytes: 2_176,
        topology: Topology::Paired,
        peers: Vec::new(),
        lcores_max: None,
        settings: Settings {
            record_core_cycles: true,
            ..Settings::default()
        },
    }
}

#[test]
fn a_forwarder_starts_and_stops_in_every_mode_and_keeps_no_buffer() {
    let _alone = alone();
    let names = [unique("net_ring"), unique("net_ring")];
    for name in &names {
        eal().plug(&Vdev::ring_loop(name)).expect("plugged");
    }
    let names = names.each_ref().map(String::as_str);
    let mut forwarder = Forwarder::open(eal(), Mode::Io, &setup(&names)).expect("opened");
    for mode in Mode::ALL {
        forwarder.set_mode(mode).expect("stopped");
        forwarder.clear_forward();
        forwarder.send_first(2).expect("stopped");
        forwarder.start().expect("started");
        assert!(forwarder.start().is_err());
        assert!(forwarder.set_mode(Mode::Io).is_err());
        std::thread::sleep(std::time::Duration::from_millis(30));
        forwarder.stop().expect("no panic");
        let report = forwarder.report();
        let [first, second] = report.ports.as_slice() else {
            panic!("two ports");
        };
        assert_eq!(report.mode, mode.name());
        if mode == Mode::TxOnly {
            assert!(first.tx_packets > 64, "{report}");
        } else {
            assert!(
                first.rx_packets >= 64 && second.rx_packets >= 64,
                "{report}"
            );
            assert!(report.cycles_per_packet.is_some(), "{report}");
        }
        assert!(report.lcores[0].busy_cycles <= report.lcores[0].total_cycles);
    }
    // rxonly drains the loops; what stays away is in no queue, so nothing was lost.
    forwarder.set_mode(Mode::RxOnly).expect("stopped");
    forwarder.start().expect("started");
    std::thread::sleep(std::time::Duration::from_millis(30));
    forwarder.stop().expect("no panic");
    let pool = forwarder.pool();
    assert_eq!(pool.available(), pool.count());
}

#[test]
fn what_cannot_work_is_refused_with_a_reason() {
    let _alone = alone();
    let refused = |setup: &Setup| {
        let error = Forwarder::open(eal(), Mode::Io, setup).expect_err("refused");
        error.to_string()
    };
    let nobody = Setup {
        lcores_max: Some(0),
        ..setup(&["net_null9"])
    };
    assert!(refused(&nobody).starts_with("no lcore to forward on"));
    let long = Setup {
        buffer_bytes: 1_128,
        settings: Settings {
            frame_bytes: 1_001,
            ..Settings::default()
        },
        ..setup(&["net_null9"])
    };
    let reason = "frames of 1001 bytes: headers need 42, a buffer holds 1000";
    assert_eq!(refused(&long), reason);
}
