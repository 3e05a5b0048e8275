//! What an operator sees: rows made of the region, the configuration and what control knows.
//! Changes nothing.

use millrace_abi::{BackendState, ConnectionRow, CounterKind, RssProof, TcpState};
use millrace_api as api;
use millrace_api::{Answer, Failure, FailureKind, Outcome, Status, Topic};
use millrace_base::{BackendId, CongestionControl, Instant, ListenerId, PortId, VlanId};
use millrace_config::Leg;

use crate::attach::Attachment;
use crate::control::Control;
use crate::health;

/// What every counter of a drop reason begins with.
pub(crate) const DROP_PREFIX: &str = "drop_";

impl Control {
    /// What is answered when only the dataplane could tell.
    pub(crate) fn no_dataplane(&self) -> Outcome {
        Outcome::Error(Failure {
            kind: FailureKind::NoDataplane,
            message: self.why_not_attached(),
        })
    }

    /// Why nothing is known of a dataplane, in words.
    pub(crate) fn why_not_attached(&self) -> String {
        match self.last_refusal.as_str() {
            "" => "control is not attached to a dataplane yet".to_owned(),
            refusal => format!("control is not attached to a dataplane: {refusal}"),
        }
    }

    /// The rows of a topic.
    pub(crate) fn show(&mut self, now: Instant, topic: Topic) -> Outcome {
        if topic == Topic::Neighbors {
            return Outcome::Ok(Answer::Neighbors(self.neighbor_rows(now)));
        }
        if topic == Topic::Routes {
            return Outcome::Ok(Answer::Routes(self.route_rows()));
        }
        let Some(attachment) = &self.attachment else {
            return self.no_dataplane();
        };
        Outcome::Ok(match topic {
            Topic::Ports => Answer::Ports(self.port_rows(attachment)),
            Topic::Listeners => Answer::Listeners(self.listener_rows(attachment)),
            Topic::Backends => Answer::Backends(self.backend_rows(attachment)),
            Topic::Drops => Answer::Drops(drop_rows(attachment)),
            Topic::Counters => Answer::Counters(counter_rows(attachment)),
            Topic::Lcores => Answer::Lcores(self.lcore_rows()),
            Topic::Neighbors => Answer::Neighbors(self.neighbor_rows(now)),
            Topic::Routes => Answer::Routes(self.route_rows()),
        })
    }

