//! The region file over the public API: what control refuses, what a restart finds, what garbage does.

mod bench;

use bench::{Place, ports};
use millrace_abi::{Command, Event, InterfaceRecord};
use millrace_base::{LcoreIndex, PortId};

#[test]
fn commands_events_frames_and_tables_cross_the_region() {
    let place = Place::new("cross");
    let dataplane = place.create(2);
    let region = place.open().expect("complete region");
    let mut control = region.control().expect("first control");
    let mut lcore = dataplane.lcore(LcoreIndex::new(1)).expect("first taking");
    assert_eq!(region.port_info(0), Some(ports()[0]));

    control.commands[1].push(&Command::Drain).expect("room");
    assert_eq!(lcore.commands.pop(), Some(Command::Drain));
    assert_eq!(lcore.commands.pop(), None);

    let event = Event::ConnectionsEnd {
        token: 9,
        next_cursor: 0,
        count: 3,
    };
    lcore.events.push(&event).expect("room");
    assert_eq!(control.events[0].pop(), None);
    assert_eq!(control.events[1].pop(), Some(event));

    lcore
        .punt
        .push(PortId::new(3), 7, b"an ARP request")
        .expect("room");
    let frame = control.punt[1].pop(|port, reason, bytes| (port, reason, bytes.to_vec()));
    assert_eq!(frame, Some((PortId::new(3), 7, b"an ARP request".to_vec())));
    assert_eq!(control.punt[1].pop(|_, _, _| ()), None);

    assert!(lcore.tables.poll().is_none());
    let record = InterfaceRecord {
        port: 1,
        mtu: 1500,
        ..Default::default()
    };
    let generation = control.publish(|tables| {
        tables.push_interface(record).expect("room");
    });
    assert_eq!(generation, Ok(1));
    assert_eq!(
        lcore
            .tables
            .poll()
            .map(|tables| tables.interfaces().to_vec()),
        Some(vec![record])
    );
    assert!(lcore.tables.poll().is_none());
}
