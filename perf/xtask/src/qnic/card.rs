//! What the dataplane says about its ports when it starts: the table of capabilities, read back from its log.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

/// One port's table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Card {
    /// The device's name.
    pub(super) name: String,
    /// DPDK's driver.
    pub(super) driver: String,
    /// Capability to what was wanted, is offered and is in force.
    rows: BTreeMap<String, [String; 3]>,
}

impl Card {
    /// What is in force of a capability.
    pub(super) fn in_force(&self, capability: &str) -> Result<&str> {
        self.row(capability)
            .map(|[_, _, in_force]| in_force.as_str())
    }

    /// What the device offers of it.
    pub(super) fn offered(&self, capability: &str) -> Result<&str> {
        self.row(capability).map(|[_, offered, _]| offered.as_str())
    }

    /// An error that names the first of these that is not in force.
    pub(super) fn must_have(&self, capabilities: &[&str]) -> Result<()> {
        for capability in capabilities {
            let value = self.in_force(capability)?;
            ensure!(
                value == "yes",
                "{} of {} is `{value}`",
                capability,
                self.name
            );
        }
        Ok(())
    }

    fn row(&self, capability: &str) -> Result<&[String; 3]> {
        self.rows
            .get(capability)
            .with_context(|| format!("{} says nothing of `{capability}`", self.name))
    }
}

/// The tables in a log, in order. A table is `NAME (DRIVER)`, a line of headings, and rows whose columns stand two or more
/// blanks apart.
pub(super) fn cards_in(log: &str) -> Vec<Card> {
    let mut cards = Vec::new();
    let mut lines = log.lines().peekable();
    while let Some(line) = lines.next() {
        let is_table = lines
            .peek()
            .is_some_and(|next| next.trim_start().starts_with("capability "));
        let Some((name, driver)) = line.split_once(" (").filter(|_| is_table) else {
            continue;
        };
        let mut rows = BTreeMap::new();
        while let Some(columns) = lines.next_if(|line| line.starts_with("  ")).map(columns) {
            if let [capability, rest @ ..] = columns.as_slice()
                && let Ok(rest) = <&[&str; 3]>::try_from(rest)
            {
                rows.insert((*capability).to_owned(), rest.map(str::to_owned));
            }
        }
        cards.push(Card {
            name: name.to_owned(),
            driver: driver.trim_end_matches(')').to_owned(),
            rows,
        });
    }
    cards
}

fn columns(line: &str) -> Vec<&str> {
    let columns = line.split("  ").map(str::trim);
    columns.filter(|column| !column.is_empty()).collect()
}

/// What a start's self-test found: does the card deliver where its hash predicts?
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SelfTest {
    /// The device's name.
    pub(super) port: String,
    pub(super) verdict: String,
    /// Probes that arrived where they were predicted.
    pub(super) right: u64,
    /// Probes there were.
    pub(super) probes: u64,
}

/// The self-tests in a log, in order: `… RSS self-test: VERDICT, R of P probes where predicted port="NAME" …`.
pub(super) fn self_tests_in(log: &str) -> Vec<SelfTest> {
    log.lines().filter_map(self_test).collect()
}

fn self_test(line: &str) -> Option<SelfTest> {
    let (_, said) = line.split_once("RSS self-test: ")?;
    let (verdict, rest) = said.split_once(", ")?;
    let mut words = rest.split_whitespace();
    let right = words.next()?.parse().ok()?;
    let probes = words.nth(1)?.parse().ok()?;
    let (_, port) = rest.split_once("port=\"")?;
    Some(SelfTest {
        port: port.split('"').next()?.to_owned(),
        verdict: verdict.to_owned(),
        right,
        probes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_self_test_is_read_from_its_line() {
        let line = "2026 INFO millrace_worker::rss: RSS self-test: NoAnswer, 0 of 256 probes where \
                    predicted port=\"0000:01:00.0\" loopback=true";
        let expected = SelfTest {
            port: "0000:01:00.0".into(),
            verdict: "NoAnswer".into(),
            right: 0,
            probes: 256,
        };
        assert_eq!(self_tests_in(&format!("other\n{line}\n")), [expected]);
    }

    const LOG: &str = "2026 INFO millrace_worker::boot: \n\
        0000:01:00.0 (net_e1000_igb)\n  \
        capability     wanted    offered                        in force\n  \
        rx queues      4         1..16                          4\n  \
        rx TCP_CKSUM   yes       yes                            yes\n  \
        tx TCP_TSO     yes       no                             no\n  \
        rss            ipv4 tcp  ipv4, key 40 bytes, table 128  ipv4\n\
        \x20port=\"front\"\n2026 INFO other\n";

    #[test]
    fn a_table_is_read_between_other_lines() {
        let cards = cards_in(LOG);
        let [card] = cards.as_slice() else {
            panic!("{cards:?}")
        };
        assert_eq!(
            (card.name.as_str(), card.driver.as_str()),
            ("0000:01:00.0", "net_e1000_igb")
        );
        assert_eq!(card.in_force("rx queues").expect("there"), "4");
        assert_eq!(
            card.offered("rss").expect("there"),
            "ipv4, key 40 bytes, table 128"
        );
        assert!(card.must_have(&["rx TCP_CKSUM"]).is_ok());
        let missing = card.must_have(&["rx TCP_CKSUM", "tx TCP_TSO"]);
        assert!(
            missing
                .expect_err("not in force")
                .to_string()
                .contains("tx TCP_TSO")
        );
        assert!(card.in_force("colour").is_err());
    }
}
