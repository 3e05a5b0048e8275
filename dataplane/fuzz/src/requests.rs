//! The control socket: a line is a request or a failure, and what we write we can read.

use millrace_api::{RequestEnvelope, ResponseEnvelope};

/// Reads `data` as a request and as a response.
pub(crate) fn run(data: &[u8]) {
    let Ok(line) = core::str::from_utf8(data) else {
        return;
    };
    if let Ok(request) = RequestEnvelope::from_line(line) {
        let written = RequestEnvelope::new(request).to_line().expect("JSON");
        RequestEnvelope::from_line(&written).expect("what was written is read");
    }
    if let Ok(response) = ResponseEnvelope::from_line(line) {
        let written = response.to_line().expect("JSON");
        ResponseEnvelope::from_line(&written).expect("what was written is read");
    }
}
