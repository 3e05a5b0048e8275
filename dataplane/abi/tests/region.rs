//! The region file over the public API: what crosses it, who may take which end, what is refused.
#![cfg(not(loom))]

mod bench;

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};

use bench::{COUNTERS, Place, ports};
use millrace_abi::limits::{FRAME_BYTES_MAX, FRAMES_MAX};
use millrace_abi::{
    BackendCounters, Busy, Command, ControlError, CounterKind, CreateError, Event, FrameRefused,
    InterfaceRecord, LcoreState, ListenerCounters, OpenError, PortState, Region, RegionConfig,
};
use millrace_base::{BackendId, Instant, LcoreIndex, ListenerId, PortId};

#[test]
fn commands_and_events_cross_the_region_to_their_lcore_only() {
    let place = Place::new("messages");
    let dataplane = place.create(2);
    let region = place.open().expect("complete region");
    let mut control = region.control().expect("first control");
    let mut first = dataplane.lcore(LcoreIndex::new(0)).expect("first taking");
    let mut second = dataplane.lcore(LcoreIndex::new(1)).expect("first taking");

    let commands = [Command::Drain, Command::Shutdown, Command::Drain];
    assert_eq!(control.commands[1].push_batch(&commands), 3);
    assert_eq!(first.commands.pop(), None);
    let mut received = Vec::new();
    assert_eq!(
        second
            .commands
            .pop_batch(2, |command| received.push(command)),
        2
    );
    received.extend(second.commands.pop());
    assert_eq!(received, commands);

    let event = Event::ConnectionsEnd {
        token: 9,
        next_cursor: 0,
        count: 3,
    };
    first.events.push(&event).expect("room");
    assert_eq!(control.events[1].pop(), None);
    assert_eq!(control.events[0].pop(), Some(event));
}

#[test]
fn frames_of_every_length_cross_the_region_unchanged() {
    let place = Place::new("frames");
    let dataplane = place.create(1);
    let region = place.open().expect("complete region");
    let mut control = region.control().expect("first control");
    let mut lcore = dataplane.lcore(LcoreIndex::new(0)).expect("first taking");
    let bytes: Vec<u8> = (0..=FRAME_BYTES_MAX)
        .map(|index| index as u8 ^ 0x5a)
        .collect();
    for length in (0..70).chain(FRAME_BYTES_MAX - 9..=FRAME_BYTES_MAX) {
        let (port, reason) = (PortId::new(length as u16), u16::MAX - length as u16);
        lcore
            .punt
            .push(port, reason, &bytes[..length])
            .expect("room");
        let frame = control.punt[0].pop(|port, reason, frame| (port, reason, frame.to_vec()));
        assert_eq!(frame, Some((port, reason, bytes[..length].to_vec())));
        control.inject[0]
            .push(port, reason, &bytes[..length])
            .expect("room");
        let frame = lcore
            .inject
            .pop(|port, reason, frame| (port, reason, frame.to_vec()));
        assert_eq!(frame, Some((port, reason, bytes[..length].to_vec())));
    }
    assert_eq!(
        lcore.punt.push(PortId::new(0), 0, &bytes),
        Err(FrameRefused::TooLong)
    );
    for _ in 0..FRAMES_MAX {
        lcore.punt.push(PortId::new(0), 0, b"frame").expect("room");
    }
    assert_eq!(
        lcore.punt.push(PortId::new(0), 0, b"frame"),
        Err(FrameRefused::Full)
    );
}

#[test]
fn every_lcore_adopts_a_generation_before_the_next_is_published() {
    let place = Place::new("tables");
    let dataplane = place.create(2);
    let region = place.open().expect("complete region");
    let mut control = region.control().expect("first control");
    let mut first = dataplane.lcore(LcoreIndex::new(0)).expect("first taking");
    let mut second = dataplane.lcore(LcoreIndex::new(1)).expect("first taking");
    assert!(first.tables.poll().is_none() && control.tables.current().is_none());

    let record = |port| InterfaceRecord {
        port,
        mtu: 1500,
        ..Default::default()
    };
    let generation = control.publish(|tables| {
        tables.push_interface(record(0)).expect("room");
        tables.push_interface(record(1)).expect("room");
    });
    assert_eq!(generation, Ok(1));
    for lcore in [&mut first, &mut second] {
        let tables = lcore.tables.poll().expect("a new generation");
        assert_eq!(
            (tables.generation(), tables.interfaces()),
            (1, &[record(0), record(1)][..])
        );
        assert!(lcore.tables.poll().is_none());
    }
    first.tables.acknowledge();
    let busy = Busy {
        reader: 1,
        acknowledged: 0,
        generation: 1,
    };
    assert_eq!(
        control.publish(|_| panic!("the spare copy is not free")),
        Err(busy)
    );
    second.tables.acknowledge();
    assert_eq!(control.tables.check_adopted(), Ok(()));

    // The next generation begins empty: nothing of the previous one is left in it.
    assert_eq!(
        control.publish(|tables| assert!(tables.interfaces().is_empty())),
        Ok(2)
    );
    assert_eq!(
        first.tables.poll().map(|tables| tables.interfaces().len()),
        Some(0)
    );
    assert_eq!(first.tables.tables().generation(), 2);
}

