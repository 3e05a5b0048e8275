//! The state machine, walked by hand with explicit time.

use super::*;

const MAC_A: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 0xa]);
const MAC_B: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 0xb]);

fn key(last: u8) -> Key {
    (PortId::new(0), Address::v4([10, 0, 0, last]))
}

fn table() -> Table {
    let timings = Timings {
        base_reachable_ms: 30_000,
        delay_first_probe: Nanos::from_secs(5),
        retrans: Nanos::from_secs(1),
        ucast_solicit: 3,
        mcast_solicit: 3,
    };
    Table::new(timings, 1)
}

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn state(table: &Table, key: Key) -> Option<State> {
    table.entries.get(&key).map(|entry| entry.state)
}

fn solicit(key: Key, to: Option<MacAddress>) -> Action {
    Action::Solicit { key, to }
}

fn tell(key: Key, state: NeighborState) -> Action {
    Action::Tell { key, state }
}

fn answer(mac: MacAddress) -> Heard {
    Heard {
        mac: Some(mac),
        solicited: true,
        replaces: true,
        creates: false,
    }
}

fn resolved() -> Table {
    let mut table = table();
    table.need(at(0), key(1));
    table.hear(at(1), key(1), answer(MAC_A));
    let expected = [
        solicit(key(1), None),
        tell(key(1), NeighborState::Reachable(MAC_A)),
    ];
    assert_eq!(table.take_actions(), expected);
    table
}

// behaviour: ARP-9
#[test]
fn an_unknown_neighbour_is_asked_for_three_times_a_second_apart_and_then_fails() {
    let mut table = table();
    table.need(at(0), key(1));
    table.need(at(10), key(1));
    assert_eq!(table.take_actions(), [solicit(key(1), None)]);
    for second in [1, 2] {
        table.advance(at(second * 1_000 - 1));
        assert_eq!(table.take_actions(), []);
        table.advance(at(second * 1_000));
        assert_eq!(table.take_actions(), [solicit(key(1), None)]);
    }
    table.advance(at(3_000));
    assert_eq!(table.take_actions(), [tell(key(1), NeighborState::Failed)]);
    assert_eq!(state(&table, key(1)), Some(State::Failed));
    table.advance(at(100_000));
    assert_eq!(table.take_actions(), []);
    // Wanted again: everything from the start.
    table.need(at(100_001), key(1));
    assert_eq!(table.take_actions(), [solicit(key(1), None)]);
}

// behaviour: ARP-10, ARP-14
#[test]
fn a_reachable_neighbour_is_probed_at_its_address_and_an_answer_brings_it_back() {
    let mut table = resolved();
    table.advance(at(15_000));
    assert_eq!(
        state(&table, key(1)),
        Some(State::Reachable),
        "0.5 x 30 s at least"
    );
    table.advance(at(45_002));
    assert_eq!(
        state(&table, key(1)),
        Some(State::Delay),
        "1.5 x 30 s at most"
    );
    table.advance(at(50_001));
    assert_eq!(table.take_actions(), []);
    table.advance(at(50_002));
    assert_eq!(state(&table, key(1)), Some(State::Probe));
    assert_eq!(table.take_actions(), [solicit(key(1), Some(MAC_A))]);
    table.hear(at(50_003), key(1), answer(MAC_A));
    assert_eq!(state(&table, key(1)), Some(State::Reachable));
    assert_eq!(table.take_actions(), [], "lcores know this address already");
}

// behaviour: ARP-14, ARP-19
#[test]
fn a_neighbour_that_is_gone_fails_after_three_unicast_requests() {
    let mut table = resolved();
    for now in [45_002, 50_002, 51_002, 52_002, 53_002] {
        table.advance(at(now));
    }
    let expected = [
        solicit(key(1), Some(MAC_A)),
        solicit(key(1), Some(MAC_A)),
        solicit(key(1), Some(MAC_A)),
        tell(key(1), NeighborState::Failed),
    ];
    assert_eq!(table.take_actions(), expected);
    assert_eq!(state(&table, key(1)), Some(State::Failed));
}

// behaviour: ARP-17
#[test]
fn tcp_progress_keeps_a_neighbour_reachable_without_requests() {
    let mut table = resolved();
    for second in 1..300 {
        table.confirm(at(second * 1_000), key(1));
        table.advance(at(second * 1_000));
    }
    assert_eq!(state(&table, key(1)), Some(State::Reachable));
    assert_eq!(table.take_actions(), []);
}

#[test]
fn progress_through_an_unknown_neighbour_resolves_it_but_never_fails_it() {
    // Control was restarted; the lcores know the neighbour and control does not.
    let mut table = table();
    table.confirm(at(0), key(1));
    for now in [0, 1_000, 2_000, 3_000, 4_000] {
        table.advance(at(now));
    }
    assert_eq!(table.take_actions(), vec![solicit(key(1), None); 3]);
    assert_eq!(state(&table, key(1)), Some(State::Failed));
}

#[test]
fn who_asks_for_us_is_remembered_as_stale_and_then_probed() {
    let mut table = table();
    let heard = Heard {
        creates: true,
        solicited: false,
        ..answer(MAC_A)
    };
    table.hear(at(0), key(1), heard);
    assert_eq!(state(&table, key(1)), Some(State::Stale));
    assert_eq!(
        table.take_actions(),
        [tell(key(1), NeighborState::Reachable(MAC_A))]
    );
    table.advance(at(1));
    assert_eq!(state(&table, key(1)), Some(State::Delay));
    table.advance(at(5_001));
    assert_eq!(table.take_actions(), [solicit(key(1), Some(MAC_A))]);
    // The same again from a reachable neighbour changes nothing.
    table.hear(at(5_002), key(1), answer(MAC_A));
    table.hear(at(5_003), key(1), heard);
    assert_eq!(state(&table, key(1)), Some(State::Reachable));
}

