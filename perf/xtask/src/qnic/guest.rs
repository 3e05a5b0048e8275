//! A running guest and its shell: one command, its output, its exit status.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::machine::Machine;
use crate::interrupt;
use crate::process::{self, Background, tail};

/// A kernel under emulation starts in 5 seconds; on a machine with eight times the work it can do, in two minutes.
const BOOT_LIMIT: Duration = Duration::from_secs(150);
/// What a command may take that only looks.
pub(super) const QUICK: Duration = Duration::from_secs(60);
/// Between two looks at the interrupt flag.
const TICK: Duration = Duration::from_millis(200);

/// The guest did not come to its first word: nothing of Millrace has run yet.
#[derive(Debug)]
pub(super) struct NotBooted(String);

impl fmt::Display for NotBooted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for NotBooted {}

/// A guest. Dropping it ends QEMU.
pub(super) struct Guest {
    process: Background,
    shell: UnixStream,
    heard: Vec<u8>,
}

impl Guest {
    /// Starts QEMU in `namespace`, where its taps appear, and waits for the guest's shell.
    pub(super) fn start(machine: &Machine<'_>, namespace: &str, logs: &Path) -> Result<Self> {
        let mut command = process::inside(namespace, "qemu-system-x86_64");
        command.args(machine.arguments());
        let mut process = Background::start("qemu", &mut command, logs)?;
        let mut shell = None;
        interrupt::wait_until("QEMU", QUICK, || {
            process
                .check_alive()
                .map_err(|error| format!("{error:#}"))?;
            shell = UnixStream::connect(&machine.shell).ok();
            shell.as_ref().map(|_| ()).ok_or("no socket yet".to_owned())
        })?;
        let shell = shell.context("no socket")?;
        shell.set_read_timeout(Some(TICK))?;
        let mut guest = Self {
            process,
            shell,
            heard: Vec::new(),
        };
        let up = guest.line(Instant::now() + BOOT_LIMIT);
        let console = || std::fs::read_to_string(&machine.console).unwrap_or_default();
        match up.as_deref() {
            Ok("@@up") => Ok(guest),
            Ok(other) => bail!("the guest began with `{other}`"),
            Err(error) => {
                // An interrupt of the operator is no fault of the guest's.
                interrupt::check()?;
                let said = tail(&console(), 15);
                Err(NotBooted(format!("{error:#}; its console:{said}")).into())
            }
        }
    }

    /// Runs a command to its end; a status other than 0 is an error with what it said.
    pub(super) fn run(&mut self, command: &str, limit: Duration) -> Result<String> {
        self.shell
            .write_all(format!("{command}\n").as_bytes())
            .context("the guest is gone")?;
        let end = Instant::now() + limit;
        let mut said = String::new();
        let status = loop {
            let line = self.line(end).with_context(|| {
                format!("`{command}` in the guest, which said:{}", tail(&said, 15))
            })?;
            if let Some(status) = line.strip_prefix("@@") {
                break status.to_owned();
            }
            said.push_str(&line);
            said.push('\n');
        };
        if status != "0" {
            bail!(
                "`{command}` in the guest: status {status}:{}",
                tail(&said, 25)
            );
        }
        Ok(said)
    }

    /// `millrace show WHAT --json`, parsed.
    pub(super) fn show(&mut self, what: &str) -> Result<Value> {
        let said = self.run(&format!("millrace show {what} --json"), QUICK)?;
        serde_json::from_str(&said).with_context(|| format!("not JSON: {said}"))
    }

    /// An error when QEMU is gone.
    pub(super) fn check_alive(&mut self) -> Result<()> {
        self.process.check_alive()
    }

    /// The next line, without its end.
    fn line(&mut self, end: Instant) -> Result<String> {
        let mut block = [0; 4096];
        loop {
            if let Some(at) = self.heard.iter().position(|byte| *byte == b'\n') {
                let rest = self.heard.split_off(at + 1);
                let line = std::mem::replace(&mut self.heard, rest);
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            interrupt::check()?;
            if Instant::now() >= end {
                bail!("the guest is silent");
            }
            match self.shell.read(&mut block) {
                Ok(0) => bail!("the guest is gone"),
                Ok(count) => self.heard.extend_from_slice(&block[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("the guest's shell"),
            }
        }
    }
}
