//! A peer that knows the window and sends anything: no panic, no leak, no broken invariant, no storm of answers, and
//! the bytes that were taken are those that came first.

use millrace_base::{Nanos, Rng};
use millrace_wire::TcpFlags;

use crate::tcp::config::{ConnectionOptions, TcpTunables};
use crate::tcp::segment::Disposition;
use crate::tcp::testing::{Bench, Seg, ack, data};

/// A number near something that matters, or anywhere.
fn near(rng: &mut Rng, points: &[i64]) -> i64 {
    match rng.below(8) {
        0 => i64::from(rng.next_u64() as i32),
        1 => i64::from(rng.below(200_000)) - 100_000,
        _ => points[rng.below(points.len() as u32) as usize] + i64::from(rng.below(7)) - 3,
    }
}

fn anything(rng: &mut Rng, bench: &Bench) -> Seg {
    let connection = &bench.connection;
    let relative = |seq: millrace_base::SeqNumber, base: millrace_base::SeqNumber| {
        i64::from(seq.distance(base.plus(1)))
    };
    let nxt = relative(connection.window.nxt, bench.irs);
    let edge = relative(connection.window.edge(), bench.irs);
    let (una, snd) = (
        relative(connection.una, bench.iss),
        relative(connection.nxt, bench.iss),
    );
    let mut seg = data(near(rng, &[nxt, nxt, nxt + 1_000, edge, -1]), 0);
    let len = [0, 0, 1, 500, 1_000, 1_400][rng.below(6) as usize];
    seg = Seg {
        payload: data(seg.seq, len).payload,
        ..seg
    };
    seg.ack = near(rng, &[una, snd, (una + snd) / 2]);
    seg.window = [0, 1, 500, 5_000, 65_535][rng.below(5) as usize];
    seg.flags = match rng.below(12) {
        0 => TcpFlags::from_bits(rng.below(512) as u16),
        1 if rng.below(6) == 0 => TcpFlags::ACK | TcpFlags::FIN,
        2 if rng.below(20) == 0 => TcpFlags::RST,
        3 => TcpFlags::SYN,
        _ => TcpFlags::ACK,
    };
    for _ in 0..rng.below(4) {
        let start = near(rng, &[una, snd, una + 1_000, una + 3_000]);
        seg.sack.push((start, start + i64::from(rng.below(4_000))));
    }
    if rng.below(2) == 0 {
        seg.stamps = Some((1_000 + rng.below(50), rng.next_u64() as u32));
    }
    seg
}

// Linux: tcp_verify_left_out; here every total is counted again. behaviour: A22-5
#[test]
fn nothing_a_peer_sends_breaks_a_connection() {
    let mut endings = [0u32; 3];
    for seed in 0..400u64 {
        let mut rng = Rng::new(seed);
        let stamps = (rng.below(2) == 0).then_some(1_000);
        let options = ConnectionOptions {
            nodelay: rng.below(2) == 0,
            keepalive: rng.below(2) == 0,
            keep_unread: rng.below(2) == 0,
            user_timeout_ms: 0,
            thin_linear_timeouts: false,
        };
        let sack = rng.below(3) != 0;
        let mut bench = Bench::established_with(sack, TcpTunables::default(), options, stamps);
        let mut read = 0i64;
        for step in 0..400 {
            match rng.below(20) {
                0 => drop(bench.write(rng.below(9_000) as usize)),
                1 => {
                    let bytes = bench.read();
                    let expected = data(read, bytes.len()).payload;
                    assert_eq!(bytes, expected, "seed {seed} step {step}");
                    read += bytes.len() as i64;
                }
                2 => drop(bench.advance(u64::from(rng.below(2_000)))),
                3 if rng.below(40) == 0 => drop(bench.shutdown()),
                4 if rng.below(80) == 0 => drop(bench.close()),
                5 if rng.below(160) == 0 => drop(bench.abort()),
                _ => {
                    let seg = anything(&mut rng, &bench);
                    bench.now = bench
                        .now
                        .after(Nanos::from_micros(u64::from(rng.below(9_000))));
                    bench.receive(seg);
                }
            }
            if rng.below(3) == 0 {
                let sent = bench.sent().len();
                assert!(sent < 300, "seed {seed} step {step}: {sent} segments");
            }
            assert!(
                bench.connection.holds(&bench.world.chunks),
                "seed {seed} step {step}"
            );
            if bench.ended.is_some() {
                break;
            }
        }
        endings[match bench.ended {
            None => 0,
            Some(Disposition::TimeWait(_)) => 1,
            Some(_) => 2,
        }] += 1;
        bench.finish();
    }
    assert!(endings.iter().all(|count| *count > 5), "{endings:?}");
}

// The same before the handshake is done.
#[test]
fn nothing_a_peer_sends_breaks_an_open() {
    for seed in 0..300u64 {
        let mut rng = Rng::new(seed);
        let mut bench = Bench::connecting(TcpTunables::default());
        bench.sent();
        for _ in 0..40 {
            let mut seg = ack(near(&mut rng, &[-1, 0, 1])).seq(near(&mut rng, &[-1, 0]));
            seg.flags = TcpFlags::from_bits(rng.below(32) as u16);
            (seg.mss, seg.scale) = (Some(rng.next_u64() as u16), Some(rng.below(15) as u8));
            seg.sack_permitted = rng.below(2) == 0;
            seg.payload = data(seg.seq, rng.below(30) as usize).payload;
            bench.receive(seg);
            bench.advance(u64::from(rng.below(700)));
            assert!(bench.sent().len() < 20, "seed {seed}");
            if bench.ended.is_some() {
                break;
            }
        }
        bench.finish();
    }
}
