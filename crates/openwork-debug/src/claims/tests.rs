//! Claims that hold and claims that fall, on a model whose mechanism is known.

use openwork_circuit::{NodeSet, NodeSpace};
use openwork_model::{Bigram, Config, Matrix, Model, NormKind, Weight};

use super::*;
use crate::{Names, Vocabulary};

const TASK: &str = "single_double_quote";

/// Bytes as tokens, but for the two answers of the task, which are tokens 1 and 2.
fn vocabulary() -> impl Vocabulary {
    (
        |text: &str| {
            let marked = text.replace("\")\n", "\u{1}").replace("')\n", "\u{2}");
            marked.bytes().map(|b| u16::from(b & 127)).collect::<Vec<u16>>()
        },
        |tokens: &[u16]| tokens.iter().map(|&t| char::from(t as u8)).collect::<String>(),
    )
}

/// A model that closes the quote that was opened: channels 0 and 1 mark the quotes, one head averages them over all
/// positions into channels 2 and 3, and the logits of the answers read these. Neuron 4 is active at a double quote.
fn quotes() -> Model {
    let config = Config {
        vocab_size: 128,
        n_ctx: 2048,
        n_layer: 1,
        n_head: 1,
        d_head: 2,
        d_model: 4,
        d_mlp: 6,
        norm: NormKind::None,
        act_density: None,
        bigram: Bigram::None,
        ..Config::default()
    };
    let mut model = Model::init(config, 0);
    model.params.values_mut().into_iter().for_each(|weight| weight.update(|w: &mut Matrix| w.fill(0.0)));
    let set = |weight: &mut Weight, entries: &[(usize, usize, f32)]| {
        weight.update(|w| entries.iter().for_each(|&(row, col, x)| w[[row, col]] = x))
    };
    let (double, single) = (usize::from(b'"'), usize::from(b'\''));
    set(&mut model.params.embed, &[(double, 0, 1.0), (single, 1, 1.0)]);
    let block = &mut model.params.blocks[0];
    [&mut block.attn_norm, &mut block.mlp_norm, &mut model.params.final_norm]
        .into_iter()
        .for_each(|norm| norm.gain.update(|w| w.fill(1.0)));
    // Rows of queries, keys and values: two each.
    set(&mut block.qkv.weight, &[(4, 0, 1.0), (5, 1, 1.0)]);
    set(&mut block.attn_out.weight, &[(2, 0, 1e4), (3, 1, 1e4)]);
    set(&mut block.fc.weight, &[(4, 0, 2.0)]);
    set(model.params.unembed.as_mut().unwrap(), &[(1, 2, 1.0), (2, 3, 1.0)]);
    model
}

fn facts(model: &Model, verdict_of: &str) -> CircuitFacts {
    let circuit = Circuit::new(model, NodeSet::all(NodeSpace::new(&model.config)));
    let strength = Some(Strength { rank: Rank::Weak, contrast: false });
    let (model_sha256, circuit_sha256) = (verdict_of.to_owned(), circuit.sha256());
    let verdict = Some(VerdictFacts {
        strength,
        words: "PASS (WEAK)".into(),
        model_sha256,
        circuit_sha256: circuit_sha256.clone(),
    });
    CircuitFacts { circuit, calibration: Calibration::NONE, task: TASK.into(), circuit_sha256, verdict }
}

fn check(model: &Model, text: &str) -> Vec<Checked> {
    let (vocabulary, sha256) = (vocabulary(), model.sha256());
    let means = vec![0.0; NodeSpace::new(&model.config).len()];
    let circuit = |name: &str| match name {
        "all" => Ok(facts(model, &sha256)),
        "old" => Ok(facts(model, &"0".repeat(64))),
        _ => Err(Unreadable(format!("there is no {name}"))),
    };
    let world = World { model, model_sha256: &sha256, vocabulary: &vocabulary, means: Some(&means), circuit: &circuit };
    let names = Names { config: &model.config, vocabulary: &vocabulary, prompts: &[] };
    Claims::parse(&format!("{FORMAT}\n{text}"), names).unwrap_or_else(|e| panic!("{text}: {e:?}")).check(&world)
}

#[test]
fn shares_have_exact_intervals() {
    // 0.025^(1/10) and its complement; 5 of 10 from tables of Clopper and Pearson.
    for (k, low, high) in [(10, 0.6915, 1.0), (0, 0.0, 0.3085), (5, 0.1871, 0.8129)] {
        let (a, b) = Share::new(k, 10).ci95;
        assert!((a - low).abs() < 1e-4 && (b - high).abs() < 1e-4, "{k}: {a} {b}");
    }
}

#[test]
fn claims_about_the_mechanism_hold_and_fall_on_a_model_in_which_it_is_broken() {
    let on = format!("{TASK} by 0.2 in 0.9 of 60 pairs");
    let claims = [
        format!("0.attn.v[0] needed_for {on}"),
        format!("edge 0.attn.act_in[0] -> 0.attn.v[0] carries {on}"),
        format!("0.mlp.post_act[4] fires_on only \"\\\"\" above 0.5 on {TASK} in 0.9 of 60 pairs"),
    ];
    let model = quotes();
    for claim in &claims {
        let found = check(&model, claim).remove(0);
        assert_eq!(found.outcome, Outcome::Holds, "{claim}: {}", found.reason);
        assert_eq!((found.share.unwrap().n, found.against.is_none()), (60, true));
    }
    // The head reads the double quotes from another channel, and the neuron does, too.
    let mut broken = model.clone();
    broken.params.blocks[0].qkv.weight.update(|w| w.swap([4, 0], [4, 3]));
    broken.params.blocks[0].fc.weight.update(|w| w.swap([4, 0], [4, 1]));
    let fell = check(&broken, &format!("{}\n{}", claims[0], claims[2]));
    for found in &fell {
        assert_eq!(found.outcome, Outcome::Falls, "{}", found.reason);
        let against = found.against.as_ref().expect("a pair on which it does not hold");
        assert!(against.prompt.len() > 10 && !against.observed.is_empty(), "{against:?}");
    }
    assert!(fell[1].against.as_ref().unwrap().observed.contains("fire"), "{:?}", fell[1]);
    let cut = check(&broken, &claims[1]).remove(0);
    assert_eq!(cut.outcome, Outcome::Untested);
    assert!(cut.reason.contains("no nonzero weight"), "{}", cut.reason);
    // Too few pairs for the bar are no proof of either.
    let few = check(&model, &format!("0.attn.v[0] needed_for {TASK} by 0.2 in 0.9 of 12 pairs")).remove(0);
    assert_eq!(few.outcome, Outcome::Undecided, "{}", few.reason);
}

