//! Headers that lie with a valid checksum, and garbage in every part of a region in use.

use core::mem::offset_of;

use millrace_base::{Instant, LcoreIndex, PortId, Rng};

use super::*;
use crate::channel::{FrameRing, MessageRing};
use crate::command::Command;
use crate::event::Event;
use crate::handles::{ControlHandle, LcoreHandle};
use crate::limits::{COMMANDS_MAX, EVENTS_MAX, FRAME_BYTES_MAX};
use crate::tables::BackendRecord;

fn place(name: &str) -> PathBuf {
    let base = Path::new("/dev/shm");
    let base = if base.is_dir() {
        base.to_owned()
    } else {
        std::env::temp_dir()
    };
    base.join(format!("millrace-abi-unit-{}-{name}", std::process::id()))
}

fn create(path: &Path, lcores: usize) -> Region {
    let lcores = vec![LcoreInfo::default(); lcores];
    let config = RegionConfig {
        lcores: &lcores,
        ports: &[],
        counters: &[],
    };
    Region::create(path, config).expect("a region")
}

/// The error of opening a region whose header was changed and signed again.
fn open_changed(name: &str, change: impl Fn(&mut Header)) -> OpenError {
    let path = place(name);
    let region = create(&path, 1);
    let mut header = region.inner.header;
    change(&mut header);
    header.checksum = header.checksum();
    region.inner.shared.header.store(&header);
    let result = Region::open(&path);
    fs::remove_file(&path).expect("it was created");
    result.expect_err("must be refused")
}

#[test]
fn a_signed_header_with_impossible_counts_is_refused() {
    for (name, lcores) in [
        ("none", 0),
        ("many", LCORES_MAX as u32 + 1),
        ("max", u32::MAX),
    ] {
        let error = open_changed(name, |header| header.lcores = lcores);
        assert!(matches!(error, OpenError::BadCount { what: "lcores", found } if found == lcores));
    }
    let error = open_changed("ports", |header| header.ports = PORTS_MAX as u32 + 1);
    assert!(matches!(error, OpenError::BadCount { what: "ports", .. }));
    let error = open_changed("counters", |header| header.counters = u32::MAX);
    assert!(matches!(
        error,
        OpenError::BadCount {
            what: "counters",
            ..
        }
    ));
}

#[test]
fn a_signed_header_whose_sizes_disagree_is_refused() {
    let error = open_changed("lcores", |header| header.lcores = 2);
    assert!(matches!(error, OpenError::SizeMismatch { .. }));
    let error = open_changed("total", |header| header.total_bytes += 4096);
    assert!(matches!(error, OpenError::SizeMismatch { .. }));
}

#[test]
fn another_magic_version_or_layout_is_named() {
    let error = open_changed("magic", |header| header.magic ^= 1);
    assert!(matches!(error, OpenError::ForeignMagic { found } if found == MAGIC ^ 1));
    let error = open_changed("version", |header| header.version += 1);
    assert!(matches!(error, OpenError::OtherVersion { found } if found == ABI_VERSION + 1));
    let error = open_changed("layout", |header| header.layout_hash ^= 1);
    assert!(matches!(error, OpenError::OtherLayout { found } if found == LAYOUT_HASH ^ 1));
}

#[test]
fn a_region_that_is_not_ready_or_closed_is_refused() {
    let path = place("ready");
    let region = create(&path, 1);
    region.inner.shared.ready.store(0, Ordering::Relaxed);
    assert!(matches!(
        Region::open(&path),
        Err(OpenError::HalfInitialised)
    ));
    region.inner.shared.ready.store(CLOSED, Ordering::Relaxed);
    assert!(matches!(Region::open(&path), Err(OpenError::Closed)));
    region.inner.shared.ready.store(READY, Ordering::Relaxed);
    let other = Region::open(&path).expect("complete");
    assert!(!other.is_closed());
    region.remove().expect("it is ours");
    assert!(other.is_closed() && !other.is_current());
}

/// The parts where a wrong word matters most, as offsets in the file with a length to hit.
fn targets() -> Vec<(usize, usize)> {
    let tables = offset_of!(Shared, tables);
    let block = block_offset(0);
    vec![
        (0, region_bytes(1)),
        (0, 4096),
        (tables, 512),
        (tables + 8320, 256),
        (block + offset_of!(LcoreBlock, commands), 256),
        (
            block + offset_of!(LcoreBlock, commands),
            size_of::<MessageRing<COMMANDS_MAX>>(),
        ),
        (block + offset_of!(LcoreBlock, events), 256),
        (
            block + offset_of!(LcoreBlock, events),
            size_of::<MessageRing<EVENTS_MAX>>(),
        ),
        (block + offset_of!(LcoreBlock, punt), 256),
        (block + offset_of!(LcoreBlock, punt), size_of::<FrameRing>()),
        (block + offset_of!(LcoreBlock, inject), 256),
        (
            block + offset_of!(LcoreBlock, inject),
            size_of::<FrameRing>(),
        ),
        (block + offset_of!(LcoreBlock, backends), 256),
    ]
}