#[test]
fn gossip_about_unknown_neighbours_creates_nothing() {
    let mut table = table();
    table.hear(at(0), key(1), answer(MAC_A));
    assert_eq!(state(&table, key(1)), None);
    assert_eq!(table.take_actions(), []);
}

// behaviour: ARP-18
#[test]
fn a_new_address_replaces_the_old_one_but_not_within_the_locktime() {
    let mut table = resolved();
    table.hear(at(900), key(1), answer(MAC_B));
    assert_eq!(table.take_actions(), [], "the first of two answers wins");
    let announcement = Heard {
        solicited: false,
        ..answer(MAC_B)
    };
    table.hear(at(1_100), key(1), announcement);
    assert_eq!(
        table.take_actions(),
        [tell(key(1), NeighborState::Reachable(MAC_B))]
    );
    assert_eq!(state(&table, key(1)), Some(State::Stale));
}

//= https://www.rfc-editor.org/rfc/rfc4861#section-7.2.5
//= type=test
#[test]
fn an_advertisement_without_override_only_raises_doubt() {
    let mut table = resolved();
    let doubt = Heard {
        replaces: false,
        ..answer(MAC_B)
    };
    table.hear(at(2_000), key(1), doubt);
    assert_eq!(state(&table, key(1)), Some(State::Stale));
    assert_eq!(table.take_actions(), [], "the old address stays in use");
    let bare = Heard {
        mac: None,
        ..answer(MAC_A)
    };
    table.hear(at(2_001), key(1), bare);
    assert_eq!(state(&table, key(1)), Some(State::Reachable));
    // While nothing is known, an advertisement without an address is worth nothing.
    table.need(at(2_002), key(2));
    table.hear(at(2_003), key(2), bare);
    assert_eq!(state(&table, key(2)), Some(State::Incomplete));
}

#[test]
fn an_lcore_that_lost_an_address_is_told_again_without_a_request() {
    let mut table = resolved();
    table.need(at(5_000), key(1));
    table.tell_all();
    assert_eq!(
        table.take_actions(),
        vec![tell(key(1), NeighborState::Reachable(MAC_A)); 2]
    );
}

// behaviour: ARP-2
#[test]
fn the_table_is_bounded_and_pinned_neighbours_stay() {
    let mut table = table();
    let many = |number: usize| {
        let number = u16::try_from(number).expect("small").to_be_bytes();
        (PortId::new(0), Address::v4([10, 1, number[0], number[1]]))
    };
    table.pin(at(0), HashSet::from([many(0)]));
    for number in 1..GC_THRESH_MAX {
        table.need(at(0), many(number));
    }
    table.need(at(1), many(GC_THRESH_MAX));
    assert_eq!(
        (table.entries.len(), table.refused()),
        (GC_THRESH_MAX, 1),
        "all are fresh"
    );
    table.need(at(6_000), many(1));
    table.need(at(6_001), many(GC_THRESH_MAX));
    assert_eq!((table.entries.len(), table.refused()), (GC_THRESH_MAX, 1));
    assert!(table.entries.contains_key(&many(0)) && table.entries.contains_key(&many(1)));
    // Failed and idle for a minute: collected, except the pinned one and those wanted lately.
    for now in 6..100 {
        table.advance(at(now * 1_000));
    }
    assert_eq!(table.entries.len(), 3);
    assert!(table.entries.contains_key(&many(0)));
}

#[test]
fn neighbours_of_a_network_that_went_away_are_removed() {
    let mut table = resolved();
    table.retain(|_| false);
    assert_eq!(table.take_actions(), [tell(key(1), NeighborState::Remove)]);
    assert_eq!(table.rows().count(), 0);
}

// Linux: net.ipv4.neigh.*, whose defaults `[neighbor]` has. behaviour: TUN-13
#[test]
fn the_knobs_set_how_often_and_how_long_is_asked() {
    assert_eq!((GC_THRESH_MIN, GC_THRESH_MAX), (128, 1_024));
    let timings = Timings {
        base_reachable_ms: 10_000,
        delay_first_probe: Nanos::from_secs(1),
        retrans: Nanos::from_millis(250),
        ucast_solicit: 1,
        mcast_solicit: 2,
    };
    let mut table = Table::new(timings, 1);
    table.need(at(0), key(1));
    for now in [249, 250, 499] {
        table.advance(at(now));
    }
    assert_eq!(table.take_actions(), vec![solicit(key(1), None); 2]);
    table.advance(at(500));
    assert_eq!(table.take_actions(), [tell(key(1), NeighborState::Failed)]);
    table.need(at(1_000), key(2));
    table.hear(at(1_001), key(2), answer(MAC_A));
    table.advance(at(6_000));
    assert_eq!(state(&table, key(2)), Some(State::Reachable));
    table.advance(at(16_002));
    assert_eq!(state(&table, key(2)), Some(State::Delay));
    table.take_actions();
    table.advance(at(17_002));
    assert_eq!(table.take_actions(), [solicit(key(2), Some(MAC_A))]);
    table.advance(at(17_252));
    assert_eq!(table.take_actions(), [tell(key(2), NeighborState::Failed)]);
}

// behaviour: CNT-10
#[test]
fn every_entry_that_is_made_is_counted_and_none_twice() {
    let mut table = table();
    for now in 0..3 {
        table.need(at(now), key(1));
        table.need(at(now), key(2));
    }
    assert_eq!((table.entries.len(), table.allocs()), (2, 2));
    table.retain(|_| false);
    table.need(at(5_000), key(1));
    assert_eq!((table.entries.len(), table.allocs()), (1, 3));
}
