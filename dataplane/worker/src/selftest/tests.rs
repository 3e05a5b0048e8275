//! Against a card in software: the far end of a ring pair hashes and chooses the queue.

use super::*;
use crate::counters::Counters;
use crate::steer::Steer;
use millrace_base::PortId;
use millrace_base::rss::random_key;
use millrace_dpdk::{
    Device, Eal, EalArgs, LcoreCpu, LogLevel, Mbuf, Memory, MempoolConfig, Port, PortConfig,
};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

const LCORES: u16 = 4;
const PORT: PortId = PortId::new(0);

static EAL: OnceLock<Eal> = OnceLock::new();

fn eal() -> &'static Eal {
    EAL.get_or_init(|| {
        let args = EalArgs {
            lcores: vec![LcoreCpu { lcore: 0, cpu: 0 }],
            memory: Memory::Ordinary { mebibytes: 128 },
            file_prefix: Some(format!("millrace-selftest-{}", std::process::id())),
            log_level: LogLevel::Warning,
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

/// Our end, the card's other end, and buffers.
struct Wire {
    near: (Port, Vec<RxQueue>, Vec<TxQueue>),
    far: (Port, Vec<RxQueue>, Vec<TxQueue>),
    pool: MbufPool,
}

fn wire(name: &str) -> Wire {
    let config = MempoolConfig {
        name: &format!("{name}pool"),
        count: 4_095,
        cache: 0,
        ..MempoolConfig::default()
    };
    let pool = MbufPool::create(eal(), &config, 63).expect("pool");
    let (near, far) = eal().plug_ring_pair(name, LCORES, 1_024).expect("rings");
    let start = |device: Device| {
        let config = PortConfig {
            rx_queues: LCORES,
            tx_queues: LCORES,
            ..PortConfig::default()
        };
        let configured = device.configure(&config, &[pool.bufs()]);
        configured.expect("configures").start().expect("starts")
    };
    Wire {
        near: start(near),
        far: start(far),
        pool,
    }
}

fn map(seed: u64) -> Arc<RssMap> {
    let mut rng = Rng::new(seed);
    let key = random_key(|| rng.next_u64());
    Arc::new(RssMap::spread(&key, 128, LCORES).expect("a good key"))
}

/// The card: sends back what is addressed to the port, by the queue of its own map. Ends when the sender does.
fn reflect(wire: &mut (Port, Vec<RxQueue>, Vec<TxQueue>), map: &RssMap) {
    let mut burst = Burst::new();
    for rx in &mut wire.1 {
        rx.burst(&mut burst);
        for frame in burst.drain() {
            let owner = owner_of(map, frame.bytes());
            let mut one = Burst::new();
            drop(one.try_push(frame));
            let tx = wire.2.get_mut(owner.index()).expect("a queue");
            assert!(tx.burst(&mut one).is_empty(), "the ring is long enough");
        }
    }
}

fn owner_of(map: &RssMap, frame: &[u8]) -> LcoreIndex {
    map.owner(&crate::steer::plain_tcp_tuple(frame).expect("a segment"))
}

/// Runs the test against a card with this map; `None` is a wire that swallows everything.
fn tested(name: &str, ours: &Arc<RssMap>, card: Option<Arc<RssMap>>) -> Findings {
    let Wire {
        near: (port, mut rx, mut tx),
        mut far,
        mut pool,
    } = wire(name);
    let done = Arc::new(core::sync::atomic::AtomicBool::new(false));
    let is_done = Arc::clone(&done);
    let card = std::thread::spawn(move || {
        while !is_done.load(core::sync::atomic::Ordering::Acquire) {
            if let Some(map) = &card {
                reflect(&mut far, map);
            }
            std::thread::yield_now();
        }
    });
    let mut subject = Subject {
        mac: port.mac(),
        rx: &mut rx,
        tx: tx.first_mut().expect("a queue"),
        pool: &mut pool,
    };
    let budget = if name.starts_with("dead") {
        Duration::from_millis(80)
    } else {
        // As long as a busy machine may need: a right card ends it much earlier.
        Duration::from_secs(20)
    };
    let findings = run(ours, &mut subject, budget, 7);
    done.store(true, core::sync::atomic::Ordering::Release);
    card.join().expect("no panic");
    findings
}

// One program, one EAL, and a ring pair has a name for ever: one test tells all.
#[test]
fn a_card_is_proved_refuted_or_silent() {
    let ours = map(1);
    let right = tested("right", &ours, Some(Arc::clone(&ours)));
    assert_eq!(right.proof, RssProof::Proven, "{right:?}");
    assert_eq!(right.probes, 2 * 128, "every slot in both families");
    let wrong = tested("wrong", &ours, Some(map(2)));
    assert_eq!(wrong.proof, RssProof::Wrong, "{wrong:?}");
    assert!(wrong.wrong.is_some());
    let dead = tested("dead", &ours, None);
    assert_eq!((dead.proof, dead.right), (RssProof::NoAnswer, 0));
}

/// A segment of flow `number`.
fn segment(pool: &mut MbufPool, number: u32) -> Mbuf {
    let tuple = FlowTuple {
        local: Endpoint::new(Address::v4([10, 8, 0, 100]), 80),
        remote: Endpoint::new(Address::v4([10, 8, 1, number as u8]), 1_024 + number as u16),
    };
    let mut bytes = [0u8; PROBE_BYTES_MAX];
    let mac = MacAddress::new([2, 0, 0, 0, 0, 9]);
    let len = emit(&mut bytes, mac, &tuple, 0, number).expect("room");
    let mut frame = pool.alloc().expect("a buffer");
    let offset = frame.offset();
    assert!(frame.set_span(offset, len));
    frame
        .bytes_mut()
        .expect("fresh")
        .copy_from_slice(&bytes[..len]);
    frame
}

// 0 sessions split: whatever queue a segment comes by, one lcore gets all of its flow, in order.
// behaviour: LSN-32, X9-8
#[test]
fn software_brings_every_segment_to_the_owner_of_its_flow() {
    let mut pool = wire("steer").pool;
    let map = map(3);
    let mut steers = Steer::all(LCORES, &map, 0);
    let mut counters = Counters::default();
    let mut rng = Rng::new(11);
    println!("seed 11");
    let mut got: HashMap<u32, u32> = HashMap::new();
    for round in 0..200u32 {
        for lcore in 0..LCORES {
            let (mut burst, mut ours) = (Burst::new(), Burst::new());
            for _ in 0..rng.below(32) {
                drop(burst.try_push(segment(&mut pool, rng.below(500))));
            }
            let steer = &mut steers[usize::from(lcore)];
            steer.sort(PORT, &mut burst, &mut ours, &mut counters);
            let mut frames: Vec<Mbuf> = ours.drain().collect();
            while let Some(batch) = steer.take() {
                assert_eq!(batch.port, PORT);
                frames.extend(batch.frames);
            }
            for frame in frames {
                assert_eq!(owner_of(&map, frame.bytes()).number(), lcore);
                *got.entry(round).or_default() += 1;
            }
        }
    }
    assert!(
        counters.frames_steered > 1_000,
        "{}",
        counters.frames_steered
    );
    assert_eq!(counters.frames_steer_dropped, 0);
}

// An lcore that never looks costs the others frames, not time, and every one is counted.
#[test]
fn a_full_queue_drops_and_counts() {
    let mut pool = wire("full").pool;
    let map = map(4);
    let mut steers = Steer::all(LCORES, &map, 0);
    let mut counters = Counters::default();
    let (mut sent, mut kept) = (0u64, 0u64);
    for number in 0..3_000u32 {
        let (mut burst, mut ours) = (Burst::new(), Burst::new());
        drop(burst.try_push(segment(&mut pool, number % 500)));
        sent += 1;
        steers[0].sort(PORT, &mut burst, &mut ours, &mut counters);
        kept += ours.len() as u64;
    }
    assert!(counters.frames_steer_dropped > 0);
    assert_eq!(
        counters.frames_steered,
        3 * 128,
        "batches of one frame each"
    );
    let all = kept + counters.frames_steered + counters.frames_steer_dropped;
    assert_eq!(all, sent);
}

#[test]
fn a_trusted_card_that_delivers_elsewhere_is_found_out_and_loses_no_segment() {
    let mut pool = wire("liar").pool;
    let map = map(5);
    let mut steers = Steer::all(LCORES, &map, 1);
    let mut counters = Counters::default();
    for number in 0..200u32 {
        let (mut burst, mut ours) = (Burst::new(), Burst::new());
        drop(burst.try_push(segment(&mut pool, number)));
        steers[0].sort(PORT, &mut burst, &mut ours, &mut counters);
        for frame in ours.drain() {
            assert_eq!(owner_of(&map, frame.bytes()).number(), 0);
        }
    }
    assert!(counters.rss_mispredicted >= 16);
    assert_eq!(steers[0].trusted(), 0, "software took over");
    assert_eq!(steers[1].trusted(), 1, "each lcore judges by what it sees");
}
