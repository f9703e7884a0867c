//! Text of replies.

use std::fmt::{self, Display};

use crate::{
    AnswerShown, Answered, Attention, Backtrace, Branch, Cause, Causes, Context, Difference, Entry, Fired, Flip, Held,
    IndexedContexts, InputShown, Reason, Reply, Stopped, WhereFires,
};

impl Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prompt = self.prompt.as_ref().map_or("no prompt".to_owned(), |name| format!("prompt {name}"));
        write!(f, "[model {} | {prompt} | ", self.model)?;
        match &self.edits[..] {
            [] => f.write_str("no edits]"),
            edits => write!(f, "edits: {}]", edits.join("; ")),
        }
    }
}

/// Text of `help`.
const HELP: &str = "\
prompt NAME \"TEXT\" | tokens ID .. | TASK N right|wrong   make a prompt and go to it
use NAME                                go to a prompt
step [N], next, continue, restart       go on by points, to the next layer, to a stop; begin again
break SITE[@P] | NODE[@P] | @P | COND   stop at a site, an active node, a position, a condition
delete N, unwatch N                     remove a breakpoint, a watch
watch EXPR                              stop where the value of an expression changes
print EXPR | SITE[A:B]@P:Q | answers [N] | weight A -> B | inputs NODE[@P]
set NODE[@P] = X | mean | zero | of NAME; set A -> B = X; set PARAMETER[ROW,COL] = X
undo                                    take the last edit back
bt NODE@P [--depth N] [--share X] [--norm held|differentiated] [--effect [mean]]
why \"TOKEN\" [not \"TOKEN\"] [@P] [options of bt]
diff A B [\"TOKEN\" not \"TOKEN\"]          where two prompts part, and which nodes decide
where NODE [above X] [--windows N]      contexts of the data on which a node fires
explain [--windows N] NODE EXPR         scores an explanation, such as tokens[-1] == '('
info, help, quit
Nodes look like 1.mlp.post_act[3], positions like @3, @-1 or @last; docs/debugging.md has the grammar.";

impl Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.context, self.reply)
    }
}

impl Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prompt { name, tokens, answers } => {
                write!(f, "{name}: {} tokens\n ", tokens.len())?;
                tokens.iter().enumerate().try_for_each(|(i, token)| write!(f, " {i}:{}", token.text))?;
                match answers {
                    Some([right, wrong]) => write!(f, "\n  answer {right}, alternative {wrong}"),
                    None => Ok(()),
                }
            }
            Self::Placed { what, number, text } => write!(f, "{what} {number}: {text}"),
            Self::Removed { what, number } => write!(f, "{what} {number} is removed"),
            Self::Stopped(stopped) => stopped.fmt(f),
            Self::Value { expression, position, value, condition } => match condition {
                true => write!(f, "{expression} at position {position}: {}", *value != 0.0),
                false => write!(f, "{expression} at position {position} = {value:.6}"),
            },
            Self::Slice { place, asked: [rows, positions], entries } => {
                write!(f, "{place}: {} of {} entries are not zero", entries.len(), rows * positions)?;
                entries.iter().try_for_each(|entry| write!(f, "\n{}", entry_line(entry)))
            }
            Self::Weight { weight, value } => write!(f, "{weight} = {value:.6}"),
            Self::Inputs { node, position, inputs } => {
                write!(f, "{node} reads {} nodes, here at position {position}:", inputs.len())?;
                let line =
                    |i: &InputShown| format!("\n  weight {:>10.6}  value {:>10.6}  {}", i.weight, i.value, i.from);
                inputs.iter().try_for_each(|input| f.write_str(&line(input)))
            }
            Self::Answers { position, tokens } => {
                write!(f, "after position {position}:")?;
                let line = |t: &AnswerShown| {
                    format!("\n  {:>7.2} %  logit {:>9.4}  {}", 100.0 * t.probability, t.logit, t.text)
                };
                tokens.iter().try_for_each(|token| f.write_str(&line(token)))
            }
            Self::Edited { edit, passed } => {
                write!(f, "{edit}")?;
                if *passed {
                    f.write_str("\n  the run had come past it: values from there on are those with the edit")
                } else {
                    Ok(())
                }
            }
            Self::Undone { edit } => write!(f, "taken back: {edit}"),
            Self::Backtrace { title, tokens, backtrace } => show_backtrace(f, title, tokens, backtrace),
            Self::Difference { tokens, prompt, difference, labels } => {
                show_difference(f, tokens, prompt, difference, labels)
            }
            Self::Info { point, prompts, breakpoints, watches, circuits } => {
                let at = point.map_or("at no point".to_owned(), |point| format!("at {point}"));
                f.write_str(&at)?;
                for (what, lines) in
                    [("prompts", prompts), ("breakpoints", breakpoints), ("watches", watches), ("circuits", circuits)]
                {
                    write!(f, "\n{what}:{}", if lines.is_empty() { " none" } else { "" })?;
                    lines.iter().try_for_each(|line| write!(f, "\n  {line}"))?;
                }
                Ok(())
            }
            Self::Where(fires) => show_where(f, fires),
            Self::Explained(explained) => explained.fmt(f),
            Self::Indexed(found) => show_indexed(f, found),
            Self::Help => f.write_str(HELP),
            Self::Quit => Ok(()),
        }
    }
}

