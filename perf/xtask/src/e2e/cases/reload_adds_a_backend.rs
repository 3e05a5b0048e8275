//! A reload adds a backend to a pool that serves; a transfer in progress does not notice.

use anyhow::{Result, ensure};

use super::super::bed::Wanted;
use super::super::config_file::Settings;
use super::super::peers::curl::{self, Download};
use super::super::{Bed, Case, data, plan};

pub(super) const CASE: Case = Case {
    name: "reload_adds_a_backend",
    devices: super::AF_PACKET,
    needs_millrace: true,
    wanted: || Wanted {
        change: one_server,
        ..Wanted::default()
    },
    test,
};

fn one_server(settings: &mut Settings) {
    for service in &mut settings.services {
        service.servers = 1;
    }
}

fn test(bed: &mut Bed) -> Result<String> {
    let vip = plan::VIPS[0];
    let who = plan::url(vip, "who");
    let sample = data::sample(50)?;
    bed.offer(&sample, "during.bin")?;
    for _ in 0..4 {
        let answer = curl::fetch(bed.client(), &who)?;
        ensure!(answer == "a", "{answer} answered, and only a is configured");
    }
    let transfer = Download::start_paced(
        bed.client(),
        &plan::url(vip, "during.bin"),
        &["--limit-rate", "10M"],
    )?;
    let millrace = bed.millrace()?;
    millrace.settings.services = plan::services();
    let text = millrace.settings.text();
    millrace.write_config(&text)?;
    let reloaded = millrace.reload()?;
    ensure!(
        reloaded.success(),
        "reload: {}{}",
        reloaded.stdout,
        reloaded.stderr
    );
    millrace.wait_until_ready()?;
    let answers = (0..6)
        .map(|_| curl::fetch(bed.client(), &who))
        .collect::<Result<Vec<_>>>()?;
    ensure!(
        ["a", "b"]
            .iter()
            .all(|name| answers.iter().any(|answer| answer == name)),
        "{answers:?}"
    );
    ensure!(
        transfer.is_running(),
        "the transfer ended before the reload was over"
    );
    transfer.finish(&sample)?;
    Ok("a, then a and b; the transfer beside it is intact".to_owned())
}
