//! `millrace plan`: what a number of sessions needs, by the arithmetic that the dataplane boots with.
//! Reads no file and asks nobody.

use std::io::Write;

use clap::Args;
use millrace_abi::limits::{LCORES_MAX, PORTS_MAX, SNAT_MAX};
use millrace_abi::plan::{Demand, Plan};

use crate::table::Table;

/// What is to be carried.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// Proxied sessions at one time, over all lcores: a number, or one with k, M or G behind it.
    #[arg(long, value_name = "COUNT", value_parser = count)]
    sessions: u64,
    /// Lcores.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=LCORES_MAX as u64))]
    lcores: u64,
    /// Network ports.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=PORTS_MAX as u64))]
    ports: u64,
    /// Backends that share the sessions evenly.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    backends: u64,
    /// Packet buffers; as many as rings and nearly idle sessions need when left out.
    #[arg(long, value_name = "COUNT", value_parser = count)]
    mbufs: Option<u64>,
    /// Bytes of a packet buffer.
    #[arg(long, default_value_t = 2_176, value_parser = clap::value_parser!(u16).range(1_792..))]
    mbuf_bytes: u16,
}

impl PlanArgs {
    fn demand(&self) -> Demand {
        Demand {
            sessions: self.sessions,
            lcores: self.lcores,
            ports: self.ports,
            backends: self.backends,
            mbufs: self.mbufs,
            mbuf_bytes: self.mbuf_bytes,
        }
    }
}

/// Writes the plan as tables, or as one JSON object.
pub(crate) fn write(args: &PlanArgs, json: bool, out: &mut impl Write) -> std::io::Result<()> {
    let plan = Plan::of(&args.demand());
    if json {
        let rows = plan.rows.iter();
        let rows = rows.map(|(name, bytes)| serde_json::json!({ "what": name, "bytes": bytes }));
        let rows: Vec<_> = rows.collect();
        let value = serde_json::json!({
            "sessions": args.sessions,
            "lcores": args.lcores,
            "connections_max": plan.connections_max,
            "mbufs": plan.mbufs,
            "mbuf_bytes": args.mbuf_bytes,
            "memory": rows,
            "total_bytes": plan.total_bytes,
            "bytes_per_session": plan.bytes_per_session,
            "hugepages_2m": plan.hugepages,
            "snat_addresses": plan.snat_addresses,
            "warnings": warnings(&plan),
        });
        return writeln!(out, "{value}");
    }
    let mut table = Table::new(&["MEMORY", "MIB", "BYTES/SESSION"]);
    let sessions = args.sessions.max(1) as f64;
    let total = [("total", plan.total_bytes)];
    for (name, bytes) in plan.rows.iter().chain(&total) {
        table.row([
            (*name).to_owned(),
            format!("{:.1}", *bytes as f64 / f64::from(1 << 20)),
            format!("{:.1}", *bytes as f64 / sessions),
        ]);
    }
    table.write(out)?;
    writeln!(out)?;
    let mut table = Table::new(&["SET", "VALUE", "WHERE"]);
    for (name, value, place) in [
        (
            "connections_max",
            plan.connections_max,
            "[dataplane], for each lcore",
        ),
        ("mbufs", plan.mbufs, "[dataplane], shared by all lcores"),
        (
            "nr_hugepages",
            plan.hugepages,
            "of 2 MiB, for packet buffers and EAL",
        ),
        (
            "addresses",
            plan.snat_addresses,
            "[snat], of each family in use",
        ),
    ] {
        table.row([name.to_owned(), value.to_string(), place.to_owned()]);
    }
    table.write(out)?;
    for warning in warnings(&plan) {
        writeln!(out, "warning: {warning}")?;
    }
    Ok(())
}

/// What a configuration could not say.
fn warnings(plan: &Plan) -> Vec<String> {
    let mut warnings = Vec::new();
    if plan.connections_max > 1 << 25 {
        warnings.push("connections_max can be 33554432 at most: use more lcores".to_owned());
    }
    if plan.mbufs > 1 << 24 {
        warnings.push("mbufs can be 16777216 at most".to_owned());
    }
    if plan.snat_addresses > SNAT_MAX as u64 {
        let text = format!("there can be {SNAT_MAX} source addresses: use more backends");
        warnings.push(text);
    }
    warnings
}

/// A count with or without k, M or G (powers of ten) behind it.
fn count(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1_000),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1_000_000),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 1_000_000_000),
        _ => (text, 1),
    };
    let number: Option<u64> = digits.parse().ok();
    number
        .and_then(|number| number.checked_mul(factor))
        .filter(|count| (1..=1_000_000_000_000).contains(count))
        .ok_or_else(|| format!("`{text}` is not a count like 250000, 250k or 10M"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_may_have_a_letter() {
        for (text, expected) in [
            ("7", 7),
            ("250k", 250_000),
            ("10M", 10_000_000),
            ("1G", 1_000_000_000),
        ] {
            assert_eq!(count(text), Ok(expected));
        }
        for text in ["", "M", "1.5M", "-1", "0", "10MM", "99999999999G"] {
            assert!(count(text).is_err(), "{text}");
        }
    }
}
