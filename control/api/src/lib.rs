//! What the command line and control say to each other.
//!
//! One JSON object on one line is a request, one JSON object on one line the answer, over the Unix
//! socket `<runtime_dir>/control.sock`; a connection may carry several in turn:
//!
//! ```text
//! → {"version":1,"request":{"show":"ports"}}
//! ← {"version":1,"result":{"ok":{"ports":[{"name":"front", ...}]}}}
//! → {"version":1,"request":"reload"}
//! ← {"version":1,"result":{"error":{"kind":"config","message":"..."}}}
//! ```
//!
//! No logic is here: types, the framing and its bounds. Addresses travel as text, so a reader needs
//! no crate of ours. A new field or topic does not raise `VERSION`; a changed meaning does. Readers
//! ignore fields they do not know.
#![forbid(unsafe_code)]

mod rows;

use serde::{Deserialize, Serialize};

pub use rows::{
    BackendRow, ConnectionRow, Connections, CounterRow, DropRow, LcoreRow, ListenerRow,
    NeighborRow, PortRow, RouteRow, StageRow, Status,
};

/// The version of everything in this crate.
pub const VERSION: u32 = 1;

/// The socket's name in the runtime directory.
pub const SOCKET_NAME: &str = "control.sock";

/// Longest request line in bytes, newline included. Requests are a word or two; 4 KiB leaves room
/// and bounds a client that never sends a newline.
pub const REQUEST_BYTES_MAX: usize = 4_096;

/// Connections one `show connections` may return. A row is about 300 bytes of JSON: 3 MB an answer.
pub const CONNECTIONS_MAX: u32 = 10_000;

/// A request as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestEnvelope {
    /// `VERSION` of the sender.
    pub version: u32,
    /// The request.
    pub request: Request,
}

/// What can be asked of control.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// How control and the dataplane are.
    Status,
    /// The rows of one topic.
    Show(Topic),
    /// The open connections, at most `limit` (and `CONNECTIONS_MAX`).
    Connections {
        /// Rows wanted.
        limit: u32,
    },
    /// Read the configuration again and bring it into effect; when it has mistakes nothing changes.
    Reload,
}

/// What `Request::Show` can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// What each lcore did.
    Lcores,
    /// The network cards.
    Ports,
    /// The listeners with their traffic.
    Listeners,
    /// The backends with their health and traffic.
    Backends,
    /// What was dropped, by reason; zeros left out.
    Drops,
    /// Every counter that the dataplane describes.
    Counters,
    /// Who answers at which Ethernet address.
    Neighbors,
    /// The forwarding table.
    Routes,
}

/// An answer as it travels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResponseEnvelope {
    /// `VERSION` of the sender.
    pub version: u32,
    /// What came of the request.
    pub result: Outcome,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    Ok(Answer),
    /// It was not done, and nothing changed.
    Error(Failure),
}

/// The answer to one request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To `Status`.
    Status(Status),
    /// To `Show(Lcores)`.
    Lcores(Vec<LcoreRow>),
    /// To `Show(Ports)`.
    Ports(Vec<PortRow>),
    /// To `Show(Listeners)`.
    Listeners(Vec<ListenerRow>),
    /// To `Show(Backends)`.
    Backends(Vec<BackendRow>),
    /// To `Show(Drops)`.
    Drops(Vec<DropRow>),
    /// To `Show(Counters)`.
    Counters(Vec<CounterRow>),
    /// To `Show(Neighbors)`.
    Neighbors(Vec<NeighborRow>),
    /// To `Show(Routes)`.
    Routes(Vec<RouteRow>),
    /// To `Connections`.
    Connections(Connections),
    /// To `Reload`.
    Reloaded(Reloaded),
}

/// What a reload did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Every difference to the configuration before, a sentence each.
    pub changes: Vec<String>,
    /// Those of them that wait for a restart, with what must be restarted.
    pub pending: Vec<String>,
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Who must act.
    pub kind: FailureKind,
    /// What happened, for a human; several lines for mistakes in the configuration.
    pub message: String,
}

/// Who must act on a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The request is not one of ours, too long, or of another version.
    Request,
    /// The configuration has mistakes.
    Config,
    /// The dataplane is not there.
    NoDataplane,
    /// The dataplane or control is too busy, or did not answer in time; ask again.
    Busy,
}

impl RequestEnvelope {
    /// The request in an envelope of this version.
    pub fn new(request: Request) -> Self {
        Self {
            version: VERSION,
            request,
        }
    }

    /// The line that travels, newline included.
    pub fn to_line(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    /// The request of a line; the failure is what to answer.
    pub fn from_line(line: &str) -> Result<Request, Failure> {
        // The version is looked at first: a request of another version may not parse as one of
        // ours.
        let refuse = |message: String| Failure {
            kind: FailureKind::Request,
            message,
        };
        let value: serde_json::Value =
            serde_json::from_str(line).map_err(|error| refuse(format!("not JSON: {error}")))?;
        let version = value.get("version").and_then(serde_json::Value::as_u64);
        if version != Some(u64::from(VERSION)) {
            return Err(refuse(match version {
                Some(version) => format!("version {version}, and this control speaks {VERSION}"),
                None => "the request has no version".to_owned(),
            }));
        }
        let envelope: Self =
            serde_json::from_value(value).map_err(|error| refuse(error.to_string()))?;
        Ok(envelope.request)
    }
}

impl ResponseEnvelope {
    /// The outcome in an envelope of this version.
    pub fn new(result: Outcome) -> Self {
        Self {
            version: VERSION,
            result,
        }
    }

    /// The line that travels, newline included.
    pub fn to_line(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    /// The answer of a line.
    pub fn from_line(line: &str) -> serde_json::Result<Self> {
        serde_json::from_str(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_documented_form() {
        let line = RequestEnvelope::new(Request::Show(Topic::Ports)).to_line();
        let expected = "{\"version\":1,\"request\":{\"show\":\"ports\"}}\n";
        assert_eq!(line.expect("serializes"), expected);
        let line = "{\"version\":1,\"request\":\"reload\",\"later\":true}";
        assert_eq!(RequestEnvelope::from_line(line), Ok(Request::Reload));
    }

    #[test]
    fn another_version_and_nonsense_are_refused_with_a_reason() {
        let cases = [
            (
                "{\"version\":9,\"request\":\"dance\"}",
                "version 9, and this control speaks 1",
            ),
            ("{\"request\":\"reload\"}", "the request has no version"),
            ("reload", "not JSON"),
            (
                "{\"version\":1,\"request\":\"dance\"}",
                "unknown variant `dance`",
            ),
        ];
        for (line, expected) in cases {
            let failure = RequestEnvelope::from_line(line).expect_err(line);
            assert_eq!(failure.kind, FailureKind::Request);
            assert!(
                failure.message.contains(expected),
                "{line}: {}",
                failure.message
            );
        }
    }

    #[test]
    fn failures_travel_with_their_kind() {
        let failure = Failure {
            kind: FailureKind::NoDataplane,
            message: "no region".to_owned(),
        };
        let sent = ResponseEnvelope::new(Outcome::Error(failure));
        let line = sent.to_line().expect("serializes");
        let expected = "{\"version\":1,\"result\":{\"error\":{\"kind\":\"no_dataplane\",\"message\":\"no region\"}}}\n";
        assert_eq!(line, expected);
        assert_eq!(ResponseEnvelope::from_line(&line).expect("parses"), sent);
    }
}
