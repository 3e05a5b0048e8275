//! Mbufs taken from and given back to an lcore's own cache, without DPDK's code in between: nothing is lost, nothing handed
//! out twice, and a fresh one remembers nothing.

mod support;

use millrace_base::{PacketBuf, PacketPool, RxMeta, TxOffload, VlanId};
use millrace_dpdk::{Burst, Mbuf, MbufPool, Mempool, MempoolConfig};
use std::collections::HashSet;
use support::{eal, unique};

const COUNT: usize = 511;
const CACHE: u32 = 64;

fn cached(count: u32) -> Mempool {
    let name = unique("cached");
    let config = MempoolConfig {
        name: &name,
        count,
        cache: CACHE,
        ..MempoolConfig::default()
    };
    Mempool::new(eal(), &config).expect("pool")
}

/// Runs this on an lcore: only those have caches.
fn on_lcore<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    // One task at a time; the tests of this file run beside each other.
    static BUSY: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _turn = BUSY
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let lcore = *eal().worker_lcores().first().expect("a worker lcore");
    let task = eal().launch(lcore, work).expect("idle");
    task.join().expect("no panic")
}

fn drain(pool: Mempool) -> Vec<Mbuf> {
    core::iter::from_fn(|| pool.alloc()).collect()
}

// behaviour: NIC-5
#[test]
fn every_mbuf_is_handed_out_once_and_comes_back() {
    let pool = cached(COUNT as u32);
    on_lcore(move || {
        for round in 0..3 {
            let all = drain(pool);
            assert_eq!(all.len(), COUNT, "round {round}");
            assert_eq!((pool.available(), pool.available_here()), (0, 0));
            let places: HashSet<_> = all.iter().map(|mbuf| mbuf.bytes().as_ptr()).collect();
            assert_eq!(places.len(), COUNT, "one was handed out twice");
            drop(all);
            assert_eq!(pool.available(), COUNT, "what lies in the cache is free");
        }
    });
    // And from here, where there is no cache: what is in the lcore's is out of reach, not lost.
    let reachable = drain(pool).len();
    assert!(reachable >= COUNT - CACHE as usize * 3 / 2, "{reachable}");
    assert_eq!(pool.available(), COUNT);
}

#[test]
fn a_fresh_mbuf_remembers_nothing_of_its_last_life() {
    let pool = cached(127);
    on_lcore(move || {
        let mut first = pool.alloc().expect("one");
        let place = first.bytes().as_ptr();
        assert!(first.set_span(0, 900));
        assert!(first.set_rx_meta(RxMeta {
            rss_hash: Some(7),
            stripped_vlan: Some(9),
            ..RxMeta::default()
        }));
        assert!(first.set_tx_offload(TxOffload {
            l2_len: 14,
            l3_len: 20,
            l4_len: 20,
            segment_bytes: 1_448,
            vlan: VlanId::new(5),
            ..TxOffload::default()
        }));
        drop(first);
        let mut second = pool.alloc().expect("it came back");
        assert_eq!(second.bytes().as_ptr(), place, "the same one");
        assert_eq!((second.offset(), second.frame_len()), (128, 0));
        assert_eq!((second.segment_count(), second.is_unique()), (1, true));
        assert_eq!(second.rx_meta(), RxMeta::default());
        assert_eq!(second.tx_offload(), TxOffload::default());
        // The lengths of the first life are still in the struct: a tag alone must not bring them back.
        let tag = TxOffload {
            vlan: VlanId::new(6),
            ..TxOffload::default()
        };
        assert!(second.set_tx_offload(tag));
        assert_eq!(second.tx_offload(), tag);
    });
}

#[test]
fn chains_shares_and_views_take_the_long_way_and_all_come_home() {
    let name = unique("mixed");
    let config = MempoolConfig {
        name: &name,
        count: 255,
        cache: CACHE,
        ..MempoolConfig::default()
    };
    let mut pool = MbufPool::create(eal(), &config, 255).expect("pools");
    on_lcore(move || {
        for _ in 0..1_000 {
            let mut head = pool.alloc().expect("room");
            let payload = pool.alloc().expect("room");
            let view = pool.view(&payload, 128, 64).expect("fits");
            let shared = payload.share().expect("few holders");
            head.append(view).expect("alone");
            drop(payload);
            drop(head);
            assert!(shared.is_unique(), "the last holder");
        }
        assert_eq!(pool.bufs().available(), 255);
        assert_eq!(pool.views().available(), 255);
    });
}

#[test]
fn a_burst_is_filled_as_far_as_there_is_room_and_pool() {
    let pool = cached(127);
    on_lcore(move || {
        let held: Vec<Mbuf> = (0..87).filter_map(|_| pool.alloc()).collect();
        let mut burst = Burst::new();
        assert_eq!(pool.alloc_burst(&mut burst, 0), 0);
        assert_eq!(pool.alloc_burst(&mut burst, 30), 30);
        assert_eq!(pool.alloc_burst(&mut burst, 30), 10, "the pool ends");
        assert_eq!(pool.alloc_burst(&mut burst, 30), 0);
        let places: HashSet<_> = burst.frames().iter().map(|f| f.bytes().as_ptr()).collect();
        assert_eq!(places.len(), 40);
        assert!(
            burst
                .frames()
                .iter()
                .all(|f| f.is_unique() && f.offset() == 128)
        );
        burst.clear();
        assert_eq!(pool.available(), 127 - held.len());
    });
    let large = cached(COUNT as u32);
    let mut burst = Burst::new();
    assert_eq!(
        large.alloc_burst(&mut burst, usize::MAX),
        64,
        "the burst ends"
    );
    burst.clear();
    assert_eq!(large.available(), COUNT);
}

// The owner of a flow frees what another lcore received, all day long.
#[test]
fn mbufs_freed_elsewhere_than_taken_are_not_lost() {
    let pool = cached(COUNT as u32);
    for _ in 0..20 {
        let taken = on_lcore(move || drain(pool));
        assert_eq!(taken.len(), COUNT);
        drop(taken);
        let here: Vec<Mbuf> = drain(pool);
        assert_eq!(here.len(), COUNT);
        on_lcore(move || drop(here));
        assert_eq!(pool.available(), COUNT);
        let lcores_own = COUNT - drain(pool).len();
        assert!(lcores_own <= CACHE as usize * 3 / 2);
        on_lcore(move || drop(drain(pool)));
        // Empty the cache by taking everything there and giving it back here.
        drop(on_lcore(move || drain(pool)));
    }
}
