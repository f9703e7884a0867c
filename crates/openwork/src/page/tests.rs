//! The page of a verdict that has one of everything.

use std::collections::BTreeMap;

use openwork_circuit::{
    Calibration, Circuit, CircuitFile, Claim, Group, Label, Node, NodeSet, NodeSpace, SearchSettings,
};
use openwork_verify::{
    AblationValue, Attack, Attacker, Cell, Change, Check, CheckId, Contents, CounterExample, Curve, CurveKind,
    Declaration, Estimate, Fault, Findings, Incompleteness, Intervention, Kept, Needs, NodeWorth, Norms, Quantity,
    Reason, Report, Role, Scheme, Search, Settings, Split, Status, Subset, Unfinished, Verdict, Why,
};

use openwork_project::{CircuitReport, UnjudgedCircuit};

use super::{Page, escape, prose};

const E: Estimate = Estimate { mean: 0.25, ci95: (0.125, 0.375), n: 40 };

/// Text of a hostile token.
const HOSTILE: &str = "</span><script>alert('x')</script>";

fn check(level: u8, role: Role, status: Status, id: CheckId) -> Check {
    Check {
        id,
        level,
        role,
        split: Some(Split::HeldOut),
        ablation: Some(Scheme::MEAN),
        estimate: Some(E),
        p_value: Some(0.25),
        threshold: Some(0.5),
        status,
        explanation: format!("words on {id} <&>"),
    }
}

fn cell(index: usize, kept: Kept, ablation: Option<Scheme>) -> Cell {
    let loss = Estimate { mean: 0.001 * (101 + index) as f64, ..E };
    Cell {
        split: Split::HeldOut,
        kept,
        ablation,
        calibration: Calibration::NONE,
        loss,
        loss_uncalibrated: E,
        accuracy: E,
        agreement: E,
        agreement_vocabulary: E,
        kl_candidates: E,
        kl: E,
        kl_p99: 1.0,
        kl_max: 2.0,
        faithfulness: None,
        at_best_shift: None,
    }
}

fn counter_example() -> CounterExample {
    CounterExample {
        check: CheckId::Adversary,
        split: Split::HeldOut,
        pair: Some(3),
        prompts: [vec![1, 2, 3], vec![1, 9, 3]],
        candidates: (2, 3),
        intervention: Intervention {
            what: Change::Attack,
            scheme: Scheme { value: AblationValue::AnyTemplate, norms: Norms::Free },
            kept: vec![("0.attn.act_in[0]".into(), 1)],
            partly: vec![],
            sources: Some([vec![1], vec![2]]),
            constants: None,
            cut_edges: vec![],
        },
        calibration: Calibration::NONE,
        model: [1.5, -2.5],
        run: [-0.75, -3.5],
    }
}

/// A report with these contents, as if read from a file.
fn sealed(contents: &Contents) -> Report {
    serde_json::from_value(serde_json::to_value(contents).unwrap()).unwrap()
}

fn contents() -> Contents {
    let worth = NodeWorth { node: "0.attn.q[<1>]".into(), in_circuit: E, p_value: 0.5, in_model: 0.1, role: None };
    let attack = Attack {
        on: Subset::Circuit,
        attacker: Attacker::OneScheme,
        search: Search::Slopes,
        budget: 2.0,
        kl: E,
        agreement: E,
        agreement_shifted: E,
        nodes: vec![("0.attn.q[<1>]".into(), 0.5)],
    };
    let incompleteness = Incompleteness {
        on: Subset::Random,
        nodes: 7,
        tried: 17,
        how: "random <nodes>".into(),
        knocked_out: 3,
        gap: E,
        gap_of_none: 0.625,
    };
    let curve = |kind, from: f64| Curve { kind, points: vec![(from, 0.5), (1.0, 1.0)] };
    let loss = CheckId::Sufficiency { scheme: Scheme::MEAN, quantity: Quantity::Loss };
    let schemes = Scheme::all().map(Some).map(|s| (Kept::Circuit, s));
    let rest = [(Kept::Model, None), (Kept::Nothing, Some(Scheme::ZERO)), (Kept::AllButCircuit, Some(Scheme::MEAN))];
    Contents {
        claim: Claim::Answer,
        verdict: Verdict::Refuted { by: vec![CheckId::Adversary], counter_example: Some(Box::new(counter_example())) },
        reasons: vec![],
        level: 5,
        needs: Needs::default(),
        level_reached: 2,
        unfinished: vec![Unfinished { check: CheckId::Roles, level: 4, done: None, why: Why::OutOfTime }],
        size: None,
        checks: vec![
            check(2, Role::Required, Status::Passed, loss),
            check(3, Role::ForStrong, Status::Failed, CheckId::MinimalityNodes),
            check(3, Role::Reported, Status::Failed, CheckId::SignTest),
            check(4, Role::Required, Status::Failed, CheckId::Adversary),
        ],
        matrix: schemes.chain(rest).enumerate().map(|(i, (kept, scheme))| cell(i, kept, scheme)).collect(),
        random_sets: vec![],
        curves: vec![curve(CurveKind::NodesKept, 0.001), curve(CurveKind::RestRestored, 0.0)],
        findings: Findings {
            nodes: vec![worth],
            attacks: vec![attack],
            incompleteness: vec![incompleteness],
            cpr_cmd: Some((0.875, 0.125)),
            ..Default::default()
        },
        declarations: vec![Declaration { what: "granularity".into(), value: "<nodes>".into() }],
        settings: Settings::default(),
    }
}

