//! What a link does to packets, measured.

use millrace_base::{Address, Instant, Nanos, SeqNumber};
use millrace_wire::{TcpFlags, TcpOptions, TcpRepr};

use super::{FlightPlan, Link, LinkPlan, LossPlan, MtuPlan, Outage, QueuePlan};
use crate::dice::Dice;
use crate::packet::{self, Parsed};

fn packet(number: u32, bytes: usize) -> Vec<u8> {
    let header = TcpRepr {
        source_port: 1,
        destination_port: 2,
        seq: SeqNumber::new(number),
        ack: SeqNumber::new(0),
        flags: TcpFlags::ACK,
        window: 0,
        urgent: 0,
        options: TcpOptions::default(),
    };
    let (from, to) = (Address::v4([10, 0, 0, 1]), Address::v4([10, 0, 0, 2]));
    packet::emit(&header, &vec![0; bytes - 40], from, to)
}

fn number(bytes: &[u8]) -> u32 {
    match packet::parse(bytes) {
        Parsed::Tcp(segment) => segment.header.seq.value(),
        other @ (Parsed::Other | Parsed::Broken(_)) => panic!("{other:?}"),
    }
}

/// Sends `count` packets of 1,000 bytes, one every `gap`; what arrives and when.
fn send(plan: LinkPlan, count: u32, gap: Nanos) -> (Link, Vec<(Instant, Vec<u8>)>) {
    let mut link = Link::new(plan, Dice::new(1));
    let mut arrived = Vec::new();
    let mut now = Instant::ZERO;
    for round in 0..count {
        while link.next_deadline() <= now {
            let at = link.next_deadline();
            arrived.extend(link.take(at).map(|packet| (at, packet)));
        }
        link.offer(now, packet(round, 1_000));
        now = now.after(gap);
    }
    while link.next_deadline() != Instant::NEVER {
        let at = link.next_deadline();
        arrived.extend(link.take(at).map(|packet| (at, packet)));
    }
    (link, arrived)
}

#[test]
fn a_rate_spaces_packets_and_a_delay_shifts_them() {
    let plan = LinkPlan {
        rate: 1_038_000,
        flight: FlightPlan {
            delay: Nanos::from_millis(7),
            ..FlightPlan::default()
        },
        ..LinkPlan::default()
    };
    let (_, arrived) = send(plan, 5, Nanos::ZERO);
    let at: Vec<u64> = arrived.iter().map(|(at, _)| at.as_millis()).collect();
    assert_eq!(at, [8, 9, 10, 11, 12]);
}

#[test]
fn a_full_queue_drops_what_comes_last() {
    let plan = LinkPlan {
        rate: 1_038_000,
        queue: QueuePlan::DropTail { bytes: 3_000 },
        ..LinkPlan::default()
    };
    let (link, arrived) = send(plan, 10, Nanos::ZERO);
    // One is on the wire, three wait.
    let numbers: Vec<u32> = arrived.iter().map(|(_, packet)| number(packet)).collect();
    assert_eq!(numbers, [0, 1, 2, 3]);
    assert_eq!(link.tally.dropped, 6);
}

#[test]
fn losses_come_at_their_rate_and_in_bursts_where_they_should() {
    let independent = LossPlan::Bernoulli { ppm: 50_000 };
    let bursts = LossPlan::Gilbert {
        turns_bad_ppm: 5_000,
        turns_good_ppm: 100_000,
        good_ppm: 0,
        bad_ppm: 1_000_000,
    };
    let mut runs = Vec::new();
    for loss in [independent, bursts] {
        let plan = LinkPlan {
            loss,
            ..LinkPlan::default()
        };
        let (link, arrived) = send(plan, 20_000, Nanos::from_micros(1));
        assert!((600..1_400).contains(&link.tally.lost), "{:?}", link.tally);
        let numbers: Vec<u32> = arrived.iter().map(|(_, packet)| number(packet)).collect();
        let gaps = numbers.windows(2).filter(|two| two[1] - two[0] > 1).count() as u64;
        runs.push(link.tally.lost / gaps);
    }
    assert!(runs[0] <= 1, "independent losses stand alone");
    assert!(runs[1] >= 5, "bursts are long: {runs:?}");
}

