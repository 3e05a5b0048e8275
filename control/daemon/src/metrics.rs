//! Metrics: the region and control's own tally in the Prometheus text format.
//!
//! Built for each scrape from what is in the region then; no counter list is compiled in. Names
//! begin with `millrace_`, counters end with `_total`, units are base units. A self-described
//! counter appears twice: summed over the lcores under its name, and by lcore under the name with
//! `lcore` in it. Drop reasons are one family with the reason as a label.

use std::collections::HashSet;

use prometheus::core::Collector;
use prometheus::{Encoder, GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::attach::Attachment;
use crate::control::Control;
use crate::lcores;
use crate::show::{DROP_PREFIX, counter_rows, counters_grow};
use millrace_api::{Answer, Outcome, Topic};
use millrace_base::Instant;

/// The labels of a family that has none.
const UNLABELLED: [&str; 0] = [];

impl Control {
    /// The page for `/metrics`.
    pub(crate) fn scrape(&mut self, now: Instant) -> prometheus::Result<Vec<u8>> {
        let registry = Registry::new();
        self.own_state(&registry)?;
        let mut bursts = Vec::new();
        if let Some(attachment) = &self.attachment {
            bursts = lcores::collect(attachment, &registry)?;
            ports(attachment, &registry)?;
            described(attachment, &registry)?;
        }
        if let Outcome::Ok(Answer::Listeners(rows)) = self.show(now, Topic::Listeners) {
            listeners(&rows, &registry)?;
        }
        if let Outcome::Ok(Answer::Backends(rows)) = self.show(now, Topic::Backends) {
            backends(&rows, &registry)?;
        }
        let mut families = self.tally.registry.gather();
        families.extend(registry.gather());
        families.append(&mut bursts);
        let mut page = Vec::new();
        TextEncoder::new().encode(&families, &mut page)?;
        Ok(page)
    }

    /// Why the service is not healthy; empty when it is.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let Some(attachment) = &self.attachment else {
            return vec![self.why_not_attached()];
        };
        let mut complaints = Vec::new();
        if let Err(busy) = attachment.handle.tables.check_adopted() {
            complaints.push(busy.to_string());
        }
        let silent = self.silent_lcores.iter();
        complaints.extend(silent.map(|lcore| format!("lcore {lcore} shows no sign of life")));
        complaints
    }

    fn own_state(&self, registry: &Registry) -> prometheus::Result<()> {
        let neighbors = gauges("neighbors", "Neighbours by state.", &["state"], registry)?;
        for row in self.neighbors.rows() {
            neighbors.with_label_values(&[row.state.word()]).inc();
        }
        let own: [(&str, &str, u64); 3] = [
            (
                "health_probes_lost",
                "Health probes whose result never came.",
                self.health.lost(),
            ),
            (
                "neighbors_refused",
                "Neighbours refused because the table was full.",
                self.neighbors.refused(),
            ),
            (
                "neighbor_allocs",
                "Entries made for neighbours.",
                self.neighbors.allocs(),
            ),
        ];
        for (name, help, value) in own {
            counters(name, help, &[], registry)?
                .with_label_values(&UNLABELLED)
                .inc_by(value);
        }
        let generation = gauges("generation", "Generation of the tables.", &[], registry)?;
        if let Some(attachment) = &self.attachment {
            let value = attachment.handle.tables.generation();
            generation
                .with_label_values(&UNLABELLED)
                .set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        Ok(())
    }
}

/// A labelled family, registered; `millrace_` is put in front of its name.
pub(crate) fn counters(
    name: &str,
    help: &str,
    labels: &[&str],
    registry: &Registry,
) -> prometheus::Result<IntCounterVec> {
    let options = Opts::new(format!("millrace_{name}_total"), help);
    added(IntCounterVec::new(options, labels)?, registry)
}

/// A labelled family, registered; `millrace_` is put in front of its name.
pub(crate) fn gauges(
    name: &str,
    help: &str,
    labels: &[&str],
    registry: &Registry,
) -> prometheus::Result<IntGaugeVec> {
    let options = Opts::new(format!("millrace_{name}"), help);
    added(IntGaugeVec::new(options, labels)?, registry)
}

/// The collector, registered.
pub(crate) fn added<C: Collector + Clone + 'static>(
    collector: C,
    registry: &Registry,
) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

