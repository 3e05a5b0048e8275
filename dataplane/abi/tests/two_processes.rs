//! Control in a process of its own, killed at random moments: what the dataplane sees must stay
//! whole and in order.
#![cfg(not(loom))]

mod bench;

use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use bench::Place;
use millrace_abi::{BackendRecord, Command, ControlError, Event, LcoreHandle, Region, Tables};
use millrace_base::{Endpoint, LcoreIndex, Rng};

const PATH: &str = "MILLRACE_TEST_REGION";
const TOKEN: &str = "MILLRACE_TEST_TOKEN";
const ROUNDS: u32 = 20;

fn spawn_control(path: &Path, token: u64) -> Child {
    Process::new(std::env::current_exe().expect("a path"))
        .args(["--exact", "child_is_control", "--ignored", "--nocapture"])
        .env(PATH, path)
        .env(TOKEN, token.to_string())
        .stdout(Stdio::null())
        .spawn()
        .expect("the test binary starts")
}

/// Publishes, commands and checks events as fast as it can, until it is killed.
#[test]
#[ignore = "never ends; run in a process of its own by the test below"]
fn child_is_control() {
    let path = std::env::var_os(PATH).expect("set by the parent");
    let token = std::env::var(TOKEN).expect("set by the parent");
    let mut token: u64 = token.parse().expect("a number");
    let region = Region::open(Path::new(&path)).expect("complete region");
    let mut control = region.control().expect("the previous control is dead");
    let mut last_event = None;
    // A killed parent must not leave this process behind for ever.
    while region.is_dataplane_alive() {
        let _ = control.publish(fill);
        for _ in 0..64 {
            let command = Command::Probe {
                token,
                target: Endpoint::default(),
                timeout_ms: 1,
            };
            if control.commands[0].push(&command).is_ok() {
                token += 1;
            }
        }
        control.events[0].pop_batch(64, |event| {
            let Event::ConnectionsEnd { token, .. } = event else {
                panic!("{event:?}")
            };
            assert!(
                last_event.is_none_or(|last| last + 1 == token),
                "{last_event:?} {token}"
            );
            last_event = Some(token);
        });
    }
}

/// Tables whose every row carries the same number, different each time.
fn fill(tables: &mut Tables) {
    static NUMBER: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(1);
    let weight = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    for id in 0..4096 {
        let record = BackendRecord {
            id,
            weight,
            ..Default::default()
        };
        tables.push_backend(record).expect("room for the maximum");
    }
}

/// What the lcore has seen so far.
#[derive(Default)]
struct Seen {
    generation: u64,
    command: u64,
    event: u64,
}

fn poll(lcore: &mut LcoreHandle, seen: &mut Seen) {
    if let Some(tables) = lcore.tables.poll() {
        assert_eq!(tables.generation(), seen.generation + 1);
        seen.generation = tables.generation();
        assert_eq!(tables.backends().len(), 4096);
        let weight = tables.backends()[0].weight;
        for (id, backend) in tables.backends().iter().enumerate() {
            assert_eq!((usize::from(backend.id), backend.weight), (id, weight));
        }
        lcore.tables.acknowledge();
    }
    lcore.commands.pop_batch(64, |command| {
        let Command::Probe { token, .. } = command else {
            panic!("{command:?}")
        };
        assert_eq!(token, seen.command);
        seen.command += 1;
    });
    let event = Event::ConnectionsEnd {
        token: seen.event,
        next_cursor: 0,
        count: 0,
    };
    if lcore.events.push(&event).is_ok() {
        seen.event += 1;
    }
}

/// The seed is fixed; the moment of death is not, which is why there are rounds.
#[test]
fn control_killed_anywhere_leaves_whole_tables_and_ordered_rings() {
    let place = Place::new("killed");
    let dataplane = place.create(1);
    let mut lcore = dataplane.lcore(LcoreIndex::new(0)).expect("first taking");
    let mut rng = Rng::new(7);
    let mut seen = Seen::default();
    for round in 0..ROUNDS {
        let before = (seen.generation, seen.command);
        let mut control = spawn_control(&place.path(), seen.command);
        let begun = Instant::now();
        while seen.generation < before.0 + 3 || seen.command < before.1 + 3 {
            poll(&mut lcore, &mut seen);
            let status = control.try_wait().expect("our child");
            assert!(
                status.is_none(),
                "control ended by itself in round {round}: {status:?}"
            );
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "control does nothing"
            );
        }
        let death = Instant::now() + Duration::from_micros(u64::from(rng.below(3_000)));
        while Instant::now() < death {
            poll(&mut lcore, &mut seen);
        }
        control.kill().expect("our child");
        let status = control.wait().expect("our child");
        assert_eq!(status.code(), None, "killed, not failed, in round {round}");
        for _ in 0..100 {
            poll(&mut lcore, &mut seen);
        }
    }
    // A last control, here: everything is as the dead ones left it.
    let region = place.open().expect("complete region");
    let mut control = region.control().expect("the previous control is dead");
    assert_eq!(control.tables.generation(), seen.generation);
    let found = control.tables.current().expect("something was published");
    assert_eq!(found.generation(), seen.generation);
    assert_eq!(found.backends(), lcore.tables.tables().backends());
    assert_eq!(control.publish(fill), Ok(seen.generation + 1));
    poll(&mut lcore, &mut seen);
    let damage = lcore.commands.corrupted() + lcore.events.corrupted();
    assert_eq!(damage + lcore.commands.undecodable(), 0);
}

#[test]
fn two_control_processes_exclude_each_other() {
    let place = Place::new("exclude");
    let dataplane = place.create(1);
    let mut lcore = dataplane.lcore(LcoreIndex::new(0)).expect("first taking");
    let mut seen = Seen::default();
    let mut control = spawn_control(&place.path(), 0);
    let begun = Instant::now();
    while seen.generation == 0 {
        poll(&mut lcore, &mut seen);
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "control does nothing"
        );
    }
    let region = place.open().expect("complete region");
    assert!(matches!(region.control(), Err(ControlError::InUse)));
    control.kill().expect("our child");
    control.wait().expect("our child");
    assert!(region.control().is_ok());
}
