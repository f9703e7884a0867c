//! Commands as they are carried out.

use openwork_circuit::Node;

use crate::{
    AnswerShown, Answered, Backtrace, BacktraceOptions, Context, Difference, Entry, Explained, InputShown, Place,
    Quantity, Reply, Session, SessionError, Stopped, Target, TokenShown, WhereFires, Without,
    diff::Compared,
    language::{Assignment, BreakAt, Command, Printed, Range, from_kind},
    session::{Breakpoint, Prompt, Watched},
};

/// Entries that a stop shows.
const LARGEST: usize = 5;
/// Windows that `where` reads which names no number.
const WINDOWS: usize = 1024;

impl Session {
    /// Reads a line and carries it out; none for a blank one or a comment.
    ///
    /// # Errors
    /// When the line is no command, or cannot be done.
    pub fn line(&mut self, line: &str) -> Result<Option<Answered>, SessionError> {
        match self.parse(line)? {
            Some(command) => Ok(Some(self.execute(&command)?)),
            None => Ok(None),
        }
    }

    /// Carries a command out.
    ///
    /// # Errors
    /// When it cannot be done, such as for a position that the prompt does not have. The session is as before then.
    pub fn execute(&mut self, command: &Command) -> Result<Answered, SessionError> {
        let reply = match command {
            Command::Prompt { name, source } => {
                self.add_prompt(name, source)?;
                self.show_prompt()?
            }
            Command::Use(name) => {
                self.use_prompt(name)?;
                self.show_prompt()?
            }
            Command::Break(at) => self.set_break(at)?,
            Command::Delete(number) => {
                let at = self.breakpoints.iter().position(|b| b.number == *number);
                let at = at.ok_or(SessionError::NoNumber { kind: "breakpoint", number: *number })?;
                self.breakpoints.remove(at);
                Reply::Removed { what: "breakpoint", number: *number }
            }
            Command::Step(count) => {
                let mut left = *count;
                let reasons = self.advance(|_| {
                    left = left.saturating_sub(1);
                    left == 0
                })?;
                self.stopped(reasons)?
            }
            Command::Next => {
                let config = self.model.config.clone();
                let from = self.point().map(|point| point.place.layer(&config));
                let reasons = self.advance(|point| from.is_none_or(|from| point.place.layer(&config) > from))?;
                self.stopped(reasons)?
            }
            Command::Continue => {
                let reasons = self.advance(|_| false)?;
                self.stopped(reasons)?
            }
            Command::Restart => {
                self.prompt()?;
                self.cursor = None;
                self.stopped(vec![])?
            }
            Command::Watch(expression) => {
                let number = self.number();
                self.watches.push(Watched { number, expression: expression.clone(), last: None });
                Reply::Placed { what: "watch", number, text: expression.to_string() }
            }
            Command::Unwatch(number) => {
                let at = self.watches.iter().position(|watched| watched.number == *number);
                let at = at.ok_or(SessionError::NoNumber { kind: "watch", number: *number })?;
                self.watches.remove(at);
                Reply::Removed { what: "watch", number: *number }
            }
            Command::Print(printed) => self.print(printed)?,
            Command::Set(assignment) => self.set(assignment)?,
            Command::Undo => Reply::Undone { edit: self.undo()? },
            Command::Backtrace { quantity, position, options } => {
                let position = self.position(*position)?;
                self.backtrace(*quantity, position, options)?
            }
            Command::Diff { from, to, lead } => self.diff(from, to, *lead)?,
            Command::Where { node, above, windows } => self.fires(*node, *above, *windows)?,
            Command::Explain { node, expression, windows } => {
                let contexts = self.contexts.as_ref().ok_or(SessionError::NoContexts)?;
                let explained = Explained::new(&self.model, &*self.vocabulary, contexts, *node, expression, *windows)?;
                Reply::Explained(Box::new(explained))
            }
            Command::Info => self.info(),
            Command::Help => Reply::Help,
            Command::Quit => Reply::Quit,
        };
        Ok(Answered { context: self.context(), reply })
    }

    /// Contexts of a node: of all data where an index has it and no number of windows is named, else of the data at hand.
    fn fires(&self, node: Node, above: f32, windows: Option<usize>) -> Result<Reply, SessionError> {
        if let Some(index) = self.index().filter(|_| windows.is_none())
            && let Some(found) = index.contexts(&*self.vocabulary, node, above)?
        {
            return Ok(Reply::Indexed(found));
        }
        let contexts = self.contexts.as_ref().ok_or(SessionError::NoContexts)?;
        let windows = windows.unwrap_or(WINDOWS);
        Ok(Reply::Where(WhereFires::new(&self.model, &*self.vocabulary, contexts, node, above, windows)))
    }

