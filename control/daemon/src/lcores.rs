//! How busy the lcores are, and with what: rows for `show lcores` and metrics.
//!
//! The dataplane tells sums since it started. What an operator wants to see is the load now, so
//! rows tell the difference to the last time somebody looked; metrics tell the sums.

use millrace_abi::limits::{BURST_BUCKETS, STAGES};
use millrace_abi::{IdleMode, LcorePhase, LcoreState, Stage};
use millrace_api::{LcoreRow, StageRow};
use prometheus::proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{CounterVec, Opts, Registry};

use crate::attach::Attachment;
use crate::control::Control;
use crate::metrics::{added, counters, gauges};

/// The largest burst of each bucket but the last; see `millrace_abi::burst_bucket`.
const BURST_BOUNDS: [f64; BURST_BUCKETS - 1] = [0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 63.0];

/// An lcore's cycles when they were last looked at, and its load before that.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Load {
    busy: u64,
    idle: u64,
    stages: [u64; STAGES],
    packets: u64,
    percent: f64,
    /// Cycles per frame by stage.
    per_packet: [f64; STAGES],
}

impl Load {
    /// Takes note of the cycles; between two looks that saw none, the load is the one before.
    fn observe(&mut self, state: &LcoreState) {
        let busy = state.busy_cycles.wrapping_sub(self.busy);
        let idle = state.idle_cycles.wrapping_sub(self.idle);
        let all = busy.saturating_add(idle);
        if all > 0 {
            self.percent = busy as f64 * 100.0 / all as f64;
            (self.busy, self.idle) = (state.busy_cycles, state.idle_cycles);
        }
        let packets = state.stage_packets.wrapping_sub(self.packets);
        if packets > 0 {
            let stages = state.stage_cycles.iter().zip(&self.stages);
            for (per_packet, (now, before)) in self.per_packet.iter_mut().zip(stages) {
                *per_packet = now.wrapping_sub(*before) as f64 / packets as f64;
            }
            (self.stages, self.packets) = (state.stage_cycles, state.stage_packets);
        }
    }

    fn stage_rows(&self) -> Vec<StageRow> {
        let stages = Stage::ALL.into_iter().zip(self.per_packet);
        let rows = stages.map(|(stage, cycles_per_packet)| StageRow {
            stage: stage.word().to_owned(),
            cycles_per_packet,
        });
        rows.collect()
    }
}

impl Control {
    /// One row for each lcore.
    pub(crate) fn lcore_rows(&mut self) -> Vec<LcoreRow> {
        let Some(attachment) = &self.attachment else {
            return Vec::new();
        };
        let region = attachment.region();
        let lcores = self.loads.len();
        let mut rows = Vec::new();
        for (lcore, load) in (0u16..).zip(&mut self.loads) {
            let index = usize::from(lcore);
            let info = region.lcore_info(index).unwrap_or_default();
            let state = region.lcore_state(index).unwrap_or_default();
            load.observe(&state);
            rows.push(LcoreRow {
                lcore,
                cpu: info.cpu,
                phase: state.phase().map_or("unknown", phase_word).to_owned(),
                alive: !self.silent_lcores.contains(&lcore),
                busy_percent: load.percent,
                busy_cycles: state.busy_cycles,
                idle_cycles: state.idle_cycles,
                idle: idle_word(state.idle_in_force),
                idle_asked: idle_word(state.idle_asked),
                rss: rss_word(state.rss_trusted, attachment.ports.len(), lcores),
                sleeps: state.sleeps,
                rx_packets: state.rx_packets,
                tx_packets: state.tx_packets,
                cycles_per_packet: load.per_packet.iter().sum(),
                stages: load.stage_rows(),
                rx_bursts: state.rx_bursts.to_vec(),
                tx_bursts: state.tx_bursts.to_vec(),
                generation: attachment.handle.tables.acknowledged(index),
            });
        }
        rows
    }
}

/// Who brings frames to an lcore: `trusted` has a bit for each port whose card does.
fn rss_word(trusted: u64, ports: usize, lcores: usize) -> String {
    let by_device = trusted.count_ones() as usize;
    let word = if lcores <= 1 {
        "-"
    } else if by_device == 0 {
        "software"
    } else if by_device >= ports {
        "device"
    } else {
        "device+software"
    };
    word.to_owned()
}

