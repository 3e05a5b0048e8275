//! Packets that the script expects to leave.

use std::fmt::Write as _;

use super::Runner;
use super::clock::{Schedule, seconds};
use super::compare::{self, TimestampLimit};
use super::connection::Stage;
use super::inbound::stream_offset;
use crate::ast::{Body, IpFields, Packet, TcpLine, flag};
use crate::failure::Stop;
use crate::fault::Position;
use crate::kernel::Departure;
use crate::packet::{self, Segment, show, timestamps};
use crate::payload;
use crate::settings::micros;

use super::Leftovers;

/// How long after its last moment a packet is still looked for, so that the failure can tell when
/// it came.
const LATE_USECS: i64 = 2_000_000;
/// How long `*` waits. The longest timer of a connection, keepalive's two hours, is shorter.
const ANY_USECS: i64 = 3 * 3_600 * 1_000_000;

/// A segment of the connection under test, and when it left.
struct Seen {
    segment: Segment,
    at: i64,
}

impl Runner<'_> {
    pub(super) fn expect(&mut self, packet: &Packet, schedule: &Schedule) -> Result<(), Stop> {
        let Body::Tcp(line) = &packet.body else {
            return Err(Stop::script(schedule.at, "only TCP can be expected"));
        };
        if let Some((source, destination)) = line.ports {
            self.select(source, destination);
        }
        let Some(connection) = self.connection() else {
            return Err(Stop::script(schedule.at, "no socket is under test yet"));
        };
        connection.expect(line);
        let mut pieces: Vec<Segment> = Vec::new();
        let wanted = usize::from(line.length);
        let mut length = 0;
        let mut left_at;
        loop {
            let Some(mut seen) = self.await_segment(schedule)? else {
                let what = if pieces.is_empty() {
                    "no packet left"
                } else {
                    "only a part of this packet left"
                };
                return Err(self.with_pieces(what.to_owned(), packet, schedule, &pieces));
            };
            left_at = seen.at;
            self.learn(line, &mut seen.segment);
            let missing = wanted.saturating_sub(length);
            if let Some(before) = pieces.last()
                && let Some(why) = compare::breaks(before, &seen.segment, missing)
            {
                pieces.push(seen.segment);
                let message = format!("these packets do not make up one: {why}");
                return Err(self.with_pieces(message, packet, schedule, &pieces));
            }
            length += seen.segment.payload.len();
            // What is no beginning of the expected packet is compared as it is.
            let is_other = seen.segment.payload.is_empty() || seen.segment.seq != line.seq;
            let is_whole = pieces.is_empty() && is_other;
            pieces.push(seen.segment);
            if length >= wanted || is_whole || self.settings.is_strict {
                break;
            }
        }
        let Some(mut segment) = compare::merged(pieces) else {
            return Ok(());
        };
        self.check(packet, line, &mut segment, schedule, left_at)
    }

    /// The initial number of the first packet is what all later ones count from.
    fn learn(&mut self, line: &TcpLine, segment: &mut Segment) {
        let both = line.flags & segment.flags;
        let Some(connection) = self.connection() else {
            return;
        };
        if connection.stage == Stage::SynAckExpected
            && !connection.knows_local_isn
            && both & (flag::SYN | flag::ACK) == flag::SYN | flag::ACK
        {
            connection.live_local_isn = segment.seq;
            connection.knows_local_isn = true;
        }
        connection.to_script(segment);
    }

    /// Compares a whole expected packet.
    fn check(
        &mut self,
        packet: &Packet,
        line: &TcpLine,
        segment: &mut Segment,
        schedule: &Schedule,
        left_at: i64,
    ) -> Result<(), Stop> {
        let limit = self.timestamp_limit(schedule);
        let Some(connection) = self.connection() else {
            return Ok(());
        };
        let scripted = line.options.as_deref().and_then(timestamps);
        if let Some((script, _)) = scripted {
            connection.learn_timestamp(segment, script);
        }
        let mut found = compare::differences(&packet.ip, line, segment, limit);
        let offset = stream_offset(segment.flags, segment.seq);
        if !connection.sends_other_bytes
            && let Some(at) = payload::difference(offset, &segment.payload, &connection.zeros)
        {
            found.push(format!(
                "payload: byte {at} is not what the program sent there"
            ));
        }
        if let Some(script) = packet.ip.flow_label {
            let live = segment.flow_label;
            found.extend(flow_label(&mut connection.flow_label, script, live));
        }
        found.extend(time_difference(schedule, left_at));
        self.note(&format!("> {segment}"));
        if found.is_empty() {
            return Ok(());
        }
        let mut message = "this packet left otherwise".to_owned();
        let _ = write!(message, "\n  expected: {}", shown(&packet.ip, line));
        let _ = write!(
            message,
            "\n    actual: > {segment}  (at {} s)",
            seconds(left_at)
        );
        for difference in found {
            let _ = write!(message, "\n      {difference}");
        }
        Err(Stop::failed(schedule.at, message))
    }

    /// The next packet of the connection under test; `None` when none leaves in time.
    fn await_segment(&mut self, schedule: &Schedule) -> Result<Option<Seen>, Stop> {
        let wait = if schedule.is_any {
            ANY_USECS
        } else {
            LATE_USECS
        };
        let limit = schedule.to + schedule.tolerance + wait;
        loop {
            if let Some(seen) = self.find(schedule.at)? {
                return Ok(Some(seen));
            }
            let count = self.departed.len();
            if self.now() >= limit {
                return Ok(None);
            }
            self.step_until(limit, |runner| runner.departed.len() > count)?;
        }
    }

    /// The first packet that is the connection's. The others stay: their connection may be under
    /// test again.
    fn find(&mut self, at: Position) -> Result<Option<Seen>, Stop> {
        for index in 0..self.departed.len() {
            let Some(departure) = self.departed.get(index).cloned() else {
                break;
            };
            if let Some(seen) = self.take(&departure, at)? {
                self.departed.remove(index);
                return Ok(Some(seen));
            }
        }
        Ok(None)
    }

    /// The packet, if it is the connection's. Those of other connections, which earlier lines of
    /// the script had under test, do not matter any more.
    fn take(&mut self, departure: &Departure, at: Position) -> Result<Option<Seen>, Stop> {
        let left_at = micros(departure.at.saturating_sub(self.origin));
        let broken =
            |message| Stop::failed(at, format!("a broken packet left the stack: {message}"));
        let Some(segment) = packet::parse(&departure.packet).map_err(broken)? else {
            return Ok(None);
        };
        let is_known = self.connections.iter().any(|known| known.owns(&segment));
        let Some(connection) = self.connection() else {
            return Ok(None);
        };
        if !is_known && connection.is_first_syn(&segment) {
            connection.local = Some((segment.source, segment.source_port));
            connection.live_local_isn = segment.seq;
            connection.knows_local_isn = true;
        } else if !connection.owns(&segment) {
            return Ok(None);
        }
        Ok(Some(Seen {
            segment,
            at: left_at,
        }))
    }

    fn timestamp_limit(&self, schedule: &Schedule) -> Option<TimestampLimit> {
        let tick_usecs = self.settings.timestamp_tick_usecs?;
        // A clock may drift since the script's beginning, not only since the event before.
        let tolerance_usecs = self.settings.tolerance(schedule.from);
        Some(TimestampLimit {
            tick_usecs,
            tolerance_usecs,
        })
    }

    /// A failure with the expected packet and what left of it.
    fn with_pieces(
        &mut self,
        mut message: String,
        packet: &Packet,
        schedule: &Schedule,
        pieces: &[Segment],
    ) -> Stop {
        if let Body::Tcp(line) = &packet.body {
            let due = seconds(schedule.from);
            let _ = write!(
                message,
                "\n  expected: {}  (at {due} s)",
                shown(&packet.ip, line)
            );
        }
        for piece in pieces {
            let mut piece = piece.clone();
            if let Some(connection) = self.connection() {
                connection.translate_timestamp(&mut piece);
            }
            let _ = write!(message, "\n    actual: > {piece}");
        }
        Stop::failed(schedule.at, message)
    }

    /// What left and was not expected by the end of the script.
    pub(super) fn collect_leftovers(&mut self, leftovers: Leftovers) -> Result<(), Stop> {
        let at = self.last.map_or(Position::default(), |(event, _)| event.at);
        while let Some(Seen { mut segment, at }) = self.find(at)? {
            if let Some(connection) = self.connection() {
                connection.to_script(&mut segment);
                connection.translate_timestamp(&mut segment);
            }
            self.leftovers
                .push(format!("> {segment}  (at {} s)", seconds(at)));
        }
        if self.leftovers.is_empty() || leftovers == Leftovers::Allow {
            return Ok(());
        }
        let list = self.leftovers.join("\n    actual: ");
        Err(Stop::failed(
            at,
            format!("packets left that the script does not expect\n    actual: {list}"),
        ))
    }
}

