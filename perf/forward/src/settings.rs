//! What the engines are told; the same for every stream.

use millrace_dpdk::RX_BURST_FRAMES_MAX;

/// What the engines are told.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Frames handled at once, 1 to [`RX_BURST_FRAMES_MAX`].
    pub burst_frames: usize,
    /// How often a transmit queue that took less than everything is asked again before the rest is
    /// counted and freed.
    pub retries: u32,
    /// Bytes of the frames that `txonly` and `flowgen` make, without the frame check sequence.
    pub frame_bytes: usize,
    /// Flows of `flowgen`, 1 to 65,536.
    pub flows: u32,
    /// What `noisy` does.
    pub noisy: Noisy,
    /// `csum` leaves IPv4 and TCP checksums to the device where it offers them.
    pub offload_checksums: bool,
    /// Measure the cycles of bursts that did something.
    pub record_core_cycles: bool,
    /// Count bursts by their size.
    pub record_burst_stats: bool,
    /// Cycles per second of the time-stamp counter.
    pub hertz: u64,
}

/// What the noisy neighbour does. The default does nothing but forward.
#[derive(Clone, Copy, Default, Debug)]
pub struct Noisy {
    /// Frames that wait in a queue before they are sent; 0 is no queue.
    pub queue_frames: usize,
    /// The queue is emptied when nothing left it for this long, milliseconds; 0 is never.
    pub flush_ms: u64,
    /// Memory to work in, MiB.
    pub memory_mib: usize,
    /// Words read per frame.
    pub reads: u32,
    /// Words written per frame.
    pub writes: u32,
    /// Words read and written back per frame.
    pub updates: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            burst_frames: RX_BURST_FRAMES_MAX,
            retries: 4,
            frame_bytes: 64,
            flows: 1_024,
            noisy: Noisy::default(),
            offload_checksums: false,
            record_core_cycles: false,
            record_burst_stats: false,
            hertz: 1_000_000_000,
        }
    }
}