    /// Model, prompt and edits at hand.
    pub fn context(&self) -> Context {
        Context {
            model: self.model_sha256.chars().take(12).collect(),
            prompt: self.prompt().ok().map(|prompt| prompt.name.clone()),
            edits: self.edits.iter().map(|edit| edit.text.clone()).collect(),
        }
    }

    fn quoted(&self, tokens: &[u16]) -> Vec<String> {
        tokens.iter().map(|&token| self.vocabulary.quoted(token)).collect()
    }

    fn show_prompt(&self) -> Result<Reply, SessionError> {
        let Prompt { name, tokens, answers } = self.prompt()?;
        let shown = tokens.iter().map(|&id| TokenShown { id, text: self.vocabulary.quoted(id) });
        let answers = answers.map(|answers| answers.map(|token| self.vocabulary.quoted(token)));
        Ok(Reply::Prompt { name: name.clone(), tokens: shown.collect(), answers })
    }

    fn set_break(&mut self, at: &BreakAt) -> Result<Reply, SessionError> {
        let position = |at: &Option<crate::At>| at.map_or(String::new(), |at| at.to_string());
        let text = match at {
            BreakAt::Point(None, at) => format!("any site{}", position(at)),
            BreakAt::Point(Some(place), at) => format!("{place}{}", position(at)),
            BreakAt::Node(node, at) => format!("{node}{} is not zero", position(at)),
            BreakAt::Condition(condition) => condition.to_string(),
        };
        let number = self.number();
        self.breakpoints.push(Breakpoint { number, at: at.clone(), text: text.clone() });
        Ok(Reply::Placed { what: "breakpoint", number, text })
    }

    pub(crate) fn entry(&self, place: Place, row: usize, position: usize, value: f32) -> Entry {
        let (name, label) = match place {
            Place::Site(site) => {
                let node = Node { site, index: row };
                (node.to_string(), self.label(node))
            }
            Place::Logits => (format!("logit({})", self.vocabulary.quoted(row as u16)), None),
        };
        Entry { name, position, value, label }
    }

    fn stopped(&self, reasons: Vec<crate::Reason>) -> Result<Reply, SessionError> {
        let prompt = self.prompt()?;
        let Some(point) = self.point() else {
            let finished = self.finished();
            let nowhere = Stopped { point: None, finished, token: None, reasons, entries: [0, 0], largest: vec![] };
            return Ok(Reply::Stopped(nowhere));
        };
        let mut largest = self.entries(point)?;
        let entries = [self.trace(&prompt.name)?.place(point.place).nrows(), largest.len()];
        largest.truncate(LARGEST);
        let token = Some(self.vocabulary.quoted(prompt.tokens[point.position]));
        Ok(Reply::Stopped(Stopped { point: Some(point), finished: false, token, reasons, entries, largest }))
    }

    fn print(&mut self, printed: &Printed) -> Result<Reply, SessionError> {
        match printed {
            Printed::Expression(expression) => {
                let position = self.position(None)?;
                let value = self.evaluate(expression, position)?;
                let condition = expression.is_condition();
                Ok(Reply::Value { expression: expression.to_string(), position, value, condition })
            }
            Printed::Slice { place, rows, positions } => {
                let here = self.position(None)? as i64;
                let trace = self.trace(&self.prompt()?.name)?;
                let values = trace.place(*place);
                let positions = positions.unwrap_or(Range { from: here, to: Some(here + 1) });
                if positions.from >= values.ncols() as i64 {
                    let (name, at) = (self.prompt()?.name.clone(), crate::At::FromStart(positions.from as usize));
                    return Err(SessionError::NoPosition { name, last: values.ncols() - 1, at });
                }
                let (rows, positions) = (rows.of(values.nrows()), positions.of(values.ncols()));
                let asked = [rows.len(), positions.len()];
                let entries = positions
                    .flat_map(|position| rows.clone().map(move |row| (row, position)))
                    .filter(|&(row, position)| values[[row, position]] != 0.0)
                    .map(|(row, position)| self.entry(*place, row, position, values[[row, position]]))
                    .collect();
                Ok(Reply::Slice { place: place.to_string(), asked, entries })
            }
            Printed::Weight(place) => Ok(Reply::Weight { weight: place.to_string(), value: self.weight(place) }),
            Printed::Inputs { node, position } => {
                let position = self.position(*position)?;
                let trace = self.trace(&self.prompt()?.name)?;
                let kind = from_kind(node.site.kind).expect("the parser knows the nodes of matrices");
                let site = openwork_model::Site { layer: node.site.layer, kind };
                let (linear, row) = openwork_circuit::weights_of(&mut self.model, *node);
                let weights = linear.weight.dense().row(row);
                let input = |(index, &weight): (usize, &f32)| {
                    let from = Node { site, index };
                    InputShown { from: from.to_string(), weight, value: trace.value(from, position) }
                };
                let inputs = weights.iter().enumerate().filter(|(_, w)| **w != 0.0).map(input).collect();
                Ok(Reply::Inputs { node: node.to_string(), position, inputs })
            }
            Printed::Answers { top, position } => {
                let position = self.position(*position)?;
                let trace = self.trace(&self.prompt()?.name)?;
                let logits = trace.logits().column(position);
                let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let exp = |logit: f32| f64::from(logit - most).exp();
                let sum: f64 = logits.iter().map(|&logit| exp(logit)).sum();
                let mut order: Vec<usize> = (0..logits.len()).collect();
                order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
                let shown = |&token: &usize| AnswerShown {
                    id: token as u16,
                    text: self.vocabulary.quoted(token as u16),
                    logit: logits[token],
                    probability: exp(logits[token]) / sum,
                };
                Ok(Reply::Answers { position, tokens: order.iter().take(*top).map(shown).collect() })
            }
        }
    }