/// A circuit of one neuron, with a label and in a group.
fn labelled(model: &openwork_model::Model) -> Circuit {
    let neuron: Node = "0.mlp.post_act[3]".parse().expect("a node");
    let space = NodeSpace::new(&model.config);
    let number = space.number(neuron).expect("the model has it");
    let label = Label { name: format!("quote {HOSTILE}"), note: Some(HOSTILE.into()) };
    Circuit::new(model, NodeSet::of(space, [number]))
        .with_labels(BTreeMap::from([(neuron, label)]))
        .and_then(|circuit| circuit.with_groups(vec![Group::mlp(&model.config, 0)]))
        .expect("they belong")
}

fn page(report: Report) -> String {
    let model = openwork_model::Model::init(openwork_model::Config::default(), 0);
    let file = CircuitFile {
        task: "with_as".into(),
        model_sha256: "0".repeat(64),
        means_sha256: "1".repeat(64),
        tokenizer_sha256: "2".repeat(64),
        circuit: labelled(&model),
        claim: Claim::Answer,
        calibration: Calibration::NONE,
        target_loss: 0.15,
        loss: 0.1,
        seed: 0,
        search: SearchSettings::ByHand {},
    };
    let tokens = BTreeMap::from([(1, HOSTILE.into()), (2, " a\n".into()), (3, "'b".into()), (9, "\u{202e}c".into())]);
    let circuit = CircuitReport {
        file,
        controls: vec![],
        report,
        examples: vec![],
        tokens,
        provenance: vec![format!("found by {HOSTILE}")],
        verdict_path: "a <b>.json".into(),
    };
    let nothing = Page {
        title: "Verdict".into(),
        facts: vec![],
        curves: None,
        writing: None,
        circuits: vec![circuit],
        unjudged: vec![UnjudgedCircuit {
            path: format!("circuits/{}.json", HOSTILE.replace('/', "")).into(),
            task: HOSTILE.into(),
            size: openwork_circuit::Size { nodes: 3, edges: 2, units: 3 },
            standing: openwork_project::Standing::Unverified,
            logged: None,
        }],
        tasks: vec![],
        model_path: "run".into(),
    };
    nothing.html()
}

/// Tags of a page in order, checked to close in reverse order.
fn assert_well_formed(html: &str) {
    let mut open: Vec<&str> = Vec::new();
    let (_, body) = html.split_once('\n').expect("a line for the document type");
    let mut rest = body;
    while let Some(start) = rest.find('<') {
        assert!(!rest[..start].contains('>') || open.last() == Some(&"style"), "a stray > before {}", &rest[start..]);
        let end = start + rest[start..].find('>').expect("a tag ends");
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "closed in the wrong order");
        } else if !tag.ends_with('/') {
            assert_eq!(tag.matches('"').count() % 2, 0, "quotes in <{tag}>");
            open.push(tag.split(' ').next().unwrap_or(tag));
        }
    }
    assert!(open.is_empty(), "never closed: {open:?}");
}

#[test]
fn the_page_is_well_formed_and_stands_alone() {
    let html = page(sealed(&contents()));
    assert_well_formed(&html);
    let mut early = contents();
    let fault = Fault::Hypothesis { reason: "a hook <did> not fire".into() };
    early.reasons = vec![Reason::Fault(fault.clone())];
    early.verdict = Verdict::Error { fault };
    (early.matrix, early.curves, early.findings) = (vec![], vec![], Findings::default());
    let error = page(sealed(&early));
    assert_well_formed(&error);
    assert!(error.contains("a hook &lt;did&gt; not fire") && !error.contains("class=\"levels\""));
    for load in ["href=\"http", "src=", "@import", "url(", "<script"] {
        assert!(!html.contains(load), "{load}");
    }
}

