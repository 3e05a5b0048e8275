//! Health: which backends are up. Schedules probes, counts their outcomes, decides.
//!
//! Pure: time is an argument, orders come out, results go in; `tcp` knows what a probe's outcome
//! says. A backend counts as its pool's `initial` says (up by default, so that a restart of
//! everything serves at once) until `fall` bad probes in a row take it down or `rise` good ones
//! bring it up. What the previous control had found out is taken over.

mod tcp;

pub(crate) use self::tcp::word;

use std::collections::BTreeMap;

use millrace_abi::ProbeOutcome;
use millrace_base::{Endpoint, Instant, Nanos, Rng};
use millrace_config::{Config, Health as Settings, InitialHealth};

use self::tcp::Verdict;

/// How long after its timeout a probe's result may still come before the probe counts as lost.
const RESULT_GRACE: Nanos = Nanos::from_secs(1);
/// Probes begun in one turn. With 4,096 backends and a turn each millisecond all are begun within
/// 64 ms, and a burst takes a sixteenth of an lcore's command ring.
const ORDERS_MAX: usize = 64;

/// A backend: its pool's name and its endpoint.
pub(crate) type BackendKey = (String, Endpoint);

/// A probe that an lcore shall make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) token: u64,
    pub(crate) target: Endpoint,
    pub(crate) timeout_ms: u32,
}

/// A decision about a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) key: BackendKey,
    pub(crate) up: bool,
    pub(crate) outcome: ProbeOutcome,
}

/// What a result meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judged {
    /// What the outcome says about the backend.
    pub(crate) outcome: ProbeOutcome,
    /// What was decided on it.
    pub(crate) change: Option<Change>,
}

#[derive(Clone, Debug)]
struct Target {
    settings: Settings,
    up: bool,
    good: u8,
    bad: u8,
    next: Instant,
    outstanding: Option<(u64, Instant)>,
    last: Option<ProbeOutcome>,
    rtt_us: u32,
}

/// The health of every backend that is probed.
#[derive(Debug)]
pub(crate) struct Health {
    targets: BTreeMap<BackendKey, Target>,
    tokens: BTreeMap<u64, BackendKey>,
    next_token: u64,
    rng: Rng,
    lost: u64,
}

