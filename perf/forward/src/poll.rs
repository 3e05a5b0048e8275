//! The loop of an lcore: it calls its engines in turn until it is told to stop, and knows nothing
//! else.

use core::sync::atomic::{AtomicBool, Ordering};

use millrace_dpdk::cycles;

use crate::counters::Counter;
use crate::engine::{
    Csum, Engine, FiveTupleSwap, FlowGen, IcmpEcho, Io, Mac, MacSwap, Noisy, RxOnly, TxOnly,
};
use crate::mode::Mode;
use crate::settings::Settings;
use crate::stream::Stream;

/// What one lcore counts. On a cache line of its own.
#[repr(align(128))]
#[derive(Debug, Default)]
pub struct LcoreCounters {
    /// Cycles from start to now; 0 unless recorded.
    pub total_cycles: Counter,
}

/// Runs a mode over these streams until `stop` is set, and gives them back.
pub fn run(
    mode: Mode,
    streams: Vec<Stream>,
    settings: &Settings,
    stop: &AtomicBool,
    lcore: &LcoreCounters,
) -> Vec<Stream> {
    match mode {
        Mode::Io => poll::<Io>(streams, settings, stop, lcore),
        Mode::Mac => poll::<Mac>(streams, settings, stop, lcore),
        Mode::MacSwap => poll::<MacSwap>(streams, settings, stop, lcore),
        Mode::Csum => poll::<Csum>(streams, settings, stop, lcore),
        Mode::IcmpEcho => poll::<IcmpEcho>(streams, settings, stop, lcore),
        Mode::FiveTupleSwap => poll::<FiveTupleSwap>(streams, settings, stop, lcore),
        Mode::RxOnly => poll::<RxOnly>(streams, settings, stop, lcore),
        Mode::TxOnly => poll::<TxOnly>(streams, settings, stop, lcore),
        Mode::FlowGen => poll::<FlowGen>(streams, settings, stop, lcore),
        Mode::Noisy => poll::<Noisy>(streams, settings, stop, lcore),
    }
}

/// One loop per engine type: the burst function is inlined, nothing is looked up per burst.
fn poll<E: Engine>(
    streams: Vec<Stream>,
    settings: &Settings,
    stop: &AtomicBool,
    lcore: &LcoreCounters,
) -> Vec<Stream> {
    let mut working: Vec<(E, Stream)> = streams
        .into_iter()
        .map(|stream| (E::begin(&stream, settings), stream))
        .collect();
    if settings.record_core_cycles {
        poll_measured(&mut working, stop, lcore);
    } else {
        // Relaxed: the flag carries no data; whoever sets it waits for the lcore to return.
        while !stop.load(Ordering::Relaxed) {
            for (engine, stream) in &mut working {
                engine.burst(stream);
            }
        }
    }
    let end = |(engine, mut stream): (E, Stream)| {
        engine.end(&mut stream);
        stream
    };
    working.into_iter().map(end).collect()
}

fn poll_measured<E: Engine>(working: &mut [(E, Stream)], stop: &AtomicBool, lcore: &LcoreCounters) {
    let mut turn_began = cycles();
    // Relaxed: as above.
    while !stop.load(Ordering::Relaxed) {
        let mut began = turn_began;
        for (engine, stream) in &mut *working {
            let did_something = engine.burst(stream);
            // The end of one stream's burst is the start of the next one's: one reading each.
            let ended = cycles();
            if did_something {
                stream.counters().busy_cycles.add(ended.wrapping_sub(began));
            }
            began = ended;
        }
        lcore.total_cycles.add(began.wrapping_sub(turn_began));
        turn_began = began;
    }
}
