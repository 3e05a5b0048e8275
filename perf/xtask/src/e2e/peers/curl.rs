//! curl in the client's namespace.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::super::data::{self, Sample};
use crate::process;

/// A gigabyte at the pace of a busy two-core machine, with a wide margin: a limit, not a claim about speed.
pub(crate) const TRANSFER_LIMIT: Duration = Duration::from_secs(240);

/// The body of one small answer.
pub(crate) fn fetch(namespace: &str, url: &str) -> Result<String> {
    let mut curl = process::inside(namespace, "curl");
    curl.args(["-sS", "-g", "--fail", "--max-time", "10", url]);
    process::must(&mut curl, Duration::from_secs(15)).map(|body| body.trim_end().to_owned())
}

/// Downloads and compares length and SHA-256; hands back the latter.
pub(crate) fn download(namespace: &str, url: &str, sample: &Sample) -> Result<String> {
    Download::start(namespace, url)?.finish(sample)
}

/// A download in progress: hashed on another thread while something else happens.
pub(crate) struct Download {
    hashing: std::thread::JoinHandle<Result<(u64, String)>>,
}

impl Download {
    /// Starts curl; its output is hashed as it comes.
    pub(crate) fn start(namespace: &str, url: &str) -> Result<Self> {
        Self::start_paced(namespace, url, &[])
    }

    /// The same with further arguments, for example `--limit-rate`.
    pub(crate) fn start_paced(namespace: &str, url: &str, arguments: &[&str]) -> Result<Self> {
        let mut curl = process::inside(namespace, "curl");
        curl.args([
            "-sS",
            "-g",
            "--fail",
            "--max-time",
            &TRANSFER_LIMIT.as_secs().to_string(),
        ]);
        curl.args(arguments).arg(url);
        let mut child = curl.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("curl has no output")?;
        let hashing = std::thread::spawn(move || {
            let digest = data::digest_of(stdout);
            // --max-time bounds this wait.
            let status = child.wait()?;
            ensure!(status.success(), "curl ended with {status}");
            digest
        });
        Ok(Self { hashing })
    }

    /// Whether curl still runs.
    pub(crate) fn is_running(&self) -> bool {
        !self.hashing.is_finished()
    }

    /// Waits, and compares length and SHA-256 with what was offered.
    pub(crate) fn finish(self, sample: &Sample) -> Result<String> {
        let joined = self.hashing.join();
        let Ok(digest) = joined else {
            bail!("the hashing thread died")
        };
        let (bytes, sha256) = digest?;
        ensure!(
            bytes == sample.bytes,
            "got {bytes} of {} bytes",
            sample.bytes
        );
        ensure!(
            sha256 == sample.sha256,
            "SHA-256 differs: {sha256} is not {}",
            sample.sha256
        );
        Ok(sha256)
    }
}

/// `PUT`s a file. The caller compares what arrived.
pub(crate) fn upload(namespace: &str, url: &str, sample: &Sample) -> Result<()> {
    let mut curl = process::inside(namespace, "curl");
    curl.args([
        "-sS",
        "-g",
        "--fail",
        "--max-time",
        &TRANSFER_LIMIT.as_secs().to_string(),
        "-T",
    ]);
    curl.arg(&sample.path).arg(url);
    process::must(&mut curl, TRANSFER_LIMIT + Duration::from_secs(5)).map(drop)
}

/// What a series of requests came to: HTTP codes with their counts (`000` = no answer).
pub(crate) fn codes(
    namespace: &str,
    arguments: &[&str],
    limit: Duration,
) -> Result<BTreeMap<String, u32>> {
    let mut curl = process::inside(namespace, "curl");
    // Each request on its own connection; the glob in the URL makes the series.
    curl.args([
        "-s",
        "-o",
        "/dev/null",
        "-H",
        "Connection: close",
        "--max-time",
    ]);
    curl.arg(limit.as_secs().to_string())
        .args(["-w", "%{http_code}\n"])
        .args(arguments);
    let finished = process::finish(&mut curl, limit + Duration::from_secs(10))?;
    let mut counts = BTreeMap::new();
    for code in finished.stdout.lines() {
        *counts.entry(code.to_owned()).or_insert(0) += 1;
    }
    Ok(counts)
}