impl Health {
    /// Nobody is probed yet. The seed also starts the tokens, so that results of a previous
    /// control's probes match none of ours.
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        Self {
            targets: BTreeMap::new(),
            tokens: BTreeMap::new(),
            next_token: rng.next_u64(),
            rng,
            lost: 0,
        }
    }

    /// Probes the backends of this configuration from now on. Known backends keep their state;
    /// `was_down` tells about the others what an earlier control had found out.
    pub(crate) fn configure(
        &mut self,
        now: Instant,
        config: &Config,
        was_down: impl Fn(&BackendKey) -> Option<bool>,
    ) {
        let mut targets = BTreeMap::new();
        for pool in &config.pools {
            let Some(settings) = pool.health else {
                continue;
            };
            for backend in &pool.backends {
                let key = (pool.name.to_string(), backend.endpoint);
                let target = match self.targets.remove(&key) {
                    Some(known) => Target { settings, ..known },
                    None => {
                        let down =
                            was_down(&key).unwrap_or(settings.initial == InitialHealth::Down);
                        self.target(now, settings, !down)
                    }
                };
                targets.insert(key, target);
            }
        }
        self.targets = targets;
        let targets = &self.targets;
        self.tokens.retain(|_, key| targets.contains_key(key));
    }

    /// The probes that are due. Results that did not come are given up here.
    pub(crate) fn orders(&mut self, now: Instant) -> Vec<Order> {
        let mut orders = Vec::new();
        for (key, target) in &mut self.targets {
            if let Some((token, deadline)) = target.outstanding
                && deadline.is_due(now)
            {
                // The lcore is silent or its command ring was full: that says nothing about the
                // backend.
                self.lost += 1;
                self.tokens.remove(&token);
                target.outstanding = None;
            }
            let busy = target.outstanding.is_some() || orders.len() >= ORDERS_MAX;
            if busy || !target.next.is_due(now) {
                continue;
            }
            let token = self.next_token;
            self.next_token = self.next_token.wrapping_add(1);
            let timeout = Nanos::from_millis(target.settings.timeout_ms.into());
            target.outstanding = Some((token, now.after(timeout).after(RESULT_GRACE)));
            target.next = now.after(jittered(target.settings.interval_ms, &mut self.rng));
            self.tokens.insert(token, key.clone());
            orders.push(Order {
                token,
                target: key.1,
                timeout_ms: target.settings.timeout_ms,
            });
        }
        orders
    }

    /// A probe ended. `None` when it is not one of ours.
    pub(crate) fn judge(
        &mut self,
        token: u64,
        outcome: ProbeOutcome,
        rtt_us: u32,
    ) -> Option<Judged> {
        let key = self.tokens.remove(&token)?;
        let target = self.targets.get_mut(&key)?;
        target.outstanding = None;
        target.last = Some(outcome);
        let Settings { rise, fall, .. } = target.settings;
        match tcp::verdict(outcome) {
            Verdict::Good => {
                target.rtt_us = rtt_us;
                target.bad = 0;
                target.good = target.good.saturating_add(1);
            }
            Verdict::Bad => {
                target.good = 0;
                target.bad = target.bad.saturating_add(1);
            }
            Verdict::Nothing => {}
        }
        let rises = !target.up && target.good >= rise;
        let falls = target.up && target.bad >= fall;
        if rises || falls {
            target.up = rises;
        }
        let up = target.up;
        let change = (rises || falls).then_some(Change { key, up, outcome });
        Some(Judged { outcome, change })
    }

    /// A session could not be connected: the backend is probed at once, not only when its turn
    /// comes.
    pub(crate) fn suspect(&mut self, now: Instant, key: &BackendKey) {
        if let Some(target) = self.targets.get_mut(key)
            && target.outstanding.is_none()
            && target.up
        {
            let soon = Nanos::from_millis(u64::from(target.settings.interval_ms / 10));
            target.next = target.next.min(now.after(soon));
        }
    }

    /// Whether the backend may get connections. One that is not probed may.
    pub(crate) fn is_up(&self, key: &BackendKey) -> bool {
        self.targets.get(key).is_none_or(|target| target.up)
    }

    /// The last probe's outcome and the last good one's round trip in microseconds.
    pub(crate) fn last(&self, key: &BackendKey) -> (Option<ProbeOutcome>, u32) {
        let target = self.targets.get(key);
        target.map_or((None, 0), |target| (target.last, target.rtt_us))
    }

    /// Every probed backend that is down.
    pub(crate) fn down(&self) -> impl Iterator<Item = &BackendKey> {
        self.targets
            .iter()
            .filter(|(_, target)| !target.up)
            .map(|(key, _)| key)
    }

    /// Probes whose result never came.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    /// First probes are spread over one interval, so that backends are not probed in step.
    fn target(&mut self, now: Instant, settings: Settings, up: bool) -> Target {
        let offset = self.rng.below(settings.interval_ms);
        Target {
            settings,
            up,
            good: 0,
            bad: 0,
            next: now.after(Nanos::from_millis(offset.into())),
            outstanding: None,
            last: None,
            rtt_us: 0,
        }
    }
}

/// The interval, up to a tenth shorter or longer.
fn jittered(interval_ms: u32, rng: &mut Rng) -> Nanos {
    let tenth = interval_ms / 10;
    let shift = rng.below(tenth.saturating_mul(2).saturating_add(1));
    Nanos::from_millis(u64::from(interval_ms - tenth) + u64::from(shift))
}

#[cfg(test)]
mod tests;
