//! Millrace in the lb namespace: its configuration file, its two processes, its command line.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::config_file::{Settings, file_prefix};
use super::plan::{BACK, FRONT};
use super::topology::Topology;
use crate::binaries::Binaries;
use crate::interrupt;
use crate::machine;
use crate::process::{self, Background, Finished};
use crate::setup::hugepages;

/// EAL start, device start, first snapshot: seconds at most, on a machine that is also compiling.
const READY_LIMIT: Duration = Duration::from_secs(40);
/// One call of the command line.
const CLI_LIMIT: Duration = Duration::from_secs(15);

/// Payload that was copied.
const COPIED: &str = "payload_copied_bytes";

/// Counters that stay 0 as long as the design holds: a spliced byte is never copied, nothing is allocated on the
/// packet path, and no invariant breaks.
pub(crate) const NEVER: [&str; 3] = [
    COPIED,
    "millrace_heap_allocations_after_boot_total",
    "drop_bug",
];

/// Both processes and how to talk to them.
pub(crate) struct Millrace {
    binaries: Binaries,
    pub(crate) settings: Settings,
    config: PathBuf,
    logs: PathBuf,
    namespace: String,
    /// `None` runs control outside: its metrics address is then the machine's own.
    control_namespace: Option<String>,
    dataplane: Option<Background>,
    control: Option<Background>,
}

impl Millrace {
    /// Writes the configuration and starts both processes. Backends need not be up yet.
    pub(crate) fn launch(
        binaries: &Binaries,
        settings: Settings,
        topology: &Topology,
        logs: &Path,
    ) -> Result<Self> {
        let config = logs.join("millrace.toml");
        std::fs::write(&config, settings.text()).context("cannot write millrace.toml")?;
        let mut millrace = Self::prepare(binaries, settings, &config, topology, logs);
        millrace.control_namespace = Some(topology.lb.clone());
        millrace.boot(topology)?;
        Ok(millrace)
    }

    /// The same with a configuration file that exists, and control outside of the namespaces.
    pub(crate) fn launch_from_file(
        binaries: &Binaries,
        settings: Settings,
        config: &Path,
        topology: &Topology,
        logs: &Path,
    ) -> Result<Self> {
        let mut millrace = Self::prepare(binaries, settings, config, topology, logs);
        millrace.boot(topology)?;
        Ok(millrace)
    }

    fn prepare(
        binaries: &Binaries,
        settings: Settings,
        config: &Path,
        topology: &Topology,
        logs: &Path,
    ) -> Self {
        Self {
            binaries: binaries.clone(),
            settings,
            config: config.to_path_buf(),
            logs: logs.to_path_buf(),
            namespace: topology.lb.clone(),
            control_namespace: None,
            dataplane: None,
            control: None,
        }
    }

    fn boot(&mut self, topology: &Topology) -> Result<()> {
        self.start_dataplane()?;
        for side in [&FRONT, &BACK] {
            if let Some(tap) = self.settings.device.tap_of(side) {
                topology.adopt_tap(side, &tap)?;
            }
        }
        self.start_control()
    }

    fn start_dataplane(&mut self) -> Result<()> {
        let mut ask = std::process::Command::new(&self.binaries.cli);
        ask.arg("dataplane-args").arg("--config").arg(&self.config);
        let arguments = process::must(&mut ask, CLI_LIMIT)?;
        let mut command = machine::inside_unpinned(&self.namespace, &self.binaries.dataplane);
        command.args(arguments.lines());
        let mut dataplane = Background::start("dataplane", &mut command, &self.logs)?;
        let region = self.settings.runtime.join("region");
        interrupt::wait_until("the dataplane's region file", READY_LIMIT, || {
            dataplane
                .check_alive()
                .map_err(|error| format!("{error:#}"))?;
            if region.exists() {
                Ok(())
            } else {
                Err(format!("{} is missing", region.display()))
            }
        })?;
        self.dataplane = Some(dataplane);
        Ok(())
    }

    /// Starts (or starts again) the control process.
    pub(crate) fn start_control(&mut self) -> Result<()> {
        let mut command = match &self.control_namespace {
            Some(namespace) => process::inside(namespace, &self.binaries.control),
            None => std::process::Command::new(&self.binaries.control),
        };
        command.arg("--config").arg(&self.config);
        self.control = Some(Background::start("control", &mut command, &self.logs)?);
        Ok(())
    }

    /// kill -9.
    pub(crate) fn kill_control(&mut self) {
        if let Some(control) = self.control.take() {
            control.kill();
        }
    }

    /// Waits until `show listeners` answers and every checked backend is up.
    pub(crate) fn wait_until_ready(&mut self) -> Result<()> {
        // A backend is up until its first check says otherwise: the neighbour's first answer may be late.
        let checked = self.settings.checked_backend_count();
        interrupt::wait_until("the first checks", READY_LIMIT, || {
            self.check_alive().map_err(|error| format!("{error:#}"))?;
            let backends = self
                .show("backends")
                .map_err(|error| format!("{error:#}"))?;
            let found = rows(&backends).filter(|row| row["last_check"] == *"connected");
            if found.count() < checked {
                return Err(format!("fewer than {checked}: {backends}"));
            }
            Ok(())
        })?;
        let wanted = self.settings.backend_count();
        self.wait_for_backends("up", wanted)
    }

