//! The ring against a `VecDeque`, across restarts of both ends, and under a peer that lies.

use std::collections::VecDeque;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const WORDS: usize = 2;
const CAPACITY: usize = 8;
type Small = Ring<WORDS, CAPACITY>;

#[derive(Clone, Debug)]
enum Operation {
    Push,
    PushBatch(usize),
    Stage,
    Publish,
    Pop,
    PopBatch(usize),
    Take,
    Release,
    RestartProducer,
    RestartConsumer,
}

fn operations() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => Just(Operation::Push),
        2 => (0..12usize).prop_map(Operation::PushBatch),
        2 => Just(Operation::Stage),
        2 => Just(Operation::Publish),
        4 => Just(Operation::Pop),
        2 => (0..12usize).prop_map(Operation::PopBatch),
        2 => Just(Operation::Take),
        2 => Just(Operation::Release),
        1 => Just(Operation::RestartProducer),
        1 => Just(Operation::RestartConsumer),
    ]
}

/// What the ring should hold, in the order of the messages' lives.
#[derive(Default)]
struct Model {
    taken: VecDeque<u64>,
    published: VecDeque<u64>,
    staged: VecDeque<u64>,
    next: u64,
}

impl Model {
    fn message(&self) -> [u64; WORDS] {
        [self.next, !self.next]
    }

    fn stage(&mut self) -> bool {
        let used = self.taken.len() + self.published.len() + self.staged.len();
        if used < CAPACITY {
            self.staged.push_back(self.next);
        }
        self.next += 1;
        used < CAPACITY
    }

    fn publish(&mut self) {
        self.published.append(&mut self.staged);
    }

    fn take(&mut self) -> Option<u64> {
        let Some(number) = self.published.pop_front() else {
            // An empty ring makes the consumer compare its shared index with its own, which
            // releases.
            self.taken.clear();
            return None;
        };
        self.taken.push_back(number);
        Some(number)
    }

    fn restart_consumer(&mut self) {
        self.taken.append(&mut self.published);
        std::mem::swap(&mut self.taken, &mut self.published);
    }
}

fn number_of(message: [u64; WORDS]) -> u64 {
    assert_eq!(message[0], !message[1], "a message in one piece");
    message[0]
}

fn ring_at(start: u32) -> Arc<Small> {
    let ring = Small::new();
    ring.tail.0.store(start, Ordering::Relaxed);
    ring.head.0.store(start, Ordering::Relaxed);
    Arc::new(ring)
}

fn apply(
    operation: &Operation,
    ring: &Arc<Small>,
    producer: &mut Producer<Arc<Small>, WORDS, CAPACITY>,
    consumer: &mut Consumer<Arc<Small>, WORDS, CAPACITY>,
    model: &mut Model,
) {
    match *operation {
        Operation::Push => {
            let message = model.message();
            let pushed = producer.push(&message).is_ok();
            assert_eq!(pushed, model.stage());
            if pushed {
                model.publish();
            }
        }
        Operation::PushBatch(count) => {
            let mut messages = Vec::new();
            let mut fits = 0;
            for _ in 0..count {
                messages.push(model.message());
                fits += usize::from(model.stage());
            }
            assert_eq!(producer.push_batch(&messages), fits);
            model.publish();
        }
        Operation::Stage => {
            let message = model.message();
            let staged = producer.stage(|slot| slot.write(0, &message)).is_ok();
            assert_eq!(staged, model.stage());
        }
        Operation::Publish => {
            producer.publish();
            model.publish();
        }
        Operation::Pop => {
            let expected = model.take();
            assert_eq!(consumer.pop().map(number_of), expected);
            model.taken.clear();
        }
        Operation::PopBatch(count) => {
            let mut out = vec![[0; WORDS]; count];
            let taken = consumer.pop_batch(&mut out);
            for message in &out[..taken] {
                assert_eq!(Some(number_of(*message)), model.take());
            }
            if taken < count {
                assert_eq!(model.take(), None);
            }
            if taken > 0 {
                model.taken.clear();
            }
        }
        Operation::Take => {
            let mut message = [0; WORDS];
            let taken = consumer.take(|slot| slot.read(0, &mut message));
            assert_eq!(taken.map(|()| number_of(message)), model.take());
        }
        Operation::Release => {
            consumer.release();
            model.taken.clear();
        }
        Operation::RestartProducer => {
            *producer = Producer::attach(Arc::clone(ring));
            model.staged.clear();
        }
        Operation::RestartConsumer => {
            *consumer = Consumer::attach(Arc::clone(ring));
            model.restart_consumer();
        }
    }
}

