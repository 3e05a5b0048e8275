//! Devices with the kernel on the other side: af_packet on a veth pair, and tap.
//!
//! They need `CAP_NET_ADMIN` and `CAP_NET_RAW` and change the network name space they run in, so
//! they are ignored unless asked for: `unshare -n cargo test -p millrace-dpdk --test kernel --
//! --ignored`.

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use millrace_base::{HEADROOM_BYTES_DEFAULT, PacketBuf};
use millrace_dpdk::{
    AfPacketRing, Bell, Burst, Device, Mbuf, Mempool, MempoolConfig, PortConfig, RxInterrupts,
    RxQueue, TxOffloads, TxQueue, Vdev,
};
use support::{eal, pool, unique};

fn ip(arguments: &str) {
    let status = Command::new("ip")
        .args(arguments.split(' '))
        .status()
        .expect("ip runs");
    assert!(status.success(), "ip {arguments}");
}

/// A veth pair, up; gone again when dropped.
struct Veth(String, String);

impl Veth {
    fn new(mtu: u32) -> Self {
        let (near, far) = (unique("vn"), unique("vf"));
        ip(&format!(
            "link add {near} mtu {mtu} type veth peer name {far} mtu {mtu}"
        ));
        ip(&format!("link set {near} up"));
        ip(&format!("link set {far} up"));
        Self(near, far)
    }
}

impl Drop for Veth {
    fn drop(&mut self) {
        ip(&format!("link del {}", self.0));
    }
}

fn open(
    vdev: &Vdev,
    config: &PortConfig,
    pool: Mempool,
) -> (millrace_dpdk::Port, RxQueue, TxQueue) {
    eal().plug(vdev).expect("plugs");
    let device = Device::by_name(eal(), vdev.name()).expect("exists");
    let configured = device.configure(config, &[pool]).expect("configures");
    let (port, mut rx, mut tx) = configured.start().expect("starts");
    println!("{}", port.effective());
    println!("link {}", port.link());
    (port, rx.remove(0), tx.remove(0))
}

