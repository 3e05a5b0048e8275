//! wrk, with keep-alive and with a connection per request: no socket error, no bad answer.

use std::net::IpAddr;

use anyhow::{Result, ensure};

use super::super::peers::wrk::{self, Options};
use super::super::{Bed, Case, plan};

pub(super) const CASE: Case = Case {
    name: "load_brings_no_socket_error",
    devices: super::AF_PACKET,
    needs_millrace: false,
    wanted: super::plain,
    test: |bed| load(bed, 20),
};

pub(super) const BRIEF: Case = Case {
    name: "brief_load_brings_no_socket_error",
    devices: super::OTHERS,
    needs_millrace: false,
    wanted: super::plain,
    test: |bed| load(bed, 5),
};

fn load(bed: &mut Bed, seconds: u32) -> Result<String> {
    let mut said = Vec::new();
    for headers in [&[][..], &["Connection: close"][..]] {
        let url = plan::url(IpAddr::V4(plan::VIP4), "r");
        let options = Options {
            connections: 64,
            seconds,
            headers,
        };
        let load = wrk::run(bed.client(), &url, &options)?;
        ensure!(load.requests > 0, "no request was answered: {load:?}");
        ensure!(load.socket_errors == 0 && load.bad_answers == 0, "{load:?}");
        let kind = if headers.is_empty() {
            "requests"
        } else {
            "connections"
        };
        said.push(format!("{:.0} {kind}/s", load.requests_per_second));
    }
    Ok(said.join(", "))
}
