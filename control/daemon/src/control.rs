//! Control itself: owns every part, turns them over, takes the steps that `reconcile` asks for.
//!
//! Single-threaded. `turn` does a bounded amount of work on the rings and returns; requests come in
//! between. Nothing in here waits.

use std::collections::HashMap;
use std::path::PathBuf;

use millrace_abi::{Command, Event, NeighborState, ProbeOutcome};
use millrace_api::{
    Answer, CONNECTIONS_MAX, Connections, Failure, FailureKind, Outcome, Reloaded, Request,
};
use millrace_base::{Address, Instant, Nanos};
use millrace_config::{Change, Config, Problems, Takes};

use crate::attach::Attachment;
use crate::clock;
use crate::health::{self, BackendKey, Health};
use crate::listing::Listing;
use crate::memo::Memo;
use crate::neighbor::{Action, Outgoing, Punted, Table, Timings};
use crate::outbox::{Outbox, inject};
use crate::publish::{self, Desired, Ports};
use crate::reconcile::{Actual, Step, reconcile};
use crate::tally::Tally;

/// Frames taken from one lcore in a turn: an ARP storm delays the rest of a turn by well under a
/// millisecond.
const FRAMES_MAX: usize = 128;
/// Events taken from one lcore in a turn: an eighth of its ring.
const EVENTS_MAX: usize = 512;
/// How often a missing dataplane is looked for.
const ATTACH_INTERVAL: Nanos = Nanos::from_millis(100);
/// How often the dataplane's death or replacement is looked for.
const PRESENCE_INTERVAL: Nanos = Nanos::from_millis(250);
/// How often control shows that it lives.
const HEARTBEAT_INTERVAL: Nanos = Nanos::from_millis(100);
/// RFC 5227 section 2.3: ANNOUNCE_INTERVAL; two announcements are made.
const ANNOUNCE_INTERVAL: Nanos = Nanos::from_secs(2);

/// Who waits for the answer to a request.
pub(crate) type Reply = tokio::sync::oneshot::Sender<Outcome>;

/// Everything control knows.
pub(crate) struct Control {
    pub(crate) config_path: PathBuf,
    pub(crate) config: Config,
    pub(crate) directory: PathBuf,
    pub(crate) started: Instant,
    pub(crate) attachment: Option<Attachment>,
    pub(crate) neighbors: Table,
    pub(crate) health: Health,
    pub(crate) memo: Memo,
    pub(crate) actual: Actual,
    pub(crate) tally: Tally,
    pub(crate) silent_lcores: Vec<u16>,
    pub(crate) loads: Vec<crate::lcores::Load>,
    /// The configuration that this process was started with, for keys that are read once.
    booted: Config,
    /// The configuration that the dataplane was probably started with.
    dataplane_booted: Config,
    pub(crate) desired: Option<Desired>,
    /// The backends that are probed, by their number.
    probed: HashMap<u16, BackendKey>,
    outbox: Outbox,
    announce_again: Vec<(Instant, Vec<Address>)>,
    listing: Option<(Listing, Reply)>,
    next_token: u64,
    last_boot: Option<u64>,
    next_attach: Instant,
    next_presence: Instant,
    next_heartbeat: Instant,
    /// Why there is no attachment; empty while there is one.
    pub(crate) last_refusal: String,
}

impl Control {
    /// Control with this configuration; not attached yet.
    pub(crate) fn new(
        config_path: PathBuf,
        config: Config,
        now: Instant,
    ) -> prometheus::Result<Self> {
        let seed = clock::seed();
        let mut memo = Memo::load(&config.runtime_dir);
        memo.assign(&config);
        let mut health = Health::new(seed);
        health.configure(now, &config, |key| memo.was_down(key));
        Ok(Self {
            config_path,
            directory: config.runtime_dir.clone(),
            started: now,
            attachment: None,
            neighbors: Table::new(Timings::new(&config.neighbor), seed),
            health,
            memo,
            actual: Actual::default(),
            tally: Tally::new()?,
            silent_lcores: Vec::new(),
            loads: Vec::new(),
            booted: config.clone(),
            dataplane_booted: config.clone(),
            config,
            desired: None,
            probed: HashMap::new(),
            outbox: Outbox::default(),
            announce_again: Vec::new(),
            listing: None,
            next_token: seed,
            last_boot: None,
            next_attach: Instant::ZERO,
            next_presence: Instant::ZERO,
            next_heartbeat: Instant::ZERO,
            last_refusal: String::new(),
        })
    }

