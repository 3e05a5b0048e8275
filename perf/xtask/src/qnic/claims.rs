//! What must hold on the emulated card, one function each, in order, on one guest for each kind of wires.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::bed::{Bed, Wires, count_large_frames};
use super::card;
use super::guest::QUICK;
use super::machine::{CARDS, CPUS};
use super::settings::VLANS;
use crate::e2e::appliance::{NEVER, rows};
use crate::e2e::data::{self, Sample};
use crate::e2e::frames::arp_request;
use crate::e2e::peers::curl::{self, Download};
use crate::e2e::plan::{self, FRONT};
use crate::interrupt;

/// A claim and how to test it.
pub(super) struct Claim {
    pub(super) name: &'static str,
    /// What it returns is printed beside its name.
    pub(super) test: fn(&mut Bed) -> Result<String>,
}

const PLAIN: &[Claim] = &[
    Claim {
        name: "card_computes_checksums_and_cuts_segments",
        test: offloads_are_in_force,
    },
    Claim {
        name: "small_answers_are_right",
        test: small_answers,
    },
    Claim {
        name: "transfers_arrive_intact",
        test: transfers,
    },
    Claim {
        name: "parallel_transfers_arrive_intact",
        test: parallel_transfers,
    },
    Claim {
        name: "large_frames_leave_whole",
        test: large_frames,
    },
    Claim {
        name: "card_delivers_to_the_owners_of_flows",
        test: delivered_as_predicted,
    },
    Claim {
        name: "no_promise_is_broken",
        test: promises,
    },
];

const TRUNKS: &[Claim] = &[
    Claim {
        name: "card_inserts_and_strips_tags",
        test: tags_are_the_cards_work,
    },
    Claim {
        name: "small_answers_are_right",
        test: small_answers,
    },
    Claim {
        name: "transfers_arrive_intact",
        test: transfers,
    },
    Claim {
        name: "card_delivers_to_the_owners_of_flows",
        test: delivered_as_predicted,
    },
    Claim {
        name: "strays_of_other_vlans_are_counted",
        test: strays,
    },
    Claim {
        name: "no_promise_is_broken",
        test: promises,
    },
];

/// The claims for these wires.
pub(super) fn of(wires: Wires) -> &'static [Claim] {
    match wires {
        Wires::Plain => PLAIN,
        Wires::Trunks => TRUNKS,
    }
}

fn offloads_are_in_force(bed: &mut Bed) -> Result<String> {
    let cards = bed.cards()?;
    ensure!(
        cards.len() == CARDS.len(),
        "{} cards: {cards:?}",
        cards.len()
    );
    let mut told = String::new();
    for card in &cards {
        ensure!(card.driver == "net_e1000_igb", "driver {}", card.driver);
        card.must_have(&[
            "rx IPV4_CKSUM",
            "rx TCP_CKSUM",
            "tx IPV4_CKSUM",
            "tx TCP_CKSUM",
            "tx TCP_TSO",
            "tx MULTI_SEGS",
        ])?;
        for queues in ["rx queues", "tx queues"] {
            let count = card.in_force(queues)?;
            ensure!(count == CPUS.to_string(), "{queues}: {count}");
        }
        let (rss, hashed) = (card.offered("rss")?, card.in_force("rss")?);
        ensure!(rss.contains("key 40 bytes, table 128"), "rss: {rss}");
        ensure!(
            hashed == "ipv4 ipv4-tcp ipv6 ipv6-tcp ipv6-tcp-ex",
            "hashed: {hashed}"
        );
        told = format!("{CPUS} queues, hashed: {hashed}");
    }
    Ok(told)
}

fn tags_are_the_cards_work(bed: &mut Bed) -> Result<String> {
    for card in bed.cards()? {
        card.must_have(&["rx VLAN_STRIP", "tx VLAN_INSERT"])?;
    }
    let ports = bed.guest.show("ports")?;
    let shown: Vec<u64> = rows(&ports)
        .filter_map(|row| row["vlan"].as_u64())
        .collect();
    ensure!(shown == VLANS.map(u64::from), "shown: {shown:?}");
    Ok(format!("VLANs {VLANS:?}"))
}

fn small_answers(bed: &mut Bed) -> Result<String> {
    const ROUNDS: u32 = 20;
    for vip in plan::VIPS {
        for _ in 0..ROUNDS {
            let name = curl::fetch(bed.client(), &plan::url(vip, "who"))?;
            ensure!(["a", "b"].contains(&name.as_str()), "`{name}` answered");
        }
    }
    Ok(format!("{ROUNDS} requests in each family"))
}

