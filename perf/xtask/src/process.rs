//! Commands with a time limit, and background processes that cannot outlive their guard.
//!
//! A background process leads its own process group, writes to a log file, and is ended by its id
//! when the guard drops: nothing is ever ended by name.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::interrupt;

/// How long a process may take to stop by itself after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(8);

/// What a finished command left.
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// Whether it said success.
    pub(crate) fn success(&self) -> bool {
        self.status.success()
    }
}

/// The command line as a person would type it.
pub(crate) fn line_of(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        let argument = argument.to_string_lossy();
        let plain = argument
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_./:=,@[]+".contains(c));
        line.push(' ');
        if plain && !argument.is_empty() {
            line.push_str(&argument);
        } else {
            line.push_str(&format!("'{}'", argument.replace('\'', "'\\''")));
        }
    }
    line
}

fn drain(stream: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            // A stream that breaks off gives what came before.
            let _ = stream.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Runs a command to its end, at most `limit` long, and hands back what it said.
pub(crate) fn finish(command: &mut Command, limit: Duration) -> Result<Finished> {
    let line = line_of(command);
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    let mut guard = Group { child };
    let stdout = drain(guard.child.stdout.take());
    let stderr = drain(guard.child.stderr.take());
    let end = Instant::now() + limit;
    let status = loop {
        if let Some(status) = guard.child.try_wait()? {
            break status;
        }
        if Instant::now() >= end {
            bail!("`{line}` did not end within {} s", limit.as_secs());
        }
        interrupt::check()?;
        std::thread::sleep(Duration::from_millis(5));
    };
    let text = |thread: std::thread::JoinHandle<String>| thread.join().unwrap_or_default();
    Ok(Finished {
        status,
        stdout: text(stdout),
        stderr: text(stderr),
    })
}

/// Like [`finish`], but a failure of the command is an error with what it said.
pub(crate) fn must(command: &mut Command, limit: Duration) -> Result<String> {
    let finished = finish(command, limit)?;
    if !finished.success() {
        let said = format!(
            "{}{}",
            finished.stderr.trim_end(),
            tail(&finished.stdout, 5)
        );
        bail!(
            "`{}` failed ({}): {said}",
            line_of(command),
            finished.status
        );
    }
    Ok(finished.stdout)
}

/// The last `count` lines, on lines of their own.
pub(crate) fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines
        .iter()
        .skip(lines.len().saturating_sub(count))
        .map(|line| format!("\n    {line}"))
        .collect()
}

/// A child that leads its own process group; dropping it ends the whole group.
struct Group {
    child: Child,
}

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // The group may be gone already, which is what we want.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }
}

/// A process that runs until its guard is dropped.
pub(crate) struct Background {
    name: String,
    log: PathBuf,
    group: Group,
}

impl Background {
    /// Starts `command` with both output streams in `folder/NAME.log` (appended).
    pub(crate) fn start(name: &str, command: &mut Command, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot open {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start `{}`", line_of(command)))?;
        Ok(Self {
            name: name.to_owned(),
            log,
            group: Group { child },
        })
    }

    /// Sends a signal to the process and its children.
    pub(crate) fn signal(&self, signal: Signal) {
        self.group.signal(signal);
    }

    /// SIGTERM, a bounded wait, then SIGKILL. The status is an error when it had to be killed.
    pub(crate) fn stop(mut self) -> Result<ExitStatus> {
        self.group.signal(Signal::TERM);
        let end = Instant::now() + STOP_LIMIT;
        while Instant::now() < end {
            if let Some(status) = self.group.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!(
            "{} did not stop within {} s of SIGTERM",
            self.name,
            STOP_LIMIT.as_secs()
        );
    }

    /// SIGKILL, at once, and reaped.
    pub(crate) fn kill(self) {
        drop(self.group);
    }

    /// Waits for it to end by itself.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.group.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= end {
                bail!("{} did not end within {} s", self.name, limit.as_secs());
            }
            interrupt::sleep(Duration::from_millis(20))?;
        }
    }

    /// An error with the end of the log when the process is gone.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        if let Some(status) = self.group.child.try_wait()? {
            bail!(
                "{} ended ({status}):{}",
                self.name,
                tail(&self.log_text(), 15)
            );
        }
        Ok(())
    }

    /// What it has written so far.
    pub(crate) fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.group.child.id()
    }
}

/// A command run inside a network namespace. `ip netns exec` replaces itself, so the id stays true.
pub(crate) fn inside(namespace: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).arg(program);
    command
}

/// `ip` with its arguments as one line of words: for the many short calls that build a topology.
pub(crate) fn ip(words: &str) -> Result<String> {
    must(
        Command::new("ip").args(words.split_whitespace()),
        Duration::from_secs(10),
    )
}

/// `ip` while cleaning up: works after an interrupt, too, when waits elsewhere already refuse.
pub(crate) fn ip_at_exit(words: &str) -> Result<String> {
    let output = Command::new("ip")
        .args(words.split_whitespace())
        .stdin(Stdio::null())
        .process_group(0)
        .output()?;
    if !output.status.success() {
        bail!(
            "`ip {words}`: {}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_past_its_limit_is_ended_and_reported() {
        let mut command = Command::new("sleep");
        let error = finish(command.arg("30"), Duration::from_millis(50))
            .err()
            .expect("an error");
        assert!(error.to_string().contains("`sleep 30` did not end"));
    }

    #[test]
    fn a_background_process_ends_with_its_guard() {
        let folder = std::env::temp_dir();
        let name = format!("xtask-guard-{}", std::process::id());
        let guard =
            Background::start(&name, Command::new("sleep").arg("30"), &folder).expect("starts");
        let proc = PathBuf::from(format!("/proc/{}", guard.id()));
        assert!(proc.exists());
        drop(guard);
        assert!(!proc.exists());
        let _ = std::fs::remove_file(folder.join(format!("{name}.log")));
    }

    #[test]
    fn a_printed_command_line_can_be_pasted() {
        let mut command = Command::new("curl");
        command.args(["-H", "Connection: close", "http://[fd00:8::1]/"]);
        assert_eq!(
            line_of(&command),
            "curl -H 'Connection: close' http://[fd00:8::1]/"
        );
    }
}