fn pop_everywhere(control: &mut ControlHandle, lcore: &mut LcoreHandle, rng: &mut Rng) {
    assert!(lcore.commands.pop_batch(8, |_| ()) <= 8);
    assert!(control.events[0].pop_batch(8, |_| ()) <= 8);
    // Often enough everything, so that the consumers look at the indices and not at what they
    // remember.
    let pops = if rng.below(3) == 0 {
        EVENTS_MAX as u32
    } else {
        rng.below(40)
    };
    for _ in 0..pops {
        lcore.commands.pop();
        control.events[0].pop();
        lcore
            .inject
            .pop(|_, _, frame| assert!(frame.len() <= FRAME_BYTES_MAX));
        control.punt[0].pop(|_, _, frame| assert!(frame.len() <= FRAME_BYTES_MAX));
    }
}

fn push_everywhere(control: &mut ControlHandle, lcore: &mut LcoreHandle, rng: &mut Rng) {
    let end = Event::ConnectionsEnd {
        token: 1,
        next_cursor: 0,
        count: 0,
    };
    // Often enough too much, so that the producers look as well.
    let pushes = if rng.below(10) == 0 {
        EVENTS_MAX as u32 + 1
    } else {
        rng.below(40)
    };
    for _ in 0..pushes {
        let _ = control.commands[0].push(&Command::Drain);
        let _ = lcore.events.push(&end);
        let _ = lcore.punt.push(PortId::new(0), 1, &[7; 60]);
        let _ = control.inject[0].push(PortId::new(0), 1, &[7; 60]);
    }
}

fn use_everything(
    region: &Region,
    control: &mut ControlHandle,
    lcore: &mut LcoreHandle,
    rng: &mut Rng,
) {
    // Either end repairs what it sees, so each must come first now and then.
    if rng.below(2) == 0 {
        pop_everywhere(control, lcore, rng);
    }
    push_everywhere(control, lcore, rng);
    if let Some(tables) = lcore.tables.poll() {
        let backends: usize = tables
            .pools()
            .iter()
            .map(|it| tables.backends_of(it).len())
            .sum();
        assert!(backends <= tables.pools().len() * tables.backends().len());
        for listener in tables.listeners() {
            let _ = (
                tables.pool_of(listener),
                listener.name.as_str().len(),
                listener.id(),
            );
        }
        lcore.tables.acknowledge();
    }
    let _ = control.publish(|tables| {
        let _ = tables.push_backend(BackendRecord::default());
    });
    control.heartbeat(Instant::from_millis(1));
    lcore.counters.add(0, 1);
    let _ = (
        region.counters(),
        region.port_info(0),
        region.lcore_state(0),
        region.counter(0, 0),
    );
    let _ = region.backend_total(BackendId::new(u16::MAX));
}

/// Runs with a fixed seed, printed by the assertion that fails, if one does.
#[test]
fn garbage_anywhere_in_the_region_never_panics_or_hangs() {
    let path = place("garbage");
    let dataplane = create(&path, 1);
    let region = Region::open(&path).expect("complete");
    let mut control = region.control().expect("the first control");
    let mut lcore = dataplane
        .lcore(LcoreIndex::new(0))
        .expect("the first taking");
    let mut rng = Rng::new(0x6d69_6c6c_7261_6365);
    let targets = targets();
    let mut garbage = vec![0; 4096];
    for _ in 0..4_000 {
        let (start, length) = targets[rng.below(targets.len() as u32) as usize];
        let offset = start + rng.below(length as u32 - 8) as usize;
        let count = (1 + rng.below(64) as usize).min(region_bytes(1) - offset);
        garbage.fill_with(|| rng.next_u64() as u8);
        region
            .file()
            .write_all_at(&garbage[..count], offset as u64)
            .expect("a writable file");
        use_everything(&region, &mut control, &mut lcore, &mut rng);
    }
    // Each kind of garbage was met, or the test has lost its teeth.
    assert!(lcore.commands.corrupted() > 0 && control.events[0].corrupted() > 0);
    assert!(control.commands[0].corrupted() > 0 && lcore.events.corrupted() > 0);
    assert!(lcore.commands.undecodable() > 0 && control.events[0].undecodable() > 0);
    assert!(lcore.inject.malformed() > 0 && control.punt[0].malformed() > 0);
    fs::remove_file(&path).expect("it was created");
}
