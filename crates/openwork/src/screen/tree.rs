//! A backtrace as a tree that unfolds.

use std::collections::BTreeSet;

use openwork_debug::{At, Backtrace, Branch, Cause, Causes, Command, Context};

/// Depth that a backtrace has at most.
const DEEPEST: usize = 32;

/// A backtrace, with the branches that are unfolded.
pub struct Tree {
    /// The command, with the position that it was about.
    command: Command,
    /// Circumstances that it holds under.
    pub context: Context,
    pub title: String,
    tokens: Vec<String>,
    pub backtrace: Backtrace,
    /// Paths of the unfolded branches, by the words of their causes.
    unfolded: BTreeSet<Vec<String>>,
    /// Row that is selected.
    pub selected: usize,
}

/// State of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// It has nothing below it.
    Leaf,
    /// It can be unfolded.
    Closed,
    /// It is unfolded.
    Open,
}

/// A line of the tree.
pub struct Row {
    path: Vec<String>,
    /// Part of the root, or of the score above it; none for the head of a score.
    pub part: Option<f64>,
    pub effect: Option<f64>,
    pub depth: usize,
    pub text: String,
    pub fold: Fold,
    /// True if its causes are not at hand yet.
    unopened: bool,
    /// Part over the sum of magnitudes of its siblings.
    pub share: f64,
}

/// Outcome of unfolding.
#[derive(Debug, PartialEq)]
pub enum Unfolded {
    /// It is done, or there is nothing to unfold.
    Done,
    /// A deeper backtrace is needed: the command for it.
    Deeper(Command),
}

impl Tree {
    /// The tree of a backtrace that `command` gave, folded.
    pub fn new(command: Command, context: Context, title: String, tokens: Vec<String>, backtrace: Backtrace) -> Self {
        let command = match command {
            Command::Backtrace { quantity, options, .. } => {
                let position = Some(At::FromStart(backtrace.target.position));
                Command::Backtrace { quantity, position, options }
            }
            other => other,
        };
        let mut tree = Self { command, context, title, tokens, backtrace, unfolded: BTreeSet::new(), selected: 0 };
        // The first row that unfolds.
        tree.selected = tree.rows().iter().position(|row| row.fold != Fold::Leaf).unwrap_or(0);
        tree
    }

    /// Takes over what is unfolded and selected in another tree of the same value.
    pub fn resume(&mut self, other: &Self) {
        self.unfolded.clone_from(&other.unfolded);
        self.selected = other.selected;
    }

    /// True if effects were measured.
    pub fn has_effects(&self) -> bool {
        self.backtrace.causes.shown.iter().any(|branch| branch.effect.is_some())
    }

    /// Lines that are to be seen.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = vec![];
        self.causes(&mut rows, &[], &self.backtrace.causes, 0);
        rows
    }

    fn causes(&self, rows: &mut Vec<Row>, path: &[String], causes: &Causes, depth: usize) {
        let share = |part: f64| if causes.magnitude > 0.0 { part.abs() / causes.magnitude } else { 0.0 };
        let line = |rows: &mut Vec<Row>, part: f64, text: String| {
            let path = [path, std::slice::from_ref(&text)].concat();
            let row = Row {
                path,
                part: Some(part),
                effect: None,
                depth,
                text,
                fold: Fold::Leaf,
                unopened: false,
                share: share(part),
            };
            rows.push(row);
        };
        for branch in &causes.shown {
            self.branch(rows, path, branch, depth, share(branch.contribution));
        }
        if causes.smaller.count > 0 {
            line(rows, causes.smaller.sum, format!("{} smaller ones", causes.smaller.count));
        }
        line(rows, causes.rest, causes.unexplained());
    }

    fn branch(&self, rows: &mut Vec<Row>, path: &[String], branch: &Branch, depth: usize, share: f64) {
        let path = [path, &[branch.cause.to_string()]].concat();
        let value = matches!(branch.cause, Cause::Value(_));
        let unopened = branch.causes.is_none() && value;
        let open = self.unfolded.contains(&path);
        let fold = match (unopened || branch.causes.is_some(), open) {
            (false, _) => Fold::Leaf,
            (true, open) if open && !unopened => Fold::Open,
            _ => Fold::Closed,
        };
        rows.push(Row {
            path: path.clone(),
            part: Some(branch.contribution),
            effect: branch.effect,
            depth,
            text: branch.words(&self.tokens),
            fold,
            unopened,
            share,
        });
        if fold != Fold::Open {
            return;
        }
        if let Some(causes) = &branch.causes {
            self.causes(rows, &path, causes, depth + 1);
        }
        let Some(attention) = &branch.attention else { return };
        for (side, causes) in [("query", &attention.by_query), ("key", &attention.by_key)] {
            let Some(causes) = causes else { continue };
            let path = [&path[..], &[format!("score by {side}")]].concat();
            let fold = if self.unfolded.contains(&path) { Fold::Open } else { Fold::Closed };
            let text = attention.words(side);
            let head = Row {
                path: path.clone(),
                part: None,
                effect: None,
                depth: depth + 1,
                text,
                fold,
                unopened: false,
                share: 0.0,
            };
            rows.push(head);
            if fold == Fold::Open {
                self.causes(rows, &path, causes, depth + 2);
            }
        }
    }

    /// Moves the selection by so many rows.
    pub fn select(&mut self, by: isize) {
        let last = self.rows().len().saturating_sub(1);
        self.selected = self.selected.saturating_add_signed(by).min(last);
    }

    /// Unfolds the selected row; the first row below it, where it is unfolded.
    pub fn unfold(&mut self) -> Unfolded {
        let rows = self.rows();
        let Some(row) = rows.get(self.selected) else { return Unfolded::Done };
        match row.fold {
            Fold::Leaf => Unfolded::Done,
            Fold::Open => {
                self.select(1);
                Unfolded::Done
            }
            Fold::Closed => {
                self.unfolded.insert(row.path.clone());
                match &self.command {
                    Command::Backtrace { quantity, position, options } if row.unopened && options.depth < DEEPEST => {
                        let options = openwork_debug::BacktraceOptions { depth: options.depth + 1, ..*options };
                        Unfolded::Deeper(Command::Backtrace { quantity: *quantity, position: *position, options })
                    }
                    _ => Unfolded::Done,
                }
            }
        }
    }

    /// Folds the selected row, or goes to the one that it hangs from.
    pub fn fold(&mut self) {
        let rows = self.rows();
        let Some(row) = rows.get(self.selected) else { return };
        if row.fold == Fold::Open {
            self.unfolded.remove(&row.path);
        } else if let Some(above) = rows[..self.selected].iter().rposition(|other| other.depth < row.depth) {
            self.selected = above;
        }
    }
}
