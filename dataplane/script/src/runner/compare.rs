//! What left against what the script says: a list of differences, in words.

use crate::ast::{IpFields, Service, TcpLine, TcpOption, flag};
use crate::packet::{Segment, show, timestamps};

/// How far a timestamp may be off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimestampLimit {
    pub(crate) tick_usecs: i64,
    pub(crate) tolerance_usecs: i64,
}

/// The differences; none is a match. `actual` has the script's numbers.
pub(crate) fn differences(
    ip: &IpFields,
    line: &TcpLine,
    actual: &Segment,
    limit: Option<TimestampLimit>,
) -> Vec<String> {
    let mut found = Vec::new();
    let mut numbers = |what: &str, expected: u32, actual: u32| {
        if expected != actual {
            found.push(format!("{what}: expected {expected}, actual {actual}"));
        }
    };
    numbers("sequence number", line.seq, actual.seq);
    let length = u32::try_from(actual.payload.len()).unwrap_or(u32::MAX);
    numbers("length", u32::from(line.length), length);
    let has_ack = line.flags & actual.flags & flag::ACK != 0;
    // Without the flag the field must be zero; when flags differ that difference says enough.
    if has_ack || (line.flags | actual.flags) & flag::ACK == 0 {
        numbers("acknowledgement", line.ack, actual.ack);
    }
    numbers(
        "urgent pointer",
        u32::from(line.urgent),
        u32::from(actual.urgent),
    );
    if let Some(window) = line.window {
        numbers("window", u32::from(window), u32::from(actual.window));
    }
    if let Some(ttl) = ip.ttl {
        numbers("TTL", u32::from(ttl), u32::from(actual.ttl));
    }
    if let Some((source, destination)) = line.ports {
        numbers(
            "source port",
            u32::from(source),
            u32::from(actual.source_port),
        );
        numbers(
            "destination port",
            u32::from(destination),
            u32::from(actual.destination_port),
        );
    }
    if line.flags != actual.flags {
        let (expected, actual) = (show::flags(line.flags), show::flags(actual.flags));
        found.push(format!("flags: expected {expected}, actual {actual}"));
    }
    found.extend(service(ip.service, actual.service));
    if let Some(expected) = &line.options {
        found.extend(options(expected, &actual.options, limit));
    }
    found
}

fn service(expected: Service, actual: u8) -> Option<String> {
    let bits = actual & 3;
    let holds = match expected {
        Service::Unsaid => true,
        Service::Ecn(expected) => bits == expected,
        Service::EitherEct => matches!(bits, 1 | 2),
        Service::Byte(expected) => actual == expected,
    };
    let expected = show::service(expected);
    let expected = expected.trim();
    (!holds).then(|| {
        format!(
            "type of service: expected {expected}, actual {actual:#x} ({})",
            show::ecn(bits)
        )
    })
}

fn options(
    expected: &[TcpOption],
    actual: &[TcpOption],
    limit: Option<TimestampLimit>,
) -> Option<String> {
    let same = expected.len() == actual.len()
        && expected.iter().zip(actual).all(|pair| match pair {
            (
                TcpOption::Timestamps { echo: expected, .. },
                TcpOption::Timestamps { echo: actual, .. },
            ) => expected == actual,
            (expected, actual) => expected == actual,
        });
    if !same {
        let texts = (show::options(expected), show::options(actual));
        let [expected, actual] = [texts.0, texts.1].map(|text| {
            if text.is_empty() {
                "none".to_owned()
            } else {
                text.trim().to_owned()
            }
        });
        return Some(format!("options: expected {expected}, actual {actual}"));
    }
    let limit = limit?;
    let (expected, _) = timestamps(expected)?;
    let (actual, _) = timestamps(actual)?;
    let ticks = i64::from(actual.wrapping_sub(expected).cast_signed()).abs();
    (ticks.saturating_mul(limit.tick_usecs) > limit.tolerance_usecs).then(|| {
        let micros = limit.tolerance_usecs;
        format!(
            "timestamp: expected {expected}, actual {actual}, which is off by more than {micros} us"
        )
    })
}

/// Checks that `next` continues `before` as the next piece of one expected packet, of which
/// `missing` bytes are still to come.
pub(crate) fn breaks(before: &Segment, next: &Segment, missing: usize) -> Option<String> {
    // PSH, FIN and CWR may differ between the pieces that a device would cut.
    const SAME: u16 = flag::SYN | flag::RST | flag::ACK | flag::URG | flag::ECE | flag::AE;
    let length = u32::try_from(before.payload.len()).unwrap_or(0);
    if next.seq != before.seq.wrapping_add(length) {
        return Some(format!(
            "it does not continue at {}",
            before.seq.wrapping_add(length)
        ));
    }
    if next.flags & SAME != before.flags & SAME || next.ack != before.ack {
        return Some("its flags or its acknowledgement differ from the piece before".to_owned());
    }
    if next.window != before.window {
        return Some("its window differs from the piece before".to_owned());
    }
    // Only the last piece may be shorter: so a device cuts.
    if next.payload.len() < missing && next.payload.len() != before.payload.len() {
        return Some("it is a piece from the middle and has another length".to_owned());
    }
    None
}

/// One segment of all pieces: the last one's header, the first one's number.
pub(crate) fn merged(pieces: Vec<Segment>) -> Option<Segment> {
    let first = pieces.first()?;
    let (seq, reduced) = (first.seq, first.flags & flag::CWR);
    let mut whole = pieces.last()?.clone();
    whole.seq = seq;
    whole.flags = whole.flags & !flag::CWR | reduced;
    whole.payload = pieces.into_iter().flat_map(|piece| piece.payload).collect();
    Some(whole)
}