fn entry_line(entry: &Entry) -> String {
    let label = entry.label.as_ref().map_or(String::new(), |label| format!("  ({label})"));
    format!("  {:>12.6}  {}@{}{label}", entry.value, entry.name, entry.position)
}

impl Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(point) = self.point else {
            return f.write_str(if self.finished { "the run is over" } else { "before the first point" });
        };
        let token = self.token.as_deref().unwrap_or_default();
        let [entries, nonzero] = self.entries;
        write!(f, "at {point}, token {token}: {nonzero} of {entries} entries are not zero")?;
        for reason in &self.reasons {
            write!(f, "\n  {reason}")?;
        }
        self.largest.iter().try_for_each(|entry| write!(f, "\n{}", entry_line(entry)))
    }
}

fn show_backtrace(f: &mut fmt::Formatter<'_>, title: &str, tokens: &[String], backtrace: &Backtrace) -> fmt::Result {
    write!(f, "{title} = {:.6}", backtrace.value)?;
    let effects = backtrace.causes.shown.iter().any(|branch| branch.effect.is_some());
    write!(f, "\n{:>12}{}  cause", "part", if effects { format!("{:>12}", "effect") } else { String::new() })?;
    let tree = Tree { tokens, effects };
    tree.causes(f, &backtrace.causes, 0)
}

impl Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Breakpoint { number, at } => write!(f, "breakpoint {number}: {at}"),
            Self::Watch { number, expression, from, to } => {
                write!(f, "watch {number}: {expression} was {from:.6} and is {to:.6}")
            }
        }
    }
}

impl Causes {
    /// Words for the part that is left, with the factor that was held.
    pub fn unexplained(&self) -> String {
        match self.held {
            Some(Held::Divisor(divisor)) => format!("unexplained (the norm divides by {divisor:.6})"),
            Some(Held::Gate(gate)) => format!("unexplained (the gate is {gate:.6})"),
            None => "unexplained".to_owned(),
        }
    }
}

impl Branch {
    /// Words for the cause, with its value and the texts of the prompt's tokens.
    pub fn words(&self, tokens: &[String]) -> String {
        let at = match self.cause {
            Cause::Value(target) => Some(target.position),
            Cause::Embedding { position, .. } | Cause::PositionEmbedding { position, .. } => Some(position),
            _ => None,
        };
        let token = at.and_then(|at| tokens.get(at)).map_or(String::new(), |token| format!(" {token}"));
        let value = self.value.map_or(String::new(), |value| format!(" = {value:.6}"));
        let attended = self.attention.as_ref();
        let weight = attended.map_or(String::new(), |a| format!(", attended with {:.4}", a.probability));
        format!("{}{token}{value}{weight}", self.cause)
    }
}

impl Attention {
    /// Words for the score, opened by one side.
    pub fn words(&self, side: &str) -> String {
        let Self { layer, head, query, key, score, .. } = self;
        format!("score of {layer}.head.{head}, query {query}, key {key}: {score:.6}, by {side}")
    }
}

struct Tree<'a> {
    tokens: &'a [String],
    effects: bool,
}

impl Tree<'_> {
    fn line(
        &self,
        f: &mut fmt::Formatter<'_>,
        part: f64,
        effect: Option<f64>,
        depth: usize,
        text: &str,
    ) -> fmt::Result {
        write!(f, "\n{part:>+12.6}")?;
        if self.effects {
            match effect {
                Some(effect) => write!(f, "{effect:>+12.6}")?,
                None => write!(f, "{:>12}", "-")?,
            }
        }
        write!(f, "  {}{text}", "  ".repeat(depth))
    }

    fn causes(&self, f: &mut fmt::Formatter<'_>, causes: &Causes, depth: usize) -> fmt::Result {
        for branch in &causes.shown {
            self.branch(f, branch, depth)?;
        }
        let Causes { smaller, rest, .. } = causes;
        if smaller.count > 0 {
            self.line(f, smaller.sum, None, depth, &format!("{} smaller ones", smaller.count))?;
        }
        self.line(f, *rest, None, depth, &causes.unexplained())
    }

    fn branch(&self, f: &mut fmt::Formatter<'_>, branch: &Branch, depth: usize) -> fmt::Result {
        self.line(f, branch.contribution, branch.effect, depth, &branch.words(self.tokens))?;
        if let Some(causes) = &branch.causes {
            self.causes(f, causes, depth + 1)?;
        }
        branch.attention.as_ref().map_or(Ok(()), |attention| self.score(f, attention, depth + 1))
    }

    /// The score of an attention, in units of the score and not of the root.
    fn score(&self, f: &mut fmt::Formatter<'_>, attention: &Attention, depth: usize) -> fmt::Result {
        for (side, causes) in [("query", &attention.by_query), ("key", &attention.by_key)] {
            let Some(causes) = causes else { continue };
            let gap = if self.effects { 24 } else { 12 };
            let indent = "  ".repeat(depth);
            write!(f, "\n{:gap$}  {indent}{}:", "", attention.words(side))?;
            self.causes(f, causes, depth + 1)?;
        }
        Ok(())
    }
}

