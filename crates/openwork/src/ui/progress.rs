//! Progress of long commands on standard error: a bar on a terminal, a plain line now and then elsewhere.

use std::{
    cell::{Cell, RefCell},
    io::IsTerminal,
    ops::ControlFlow,
    time::{Duration, Instant},
};

use indicatif::{FormattedDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use openwork_circuit::{Growth, GrowthRound, LearnedMasks, Phase, Scored, SizedBy};
use openwork_data::corpus;
use openwork_extract::{GrowthStep, ScoreStage, ScoreStep};
use openwork_project::{SearchState, SearchStep, Stage};

use super::{interrupt, show::count};

/// Time between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// Progress of a command.
pub struct Progress {
    bar: Option<ProgressBar>,
    total: Option<u64>,
    started: (Instant, u64),
    last_line: Cell<Instant>,
}

impl Progress {
    /// Starts at `position` of `total` (unknown, if `None`).
    pub fn new(total: Option<u64>, position: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
            let template = if total.is_some() { "{bar:28.cyan/dim} {percent:>3}%  {msg}" } else { "{spinner}  {msg}" };
            bar.set_style(ProgressStyle::with_template(template).expect("a valid template"));
            bar.set_position(position);
            bar
        });
        let now = Instant::now();
        Self { bar, total, started: (now, position), last_line: Cell::new(now) }
    }

    /// Moves to `position`; `message` says what there is to see there.
    pub fn update(&self, position: u64, message: impl FnOnce() -> String) {
        if self.bar.is_none() && self.last_line.get().elapsed() < PLAIN_EVERY {
            return;
        }
        let left = self.left(position).map(|left| format!("  {} left", FormattedDuration(left)));
        let message = message() + left.as_deref().unwrap_or_default();
        match &self.bar {
            Some(bar) => {
                bar.set_position(position);
                bar.set_message(message);
            }
            None => {
                eprintln!("{message}");
                self.last_line.set(Instant::now());
            }
        }
    }

    /// Moves to the documents of a corpus that are written.
    pub fn documents(&self, p: corpus::Progress) {
        self.update(p.bytes, || {
            let [documents, megabytes, tokens] = [p.documents, p.bytes / 1_000_000, p.tokens].map(count);
            format!("{documents} documents  {megabytes} MB  {tokens} tokens")
        });
    }

    /// Prints a line that stays.
    pub fn note(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    fn left(&self, position: u64) -> Option<Duration> {
        let (started, first) = self.started;
        let (done, to_do) = (position.checked_sub(first)?, self.total?.saturating_sub(position));
        (done > 0).then(|| Duration::from_secs((started.elapsed().as_secs_f64() / done as f64 * to_do as f64) as u64))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Progress of searches for circuits, one after the other.
#[derive(Default)]
pub struct SearchProgress {
    current: RefCell<Option<Progress>>,
    /// The last round of growth that was told.
    grown: RefCell<Option<GrowthRound>>,
}

impl SearchProgress {
    /// Shows a step; breaks once Ctrl-C was pressed.
    pub fn step(&self, p: SearchStep<'_>) -> ControlFlow<()> {
        let control = p.control.map(|kind| format!(", control {kind}")).unwrap_or_default();
        let name = format!("{}{control}", p.task);
        match p.state {
            SearchState::Masks { settings, progress } => self.masks(&name, settings, progress),
            SearchState::Growth { settings, step } => self.growth(&name, settings, step),
            SearchState::Scores { settings, step } => self.scores(&name, settings, step),
        }
        if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn masks(&self, name: &str, settings: &LearnedMasks, p: openwork_extract::Progress) {
        let (restarts, steps) = (settings.restarts, settings.steps);
        let mut current = self.current.borrow_mut();
        if p.restart == 0 && p.step == 0 {
            *current = None;
        }
        let progress = current.get_or_insert_with(|| Progress::new(Some((restarts * steps) as u64), 0));
        progress.update((p.restart * steps + (p.step + 1).min(steps)) as u64, || {
            let (restart, loss, open) = (p.restart + 1, p.loss, p.kept);
            if p.step == steps {
                return format!("{name}: search {restart}/{restarts}  dropping nodes that are not needed, {open} left");
            }
            format!("{name}: search {restart}/{restarts}  loss {loss:.3}  {open} nodes open")
        });
    }

    fn growth(&self, name: &str, settings: &Growth, step: GrowthStep<'_>) {
        let mut current = self.current.borrow_mut();
        let mut grown = self.grown.borrow_mut();
        if step.last.is_none() && step.round == 0 && grown.is_none() {
            *current = None;
        }
        let progress = current.get_or_insert_with(|| Progress::new(None, 0));
        if let Some(last) = step.last.filter(|last| grown.as_ref() != Some(*last)) {
            progress.note(&format!("{name}: {}", describe_round(last)));
            *grown = Some(last.clone());
        }
        progress.update(step.round as u64, || match step.phase {
            Phase::Grow => format!("{name}: round {}/{}  {} nodes", step.round + 1, settings.rounds, step.nodes),
            Phase::Prune => format!("{name}: removing nodes while every check holds, {} left", step.nodes),
        });
    }

    fn scores(&self, name: &str, settings: &Scored, step: ScoreStep) {
        let mut current = self.current.borrow_mut();
        let progress = current.get_or_insert_with(|| Progress::new(None, 0));
        progress.update(step.parts as u64, || {
            let parts = step.parts;
            match step.stage {
                ScoreStage::Scoring => format!("{name}: {}: {parts} {} scored", settings.score, settings.parts),
                ScoreStage::Selecting | ScoreStage::Measuring => {
                    format!("{name}: {}: the top {parts} {}", settings.score, settings.parts)
                }
            }
        });
    }

    /// Takes the bar of the last search away.
    pub fn finish(&self) {
        *self.current.borrow_mut() = None;
    }
}

/// A round of growth on one line: agreements of a circuit alone, and under attacks of a circuit's size at the start and now.
fn describe_round(round: &GrowthRound) -> String {
    let a = &round.agreements;
    let frozen = a.frozen_norms.map(|f| format!(", norms frozen {f:.3}")).unwrap_or_default();
    let attacked: Vec<String> = a
        .attacked
        .iter()
        .map(|a| {
            let by = if a.sized_by == SizedBy::Start { "start" } else { "now" };
            format!("{:.3} ({} of {by})", a.agreement, a.share)
        })
        .collect();
    let phase = if round.phase == Phase::Grow { "grown" } else { "pruned" };
    format!(
        "{phase}: {} nodes, {} edges, loss {:.3}; agreement at means {:.3}{frozen}, at zero {:.3}, attacked {}; gap {:.2}",
        round.nodes,
        round.edges,
        round.loss,
        a.at_means,
        a.at_zero,
        attacked.join(", "),
        round.gap
    )
}

/// Progress of a verification: control searches, then checks.
pub struct VerificationProgress<'a> {
    task: &'a str,
    search: SearchProgress,
    checks: Option<Progress>,
    check: u64,
}

impl<'a> VerificationProgress<'a> {
    /// Of the circuit of `task`.
    pub fn new(task: &'a str) -> Self {
        Self { task, search: SearchProgress::default(), checks: None, check: 0 }
    }

    /// Shows a stage.
    pub fn show(&mut self, stage: Stage<'_>) {
        match stage {
            Stage::Search(step) => drop(self.search.step(step)),
            Stage::Check(what) => {
                self.search.finish();
                self.check += 1;
                let progress = self.checks.get_or_insert_with(|| Progress::new(None, 0));
                progress.update(self.check, || format!("{}: {what}", self.task));
            }
        }
    }
}