    /// One turn: looks at everything once. Tells whether the rings had work, so that the next turn
    /// should come soon.
    pub(crate) fn turn(&mut self, now: Instant) -> bool {
        if self.attachment.is_none() {
            self.try_attach(now);
        } else if self.next_presence.is_due(now) {
            self.look_after(now);
        }
        if self.attachment.is_none() {
            return false;
        }
        // First who we are: frames that waited for us are read in that light.
        self.take_steps(now);
        let frames = self.take_frames(now);
        let events = self.take_events(now);
        self.neighbors.advance(now);
        self.probe(now);
        self.announce_again(now);
        self.act_on_neighbors();
        self.list(now);
        if let Some(attachment) = &mut self.attachment {
            if self.next_heartbeat.is_due(now) {
                self.next_heartbeat = now.after(HEARTBEAT_INTERVAL);
                attachment.handle.heartbeat(now);
            }
            self.outbox.flush(&mut attachment.handle.commands);
        }
        frames + events > 0 || self.listing.is_some()
    }

    /// A request from the socket; the answer goes to `reply`, perhaps later.
    pub(crate) fn request(&mut self, now: Instant, request: &Request, reply: Reply) {
        let outcome = match request {
            Request::Connections { limit } => {
                self.begin_listing(now, *limit, reply);
                return;
            }
            Request::Reload => self.reload_answer(now),
            Request::Status => Outcome::Ok(Answer::Status(self.status(now))),
            Request::Show(topic) => self.show(now, *topic),
        };
        // A client that left does not want its answer.
        let _ = reply.send(outcome);
    }

    /// Reads the configuration again; with mistakes nothing changes.
    pub(crate) fn reload(&mut self, now: Instant) -> Result<Reloaded, Problems> {
        let result = millrace_config::load(&self.config_path);
        let word = if result.is_ok() { "ok" } else { "refused" };
        self.tally.reloads.with_label_values(&[word]).inc();
        let new = result.inspect_err(|problems| {
            tracing::error!(count = problems.0.len(), "reload refused:\n{problems}");
        })?;
        let changes = millrace_config::diff(&self.config, &new);
        tracing::info!(changes = changes.len(), "configuration reloaded");
        for change in &changes {
            tracing::info!("{change}");
        }
        self.config = new;
        self.memo.assign(&self.config);
        let memo = &self.memo;
        self.health
            .configure(now, &self.config, |key| memo.was_down(key));
        self.neighbors
            .set_timings(Timings::new(&self.config.neighbor));
        self.desire();
        Ok(Reloaded {
            changes: changes.iter().map(Change::to_string).collect(),
            pending: self.pending(),
        })
    }

    /// Changes that wait for a restart.
    pub(crate) fn pending(&self) -> Vec<String> {
        let waits = |old: &Config, takes: Takes| {
            let changes = millrace_config::diff(old, &self.config).into_iter();
            changes
                .filter(move |change| change.takes == takes)
                .map(|change| change.to_string())
        };
        let control = waits(&self.booted, Takes::ControlRestart);
        control
            .chain(waits(&self.dataplane_booted, Takes::DataplaneRestart))
            .collect()
    }

    /// Where the configured ports are in the dataplane.
    pub(crate) fn ports(&self) -> Ports {
        let attachment = self.attachment.as_ref();
        let find = |name: &str| attachment.and_then(|it| it.port_named(name));
        self.config
            .ports
            .iter()
            .map(|port| find(port.name.as_str()))
            .collect()
    }

