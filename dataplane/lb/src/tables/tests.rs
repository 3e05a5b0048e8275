//! What is believed of a snapshot and what is not.

use super::*;
use millrace_abi::{
    AddressRecord, BackendRecord, InterfaceRecord, LegRecord, ListenerRecord, RouteRecord,
    SnatRecord,
};
use millrace_base::rss::RssMap;
use millrace_base::{CongestionControl, LcoreIndex, MacAddress, PortId};
use proptest::prelude::{any, prop, prop_assert, proptest};
use std::sync::Arc;

fn tables() -> Tables {
    Tables::new(Snat::new(
        Arc::new(RssMap::single()),
        LcoreIndex::new(0),
        16,
        1,
    ))
}

fn v4(last: u8) -> [u8; 16] {
    *Address::v4([10, 0, 0, last]).octets()
}

fn interface(port: u16) -> InterfaceRecord {
    let mac = MacAddress::new([2, 0, 0, 0, 0, port as u8]);
    InterfaceRecord::new(PortId::new(port), mac, 1_500)
}

fn backend(id: u16, pool: u16) -> BackendRecord {
    BackendRecord {
        address: v4(id as u8 + 1),
        id,
        pool,
        port: 80,
        weight: 1,
        ..Default::default()
    }
}

fn listener(id: u16, pool: u16) -> ListenerRecord {
    ListenerRecord {
        address: v4(100),
        id,
        port_first: 80,
        port_last: 80,
        pool,
        ..Default::default()
    }
}

fn leg(number: u8) -> LegRecord {
    LegRecord {
        congestion_control: number,
        ..Default::default()
    }
}

/// Two pools of two backends, a listener for each, one port with a subnet, a default route, a SNAT
/// address.
fn sound() -> Box<Snapshot> {
    let mut snapshot = Snapshot::boxed();
    snapshot.push_interface(interface(0)).expect("room");
    let own = AddressRecord {
        address: v4(10),
        prefix_len: 24,
        ..Default::default()
    };
    snapshot.push_address(own).expect("room");
    let vip = AddressRecord {
        address: v4(100),
        prefix_len: 32,
        kind: 1,
        ..Default::default()
    };
    snapshot.push_address(vip).expect("room");
    let route = RouteRecord {
        prefix: *Address::UNSPECIFIED_V4.octets(),
        via: v4(1),
        has_via: 1,
        ..Default::default()
    };
    snapshot.push_route(route).expect("room");
    let snat = SnatRecord {
        address: v4(10),
        port_first: 1_024,
        port_last: 65_535,
        ..Default::default()
    };
    snapshot.push_snat(snat).expect("room");
    for pool in 0..2 {
        let first = snapshot
            .push_backend(backend(pool * 2, pool))
            .expect("room");
        snapshot
            .push_backend(backend(pool * 2 + 1, pool))
            .expect("room");
        let record = PoolRecord {
            id: pool,
            backend_first: first,
            backend_count: 2,
            ..Default::default()
        };
        snapshot.push_pool(record).expect("room");
        snapshot.push_listener(listener(pool, pool)).expect("room");
    }
    snapshot
}

fn picks(tables: &mut Tables, listener: u16) -> Vec<u16> {
    let id = ListenerId::new(listener);
    let mut picks: Vec<_> = (0..4)
        .filter_map(|_| tables.pick(id, &Tried::NONE).ok())
        .map(|picked| picked.backend.number())
        .collect();
    picks.sort_unstable();
    picks
}

#[test]
fn a_sound_snapshot_is_believed_whole() {
    let mut tables = tables();
    assert_eq!(tables.adopt(&sound(), &mut Rng::new(1)), 0);
    assert_eq!(picks(&mut tables, 0), [0, 0, 1, 1]);
    assert_eq!(picks(&mut tables, 1), [2, 2, 3, 3]);
    assert_eq!(tables.staging.interfaces[0].addresses.len(), 1);
    assert_eq!(tables.staging.addresses, [Address::v4([10, 0, 0, 100])]);
    assert_eq!(tables.staging.routes.len(), 1);
    assert_eq!(tables.staging.listeners.len(), 2);
}

