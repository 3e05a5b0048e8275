//! The client leg runs what its listener says and the backend leg what its pool says; a reload is for
//! those who come later, and nobody's bytes suffer.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::super::appliance::rows;
use super::super::bed::Wanted;
use super::super::config_file::Settings;
use super::super::peers::curl::Download;
use super::super::{Bed, Case, data, plan};

pub(super) const CASE: Case = Case {
    name: "each_leg_runs_its_congestion_control",
    devices: super::AF_PACKET,
    needs_millrace: true,
    wanted: || Wanted {
        change: choose,
        ..Wanted::default()
    },
    test,
};

/// Of the clients' legs and of the backends', before the reload; behind it they are exchanged.
const LEGS: [&str; 2] = ["reno", "cubic"];

fn choose(settings: &mut Settings) {
    settings.congestion = LEGS.map(Some);
}

fn test(bed: &mut Bed) -> Result<String> {
    let vip = IpAddr::V4(plan::VIP4);
    let sample = data::sample(20)?;
    bed.offer(&sample, "legs.bin")?;
    let slowly = &["--limit-rate", "4M"];
    let url = plan::url(vip, "legs.bin");
    let before = Download::start_paced(bed.client(), &url, slowly)?;
    expect(bed, &[LEGS])?;
    let [clients, backends] = LEGS;
    let exchanged = [backends, clients];
    let millrace = bed.millrace()?;
    millrace.settings.congestion = exchanged.map(Some);
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
    let after = Download::start_paced(bed.client(), &url, slowly)?;
    expect(bed, &[LEGS, exchanged])?;
    ensure!(before.is_running(), "the first transfer was too short");
    before.finish(&sample)?;
    after.finish(&sample)?;
    Ok(format!(
        "{clients} to clients and {backends} to backends, and the other way round for those behind a reload"
    ))
}

/// Waits until the sessions that are open run these, in any order.
fn expect(bed: &mut Bed, wanted: &[[&str; 2]]) -> Result<()> {
    let millrace = bed.millrace()?;
    crate::interrupt::wait_until("the sessions", READY_LIMIT, || {
        let listed = millrace.show("connections");
        let listed = listed.map_err(|error| format!("{error:#}"))?;
        let word = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let legs = |row: &Value| {
            [
                word(row, "client_congestion"),
                word(row, "backend_congestion"),
            ]
        };
        let found: Vec<_> = rows(&listed).map(legs).collect();
        let is_there = |legs: &[&str; 2]| found.iter().any(|found| found == legs);
        if found.len() == wanted.len() && wanted.iter().all(is_there) {
            return Ok(());
        }
        Err(format!("they are {listed}"))
    })
}

/// A session is listed as soon as its lcore has answered.
const READY_LIMIT: std::time::Duration = std::time::Duration::from_secs(10);
