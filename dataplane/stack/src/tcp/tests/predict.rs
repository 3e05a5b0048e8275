//! Header prediction changes nothing but the cost.

use proptest::prelude::*;

use crate::tcp::config::{ConnectionOptions, TcpTunables};
use crate::tcp::testing::{Bench, ack, data};
use millrace_wire::TcpFlags;

/// Something that happens to a connection.
#[derive(Clone, Debug)]
enum Step {
    /// Payload (none when `len` is 0) at an offset from what is expected next, acknowledging a
    /// share in eighths of what is in flight (9 is beyond it).
    Segment {
        offset: i64,
        len: usize,
        acked: i64,
        window: u16,
        stamp: i32,
        flags: TcpFlags,
        sacked: bool,
    },
    Write(usize),
    Read,
    Send,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let offset = prop_oneof![8 => Just(0), 1 => -1_500i64..0, 1 => 1i64..3_000];
    let len = prop_oneof![2 => Just(0usize), 2 => Just(1_000usize), 1 => 1usize..1_400];
    let window = prop_oneof![8 => Just(60_000u16), 1 => any::<u16>()];
    let stamp = prop_oneof![8 => 0i32..3, 1 => -5i32..0];
    let flags = prop_oneof![
        8 => Just(TcpFlags::ACK),
        6 => Just(TcpFlags::ACK | TcpFlags::PSH),
        1 => Just(TcpFlags::ACK | TcpFlags::URG),
        1 => Just(TcpFlags::ACK | TcpFlags::FIN),
    ];
    let sacked = prop_oneof![8 => Just(false), 1 => Just(true)];
    prop_oneof![
        8 => (offset, len, 0i64..10, window, stamp, flags, sacked).prop_map(
            |(offset, len, acked, window, stamp, flags, sacked)| Step::Segment {
                offset, len, acked, window, stamp, flags, sacked,
            }
        ),
        2 => (1usize..5_000).prop_map(Step::Write),
        1 => Just(Step::Read),
        3 => Just(Step::Send),
        1 => prop_oneof![1u64..60, 150u64..2_000].prop_map(Step::Wait),
    ]
}

/// Does the step; returns what could be seen of it.
fn act(bench: &mut Bench, step: &Step, clock: &mut u32) -> String {
    match step {
        Step::Segment {
            offset,
            len,
            acked,
            window,
            stamp,
            flags,
            sacked,
        } => {
            let base = i64::from(bench.connection.window.nxt.distance(bench.irs.plus(1)));
            let una = i64::from(bench.connection.una.distance(bench.iss.plus(1)));
            let flight = i64::from(bench.connection.nxt.bytes_since(bench.connection.una));
            let seg = match len {
                0 => ack(0).seq(base + offset),
                len => data(base + offset, *len),
            };
            let seg = seg.ack(una + flight * acked / 8).window(*window);
            *clock = clock.wrapping_add_signed(*stamp);
            let seg = seg.stamps_if(bench.connection.timestamps.agreed, *clock, 5_000);
            let seg = if *sacked {
                seg.sack(&[(una + flight / 2, una + flight)])
            } else {
                seg
            };
            format!("{:?}", bench.receive(seg.flags(*flags)))
        }
        Step::Write(len) => format!("{}", bench.write(*len)),
        Step::Read => format!("{}", bench.read().len()),
        Step::Send => format!("{:?}", bench.sent()),
        Step::Wait(millis) => format!("{:?}", bench.advance(*millis)),
    }
}

fn bench(sack: bool, stamps: bool, predicts: bool) -> Bench {
    let options = ConnectionOptions::default();
    let recent = stamps.then_some(7);
    let mut bench = Bench::established_with(sack, TcpTunables::default(), options, recent);
    bench.predicts = predicts;
    bench
}

proptest! {
    #[test]
    fn a_predicted_segment_does_what_it_would_have_done_the_long_way(
        sack: bool,
        stamps: bool,
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut short = bench(sack, stamps, true);
        let mut long = bench(sack, stamps, false);
        let (mut short_clock, mut long_clock) = (7, 7);
        for step in &steps {
            let seen = act(&mut short, step, &mut short_clock);
            prop_assert_eq!(seen, act(&mut long, step, &mut long_clock), "{:?}", step);
            let state = format!("{:?}", short.connection);
            prop_assert_eq!(state, format!("{:?}", long.connection), "{:?}", step);
            let counted = format!("{:?}", short.world.stats);
            prop_assert_eq!(counted, format!("{:?}", long.world.stats), "{:?}", step);
            if short.ended.is_some() {
                break;
            }
        }
        short.finish();
        long.finish();
    }
}

#[test]
fn most_segments_of_a_transfer_are_predicted() {
    let mut bench = bench(true, true, true);
    for step in 0..100 {
        bench.receive(data(step * 1_000, 1_000).stamps(8, 5_000));
        bench.sent();
        bench.read();
    }
    bench.write(8_000);
    for step in 1..=8 {
        bench.sent();
        bench.receive(ack(step * 1_000).seq(100_000).stamps(9, 5_000));
    }
    assert!(bench.predicted >= 107, "{} of 108", bench.predicted);
    bench.finish();
}
