//! The properties that make a port choice right, over keys, families, shards and ranges.

use super::*;
use millrace_base::rss::random_key;
use proptest::prelude::{ProptestConfig, any, prop, prop_assert, prop_assert_eq, proptest};
use std::collections::HashSet;

const BACKEND: Endpoint = Endpoint::new(Address::v4([10, 9, 0, 2]), 80);

fn address(last: u8) -> Address {
    Address::v4([10, 9, 0, last])
}

fn v6(last: u8) -> Address {
    Address::v6([0xfd, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last])
}

fn map(seed: u64, slots: usize, lcores: u16) -> Arc<RssMap> {
    let mut rng = Rng::new(seed);
    let key = random_key(|| rng.next_u64());
    Arc::new(RssMap::spread(&key, slots, lcores).expect("a good key"))
}

fn snat(map: &Arc<RssMap>, lcore: u16, pairs_max: usize) -> Snat {
    let seed = u64::from(lcore) + 77;
    Snat::new(Arc::clone(map), LcoreIndex::new(lcore), pairs_max, seed)
}

fn single(pairs_max: usize) -> Snat {
    snat(&Arc::new(RssMap::single()), 0, pairs_max)
}

/// A choice where no notice is ever lost: the stack says what the accounts say.
fn choose(snat: &mut Snat, remote: Endpoint, cursor: &mut u32) -> Result<Endpoint, NoPort> {
    snat.choose(remote, cursor, |_| false)
}

fn free(snat: &mut Snat, local: Endpoint, remote: Endpoint) {
    snat.on_tuple_change(TupleChange::Free(FlowTuple { local, remote }));
}

// behaviour: HSH-16
#[test]
fn addresses_alternate_and_a_port_is_reused_as_late_as_possible() {
    let mut snat = single(4);
    assert!(snat.add(address(10), 100, 102) && snat.add(address(11), 200, 202));
    let mut cursor = 0;
    let mut chosen = Vec::new();
    for _ in 0..12 {
        let local = choose(&mut snat, BACKEND, &mut cursor).expect("free");
        chosen.push(local);
        free(&mut snat, local, BACKEND);
    }
    for (index, local) in chosen.iter().enumerate() {
        let last = if index % 2 == 0 { 10 } else { 11 };
        assert_eq!(local.address, address(last));
    }
    let different: HashSet<_> = chosen.iter().take(6).collect();
    assert_eq!(different.len(), 6, "all six before any again: {chosen:?}");
    assert_eq!(
        chosen.get(6..),
        chosen.get(..6),
        "and then in the same order"
    );
}

#[test]
fn the_family_follows_the_backend() {
    let mut snat = single(4);
    assert!(snat.add(address(10), 1_024, 65_535));
    let backend = Endpoint::new(v6(2), 80);
    let mut cursor = 0;
    assert_eq!(choose(&mut snat, backend, &mut cursor), Err(NoPort::Family));
    assert!(snat.add(v6(1), 1_024, 65_535));
    let chosen = choose(&mut snat, backend, &mut cursor).expect("free");
    assert_eq!(chosen.address, v6(1));
}

#[test]
fn nonsense_ranges_are_refused() {
    let mut snat = single(1);
    assert!(!snat.add(Address::UNSPECIFIED_V4, 1_024, 2_000));
    assert!(!snat.add(Address::v4([224, 0, 0, 1]), 1_024, 2_000));
    assert!(!snat.add(address(1), 0, 2_000));
    assert!(!snat.add(address(1), 2_000, 1_999));
    assert!(snat.add(address(1), 65_535, 65_535));
    assert!(
        !snat.add(address(1), 1_024, 2_000),
        "the same address twice"
    );
}

