//! Findings of attacks, knock-outs, rivals, scrubbing, hypotheses and certificates.

use std::fmt::Write as _;

use openwork_circuit::Circuit;
use openwork_project::CircuitReport;
use openwork_verify::{
    Attack, Faithfulness, Report, Scrubbed, Subset,
    certificate::{Certified, Kind},
    hypothesis::{HypothesisCheckId, HypothesisReport, HypothesisVerdict},
};

use super::{
    escape,
    tables::{bar, estimate, mark},
};

/// Attacks on the circuit beside those on random sets, by budget.
pub fn attacks(out: &mut String, report: &Report) {
    let mut attacks: Vec<&Attack> = report.findings.attacks.iter().collect();
    if attacks.is_empty() {
        return;
    }
    attacks.sort_by(|a, b| a.budget.total_cmp(&b.budget).then(a.on.cmp(&b.on)));
    out.push_str(
        "<h3>Attacks</h3><p class=\"quiet\">The worst partial ablation that was found within a budget, of nodes that \
         are not kept safe: with one scheme for all prompts, of one group of nodes, or with a scheme for every prompt. Safe is the circuit, or a random set of its size: where both fall \
         alike, keeping the circuit safe protects nothing. An attack that few answers survive as they are, and many after \
         the best common shift, moves the threshold between the two answers; one that they do not survive either way \
         destroys what tells the prompts apart.</p><div class=\"scroll\"><table><tr><th>safe</th>\
         <th>adversary</th><th class=\"n\">budget, nodes</th><th>answers that stay the model's</th><th>the same, answers shifted</th><th class=\"n\">KL over the candidates, \
         nats</th><th>most ablated, and the part that is left</th></tr>",
    );
    for attack in attacks {
        let class = if attack.on == Subset::Circuit { " class=\"circuit\"" } else { "" };
        let nodes: Vec<String> =
            attack.nodes.iter().take(4).map(|(node, r)| format!("{} {r:.2}", escape(node))).collect();
        let _ = write!(
            out,
            "<tr{class}><td>{}</td><td>{}</td><td class=\"n\">{:.1}</td><td class=\"w\">{}{}</td><td>{}</td>\
             <td class=\"n\">{}</td><td class=\"nodes\">{}</td></tr>",
            attack.on,
            escape(&attack.attacker.to_string()),
            attack.budget,
            bar(attack.agreement.mean, attack.agreement.mean < report.settings.min_accuracy),
            estimate(&attack.agreement),
            estimate(&attack.agreement_shifted),
            estimate(&attack.kl),
            nodes.join(", ")
        );
    }
    out.push_str("</table></div>");
    if let Some((share, nats)) = report.findings.worst_input {
        let _ = write!(
            out,
            "<p>On held-out prompts the largest KL(model ‖ circuit) was {nats:.3} nats; at 95 % confidence at most {:.2} % \
             of prompts drawn like them are worse.</p>",
            100.0 * share
        );
    }
}

/// Knock-outs of the circuit's nodes from circuit and model, beside random sets.
pub fn incompleteness(out: &mut String, report: &Report) {
    let rows = &report.findings.incompleteness;
    if rows.is_empty() {
        return;
    }
    out.push_str(
        "<h3>Knock-outs</h3><p class=\"quiet\">Nodes of a set are knocked out of the set alone and of the model: how much \
         more the set then loses, in nats, at the worst knock-out found and with nothing knocked out. A random set that \
         knows nothing parts from the model at once. Only rows with as many tried compare.</p><div class=\"scroll\">\
         <table><tr><th>set</th><th class=\"n\">nodes</th><th class=\"n\">tried</th><th class=\"n\">at the worst</th>\
         <th class=\"n\">with nothing knocked out</th><th>the worst knock-out</th></tr>",
    );
    for row in rows {
        let class = if row.on == Subset::Circuit { " class=\"circuit\"" } else { "" };
        let _ = write!(
            out,
            "<tr{class}><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{:.4}</td><td>{} of its nodes ({})</td></tr>",
            row.on,
            row.nodes,
            row.tried,
            estimate(&row.gap),
            row.gap_of_none,
            row.knocked_out,
            escape(&row.how)
        );
    }
    out.push_str("</table></div>");
}

