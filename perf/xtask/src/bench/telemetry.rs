//! A client of DPDK's telemetry socket: how many packets a port of another process has received.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fd::OwnedFd;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketType, connect, recv, send, socket,
};
use serde_json::Value;

/// Longer than any answer that is asked for here.
const ANSWER_BYTES: usize = 16 << 10;
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// A connection to one DPDK process.
pub(super) struct Telemetry(OwnedFd);

impl Telemetry {
    /// Connects to the process of that `--file-prefix`; an error while it is not up.
    pub(super) fn connect(file_prefix: &str) -> Result<Self> {
        let socket = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_LIMIT))?;
        let path = folder(file_prefix).join("dpdk_telemetry.v2");
        connect(&socket, &SocketAddrUnix::new(&path)?)
            .with_context(|| format!("no telemetry at {}", path.display()))?;
        let telemetry = Self(socket);
        // It introduces itself.
        telemetry.read()?;
        Ok(telemetry)
    }

    /// Packets that a port has received since it started.
    pub(super) fn received(&self, port: u16) -> Result<u64> {
        let question = format!("/ethdev/stats,{port}");
        send(&self.0, question.as_bytes(), SendFlags::empty())?;
        let answer = self.read()?;
        answer["/ethdev/stats"]["ipackets"]
            .as_u64()
            .with_context(|| format!("{question}: {answer}"))
    }

    fn read(&self) -> Result<Value> {
        let mut answer = vec![0u8; ANSWER_BYTES];
        let (length, _) = recv(&self.0, &mut answer[..], RecvFlags::empty())?;
        let said = answer.get(..length).unwrap_or_default();
        serde_json::from_slice(said).context("telemetry does not speak JSON")
    }
}

/// Where a DPDK process of root keeps its run-time files.
pub(super) fn folder(file_prefix: &str) -> PathBuf {
    PathBuf::from("/var/run/dpdk").join(file_prefix)
}
