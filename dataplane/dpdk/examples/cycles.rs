//! Cycles per frame of the receive and transmit path: a generator and a forwarder on one lcore,
//! joined by rings.
//!
//! `cargo run --release -p millrace-dpdk --example cycles`. Prints the median over bursts of 32,
//! which other load on the machine hardly moves. Needs huge pages (`--no-huge` more than doubles
//! the numbers).

use std::error::Error;

use millrace_base::{HEADROOM_BYTES_DEFAULT, PacketBuf, PacketPool};
use millrace_dpdk::{
    Burst, Eal, EalArgs, LcoreCpu, MbufPool, MempoolConfig, PortConfig, RX_BURST_FRAMES_MAX, cycles,
};

const ROUNDS: usize = 100_000;

fn main() -> Result<(), Box<dyn Error>> {
    let lcores = vec![LcoreCpu { lcore: 0, cpu: 0 }];
    let eal = Eal::start(&EalArgs {
        lcores,
        ..EalArgs::default()
    })?;
    let mut pool = MbufPool::create(&eal, &MempoolConfig::default(), 8_191)?;
    let (near, far) = eal.plug_ring_pair("cycles", 1, 1_024)?;
    let config = PortConfig::default();
    let (_near, mut near_rx, mut near_tx) = near.configure(&config, &[pool.bufs()])?.start()?;
    let (_far, mut far_rx, mut far_tx) = far.configure(&config, &[pool.bufs()])?.start()?;

    let mut burst = Burst::new();
    let mut samples = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        let start = cycles();
        for _ in 0..RX_BURST_FRAMES_MAX {
            let mut frame = pool.alloc().ok_or("empty pool")?;
            let _fits = frame.set_span(HEADROOM_BYTES_DEFAULT, 60);
            let _room = burst.try_push(frame);
        }
        let made = cycles();
        near_tx[0].burst(&mut burst).discard();
        far_rx[0].burst(&mut burst);
        let crossed = cycles();
        let mut payloads = 0;
        for frame in burst.frames() {
            let view = pool
                .view(frame, frame.offset(), frame.bytes().len())
                .ok_or("empty pool")?;
            payloads += view.frame_len();
        }
        assert_eq!(payloads, 60 * RX_BURST_FRAMES_MAX);
        let viewed = cycles();
        far_tx[0].burst(&mut burst).discard();
        near_rx[0].burst(&mut burst);
        burst.clear();
        let back = cycles();
        for (sample, span) in samples.iter_mut().zip([
            made - start,
            crossed - made,
            viewed - crossed,
            back - viewed,
        ]) {
            sample.push(span);
        }
    }
    let names = [
        "alloc + span",
        "ring tx + rx",
        "view + free",
        "ring tx + rx + free",
    ];
    for (name, mut spans) in names.into_iter().zip(samples) {
        spans.sort_unstable();
        println!(
            "{name:20} {:5} cycles/frame",
            spans[ROUNDS / 2] / RX_BURST_FRAMES_MAX as u64
        );
    }
    Ok(())
}
