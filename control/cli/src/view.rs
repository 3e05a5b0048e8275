//! Answers for eyes: which columns of an answer a human sees, and under which names.

use std::io::Write;

use millrace_api::{
    Answer, BackendRow, ConnectionRow, CounterRow, DropRow, LcoreRow, ListenerRow, NeighborRow,
    PortRow, Reloaded, RouteRow, Status,
};

use crate::table::Table;

macro_rules! table {
    ($rows:expr, $row:ident: $type:ty; $($header:literal => $cell:expr),+ $(,)?) => {{
        let mut table = Table::new(&[$($header),+]);
        for $row in $rows {
            let $row: &$type = $row;
            table.row([$($cell.to_string()),+]);
        }
        table
    }};
}

/// Writes the answer as tables and sentences.
pub(crate) fn write(answer: &Answer, out: &mut impl Write) -> std::io::Result<()> {
    match answer {
        Answer::Status(status) => status_lines(status, out),
        Answer::Reloaded(reloaded) => reloaded_lines(reloaded, out),
        Answer::Lcores(rows) => lcores(rows, out),
        Answer::Ports(rows) => ports(rows).write(out),
        Answer::Listeners(rows) => listeners(rows).write(out),
        Answer::Backends(rows) => backends(rows).write(out),
        Answer::Drops(rows) => table!(rows, row: DropRow;
            "DROPS" => row.total, "REASON" => row.name, "MEANING" => row.help)
        .write(out),
        Answer::Counters(rows) => table!(rows, row: CounterRow;
            "VALUE" => row.total, "COUNTER" => row.name, "MEANING" => row.help)
        .write(out),
        Answer::Neighbors(rows) => table!(rows, row: NeighborRow;
            "PORT" => row.port, "ADDRESS" => row.address, "MAC" => dash(&row.mac),
            "STATE" => row.state,
            "CONFIRMED" => row.confirmed_seconds.map_or("never".to_owned(), |age| format!("{age}s ago")))
        .write(out),
        Answer::Routes(rows) => table!(rows, row: RouteRow;
            "TO" => row.to, "VIA" => dash(&row.via), "PORT" => row.port, "MTU" => row.mtu,
            "SOURCE" => row.source)
        .write(out),
        Answer::Connections(connections) => {
            self::connections(&connections.rows).write(out)?;
            if connections.truncated {
                writeln!(out, "(there are more; --limit shows them)")?;
            }
            Ok(())
        }
    }
}

/// Writes the ports as `ip address` writes links; any other answer as `write` does.
pub(crate) fn write_as_links(answer: &Answer, out: &mut impl Write) -> std::io::Result<()> {
    let Answer::Ports(rows) = answer else {
        return write(answer, out);
    };
    for row in rows {
        // A card that an lcore polls is up; whether its cable is, the card says.
        let (flags, state) = if row.link_up {
            ("BROADCAST,MULTICAST,UP,LOWER_UP", "UP")
        } else {
            ("NO-CARRIER,BROADCAST,MULTICAST,UP", "DOWN")
        };
        let PortRow {
            port,
            name,
            mtu,
            driver,
            queues,
            mac,
            ..
        } = row;
        writeln!(
            out,
            "{port}: {name}: <{flags}> mtu {mtu} driver {driver} queues {queues} state {state}"
        )?;
        write!(out, "    link/ether {mac}")?;
        match (row.link_up, row.link_mbps) {
            (true, mbps) if mbps > 0 => writeln!(out, " speed {mbps}Mb/s")?,
            _ => writeln!(out)?,
        }
        for address in &row.addresses {
            let family = if address.contains(':') {
                "inet6"
            } else {
                "inet"
            };
            writeln!(out, "    {family} {address}")?;
        }
    }
    Ok(())
}

/// What each lcore is and does, what a frame costs it stage by stage, and how large its bursts are.
fn lcores(rows: &[LcoreRow], out: &mut impl Write) -> std::io::Result<()> {
    table!(rows, row: LcoreRow;
        "LCORE" => row.lcore, "CPU" => row.cpu, "PHASE" => row.phase,
        "ALIVE" => yes(row.alive), "BUSY%" => format!("{:.1}", row.busy_percent),
        "IDLE" => idle(row), "SLEEPS" => row.sleeps, "RSS" => row.rss,
        "RX-PACKETS" => row.rx_packets, "TX-PACKETS" => row.tx_packets,
        "TABLES" => row.generation)
    .write(out)?;
    writeln!(out)?;
    stages(rows).write(out)?;
    writeln!(out)?;
    bursts(rows).write(out)
}

fn stages(rows: &[LcoreRow]) -> Table {
    let header = [
        "LCORE",
        "CYCLES/PACKET",
        "RX",
        "STEER",
        "STACK",
        "LB",
        "TIMERS",
        "TX",
        "CONTROL",
        "REPORT",
    ];
    let mut table = Table::new(&header);
    for row in rows {
        let stages = row.stages.iter().map(|stage| stage.cycles_per_packet);
        let cells = std::iter::once(row.cycles_per_packet).chain(stages);
        let cells = cells.map(|cycles| format!("{cycles:.0}"));
        table.row(std::iter::once(row.lcore.to_string()).chain(cells));
    }
    table
}

