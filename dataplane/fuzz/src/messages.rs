//! The shared region: any word may hold anything. Slots decode to nothing or to a message that
//! encodes to itself, and both sides survive garbage in every part of a region in use.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use arbitrary::{Arbitrary, Unstructured};
use millrace_abi::limits::MESSAGE_WORDS;
use millrace_abi::{Command, Event, LcoreInfo, Region, RegionConfig};
use millrace_base::{Instant, LcoreIndex, PortId};

/// Garbage and uses of one input.
const STEPS_MAX: usize = 64;

#[derive(Clone, Copy, Debug, Arbitrary)]
enum Step {
    /// A word of the region, by its share of the whole, becomes this.
    Scribble { place: u32, word: u64 },
    /// What an lcore does in a turn.
    Lcore,
    /// What control does in a turn.
    Control,
    /// Control looks at everything there is to show.
    Look,
}

/// The first bytes as a slot, all of them as steps.
pub(crate) fn run(data: &[u8]) {
    let mut words = [0; MESSAGE_WORDS];
    for (word, bytes) in words.iter_mut().zip(data.as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    if let Some(command) = Command::decode(&words) {
        assert_eq!(Command::decode(&command.encode()), Some(command));
    }
    if let Some(event) = Event::decode(&words) {
        assert_eq!(Event::decode(&event.encode()), Some(event));
    }
    let path = place();
    region(&path, data);
    // Whatever happened, this input's file goes.
    let _ = std::fs::remove_file(&path);
}

fn place() -> PathBuf {
    let name = format!("millrace-fuzz-{}", std::process::id());
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        memory.join(name)
    } else {
        std::env::temp_dir().join(name)
    }
}

fn region(path: &Path, data: &[u8]) {
    let _ = std::fs::remove_file(path);
    let config = RegionConfig {
        lcores: &[LcoreInfo::default()],
        ports: &[],
        counters: &[],
    };
    let Ok(region) = Region::create(path, config) else {
        return;
    };
    let mut lcore = region.lcore(LcoreIndex::new(0)).expect("the only lcore");
    let seen = Region::open(path).expect("what was made");
    let mut control = seen.control().expect("the first control");
    let file = std::fs::OpenOptions::new().write(true).open(path);
    let file = file.expect("the region's file");
    let words = file.metadata().map_or(0, |meta| meta.len()) / 8;
    let mut input = Unstructured::new(data);
    for step in 0..STEPS_MAX {
        let now = Instant::from_millis(step as u64);
        match Step::arbitrary(&mut input) {
            Ok(Step::Scribble { place, word }) => {
                let at = u64::from(place) % words.max(1) * 8;
                let _ = file.write_at(&word.to_ne_bytes(), at);
            }
            Ok(Step::Lcore) => {
                while lcore.commands.pop().is_some() {}
                while lcore.inject.pop(|_, _, frame| frame.len()).is_some() {}
                let _ = lcore.punt.push(PortId::new(0), 1, b"frame");
                if lcore.tables.poll().is_some() {
                    lcore.tables.acknowledge();
                }
                let tables = lcore.tables.tables();
                for listener in tables.listeners() {
                    let pool = tables.pool_of(listener);
                    let _ = pool.map(|pool| tables.backends_of(pool).len());
                }
            }
            Ok(Step::Control) => {
                control.heartbeat(now);
                let _ = control.commands[0].push(&Command::Drain);
                while control.events[0].pop().is_some() {}
                while control.punt[0].pop(|_, _, frame| frame.len()).is_some() {}
                let _ = control.inject[0].push(PortId::new(0), 1, b"frame");
                let _ = control.publish(|tables| tables.clear());
            }
            Ok(Step::Look) => {
                let _ = (seen.counters(), seen.counter(0, 3), seen.lcore_state(0));
                let _ = (seen.is_current(), seen.is_closed(), seen.control_state());
                let _ = Region::open(path).map(|region| region.lcore_count());
            }
            Err(_) => break,
        }
        if input.is_empty() {
            break;
        }
    }
}
