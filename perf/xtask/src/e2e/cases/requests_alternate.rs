//! Round robin: consecutive connections go to different servers, on both families. Each lcore takes its own turns, so
//! with several the sum over all of them is fair to within one connection per lcore.

use anyhow::{Result, ensure};

use super::super::peers::curl;
use super::super::{Bed, Case, plan};

pub(super) const CASE: Case = Case {
    name: "requests_alternate",
    devices: super::AF_PACKET,
    needs_millrace: false,
    wanted: super::plain,
    test,
};

fn test(bed: &mut Bed) -> Result<String> {
    for vip in plan::VIPS {
        let names = (0..10)
            .map(|_| curl::fetch(bed.client(), &plan::url(vip, "who")))
            .collect::<Result<Vec<_>>>()?;
        ensure!(
            plan::takes_turns(&names, bed.lcores()),
            "{vip} answered {names:?}"
        );
    }
    Ok("a b a b … on IPv4 and IPv6".to_owned())
}
