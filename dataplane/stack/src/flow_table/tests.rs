//! The flow table: sizes, bounds, and a map as its model.

use super::*;
use millrace_base::{Address, Endpoint, Rng};
use proptest::prelude::*;
use std::collections::HashMap;

fn tuple(number: u32) -> FlowTuple {
    FlowTuple {
        local: Endpoint::new(Address::v4([10, 0, 0, 1]), 80),
        remote: Endpoint::new(
            Address::v4([10, (number >> 24) as u8, (number >> 16) as u8, 2]),
            number as u16,
        ),
    }
}

/// A table whose owners are connections; connection `n` has the tuple `tuple(n)`.
fn find(table: &FlowTable, number: u32) -> Option<Owner> {
    table.find(table.hash(&tuple(number)), |owner| {
        matches!(owner, Owner::Connection(index) | Owner::TimeWait(index) if index == number)
    })
}

fn insert(table: &mut FlowTable, number: u32) -> Result<(), TableFull> {
    table.insert(table.hash(&tuple(number)), Owner::Connection(number))
}

fn remove(table: &mut FlowTable, number: u32) -> bool {
    table.remove(table.hash(&tuple(number)), Owner::Connection(number))
}

// behaviour: HSH-11, HSH-13, X4-1
#[test]
fn a_full_table_refuses_and_only_the_owner_leaves() {
    let mut table = FlowTable::new(4, [1; 16]);
    for number in 0..4 {
        assert_eq!(insert(&mut table, number), Ok(()));
    }
    assert_eq!(insert(&mut table, 9), Err(TableFull));
    let hash = table.hash(&tuple(2));
    assert!(!table.remove(hash, Owner::Request(2)), "not its owner");
    assert!(!table.replace(hash, Owner::Request(2), Owner::TimeWait(5)));
    assert!(table.replace(hash, Owner::Connection(2), Owner::TimeWait(2)));
    assert_eq!(find(&table, 2), Some(Owner::TimeWait(2)));
    assert!(table.remove(hash, Owner::TimeWait(2)));
    assert!(!table.remove(hash, Owner::TimeWait(2)));
    assert_eq!((find(&table, 2), table.len()), (None, 3));
}

#[test]
fn every_size_takes_as_many_as_it_says() {
    // The steps of a small table must reach all of it; a bound on probes must never refuse an
    // entry of an honest table of any size.
    for len_max in (1..800).chain([5_000, 77_777, 300_000]) {
        let mut table = FlowTable::new(len_max, [len_max as u8; 16]);
        for number in 0..len_max as u32 {
            assert_eq!(insert(&mut table, number), Ok(()), "{number} of {len_max}");
        }
        for number in 0..len_max as u32 {
            assert_eq!(find(&table, number), Some(Owner::Connection(number)));
        }
        assert_eq!(find(&table, len_max as u32), None);
    }
}

// behaviour: HSH-9
#[test]
fn an_entry_costs_eight_bytes_and_a_search_little_more_than_one_line() {
    const COUNT: u32 = 200_000;
    let mut table = FlowTable::new(COUNT as usize, [5; 16]);
    for number in 0..COUNT {
        assert_eq!(insert(&mut table, number), Ok(()));
    }
    let bytes = size_of_val(&*table.buckets);
    assert!(bytes <= 8 * COUNT as usize + 128, "{bytes}");
    let lines = |number: u32, stop_at_hit: bool| {
        let hash = table.hash(&tuple(number));
        let mut lines = 0;
        for at in table.probes(hash) {
            lines += 1;
            let bucket = &table.buckets[at];
            let owner = Owner::Connection(number).pack();
            let hit = bucket.place_of(hash.tag(), owner).is_some();
            if stop_at_hit && hit || bucket.passed == 0 {
                break;
            }
        }
        lines
    };
    let hits: u32 = (0..COUNT).map(|number| lines(number, true)).sum();
    let misses: u32 = (COUNT..2 * COUNT).map(|number| lines(number, false)).sum();
    let per_hundred = |sum: u32| sum / (COUNT / 100);
    assert!(
        per_hundred(hits) < 120,
        "{} per 100 hits",
        per_hundred(hits)
    );
    assert!(
        per_hundred(misses) < 175,
        "{} per 100 misses",
        per_hundred(misses)
    );
}

#[test]
fn a_table_that_churns_for_long_is_as_good_as_new() {
    // No tombstones: after a hundred generations nobody counts as passed by who is not.
    const LIVE: u32 = 3_000;
    let seed = 42;
    let mut rng = Rng::new(seed);
    let mut table = FlowTable::new(LIVE as usize, [9; 16]);
    let mut live: Vec<u32> = (0..LIVE).collect();
    for number in &live {
        assert_eq!(insert(&mut table, *number), Ok(()));
    }
    for number in LIVE..100 * LIVE {
        let at = rng.below(LIVE) as usize;
        assert!(remove(&mut table, live[at]), "seed {seed}");
        assert_eq!(insert(&mut table, number), Ok(()), "seed {seed}");
        live[at] = number;
    }
    for number in &live {
        assert_eq!(find(&table, *number), Some(Owner::Connection(*number)));
        assert!(remove(&mut table, *number));
    }
    assert_eq!(table.len(), 0);
    assert!(table.buckets.iter().all(|bucket| bucket.passed == 0));
    assert!(
        table
            .buckets
            .iter()
            .all(|bucket| bucket.tags == [0; PLACES])
    );
}

#[test]
fn a_guess_is_the_owner_unless_the_bucket_overflowed() {
    let mut table = FlowTable::new(10_000, [2; 16]);
    for number in 0..10_000 {
        assert_eq!(insert(&mut table, number), Ok(()));
    }
    let right = (0..10_000u32)
        .filter(|number| {
            table.guess(table.hash(&tuple(*number))) == Some(Owner::Connection(*number))
        })
        .count();
    assert!(right > 8_500, "{right} of 10,000");
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u32),
    Replace(u32),
    Remove(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let number = 0u32..80;
    prop_oneof![
        2 => number.clone().prop_map(Step::Insert),
        1 => number.clone().prop_map(Step::Replace),
        1 => number.prop_map(Step::Remove),
    ]
}

proptest! {
    // 80 tuples for a table of 60: buckets fill, overflow and empty again.
    #[test]
    fn the_table_behaves_like_a_map(
        secret: [u8; 16],
        steps in prop::collection::vec(step(), 0..600),
    ) {
        let mut table = FlowTable::new(60, secret);
        let mut model: HashMap<u32, Owner> = HashMap::new();
        for step in steps {
            match step {
                Step::Insert(number) if model.contains_key(&number) => {}
                Step::Insert(number) => match insert(&mut table, number) {
                    Ok(()) => {
                        model.insert(number, Owner::Connection(number));
                    }
                    Err(TableFull) => prop_assert_eq!(model.len(), 60),
                },
                Step::Replace(number) => {
                    let (from, to) = (Owner::Connection(number), Owner::TimeWait(number));
                    let there = table.replace(table.hash(&tuple(number)), from, to);
                    prop_assert_eq!(there, model.get(&number) == Some(&from));
                    if there {
                        model.insert(number, to);
                    }
                }
                Step::Remove(number) => {
                    let owner = model.remove(&number).unwrap_or(Owner::Request(number));
                    let there = table.remove(table.hash(&tuple(number)), owner);
                    prop_assert_eq!(there, owner != Owner::Request(number));
                }
            }
            prop_assert_eq!(table.len(), model.len());
            for number in 0..80 {
                prop_assert_eq!(find(&table, number), model.get(&number).copied());
            }
        }
    }
}