fn show_where(f: &mut fmt::Formatter<'_>, fires: &WhereFires) -> fmt::Result {
    let WhereFires { node, above, windows, positions: [all, firing], top, drawn, near } = fires;
    write!(f, "{node} is above {above} at {firing} of {all} positions of {windows} windows")?;
    show_contexts(f, [top, drawn, near])
}

fn show_indexed(f: &mut fmt::Formatter<'_>, found: &IndexedContexts) -> fmt::Result {
    let IndexedContexts { node, above, windows, positions, firing: [least, most], top, drawn, near } = found;
    let firing = if least == most { least.to_string() } else { format!("{least} to {most}") };
    write!(f, "{node} is above {above} at {firing} of {positions} positions, all {windows} windows of the index")?;
    show_contexts(f, [top, drawn, near])
}

/// The largest values, drawn ones, and those nearest to the bound.
fn show_contexts(f: &mut fmt::Formatter<'_>, [top, drawn, near]: [&[Fired]; 3]) -> fmt::Result {
    for (what, list) in [("largest, one a window", top), ("drawn", drawn), ("nearest to the bound", near)] {
        write!(f, "\n{what}:{}", if list.is_empty() { " none" } else { "" })?;
        for fired in list {
            let before = crate::language::literal(&fired.before);
            write!(
                f,
                "\n  {:>10.6}  window {}@{}: {before} {}",
                fired.value, fired.window, fired.position, fired.token
            )?;
        }
    }
    Ok(())
}

/// Carriers that the text lists.
const CARRIERS: usize = 12;

fn show_difference(
    f: &mut fmt::Formatter<'_>,
    tokens: &[String; 2],
    prompt: &[String],
    difference: &Difference,
    labels: &[(String, String)],
) -> fmt::Result {
    let Difference { from, to, positions: [all, compared], lead, .. } = difference;
    write!(f, "{from} against {to}: {compared} of {all} positions have a counterpart")?;
    let at = |position: usize| format!("{position} {}", prompt.get(position).map_or("", String::as_str));
    if let Some(position) = difference.first_token {
        write!(f, "\n  tokens part at position {}", at(position))?;
    }
    for (where_to, parting) in
        [("values part first", &difference.parting), ("at the last position", &difference.parting_at_end)]
    {
        match parting {
            Some(p) => write!(f, "\n  {where_to} at {}@{}: {:.6} and {:.6}", p.node, at(p.position), p.from, p.to)?,
            None => write!(f, "\n  {where_to} nowhere")?,
        }
    }
    write!(f, "\n  logit({}) - logit({}): {:.6} and {:.6}", tokens[0], tokens[1], lead[0], lead[1])?;
    let shown = difference.carriers.len().min(CARRIERS);
    write!(
        f,
        "\n  {} nodes differ; the exchange of {} changes the difference ({shown} shown; {} runs)",
        difference.differing,
        difference.carriers.len(),
        difference.runs
    )?;
    for carrier in &difference.carriers[..shown] {
        write!(f, "\n  {:>9.4} of the way  to {:>10.6}  {}", carrier.share, carrier.lead, carrier.node)?;
    }
    match &difference.flip {
        Flip::SameAnswer => write!(f, "\n  nothing to flip: both have the same answer, or one of them is tied"),
        Flip::NotByAll { lead } => write!(f, "\n  the exchange of all nodes does not flip the answer ({lead:.6})"),
        Flip::Set { nodes, lead, taken } => {
            write!(
                f,
                "\n  the exchange of these {} flips the answer ({lead:.6}), and of none of them less ({taken} before the reduction):",
                nodes.len()
            )?;
            for node in nodes.iter().map(ToString::to_string) {
                let label = labels.iter().find(|(name, _)| *name == node);
                let label = label.map_or(String::new(), |(_, label)| format!(" ({label})"));
                write!(f, "\n    {node}{label}")?;
            }
            Ok(())
        }
    }
}
