//! Many requests, each on a connection of its own: none fails, none hangs.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::super::peers::curl;
use super::super::{Bed, Case, plan};

pub(super) const CASE: Case = Case {
    name: "no_request_of_many_fails",
    devices: super::AF_PACKET,
    needs_millrace: false,
    wanted: super::plain,
    test: |bed| requests(bed, 2000, 200),
};

pub(super) const BRIEF: Case = Case {
    name: "no_request_of_some_fails",
    devices: super::OTHERS,
    needs_millrace: false,
    wanted: super::plain,
    test: |bed| requests(bed, 500, 50),
};

const LIMIT: Duration = Duration::from_secs(120);

fn requests(bed: &mut Bed, sequential: u32, parallel: u32) -> Result<String> {
    for vip in plan::VIPS {
        // The brackets of an IPv6 address must not be read as a range of URLs; ours are.
        let host = plan::url(vip, "r").replace('[', "\\[").replace(']', "\\]");
        let series = format!("{host}?[1-{sequential}]");
        let codes = curl::codes(bed.client(), &[&series], LIMIT)?;
        let good = codes.get("200").copied().unwrap_or(0);
        ensure!(
            good == sequential,
            "{vip}: {sequential} requests one by one gave {codes:?}"
        );

        let series = format!("{host}?[1-{parallel}]");
        let at_once = parallel.to_string();
        let all_at_once = [
            "--parallel",
            "--parallel-immediate",
            "--parallel-max",
            &at_once,
            &series,
        ];
        let codes = curl::codes(bed.client(), &all_at_once, LIMIT)?;
        let good = codes.get("200").copied().unwrap_or(0);
        ensure!(
            good == parallel,
            "{vip}: {parallel} requests at once gave {codes:?}"
        );
    }
    Ok(format!(
        "{sequential} one by one and {parallel} at once, on IPv4 and IPv6"
    ))
}