    fn set(&mut self, assignment: &Assignment) -> Result<Reply, SessionError> {
        match assignment {
            Assignment::Node { node, position, to } => {
                let passed = self.finished() || self.point().is_some_and(|point| point.place >= Place::Site(node.site));
                Ok(Reply::Edited { edit: self.set_node(*node, *position, to)?, passed })
            }
            Assignment::Weight { place, to } => {
                let passed = self.cursor.is_some();
                Ok(Reply::Edited { edit: self.set_weight(place, *to), passed })
            }
        }
    }

    fn backtrace(
        &self,
        quantity: Quantity,
        position: usize,
        options: &BacktraceOptions,
    ) -> Result<Reply, SessionError> {
        if options.without == Some(Without::Mean) && self.means.is_none() {
            return Err(SessionError::NoMeans);
        }
        let prompt = self.prompt()?;
        let (trace, changes) = (self.trace(&prompt.name)?, self.changes(&prompt.name));
        let target = Target { quantity, position };
        let backtrace = Backtrace::new(&self.model, &trace, &changes, target, options, self.means.as_deref());
        Ok(Reply::Backtrace { title: self.words(target), tokens: self.quoted(&prompt.tokens), backtrace })
    }

    fn diff(&self, from: &str, to: &str, lead: Option<(u16, u16)>) -> Result<Reply, SessionError> {
        if from == to {
            return Err(SessionError::Itself { name: from.to_owned() });
        }
        let own = self.prompt_named(from)?;
        let (trace, other_trace) = (self.trace(from)?, self.trace(to)?);
        let answer = |trace: &crate::Trace| trace.answer(trace.tokens().len() - 1);
        let tokens = match (lead, own.answers) {
            (Some((first, second)), _) => [first, second],
            (None, Some(answers)) => answers,
            (None, None) => [answer(&trace), answer(&other_trace)],
        };
        let (changes, other_changes) = (self.changes(from), self.changes(to));
        let difference = Difference::new(
            &self.model,
            Compared { name: from, trace: &trace, changes: &changes },
            Compared { name: to, trace: &other_trace, changes: &other_changes },
            tokens,
        );
        let labels = match &difference.flip {
            crate::Flip::Set { nodes, .. } => {
                nodes.iter().filter_map(|&node| Some((node.to_string(), self.label(node)?))).collect()
            }
            _ => vec![],
        };
        let tokens = tokens.map(|token| self.vocabulary.quoted(token));
        let prompt = self.quoted(&own.tokens);
        Ok(Reply::Difference { tokens, prompt, difference: Box::new(difference), labels })
    }

    fn info(&self) -> Reply {
        let prompt = |prompt: &Prompt| {
            let text: String = self.vocabulary.decode(&prompt.tokens);
            format!("{}: {} tokens, {}", prompt.name, prompt.tokens.len(), crate::language::literal(&text))
        };
        let watch = |watched: &Watched| match watched.last {
            Some(last) => format!("{}: {} was {last:.6}", watched.number, watched.expression),
            None => format!("{}: {}", watched.number, watched.expression),
        };
        let circuit = |c: &crate::SessionCircuit| {
            let verdict = c.verdict.as_deref().unwrap_or("not verified");
            let size = c.circuit.size();
            format!("{}: task {}, {} nodes, {} edges, {verdict}", c.name, c.task, size.nodes, size.edges)
        };
        Reply::Info {
            point: self.point(),
            prompts: self.prompts.iter().map(prompt).collect(),
            breakpoints: self.breakpoints.iter().map(|b| format!("{}: {}", b.number, b.text)).collect(),
            watches: self.watches.iter().map(watch).collect(),
            circuits: self.circuits.iter().map(circuit).collect(),
        }
    }
}