// RFC 6056 section 3.3.3: the first port differs from pair to pair and from boot to boot.
// behaviour: HSH-16
#[test]
fn ports_start_at_random_places() {
    let map = Arc::new(RssMap::single());
    let mut firsts = HashSet::new();
    for seed in 0..8 {
        let mut snat = Snat::new(Arc::clone(&map), LcoreIndex::new(0), 4, seed);
        assert!(snat.add(address(10), 1_024, 65_535));
        for port in [80, 81] {
            let remote = Endpoint::new(BACKEND.address, port);
            let local = choose(&mut snat, remote, &mut 0).expect("free");
            firsts.insert(local.port);
        }
    }
    assert!(firsts.len() >= 14, "{firsts:?}");
}

// The pool is for four pairs; the fifth connects all the same, and an idle account is reused.
#[test]
fn pairs_beyond_the_pool_find_ports_and_are_counted() {
    let mut snat = single(4);
    assert!(snat.add(address(10), 1_024, 1_100));
    let remote = |port| Endpoint::new(BACKEND.address, port);
    let mut held = Vec::new();
    for port in 1..=4 {
        held.push(choose(&mut snat, remote(port), &mut 0).expect("free"));
    }
    assert_eq!((snat.pair_count(), snat.untracked()), (4, 0));
    let beyond = snat.choose(remote(5), &mut 0, |_| true).expect("free");
    assert!((1_024..=1_100).contains(&beyond.port));
    assert_eq!((snat.pair_count(), snat.untracked()), (4, 1));
    assert_eq!(snat.headroom(remote(5)).used, 0, "not in the account");
    assert_eq!(
        snat.choose(remote(5), &mut 0, |_| false),
        Err(NoPort::Exhausted)
    );
    free(&mut snat, held[2], remote(3));
    choose(&mut snat, remote(6), &mut 0).expect("an idle account is taken over");
    assert_eq!((snat.pair_count(), snat.untracked()), (4, 2));
    for port in [1, 2, 4, 6] {
        assert_eq!(snat.headroom(remote(port)).used, 1, "port {port}");
    }
    assert_eq!(
        snat.headroom(remote(3)),
        Headroom {
            capacity: 77,
            used: 0
        }
    );
}

#[test]
fn a_lost_notice_costs_no_port_for_good() {
    let mut snat = single(4);
    assert!(snat.add(address(10), 1_024, 1_031));
    let mut cursor = 0;
    for _ in 0..8 {
        choose(&mut snat, BACKEND, &mut cursor).expect("free");
    }
    assert_eq!(
        choose(&mut snat, BACKEND, &mut cursor),
        Err(NoPort::Exhausted)
    );
    // The stack knows that one is free; nobody told.
    let mut found = None;
    for _ in 0..65_536 / 16 {
        let is_free = |tuple: &FlowTuple| tuple.local.port == 1_027;
        if let Ok(local) = snat.choose(BACKEND, &mut cursor, is_free) {
            found = Some(local.port);
            break;
        }
    }
    assert_eq!(found, Some(1_027));
}

#[test]
fn a_range_that_shrinks_and_grows_keeps_the_count() {
    let mut snat = single(4);
    assert!(snat.add(address(10), 2_000, 2_099));
    let mut cursor = 0;
    let held: Vec<Endpoint> = (0..100)
        .map(|_| choose(&mut snat, BACKEND, &mut cursor).expect("free"))
        .collect();
    snat.clear();
    assert!(snat.add(address(10), 2_050, 2_059));
    assert_eq!(
        snat.headroom(BACKEND),
        Headroom {
            capacity: 10,
            used: 10
        }
    );
    assert_eq!(
        choose(&mut snat, BACKEND, &mut cursor),
        Err(NoPort::Exhausted)
    );
    for local in &held {
        free(&mut snat, *local, BACKEND);
    }
    assert_eq!(
        snat.headroom(BACKEND),
        Headroom {
            capacity: 10,
            used: 0
        }
    );
    snat.clear();
    assert_eq!(choose(&mut snat, BACKEND, &mut cursor), Err(NoPort::Family));
    assert!(snat.add(address(10), 2_000, 2_199));
    assert_eq!(
        snat.headroom(BACKEND),
        Headroom {
            capacity: 200,
            used: 0
        }
    );
}