    /// How control and the dataplane are.
    pub(crate) fn status(&self, now: Instant) -> Status {
        let attachment = self.attachment.as_ref();
        let region = attachment.map(Attachment::region);
        let tables = attachment.map(|attachment| &attachment.handle.tables);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: now.since(self.started).as_millis() / 1_000,
            config_file: self.config_path.display().to_string(),
            attached: attachment.is_some(),
            dataplane_pid: region.map_or(0, |region| region.dataplane_pid()),
            boot_id: region.map_or(String::new(), |region| format!("{:016x}", region.boot_id())),
            generation: tables.map_or(0, |tables| tables.generation()),
            adopted: self.desired.is_none()
                && tables.is_some_and(|tables| tables.check_adopted().is_ok()),
            silent_lcores: self.silent_lcores.clone(),
            pending: self.pending(),
        }
    }

    /// A session's row.
    pub(crate) fn connection_row(&self, lcore: u16, row: &ConnectionRow) -> api::ConnectionRow {
        let id = row.listener_id.number();
        let listener = self
            .config
            .listeners
            .iter()
            .find(|listener| self.memo.listener(listener.name.as_str()) == Some(id));
        api::ConnectionRow {
            lcore,
            client: row.client.to_string(),
            vip: row.vip.to_string(),
            snat: row.snat.to_string(),
            backend: row.backend.to_string(),
            listener: listener.map_or_else(|| format!("#{id}"), |it| it.name.to_string()),
            client_state: tcp_word(row.client_state).to_owned(),
            backend_state: tcp_word(row.backend_state).to_owned(),
            client_congestion: congestion_word(row.client_congestion),
            backend_congestion: congestion_word(row.backend_congestion),
            bytes_in: row.bytes_in,
            bytes_out: row.bytes_out,
            age_ms: row.age_ms,
            retransmissions: row.retransmissions,
        }
    }

    fn port_rows(&self, attachment: &Attachment) -> Vec<api::PortRow> {
        let rows = (0u16..).zip(&attachment.ports).map(|(port, info)| {
            let state = attachment
                .region()
                .port_state(usize::from(port))
                .unwrap_or_default();
            let mut configured = self.config.ports.iter();
            let configured = configured.find(|it| it.name.as_str() == info.name.as_str());
            let addresses = configured.into_iter().flat_map(|port| &port.addresses);
            api::PortRow {
                port,
                name: info.name.to_string(),
                driver: info.driver.to_string(),
                mac: info.mac().to_string(),
                mtu: info.mtu,
                vlan: configured.and_then(|port| port.vlan).map(VlanId::number),
                queues: info.queues,
                rss_test: info.rss_proof().map_or("unknown", proof_word).to_owned(),
                rx_mode: info.rx_mode.to_string(),
                tx_mode: info.tx_mode.to_string(),
                link_up: state.link_up != 0,
                link_mbps: state.link_mbps,
                ipackets: state.ipackets,
                opackets: state.opackets,
                ibytes: state.ibytes,
                obytes: state.obytes,
                imissed: state.imissed,
                ierrors: state.ierrors,
                oerrors: state.oerrors,
                addresses: addresses
                    .map(|own| format!("{}/{}", own.address, own.network.length()))
                    .collect(),
            }
        });
        rows.collect()
    }

    fn listener_rows(&self, attachment: &Attachment) -> Vec<api::ListenerRow> {
        let rows = self.config.listeners.iter().filter_map(|listener| {
            let id = self.memo.listener(listener.name.as_str())?;
            let totals = attachment.region().listener_total(ListenerId::new(id));
            let pool = self.config.pools.get(listener.pool)?;
            Some(api::ListenerRow {
                id,
                name: listener.name.to_string(),
                address: listener.address.to_string(),
                ports: listener.ports.to_string(),
                pool: pool.name.to_string(),
                congestion_control: self.congestion_word_of(listener.leg),
                sessions_active: totals.sessions_active,
                sessions_total: totals.sessions_total,
                bytes_in: totals.bytes_in,
                bytes_out: totals.bytes_out,
                refused: totals.refused,
                resets: totals.resets,
            })
        });
        rows.collect()
    }

    fn backend_rows(&self, attachment: &Attachment) -> Vec<api::BackendRow> {
        let mut rows = Vec::new();
        for pool in &self.config.pools {
            for backend in &pool.backends {
                let key = (pool.name.to_string(), backend.endpoint);
                let Some(id) = self.memo.backend(&key) else {
                    continue;
                };
                let totals = attachment.region().backend_total(BackendId::new(id));
                let (last, check_rtt_us) = self.health.last(&key);
                let state = match (backend.drain, self.health.is_up(&key)) {
                    (true, _) => BackendState::Draining,
                    (false, true) => BackendState::Up,
                    (false, false) => BackendState::Down,
                };
                rows.push(api::BackendRow {
                    id,
                    pool: pool.name.to_string(),
                    name: backend.name.to_string(),
                    address: backend.endpoint.to_string(),
                    weight: backend.weight,
                    state: state_word(state).to_owned(),
                    congestion_control: self.congestion_word_of(pool.leg),
                    last_check: last.map_or("", health::word).to_owned(),
                    check_rtt_us,
                    sessions_active: totals.sessions_active,
                    sessions_total: totals.sessions_total,
                    bytes_in: totals.bytes_in,
                    bytes_out: totals.bytes_out,
                    connect_failures: totals.connect_failures,
                    resets: totals.resets,
                    ports_used: totals.ports_used,
                    ports_capacity: totals.ports_capacity,
                });
            }
        }
        rows
    }

    fn neighbor_rows(&self, now: Instant) -> Vec<api::NeighborRow> {
        let rows = self.neighbors.rows().map(|row| {
            let (port, address) = row.key;
            let since = row.confirmed.map(|at| now.since(at).as_millis() / 1_000);
            (
                row.key,
                api::NeighborRow {
                    port: self.port_name(port),
                    address: address.to_string(),
                    mac: row.mac.map_or(String::new(), |mac| mac.to_string()),
                    state: row.state.word().to_owned(),
                    confirmed_seconds: since,
                },
            )
        });
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by_key(|(key, _)| *key);
        rows.into_iter().map(|(_, row)| row).collect()
    }

    fn route_rows(&self) -> Vec<api::RouteRow> {
        let config = &self.config;
        let implied = config.ports.iter().flat_map(|port| {
            port.addresses.iter().map(|own| api::RouteRow {
                to: own.network.to_string(),
                via: String::new(),
                port: port.name.to_string(),
                mtu: port.mtu,
                source: "interface".to_owned(),
            })
        });
        let configured = config.routes.iter().map(|route| {
            let port = config.ports.get(route.port.index());
            api::RouteRow {
                to: route.to.to_string(),
                via: route.via.map_or(String::new(), |via| via.to_string()),
                port: port.map_or(String::new(), |port| port.name.to_string()),
                mtu: route.mtu.or(port.map(|port| port.mtu)).unwrap_or(0),
                source: "config".to_owned(),
            }
        });
        implied.chain(configured).collect()
    }

    fn congestion_word_of(&self, leg: Leg) -> String {
        let tcp = leg.over(self.config.tcp);
        tcp.congestion_control.name().to_owned()
    }

    fn port_name(&self, port: PortId) -> String {
        let link = self.actual.links.link(port);
        link.map_or_else(|| port.to_string(), |link| link.name.clone())
    }
}

