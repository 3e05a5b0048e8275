//! The control socket: JSON lines in, JSON lines out. Requests are answered by `control`; here are
//! framing and bounds.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use millrace_api::{
    Failure, FailureKind, Outcome, REQUEST_BYTES_MAX, Request, RequestEnvelope, ResponseEnvelope,
};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

/// Clients at one time; more wait in the accept queue.
const CLIENTS_MAX: usize = 32;
/// How long a client may be silent between requests, and how long it may take to read an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Requests that may wait for control.
pub(crate) const MESSAGES_MAX: usize = 64;

/// What the servers ask of control.
pub(crate) enum Message {
    /// A request from the control socket.
    Request(Request, oneshot::Sender<Outcome>),
    /// The page for `/metrics`.
    Scrape(oneshot::Sender<prometheus::Result<Vec<u8>>>),
    /// What is wrong, for `/healthz`.
    Health(oneshot::Sender<Vec<String>>),
}

/// Listens at `path`. A socket that a dead control left behind is replaced; one that answers is
/// not.
pub(crate) fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => bail!("another control listens at {}", path.display()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(_) => std::fs::remove_file(path)
            .with_context(|| format!("cannot replace the stale socket {}", path.display()))?,
    }
    let listener =
        UnixListener::bind(path).with_context(|| format!("cannot listen at {}", path.display()))?;
    let owner_only = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, owner_only)
        .with_context(|| format!("cannot protect {}", path.display()))?;
    Ok(listener)
}

/// Serves until the process ends.
pub(crate) async fn serve(listener: UnixListener, messages: mpsc::Sender<Message>) {
    let slots = Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let messages = messages.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, messages).await {
                        tracing::debug!(%error, "control client");
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a control client");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, messages: mpsc::Sender<Message>) -> anyhow::Result<()> {
    let (input, mut output) = stream.into_split();
    let mut input = BufReader::with_capacity(REQUEST_BYTES_MAX, input);
    loop {
        let mut line = Vec::new();
        let bound = REQUEST_BYTES_MAX as u64;
        let mut bounded = (&mut input).take(bound);
        let read = timeout(PATIENCE, bounded.read_until(b'\n', &mut line)).await??;
        if read == 0 {
            return Ok(());
        }
        let complete = line.ends_with(b"\n") || read < REQUEST_BYTES_MAX;
        let outcome = if complete {
            ask(&line, &messages).await
        } else {
            refuse(format!("a request has at most {REQUEST_BYTES_MAX} bytes"))
        };
        let answer = ResponseEnvelope::new(outcome).to_line()?;
        timeout(PATIENCE, output.write_all(answer.as_bytes())).await??;
        if !complete {
            return Ok(());
        }
    }
}

async fn ask(line: &[u8], messages: &mpsc::Sender<Message>) -> Outcome {
    let Ok(text) = std::str::from_utf8(line) else {
        return refuse("the request is not UTF-8".to_owned());
    };
    let request = match RequestEnvelope::from_line(text) {
        Ok(request) => request,
        Err(failure) => return Outcome::Error(failure),
    };
    let (reply, outcome) = oneshot::channel();
    let asked = messages.send(Message::Request(request, reply)).await;
    match (asked, outcome.await) {
        (Ok(()), Ok(outcome)) => outcome,
        _ => Outcome::Error(Failure {
            kind: FailureKind::Busy,
            message: "control is stopping".to_owned(),
        }),
    }
}

fn refuse(message: String) -> Outcome {
    Outcome::Error(Failure {
        kind: FailureKind::Request,
        message,
    })
}
