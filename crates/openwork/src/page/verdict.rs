//! Head of a circuit's section: the verdict, the levels, and the prompt that speaks against it.

use std::fmt::Write as _;

use openwork_verify::{Check, CounterExample, LevelReport, LevelState, Report, Role, Status, Verdict};

use openwork_project::CircuitReport;

use super::{escape, token_html};

/// The verdict in one sentence, with the level reached.
pub fn headline(out: &mut String, report: &Report) {
    let sentence = match &report.verdict {
        Verdict::Refuted { by, .. } => {
            format!("Refuted by: {}.", by.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        }
        Verdict::Certified { scope } => format!("Certified: {scope}."),
        Verdict::Weak | Verdict::ContrastWeak => {
            "No check refutes the circuit, but not everything that a strong pass needs was met.".into()
        }
        _ => report.reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    };
    let reached = match report.verdict {
        Verdict::Error { .. } => String::new(),
        _ => format!(" <b>Level {} of 6</b>; level {} was asked for.", report.level_reached, report.level),
    };
    let claim = format!("<p>Claims the <b>{}</b>: {}.</p>", report.claim, escape(report.claim.words()));
    let _ = write!(out, "{claim}<p>{}{reached}</p>", escape(&sentence));
    if let Some(s) = &report.size {
        let _ = write!(
            out,
            "<p class=\"quiet\">{} of {} nodes ({} of the {} active ones), {} weights between them.</p>",
            s.nodes, s.model_nodes, s.active_in_circuit, s.active_nodes, s.edges
        );
    }
}

/// The search that found the circuit, and earlier verdicts on circuits of its task.
pub fn provenance(out: &mut String, lines: &[String]) {
    let _ = write!(out, "<details><summary>How it was found, and tried before</summary><ul>");
    for line in lines {
        let _ = write!(out, "<li>{}</li>", escape(line));
    }
    out.push_str("</ul></details>");
}

/// The six levels, with the words of every check that stands in the way.
pub fn levels(out: &mut String, report: &Report) {
    if matches!(report.verdict, Verdict::Error { .. }) {
        return;
    }
    out.push_str("<ol class=\"levels\">");
    report.levels().iter().for_each(|level| step(out, level));
    out.push_str("</ol>");
}

fn step(out: &mut String, level: &LevelReport<'_>) {
    let (class, mark) = match level.state {
        LevelState::Passed => ("passed", "✓"),
        LevelState::Weak => ("weak", "≈"),
        LevelState::Failed => ("failed", "✗"),
        LevelState::Unfinished => ("unfinished", "…"),
        LevelState::NotReached | LevelState::NotAsked => ("off", "–"),
    };
    let _ = write!(
        out,
        "<li class=\"{class}\"><span class=\"mark\" aria-hidden=\"true\">{mark}</span><div><b>{}</b> {} \
         <span class=\"state\">{}</span>",
        level.number, level.question, level.state
    );
    let (first, rest): (Vec<&Check>, Vec<&Check>) = level.against.iter().partition(|c| c.role != Role::ForStrong);
    objections(out, &first);
    if let Some(words) = level.left_out() {
        let _ = write!(out, "<ul><li>{}</li></ul>", escape(&words));
    }
    if !rest.is_empty() {
        let _ = write!(out, "<details><summary>{} not met that a strong pass needs</summary>", checks(rest.len()));
        objections(out, &rest);
        out.push_str("</details>");
    }
    out.push_str("</div></li>");
}

fn checks(n: usize) -> String {
    if n == 1 { "1 check".into() } else { format!("{n} checks") }
}

fn objections(out: &mut String, checks: &[&Check]) {
    if checks.is_empty() {
        return;
    }
    out.push_str("<ul>");
    for check in checks {
        let fate = if check.status == Status::NotApplicable { " <i>(not decided)</i>" } else { "" };
        let _ = write!(out, "<li><b>{}</b>{fate}: {}</li>", escape(&check.id.to_string()), escape(&check.explanation));
    }
    out.push_str("</ul>");
}

/// The pair that speaks against the circuit, token by token, and how to run it again.
pub fn counter_example(out: &mut String, circuit: &CircuitReport, replay: &str) {
    let Verdict::Refuted { counter_example: Some(example), .. } = &circuit.report.verdict else { return };
    let from = match example.pair {
        Some(pair) => format!("Pair {pair} of {}", example.split),
        None => "A pair that a search over inputs made".into(),
    };
    let _ = write!(
        out,
        "<h3>Where it fails</h3><p>{from} speaks against <b>{}</b>. What was done: {} ({} ablation). Tokens in which \
         the prompts differ are marked.</p>",
        escape(&example.check.to_string()),
        escape(&example.intervention.what.to_string()),
        example.intervention.scheme
    );
    pair(out, circuit, &example.prompts);
    outcome(out, circuit, example);
    if let Some(sources) = &example.intervention.sources {
        out.push_str("<p class=\"quiet\">Values of ablated nodes come from these prompts:</p>");
        pair(out, circuit, sources);
    }
    let _ = write!(out, "<p class=\"quiet\">To run it again:</p><pre class=\"code\">{}</pre>", escape(replay));
}

/// Two prompts, a box around every token.
fn pair(out: &mut String, circuit: &CircuitReport, prompts: &[Vec<u16>; 2]) {
    let [a, b] = prompts;
    let start = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let most = a.len().min(b.len()) - start;
    let end = a.iter().rev().zip(b.iter().rev()).take(most).take_while(|(x, y)| x == y).count();
    for (i, prompt) in prompts.iter().enumerate() {
        let _ = write!(out, "<p class=\"tokens\"><span class=\"side\">{}</span>", side(i));
        for (j, &token) in prompt.iter().enumerate() {
            let class = if j >= start && j < prompt.len() - end { "t d" } else { "t" };
            let _ =
                write!(out, "<span class=\"{class}\" title=\"token {token}\">{}</span>", token_html(circuit, token));
        }
        out.push_str("</p>");
    }
}

fn side(i: usize) -> &'static str {
    ["A", "B"][i]
}

/// Answers of model and run to each prompt.
fn outcome(out: &mut String, circuit: &CircuitReport, example: &CounterExample) {
    let (answer, alternative) = example.candidates;
    let [answer, alternative] =
        [answer, alternative].map(|t| format!("<code class=\"t\">{}</code>", token_html(circuit, t)));
    let _ = write!(
        out,
        "<div class=\"scroll\"><table><tr><th>prompt</th><th>right answer</th><th class=\"n\">model</th>\
         <th class=\"n\">run</th><th>the run prefers</th></tr>"
    );
    for i in 0..2 {
        let right = [&answer, &alternative][i];
        let preferred = if example.run[i] > 0.0 { &answer } else { &alternative };
        let parts = (example.run[i] > 0.0) != (example.model[i] > 0.0);
        let note = if parts { " <b class=\"bad\">unlike the model</b>" } else { "" };
        let _ = write!(
            out,
            "<tr><td>{}</td><td>{right}</td><td class=\"n\">{:+.3}</td><td class=\"n\">{:+.3}</td>\
             <td>{preferred}{note}</td></tr>",
            side(i),
            example.model[i],
            example.run[i]
        );
    }
    let _ = write!(
        out,
        "</table></div><p class=\"quiet\">Numbers are the logit of {answer} above that of {alternative}; the run's is \
         calibrated (× {:.3}, {:+.3}).</p>",
        example.calibration.scale, example.calibration.shift
    );
}