#[test]
fn every_record_that_makes_no_sense_is_skipped_and_counted() {
    let mut snapshot = sound();
    let mut expected = 0;
    let mut push = |pushed: Result<u16, millrace_abi::TableFull>| {
        pushed.expect("room");
        expected += 1;
    };
    push(snapshot.push_interface(interface(0)));
    push(snapshot.push_interface(interface(PORTS_MAX as u16)));
    push(snapshot.push_interface(InterfaceRecord {
        mtu: 67,
        ..interface(1)
    }));
    for (kind, prefix_len, port) in [(7, 24, 0), (0, 33, 0), (0, 24, 5)] {
        push(snapshot.push_address(AddressRecord {
            address: v4(11),
            port,
            prefix_len,
            kind,
            ..Default::default()
        }));
    }
    push(snapshot.push_address(AddressRecord::default()));
    let route = RouteRecord {
        prefix: v4(0),
        prefix_len: 24,
        ..Default::default()
    };
    push(snapshot.push_route(RouteRecord { port: 9, ..route }));
    push(snapshot.push_route(RouteRecord {
        prefix_len: 40,
        ..route
    }));
    push(snapshot.push_route(RouteRecord {
        has_via: 1,
        via: [0xfd; 16],
        ..route
    }));
    push(snapshot.push_snat(SnatRecord::default()));
    push(snapshot.push_listener(listener(0, 0)));
    push(snapshot.push_listener(listener(LISTENERS_MAX as u16, 0)));
    push(snapshot.push_listener(listener(5, 9)));
    push(snapshot.push_listener(ListenerRecord {
        port_first: 0,
        ..listener(6, 0)
    }));
    push(snapshot.push_pool(PoolRecord {
        algorithm: 9,
        ..Default::default()
    }));
    let mut tables = tables();
    assert_eq!(tables.adopt(&snapshot, &mut Rng::new(1)), expected);
    assert_eq!(picks(&mut tables, 0), [0, 0, 1, 1]);
    assert_eq!(tables.staging.interfaces.len(), 1);
    assert_eq!(tables.staging.listeners.len(), 2);
}

// Control may know an algorithm that this dataplane does not have.
#[test]
fn a_leg_that_is_not_understood_is_counted_and_served_all_the_same() {
    let mut snapshot = sound();
    let known = CongestionControl::Reno;
    for (id, number) in [(5, known.number()), (6, u8::MAX)] {
        let pool = PoolRecord {
            id,
            backend_count: 2,
            leg: leg(number),
            ..Default::default()
        };
        let pool = snapshot.push_pool(pool).expect("room");
        let record = ListenerRecord {
            leg: leg(number),
            ..listener(id, pool)
        };
        snapshot.push_listener(record).expect("room");
    }
    // Both have the backends of pool 0: which of them they own does not matter here.
    let mut tables = tables();
    let invalid_backends = 4;
    let invalid = tables.adopt(&snapshot, &mut Rng::new(1));
    assert_eq!(invalid, invalid_backends + 2);
    let staged = |tables: &Tables, id: u16| {
        let mut listeners = tables.staging.listeners.iter();
        let found = listeners.find(|listener| listener.id == ListenerId::new(id));
        found.map(|listener| listener.options.profile.congestion_control)
    };
    assert_eq!(staged(&tables, 0), Some(None));
    assert_eq!(staged(&tables, 5), Some(Some(known)));
    assert_eq!(staged(&tables, 6), Some(None));
}

#[test]
fn a_backend_belongs_to_the_pool_it_names_and_to_one_only() {
    let mut snapshot = sound();
    // This pool's range takes in the backends of the others; the records say otherwise.
    let greedy = PoolRecord {
        id: 2,
        backend_first: 0,
        backend_count: u16::MAX,
        ..Default::default()
    };
    let pool = snapshot.push_pool(greedy).expect("room");
    snapshot.push_listener(listener(2, pool)).expect("room");
    let mut tables = tables();
    assert_eq!(tables.adopt(&snapshot, &mut Rng::new(1)), 4);
    assert_eq!(
        tables.pick(ListenerId::new(2), &Tried::NONE),
        Err(NoPick::Backend)
    );
    assert_eq!(picks(&mut tables, 1), [2, 2, 3, 3]);
}