    fn try_attach(&mut self, now: Instant) {
        if !self.next_attach.is_due(now) {
            return;
        }
        self.next_attach = now.after(ATTACH_INTERVAL);
        let attachment = match Attachment::open(&self.directory, now) {
            Ok(attachment) => attachment,
            Err(error) => {
                // Said once, not ten times a second.
                let refusal = error.to_string();
                if refusal != self.last_refusal {
                    if error.is_for_good() {
                        tracing::error!("cannot control the dataplane: {refusal}");
                    } else {
                        tracing::warn!("waiting for the dataplane: {refusal}");
                    }
                    self.last_refusal = refusal;
                }
                return;
            }
        };
        let region = attachment.region();
        let boot_id = region.boot_id();
        tracing::info!(
            pid = region.dataplane_pid(),
            boot_id = format!("{boot_id:016x}"),
            lcores = region.lcore_count(),
            ports = region.port_count(),
            generation = attachment.handle.tables.generation(),
            "attached to the dataplane"
        );
        self.outbox = Outbox::new(region.lcore_count());
        self.loads = vec![crate::lcores::Load::default(); region.lcore_count()];
        self.last_refusal.clear();
        self.tally.attachments.inc();
        self.tally.attached.set(1);
        self.attachment = Some(attachment);
        if self.last_boot.is_some_and(|last| last != boot_id) {
            // The successor knows nothing; and it was started with the file as it is now.
            self.dataplane_booted = self.config.clone();
            self.neighbors.tell_all();
        }
        self.last_boot = Some(boot_id);
        self.actual = Actual::default();
        self.desire();
        let ports = self.config.ports.iter().zip(self.ports());
        for (port, _) in ports.filter(|(_, found)| found.is_none()) {
            tracing::error!(port = %port.name, "the dataplane has no such port: restart it");
        }
    }

    fn look_after(&mut self, now: Instant) {
        self.next_presence = now.after(PRESENCE_INTERVAL);
        let Some(attachment) = &mut self.attachment else {
            return;
        };
        if let Some(why) = attachment.ended() {
            tracing::warn!("detached: {why}");
            self.attachment = None;
            self.tally.attached.set(0);
            self.actual = Actual::default();
            self.next_attach = now;
            self.silent_lcores.clear();
            if let Some((_, reply)) = self.listing.take() {
                let _ = reply.send(self.no_dataplane());
            }
            return;
        }
        let silent = attachment.silent_lcores(now);
        if silent != self.silent_lcores {
            tracing::warn!(lcores = ?silent, "lcores without a sign of life");
            self.silent_lcores = silent;
        }
    }

    fn take_frames(&mut self, now: Instant) -> usize {
        let Some(attachment) = &mut self.attachment else {
            return 0;
        };
        let (links, neighbors, tally) = (&self.actual.links, &mut self.neighbors, &self.tally);
        let (mut count, mut out) = (0, Vec::new());
        for (lcore, punt) in attachment.handle.punt.iter_mut().enumerate() {
            for _ in 0..FRAMES_MAX {
                let taken = punt.pop(|port, _reason, frame| {
                    links.receive(now, port, frame, neighbors, &mut out)
                });
                let Some(punted) = taken else { break };
                count += 1;
                tally.punted.with_label_values(&[kind(punted)]).inc();
            }
            // Answers leave by the lcore that heard the question.
            for outgoing in out.drain(..) {
                let injected = inject(&mut attachment.handle.inject, lcore, &outgoing);
                let counter = if injected {
                    &tally.injected
                } else {
                    &tally.inject_refused
                };
                counter.inc();
            }
        }
        count
    }

    fn take_events(&mut self, now: Instant) -> usize {
        let Some(attachment) = &mut self.attachment else {
            return 0;
        };
        let mut events = Vec::new();
        for (lcore, ring) in (0u16..).zip(attachment.handle.events.iter_mut()) {
            ring.pop_batch(EVENTS_MAX, |event| events.push((lcore, event)));
        }
        let count = events.len();
        for (lcore, event) in events {
            self.on_event(now, lcore, event);
        }
        count
    }

