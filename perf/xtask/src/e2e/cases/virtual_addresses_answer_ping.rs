//! ICMP and ICMPv6 echo to the virtual and the interface addresses: the first thing an operator tries.

use std::time::Duration;

use anyhow::Result;

use super::super::plan::{self, FRONT};
use super::super::{Bed, Case};
use crate::process;

// The client learns our Ethernet address from an answer that control has injected.
// behaviour: TAP-18
pub(super) const CASE: Case = Case {
    name: "virtual_addresses_answer_ping",
    devices: super::EVERY,
    needs_millrace: false,
    wanted: super::plain,
    test,
};

fn test(bed: &mut Bed) -> Result<String> {
    let vips = plan::VIPS.map(|vip| vip.to_string());
    for address in vips
        .iter()
        .map(String::as_str)
        .chain([FRONT.gateway4, FRONT.gateway6])
    {
        // 1,400 bytes: a payload that fills most of a frame, with a checksum over all of it.
        let mut ping = process::inside(bed.client(), "ping");
        ping.args(["-c", "5", "-i", "0.2", "-W", "2", "-s", "1400", address]);
        process::must(&mut ping, Duration::from_secs(20))?;
    }
    Ok("5 echoes of 1,400 bytes from each of 4 addresses".to_owned())
}
