//! From finished runs to `docs/quality.md` and drawings.

use std::{collections::BTreeSet, fs, io::Write, path::Path};

use anyhow::{Context, Result, ensure};
use openwork_benches::{
    Csv, Mode, Record, Table,
    stats::{Mean, median},
};
use openwork_chart::{Axis, Chart, Curve, Point, Scale};

use crate::{
    cell::{self, Outcome},
    circuits::{self, Circuits, Size},
    design::{self, Anneal, Cell, Density, MODES},
};

/// Marks around the part of the page that the program writes; the rest of the page stays.
const BEGIN: &str = "<!-- tables: begin (cargo xtask bench quality --report) -->";
const END: &str = "<!-- tables: end -->";
/// The page before anybody has written on it.
const PAGE: &str = "# Loss of the faster training modes\n\n";

/// Makes tables and drawings of the finished runs in `runs`, in the folder `docs`.
pub fn write(runs: &Path, docs: &Path) -> Result<()> {
    let outcomes = read(runs)?;
    for (name, chart) in charts(&outcomes) {
        let path = docs.join("quality").join(name).with_extension("svg");
        openwork_benches::write(&path, &chart.svg()?)?;
        println!("{}", path.display());
    }
    let path = docs.join("quality.md");
    let page = match path.exists() {
        true => fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?,
        false => PAGE.to_owned(),
    };
    let mut circuits = Vec::new();
    for cell in design::circuit_cells() {
        circuits.extend(Circuits::read(runs, &cell.name())?.map(|circuits| (cell, circuits)));
    }
    let page = replaced(&page, &tables(&outcomes, &circuits)).with_context(|| path.display().to_string())?;
    openwork_tensor::write_atomic(&path, |w| w.write_all(page.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", path.display());
    metrics(&outcomes);
    let raw = runs.join("quality.csv");
    openwork_tensor::write_atomic(&raw, |w| w.write_all(samples(&outcomes).text().as_bytes()))
        .with_context(|| format!("cannot write {}", raw.display()))
}

/// Prints the loss of every row, and its difference to exact gradients.
fn metrics(outcomes: &[Outcome]) {
    let mut record = Record::new();
    for row in rows(false).into_iter().chain(rows(true)) {
        for density in Density::ALL {
            let runs = row.runs(density, outcomes);
            let time = if row.equal_time { "_equal_time" } else { "" };
            let name = format!("quality_{}_{}{time}", row.name().replace(',', ""), density.name());
            let losses: Vec<f64> = runs.iter().filter_map(|run| Some(run.end()?.loss)).collect();
            let values = [("loss", Mean::of(&losses)), ("over_exact", Mean::of(&differences(&runs, outcomes)))];
            for (what, mean) in values {
                if let Some(mean) = mean {
                    record.metric(&format!("{name}_{what}"), mean.mean, "nats");
                }
            }
        }
    }
}

/// Every validation of every run.
fn samples(outcomes: &[Outcome]) -> Csv {
    let mut csv = Csv::new(["mode", "anneal", "density", "seed", "equal_time", "step", "tokens", "seconds", "loss"]);
    for run in outcomes {
        for point in &run.curve {
            let mut row = vec![run.mode.clone(), run.anneal.name().into(), run.density.name().into()];
            row.extend([run.seed.to_string(), run.equal_time.to_string()]);
            row.extend([point.step.to_string(), point.tokens.to_string()]);
            row.extend([point.seconds.to_string(), point.loss.to_string()]);
            csv.row(row);
        }
    }
    csv
}

/// Of the runs, to exact gradients with linear anneal at the same density with the same seed.
fn differences(runs: &[&Outcome], outcomes: &[Outcome]) -> Vec<f64> {
    let difference = |run: &&Outcome| {
        let exact = EXACT.runs(run.density, outcomes).into_iter().find(|exact| exact.seed == run.seed)?;
        Some(run.end()?.loss - exact.end()?.loss)
    };
    runs.iter().filter_map(difference).collect()
}

/// The finished runs in a folder.
pub fn read(runs: &Path) -> Result<Vec<Outcome>> {
    let list = || -> std::io::Result<Vec<_>> { fs::read_dir(runs)?.map(|entry| Ok(entry?.path())).collect() };
    let mut files = list().with_context(|| format!("there are no finished runs in {}", runs.display()))?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    ensure!(!files.is_empty(), "there are no finished runs in {}; name their folder with --out", runs.display());
    files.iter().map(|path| Outcome::read(path)).collect()
}

/// `page` with `text` between the marks, which are put at its end where there are none.
fn replaced(page: &str, text: &str) -> Result<String> {
    let block = format!("{BEGIN}\n{text}\n{END}");
    match (page.find(BEGIN), page.find(END)) {
        (Some(begin), Some(end)) if begin < end => Ok(format!("{}{block}{}", &page[..begin], &page[end + END.len()..])),
        (None, None) => Ok(format!("{}\n\n{block}\n", page.trim_end())),
        _ => anyhow::bail!("one of the lines {BEGIN} and {END} is missing or misplaced; right are both or none"),
    }
}

/// Runs that differ in nothing but the seed.
#[derive(Clone, Copy, PartialEq)]
struct Row {
    mode: Mode,
    anneal: Anneal,
    equal_time: bool,
}

impl Row {
    fn name(self) -> String {
        match self.mode {
            Mode::Static => "static, no anneal".into(),
            mode => format!("{}, {} anneal", mode.name(), self.anneal.name()),
        }
    }

    /// Its runs at a density, by seed.
    fn runs(self, density: Density, outcomes: &[Outcome]) -> Vec<&Outcome> {
        let is = |outcome: &&Outcome| {
            outcome.mode == self.mode.name()
                && (outcome.anneal, outcome.equal_time, outcome.density) == (self.anneal, self.equal_time, density)
        };
        let mut runs: Vec<&Outcome> = outcomes.iter().filter(is).collect();
        runs.sort_by_key(|outcome| outcome.seed);
        runs
    }
}

/// All rows that can have runs.
fn rows(equal_time: bool) -> Vec<Row> {
    let row = |mode, anneal| Row { mode, anneal, equal_time };
    MODES.into_iter().flat_map(|mode| Anneal::ALL.map(|anneal| row(mode, anneal))).collect()
}

const EXACT: Row = Row { mode: Mode::Exact, anneal: Anneal::Linear, equal_time: false };

fn tables(outcomes: &[Outcome], circuits: &[(Cell, Circuits)]) -> String {
    let mut text = String::new();
    let mut part = |heading: &str, explanation: &str, table: &Table| {
        if !table.is_empty() {
            text += &format!("\n## {heading}\n\n{explanation}\n\n{}", table.markdown());
        }
    };
    part(
        "At equal tokens",
        "Validation loss in nats per token at the end of the run: mean over seeds ± half the width of its 95 % interval \
         (Student's t). Seeds decide initialisation and order of the data and are the same for all modes, so differences \
         to exact gradients with linear anneal are taken seed by seed; below 0 is better than exact.",
        &losses(&rows(false), outcomes),
    );
    let equal_time: Vec<Row> = std::iter::once(EXACT).chain(rows(true)).collect();
    if outcomes.iter().any(|outcome| outcome.equal_time) {
        part(
            "At equal time",
            "The cheaper modes again, with as many steps as take the time of exact gradients (going by the median speeds \
             of the runs above; the learning rate falls to 0 at the end of either).",
            &losses(&equal_time, outcomes),
        );
    }
    part(
        "Circuits",
        "Nodes and edges of the circuit with the fewest edges that one search finds (600 steps, as `openwork prune \
         --restarts 1`) at the target loss: geometric mean over the seeds whose model reaches it, and range.",
        &sizes(circuits),
    );
    part(
        "Speed",
        "Training with linear anneal, validations aside: median over the seeds, by processor time over threads.",
        &speeds(outcomes),
    );
    text + &facts(outcomes)
}

/// A line for each row that has runs, for each density.
fn losses(rows: &[Row], outcomes: &[Outcome]) -> Table {
    let mut table =
        Table::new(["", "density", "tokens", "seconds", "validation loss", "difference to exact", "diverged"]);
    for density in Density::ALL {
        for row in rows {
            let runs = row.runs(density, outcomes);
            if runs.is_empty() {
                continue;
            }
            let ends: Vec<&cell::Point> = runs.iter().filter_map(|run| run.end()).collect();
            let middle = |value: fn(&cell::Point) -> f64| match &ends[..] {
                [] => "-".into(),
                ends => format!("{:.0}", median(&ends.iter().map(|end| value(end)).collect::<Vec<_>>())),
            };
            let mean = |values: Vec<f64>| Mean::of(&values).map_or("-".into(), |mean| mean.to_string());
            table.row(vec![
                row.name(),
                density.name().into(),
                middle(|end| end.tokens as f64),
                middle(|end| end.seconds),
                mean(ends.iter().map(|end| end.loss).collect()),
                if *row == EXACT { "-".into() } else { mean(differences(&runs, outcomes)) },
                runs.iter().filter(|run| run.diverged).count().to_string(),
            ]);
        }
    }
    table
}

/// Sizes of circuits by task, density and mode.
fn sizes(circuits: &[(Cell, Circuits)]) -> Table {
    let mut table = Table::new(["task", "density", "mode", "models that reach it", "nodes", "edges"]);
    for task in circuits::task_names() {
        for density in Density::ALL {
            for mode in MODES {
                let of_mode = circuits.iter().filter(|(cell, _)| (cell.mode, cell.density) == (mode, density));
                let sizes: Vec<Option<Size>> = of_mode.map(|(_, circuits)| circuits.of(task)).collect();
                if sizes.is_empty() {
                    continue;
                }
                let found: Vec<Size> = sizes.iter().flatten().copied().collect();
                let summary = |number: fn(&Size) -> usize| {
                    let numbers: Vec<usize> = found.iter().map(number).collect();
                    let (Some(least), Some(most)) = (numbers.iter().min(), numbers.iter().max()) else {
                        return "-".into();
                    };
                    // One more and one less, because a circuit may have no edges.
                    let logs = numbers.iter().map(|&n| (n as f64).ln_1p()).sum::<f64>() / numbers.len() as f64;
                    format!("{:.0} ({least}-{most})", logs.exp_m1())
                };
                table.row(vec![
                    task.into(),
                    density.name().into(),
                    mode.name(),
                    format!("{} of {}", found.len(), sizes.len()),
                    summary(|size| size.nodes),
                    summary(|size| size.edges),
                ]);
            }
        }
    }
    table
}

/// Tokens a second by mode and density.
fn speeds(outcomes: &[Outcome]) -> Table {
    let mut table = Table::new(["", "density", "tokens per second", "times exact"]);
    for density in Density::ALL {
        let speed = |mode: Mode| {
            let row = Row { mode, anneal: Anneal::Linear, equal_time: false };
            let speeds: Vec<f64> = row.runs(density, outcomes).into_iter().filter_map(Outcome::speed).collect();
            (!speeds.is_empty()).then(|| median(&speeds))
        };
        let exact = speed(Mode::Exact);
        for mode in MODES {
            if let Some(speed) = speed(mode) {
                let ratio = exact.map_or("-".into(), |exact| format!("{:.2}", speed / exact));
                table.row(vec![mode.name(), density.name().into(), format!("{speed:.0}"), ratio]);
            }
        }
    }
    table
}

/// Provenance of the numbers, and runs that are missing.
fn facts(outcomes: &[Outcome]) -> String {
    let distinct = |value: fn(&Outcome) -> String| {
        outcomes.iter().map(value).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
    };
    let left_out: String = design::left_out().iter().map(|text| format!("- {text}\n")).collect();
    format!(
        "\n## Design\n\n{} of {} runs, on {} with {} threads, commits {}.\n\nNot run, because it would take too long:\n\n{left_out}",
        outcomes.len(),
        design::cells().len(),
        distinct(|outcome| outcome.device.clone()),
        distinct(|outcome| outcome.threads.to_string()),
        distinct(|outcome| outcome.commit.chars().take(7).collect()),
    )
}

/// Loss by tokens and by time for each density: one curve a mode, and one an anneal.
fn charts(outcomes: &[Outcome]) -> Vec<(String, Chart)> {
    type Number = fn(&cell::Point) -> f64;
    let axes: [(&str, &str, Number); 2] = [
        ("tokens", "tokens trained on", |point| point.tokens as f64),
        ("seconds", "seconds of training", |point| point.seconds),
    ];
    let linear = MODES.map(|mode| Row { mode, anneal: Anneal::Linear, equal_time: false });
    let annealed: Vec<Row> = rows(false).into_iter().filter(|row| design::ANNEALED.contains(&row.mode)).collect();
    let mut charts = Vec::new();
    for density in Density::ALL {
        for (axis, label, x) in axes {
            let curves = |rows: &[Row], name: fn(&Row) -> String| -> Vec<Curve> {
                let curve = |row: &Row| Curve::new(name(row), mean_curve(&row.runs(density, outcomes), x));
                rows.iter().map(curve).filter(|curve| !curve.points.is_empty()).collect()
            };
            let modes = curves(&linear, |row| row.mode.name());
            let anneals = curves(&annealed, |row| format!("{}, {}", row.mode.name(), row.anneal.name()));
            // Where only the linear anneal was run there is nothing to compare.
            let compared = anneals.len() > design::ANNEALED.len();
            let both = [("modes", "linear anneal", modes), ("anneals", "by anneal", anneals)];
            for (name, what, curves) in
                both.into_iter().filter(|(name, _, c)| !c.is_empty() && (*name == "modes" || compared))
            {
                let title = format!("Final density {}, {what} (bars: 95 % over seeds)", density.name());
                let file = format!("{name}-{axis}-{}", density.name().replace('/', "of"));
                let y = Axis::new("validation loss (nats per token)", Scale::Linear);
                charts.push((file, Chart { title, x: Axis::new(label, Scale::Linear), y, curves }));
            }
        }
    }
    charts
}

/// The mean over runs at every validation that all of them have.
fn mean_curve(runs: &[&Outcome], x: impl Fn(&cell::Point) -> f64) -> Vec<Point> {
    let length = runs.iter().map(|run| run.curve.len()).min().unwrap_or(0);
    let point = |i: usize| {
        let points: Vec<&cell::Point> = runs.iter().map(|run| &run.curve[i]).collect();
        let loss = Mean::of(&points.iter().map(|p| p.loss).collect::<Vec<_>>())?;
        let half_width = if loss.n > 1 { loss.half_width } else { 0.0 };
        let x = points.iter().map(|p| x(p)).sum::<f64>() / points.len() as f64;
        Some(Point { x, y: loss.mean, bar: (loss.mean - half_width, loss.mean + half_width) })
    };
    (0..length).filter_map(point).collect()
}

#[cfg(test)]
mod tests;
