//! `millrace-load` against kernel TCP, on a wire of its own: nginx answers the client, curl asks the sink.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::super::{Bed, Case, plan};
use crate::binaries;
use crate::interrupt;
use crate::process::{self, Background, ip};

pub(super) const CASE: Case = Case {
    name: "load_generator_talks_to_kernels",
    devices: super::AF_PACKET,
    needs_millrace: false,
    wanted: super::plain,
    test,
};

/// The generator's end of the wire, in the lb namespace, and the kernel's, where the servers are.
const NEAR: &str = "g0";
const FAR: &str = "g1";
const OURS: [&str; 2] = ["10.10.0.2", "fd00:10::2"];
const THEIRS: [&str; 2] = ["10.10.0.1", "fd00:10::1"];
/// Not the address of `NEAR`: the kernel beneath must ignore our frames.
const MAC: &str = "02:4d:52:00:03:0a";
/// Bytes that curl asks the sink for.
const BYTES: u64 = 3_000_000;
/// How long one run may take; it is told to measure for two seconds.
const LIMIT: Duration = Duration::from_secs(30);

fn test(bed: &mut Bed) -> Result<String> {
    let program = binaries::build_load()?;
    lay_wire(bed)?;
    let mut said = Vec::new();
    for workload in [
        &["connections", "--rate", "100"][..],
        &["requests", "--rate", "200"][..],
    ] {
        let report = bed.folder().join(format!("load-{}.json", workload[0]));
        let mut client = generator(bed, &program, "client");
        for server in [plan::SERVERS4[0], plan::SERVERS6[0]] {
            let target = std::net::SocketAddr::new(server, plan::WEB_PORT);
            client.args(["--target", &target.to_string()]);
        }
        client
            .args(["--path", "/r", "--seconds", "2", "--json"])
            .arg(&report);
        process::must(client.args(workload), LIMIT)?;
        said.push(check(&report)?);
    }
    answer_curl(bed, &program)?;
    Ok(said.join(", "))
}

fn lay_wire(bed: &Bed) -> Result<()> {
    let (lb, servers) = (&bed.topology.lb, &bed.topology.servers);
    ip(&format!(
        "link add {NEAR} netns {lb} type veth peer name {FAR} netns {servers}"
    ))?;
    ip(&format!("-n {lb} link set {NEAR} up"))?;
    ip(&format!("-n {servers} link set {FAR} up"))?;
    ip(&format!("-n {servers} addr add {}/24 dev {FAR}", THEIRS[0]))?;
    ip(&format!(
        "-n {servers} addr add {}/64 dev {FAR} nodad",
        THEIRS[1]
    ))?;
    let mut offloads = process::inside(servers, "ethtool");
    offloads.args([
        "-K", FAR, "tx", "off", "tso", "off", "gso", "off", "gro", "off",
    ]);
    process::must(&mut offloads, Duration::from_secs(10)).map(drop)
}

/// One end of ours: ordinary pages, one CPU, which it gives away when there is nothing to do.
fn generator(bed: &Bed, program: &Path, role: &str) -> Command {
    let mut command = process::inside(&bed.topology.lb, program);
    let port = format!("net_af_packet0,iface={NEAR},blocksz=4096,framesz=2048,framecnt=2048");
    command.args([role, "--port", &port, "--mac", MAC, "--idle", "sleep"]);
    command.args([
        "--lcores",
        "0@0,1@0",
        "--no-huge",
        "-m",
        "128",
        "--nb-mbufs",
        "8191",
    ]);
    command.arg("--eal-arg=--no-telemetry");
    command.arg(format!("--address={}/24", OURS[0]));
    command.arg(format!("--address={}/64", OURS[1]));
    if role == "client" {
        // The servers' own addresses are behind the kernel.
        command.args(THEIRS.map(|gateway| format!("--gateway={gateway}")));
        // How fast two busy CPUs schedule is not the claim.
        command.args(["--late-ms", "5000"]);
    }
    command
}

/// Everything asked was answered, and nothing went wrong on the way.
fn check(report: &Path) -> Result<String> {
    let text = std::fs::read(report).with_context(|| report.display().to_string())?;
    let report: serde_json::Value = serde_json::from_slice(&text)?;
    let whole = &report["summary"]["whole"];
    let count = |name: &str| {
        whole[name]
            .as_u64()
            .with_context(|| format!("no count {name}"))
    };
    let errors = [
        "refused",
        "resets",
        "timeouts",
        "unreachable",
        "early_closes",
        "bad_answers",
    ];
    for name in errors {
        ensure!(count(name)? == 0, "{name}: {whole}");
    }
    ensure!(count("operations")? > 0, "no operation: {whole}");
    ensure!(count("requests")? == count("responses")?, "{whole}");
    ensure!(
        count("opened")? > 0 && count("stack_drops")? == 0,
        "{whole}"
    );
    Ok(format!("{} operations", count("operations")?))
}

fn answer_curl(bed: &Bed, program: &Path) -> Result<()> {
    let mut sink = generator(bed, program, "sink");
    let mut sink = Background::start("load-sink", &mut sink, bed.folder())?;
    let body: PathBuf = bed.folder().join("sink-body");
    for host in [OURS[0].to_owned(), format!("[{}]", OURS[1])] {
        let url = format!("http://{host}/bytes/{BYTES}");
        let curl = |url: &str| {
            let mut curl = process::inside(&bed.topology.servers, "curl");
            curl.args(["-gsS", "--fail", "--max-time", "10", "-o"]);
            curl.arg(&body).arg(url);
            process::finish(&mut curl, Duration::from_secs(15))
        };
        interrupt::wait_until("the sink", Duration::from_secs(20), || {
            sink.check_alive().map_err(|error| format!("{error:#}"))?;
            match curl(&url) {
                Ok(finished) if finished.success() => Ok(()),
                Ok(finished) => Err(finished.stderr),
                Err(error) => Err(format!("{error:#}")),
            }
        })?;
        let arrived = std::fs::metadata(&body)?.len();
        ensure!(arrived == BYTES, "{url}: {arrived} bytes");
    }
    let status = sink.stop()?;
    ensure!(status.success(), "the sink ended with {status}");
    Ok(())
}