#[test]
fn descriptions_and_counters_are_read_as_they_were_written() {
    let place = Place::new("counters");
    let dataplane = place.create(2);
    let region = place.open().expect("complete region");
    let mut control = region.control().expect("first control");
    let mut first = dataplane.lcore(LcoreIndex::new(0)).expect("first taking");
    let mut second = dataplane.lcore(LcoreIndex::new(1)).expect("first taking");
    assert_eq!((region.lcore_count(), region.port_count()), (2, 2));
    assert_eq!(region.port_info(1), Some(ports()[1]));
    assert_eq!(region.port_info(2), None);
    assert_eq!(
        region.lcore_info(1).map(|info| info.tsc_hz),
        Some(2_000_000_000)
    );
    let names: Vec<_> = region
        .counters()
        .iter()
        .map(|row| row.name.to_string())
        .collect();
    assert_eq!(names, [COUNTERS[0].name, COUNTERS[1].name]);
    assert_eq!(region.counters()[1].kind(), CounterKind::Gauge);

    first.counters.add(0, 5);
    first.counters.add(0, 2);
    second.counters.set(1, 9);
    second.counters.add(100_000, 1);
    assert_eq!(
        [
            region.counter(0, 0),
            region.counter(1, 1),
            region.counter(7, 0)
        ],
        [7, 9, 0]
    );

    let backend = BackendCounters {
        sessions_total: 3,
        bytes_in: 10,
        ..Default::default()
    };
    first.sessions.set_backend(BackendId::new(4095), &backend);
    second.sessions.set_backend(BackendId::new(4095), &backend);
    second.sessions.set_backend(BackendId::new(4096), &backend);
    assert_eq!(region.backend_total(BackendId::new(4095)).sessions_total, 6);
    let listener = ListenerCounters {
        refused: 2,
        ..Default::default()
    };
    second.sessions.set_listener(ListenerId::new(1), &listener);
    assert_eq!(region.listener_counters(1, ListenerId::new(1)), listener);
    assert_eq!(region.listener_total(ListenerId::new(1)).refused, 2);

    let state = LcoreState {
        heartbeat_nanos: 77,
        rx_packets: 5,
        ..Default::default()
    };
    second.status.set(&state);
    assert_eq!(region.lcore_state(1), Some(state));
    let port = PortState {
        ipackets: 8,
        link_up: 1,
        ..Default::default()
    };
    let mut ports = dataplane.port_states().expect("first taking");
    ports.set(PortId::new(1), &port);
    ports.set(PortId::new(16), &port);
    assert_eq!(region.port_state(1), Some(port));
    assert_eq!(region.port_state(0), Some(PortState::default()));
    assert!(dataplane.port_states().is_none() && region.port_states().is_none());
    control.heartbeat(Instant::from_nanos(123));
    assert_eq!(first.status.control().heartbeat_nanos, 123);
}

#[test]
fn every_end_is_given_out_once() {
    let place = Place::new("ends");
    let dataplane = place.create(1);
    let region = place.open().expect("complete region");
    let lcore = dataplane.lcore(LcoreIndex::new(0));
    assert!(lcore.is_some() && dataplane.lcore(LcoreIndex::new(0)).is_none());
    assert!(dataplane.lcore(LcoreIndex::new(1)).is_none());
    assert!(
        region.lcore(LcoreIndex::new(0)).is_none(),
        "control is no lcore"
    );
    assert!(matches!(dataplane.control(), Err(ControlError::NotControl)));

    let control = region.control().expect("first control");
    assert!(matches!(region.control(), Err(ControlError::InUse)));
    let second = place.open().expect("complete region");
    assert!(matches!(second.control(), Err(ControlError::InUse)));
    drop((control, region));
    assert!(
        second.control().is_ok(),
        "the role is free when its holder is gone"
    );
}