/// Every counter with its sum and each lcore's value.
pub(crate) fn counter_rows(attachment: &Attachment) -> Vec<api::CounterRow> {
    let region = attachment.region();
    let rows = region
        .counters()
        .into_iter()
        .enumerate()
        .map(|(index, row)| {
            let lcores = 0..region.lcore_count();
            let lcores: Vec<u64> = lcores.map(|lcore| region.counter(lcore, index)).collect();
            api::CounterRow {
                name: row.name.to_string(),
                total: lcores
                    .iter()
                    .fold(0, |sum: u64, value| sum.wrapping_add(*value)),
                lcores,
                help: row.help.to_string(),
            }
        });
    rows.collect()
}

/// Whether each counter, in the same order, only grows.
pub(crate) fn counters_grow(attachment: &Attachment) -> Vec<bool> {
    let rows = attachment.region().counters();
    rows.iter()
        .map(|row| row.kind() == CounterKind::Counter)
        .collect()
}

fn drop_rows(attachment: &Attachment) -> Vec<api::DropRow> {
    let rows = counter_rows(attachment).into_iter().filter_map(|row| {
        let reason = row.name.strip_prefix(DROP_PREFIX);
        // The rings and queues of the dataplane count what they dropped under names of their own.
        let dropped = row.name.contains("_dropped").then_some(row.name.as_str());
        let name = reason.or(dropped)?.to_owned();
        (row.total > 0).then_some(api::DropRow {
            name,
            total: row.total,
            help: row.help,
        })
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.total));
    rows
}

fn state_word(state: BackendState) -> &'static str {
    match state {
        BackendState::Up => "up",
        BackendState::Down => "down",
        BackendState::Draining => "draining",
    }
}

fn tcp_word(state: TcpState) -> &'static str {
    match state {
        TcpState::Established => "ESTABLISHED",
        TcpState::SynSent => "SYN-SENT",
        TcpState::SynReceived => "SYN-RECEIVED",
        TcpState::FinWait1 => "FIN-WAIT-1",
        TcpState::FinWait2 => "FIN-WAIT-2",
        TcpState::TimeWait => "TIME-WAIT",
        TcpState::Closed => "CLOSED",
        TcpState::CloseWait => "CLOSE-WAIT",
        TcpState::LastAck => "LAST-ACK",
        TcpState::Listen => "LISTEN",
        TcpState::Closing => "CLOSING",
    }
}

fn congestion_word(control: Option<CongestionControl>) -> String {
    control.map_or("", CongestionControl::name).to_owned()
}

fn proof_word(proof: RssProof) -> &'static str {
    match proof {
        RssProof::Untested => "untested",
        RssProof::Proven => "proven",
        RssProof::Wrong => "wrong",
        RssProof::NoAnswer => "no answer",
    }
}