fn ports(attachment: &Attachment, registry: &Registry) -> prometheus::Result<()> {
    let both = ["port", "direction"];
    let packets = counters("port_packets", "Frames of a port.", &both, registry)?;
    let bytes = counters("port_bytes", "Bytes of a port.", &both, registry)?;
    let errors = "Frames that a port lost: missed, receive, transmit, no_buffer.";
    let errors = counters("port_errors", errors, &["port", "kind"], registry)?;
    let link = gauges(
        "port_link_up",
        "1 when the link is up.",
        &["port"],
        registry,
    )?;
    let speed = "Speed of the link; 0 when unknown.";
    let options = Opts::new("millrace_port_link_bits_per_second", speed);
    let speed = added(GaugeVec::new(options, &["port"])?, registry)?;
    for (port, info) in attachment.ports.iter().enumerate() {
        let state = attachment.region().port_state(port).unwrap_or_default();
        let name = info.name.to_string();
        let name = name.as_str();
        packets
            .with_label_values(&[name, "receive"])
            .inc_by(state.ipackets);
        packets
            .with_label_values(&[name, "transmit"])
            .inc_by(state.opackets);
        bytes
            .with_label_values(&[name, "receive"])
            .inc_by(state.ibytes);
        bytes
            .with_label_values(&[name, "transmit"])
            .inc_by(state.obytes);
        for (kind, count) in [
            ("missed", state.imissed),
            ("receive", state.ierrors),
            ("transmit", state.oerrors),
            ("no_buffer", state.rx_nombuf),
        ] {
            errors.with_label_values(&[name, kind]).inc_by(count);
        }
        link.with_label_values(&[name])
            .set(i64::from(state.link_up != 0));
        speed
            .with_label_values(&[name])
            .set(state.link_mbps as f64 * 1_000_000.0);
    }
    Ok(())
}

/// The counters that the dataplane describes.
fn described(attachment: &Attachment, registry: &Registry) -> prometheus::Result<()> {
    let drops = "Frames and segments that went no further, by reason.";
    let drops = counters("drops", drops, &["reason"], registry)?;
    let mut seen = HashSet::new();
    for (row, grows) in counter_rows(attachment)
        .iter()
        .zip(counters_grow(attachment))
    {
        if let Some(reason) = row.name.strip_prefix(DROP_PREFIX) {
            drops.with_label_values(&[reason]).inc_by(row.total);
            continue;
        }
        let name = family(&row.name);
        // Two names that only differ in what a Prometheus name cannot say: the first is shown.
        if name.is_empty() || !seen.insert(name.clone()) {
            continue;
        }
        let by_lcore = format!("lcore_{name}");
        let lcores = row.lcores.iter().enumerate();
        if grows {
            counters(&name, &row.help, &[], registry)?
                .with_label_values(&UNLABELLED)
                .inc_by(row.total);
            let each = counters(&by_lcore, &row.help, &["lcore"], registry)?;
            for (lcore, value) in lcores {
                each.with_label_values(&[&lcore.to_string()]).inc_by(*value);
            }
        } else {
            let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
            let sum = gauges(&name, &row.help, &[], registry)?;
            sum.with_label_values(&UNLABELLED).set(signed(row.total));
            let each = gauges(&by_lcore, &row.help, &["lcore"], registry)?;
            for (lcore, value) in lcores {
                each.with_label_values(&[&lcore.to_string()])
                    .set(signed(*value));
            }
        }
    }
    Ok(())
}

fn listeners(rows: &[millrace_api::ListenerRow], registry: &Registry) -> prometheus::Result<()> {
    let label = ["listener"];
    let active = gauges("listener_sessions", "Sessions open now.", &label, registry)?;
    let total = counters("listener_sessions", "Sessions accepted.", &label, registry)?;
    let both = ["listener", "direction"];
    let bytes = counters(
        "listener_bytes",
        "Bytes from and to clients.",
        &both,
        registry,
    )?;
    let refused = "Clients reset because no backend could be connected.";
    let refused = counters("listener_refused", refused, &label, registry)?;
    let resets = counters(
        "listener_resets",
        "Sessions that the client reset.",
        &label,
        registry,
    )?;
    for row in rows {
        let name = row.name.as_str();
        let signed = i64::try_from(row.sessions_active).unwrap_or(i64::MAX);
        active.with_label_values(&[name]).set(signed);
        total.with_label_values(&[name]).inc_by(row.sessions_total);
        bytes.with_label_values(&[name, "in"]).inc_by(row.bytes_in);
        bytes
            .with_label_values(&[name, "out"])
            .inc_by(row.bytes_out);
        refused.with_label_values(&[name]).inc_by(row.refused);
        resets.with_label_values(&[name]).inc_by(row.resets);
    }
    Ok(())
}