/// Loss that every node of the circuit is worth.
pub fn nodes(out: &mut String, circuit: &CircuitReport) {
    let report = &circuit.report;
    let findings = &report.findings;
    if findings.nodes.is_empty() {
        return;
    }
    out.push_str(
        "<h3>Nodes</h3><p class=\"quiet\">What the loss rises by without the node, in nats: of the circuit, and of the \
         whole model. The role is the correlation of the node's values in the circuit's run with those in the model's. \
         p is of &quot;worth less than the margin&quot;, after Holm.</p><div class=\"scroll\"><table><tr><th>node</th>\
         <th>in the circuit</th><th class=\"n\">in the model</th><th class=\"n\">role</th><th class=\"n\">p</th></tr>",
    );
    let most = findings.nodes.iter().fold(1e-9_f64, |m, n| m.max(n.in_circuit.mean));
    for node in &findings.nodes {
        let role = node.role.map_or("constant".into(), |r| format!("{r:+.2}"));
        let needed = node.p_value < report.settings.alpha;
        let _ = write!(
            out,
            "<tr><td><code>{}</code></td><td class=\"w\">{}{}</td><td class=\"n\">{:+.3}</td><td class=\"n\">{role}</td>\
             <td class=\"n{}\">{}</td></tr>",
            escape(&circuit.file.circuit.describe_name(&node.node)),
            bar(node.in_circuit.mean / most, !needed),
            estimate(&node.in_circuit),
            node.in_model,
            if needed { "" } else { " bad" },
            p_value(node.p_value)
        );
    }
    out.push_str("</table></div><ul class=\"facts\">");
    if let Some((needless, edges)) = &findings.needless_edges {
        let names: Vec<String> = needless.iter().map(|edge| escape(edge)).collect();
        let names = if names.is_empty() { String::new() } else { format!(": {}", names.join("; ")) };
        let _ = write!(out, "<li>{} of {edges} edges can be cut without loss{names}</li>", needless.len());
    }
    if let Some(n) = findings.smallest_subset {
        let _ = write!(out, "<li>{n} of {} nodes do as well as all of them (greedy search)</li>", findings.nodes.len());
    }
    if let Some(ratio) = findings.joint_over_sum {
        let _ = write!(
            out,
            "<li>without the whole circuit the loss rises {ratio:.2} times the sum of its nodes one by one (far above 1: \
             they stand in for each other)</li>"
        );
    }
    out.push_str("</ul>");
}

/// A p-value in few digits.
fn p_value(p: f64) -> String {
    if p < 0.001 { "&lt; 0.001".into() } else { format!("{p:.3}") }
}

/// Other circuits for the task, and what none of them can do without.
pub fn rivals(out: &mut String, report: &Report) {
    let findings = &report.findings;
    if findings.rivals.is_empty() && findings.core.is_none() {
        return;
    }
    out.push_str("<h3>Is it the only one?</h3>");
    if findings.rivals.is_empty() {
        out.push_str("<p>The search found no other circuit that does the task.</p>");
    } else {
        out.push_str(
            "<div class=\"scroll\"><table><tr><th class=\"n\">nodes of the rival</th><th class=\"n\">shared</th>\
             <th class=\"n\">loss, nats</th><th class=\"n\">agreement with the model</th></tr>",
        );
        for rival in &findings.rivals {
            let _ = write!(
                out,
                "<tr><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
                rival.nodes,
                rival.shared,
                estimate(&rival.loss),
                estimate(&rival.agreement)
            );
        }
        out.push_str("</table></div>");
    }
    if let Some(core) = findings.core {
        let _ = write!(
            out,
            "<p>Core: {core} of the circuit's nodes are irreplaceable, nothing else in the model does the task without \
             them.</p>"
        );
    }
}

/// Causal scrubbing.
pub fn scrubbing(out: &mut String, report: &Report) {
    let Some(found) = &report.findings.scrubbed else { return };
    let _ = write!(
        out,
        "<h3>Causal scrubbing</h3><p class=\"quiet\">Everything outside the circuit is resampled from other prompts, \
         {} times for each of {} pairs. A score of 1: nothing outside matters; 0: the circuit is no better than none.\
         </p><p>Score by loss: {}. Score by KL: {}.</p>",
        found.settings.scrubs,
        found.pairs,
        score(&found.score_loss),
        score(&found.score_kl)
    );
    runs(out, found);
}

fn score(score: &Faithfulness) -> String {
    match score {
        Faithfulness::Defined { ratio_of_means, by_pair: [low, middle, high] } => {
            format!(
                "<b>{}</b> (pair by pair: median {middle:.2}, 5th to 95th percentile {low:.2} to {high:.2})",
                estimate(ratio_of_means)
            )
        }
        Faithfulness::Undefined { denominator: (mean, error) } => {
            format!("undefined, since its denominator is {mean:.4} ± {error:.4} nats")
        }
    }
}

