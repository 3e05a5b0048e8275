//! What control counts about itself, registered with the `prometheus` crate. The dataplane's
//! counters are in `metrics`.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Buckets of a probe's round trip: 50 µs, a neighbour in the same rack, to 10 s.
const PROBE_BUCKETS: [f64; 12] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25, 1.0, 10.0,
];

/// Control's own counters.
pub(crate) struct Tally {
    /// All of them.
    pub(crate) registry: Registry,
    /// Round trip of good probes in seconds.
    pub(crate) probe_seconds: Histogram,
    /// Probes by outcome.
    pub(crate) probes: IntCounterVec,
    /// Backends that went up or down.
    pub(crate) transitions: IntCounterVec,
    /// Frames the lcores handed over, by what they were.
    pub(crate) punted: IntCounterVec,
    /// Frames handed to the lcores.
    pub(crate) injected: IntCounter,
    /// Frames that found no room in any lcore's ring.
    pub(crate) inject_refused: IntCounter,
    /// Commands that were dropped because an lcore did not take any for long.
    pub(crate) commands_dropped: IntCounter,
    /// Tables published.
    pub(crate) publications: IntCounter,
    /// Reloads by result.
    pub(crate) reloads: IntCounterVec,
    /// Attachments to a dataplane.
    pub(crate) attachments: IntCounter,
    /// Whether control is attached.
    pub(crate) attached: IntGauge,
}

impl Tally {
    /// Registers everything.
    pub(crate) fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let labelled = |name: &str, help: &str, label: &str| -> prometheus::Result<IntCounterVec> {
            let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counters.clone()))?;
            Ok(counters)
        };
        let options = HistogramOpts::new(
            "millrace_health_probe_seconds",
            "Round trip of health probes that connected.",
        );
        let probe_seconds = Histogram::with_opts(options.buckets(PROBE_BUCKETS.to_vec()))?;
        registry.register(Box::new(probe_seconds.clone()))?;
        let attached = IntGauge::new("millrace_attached", "1 while control has a dataplane.")?;
        registry.register(Box::new(attached.clone()))?;
        Ok(Self {
            probe_seconds,
            probes: labelled(
                "millrace_health_probes_total",
                "Health probes that ended.",
                "outcome",
            )?,
            transitions: labelled(
                "millrace_backend_transitions_total",
                "Backends that probes brought up or took down.",
                "to",
            )?,
            punted: labelled(
                "millrace_control_punted_frames_total",
                "Frames that lcores handed to control.",
                "kind",
            )?,
            injected: counter(
                "millrace_control_injected_frames_total",
                "Frames that control gave to lcores to send.",
            )?,
            inject_refused: counter(
                "millrace_control_inject_refused_total",
                "Frames of control that found every lcore's ring full.",
            )?,
            commands_dropped: counter(
                "millrace_control_commands_dropped_total",
                "Commands dropped because an lcore took none for long.",
            )?,
            publications: counter(
                "millrace_control_publications_total",
                "Generations of tables published.",
            )?,
            reloads: labelled(
                "millrace_control_reloads_total",
                "Reloads of the configuration.",
                "result",
            )?,
            attachments: counter(
                "millrace_control_attachments_total",
                "Dataplanes that control attached to.",
            )?,
            attached,
            registry,
        })
    }
}
