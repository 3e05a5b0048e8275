//! kill -9 of control during a transfer: the transfer does not notice, new connections are served, and a new control
//! finds everything as it was.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::super::appliance::rows;
use super::super::peers::curl::{self, Download};
use super::super::{Bed, Case, data, plan};
use crate::interrupt;

pub(super) const CASE: Case = Case {
    name: "killing_control_changes_nothing",
    devices: super::AF_PACKET,
    needs_millrace: true,
    wanted: super::plain,
    test,
};

fn test(bed: &mut Bed) -> Result<String> {
    let vip = IpAddr::V4(plan::VIP4);
    let sample = data::sample(200)?;
    bed.offer(&sample, "long.bin")?;
    let listeners_before = bed.millrace()?.show("listeners")?;
    let url = plan::url(vip, "long.bin");
    // 20 MB/s: the transfer spans the death, the time without control, and the new life.
    let transfer = Download::start_paced(bed.client(), &url, &["--limit-rate", "20M"])?;
    interrupt::sleep(Duration::from_secs(1))?;
    bed.millrace()?.kill_control();
    for _ in 0..20 {
        curl::fetch(bed.client(), &plan::url(vip, "who"))?;
    }
    ensure!(
        bed.millrace()?.show("listeners").is_err(),
        "control is dead and answers"
    );
    let millrace = bed.millrace()?;
    millrace.start_control()?;
    millrace.wait_until_ready()?;
    let listeners = millrace.show("listeners")?;
    let names = |answer: &serde_json::Value| -> Vec<String> {
        rows(answer).map(|row| row["name"].to_string()).collect()
    };
    ensure!(
        names(&listeners) == names(&listeners_before),
        "{listeners} is not {listeners_before}"
    );
    ensure!(
        transfer.is_running(),
        "the transfer was over too early to prove anything"
    );
    let connections = millrace.show("connections")?;
    ensure!(
        rows(&connections).count() > 0,
        "the transfer is not in: {connections}"
    );
    transfer.finish(&sample)?;
    bed.download(vip, "long.bin", &sample)?;
    Ok("200 MiB intact across the death; 20 requests without control".to_owned())
}
