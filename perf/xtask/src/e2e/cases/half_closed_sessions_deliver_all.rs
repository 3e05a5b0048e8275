//! A client that sends, closes its sending side, and then reads 50 MB gets all of it.

use anyhow::{Context, Result};

use super::super::{Bed, Case, plan};

pub(super) const CASE: Case = Case {
    name: "half_closed_sessions_deliver_all",
    devices: &[super::Device::AfPacket, super::Device::Tap],
    needs_millrace: false,
    wanted: super::plain,
    test,
};

fn test(bed: &mut Bed) -> Result<String> {
    let mut said = String::new();
    for vip in plan::VIPS {
        said = bed
            .half_close(vip, 10, 50)
            .with_context(|| vip.to_string())?;
        // Nothing sent before the FIN but the request line: data and FIN arrive together.
        bed.half_close(vip, 0, 1).with_context(|| vip.to_string())?;
    }
    Ok(said)
}
