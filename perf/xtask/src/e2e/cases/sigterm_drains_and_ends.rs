//! SIGTERM ends both processes cleanly: exit code 0, nothing left behind, and the next start works.

use anyhow::{Result, ensure};

use super::super::peers::curl;
use super::super::{Bed, Case, plan};

pub(super) const CASE: Case = Case {
    name: "sigterm_drains_and_ends",
    devices: super::AF_PACKET,
    needs_millrace: true,
    wanted: super::plain,
    test,
};

fn test(bed: &mut Bed) -> Result<String> {
    for vip in plan::VIPS {
        curl::fetch(bed.client(), &plan::url(vip, "who"))?;
    }
    let stopped = bed.restart_millrace()?;
    ensure!(
        stopped.code() == Some(0),
        "the dataplane ended with {stopped}"
    );
    bed.millrace()?.wait_until_ready()?;
    for vip in plan::VIPS {
        curl::fetch(bed.client(), &plan::url(vip, "who"))?;
    }
    Ok("exit code 0, then a second life on the same wires".to_owned())
}