/// A frame of an experimental Ethernet type that only we look at.
fn frame(pool: Mempool, len: usize) -> Mbuf {
    let mut frame = pool.alloc().expect("room");
    assert!(frame.set_span(HEADROOM_BYTES_DEFAULT, len));
    let bytes = frame.bytes_mut().expect("fresh");
    bytes.fill(0x5a);
    bytes[..6].fill(0xff);
    bytes[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    bytes[12..14].copy_from_slice(&[0x88, 0xb5]);
    frame
}

/// Polls until one of our frames arrives.
fn receive(rx: &mut RxQueue) -> Mbuf {
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut burst = Burst::new();
    while Instant::now() < deadline {
        rx.burst(&mut burst);
        let ours = burst
            .drain()
            .find(|frame| frame.bytes().get(12..14) == Some(&[0x88, 0xb5]));
        if let Some(frame) = ours {
            return frame;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("nothing arrived");
}

#[test]
#[ignore = "needs CAP_NET_ADMIN; see the top of the file"]
fn frames_cross_a_veth_pair_through_af_packet() {
    let veth = Veth::new(1_500);
    let pool = pool(2_047);
    let ring = AfPacketRing {
        frame_count: 512,
        ..AfPacketRing::default()
    };
    let config = PortConfig {
        mtu: Some(1_500),
        ..PortConfig::default()
    };
    let near = Vdev::af_packet(&unique("net_af_packet"), &veth.0, ring);
    let far = Vdev::af_packet(&unique("net_af_packet"), &veth.1, ring);
    let (near, _near_rx, mut tx) = open(&near, &config, pool);
    let (far, mut rx, _far_tx) = open(&far, &config, pool);
    assert!(near.effective().promiscuous && far.effective().promiscuous);
    assert!(near.link().is_up);

    let mut chain = frame(pool, 700);
    chain.append(frame(pool, 800)).expect("unique");
    let expected: Vec<u8> = chain.segments().flatten().copied().collect();
    let mut burst = Burst::new();
    burst.try_push(chain).expect("room");
    assert!(tx.burst(&mut burst).is_empty());
    let received = receive(&mut rx);
    assert_eq!(
        received.segments().flatten().copied().collect::<Vec<u8>>(),
        expected
    );
    assert_eq!(far.stats().expect("counts").rx_bytes, 1_500);
}

#[test]
#[ignore = "needs CAP_NET_ADMIN; see the top of the file"]
fn af_packet_carries_jumbo_frames_though_it_refuses_the_mtu() {
    let veth = Veth::new(9_000);
    let name = unique("pool");
    let config = MempoolConfig {
        name: &name,
        count: 1_023,
        data_room_bytes: 16_512,
        cache: 0,
        socket: None,
    };
    let pool = Mempool::new(eal(), &config).expect("pool");
    let ring = AfPacketRing {
        frame_bytes: 16_384,
        frame_count: 256,
        ..AfPacketRing::default()
    };
    let config = PortConfig {
        mtu: Some(9_000),
        ..PortConfig::default()
    };
    let near = Vdev::af_packet(&unique("net_af_packet"), &veth.0, ring);
    let far = Vdev::af_packet(&unique("net_af_packet"), &veth.1, ring);
    let (near, _near_rx, mut tx) = open(&near, &config, pool);
    let (_far, mut rx, _far_tx) = open(&far, &config, pool);
    assert_eq!(near.effective().mtu, None);
    let mut burst = Burst::new();
    burst.try_push(frame(pool, 9_014)).expect("room");
    assert!(tx.burst(&mut burst).is_empty());
    assert_eq!(receive(&mut rx).frame_len(), 9_014);
}

#[test]
#[ignore = "needs CAP_NET_ADMIN; see the top of the file"]
fn tap_offers_checksums_and_segmentation_in_software() {
    let pool = pool(2_047);
    let interface = unique("mrtap");
    let (port, _rx, mut tx) = open(
        &Vdev::tap(&unique("net_tap"), &interface),
        &PortConfig::default(),
        pool,
    );
    let wanted = TxOffloads::TCP_CKSUM | TxOffloads::TCP_TSO | TxOffloads::MULTI_SEGS;
    assert!(port.effective().tx_offloads.contains(wanted));
    let mut burst = Burst::new();
    burst.try_push(frame(pool, 60)).expect("room");
    assert!(tx.burst(&mut burst).is_empty());
    assert_eq!(port.stats().expect("counts").tx_frames, 1);
}

// The kernel says hello on an interface that comes up (MLD, router solicitation): that must end a
// wait. af_packet has no interrupts, and says so.
#[test]
#[ignore = "needs CAP_NET_ADMIN; see the top of the file"]
fn a_frame_on_a_tap_ends_a_wait_and_af_packet_has_none_to_wait_for() {
    let pool = pool(2_047);
    let interface = unique("mrtap");
    let config = PortConfig {
        rx_interrupts: true,
        ..PortConfig::default()
    };
    let tap = Vdev::tap(&unique("net_tap"), &interface);
    let (_port, mut rx, _tx) = open(&tap, &config, pool);
    let mut interrupts = RxInterrupts::new([&rx]).expect("net_tap has interrupts");
    ip(&format!("link set {interface} up"));
    let mut burst = Burst::new();
    let mut waits = 0;
    while rx.burst(&mut burst) == 0 {
        waits += 1;
        assert!(waits < 100, "no frame in {waits} waits");
        interrupts.wait(Duration::from_millis(200));
    }
    let bell = Bell::new().expect("a descriptor");
    interrupts.listen_to(&bell).expect("epoll takes it");
    bell.lie_down();
    assert!(bell.ring(), "asleep");
    // Frames of the kernel's own may end a wait before it.
    let hour = Duration::from_secs(3_600);
    assert!((0..100).any(|_| interrupts.wait(hour)));
    drop(interrupts);
    let veth = Veth::new(1_500);
    let packet = Vdev::af_packet(&unique("net_af_packet"), &veth.0, AfPacketRing::default());
    let (_port, rx, _tx) = open(&packet, &config, pool);
    assert!(RxInterrupts::new([&rx]).is_err());
}

#[test]
#[ignore = "needs root; see the top of the file"]
fn af_xdp_gets_chains_as_flat_copies() {
    let veth = Veth::new(1_500);
    // The memory is shared with the kernel in frames of 2048 or 4096 bytes, mbuf included.
    let name = unique("pool");
    let config = MempoolConfig {
        name: &name,
        count: 8_191,
        data_room_bytes: 3_840,
        cache: 0,
        socket: None,
    };
    let pool = Mempool::new(eal(), &config).expect("pool");
    let near = Vdev::af_xdp(&unique("net_af_xdp"), &veth.0, 0);
    let far = Vdev::af_packet(&unique("net_af_packet"), &veth.1, AfPacketRing::default());
    let (_near, _near_rx, mut tx) = open(&near, &PortConfig::default(), pool);
    let (_far, mut rx, _far_tx) = open(&far, &PortConfig::default(), pool);
    let mut chain = frame(pool, 100);
    chain.append(frame(pool, 100)).expect("unique");
    let expected: Vec<u8> = chain.segments().flatten().copied().collect();
    let mut burst = Burst::new();
    burst.try_push(chain).expect("room");
    assert!(tx.burst(&mut burst).is_empty());
    assert_eq!(tx.flattened(), 1);
    assert_eq!(receive(&mut rx).bytes(), expected);
}