#[test]
fn what_the_next_snapshot_leaves_out_is_gone() {
    let mut tables = tables();
    let mut rng = Rng::new(1);
    assert_eq!(tables.adopt(&sound(), &mut rng), 0);
    assert_eq!(tables.adopt(&Snapshot::boxed(), &mut rng), 0);
    assert_eq!(
        tables.pick(ListenerId::new(0), &Tried::NONE),
        Err(NoPick::Pool)
    );
    assert!(tables.staging.listeners.is_empty() && tables.staging.routes.is_empty());
    assert_eq!(tables.adopt(&sound(), &mut rng), 0);
    assert_eq!(picks(&mut tables, 0), [0, 0, 1, 1]);
}

#[test]
fn adopting_never_grows_what_was_allocated() {
    let mut tables = tables();
    let mut rng = Rng::new(1);
    let mut snapshot = Snapshot::boxed();
    while snapshot.push_listener(listener(0, 0)).is_ok() {}
    while snapshot.push_route(RouteRecord::default()).is_ok() {}
    while snapshot
        .push_address(AddressRecord {
            address: v4(3),
            kind: 1,
            ..Default::default()
        })
        .is_ok()
    {}
    while snapshot.push_backend(backend(0, 0)).is_ok() {}
    while snapshot
        .push_pool(PoolRecord {
            backend_count: u16::MAX,
            ..Default::default()
        })
        .is_ok()
    {}
    let capacities = |tables: &Tables| {
        (
            tables.pools.capacity(),
            tables.members.capacity(),
            tables.staging.addresses.capacity(),
            tables.staging.routes.capacity(),
            tables.staging.listeners.capacity(),
        )
    };
    let before = capacities(&tables);
    tables.adopt(&snapshot, &mut rng);
    assert_eq!(capacities(&tables), before);
}

proptest! {
    // Control may be of another version, or broken: any bytes are survived.
    #[test]
    fn any_records_are_survived(
        numbers in prop::collection::vec(any::<[u16; 6]>(), 0..40),
        small in any::<bool>(),
    ) {
        let mut snapshot = sound();
        for [a, b, c, d, e, f] in numbers {
            let bound = if small { 8 } else { u16::MAX };
            let [a, b, c, d, e] = [a, b, c, d, e].map(|number| number % bound);
            let (kind, length) = (e as u8, f as u8);
            let address = if f % 2 == 0 { v4(kind) } else { [length; 16] };
            let _ = snapshot.push_interface(InterfaceRecord {
                port: a, mtu: b, ..Default::default()
            });
            let _ = snapshot.push_address(AddressRecord {
                address, port: a, prefix_len: length, kind, ..Default::default()
            });
            let _ = snapshot.push_route(RouteRecord {
                prefix: address, via: [kind; 16], port: b, mtu: c, prefix_len: length,
                has_via: kind, ..Default::default()
            });
            let _ = snapshot.push_listener(ListenerRecord {
                address, id: a, port_first: b, port_last: c, pool: d, leg: leg(kind),
                ..Default::default()
            });
            let _ = snapshot.push_pool(PoolRecord {
                id: a, backend_first: b, backend_count: c, algorithm: kind, leg: leg(length),
                ..Default::default()
            });
            let _ = snapshot.push_backend(BackendRecord {
                address, id: a, pool: b, port: c, weight: d, state: kind, ..Default::default()
            });
            let _ = snapshot.push_snat(SnatRecord {
                address, port_first: a, port_last: b, ..Default::default()
            });
        }
        let mut tables = tables();
        let mut rng = Rng::new(1);
        tables.adopt(&snapshot, &mut rng);
        tables.adopt(&snapshot, &mut rng);
        for id in 0..LISTENERS_MAX as u16 {
            if let Ok(picked) = tables.pick(ListenerId::new(id), &Tried::NONE) {
                prop_assert!(tables.backends.eligible(picked.backend).is_some());
            }
        }
    }
}