/// The lcores' counters; what the registry cannot hold comes back as families of its own.
pub(crate) fn collect(
    attachment: &Attachment,
    registry: &Registry,
) -> prometheus::Result<Vec<MetricFamily>> {
    let region = attachment.region();
    let seconds = "Time an lcore spent in turns with work, or without.";
    let options = Opts::new("millrace_lcore_seconds_total", seconds);
    let seconds = added(CounterVec::new(options, &["lcore", "state"])?, registry)?;
    let lcore = ["lcore"];
    let busy = "TSC cycles of an lcore in turns with work.";
    let busy = counters("lcore_busy_cycles", busy, &lcore, registry)?;
    let idle = "TSC cycles of an lcore in turns without work, sleep included.";
    let idle = counters("lcore_idle_cycles", idle, &lcore, registry)?;
    let stage = "Busy TSC cycles of an lcore by stage, estimated from one turn of many.";
    let stage = counters("lcore_stage_cycles", stage, &["lcore", "stage"], registry)?;
    let staged = "Frames received in the turns behind the cycles by stage, scaled likewise.";
    let staged = counters("lcore_stage_packets", staged, &lcore, registry)?;
    let sleeps = "Times an lcore slept because there was nothing to do.";
    let sleeps = counters("lcore_sleeps", sleeps, &lcore, registry)?;
    let mode = "1 for what an lcore does without work.";
    let mode = gauges("lcore_idle_mode", mode, &["lcore", "mode"], registry)?;
    let packets = "Frames of an lcore.";
    let packets = counters("lcore_packets", packets, &["lcore", "direction"], registry)?;
    let mut bursts = Vec::new();
    for lcore in 0..region.lcore_count() {
        let state = region.lcore_state(lcore).unwrap_or_default();
        let label = lcore.to_string();
        let hz = state.tsc_hz.max(1) as f64;
        for (word, cycles) in [("busy", state.busy_cycles), ("idle", state.idle_cycles)] {
            seconds
                .with_label_values(&[&*label, word])
                .inc_by(cycles as f64 / hz);
        }
        busy.with_label_values(&[&*label]).inc_by(state.busy_cycles);
        idle.with_label_values(&[&*label]).inc_by(state.idle_cycles);
        for (name, cycles) in Stage::ALL.into_iter().zip(state.stage_cycles) {
            let labels = [&*label, name.word()];
            stage.with_label_values(&labels).inc_by(cycles);
        }
        staged
            .with_label_values(&[&*label])
            .inc_by(state.stage_packets);
        sleeps.with_label_values(&[&*label]).inc_by(state.sleeps);
        let word = idle_word(state.idle_in_force);
        mode.with_label_values(&[&*label, &*word]).set(1);
        for (word, buckets, count) in [
            ("receive", state.rx_bursts, state.rx_packets),
            ("transmit", state.tx_bursts, state.tx_packets),
        ] {
            packets.with_label_values(&[&*label, word]).inc_by(count);
            bursts.push(burst_metric(&label, word, &buckets, count));
        }
    }
    let mut family = MetricFamily::default();
    family.set_name("millrace_lcore_burst_packets".to_owned());
    family.set_help("Frames in one burst from or to a device; empty ones are counted.".to_owned());
    family.set_field_type(MetricType::HISTOGRAM);
    family.set_metric(bursts);
    Ok(vec![family])
}

/// One lcore's bursts in one direction, with the bounds of the buckets and the exact sum.
fn burst_metric(
    lcore: &str,
    direction: &str,
    buckets: &[u64; BURST_BUCKETS],
    frames: u64,
) -> Metric {
    let mut histogram = Histogram::default();
    let mut cumulative = 0u64;
    let mut rows = Vec::new();
    let bounds = BURST_BOUNDS.into_iter().chain([f64::INFINITY]);
    for (bound, count) in bounds.zip(buckets) {
        cumulative = cumulative.wrapping_add(*count);
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(cumulative);
        rows.push(bucket);
    }
    histogram.set_bucket(rows);
    histogram.set_sample_count(cumulative);
    histogram.set_sample_sum(frames as f64);
    let label = |name: &str, value: &str| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    let mut metric = Metric::default();
    metric.set_label(vec![label("direction", direction), label("lcore", lcore)]);
    metric.set_histogram(histogram);
    metric
}

fn idle_word(number: u64) -> String {
    IdleMode::of(number)
        .map_or("unknown", IdleMode::word)
        .to_owned()
}

fn phase_word(phase: LcorePhase) -> &'static str {
    match phase {
        LcorePhase::Starting => "starting",
        LcorePhase::Running => "running",
        LcorePhase::Draining => "draining",
        LcorePhase::Drained => "drained",
        LcorePhase::Stopped => "stopped",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_that_since_the_last_look() {
        let mut load = Load::default();
        let mut state = LcoreState {
            busy_cycles: 100,
            idle_cycles: 300,
            stage_packets: 10,
            ..Default::default()
        };
        state.stage_cycles[Stage::Stack.index()] = 1_000;
        load.observe(&state);
        assert!((load.percent - 25.0).abs() < 1e-9);
        assert!((load.per_packet[Stage::Stack.index()] - 100.0).abs() < 1e-9);
        state.busy_cycles += 900;
        state.idle_cycles += 100;
        state.stage_packets += 10;
        state.stage_cycles[Stage::Stack.index()] += 500;
        load.observe(&state);
        assert!((load.percent - 90.0).abs() < 1e-9);
        assert!((load.per_packet[Stage::Stack.index()] - 50.0).abs() < 1e-9);
        // Nothing new: what was seen last stands.
        load.observe(&state);
        assert!((load.percent - 90.0).abs() < 1e-9);
        assert!((load.per_packet[Stage::Stack.index()] - 50.0).abs() < 1e-9);
    }

    // The bounds here and the buckets that the dataplane counts in must be the same.
    #[test]
    fn each_bound_is_the_last_size_of_its_bucket() {
        for (bucket, bound) in BURST_BOUNDS.into_iter().enumerate() {
            let size = bound as usize;
            assert_eq!(millrace_abi::burst_bucket(size), bucket);
            assert_eq!(millrace_abi::burst_bucket(size + 1), bucket + 1);
        }
    }

    #[test]
    fn a_burst_histogram_is_cumulative() {
        let metric = burst_metric("0", "receive", &[5, 4, 3, 2, 1, 0, 0, 7], 600);
        let histogram = metric.get_histogram();
        let counts: Vec<u64> = histogram
            .get_bucket()
            .iter()
            .map(Bucket::cumulative_count)
            .collect();
        assert_eq!(counts, [5, 9, 12, 14, 15, 15, 15, 22]);
        assert_eq!(histogram.get_sample_count(), 22);
        assert!((histogram.get_sample_sum() - 600.0).abs() < 1e-9);
    }
}
