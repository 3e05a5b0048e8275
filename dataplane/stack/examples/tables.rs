//! What a lookup, an entry and a timer cost at a thousand, a million and ten million of them, with
//! `hashbrown` in the same run.
//!
//! ```text
//! cargo run --release -p millrace-stack --features bench --example tables [-- <counts>...]
//! ```
//!
//! Times are nanoseconds per operation, the best of several runs over random tuples: the machine
//! may be busy. A record of 64 bytes stands for the TCB: a lookup ends when the record's tuple was
//! compared (the flow table) or its number read (`hashbrown`, whose entries hold the tuple).
//! "bulk" handles 32 tuples at a time, as a receive burst does. Ten million take 3 GB.

use std::hint::black_box;
use std::time::Instant as Clock;

use hashbrown::HashMap;
use millrace_base::{Address, Endpoint, FlowTuple, Instant, Rng};
use millrace_stack::bench::{Flows, Timers};

const BURST: usize = 32;
/// Operations of one run, and runs of which the best counts: short and many, because a run that the
/// scheduler interrupts is lost.
const OPERATIONS: usize = 1 << 12;
const RUNS: usize = 300;

/// As large as the first cache line of a connection.
#[repr(align(64))]
struct Record {
    tuple: FlowTuple,
    number: u32,
}

fn tuple(number: u32) -> FlowTuple {
    let client = number.wrapping_mul(0x9e37_79b1);
    FlowTuple {
        local: Endpoint::new(Address::v4([10, 0, 0, 1]), 443),
        remote: Endpoint::new(Address::v4(client.to_be_bytes()), number as u16 | 1),
    }
}

/// Nanoseconds per operation: the best of `RUNS`.
fn best(mut run: impl FnMut(&mut Rng)) -> f64 {
    let mut rng = Rng::new(7);
    let spans = (0..RUNS).map(|_| {
        let start = Clock::now();
        run(&mut rng);
        start.elapsed().as_nanos() as f64 / OPERATIONS as f64
    });
    spans.fold(f64::MAX, f64::min)
}

fn row(table: &str, count: u32, columns: [f64; 5]) {
    let [hit, bulk_hit, miss, bulk_miss, churn] = columns;
    println!(
        "{table:<10} {count:>10} {hit:>8.1} {bulk_hit:>8.1} {miss:>8.1} {bulk_miss:>8.1} {churn:>8.1}"
    );
}

fn flow_table(count: u32, records: &[Record]) {
    let mut table = Flows::new(count as usize + 1, [7; 16]);
    for number in 0..count {
        assert!(table.insert(table.hash(&tuple(number)), number), "room");
    }
    let is = |tuple: &FlowTuple, owner: u32| records[owner as usize].tuple == *tuple;
    let single = |rng: &mut Rng, from: u32| {
        for _ in 0..OPERATIONS {
            let tuple = tuple(from + rng.below(count));
            black_box(table.find(table.hash(&tuple), |owner| is(&tuple, owner)));
        }
    };
    let bulk = |rng: &mut Rng, from: u32| {
        for _ in 0..OPERATIONS / BURST {
            let tuples: [FlowTuple; BURST] =
                core::array::from_fn(|_| tuple(from + rng.below(count)));
            let hashes = tuples.each_ref().map(|tuple| table.hash(tuple));
            let guesses = hashes.map(|hash| table.guess(hash));
            let mut sure = [false; BURST];
            for ((sure, guess), tuple) in sure.iter_mut().zip(&guesses).zip(&tuples) {
                *sure = guess.is_some_and(|owner| is(tuple, owner));
            }
            for (at, tuple) in tuples.iter().enumerate() {
                let owner = if sure[at] {
                    guesses[at]
                } else {
                    table.find(hashes[at], |owner| is(tuple, owner))
                };
                black_box(owner);
            }
        }
    };
    let columns = [
        best(|rng| single(rng, 0)),
        best(|rng| bulk(rng, 0)),
        best(|rng| single(rng, count)),
        best(|rng| bulk(rng, count)),
    ];
    let churn = best(|rng| {
        for _ in 0..OPERATIONS {
            let number = rng.below(count);
            let hash = table.hash(&tuple(number));
            assert!(table.remove(hash, number) && table.insert(hash, number));
        }
    });
    let [hit, bulk_hit, miss, bulk_miss] = columns;
    row("flow table", count, [hit, bulk_hit, miss, bulk_miss, churn]);
}