    fn on_event(&mut self, now: Instant, lcore: u16, event: Event) {
        match event {
            Event::NeighborNeeded { port, address } => {
                if self.actual.links.is_on_link((port, address)) {
                    self.neighbors.need(now, (port, address));
                }
            }
            Event::NeighborConfirmed { port, address } => {
                if self.actual.links.is_on_link((port, address)) {
                    self.neighbors.confirm(now, (port, address));
                }
            }
            Event::ProbeResult {
                token,
                outcome,
                rtt_us,
            } => {
                self.on_probe(token, outcome, rtt_us);
            }
            Event::ConnectionRow(row) => {
                if let Some((listing, _)) = &mut self.listing {
                    listing.row(now, lcore, row);
                }
            }
            Event::ConnectionsEnd {
                token, next_cursor, ..
            } => {
                if let Some((listing, _)) = &mut self.listing {
                    listing.page_end(now, lcore, token, next_cursor);
                }
            }
            Event::BackendFailed { backend, reason } => {
                if reason != ProbeOutcome::NoResources
                    && let Some(key) = self.probed.get(&backend.number())
                {
                    self.health.suspect(now, key);
                }
            }
        }
    }

    fn on_probe(&mut self, token: u64, outcome: ProbeOutcome, rtt_us: u32) {
        let Some(judged) = self.health.judge(token, outcome, rtt_us) else {
            return;
        };
        self.tally
            .probes
            .with_label_values(&[health::word(judged.outcome)])
            .inc();
        if judged.outcome == ProbeOutcome::Connected {
            self.tally
                .probe_seconds
                .observe(f64::from(rtt_us) / 1_000_000.0);
        }
        let Some(change) = judged.change else { return };
        let (pool, endpoint) = &change.key;
        let word = if change.up { "up" } else { "down" };
        let outcome = health::word(change.outcome);
        tracing::warn!(%pool, backend = %endpoint, outcome, "backend is {word}");
        self.tally.transitions.with_label_values(&[word]).inc();
        self.desire();
    }

    fn probe(&mut self, now: Instant) {
        for order in self.health.orders(now) {
            let dropped = self.outbox.queue_for_next(Command::Probe {
                token: order.token,
                target: order.target,
                timeout_ms: order.timeout_ms,
            });
            self.tally.commands_dropped.inc_by(dropped as u64);
        }
    }

    /// Derives again what the dataplane should have, and remembers first what must not be
    /// forgotten.
    fn desire(&mut self) {
        self.memo
            .note_health(publish::judged(&self.config), self.health.down());
        if let Err(error) = self.memo.save(&self.directory) {
            tracing::error!(%error, "cannot write the memo; numbers may change at the next restart");
        }
        let number = |key: BackendKey| Some((self.memo.backend(&key)?, key));
        self.probed = publish::judged(&self.config).filter_map(number).collect();
        if self.attachment.is_none() {
            return;
        }
        let ports = self.ports();
        match publish::desire(&self.config, &ports, &self.memo, &self.health) {
            Ok(desired) => self.desired = Some(desired),
            Err(error) => tracing::error!(%error, "the tables are too small; nothing is published"),
        }
    }

    fn take_steps(&mut self, now: Instant) {
        let Some(desired) = self.desired.take() else {
            return;
        };
        let mut later = false;
        for step in reconcile(&desired, &self.actual) {
            match step {
                Step::Relink => {
                    self.actual.links = desired.links.clone();
                    let links = &self.actual.links;
                    self.neighbors.retain(|key| links.is_on_link(key));
                }
                Step::Publish => later = !self.publish(&desired),
                Step::Announce(addresses) => {
                    self.announce(&addresses);
                    self.announce_again
                        .push((now.after(ANNOUNCE_INTERVAL), addresses));
                }
                Step::Pin => {
                    self.neighbors.pin(now, desired.pinned.clone());
                    self.actual.pinned = desired.pinned.clone();
                }
            }
        }
        if later {
            self.desired = Some(desired);
        }
    }