#[test]
fn faults_of_chance_end_when_the_plan_says() {
    let plan = LinkPlan {
        loss: LossPlan::Bernoulli { ppm: 1_000_000 },
        heals_at: Instant::from_millis(50),
        ..LinkPlan::default()
    };
    let (link, arrived) = send(plan, 100, Nanos::from_millis(1));
    assert_eq!((link.tally.lost, arrived.len()), (50, 50));
}

#[test]
fn nothing_passes_in_an_outage() {
    let plan = LinkPlan {
        outages: vec![Outage {
            from: Instant::from_millis(10),
            until: Instant::from_millis(30),
        }],
        ..LinkPlan::default()
    };
    let (_, arrived) = send(plan, 100, Nanos::from_millis(1));
    assert_eq!(arrived.len(), 80);
}

#[test]
fn a_damaged_packet_is_noticed_and_a_repeated_one_is_the_same() {
    let plan = LinkPlan {
        corrupt_ppm: 100_000,
        duplicate_ppm: 100_000,
        ..LinkPlan::default()
    };
    let (link, arrived) = send(plan, 2_000, Nanos::from_micros(1));
    let is_broken = |bytes: &[u8]| matches!(packet::parse(bytes), Parsed::Broken(_));
    let broken = arrived.iter().filter(|(_, packet)| is_broken(packet));
    assert!(broken.count() as u64 >= link.tally.corrupted);
    assert_eq!(arrived.len() as u64, 2_000 + link.tally.duplicated);
    assert!(link.tally.duplicated > 100);
}

#[test]
fn held_packets_are_overtaken_and_jitter_alone_keeps_the_order() {
    let flight = |held_ppm| FlightPlan {
        jitter: Nanos::from_millis(5),
        keeps_order: true,
        held_ppm,
        held: Nanos::from_millis(20),
        ..FlightPlan::default()
    };
    for (held_ppm, in_order) in [(0, true), (100_000, false)] {
        let plan = LinkPlan {
            flight: flight(held_ppm),
            ..LinkPlan::default()
        };
        let (_, arrived) = send(plan, 1_000, Nanos::from_millis(1));
        assert_eq!(arrived.len(), 1_000);
        let numbers: Vec<u32> = arrived.iter().map(|(_, packet)| number(packet)).collect();
        assert_eq!(numbers.is_sorted(), in_order);
    }
}

#[test]
fn a_small_hop_tells_or_does_not() {
    for tells in [false, true] {
        let mtu = MtuPlan {
            mtu: 999,
            from: Instant::ZERO,
            until: Instant::NEVER,
            tells,
        };
        let plan = LinkPlan {
            mtu: Some(mtu),
            ..LinkPlan::default()
        };
        let mut link = Link::new(plan, Dice::new(1));
        let answer = link.offer(Instant::ZERO, packet(0, 1_000));
        assert_eq!(answer.is_some(), tells);
        assert_eq!(link.offer(Instant::ZERO, packet(1, 999)), None);
        let passed = link.take(Instant::ZERO).expect("it fits");
        assert_eq!(number(&passed), 1);
    }
}

#[test]
fn managed_queues_keep_the_wait_short_where_a_long_one_does_not() {
    let bytes = 1_000_000;
    let (target, interval) = (Nanos::from_millis(5), Nanos::from_millis(100));
    let red = QueuePlan::Red {
        bytes,
        low: 10_000,
        high: 30_000,
    };
    let codel = QueuePlan::CoDel {
        bytes,
        target,
        interval,
    };
    let mut waits = Vec::new();
    for queue in [QueuePlan::DropTail { bytes }, red, codel] {
        // A tenth more than the rate, for two seconds.
        let plan = LinkPlan {
            rate: 1_038_000,
            queue,
            ..LinkPlan::default()
        };
        let (_, arrived) = send(plan, 2_200, Nanos::from_micros(909));
        let (at, last) = arrived.last().expect("some arrive");
        let sent = Nanos::from_micros(909 * u64::from(number(last)));
        waits.push(at.as_millis() - sent.as_nanos() / 1_000_000);
    }
    assert!(waits[0] > 150, "{waits:?}");
    assert!(waits[1] < 60, "{waits:?}");
    assert!(waits[2] < 150, "{waits:?}");
}
