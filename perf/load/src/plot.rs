//! A run as a picture: rate and latency over time, SVG.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::{
    ChartBuilder, Color, DrawingArea, IntoDrawingArea, IntoLogRange, LineSeries, PathElement,
    RGBColor, Rectangle, SVGBackend, WHITE,
};

use crate::observer::{Interval, Phase};

const SIZE: (u32, u32) = (1_000, 700);
const BLUE: RGBColor = RGBColor(0x1f, 0x5f, 0xa8);
const GREEN: RGBColor = RGBColor(0x3a, 0x8a, 0x3a);
const ORANGE: RGBColor = RGBColor(0xd0, 0x7a, 0x10);
const RED: RGBColor = RGBColor(0xb8, 0x2a, 0x2a);
const RED_SHADE: RGBColor = RGBColor(0xf0, 0xd0, 0xd0);

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
#[error("no plot: {0}")]
pub struct PlotError(String);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Writes the picture. Seconds that do not count are shaded.
pub fn write(path: &Path, title: &str, intervals: &[Interval]) -> Result<(), PlotError> {
    let error = |error: &dyn core::fmt::Display| PlotError(error.to_string());
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE).map_err(|it| error(&it))?;
    let (upper, lower) = area.split_vertically(SIZE.1 / 2);
    draw_rate(&upper, title, intervals)?;
    draw_latency(&lower, intervals)?;
    area.present().map_err(|it| error(&it))
}

fn draw_rate(area: &Area<'_>, title: &str, intervals: &[Interval]) -> Result<(), PlotError> {
    let error = |error: &dyn core::fmt::Display| PlotError(error.to_string());
    let top = intervals.iter().map(|it| it.rate).fold(1.0, f64::max) * 1.1;
    let end = intervals.last().map_or(1.0, |it| it.at_secs);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(80)
        .build_cartesian_2d(0.0..end, 0.0..top)
        .map_err(|it| error(&it))?;
    let spoilt = intervals
        .iter()
        .filter(|it| it.phase == Phase::Measured && !it.counts);
    let shade = |it: &Interval| {
        let corners = [(it.at_secs - it.secs, 0.0), (it.at_secs, top)];
        Rectangle::new(corners, RED_SHADE.filled())
    };
    chart
        .draw_series(spoilt.map(shade))
        .map_err(|it| error(&it))?;
    chart
        .configure_mesh()
        .x_desc("seconds")
        .y_desc("operations per second (shaded: does not count)")
        .draw()
        .map_err(|it| error(&it))?;
    let points = intervals.iter().map(|it| (it.at_secs, it.rate));
    chart
        .draw_series(LineSeries::new(points, BLUE.stroke_width(2)))
        .map_err(|it| error(&it))?;
    Ok(())
}

fn draw_latency(area: &Area<'_>, intervals: &[Interval]) -> Result<(), PlotError> {
    let error = |error: &dyn core::fmt::Display| PlotError(error.to_string());
    let end = intervals.last().map_or(1.0, |it| it.at_secs);
    let longest = |it: &Interval| it.latency.max_us;
    let top = intervals.iter().map(longest).fold(10.0, f64::max) * 1.5;
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(80)
        .build_cartesian_2d(0.0..end, (1.0..top).log_scale())
        .map_err(|it| error(&it))?;
    chart
        .configure_mesh()
        .x_desc("seconds")
        .y_desc("latency from the due time, microseconds")
        .draw()
        .map_err(|it| error(&it))?;
    type Pick = fn(&Interval) -> f64;
    let lines: [(&str, RGBColor, Pick); 4] = [
        ("p50", GREEN, |it| it.latency.p50_us),
        ("p99", BLUE, |it| it.latency.p99_us),
        ("p99.9", ORANGE, |it| it.latency.p99_9_us),
        ("max", RED, |it| it.latency.max_us),
    ];
    for (name, color, pick) in lines {
        let points = intervals.iter().filter(|it| it.latency.count > 0);
        let points = points.map(|it| (it.at_secs, pick(it).max(1.0)));
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))
            .map_err(|it| error(&it))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 15, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .draw()
        .map_err(|it| error(&it))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::Tally;
    use crate::latency::Percentiles;

    #[test]
    fn a_picture_is_written_whatever_the_run_was() {
        let interval = |at: f64, counts| Interval {
            at_secs: at,
            secs: 1.0,
            phase: Phase::Measured,
            counts,
            rate: 1_000.0 * at,
            tally: Tally::default(),
            latency: Percentiles {
                count: 10,
                p50_us: 100.0,
                p99_us: 200.0,
                p99_9_us: 300.0,
                max_us: 400.0 * at,
                ..Percentiles::default()
            },
        };
        let name = format!("millrace-load-plot-{}.svg", std::process::id());
        let path = std::env::temp_dir().join(name);
        let run = [
            interval(1.0, true),
            interval(2.0, false),
            interval(3.0, true),
        ];
        for intervals in [&run[..], &run[..1], &[]] {
            write(&path, "a run", intervals).expect("written");
            let text = std::fs::read_to_string(&path).expect("readable");
            assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"));
        }
        std::fs::remove_file(&path).expect("removes what it made");
    }
}