#[test]
fn verdicts_count_for_their_own_model_and_circuit_alone() {
    let model = quotes();
    let (own, circuit) = (model.sha256(), facts(&model, "").circuit_sha256);
    let zeros = "0".repeat(64);
    let outcome = |line: &str| check(&model, line).remove(0).outcome;
    let claim = |file: &str, least: &str, model: &str, circuit: &str| {
        format!("verdict of \"{file}\" at least {least} model \"{model}\" circuit \"{circuit}\"")
    };
    assert_eq!(outcome(&claim("all", "WEAK", &own, &circuit)), Outcome::Holds);
    assert_eq!(outcome(&claim("all", "WEAK contrast", &own, &circuit)), Outcome::Holds);
    assert_eq!(outcome(&claim("all", "STRONG", &own, &circuit)), Outcome::Falls);
    assert_eq!(outcome(&claim("all", "WEAK", &zeros, &circuit)), Outcome::Falls);
    assert_eq!(outcome(&claim("all", "WEAK", &own, &zeros)), Outcome::Falls);
    assert_eq!(outcome(&claim("old", "WEAK", &own, &circuit)), Outcome::Falls);
    assert_eq!(outcome(&claim("none", "WEAK", &own, &circuit)), Outcome::Untested);
    let contrast = Strength { rank: Rank::Strong, contrast: true };
    assert!(!contrast.reaches(Strength { rank: Rank::Weak, contrast: false }), "a contrast is no answer");
    assert_eq!(outcome(&format!("circuit \"all\" agrees_with model on {TASK} in 0.9 of 60 pairs")), Outcome::Holds);
}

#[test]
fn drafted_claims_are_read_and_hold_on_other_pairs() {
    let model = quotes();
    let (vocabulary, sha256) = (vocabulary(), model.sha256());
    let means = vec![0.0; NodeSpace::new(&model.config).len()];
    let circuit = |_: &str| Ok(facts(&model, &sha256));
    let world =
        World { model: &model, model_sha256: &sha256, vocabulary: &vocabulary, means: Some(&means), circuit: &circuit };
    let text = draft(&world, "all", &facts(&model, &sha256)).unwrap();
    for words in [
        "verdict of \"all\" at least WEAK",
        "agrees_with",
        "0.attn.v[1] needed_for",
        "fires_on only \"\\\"\"",
        "edge 0.attn.v[0] ->",
    ] {
        assert!(text.contains(words), "{words} in\n{text}");
    }
    let names = Names { config: &model.config, vocabulary: &vocabulary, prompts: &[] };
    for found in Claims::parse(&text, names).unwrap().check(&world) {
        assert_eq!(found.outcome, Outcome::Holds, "{}: {}", found.claim, found.reason);
    }
}

#[test]
fn lines_that_are_no_claims_are_named_with_the_column() {
    let (model, vocabulary) = (quotes(), vocabulary());
    let names = Names { config: &model.config, vocabulary: &vocabulary, prompts: &[] };
    let of = |text: &str| Claims::parse(text, names).unwrap_err();
    assert!(matches!(of("claims\n"), ClaimsError::Format { .. }));
    assert_eq!(of(&format!("{FORMAT}\n# nothing\n\n")), ClaimsError::Empty);
    for (line, column, expected) in [
        ("0.attn.v[0] needed_for nothing by 1 in 0.9 of 60 pairs", 24, "a task"),
        ("0.attn.v[9] needed_for with_as by 1 in 0.9 of 60 pairs", 10, "an index from 0 to 1"),
        ("0.attn.y[1] needed_for with_as by 1 in 0.9 of 60 pairs", 1, "a node of circuits"),
        ("0.attn.v[0] needed_for with_as by 0 in 0.9 of 60 pairs", 35, "above 0"),
        ("0.attn.v[0] needed_for with_as by 1 in 1 of 60 pairs", 40, "above 0 and below 1"),
        ("0.attn.v[0] needed_for with_as by 1 in 0.9 of 0 pairs", 47, "from 1 to 4096"),
        ("0.attn.v[0] likes with_as", 13, "fires_on or needed_for"),
        ("verdict of \"x\" at least GOOD", 25, "WEAK, STRONG or CERTIFIED"),
        ("verdict of \"x\" at least WEAK model \"1\" circuit \"2\"", 36, "64 hexadecimal"),
        ("what", 1, "a claim"),
    ] {
        match of(&format!("{FORMAT}\n\n{line}")) {
            ClaimsError::Line { line: 3, source } => {
                assert_eq!(source.column, column, "{line}: {source}");
                assert!(source.expected.contains(expected), "{line}: {source}");
            }
            other => panic!("{line}: {other}"),
        }
    }
}