/// Small enough for an emulated CPU, large enough for every window to open.
fn sample(bed: &Bed, name: &str) -> Result<Sample> {
    let sample = data::sample(10)?;
    bed.offer(&sample, name)?;
    Ok(sample)
}

fn transfers(bed: &mut Bed) -> Result<String> {
    let sample = sample(bed, "one.bin")?;
    for vip in plan::VIPS {
        curl::download(bed.client(), &plan::url(vip, "one.bin"), &sample)
            .with_context(|| format!("through {vip}"))?;
    }
    Ok("10 MiB in each family, SHA-256 equal".to_owned())
}

fn parallel_transfers(bed: &mut Bed) -> Result<String> {
    const AT_ONCE: usize = 8;
    let sample = sample(bed, "many.bin")?;
    let urls = plan::VIPS.map(|vip| plan::url(vip, "many.bin"));
    let downloads: Vec<Download> = urls
        .iter()
        .cycle()
        .take(AT_ONCE)
        .map(|url| Download::start(bed.client(), url))
        .collect::<Result<_>>()?;
    for download in downloads {
        download.finish(&sample)?;
    }
    Ok(format!("{AT_ONCE} downloads of 10 MiB at once"))
}

/// Segmentation by the card: what it is given leaves the machine as a frame that no link carries. The client reads slowly, so
/// that there is more to send than one segment whenever its window opens; a quick one is served segment by segment.
fn large_frames(bed: &mut Bed) -> Result<String> {
    const PACE: &str = "4M";
    let sample = sample(bed, "large.bin")?;
    let url = plan::url(plan::VIPS[0], "large.bin");
    let count = count_large_frames(bed, |bed| {
        let download = Download::start_paced(bed.client(), &url, &["--limit-rate", PACE])?;
        download.finish(&sample).map(drop)
    })?;
    ensure!(count > 0, "no frame was longer than the MTU");
    Ok(format!("{count} frames longer than the MTU, SHA-256 equal"))
}

/// The hash is the card's, the prediction ours: what the self-test found at start, and what came of it since.
fn delivered_as_predicted(bed: &mut Bed) -> Result<String> {
    let log = bed.guest.run("cat /tmp/dataplane.log", QUICK)?;
    let found = card::self_tests_in(&log);
    for port in CARDS {
        let last = found.iter().rev().find(|test| test.port == port);
        let test = last.with_context(|| format!("{port} was not tested"))?;
        ensure!(test.verdict == "Proven", "{test:?}");
        ensure!(test.right == test.probes, "{test:?}");
    }
    let lcores = bed.guest.show("lcores")?;
    let received: Vec<u64> = rows(&lcores)
        .filter_map(|row| row["rx_packets"].as_u64())
        .collect();
    ensure!(received.len() == CPUS, "{received:?}");
    ensure!(received.iter().all(|count| *count > 0), "{received:?}");
    for split in [
        "millrace_rss_mispredicted_total",
        "millrace_frames_steered_total",
    ] {
        let count = bed.counter(split)?;
        ensure!(count == 0, "{split} is {count}");
    }
    let probes: u64 = found.iter().map(|test| test.right).sum();
    Ok(format!(
        "{probes} probes, then frames {received:?} by queue, none elsewhere"
    ))
}

/// Frames without the tag, with another one, and with a priority alone.
fn strays(bed: &mut Bed) -> Result<String> {
    const WRONG_VLAN: &str = "drop_wrong_vlan";
    const EACH: usize = 10;
    let before = bed.counter(WRONG_VLAN)?;
    let relay = bed.topology.relay(&FRONT).context("no trunk")?;
    let tags = [None, Some(VLANS[0] + 1), Some(0)];
    for tag in tags {
        relay.inject(&vec![arp_request(tag); EACH])?;
    }
    let wanted = (tags.len() * EACH) as u64;
    interrupt::wait_until("the strays to be counted", Duration::from_secs(30), || {
        let now = bed.counter(WRONG_VLAN);
        let grown = now
            .map_err(|error| format!("{error:#}"))?
            .saturating_sub(before);
        if grown >= wanted {
            Ok(())
        } else {
            Err(format!("{grown} of {wanted}"))
        }
    })?;
    Ok(format!("{wanted} frames"))
}

/// Counters of our own mistakes.
fn promises(bed: &mut Bed) -> Result<String> {
    for name in NEVER {
        let count = bed.counter(name)?;
        ensure!(count == 0, "{name} is {count}");
    }
    let received = bed.counter("millrace_rx_frames_total")?;
    Ok(format!(
        "{received} frames received, none copied, nothing allocated"
    ))
}
