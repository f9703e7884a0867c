//! Progress of long commands on standard error: a bar on a terminal, a plain line now and then elsewhere.

use std::{
    cell::Cell,
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{FormattedDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Time between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// How far a command is.
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