    /// Whether the tables went out; an lcore that has not adopted the last ones makes us wait.
    fn publish(&mut self, desired: &Desired) -> bool {
        let Some(attachment) = &mut self.attachment else {
            return false;
        };
        let published = attachment
            .handle
            .publish(|tables| *tables = *desired.tables);
        if let Ok(generation) = published {
            tracing::info!(
                generation,
                listeners = desired.tables.listeners().len(),
                backends = desired.tables.backends().len(),
                "tables published"
            );
            self.tally.publications.inc();
            self.actual.tables = Some(desired.tables.clone());
        }
        published.is_ok()
    }

    fn announce(&mut self, addresses: &[Address]) {
        for outgoing in self.actual.links.announcements(addresses) {
            self.send(&outgoing);
        }
    }

    fn announce_again(&mut self, now: Instant) {
        let due = self.announce_again.extract_if(.., |(at, _)| at.is_due(now));
        let due: Vec<_> = due.collect();
        for (_, addresses) in due {
            self.announce(&addresses);
        }
    }

    fn act_on_neighbors(&mut self) {
        for action in self.neighbors.take_actions() {
            match action {
                Action::Solicit { key, to } => {
                    if let Some(outgoing) = self.actual.links.solicitation(key, to) {
                        self.send(&outgoing);
                    }
                }
                Action::Tell { key, state } => {
                    let (port, address) = key;
                    if state == NeighborState::Failed {
                        tracing::debug!(%address, port = port.number(), "neighbour does not answer");
                    }
                    let command = Command::NeighborSet {
                        port,
                        address,
                        state,
                    };
                    let dropped = self.outbox.queue_for_all(command);
                    self.tally.commands_dropped.inc_by(dropped as u64);
                }
            }
        }
    }

    fn send(&mut self, outgoing: &Outgoing) {
        let Some(attachment) = &mut self.attachment else {
            return;
        };
        let injected = inject(&mut attachment.handle.inject, 0, outgoing);
        let counter = if injected {
            &self.tally.injected
        } else {
            &self.tally.inject_refused
        };
        counter.inc();
    }

    fn begin_listing(&mut self, now: Instant, limit: u32, reply: Reply) {
        let Some(attachment) = &self.attachment else {
            let _ = reply.send(self.no_dataplane());
            return;
        };
        if self.listing.is_some() {
            let _ = reply.send(Outcome::Error(Failure {
                kind: FailureKind::Busy,
                message: "another listing is in progress; ask again".to_owned(),
            }));
            return;
        }
        self.next_token = self.next_token.wrapping_add(1);
        let limit = limit.min(CONNECTIONS_MAX) as usize;
        let lcores = attachment.region().lcore_count();
        self.listing = Some((Listing::new(self.next_token, limit, lcores, now), reply));
    }

    fn list(&mut self, now: Instant) {
        let Some((mut listing, reply)) = self.listing.take() else {
            return;
        };
        for (lcore, command) in listing.commands() {
            let dropped = self.outbox.queue(lcore, command);
            self.tally.commands_dropped.inc_by(dropped as u64);
        }
        if !listing.is_over(now) {
            self.listing = Some((listing, reply));
            return;
        }
        let (rows, truncated) = listing.finish();
        let rows = rows
            .into_iter()
            .map(|(lcore, row)| self.connection_row(lcore, &row));
        let rows = rows.collect();
        let answer = Answer::Connections(Connections { rows, truncated });
        let _ = reply.send(Outcome::Ok(answer));
    }

    fn reload_answer(&mut self, now: Instant) -> Outcome {
        match self.reload(now) {
            Ok(reloaded) => Outcome::Ok(Answer::Reloaded(reloaded)),
            Err(problems) => Outcome::Error(Failure {
                kind: FailureKind::Config,
                message: problems.to_string(),
            }),
        }
    }
}

fn kind(punted: Punted) -> &'static str {
    match punted {
        Punted::Arp => "arp",
        Punted::Nd => "nd",
        Punted::Other => "other",
        Punted::Malformed(_) => "malformed",
        Punted::Own => "own",
    }
}
