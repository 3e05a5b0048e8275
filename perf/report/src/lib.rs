//! What a benchmark run is asked to do, what it found, and the page that says so.
//!
//! ```text
//!   perf/scenarios/*.toml --> Scenario --(cargo xtask bench)--> Results --> results.json
//!                                                                      \--> RESULTS.md, plots/*.svg
//! ```
//!
//! It runs nothing and measures nothing; that is `cargo xtask bench`. Every figure of the page
//! comes from `Results`, so a page can be made again from its `results.json`.
#![forbid(unsafe_code)]

mod page;
mod plot;
mod profile;
mod results;
mod scenario;
mod verdict;

use std::path::Path;

use anyhow::{Context, Result};

pub use page::page;
pub use plot::plot;
pub use results::{Addition, Circumstances, Part, Results, Row, Skip};
pub use scenario::{Scenario, SendersMatrix, Shortfall, Target, Work, read_scenarios};
pub use verdict::{Verdict, verdicts};

/// The results that are in `folder`.
pub fn read(folder: &Path) -> Result<Results> {
    let path = folder.join("results.json");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

/// Writes `results.json`, `RESULTS.md` and `plots/*.svg` into `folder`, replacing those of an
/// earlier run.
pub fn write(folder: &Path, scenarios: &[Scenario], results: &Results) -> Result<()> {
    let plots = folder.join("plots");
    std::fs::create_dir_all(&plots).with_context(|| plots.display().to_string())?;
    let save = |name: String, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| path.display().to_string())
    };
    save(
        "results.json".into(),
        serde_json::to_string_pretty(results)? + "\n",
    )?;
    for scenario in scenarios {
        let name = format!("plots/{}.svg", scenario.name);
        match plot(scenario, results)? {
            Some(picture) => save(name, picture)?,
            // A picture of an earlier run would sit beside figures of this one.
            None => drop(std::fs::remove_file(folder.join(name))),
        }
    }
    save("RESULTS.md".into(), page(scenarios, results))
}