#[test]
fn every_failed_check_every_cell_and_every_curve_is_on_the_page() {
    let report = sealed(&contents());
    let html = page(report.clone());
    for check in report.checks.iter().filter(|c| c.status == Status::Failed) {
        assert!(html.contains(&escape(&check.id.to_string())), "{}", check.id);
        assert!(html.contains(&escape(&check.explanation)), "{}", check.id);
    }
    for cell in &report.matrix {
        let tile = format!("<b>{:.3}</b><small>[0.125, 0.375]</small>", cell.loss.mean);
        assert_eq!(html.matches(&tile).count(), 1, "{cell:?}");
    }
    for curve in &report.curves {
        assert!(html.contains(&escape(curve.kind.measure())) && html.contains(&escape(curve.kind.axis())));
        assert!(html.contains(&format!("{}</figcaption>", escape(curve.kind.reading()))));
    }
    let points: usize = report.curves.iter().map(|c| c.points.len()).sum();
    assert_eq!(html.matches("<circle").count(), points);
    assert!(html.contains("<td class=\"n\">0.6250</td><td>3 of its nodes (random &lt;nodes&gt;)</td>"));
    for words in ["Level 2 of 6", "not finished, no time was left: roles", "CPR 0.875", "granularity", "&lt;nodes&gt;"]
    {
        assert!(html.contains(words), "{words}");
    }
}

#[test]
fn the_counter_example_is_shown_token_by_token_and_tokens_stay_text() {
    let html = page(sealed(&contents()));
    assert!(!html.contains("<script") && html.contains("&lt;script&gt;alert('x')"));
    assert!(html.contains("<span class=\"t d\" title=\"token 2\"> a\\n</span>"), "the differing token is marked");
    assert!(html.contains("<span class=\"t\" title=\"token 3\">'b</span>"), "quotes are not escaped twice");
    assert!(html.contains("\\u{202e}c"), "characters that turn text round are spelt out");
    assert_eq!(html.matches("unlike the model").count(), 1, "one of the two answers parts from the model's");
    assert!(html.contains("openwork replay run 'a &lt;b&gt;.json'"));
}

#[test]
fn nothing_is_loaded_and_nothing_runs() {
    let html = page(sealed(&contents()));
    let policy = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
                  base-uri 'none'; form-action 'none'\"/>";
    let (before, after) = html.split_once(policy).expect("the policy");
    assert!(!before.contains("<style") && !before.contains("<title") && after.contains("<style"), "it comes first");
}

/// Puts a hostile text into every string that is free.
fn spoil(value: &mut serde_json::Value) {
    const FREE: [&str; 5] = ["explanation", "how", "node", "reason", "scope"];
    match value {
        serde_json::Value::Object(map) => {
            // Of a declaration both parts are free; elsewhere these keys hold tags.
            let is_declaration = map.len() == 2 && map.contains_key("what") && map.contains_key("value");
            for (key, value) in map {
                match value {
                    serde_json::Value::String(text) if is_declaration || FREE.contains(&key.as_str()) => {
                        *text = HOSTILE.into();
                    }
                    other => spoil(other),
                }
            }
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(spoil),
        _ => (),
    }
}

#[test]
fn every_free_text_of_a_verdict_stays_text() {
    let mut json = serde_json::to_value(contents()).unwrap();
    let tags = json["matrix"].clone();
    spoil(&mut json);
    json["matrix"] = tags;
    let report: Contents = serde_json::from_value(json).unwrap();
    assert!(report.checks.iter().all(|c| c.explanation == HOSTILE));
    let html = page(sealed(&report));
    assert_well_formed(&html);
    assert!(!html.contains(HOSTILE) && html.contains(&escape(HOSTILE)));
}

#[test]
fn a_circuit_without_a_verdict_is_on_the_page() {
    let html = page(sealed(&contents()));
    assert!(html.contains("NOT VERIFIED") && html.contains("3 nodes, 2 edges"));
}

#[test]
fn text_cannot_become_markup() {
    assert_eq!(escape("a<b>&\"c\""), "a&lt;b&gt;&amp;&quot;c&quot;");
    assert_eq!(prose("` <` in `x`"), "<code> &lt;</code> in <code>x</code>");
}

#[test]
fn what_is_drawn_can_be_typed() {
    let html = page(sealed(&contents()));
    let (_, drawing) = html.split_once("aria-label=\"the circuit's nodes and edges\"").expect("a drawing");
    let (drawing, rest) = drawing.split_once("</svg>").expect("it ends");
    let drawn = drawing.split("</text>").filter_map(|part| part.rsplit_once('>')).map(|(_, text)| text);
    let nodes: Vec<Node> = drawn.filter_map(|text| text.parse().ok()).collect();
    assert_eq!(nodes.iter().map(ToString::to_string).collect::<Vec<_>>(), ["0.mlp.post_act[3]"]);
    assert!(rest.contains("<code>0.mlp.post_act[3]</code>"), "and is listed");
}

#[test]
fn labels_and_groups_are_shown_as_text() {
    let html = page(sealed(&contents()));
    let quoted = escape(&format!("quote {HOSTILE}"));
    // In the drawing, in the list under it, and in the title of the drawn node.
    assert!(html.matches(&quoted).count() >= 3, "{html}");
    assert!(html.contains("1 nodes of 0.mlp") && html.contains("the circuit has 1 nodes"));
    assert!(!html.contains(HOSTILE));
}
