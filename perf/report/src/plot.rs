//! One picture per scenario: a group of horizontal bars for each quantity.
//!
//! Groups have scales of their own: requests and gigabits do not share an axis, so each bar says
//! its figure. A figure in another unit than its group's first (a ratio beside rates) has no bar.

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::page::{in_order, labelled};
use crate::results::{Results, Row};
use crate::scenario::Scenario;

const WIDTH: i32 = 720;
/// Where bars begin: names stand before it.
const LEFT: i32 = 230;
/// Where the longest bar ends: figures stand behind it.
const RIGHT: i32 = 600;
/// Subjects above which only quantities that somebody has promised something about get bars.
const SUBJECTS_MAX: usize = 6;
const BAR: i32 = 14;
const BAR_GAP: i32 = 4;
const GROUP_GAP: i32 = 26;

/// Colours that remain distinct for the colour-blind (Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
];

/// The picture as SVG; `None` when the scenario has no figure.
pub fn plot(scenario: &Scenario, results: &Results) -> Result<Option<String>> {
    let all: Vec<&Row> = results.rows_of(&scenario.name).collect();
    let has_bar = |row: &&&Row| {
        let first = all.iter().find(|other| other.quantity == row.quantity);
        first.is_some_and(|first| first.unit == row.unit)
    };
    let is_promised = |row: &&&Row| {
        let mut same = all.iter().filter(|other| other.quantity == row.quantity);
        same.any(|other| other.at_least.or(other.at_most).is_some())
    };
    let is_crowded = in_order(all.iter().map(|row| row.subject.as_str())).len() > SUBJECTS_MAX;
    let is_shown = |row: &&&Row| has_bar(row) && (!is_crowded || is_promised(row));
    let rows: Vec<&Row> = all.iter().filter(is_shown).copied().collect();
    if rows.is_empty() {
        return Ok(None);
    }
    let groups = in_order(rows.iter().map(|row| row.quantity.as_str()));
    let subjects = in_order(rows.iter().map(|row| row.subject.as_str()));
    let (bars, gaps) = (i32::try_from(rows.len())?, i32::try_from(groups.len())?);
    let height = bars * (BAR + BAR_GAP) + gaps * GROUP_GAP + GROUP_GAP;
    let size = (u32::try_from(WIDTH)?, u32::try_from(height)?);
    let mut svg = String::new();
    draw(&mut svg, size, &rows, &groups, &subjects).map_err(|error| anyhow!("{error}"))?;
    Ok(Some(svg))
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw(
    svg: &mut String,
    size: (u32, u32),
    rows: &[&Row],
    groups: &[&str],
    subjects: &[&str],
) -> Drawn {
    let area = SVGBackend::with_string(svg, size).into_drawing_area();
    area.fill(&WHITE)?;
    let text = |size: i32, h: HPos| {
        let style = TextStyle::from(("sans-serif", size).into_font());
        style.pos(Pos::new(h, VPos::Center))
    };
    let (bold, name, figure) = (
        text(14, HPos::Left),
        text(12, HPos::Right),
        text(12, HPos::Left),
    );
    let mut y = GROUP_GAP / 2;
    for group in groups {
        let members: Vec<&&Row> = rows.iter().filter(|row| row.quantity == *group).collect();
        let longest = members.iter().map(|row| row.value).fold(0.0, f64::max);
        let unit = members.first().map_or("", |row| row.unit.as_str());
        let heading = labelled(group, unit);
        area.draw(&Text::new(heading, (8, y), bold.clone()))?;
        y += GROUP_GAP / 2 + BAR_GAP;
        for row in members {
            let share = if longest > 0.0 {
                row.value / longest
            } else {
                0.0
            };
            let end = LEFT + (f64::from(RIGHT - LEFT) * share.max(0.0)) as i32;
            let colour = subjects.iter().position(|subject| *subject == row.subject);
            let colour = COLOURS[colour.unwrap_or(0) % COLOURS.len()];
            let middle = y + BAR / 2;
            area.draw(&Rectangle::new(
                [(LEFT, y), (end, y + BAR)],
                colour.filled(),
            ))?;
            area.draw(&Text::new(
                row.subject.clone(),
                (LEFT - 8, middle),
                name.clone(),
            ))?;
            area.draw(&Text::new(row.text(), (end + 6, middle), figure.clone()))?;
            y += BAR + BAR_GAP;
        }
        y += GROUP_GAP / 2 - BAR_GAP;
    }
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Work;

    #[test]
    fn a_picture_names_every_subject_and_figure_and_an_empty_scenario_has_none() {
        let scenario = Scenario {
            name: "s".into(),
            title: "S".into(),
            about: String::new(),
            work: Work::Micro,
            targets: Vec::new(),
            shortfalls: Vec::new(),
        };
        let row = |subject: &str, value| Row {
            scenario: "s".into(),
            subject: subject.into(),
            quantity: "rate".into(),
            value,
            unit: "1/s".into(),
            ..Row::default()
        };
        let mut results = Results::default();
        assert!(plot(&scenario, &results).expect("drawn").is_none());
        results.rows = vec![row("millrace", 123.0), row("other", 0.0)];
        let svg = plot(&scenario, &results).expect("drawn").expect("figures");
        for word in ["<svg", "millrace", "other", "123", "rate, 1/s"] {
            assert!(svg.contains(word), "{word} is missing in {svg}");
        }
    }
}