proptest! {
    // Every lcore chooses exactly the tuples it owns, none twice, and together they have the whole
    // space; the count says so at every step.
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn lcores_share_the_ports_without_overlap(
        seed: u64,
        lcores in 1u16..6,
        slots_log2 in 6u32..10,
        port_first in 1u16..60_000,
        ports in 1u16..600,
        addresses in 1u8..4,
        is_v4: bool,
    ) {
        let map = map(seed, 1 << slots_log2, lcores);
        let port_last = port_first + (ports - 1);
        let of = |last| if is_v4 { address(last) } else { v6(last) };
        let remote = Endpoint::new(of(200), 443);
        let mut all = HashSet::new();
        let mut capacity = 0;
        for lcore in 0..lcores {
            let mut snat = snat(&map, lcore, 8);
            for last in 0..addresses {
                prop_assert!(snat.add(of(last + 1), port_first, port_last));
            }
            let whole = snat.headroom(remote);
            capacity += whole.capacity;
            let mut cursor = seed as u32;
            for used in 0..whole.capacity {
                prop_assert_eq!(snat.headroom(remote).used, used);
                let local = choose(&mut snat, remote, &mut cursor).expect("headroom says so");
                let tuple = FlowTuple { local, remote };
                prop_assert_eq!(map.owner(&tuple), LcoreIndex::new(lcore));
                prop_assert!((port_first..=port_last).contains(&local.port));
                prop_assert!(all.insert(local), "{} twice", local);
            }
            let end = choose(&mut snat, remote, &mut cursor);
            prop_assert_eq!(end, Err(NoPort::Exhausted), "exactly then");
        }
        prop_assert_eq!(capacity, u32::from(ports) * u32::from(addresses));
        prop_assert_eq!(all.len(), capacity as usize);
    }

    // Taking, giving back, being occupied and changed ranges, against a set.
    #[test]
    fn an_account_is_a_set_of_ports(
        seed: u64,
        lcores in 1u16..4,
        steps in prop::collection::vec((0u8..8, any::<u16>()), 1..400),
    ) {
        let map = map(seed, 64, lcores);
        let mut snat = snat(&map, 0, 2);
        let mut range = 1_000u16..=1_127;
        prop_assert!(snat.add(address(1), *range.start(), *range.end()));
        let owned = |port| {
            let local = Endpoint::new(address(1), port);
            map.owner(&FlowTuple { local, remote: BACKEND }) == LcoreIndex::new(0)
        };
        let mut taken: HashSet<u16> = HashSet::new();
        let mut cursor = 0;
        for (step, number) in steps {
            let local = Endpoint::new(address(1), 900 + number % 400);
            match step {
                0..=3 => if let Ok(local) = choose(&mut snat, BACKEND, &mut cursor) {
                    prop_assert!(range.contains(&local.port) && taken.insert(local.port));
                },
                4 | 5 => {
                    free(&mut snat, local, BACKEND);
                    taken.remove(&local.port);
                }
                6 if snat.pair_count() == 1 => {
                    let tuple = FlowTuple { local, remote: BACKEND };
                    snat.on_tuple_change(TupleChange::Resting(tuple));
                    if owned(local.port) {
                        taken.insert(local.port);
                    }
                }
                7 => {
                    range = local.port..=local.port + number % 200;
                    snat.clear();
                    prop_assert!(snat.add(address(1), *range.start(), *range.end()));
                }
                _ => {}
            }
            let expected = Headroom {
                capacity: range.clone().filter(|port| owned(*port)).count() as u32,
                used: taken.iter().filter(|port| range.contains(port)).count() as u32,
            };
            prop_assert_eq!(snat.headroom(BACKEND), expected);
        }
    }
}
