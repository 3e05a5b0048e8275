//! Ports and queues against DPDK's software devices.

mod support;

use millrace_base::{
    ChecksumStatus, HEADROOM_BYTES_DEFAULT, PacketBuf, PacketPool, RxMeta, TxOffload, VlanId,
};
use millrace_dpdk::{
    Burst, Device, HashTable, Mbuf, Mempool, PlugError, Port, PortConfig, PortError, RssConfig,
    RssTypes, RxOffloads, RxQueue, Step, TxOffloads, TxQueue, Vdev,
};
use support::{eal, mbuf_pool, pool, unique};

fn device(vdev: &Vdev) -> Device {
    eal().plug(vdev).expect("plugs");
    Device::by_name(eal(), vdev.name()).expect("exists")
}

fn started(vdev: &Vdev, pool: Mempool) -> (Port, RxQueue, TxQueue) {
    let (port, rx, tx) = device(vdev)
        .configure(&PortConfig::default(), &[pool])
        .expect("configures")
        .start()
        .expect("starts");
    let [rx] = <[RxQueue; 1]>::try_from(rx).expect("one queue");
    let [tx] = <[TxQueue; 1]>::try_from(tx).expect("one queue");
    (port, rx, tx)
}

fn frame(pool: Mempool, bytes: &[u8]) -> Mbuf {
    let mut frame = pool.alloc().expect("room");
    assert!(frame.set_span(HEADROOM_BYTES_DEFAULT, bytes.len()));
    frame.bytes_mut().expect("fresh").copy_from_slice(bytes);
    frame
}

fn bytes(frame: &Mbuf) -> Vec<u8> {
    frame.segments().flatten().copied().collect()
}

#[test]
fn a_frame_through_a_ring_comes_back_as_it_left() {
    let pool = pool(63);
    let (port, mut rx, mut tx) = started(&Vdev::ring_loop(&unique("net_ring")), pool);
    let mut burst = Burst::new();
    let mut chain = frame(pool, b"head ");
    chain.append(frame(pool, b"tail")).expect("unique");
    burst.try_push(chain).expect("room");
    burst.try_push(frame(pool, &[7; 1_400])).expect("room");
    assert!(tx.burst(&mut burst).is_empty());
    assert!(burst.is_empty());

    assert_eq!(rx.burst(&mut burst), 2);
    let received: Vec<Mbuf> = burst.drain().collect();
    assert_eq!(bytes(&received[0]), b"head tail");
    assert_eq!(
        (received[0].frame_len(), received[0].segment_count()),
        (9, 2)
    );
    assert_eq!(bytes(&received[1]), [7; 1_400]);
    let stats = port.stats().expect("counts");
    assert_eq!((stats.rx_frames, stats.tx_frames), (2, 2));
    drop(received);
    assert_eq!(pool.available(), pool.count());
}

#[test]
fn a_ring_pair_connects_queue_to_queue_both_ways() {
    let pool = pool(63);
    let name = unique("pair");
    let ends = eal().plug_ring_pair(&name, 2, 8).expect("plugs");
    let config = PortConfig {
        rx_queues: 2,
        tx_queues: 2,
        ..PortConfig::default()
    };
    let start = |end: Device| end.configure(&config, &[pool]).expect("configures").start();
    let (_near, mut near_rx, mut near_tx) = start(ends.0).expect("starts");
    let (_far, mut far_rx, mut far_tx) = start(ends.1).expect("starts");
    let mut burst = Burst::new();
    for queue in 0..2 {
        burst.try_push(frame(pool, &[queue as u8])).expect("room");
        assert!(near_tx[queue].burst(&mut burst).is_empty());
        assert_eq!(far_rx[1 - queue].burst(&mut burst), 0);
        assert_eq!(far_rx[queue].burst(&mut burst), 1);
        assert!(far_tx[queue].burst(&mut burst).is_empty());
        assert_eq!(near_rx[queue].burst(&mut burst), 1);
        assert_eq!(burst.frames()[0].bytes(), [queue as u8]);
        burst.clear();
    }
    // Exactly as many under way as was said.
    for _ in 0..9 {
        burst.try_push(frame(pool, b"x")).expect("room");
    }
    assert_eq!(near_tx[0].burst(&mut burst).discard(), 1);
    assert_eq!(far_rx[0].burst(&mut burst), 8);
    burst.clear();
    assert_eq!(pool.available(), pool.count());
    assert_eq!(
        eal().plug_ring_pair(&name, 1, 8).err(),
        Some(PlugError::Exists)
    );
    assert!(eal().plug_ring_pair("none", 0, 8).is_err());
}