#[test]
fn a_living_dataplane_is_not_replaced_and_a_dead_one_is() {
    let place = Place::new("replace");
    let first = place.create(1);
    let watcher = place.open().expect("complete region");
    let lcores = [Default::default()];
    let config = RegionConfig {
        lcores: &lcores,
        ports: &[],
        counters: &[],
    };
    assert!(matches!(
        Region::create(&place.path(), config),
        Err(CreateError::InUse)
    ));
    assert!(matches!(
        Region::check_free(&place.path()),
        Err(CreateError::InUse)
    ));
    assert!(watcher.is_dataplane_alive() && watcher.is_current() && !watcher.is_closed());
    assert_eq!(watcher.boot_id(), first.boot_id());
    assert_eq!(watcher.dataplane_pid(), u64::from(std::process::id()));

    drop(first);
    assert!(!watcher.is_dataplane_alive() && watcher.is_current());
    assert!(Region::check_free(&place.path()).is_ok());
    let second = place.create(3);
    assert!(!watcher.is_current() && !watcher.is_dataplane_alive());
    assert_ne!(watcher.boot_id(), second.boot_id());
    second.remove().expect("it is ours");
    assert!(matches!(place.open(), Err(OpenError::Missing)));
}

#[test]
fn leaving_does_not_unlink_a_region_that_replaced_ours() {
    let place = Place::new("leave");
    let first = place.create(1);
    // An operator removed the file by hand; a second dataplane started.
    fs::remove_file(place.path()).expect("it was created");
    let second = place.create(1);
    first.remove().expect("nothing to unlink");
    assert_eq!(
        place.open().map(|region| region.boot_id()).ok(),
        Some(second.boot_id())
    );
}

#[test]
fn impossible_configurations_are_refused_before_anything_is_made() {
    let place = Place::new("counts");
    let config = RegionConfig {
        lcores: &[],
        ports: &[],
        counters: &[],
    };
    let error = Region::create(&place.path(), config);
    assert!(matches!(
        error,
        Err(CreateError::Count {
            what: "lcores",
            count: 0,
            ..
        })
    ));
    let lcores = [Default::default(); 65];
    let error = Region::create(
        &place.path(),
        RegionConfig {
            lcores: &lcores,
            ..config
        },
    );
    assert!(matches!(
        error,
        Err(CreateError::Count {
            what: "lcores",
            count: 65,
            max: 64
        })
    ));
    let many = [Default::default(); 17];
    let config = RegionConfig {
        lcores: &lcores[..1],
        ports: &many,
        counters: &[],
    };
    assert!(matches!(
        Region::create(&place.path(), config),
        Err(CreateError::Count { what: "ports", .. })
    ));
    assert!(matches!(place.open(), Err(OpenError::Missing)));
}

#[test]
fn the_region_is_the_owners_alone() {
    let place = Place::new("mode");
    let _dataplane = place.create(1);
    let metadata = fs::metadata(place.path()).expect("it was created");
    assert_eq!(metadata.mode() & 0o7777, 0o600);
}

#[test]
fn every_flipped_bit_of_the_header_is_noticed() {
    let place = Place::new("flip");
    let _dataplane = place.create(1);
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(place.path())
        .expect("a file");
    let mut header = [0; 80];
    file.read_exact_at(&mut header, 0).expect("long enough");
    for bit in 0..header.len() * 8 {
        let mut flipped = header;
        flipped[bit / 8] ^= 1 << (bit % 8);
        file.write_all_at(&flipped, 0).expect("a writable file");
        assert!(place.open().is_err(), "bit {bit}");
    }
    file.write_all_at(&header, 0).expect("a writable file");
    assert!(place.open().is_ok());
}

#[test]
fn files_that_are_too_short_too_long_or_foreign_are_refused() {
    let place = Place::new("sizes");
    let _dataplane = place.create(1);
    let whole = fs::read(place.path()).expect("a file");
    let open = |bytes: &[u8]| {
        let path = place.path().with_extension("copy");
        fs::write(&path, bytes).expect("a writable directory");
        Region::open(&path).map(|_| ())
    };
    assert!(open(&whole).is_ok());
    assert!(matches!(open(&[]), Err(OpenError::TooShort { bytes: 0 })));
    assert!(matches!(
        open(&whole[..79]),
        Err(OpenError::TooShort { bytes: 79 })
    ));
    assert!(matches!(
        open(&whole[..4096]),
        Err(OpenError::SizeMismatch { .. })
    ));
    assert!(matches!(
        open(&whole[..whole.len() - 1]),
        Err(OpenError::SizeMismatch { .. })
    ));
    assert!(matches!(
        open(&[&whole[..], &[0]].concat()),
        Err(OpenError::SizeMismatch { .. })
    ));
    assert!(matches!(
        open(&[0; 8192]),
        Err(OpenError::ForeignMagic { found: 0 })
    ));
    assert!(matches!(
        open(&[b'#'; 200]),
        Err(OpenError::ForeignMagic { .. })
    ));
}
