//! Header prediction changes nothing but the cost.

use proptest::prelude::*;

use crate::tcp::config::{ConnectionOptions, TcpTunables};
use crate::tcp::testing::{Bench, Seg, ack, data};
use millrace_wire::TcpFlags;

/// Something that happens to a connection.
#[derive(Clone, Debug)]
enum Step {
    Segment(Said),
    /// Segments that arrive together, each where the one before it ended but for its offset.
    Burst(Vec<Said>),
    Write(usize),
    Read,
    Send,
    Wait(u64),
}

/// Payload (none when `len` is 0) at an offset from what is expected next, acknowledging a share in
/// eighths of what is in flight (9 is beyond it).
#[derive(Clone, Debug)]
struct Said {
    offset: i64,
    len: usize,
    acked: i64,
    window: u16,
    stamp: i32,
    flags: TcpFlags,
    sacked: bool,
}

fn said(acked: impl Strategy<Value = i64>) -> impl Strategy<Value = Said> {
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
    let sacked = prop_oneof![20 => Just(false), 1 => Just(true)];
    (offset, len, acked, window, stamp, flags, sacked).prop_map(
        |(offset, len, acked, window, stamp, flags, sacked)| Said {
            offset,
            len,
            acked,
            window,
            stamp,
            flags,
            sacked,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let acked = prop_oneof![9 => Just(0i64), 1 => 0i64..10];
    prop_oneof![
        8 => said(0i64..10).prop_map(Step::Segment),
        4 => prop::collection::vec(said(acked), 1..32).prop_map(Step::Burst),
        2 => (1usize..5_000).prop_map(Step::Write),
        1 => Just(Step::Read),
        3 => Just(Step::Send),
        1 => prop_oneof![1u64..60, 150u64..2_000].prop_map(Step::Wait),
    ]
}

/// Does the step; returns what could be seen of it.
fn act(bench: &mut Bench, step: &Step, clock: &mut u32) -> String {
    match step {
        Step::Segment(said) => {
            let seg = segment(bench, said, &mut 0, clock);
            format!("{:?}", bench.receive(seg))
        }
        Step::Burst(burst) => {
            let mut ahead = 0;
            let segments = burst
                .iter()
                .map(|said| segment(bench, said, &mut ahead, clock))
                .collect();
            format!("{:?}", bench.receive_burst(segments))
        }
        Step::Write(len) => format!("{}", bench.write(*len)),
        Step::Read => format!("{}", bench.read().len()),
        Step::Send => format!("{:?}", bench.sent()),
        Step::Wait(millis) => format!("{:?}", bench.advance(*millis)),
    }
}

/// `ahead` is how far the burst has come before it, and then behind it.
fn segment(bench: &Bench, said: &Said, ahead: &mut i64, clock: &mut u32) -> Seg {
    let base = i64::from(bench.connection.window.nxt.distance(bench.irs.plus(1))) + *ahead;
    let una = i64::from(bench.connection.una.distance(bench.iss.plus(1)));
    let flight = i64::from(bench.connection.nxt.bytes_since(bench.connection.una));
    let seg = match said.len {
        0 => ack(0).seq(base + said.offset),
        len => data(base + said.offset, len),
    };
    *ahead += said.offset + said.len as i64;
    let seg = seg.ack(una + flight * said.acked / 8).window(said.window);
    *clock = clock.wrapping_add_signed(said.stamp);
    let seg = seg.stamps_if(bench.connection.timestamps.agreed(), *clock, 5_000);
    let seg = if said.sacked {
        seg.sack(&[(una + flight / 2, una + flight)])
    } else {
        seg
    };
    seg.flags(said.flags)
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
            // What was predicted is counted as such, and nothing else differs.
            let mut stats = short.world.stats.clone();
            (stats.tcp_hp_hits, stats.tcp_hp_acks) = (0, 0);
            prop_assert_eq!(format!("{stats:?}"), format!("{:?}", long.world.stats), "{:?}", step);
            if short.ended.is_some() {
                break;
            }
        }
        short.finish();
        long.finish();
    }
}

// What a burst leaves behind is what its segments would have left one by one, a timer at the edge of
// the window included.
#[test]
fn a_burst_does_what_its_segments_do_one_by_one() {
    let mut together = bench(true, true, true);
    let mut alone = bench(true, true, true);
    let mut place = 0;
    for round in 0..30 {
        let lens = [1_000, 1_000, 900, 1_000, 1_000];
        let burst: Vec<Seg> = lens
            .iter()
            .map(|len| {
                let seg = data(place, *len).stamps(8 + round, 5_000);
                place += *len as i64;
                seg
            })
            .collect();
        for seg in burst.clone() {
            alone.receive(seg);
        }
        together.receive_burst(burst);
        let state = format!("{:?}", together.connection);
        assert_eq!(state, format!("{:?}", alone.connection), "{round}");
        assert_eq!(together.read(), alone.read());
        if round % 3 == 2 {
            assert_eq!(together.sent(), alone.sent());
        }
        if round % 5 == 4 {
            // The delay of the ACK follows this pause, and the next burst.
            let left = format!("{:?}", together.advance(36));
            assert_eq!(left, format!("{:?}", alone.advance(36)));
        }
    }
    assert!(together.predicted >= 100, "{} of 150", together.predicted);
    together.finish();
    alone.finish();
}

// behaviour: A8-8, RCV-25, Z1-2
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
    assert!(bench.world.stats.tcp_hp_hits >= 99, "data");
    bench.finish();
}