fn hashbrown(count: u32, records: &[Record]) {
    let mut table: HashMap<FlowTuple, u32> = HashMap::with_capacity(count as usize + 1);
    table.extend((0..count).map(|number| (tuple(number), number)));
    let touch = |owner: &u32| records[*owner as usize].number;
    let single = |rng: &mut Rng, from: u32| {
        for _ in 0..OPERATIONS {
            black_box(table.get(&tuple(from + rng.below(count))).map(touch));
        }
    };
    let bulk = |rng: &mut Rng, from: u32| {
        for _ in 0..OPERATIONS / BURST {
            let tuples: [FlowTuple; BURST] =
                core::array::from_fn(|_| tuple(from + rng.below(count)));
            let owners = tuples.each_ref().map(|tuple| table.get(tuple));
            black_box(owners.map(|owner| owner.map(touch)));
        }
    };
    let columns = [
        best(|rng| single(rng, 0)),
        best(|rng| bulk(rng, 0)),
        best(|rng| single(rng, count)),
        best(|rng| bulk(rng, count)),
    ];
    let churn = best(|rng| {
        for _ in 0..OPERATIONS {
            let tuple = tuple(rng.below(count));
            let number = table.remove(&tuple).expect("present");
            table.insert(tuple, number);
        }
    });
    let [hit, bulk_hit, miss, bulk_miss] = columns;
    row("hashbrown", count, [hit, bulk_hit, miss, bulk_miss, churn]);
}

fn wheel(count: u32) {
    let mut wheel = Timers::new(count as usize);
    let mut rng = Rng::new(3);
    let ms = |ms: u64| Instant::from_millis(ms);
    for index in 0..count {
        wheel.arm(index, ms(60_000 + u64::from(rng.below(60_000))));
    }
    let postpone = best(|rng| {
        for _ in 0..OPERATIONS {
            wheel.arm(rng.below(count), ms(200_000));
        }
    });
    let cancel_arm = best(|rng| {
        for _ in 0..OPERATIONS {
            let index = rng.below(count);
            wheel.cancel(index);
            wheel.arm(index, ms(60_000 + u64::from(rng.below(60_000))));
        }
    });
    // Turns of a loop that is busy and has no timer due.
    let mut now = 0;
    let empty = best(|_| {
        for _ in 0..OPERATIONS {
            now += 5_000;
            black_box(wheel.pop(Instant::from_nanos(now), &mut 256));
        }
    });
    // Everything fires; each timer passes two or three levels.
    let (mut fired, mut turns, start) = (0u32, 0u64, Clock::now());
    while fired < count {
        turns += 1;
        let mut steps = 256;
        while wheel.pop(ms(60_000 + turns), &mut steps).is_some() {
            fired += 1;
        }
    }
    let fire = start.elapsed().as_nanos() as f64 / f64::from(count);
    println!(
        "wheel      {count:>10} {postpone:>8.1} {cancel_arm:>10.1} {empty:>10.1} {fire:>10.1}"
    );
}

fn main() {
    let asked: Vec<u32> = std::env::args()
        .skip(1)
        .filter_map(|count| count.parse().ok())
        .collect();
    let counts = if asked.is_empty() {
        vec![1_000, 1_000_000, 10_000_000]
    } else {
        asked
    };
    println!("ns per operation; bulk = 32 at a time");
    println!("table           flows      hit  bulk hit    miss bulk miss  rem+ins");
    for &count in &counts {
        let records: Vec<Record> = (0..count)
            .map(|number| Record {
                tuple: tuple(number),
                number,
            })
            .collect();
        flow_table(count, &records);
        hashbrown(count, &records);
    }
    println!("\ntimers          armed postpone cancel+arm empty turn       fire");
    for &count in &counts {
        wheel(count);
    }
}