impl super::connection::Connection {
    /// The script's line moves the handshake on.
    fn expect(&mut self, line: &TcpLine) {
        match line.flags & (flag::SYN | flag::ACK) {
            flag::SYN if self.stage == Stage::Connecting => {
                self.stage = Stage::SynExpected;
                self.script_local_isn = line.seq;
            }
            both if both == flag::SYN | flag::ACK && self.stage == Stage::PeerCame => {
                self.stage = Stage::SynAckExpected;
                self.script_local_isn = line.seq;
            }
            _ => {}
        }
    }
}

fn shown(ip: &IpFields, line: &TcpLine) -> String {
    format!("> {}{line}", show::service(ip.service))
}

fn time_difference(schedule: &Schedule, left_at: i64) -> Option<String> {
    let Schedule {
        from,
        to,
        tolerance,
        is_any,
        ..
    } = *schedule;
    if is_any || (from - tolerance..=to + tolerance).contains(&left_at) {
        return None;
    }
    let expected = if from == to {
        seconds(from)
    } else {
        format!("{} to {}", seconds(from), seconds(to))
    };
    let (actual, tolerance) = (seconds(left_at), seconds(tolerance));
    Some(format!(
        "time: expected {expected} s, actual {actual} s, tolerance {tolerance} s"
    ))
}

/// The same label of the script is the same on the wire; another is another.
fn flow_label(known: &mut Option<(u32, u32)>, script: u32, live: u32) -> Option<String> {
    if live == 0 {
        return Some(format!("flow label: expected {script:#x}, actual none"));
    }
    match *known {
        Some((old_script, old_live)) if (old_script == script) != (old_live == live) => {
            let relation = if old_script == script {
                "the same as"
            } else {
                "another than"
            };
            Some(format!(
                "flow label: expected {relation} {old_live:#x}, actual {live:#x}"
            ))
        }
        _ => {
            *known = Some((script, live));
            None
        }
    }
}