/// Which index is overwritten (the tail or the head), with what, then how many pushes and pops.
fn pokes() -> impl Strategy<Value = (bool, u32, usize, usize)> {
    let value = prop_oneof![any::<u32>(), 0..40u32];
    (any::<bool>(), value, 0..12usize, 0..12usize)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Starts just before the indices wrap, because they do once in 2^32 messages.
    #[test]
    fn the_ring_is_a_bounded_queue_across_restarts(
        before_wrap in 0..20u32,
        operations in vec(operations(), 1..200),
    ) {
        let ring = ring_at(before_wrap.wrapping_neg());
        let mut producer = Producer::attach(Arc::clone(&ring));
        let mut consumer = Consumer::attach(Arc::clone(&ring));
        let mut model = Model::default();
        for operation in &operations {
            apply(operation, &ring, &mut producer, &mut consumer, &mut model);
        }
        prop_assert_eq!(producer.corrupted() + consumer.corrupted(), 0);
    }

    #[test]
    fn a_ring_whose_indices_were_overwritten_heals(
        pokes in vec(pokes(), 1..30),
        restart in any::<bool>(),
    ) {
        let ring = ring_at(0);
        let mut producer = Producer::attach(Arc::clone(&ring));
        let mut consumer = Consumer::attach(Arc::clone(&ring));
        for (tail, value, pushes, pops) in pokes {
            let index = if tail { &ring.tail.0 } else { &ring.head.0 };
            index.store(value, Ordering::Relaxed);
            for number in 0..pushes {
                let _ = producer.push(&[number as u64; WORDS]);
            }
            let mut out = vec![[0; WORDS]; pops];
            prop_assert!(consumer.pop_batch(&mut out) <= CAPACITY.max(pops));
        }
        if restart {
            producer = Producer::attach(Arc::clone(&ring));
            consumer = Consumer::attach(Arc::clone(&ring));
        }
        let healed = (0..4u64).any(|round| {
            let message = [1_000 + round; WORDS];
            let pushed = producer.push(&message).is_ok();
            let mut last = None;
            for _ in 0..=2 * CAPACITY {
                match consumer.pop() {
                    Some(message) => last = Some(message),
                    None => break,
                }
            }
            pushed && last == Some(message)
        });
        prop_assert!(healed);
    }
}

// Found by the property above: the shared tail overwritten with what is, to the producer, the head of a full ring.
#[test]
fn a_ring_that_is_full_to_one_end_and_empty_to_the_other_heals() {
    let ring = ring_at(0);
    let mut producer = Producer::attach(Arc::clone(&ring));
    let mut consumer = Consumer::attach(Arc::clone(&ring));
    for number in 0..CAPACITY as u64 {
        producer.push(&[number; WORDS]).expect("room");
    }
    ring.tail.0.store(0, Ordering::Relaxed);
    assert_eq!(consumer.pop(), None, "empty to the consumer");
    assert_eq!(producer.push(&[9; WORDS]), Err(Full));
    assert_eq!(
        consumer.pop(),
        Some([0; WORDS]),
        "the producer has put its index back"
    );
    producer.push(&[9; WORDS]).expect("room again");
}

#[test]
fn an_impossible_index_is_counted_by_the_end_that_sees_it() {
    let ring = ring_at(0);
    let mut producer = Producer::attach(Arc::clone(&ring));
    let mut consumer = Consumer::attach(Arc::clone(&ring));
    ring.tail.0.store(CAPACITY as u32 + 1, Ordering::Relaxed);
    assert_eq!(consumer.pop(), None);
    assert_eq!(consumer.corrupted(), 1);
    for _ in 0..CAPACITY {
        producer
            .push(&[1; WORDS])
            .expect("the cached head still has room");
    }
    assert_eq!(producer.push(&[1; WORDS]), Err(Full));
    assert_eq!(producer.corrupted(), 1);
    assert_eq!(Producer::attach(Arc::clone(&ring)).corrupted(), 1);
}

/// The claim that would fail if the indices were compared instead of subtracted.
#[test]
fn a_full_ring_is_full_on_both_sides_of_the_wrap() {
    let ring = ring_at(u32::MAX - 3);
    let mut producer = Producer::attach(Arc::clone(&ring));
    for number in 0..CAPACITY as u64 {
        producer.push(&[number; WORDS]).expect("room");
    }
    assert_eq!(producer.push(&[99; WORDS]), Err(Full));
    let mut consumer = Consumer::attach(ring);
    for number in 0..CAPACITY as u64 {
        assert_eq!(consumer.pop(), Some([number; WORDS]));
    }
    assert_eq!(consumer.pop(), None);
}
