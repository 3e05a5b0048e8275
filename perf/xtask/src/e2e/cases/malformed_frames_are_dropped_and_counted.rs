//! Frames that break a rule end in a counter: no crash, no leak, and honest traffic goes on.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::super::appliance::{Millrace, rows};
use super::super::bed::Wanted;
use super::super::config_file::Device;
use super::super::frames;
use super::super::peers::curl;
use super::super::plan::{self, FRONT};
use super::super::relay::Faults;
use super::super::topology::Wire;
use super::super::{Bed, Case, data};
use crate::interrupt;

pub(super) const CASE: Case = Case {
    name: "malformed_frames_are_dropped_and_counted",
    devices: &[Device::AfPacket, Device::AfXdp],
    needs_millrace: true,
    wanted: || Wanted {
        front: Wire::Relay(Faults::NONE),
        ..Wanted::default()
    },
    test,
};

/// How often each set is sent: enough that a leak of one buffer a frame would show.
const ROUNDS: u32 = 20;

fn test(bed: &mut Bed) -> Result<String> {
    let url = plan::url(frames::target(), "who");
    curl::fetch(bed.client(), &url)?;
    let free_before = free_mbufs(bed.millrace()?)?;
    let mut sent_in_all = 0;
    for set in frames::malformed() {
        let before = drops(bed.millrace()?)?;
        for _ in 0..ROUNDS {
            let Some(relay) = bed.topology.relay(&FRONT) else {
                anyhow::bail!("no relay")
            };
            relay.inject(&set.frames)?;
            interrupt::sleep(Duration::from_millis(20))?;
        }
        let sent = set.frames.len() as u64 * u64::from(ROUNDS);
        sent_in_all += sent;
        let millrace = bed.millrace()?;
        // The af_packet driver asks the kernel to reassemble (PACKET_FANOUT_FLAG_DEFRAG): overlapping fragments
        // end there. On af_xdp they reach us, and must be counted.
        let kernel_takes_it = set.fragments && millrace.settings.device == Device::AfPacket;
        if set.counted && !kernel_takes_it {
            // A relay drops what a full tap queue refuses; it is far from full here, still ask for nine tenths.
            // The first pieces of a packet wait for the others, and go with the packet when one overlaps.
            let wanted = if set.fragments {
                sent / 2
            } else {
                sent * 9 / 10
            };
            interrupt::wait_until(set.name, Duration::from_secs(10), || {
                let now = drops(millrace).map_err(|error| format!("{error:#}"))?;
                let grown = now.saturating_sub(before);
                if grown >= wanted {
                    Ok(())
                } else {
                    Err(format!("{grown} drops counted for {sent} frames"))
                }
            })?;
        }
        millrace.check_alive()?;
        curl::fetch(bed.client(), &url)?;
    }
    let sample = data::sample(20)?;
    bed.offer(&sample, "after.bin")?;
    bed.download(frames::target(), "after.bin", &sample)?;
    let millrace = bed.millrace()?;
    // What sits in caches and rings moves a little; a leak would be as large as what was sent.
    let slack = sent_in_all / 10;
    interrupt::wait_until("the pool to fill again", Duration::from_secs(60), || {
        let free = free_mbufs(millrace).map_err(|error| format!("{error:#}"))?;
        if free + slack >= free_before {
            Ok(())
        } else {
            Err(format!("{free} of {free_before} free"))
        }
    })?;
    ensure!(sent_in_all > 5_000, "too few frames to prove anything");
    Ok(format!("{sent_in_all} bad frames"))
}

/// The sum over all drop reasons.
fn drops(millrace: &Millrace) -> Result<u64> {
    let answer = millrace.show("drops")?;
    Ok(rows(&answer).filter_map(|row| row["total"].as_u64()).sum())
}

/// Free buffers of the pool.
fn free_mbufs(millrace: &Millrace) -> Result<u64> {
    millrace.counter("millrace_mbufs_available")
}