fn backends(rows: &[millrace_api::BackendRow], registry: &Registry) -> prometheus::Result<()> {
    let label = ["pool", "backend"];
    let up = gauges(
        "backend_up",
        "1 when the backend gets new sessions.",
        &label,
        registry,
    )?;
    let active = gauges("backend_sessions", "Sessions open now.", &label, registry)?;
    let total = counters(
        "backend_sessions",
        "Sessions given to it.",
        &label,
        registry,
    )?;
    let both = ["pool", "backend", "direction"];
    let bytes = counters(
        "backend_bytes",
        "Bytes to and from backends.",
        &both,
        registry,
    )?;
    let failures = "Connection attempts that failed.";
    let failures = counters("backend_connect_failures", failures, &label, registry)?;
    let resets = counters(
        "backend_resets",
        "Sessions that the backend reset.",
        &label,
        registry,
    )?;
    let used = "Source ports towards the backend in use, TIME_WAIT that cannot give way included.";
    let used = gauges("backend_ports_used", used, &label, registry)?;
    let free = "Source ports towards the backend that are free, over all source addresses.";
    let free = gauges("snat_ports_free", free, &label, registry)?;
    for row in rows {
        let names = [row.pool.as_str(), row.name.as_str()];
        let [pool, name] = names;
        let signed = i64::try_from(row.sessions_active).unwrap_or(i64::MAX);
        up.with_label_values(&names)
            .set(i64::from(row.state == "up"));
        active.with_label_values(&names).set(signed);
        total.with_label_values(&names).inc_by(row.sessions_total);
        bytes
            .with_label_values(&[pool, name, "in"])
            .inc_by(row.bytes_in);
        bytes
            .with_label_values(&[pool, name, "out"])
            .inc_by(row.bytes_out);
        failures
            .with_label_values(&names)
            .inc_by(row.connect_failures);
        resets.with_label_values(&names).inc_by(row.resets);
        let count = |ports: u64| i64::try_from(ports).unwrap_or(i64::MAX);
        used.with_label_values(&names).set(count(row.ports_used));
        let left = row.ports_capacity.saturating_sub(row.ports_used);
        free.with_label_values(&names).set(count(left));
    }
    Ok(())
}

/// The family's name without `millrace_` in front and `_total` behind: ours as they are, the MIB's
/// in snake case.
fn family(name: &str) -> String {
    let name = name.strip_prefix("millrace_").unwrap_or(name);
    let name = name.strip_suffix("_total").unwrap_or(name);
    let letters: Vec<char> = name.chars().collect();
    let mut snake = String::new();
    for (index, letter) in letters.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|before| letters.get(before));
        let after = letters.get(index + 1);
        let starts_word = letter.is_ascii_uppercase()
            && before.is_some_and(|before| {
                before.is_ascii_lowercase()
                    || before.is_ascii_digit()
                    || (before.is_ascii_uppercase() && after.is_some_and(char::is_ascii_lowercase))
            });
        if starts_word {
            snake.push('_');
        }
        if letter.is_ascii_alphanumeric() || *letter == '_' {
            snake.push(letter.to_ascii_lowercase());
        }
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mib_names_become_snake_case_and_ours_stay() {
        let cases = [
            ("TcpInSegs", "tcp_in_segs"),
            ("TcpExtTCPLostRetransmit", "tcp_ext_tcp_lost_retransmit"),
            ("TcpExtListenOverflows", "tcp_ext_listen_overflows"),
            ("IpExtInECT1Pkts", "ip_ext_in_ect1_pkts"),
            ("millrace_sessions_accepted_total", "sessions_accepted"),
            ("frames_in", "frames_in"),
        ];
        for (name, expected) in cases {
            assert_eq!(family(name), expected);
        }
    }
}