    /// Waits until exactly `count` backends are in `state`.
    pub(crate) fn wait_for_backends(&mut self, state: &str, count: usize) -> Result<()> {
        let what = format!("{count} backends {state}");
        interrupt::wait_until(&what, READY_LIMIT, || {
            self.check_alive().map_err(|error| format!("{error:#}"))?;
            self.show("listeners")
                .map_err(|error| format!("{error:#}"))?;
            let backends = self
                .show("backends")
                .map_err(|error| format!("{error:#}"))?;
            let found = rows(&backends).filter(|row| row["state"] == *state).count();
            if found != count {
                return Err(format!("{found} are: {backends}"));
            }
            // What control knows is not yet what each lcore does.
            let status = self
                .ask(&["status", "--json"])
                .map_err(|error| format!("{error:#}"))?;
            match status["adopted"].as_bool() {
                Some(true) => Ok(()),
                _ => Err(format!("not all lcores know: {status}")),
            }
        })
    }

    /// An error with the end of its log when a process that should run does not.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        for process in [&mut self.dataplane, &mut self.control]
            .into_iter()
            .flatten()
        {
            process.check_alive()?;
        }
        Ok(())
    }

    /// One call of `millrace`.
    pub(crate) fn cli(&self, words: &[&str]) -> Result<Finished> {
        let mut command = std::process::Command::new(&self.binaries.cli);
        command
            .args(words)
            .arg("--runtime-dir")
            .arg(&self.settings.runtime);
        process::finish(&mut command, CLI_LIMIT)
    }

    /// `millrace check` of the configuration file.
    pub(crate) fn check(&self) -> Result<Finished> {
        let mut command = std::process::Command::new(&self.binaries.cli);
        process::finish(command.arg("check").arg(&self.config), CLI_LIMIT)
    }

    /// `millrace show WHAT --json`, parsed.
    pub(crate) fn show(&self, what: &str) -> Result<Value> {
        self.ask(&["show", what, "--json"])
    }

    /// What a command that prints JSON says.
    fn ask(&self, words: &[&str]) -> Result<Value> {
        let finished = self.cli(words)?;
        let words = words.join(" ");
        if !finished.success() {
            bail!("`millrace {words}` failed: {}", finished.stderr.trim_end());
        }
        serde_json::from_str(&finished.stdout)
            .with_context(|| format!("`millrace {words}` is not JSON: {}", finished.stdout))
    }

    /// A counter of the dataplane, summed over the lcores.
    pub(crate) fn counter(&self, name: &str) -> Result<u64> {
        let counters = self.show("counters")?;
        let row = rows(&counters).find(|row| row["name"] == *name);
        let total = row.and_then(|row| row["total"].as_u64());
        total.with_context(|| format!("there is no counter {name}"))
    }

    /// What must hold whatever happened: the counters that count our own mistakes are 0. A device that takes
    /// no chains has its resends copied while it still holds what was sent first, and nothing else.
    pub(crate) fn check_promises(&self) -> Result<()> {
        for name in NEVER {
            let count = self.counter(name)?;
            let allowed = match name {
                COPIED if !self.settings.device.takes_chains() => {
                    let mtu = self.settings.mtu.iter().max().copied().unwrap_or_default();
                    self.counter("TcpRetransSegs")? * u64::from(mtu)
                }
                _ => 0,
            };
            ensure!(count <= allowed, "{name} is {count}, of {allowed} at most");
        }
        Ok(())
    }

    /// The metrics page.
    pub(crate) fn metrics(&self) -> Result<String> {
        let url = format!("http://{}/metrics", self.metrics_address());
        let mut command = match &self.control_namespace {
            Some(namespace) => process::inside(namespace, "curl"),
            None => std::process::Command::new("curl"),
        };
        process::must(
            command.args(["-sS", "--fail", "--max-time", "10", &url]),
            CLI_LIMIT,
        )
    }

    /// Where the metrics are.
    pub(crate) fn metrics_address(&self) -> SocketAddr {
        self.settings.metrics
    }

    /// Replaces the configuration file; [`Self::reload`] makes it effective.
    pub(crate) fn write_config(&self, text: &str) -> Result<()> {
        std::fs::write(&self.config, text).context("cannot write millrace.toml")
    }

    /// `millrace reload`.
    pub(crate) fn reload(&self) -> Result<Finished> {
        self.cli(&["reload"])
    }

    /// What a second life needs.
    pub(crate) fn recipe(&self) -> (Binaries, Settings) {
        (self.binaries.clone(), self.settings.clone())
    }

    /// SIGTERM to both, control first; what the dataplane said at its end.
    pub(crate) fn stop(mut self) -> Result<ExitStatus> {
        if let Some(control) = self.control.take() {
            control.stop()?;
        }
        self.dataplane
            .take()
            .context("the dataplane does not run")?
            .stop()
    }
}

impl Drop for Millrace {
    fn drop(&mut self) {
        // The guards end the processes with -9; only a capturing dataplane leaves files then.
        self.control = None;
        self.dataplane = None;
        hugepages::release_files_of(&file_prefix());
    }
}

/// The rows of an answer: the answer itself when it is an array, or the first array in it.
pub(crate) fn rows(answer: &Value) -> impl Iterator<Item = &Value> {
    let array = match answer {
        Value::Array(rows) => Some(rows),
        Value::Object(fields) => fields.values().find_map(Value::as_array),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    };
    array.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_bare_or_wrapped() {
        let bare: Value = serde_json::json!([{ "state": "up" }]);
        let wrapped = serde_json::json!({ "version": 1, "backends": [{ "state": "up" }, {}] });
        assert_eq!(rows(&bare).count(), 1);
        assert_eq!(rows(&wrapped).count(), 2);
    }
}
