//! A server that dies is found by the health check and gets no more connections; the other serves all.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};

use super::super::peers::curl;
use super::super::{Bed, Case, plan};

pub(super) const CASE: Case = Case {
    name: "dead_backend_is_skipped",
    devices: super::AF_PACKET,
    needs_millrace: true,
    wanted: super::plain,
    test,
};

fn test(bed: &mut Bed) -> Result<String> {
    let dead = bed.web.pop().context("two servers")?;
    let name = dead.name.clone();
    dead.kill();
    // One backend in each of the two web pools.
    bed.millrace()?
        .wait_for_backends("down", plan::VIPS.len())?;
    for vip in plan::VIPS {
        for _ in 0..10 {
            let answer = curl::fetch(bed.client(), &plan::url(vip, "who"))?;
            ensure!(answer != name, "{name} is dead and answered");
        }
    }
    // Health comes back with the server.
    let [four, six] =
        [IpAddr::V4(plan::VIP4), IpAddr::V6(plan::VIP6)].map(|v| plan::servers_of(v)[1]);
    let folder = bed.folder().join("again");
    std::fs::create_dir_all(&folder)?;
    let again = super::super::peers::nginx::Nginx::start(
        &bed.topology.servers,
        &name,
        &[four, six],
        &folder,
    )?;
    bed.web.push(again);
    bed.millrace()?.wait_until_ready()?;
    let answers = (0..4)
        .map(|_| curl::fetch(bed.client(), &plan::url(plan::VIPS[0], "who")))
        .collect::<Result<Vec<_>>>()?;
    ensure!(
        answers.contains(&name),
        "{name} is back and gets no connection: {answers:?}"
    );
    Ok("20 requests all to the living one, then both again".to_owned())
}
