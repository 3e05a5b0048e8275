//! One question to control and its answer, over the Unix socket. Knows the framing, not the
//! questions.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use millrace_api::{Outcome, Request, RequestEnvelope, ResponseEnvelope};

/// How long control may take. A listing of connections waits for the lcores, at most two seconds;
/// the rest is at once.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum ClientError {
    /// Nobody listens at the socket.
    NotRunning {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The connection broke or timed out.
    Broken(std::io::Error),
    /// The answer is not one of ours.
    Nonsense(serde_json::Error),
}

/// Asks and waits for the answer.
pub(crate) fn ask(socket: &Path, request: Request) -> Result<Outcome, ClientError> {
    let stream = UnixStream::connect(socket).map_err(|error| {
        if [ErrorKind::NotFound, ErrorKind::ConnectionRefused].contains(&error.kind()) {
            let socket = socket.to_owned();
            ClientError::NotRunning { socket, error }
        } else {
            ClientError::Broken(error)
        }
    })?;
    let timeout = Some(ANSWER_TIMEOUT);
    stream
        .set_read_timeout(timeout)
        .map_err(ClientError::Broken)?;
    let line = RequestEnvelope::new(request)
        .to_line()
        .map_err(ClientError::Nonsense)?;
    (&stream)
        .write_all(line.as_bytes())
        .map_err(ClientError::Broken)?;
    let mut answer = String::new();
    let read = BufReader::new(&stream).read_line(&mut answer);
    match read.map_err(ClientError::Broken)? {
        0 => Err(ClientError::Broken(ErrorKind::UnexpectedEof.into())),
        _ => ResponseEnvelope::from_line(&answer)
            .map(|envelope| envelope.result)
            .map_err(ClientError::Nonsense),
    }
}

impl std::fmt::Display for ClientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotRunning { socket, error } => write!(
                f,
                "millrace-control does not run here: {}: {error}\n  \
                 hint: start millrace-control, or name its directory with --runtime-dir",
                socket.display()
            ),
            Self::Broken(error) => write!(f, "control did not answer: {error}"),
            Self::Nonsense(error) => write!(
                f,
                "control answered something else: {error}\n  \
                 hint: are millrace and millrace-control of the same version?"
            ),
        }
    }
}
