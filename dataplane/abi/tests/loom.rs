//! Every interleaving, and every value a relaxed load may return, of the protocols that the two
//! processes share.
//!
//! Slots and copies are relaxed atomics here as in production, so a missing Release or Acquire
//! shows as a stale word; a guard beside each notices a copy that is overwritten while it is read.
#![cfg(loom)]

use std::sync::Arc;

use loom::thread;
use millrace_abi::ring::{Consumer, Producer, Ring};
use millrace_abi::snapshot::{Publisher, Reader, Snapshot};
use millrace_abi::{CounterBlock, CounterWriter};

fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    // Three preemptions find every ordering mistake we planted, within seconds.
    builder.preemption_bound = Some(3);
    builder.check(model);
}

#[test]
fn messages_arrive_whole_and_in_order_through_a_ring_that_fills() {
    explore(|| {
        let ring = Arc::new(Ring::<2, 2>::new());
        let mut producer = Producer::attach(Arc::clone(&ring));
        let mut consumer = Consumer::attach(ring);
        let pushing = thread::spawn(move || {
            for number in 1..=3u64 {
                while producer.push(&[number, !number]).is_err() {
                    thread::yield_now();
                }
            }
            producer.corrupted()
        });
        let mut next = 1;
        while next <= 3 {
            match consumer.pop() {
                Some(message) => {
                    assert_eq!(message, [next, !next]);
                    next += 1;
                }
                None => thread::yield_now(),
            }
        }
        assert_eq!(pushing.join().unwrap() + consumer.corrupted(), 0);
    });
}

#[test]
fn batches_arrive_whole_and_in_order() {
    explore(|| {
        let ring = Arc::new(Ring::<1, 2>::new());
        let mut producer = Producer::attach(Arc::clone(&ring));
        let mut consumer = Consumer::attach(ring);
        let pushing = thread::spawn(move || {
            let mut sent = producer.push_batch(&[[1], [2], [3]]);
            thread::yield_now();
            if sent < 3 {
                let rest: Vec<_> = (sent as u64 + 1..=3).map(|number| [number]).collect();
                sent += producer.push_batch(&rest);
            }
            sent
        });
        let mut received = Vec::new();
        for _ in 0..2 {
            let mut out = [[0]; 2];
            let count = consumer.pop_batch(&mut out);
            received.extend(out[..count].iter().map(|message| message[0]));
            thread::yield_now();
        }
        let sent = pushing.join().unwrap();
        while let Some([number]) = consumer.pop() {
            received.push(number);
        }
        let expected: Vec<_> = (1..=sent as u64).collect();
        assert_eq!(received, expected);
    });
}

#[test]
fn a_reader_never_sees_half_a_generation() {
    explore(|| {
        let snapshot = Arc::new(Snapshot::<2, 1>::new());
        let mut publisher = Publisher::attach(Arc::clone(&snapshot), 1);
        let mut reader = Reader::attach(snapshot, 0);
        let publishing = thread::spawn(move || {
            for _ in 0..4 {
                let fill = |generation, copy: &millrace_abi::Words<2>| {
                    copy.write(0, &[generation, generation]);
                };
                if publisher.publish(fill).is_err() {
                    thread::yield_now();
                }
            }
        });
        for _ in 0..4 {
            let mut words = [0; 2];
            match reader.poll(|copy| copy.read(0, &mut words)) {
                Some(generation) => assert_eq!(words, [generation; 2]),
                None => thread::yield_now(),
            }
            reader.acknowledge();
        }
        publishing.join().unwrap();
    });
}

#[test]
fn a_counter_never_goes_back() {
    explore(|| {
        let block = Arc::new(CounterBlock::<1>::new());
        let mut writer = CounterWriter::attach(Arc::clone(&block));
        let writing = thread::spawn(move || {
            for _ in 0..3 {
                writer.add(0, 1);
            }
        });
        let first = block.load(0);
        let second = block.load(0);
        assert!(first <= second && second <= 3);
        writing.join().unwrap();
        assert_eq!(block.load(0), 3);
    });
}
