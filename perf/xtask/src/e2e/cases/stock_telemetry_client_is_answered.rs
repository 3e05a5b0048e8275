//! DPDK's own telemetry client talks to the dataplane: ports and their statistics, without a tool of ours.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::super::config_file::file_prefix;
use super::super::peers::curl;
use super::super::{Bed, Case, plan};
use crate::process;

pub(super) const CASE: Case = Case {
    name: "stock_telemetry_client_is_answered",
    devices: super::AF_PACKET,
    needs_millrace: true,
    wanted: super::plain,
    test,
};

fn test(bed: &mut Bed) -> Result<String> {
    curl::fetch(bed.client(), &plan::url(plan::VIPS[0], "who"))?;
    let asked = format!(
        "printf '/ethdev/list\\n/ethdev/stats,0\\n/eal/params\\n' | dpdk-telemetry.py -f {}",
        file_prefix()
    );
    let said = process::must(
        Command::new("sh").args(["-c", &asked]),
        Duration::from_secs(20),
    )?;
    for wanted in ["\"/ethdev/list\"", "\"ipackets\"", "\"/eal/params\""] {
        ensure!(said.contains(wanted), "no {wanted} in: {said}");
    }
    Ok("ports, statistics and parameters".to_owned())
}
