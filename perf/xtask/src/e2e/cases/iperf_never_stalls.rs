//! iperf3 in both directions: bytes move in every second.

use anyhow::{Result, ensure};

use super::super::peers::iperf;
use super::super::{Bed, Case, plan};

pub(super) const CASE: Case = Case {
    name: "iperf_never_stalls",
    devices: super::AF_PACKET,
    needs_millrace: false,
    wanted: super::plain,
    test,
};

/// Seconds without a byte that a busy two-core machine explains. A lost wake-up lasts for ever.
const GRACE_SECONDS: usize = 1;

fn test(bed: &mut Bed) -> Result<String> {
    let mut said = Vec::new();
    for (vip, seconds) in plan::VIPS.into_iter().zip([20, 5]) {
        for reverse in [false, true] {
            let bulk = iperf::run(bed.client(), vip, seconds, reverse)?;
            let stall = bulk.longest_stall();
            ensure!(
                stall <= GRACE_SECONDS,
                "{vip}: nothing moved for {stall} s: {:?}",
                bulk.intervals
            );
            let way = if reverse { "down" } else { "up" };
            said.push(format!("{:.2} Gbit/s {way}", bulk.gigabits_per_second));
        }
    }
    Ok(said.join(", "))
}