#[test]
fn two_threads_may_share_view_and_drop_the_same_memory() {
    let mut pools = mbuf_pool(63, 63);
    let original = frame(pools.bufs(), b"0123456789");
    let viewed = pools.view(&original, original.offset(), 10).expect("fits");
    // Two threads and a bounded number of rounds: whoever is preempted inside the pool's ring makes the other spin until it
    // runs again, milliseconds on a busy machine.
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (held, viewed) = (original.share().expect("few"), viewed.share().expect("few"));
            std::thread::spawn(move || {
                for round in 0..2_000 {
                    let of = if round % 2 == 0 { &held } else { &viewed };
                    let view = pools.view(of, of.offset() + 3, 4);
                    let share = viewed.share().expect("few");
                    assert!(view.is_none_or(|view| view.bytes() == b"3456"));
                    assert_eq!(share.bytes(), b"0123456789");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    assert!(!original.is_unique(), "the view is still there");
    drop(viewed);
    assert!(original.is_unique());
    drop(original);
    assert_eq!(pools.bufs().available(), pools.bufs().count());
    assert_eq!(pools.views().available(), pools.views().count());
}

// behaviour: NIC-12
#[test]
fn a_ring_goes_round_many_times_and_every_frame_comes_in_order() {
    let pool = pool(127);
    let (_port, mut rx, mut tx) = started(&Vdev::ring_loop(&unique("net_ring")), pool);
    let mut burst = Burst::new();
    let (mut sent, mut seen) = (0u32, 0u32);
    // Five times as many frames as the ring has places, in bursts that do not divide it.
    while seen < 5 * 1_024 {
        for _ in 0..27 {
            let pushed = burst.try_push(frame(pool, &sent.to_ne_bytes()));
            pushed.expect("room");
            sent += 1;
        }
        assert!(tx.burst(&mut burst).is_empty());
        while rx.burst(&mut burst) > 0 {
            for frame in burst.drain() {
                assert_eq!(frame.bytes(), seen.to_ne_bytes());
                seen += 1;
            }
        }
    }
    assert_eq!(sent, seen);
    assert_eq!(pool.available(), pool.count());
}

#[test]
fn receiving_fills_only_the_room_there_is() {
    let pool = pool(127);
    let (_port, mut rx, mut tx) = started(&Vdev::ring_loop(&unique("net_ring")), pool);
    let mut burst = Burst::new();
    for _ in 0..millrace_dpdk::BURST_FRAMES_MAX {
        burst.try_push(frame(pool, b"x")).expect("room");
    }
    assert!(burst.try_push(frame(pool, b"x")).is_err());
    assert!(tx.burst(&mut burst).is_empty());
    for _ in 0..millrace_dpdk::BURST_FRAMES_MAX - 5 {
        burst.try_push(frame(pool, b"y")).expect("room");
    }
    assert_eq!(rx.burst(&mut burst), 5);
    assert!(burst.is_full());
    assert_eq!(rx.burst(&mut burst), 0);
    burst.clear();
    assert_eq!(rx.burst(&mut burst), millrace_dpdk::RX_BURST_FRAMES_MAX);
    assert_eq!(
        rx.burst(&mut burst),
        millrace_dpdk::BURST_FRAMES_MAX - 5 - 32
    );
    burst.clear();
    assert_eq!(pool.available(), pool.count());
}

// behaviour: QDS-8, QDS-9, QDS-14, QDS-10
#[test]
fn frames_a_full_ring_does_not_take_come_back_in_order() {
    // net_ring's own ring holds 1024 - 1 frames.
    let pool = pool(2_047);
    let (_port, mut rx, mut tx) = started(&Vdev::ring_loop(&unique("net_ring")), pool);
    let mut burst = Burst::new();
    let mut sent = 0_u16;
    let left = loop {
        while !burst.is_full() {
            burst
                .try_push(frame(pool, &sent.to_be_bytes()))
                .expect("room");
            sent += 1;
        }
        let unsent = tx.burst(&mut burst);
        if !unsent.is_empty() {
            assert!(!unsent.is_first_refused(), "late, not impossible");
            let left = unsent.len();
            assert_eq!(unsent.keep(), 0);
            break left;
        }
    };
    assert_eq!(burst.len(), left);
    let first_left = sent - u16::try_from(left).expect("small");
    let expected: Vec<Vec<u8>> = (first_left..sent)
        .map(|n| n.to_be_bytes().to_vec())
        .collect();
    assert_eq!(
        burst.frames().iter().map(bytes).collect::<Vec<_>>(),
        expected
    );

    // Once the ring has room they go, and everything arrives in order.
    let mut arrived = Vec::new();
    let mut received = Burst::new();
    rx.burst(&mut received);
    arrived.extend(received.drain().map(|frame| bytes(&frame)));
    while !burst.is_empty() {
        let _kept = tx.burst(&mut burst).keep();
        rx.burst(&mut received);
        arrived.extend(received.drain().map(|frame| bytes(&frame)));
    }
    while rx.burst(&mut received) != 0 {
        arrived.extend(received.drain().map(|frame| bytes(&frame)));
    }
    let expected: Vec<Vec<u8>> = (0..sent).map(|n| n.to_be_bytes().to_vec()).collect();
    assert_eq!(arrived, expected);
    assert_eq!(pool.available(), pool.count());
}

#[test]
fn discarding_unsent_frames_counts_and_frees_them() {
    let pool = pool(2_047);
    let (_port, mut rx, mut tx) = started(&Vdev::ring_loop(&unique("net_ring")), pool);
    let mut burst = Burst::new();
    let mut discarded = 0;
    for _ in 0..20 {
        while !burst.is_full() {
            burst.try_push(frame(pool, b"z")).expect("room");
        }
        discarded += tx.burst(&mut burst).discard();
    }
    let mut arrived = 0;
    while rx.burst(&mut burst) != 0 {
        arrived += burst.len();
        burst.clear();
    }
    assert!(discarded > 0);
    assert_eq!(arrived + discarded, 20 * millrace_dpdk::BURST_FRAMES_MAX);
    assert_eq!(pool.available(), pool.count());
}

#[test]
fn a_sink_takes_everything_and_gives_the_buffers_back() {
    let pool = pool(255);
    let (port, mut rx, mut tx) = started(&Vdev::sink(&unique("net_null")), pool);
    let mut burst = Burst::new();
    for _ in 0..10 {
        for _ in 0..32 {
            burst.try_push(frame(pool, &[0; 60])).expect("room");
        }
        assert!(tx.burst(&mut burst).is_empty());
    }
    assert_eq!(rx.burst(&mut burst), 0);
    assert_eq!(port.stats().expect("counts").tx_frames, 320);
    assert_eq!(pool.available(), pool.count());
}

// behaviour: NIC-3, CNT-9
#[test]
fn extended_counters_have_names_and_move() {
    let pool = pool(255);
    let (mut port, _rx, mut tx) = started(&Vdev::sink(&unique("net_null")), pool);
    let mut burst = Burst::new();
    burst.try_push(frame(pool, &[0; 60])).expect("room");
    assert!(tx.burst(&mut burst).is_empty());
    let at = port
        .xstat_names()
        .iter()
        .position(|name| name == "tx_good_packets");
    let at = at.expect("ethdev's own counter");
    assert_eq!(port.xstats().expect("counts")[at], 1);
    port.reset_stats().expect("resets");
    assert_eq!(port.xstats().expect("counts")[at], 0);
}

#[test]
fn a_shared_frame_is_unique_again_when_the_device_is_done() {
    let pool = pool(63);
    let (_port, _rx, mut tx) = started(&Vdev::sink(&unique("net_null")), pool);
    let mut kept = frame(pool, b"payload");
    let mut burst = Burst::new();
    burst.try_push(kept.share().expect("shares")).expect("room");
    assert!(kept.bytes_mut().is_none());
    assert!(tx.burst(&mut burst).is_empty());
    assert!(kept.is_unique() && kept.set_span(HEADROOM_BYTES_DEFAULT - 14, 21));
    drop(kept);
    assert_eq!(pool.available(), pool.count());
}

#[test]
fn a_chain_is_copied_flat_for_a_device_that_takes_none() {
    let mut pools = mbuf_pool(63, 63);
    // Chains are switched off by not wanting them: the ring would take them.
    let config = PortConfig {
        tx_offloads: TxOffloads::NONE,
        ..PortConfig::default()
    };
    let (_port, mut rx, mut tx) = device(&Vdev::ring_loop(&unique("net_ring")))
        .configure(&config, &[pools.bufs()])
        .expect("configures")
        .start()
        .expect("starts");
    let payload = frame(pools.bufs(), b"0123456789");
    let mut chain = frame(pools.bufs(), b"header:");
    let view = pools.view(&payload, payload.offset() + 3, 4).expect("fits");
    chain.append(view).expect("unique");
    let mut burst = Burst::new();
    burst.try_push(chain).expect("room");
    assert!(tx[0].burst(&mut burst).is_empty());
    assert_eq!(tx[0].flattened(), 1);
    assert!(payload.is_unique(), "the view went with the chain");
    assert_eq!(rx[0].burst(&mut burst), 1);
    assert_eq!(burst.frames()[0].segment_count(), 1);
    assert_eq!(burst.frames()[0].bytes(), b"header:3456");

    // A chain longer than any buffer can never be sent: it comes back as refused and must not block
    // what follows.
    burst.clear();
    let mut long = frame(pools.bufs(), &[1; 2_000]);
    long.append(frame(pools.bufs(), &[2; 2_000]))
        .expect("unique");
    burst
        .try_push(frame(pools.bufs(), b"before"))
        .expect("room");
    burst.try_push(long).expect("room");
    burst.try_push(frame(pools.bufs(), b"after")).expect("room");
    let unsent = tx[0].burst(&mut burst);
    assert!(unsent.is_first_refused());
    assert_eq!((unsent.len(), unsent.keep()), (2, 1));
    assert!(tx[0].burst(&mut burst).is_empty());
    assert_eq!(rx[0].burst(&mut burst), 2);
    assert_eq!(burst.frames()[0].bytes(), b"before");
    assert_eq!(burst.frames()[1].bytes(), b"after");
    drop((burst, payload));
    assert_eq!(pools.bufs().available(), pools.bufs().count());
    assert_eq!(pools.views().available(), pools.views().count());
}

#[test]
fn offload_wishes_travel_with_the_frame_and_die_with_the_next_span() {
    let pool = pool(63);
    let (_port, mut rx, mut tx) = started(&Vdev::ring_loop(&unique("net_ring")), pool);
    let wish = TxOffload {
        l2_len: 14,
        l3_len: 20,
        l4_len: 32,
        is_ipv6: false,
        ip_checksum: true,
        tcp_checksum: true,
        segment_bytes: 1_448,
        vlan: VlanId::new(100),
    };
    let mut sent = frame(pool, &[0; 100]);
    assert!(sent.set_tx_offload(wish));
    let mut burst = Burst::new();
    burst.try_push(sent).expect("room");
    assert!(tx.burst(&mut burst).is_empty());
    assert_eq!(rx.burst(&mut burst), 1);
    let mut received = burst.drain().next().expect("one");
    assert_eq!(received.tx_offload(), wish);
    assert!(received.set_span(received.offset() + 14, 86));
    assert_eq!(received.tx_offload(), TxOffload::default());
}

#[test]
fn who_plays_the_device_says_what_a_device_would_of_a_frame_of_its_own() {
    let pool = pool(63);
    let mut frame = frame(pool, &[0; 60]);
    for status in [ChecksumStatus::Good, ChecksumStatus::Bad] {
        let said = RxMeta {
            ip_checksum: status,
            l4_checksum: status,
            rss_hash: Some(7),
            stripped_vlan: Some(100),
            segment_bytes: 0,
        };
        assert!(frame.set_rx_meta(said));
        assert_eq!(frame.rx_meta(), said);
    }
    let other = frame.share().expect("counts");
    assert!(!frame.set_rx_meta(RxMeta::default()));
    drop(other);
    assert!(frame.set_rx_meta(RxMeta::default()));
    assert_eq!(frame.rx_meta(), RxMeta::default());
}

#[test]
fn what_is_wanted_and_not_offered_is_printed_and_not_in_force() {
    let pool = pool(63);
    let device = device(&Vdev::sink(&unique("net_null")));
    assert!(
        !device
            .capabilities()
            .tx_offloads
            .contains(TxOffloads::TCP_TSO)
    );
    let config = PortConfig {
        rx_offloads: RxOffloads::TCP_CKSUM | RxOffloads::SCATTER,
        tx_offloads: TxOffloads::TCP_TSO,
        ..PortConfig::default()
    };
    let configured = device.configure(&config, &[pool]).expect("configures");
    let effective = configured.effective();
    assert_eq!(effective.tx_offloads, TxOffloads::NONE);
    assert!(effective.sends_chains(), "a sink frees a chain as it is");
    let text = effective.to_string();
    let line = |word: &str| {
        let line = text
            .lines()
            .find(|line| line.contains(word))
            .expect("a line per wish");
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(line("tx TCP_TSO"), ["tx", "TCP_TSO", "yes", "no", "no"]);
    assert_eq!(line("rx TCP_CKSUM"), ["rx", "TCP_CKSUM", "yes", "no", "no"]);
    assert_eq!(line("rx queues"), ["rx", "queues", "1", "1..1024", "1"]);
}

#[test]
fn rss_is_in_force_only_with_several_queues_and_reads_back() {
    let pool = pool(255);
    let key = vec![0x6d; 40];
    let config = PortConfig {
        rx_queues: 4,
        tx_queues: 4,
        rss: Some(RssConfig {
            types: RssTypes::TCP,
            key: key.clone(),
        }),
        ..PortConfig::default()
    };
    let (mut port, rx, tx) = device(&Vdev::sink(&unique("net_null")))
        .configure(&config, &[pool])
        .expect("configures")
        .start()
        .expect("starts");
    assert_eq!((rx.len(), tx.len()), (4, 4));
    assert_eq!(
        rx.iter().map(RxQueue::index).collect::<Vec<_>>(),
        [0, 1, 2, 3]
    );
    let rss = port.rss().expect("net_null shows RSS");
    assert!(rss.types.contains(RssTypes::IPV4_TCP));
    let table: Vec<u16> = (0..rss.reta.len())
        .map(|entry| (entry / 3 % 4) as u16)
        .collect();
    port.set_reta(&table).expect("takes the table");
    assert_eq!(port.rss().expect("still on").reta, table);
    let bad = vec![4; table.len()];
    assert!(matches!(
        port.set_reta(&bad),
        Err(PortError::Refused {
            step: Step::Reta,
            ..
        })
    ));
}

#[test]
fn impossible_numbers_of_queues_are_refused_with_the_limits() {
    let pool = pool(63);
    for (rx, tx) in [(0, 1), (1, 0), (u16::MAX, 1)] {
        let config = PortConfig {
            rx_queues: rx,
            tx_queues: tx,
            ..PortConfig::default()
        };
        let device = device(&Vdev::ring_loop(&unique("net_ring")));
        let rx_max = device.capabilities().rx_queues_max;
        let refused = device.configure(&config, &[pool]).expect_err("refused");
        assert!(matches!(refused, PortError::Queues { rx_max: limit, .. } if limit == rx_max));
    }
}

// behaviour: NIC-11
#[test]
fn a_port_has_one_owner_at_a_time_and_can_be_had_again() {
    let pool = pool(63);
    let name = unique("net_null");
    let (port, rx, tx) = started(&Vdev::sink(&name), pool);
    let in_use = || Device::by_name(eal(), &name).err();
    assert_eq!(in_use(), Some(PortError::InUse { name: name.clone() }));
    drop((port, rx));
    // A queue alone keeps the port running.
    assert_eq!(in_use(), Some(PortError::InUse { name: name.clone() }));
    drop(tx);
    let device = Device::by_name(eal(), &name).expect("free again");
    device.close().expect("closes");
    assert!(matches!(
        Device::by_name(eal(), &name),
        Err(PortError::Unknown { .. })
    ));
}

// behaviour: QDS-15
#[test]
fn an_mtu_the_driver_will_not_hear_of_leaves_it_alone() {
    let pool = pool(63);
    let device = device(&Vdev::sink(&unique("net_null")));
    let largest = device.capabilities().mtu.1;
    let config = PortConfig {
        mtu: Some(9_000),
        ..PortConfig::default()
    };
    let configured = device
        .configure(&config, &[pool])
        .expect("configures all the same");
    let frame_fits = configured.effective().offered.rx_frame_bytes_max >= 9_018;
    let expected = (frame_fits && largest >= 9_000).then_some(9_000);
    assert_eq!(configured.effective().mtu, expected);
}

#[test]
fn queues_work_from_an_lcore_and_come_back() {
    let pool = pool(255);
    let (port, mut rx, mut tx) = started(&Vdev::ring_loop(&unique("net_ring")), pool);
    let worker = eal().worker_lcores()[0];
    let task = eal().launch(worker, move || {
        let mut burst = Burst::new();
        let mut seen = 0;
        for _ in 0..100 {
            burst.try_push(frame(pool, b"ping")).expect("room");
            assert!(tx.burst(&mut burst).is_empty());
            seen += rx.burst(&mut burst);
            burst.clear();
        }
        (seen, rx, tx)
    });
    let (seen, rx, tx) = task.expect("idle").join().expect("no panic");
    assert_eq!(seen, 100);
    assert_eq!(port.stats().expect("counts").rx_frames, 100);
    drop((rx, tx));
    assert_eq!(pool.available(), pool.count());
}

#[test]
fn a_hash_table_finds_what_was_entered_and_nothing_else() {
    let mut table = HashTable::<36>::new(eal(), &unique("hash"), 1_024).expect("memory");
    let key = |number: u8| [number; 36];
    for number in 0..100 {
        table
            .insert(&key(number), u64::from(number) << 32)
            .expect("room");
    }
    assert_eq!(table.get(&key(7)), Some(7 << 32));
    assert_eq!(table.get(&key(100)), None);
    let keys: Vec<[u8; 36]> = (90..110).map(key).collect();
    let keys: Vec<&[u8; 36]> = keys.iter().collect();
    let mut values = [u64::MAX; 20];
    assert_eq!(table.get_bulk(&keys, &mut values), 0x3ff);
    assert_eq!((values[9], values[10]), (99 << 32, u64::MAX));
    assert!(table.remove(&key(7)) && !table.remove(&key(7)));
    assert_eq!(table.get(&key(7)), None);
}