fn bursts(rows: &[LcoreRow]) -> Table {
    let header = [
        "LCORE", "BURSTS", "0", "1", "2-3", "4-7", "8-15", "16-31", "32-63", "64+",
    ];
    let mut table = Table::new(&header);
    for row in rows {
        for (word, bursts) in [("rx", &row.rx_bursts), ("tx", &row.tx_bursts)] {
            let counts = bursts.iter().map(u64::to_string);
            table.row(
                [row.lcore.to_string(), word.to_owned()]
                    .into_iter()
                    .chain(counts),
            );
        }
    }
    table
}

/// What an lcore does without work, and what it was asked to do when that is something else.
fn idle(row: &LcoreRow) -> String {
    if row.idle == row.idle_asked {
        row.idle.clone()
    } else {
        format!("{} (not {})", row.idle, row.idle_asked)
    }
}

fn ports(rows: &[PortRow]) -> Table {
    table!(rows, row: PortRow;
        "PORT" => row.port, "NAME" => row.name, "DRIVER" => row.driver, "MAC" => row.mac,
        "MTU" => row.mtu, "VLAN" => row.vlan.map_or("-".to_owned(), |vlan| vlan.to_string()),
        "LINK" => link(row), "QUEUES" => row.queues, "RSS-TEST" => row.rss_test,
        "RX-PACKETS" => row.ipackets, "TX-PACKETS" => row.opackets,
        "RX-BYTES" => row.ibytes, "TX-BYTES" => row.obytes,
        "MISSED" => row.imissed, "RX-ERRORS" => row.ierrors, "TX-ERRORS" => row.oerrors,
        "ADDRESSES" => row.addresses.join(" "))
}

fn listeners(rows: &[ListenerRow]) -> Table {
    table!(rows, row: ListenerRow;
        "ID" => row.id, "NAME" => row.name, "ADDRESS" => row.address, "PORTS" => row.ports,
        "POOL" => row.pool, "CONGESTION" => row.congestion_control,
        "ACTIVE" => row.sessions_active, "TOTAL" => row.sessions_total,
        "BYTES-IN" => row.bytes_in, "BYTES-OUT" => row.bytes_out,
        "REFUSED" => row.refused, "RESETS" => row.resets)
}

fn backends(rows: &[BackendRow]) -> Table {
    table!(rows, row: BackendRow;
        "ID" => row.id, "POOL" => row.pool, "NAME" => row.name, "ADDRESS" => row.address,
        "WEIGHT" => row.weight, "STATE" => row.state, "CONGESTION" => row.congestion_control,
        "CHECK" => dash(&row.last_check),
        "CHECK-US" => row.check_rtt_us, "ACTIVE" => row.sessions_active,
        "TOTAL" => row.sessions_total, "BYTES-IN" => row.bytes_in, "BYTES-OUT" => row.bytes_out,
        "FAILED" => row.connect_failures, "RESETS" => row.resets,
        "PORTS-FREE" => row.ports_capacity.saturating_sub(row.ports_used))
}

fn connections(rows: &[ConnectionRow]) -> Table {
    table!(rows, row: ConnectionRow;
        "LCORE" => row.lcore, "CLIENT" => row.client, "VIP" => row.vip, "STATE" => row.client_state,
        "CONGESTION" => dash(&row.client_congestion), "SNAT" => row.snat, "BACKEND" => row.backend,
        "STATE" => row.backend_state, "CONGESTION" => dash(&row.backend_congestion),
        "LISTENER" => row.listener, "BYTES-IN" => row.bytes_in, "BYTES-OUT" => row.bytes_out,
        "AGE-MS" => row.age_ms, "RETRANS" => row.retransmissions)
}

fn status_lines(status: &Status, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(
        out,
        "control    {} running for {} s as process {}, configuration {}",
        status.version, status.uptime_seconds, status.pid, status.config_file
    )?;
    if status.attached {
        writeln!(
            out,
            "dataplane  process {}, boot {}, tables {} {}",
            status.dataplane_pid,
            status.boot_id,
            status.generation,
            if status.adopted {
                "adopted"
            } else {
                "not adopted yet"
            }
        )?;
    } else {
        writeln!(out, "dataplane  not there")?;
    }
    for lcore in &status.silent_lcores {
        writeln!(out, "warning    lcore {lcore} shows no sign of life")?;
    }
    for change in &status.pending {
        writeln!(out, "pending    {change}")?;
    }
    Ok(())
}

fn reloaded_lines(reloaded: &Reloaded, out: &mut impl Write) -> std::io::Result<()> {
    if reloaded.changes.is_empty() {
        return writeln!(out, "nothing changed");
    }
    for change in &reloaded.changes {
        writeln!(out, "{change}")?;
    }
    Ok(())
}

fn link(row: &PortRow) -> String {
    match (row.link_up, row.link_mbps) {
        (false, _) => "down".to_owned(),
        (true, 0) => "up".to_owned(),
        (true, mbps) => format!("{mbps}M"),
    }
}

fn dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

fn yes(flag: bool) -> &'static str {
    if flag { "yes" } else { "NO" }
}
