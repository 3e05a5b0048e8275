//! What the main thread does while the lcores run: it tells port statistics, and waits for the signal to leave.
//!
//! Asking a device for its link or its counters may be a system call, which is why no lcore does it.

use std::time::{Duration, Instant as WallClock};

use millrace_abi::{PortState, Region};
use millrace_base::PortId;
use millrace_dpdk::Port;
use tracing::info;

use crate::shutdown::{Control, GRACE, Phase, Signals};

/// How often the ports are asked and the signals looked at.
const INTERVAL: Duration = Duration::from_millis(100);

/// Returns when every lcore has been asked to stop.
pub fn until_shutdown(
    signals: &Signals,
    control: &Control,
    ports: &[Port],
    region: &Region,
    lcores: usize,
) {
    let mut writer = region.port_states();
    while !signals.asked_to_drain() {
        for (number, port) in (0u16..).zip(ports) {
            if let Some(writer) = &mut writer {
                writer.set(PortId::new(number), &state_of(port));
            }
        }
        std::thread::sleep(INTERVAL);
    }
    info!(
        grace_secs = GRACE.as_secs(),
        "draining; a second signal ends the process at once"
    );
    signals.arm_second();
    control.enter(Phase::Drain);
    let begun = WallClock::now();
    while control.drained() < lcores && begun.elapsed() < GRACE {
        std::thread::sleep(INTERVAL);
    }
    let is_drained = control.drained() >= lcores;
    info!(is_drained, "stopping");
    control.enter(Phase::Stop);
}

fn state_of(port: &Port) -> PortState {
    let link = port.link();
    // A driver that cannot tell leaves zeros, as DPDK's own tools do.
    let stats = port.stats().unwrap_or_default();
    PortState {
        ipackets: stats.rx_frames,
        opackets: stats.tx_frames,
        ibytes: stats.rx_bytes,
        obytes: stats.tx_bytes,
        imissed: stats.rx_missed,
        ierrors: stats.rx_errors,
        oerrors: stats.tx_errors,
        rx_nombuf: stats.rx_no_buffer,
        link_up: u64::from(link.is_up),
        link_mbps: link.speed_mbps.map_or(0, u64::from),
    }
}
