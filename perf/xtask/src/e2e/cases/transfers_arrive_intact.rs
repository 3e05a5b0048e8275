//! Big files through the balancer, both ways: SHA-256 equal.

use std::net::IpAddr;

use anyhow::Result;

use super::super::{Bed, Case, data, plan};

pub(super) const CASE: Case = Case {
    name: "large_transfers_arrive_intact",
    devices: super::AF_PACKET,
    needs_millrace: false,
    wanted: super::plain,
    test: |bed| {
        both_ways(bed, IpAddr::V4(plan::VIP4), 1024)?;
        both_ways(bed, IpAddr::V6(plan::VIP6), 200)?;
        Ok("1 GiB down and up on IPv4, 200 MiB on IPv6".to_owned())
    },
};

pub(super) const BRIEF: Case = Case {
    name: "transfers_arrive_intact",
    devices: super::OTHERS,
    needs_millrace: false,
    wanted: super::plain,
    test: |bed| {
        both_ways(bed, IpAddr::V4(plan::VIP4), 200)?;
        both_ways(bed, IpAddr::V6(plan::VIP6), 50)?;
        Ok("200 MiB down and up on IPv4, 50 MiB on IPv6".to_owned())
    },
};

fn both_ways(bed: &mut Bed, vip: IpAddr, mebibytes: u64) -> Result<()> {
    let sample = data::sample(mebibytes)?;
    let name = format!("{mebibytes}.bin");
    bed.offer(&sample, &name)?;
    bed.download(vip, &name, &sample)?;
    bed.upload(vip, &name, &sample)
}