fn runs(out: &mut String, found: &Scrubbed) {
    let _ = write!(
        out,
        "<div class=\"scroll\"><table><tr><th>run</th><th class=\"n\">loss, nats</th><th class=\"n\">agreement</th>\
         <th class=\"n\">KL to the model, nats</th></tr><tr><td>the model</td><td class=\"n\">{}</td>\
         <td class=\"n\"></td><td class=\"n\"></td></tr>",
        estimate(&found.model_loss)
    );
    for (name, run) in [("the circuit, all else resampled", &found.circuit), ("all resampled", &found.all_resampled)] {
        let _ = write!(
            out,
            "<tr><td>{name}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            estimate(&run.loss),
            estimate(&run.agreement),
            estimate(&run.kl)
        );
    }
    let worst = &found.worst;
    let _ = write!(
        out,
        "</table></div><p class=\"quiet\">Worst: prompt {} of pair {}, scrub {}: KL {:.3} nats, logit of the answer above \
         the alternative {:+.3} in the model and {:+.3} scrubbed.</p>",
        if worst.positive { "A" } else { "B" },
        worst.pair,
        worst.scrub,
        worst.kl,
        worst.differences[0],
        worst.differences[1]
    );
}

/// Result of the hypothesis.
pub fn hypothesis(out: &mut String, report: &Report) {
    let Some(found) = &report.findings.hypothesis else { return };
    let _ = write!(
        out,
        "<h3>Hypothesis: {}</h3><p>{}</p><div class=\"scroll\"><table><tr><th></th><th>check</th>\
         <th class=\"n\">as predicted</th><th class=\"n\">at least</th><th>what was seen</th></tr>",
        escape(&found.hypothesis),
        escape(&hypothesis_verdict(found))
    );
    for check in &found.checks {
        let example = check.example.as_ref().map_or(String::new(), |e| format!("<br/>{}", escape(&e.text())));
        let _ = write!(
            out,
            "<tr>{}<td>{}</td><td class=\"n\">{}</td><td class=\"n\">{:.2}</td><td>{}{example}</td></tr>",
            mark(check.status),
            escape(&check.id.to_string()),
            check.estimate.as_ref().map_or("–".into(), estimate),
            check.threshold,
            escape(&check.explanation)
        );
    }
    out.push_str("</table></div>");
}

fn hypothesis_verdict(found: &HypothesisReport) -> String {
    match &found.verdict {
        HypothesisVerdict::Refuted { by } => format!("Refuted by: {}.", list(by)),
        HypothesisVerdict::Undecided { by } => format!("Undecided: {}.", list(by)),
        HypothesisVerdict::Supported => format!("Supported on {} prompts.", found.prompts),
    }
}

fn list(ids: &[HypothesisCheckId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Certified statements.
pub fn certificates(out: &mut String, report: &Report) {
    if report.findings.certificates.is_empty() {
        return;
    }
    out.push_str(
        "<h3>Certificates</h3><p class=\"quiet\">Each is a file that <code>openwork check-certificate</code> re-derives.\
         </p><div class=\"scroll\"><table><tr><th>kind</th><th>over what</th><th>bound</th><th class=\"n\">share</th>\
         <th>left out</th></tr>",
    );
    for certificate in &report.findings.certificates {
        let (kind, bound) = bound(certificate);
        let _ = write!(
            out,
            "<tr><td>{kind}</td><td>{}</td><td>{bound}</td><td class=\"n\">{:.2} %</td><td>{}</td></tr>",
            escape(&certificate.scope),
            100.0 * certificate.share,
            escape(&certificate.unfinished.join("; "))
        );
    }
    out.push_str("</table></div>");
}

fn bound(c: &Certified) -> (&'static str, String) {
    match c.kind {
        Kind::Exhaustive => ("exhaustive", format!("worst KL(model ‖ circuit) {:.4} nats", c.bound)),
        Kind::Statistical => ("statistical", format!("agreement at least {:.2} %", 100.0 * c.bound)),
        Kind::Relaxation if c.bound == f64::NEG_INFINITY => ("relaxation", "none was found".into()),
        Kind::Relaxation => ("relaxation", format!("margin at least {:.3} logits", c.bound)),
    }
}

/// The labels and groups of a circuit.
pub fn labels(out: &mut String, circuit: &Circuit) {
    if circuit.labels().is_empty() && circuit.groups().is_empty() {
        return;
    }
    out.push_str("<ul class=\"facts\">");
    let note = |note: &Option<String>| note.as_ref().map_or(String::new(), |note| format!(": {}", escape(note)));
    for (node, label) in circuit.labels() {
        let _ = write!(out, "<li><code>{node}</code> {}{}</li>", escape(&label.name), note(&label.note));
    }
    for group in circuit.groups() {
        let kept = group.nodes.iter().filter(|&&node| circuit.nodes().contains(node)).count();
        let _ = write!(out, "<li>{kept} nodes of {}{}</li>", escape(&group.name), note(&group.note));
    }
    let _ = write!(
        out,
        "</ul><p class=\"quiet\">With each group as one, the circuit has {} nodes.</p>",
        circuit.size().units
    );
}
