//! The allocator guard in a process that installs it, and the lcore's ends under it.
#![cfg(not(loom))]

mod bench;

use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;

use bench::Place;
use millrace_abi::heap::{
    LARGE_BYTES, OnAllocation, SealableHeap, allocations_after_seal, large_bytes_held, seal_thread,
    unseal_thread,
};
use millrace_abi::{Command, Event, LcoreState, SnatRecord};
use millrace_base::{LcoreIndex, PortId};

#[global_allocator]
static HEAP: SealableHeap = SealableHeap;

/// Allocations that `work` makes on this thread while it is sealed. One test at a time: the count
/// is the process's.
fn allocations_of(work: impl FnOnce()) -> u64 {
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = ONE.lock();
    let before = allocations_after_seal();
    seal_thread(OnAllocation::Count);
    work();
    unseal_thread();
    allocations_after_seal() - before
}

#[test]
fn an_allocation_on_a_sealed_thread_is_counted_and_succeeds() {
    let mut grown = vec![1u8; 10];
    let count = allocations_of(|| {
        drop(black_box(Box::new(7)));
        drop(black_box(vec![0u8; 100]));
        grown.reserve_exact(1_000);
    });
    assert_eq!(count, 3);
}

#[test]
fn freeing_and_other_threads_are_no_allocation() {
    let kept = vec![1u8; 1_000];
    assert_eq!(allocations_of(|| drop(black_box(kept))), 0);
    let (begin, begun) = std::sync::mpsc::sync_channel(0);
    let (end, ended) = std::sync::mpsc::sync_channel(0);
    let other = std::thread::spawn(move || {
        begun.recv().expect("the other side lives");
        drop(black_box(vec![0u8; 100]));
        end.send(()).expect("the other side lives");
    });
    begin.send(()).expect("the other side lives");
    let count = allocations_of(|| while ended.try_recv().is_err() {});
    assert_eq!(count, 0);
    other.join().expect("no panic");
}

/// Page faults of the calling thread that needed no disk.
fn faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("procfs");
    let behind_name = stat.rsplit_once(')').expect("a name in brackets").1;
    let field = behind_name.split_whitespace().nth(7);
    field.and_then(|text| text.parse().ok()).expect("minflt")
}

// A table is used for the first time when packets arrive: that must not be when its pages appear.
#[test]
fn a_table_is_zeroed_aligned_and_there_before_it_is_used() {
    let bytes = 3 * LARGE_BYTES + 4_097;
    let mut table = vec![0u8; bytes];
    assert_eq!(table.as_ptr().align_offset(LARGE_BYTES), 0);
    let before = faults();
    let mut sum = 0u64;
    for page in table.chunks_mut(4_096) {
        sum += u64::from(page[0]);
        page[0] = 1;
    }
    assert_eq!(sum, 0);
    // Reading procfs itself may take a few.
    assert!(faults() - before < 50, "{} faults", faults() - before);
    drop(black_box(table));
}

#[test]
fn growing_into_a_table_and_out_of_it_keeps_the_bytes() {
    let mut numbers: Vec<u32> = (0..1_000).collect();
    let before = large_bytes_held();
    numbers.reserve_exact(2_000_000);
    assert!(large_bytes_held() >= before + 8_000_000);
    numbers.extend(1_000..1_500_000);
    numbers.reserve_exact(4_000_000);
    numbers.truncate(1_000);
    numbers.shrink_to_fit();
    assert!(numbers.iter().copied().eq(0..1_000));
}

#[test]
fn more_than_there_is_is_refused_and_not_promised() {
    let mut table: Vec<u8> = Vec::new();
    assert!(table.try_reserve_exact(isize::MAX as usize / 2).is_err());
}

#[test]
fn the_lcores_ends_do_not_allocate() {
    let place = Place::new("sealed");
    let dataplane = place.create(1);
    let region = place.open().expect("complete region");
    let mut control = region.control().expect("first control");
    let mut lcore = dataplane.lcore(LcoreIndex::new(0)).expect("first taking");
    control.commands[0].push(&Command::Drain).expect("room");
    control.inject[0]
        .push(PortId::new(0), 0, &[1; 1_500])
        .expect("room");
    let publish = |tables: &mut millrace_abi::Tables| {
        tables.push_snat(SnatRecord::default()).expect("room");
    };
    control.publish(publish).expect("nothing was published yet");

    let count = allocations_of(|| {
        assert_eq!(lcore.commands.pop(), Some(Command::Drain));
        assert_eq!(lcore.inject.pop(|_, _, frame| frame.len()), Some(1_500));
        lcore
            .punt
            .push(PortId::new(0), 0, &[1; 1_500])
            .expect("room");
        let end = Event::ConnectionsEnd {
            token: 0,
            next_cursor: 0,
            count: 0,
        };
        lcore.events.push(&end).expect("room");
        assert_eq!(
            lcore.tables.poll().map(|tables| tables.snat().len()),
            Some(1)
        );
        lcore.tables.acknowledge();
        lcore.counters.add(0, 1);
        lcore.status.set(&LcoreState::default());
    });
    assert_eq!(count, 0);
}

#[test]
fn an_allocation_aborts_where_that_was_asked_for() {
    let this = std::env::current_exe().expect("a path");
    let output = std::process::Command::new(this)
        .args([
            "--exact",
            "child_allocates_after_seal",
            "--ignored",
            "--nocapture",
        ])
        .output()
        .expect("the test binary starts");
    assert_eq!(
        output.status.signal(),
        Some(6),
        "SIGABRT, not {}",
        output.status
    );
    assert!(String::from_utf8_lossy(&output.stderr).contains("allocation on a sealed thread"));
}

#[test]
#[ignore = "aborts; run in a process of its own by the test above"]
fn child_allocates_after_seal() {
    seal_thread(OnAllocation::Abort);
    drop(black_box(Box::new(7)));
    unseal_thread();
}
