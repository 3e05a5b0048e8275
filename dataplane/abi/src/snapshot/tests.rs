//! The snapshot against a model, with publishers that die in the middle.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const WORDS: usize = 6;
const READERS: usize = 3;
type Small = Snapshot<WORDS, READERS>;

#[derive(Clone, Debug)]
enum Operation {
    Publish,
    /// Dies after writing so many words of the spare copy; a new publisher comes.
    PublishAndDie(usize),
    Poll(usize),
    Acknowledge(usize),
}

fn operations() -> impl Strategy<Value = Operation> {
    prop_oneof![
        3 => Just(Operation::Publish),
        2 => (0..=WORDS).prop_map(Operation::PublishAndDie),
        6 => (0..READERS).prop_map(Operation::Poll),
        6 => (0..READERS).prop_map(Operation::Acknowledge),
    ]
}

fn content(copy: &Words<WORDS>) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    copy.read(0, &mut words);
    words
}

struct Model {
    generation: u64,
    seen: [u64; READERS],
    acknowledged: [u64; READERS],
}

impl Model {
    fn is_adopted(&self) -> bool {
        self.acknowledged
            .iter()
            .all(|acknowledged| *acknowledged == self.generation)
    }
}

fn apply(
    operation: &Operation,
    snapshot: &Arc<Small>,
    publisher: &mut Publisher<Arc<Small>>,
    readers: &mut [Reader<Arc<Small>>],
    model: &mut Model,
) {
    match *operation {
        Operation::Publish => {
            let result = publisher.publish(|generation, copy| {
                copy.write(0, &[generation; WORDS]);
            });
            assert_eq!(result.is_ok(), model.is_adopted());
            if let Ok(generation) = result {
                model.generation += 1;
                assert_eq!(generation, model.generation);
            }
        }
        Operation::PublishAndDie(words) => {
            let _ = catch_unwind(AssertUnwindSafe(|| {
                publisher.publish(|_, copy| {
                    copy.write(0, &[u64::MAX; WORDS][..words]);
                    resume_unwind(Box::new("killed"))
                })
            }));
            *publisher = Publisher::attach(Arc::clone(snapshot), READERS);
        }
        Operation::Poll(index) => {
            let mut read = None;
            let polled = readers[index].poll(|copy| read = Some(content(copy)));
            let fresh = model.seen[index] != model.generation;
            assert_eq!(polled, fresh.then_some(model.generation));
            assert_eq!(read, fresh.then_some([model.generation; WORDS]));
            model.seen[index] = model.generation;
        }
        Operation::Acknowledge(index) => {
            readers[index].acknowledge();
            model.acknowledged[index] = model.seen[index];
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn readers_see_whole_generations_whenever_the_publisher_dies(
        operations in vec(operations(), 1..200),
    ) {
        let snapshot = Arc::new(Small::new());
        let mut publisher = Publisher::attach(Arc::clone(&snapshot), READERS);
        let mut readers: Vec<_> =
            (0..READERS).map(|index| Reader::attach(Arc::clone(&snapshot), index)).collect();
        let mut model = Model { generation: 0, seen: [0; READERS], acknowledged: [0; READERS] };
        for operation in &operations {
            apply(operation, &snapshot, &mut publisher, &mut readers, &mut model);
            for reader in &readers {
                // What a reader has seen stays as it was until that reader acknowledges something
                // later.
                let seen = reader.generation();
                if seen > 0 {
                    prop_assert_eq!(content(snapshot.copy(seen)), [seen; WORDS]);
                }
            }
        }
    }
}

#[test]
fn a_reader_that_is_behind_is_named() {
    let snapshot = Arc::new(Small::new());
    let mut publisher = Publisher::attach(Arc::clone(&snapshot), 2);
    let mut reader = Reader::attach(Arc::clone(&snapshot), 0);
    assert_eq!(publisher.publish(|_, _| ()), Ok(1));
    reader.poll(|_| ());
    reader.acknowledge();
    let busy = Busy {
        reader: 1,
        acknowledged: 0,
        generation: 1,
    };
    assert_eq!(publisher.publish(|_, _| panic!("must not fill")), Err(busy));
    // Reader 2 does not exist for this publisher and is not waited for.
    let mut second = Reader::attach(snapshot, 1);
    second.poll(|_| ());
    second.acknowledge();
    assert_eq!(publisher.publish(|_, _| ()), Ok(2));
}
