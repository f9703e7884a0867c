//! Explanations of nodes of a model whose data are its own samples.

use std::ops::ControlFlow;

use openwork_debug::{Audit, AuditOptions, Contexts, Explained, Reply, Session, SessionError};
use openwork_model::{Matrix, Model, NoTap, Tokens};

use crate::{model, run, session};

/// Numbers in [0, 1) that look random.
fn draws() -> impl FnMut() -> f64 {
    let mut state = 7_u64;
    move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A model in which neuron 0 of the last block reaches nothing.
fn tested() -> Model {
    let mut model = model(1);
    model.params.blocks[1].proj.weight.update(|w: &mut Matrix| w.column_mut(0).fill(0.0));
    model
}

/// Windows of 8 letters, each drawn from what the model says after those before it: no other model has a lower loss on them.
fn samples(model: &Model, windows: usize) -> Vec<u16> {
    let mut draw = draws();
    let mut all = vec![];
    for _ in 0..windows {
        let mut window = vec![(draw() * 26.0) as u16];
        while window.len() < 8 {
            let logits: Matrix = model.forward(Tokens::new(&window, window.len()), None, &mut NoTap).logits;
            let last = logits.column(window.len() - 1);
            let sum: f64 = last.iter().map(|&x| f64::from(x).exp()).sum();
            let mut left = draw() * sum;
            let at = last.iter().position(|&x| {
                left -= f64::from(x).exp();
                left <= 0.0
            });
            window.push(at.unwrap_or(25) as u16);
        }
        all.extend(window);
    }
    all
}

fn with_samples(windows: usize) -> Session {
    let model = tested();
    let data = samples(&model, windows);
    let mut s = session(model);
    s.set_contexts(Contexts::new(data, 8));
    s
}

#[track_caller]
fn explained(s: &mut Session, line: &str) -> Explained {
    match run(s, line).reply {
        Reply::Explained(explained) => *explained,
        other => panic!("no explanation: {other}"),
    }
}

#[test]
fn a_right_explanation_recovers_the_loss_and_a_wrong_one_does_not() {
    let mut s = with_samples(800);
    // What the first block reads follows from the token alone: without positions, it is its embedding.
    let right = explained(&mut s, "explain --windows 800 0.attn.act_in[3] tokens[-1]");
    let recovered = right.simulated.loss_recovered.expect("the ablation has an effect");
    assert!(right.ablation.ci95.0 > 0.0, "{right}");
    assert!(recovered.value > 0.999 && recovered.ci95.0 > 0.999, "{right}");
    assert!(right.simulated.variance_explained.unwrap().value > 0.9999, "{right}");
    assert!(right.shuffled.loss_recovered.unwrap().ci95.1 < 0.3, "{right}");
    assert!(right.shuffled.variance_explained.unwrap().value < 0.1, "{right}");
    assert_eq!((right.contexts, right.random.len()), ([400, 400], 5));
    // A part of it explains a part.
    let part =
        explained(&mut s, "explain --windows 800 0.attn.act_in[3] tokens[-1] in ['a', 'b', 'c', 'd', 'e', 'f', 'g']");
    let parts = [&right, &part].map(|e| e.simulated.variance_explained.unwrap().value);
    assert!(parts[1] < 0.9 * parts[0], "{parts:?}");
    // One that says nothing is the ablation.
    let nothing = explained(&mut s, "explain --windows 800 0.attn.act_in[3] tokens|length > 0");
    assert_eq!(nothing.values, 1);
    assert_eq!(nothing.simulated.loss_recovered.unwrap().value, 0.0);
    assert_eq!(nothing.simulated.variance_explained.unwrap().value, 0.0);
    // The same command gives the same numbers.
    assert_eq!(explained(&mut s, "explain --windows 800 0.attn.act_in[3] tokens[-1]"), right);
}

#[test]
fn a_node_whose_ablation_costs_nothing_has_no_share_of_a_loss() {
    let mut s = with_samples(64);
    let found = explained(&mut s, "explain 1.mlp.post_act[0] tokens[-1]");
    assert_eq!(
        (found.ablation.value, found.simulated.loss_recovered, found.shuffled.loss_recovered),
        (0.0, None, None)
    );
    assert!(found.to_string().contains("undefined where the ablation costs no more than noise"), "{found}");
    assert!(found.simulated.variance_explained.is_some());
}

#[test]
fn what_is_wrong_with_an_explanation_is_said() {
    let mut s = session(tested());
    assert!(matches!(s.line("explain 0.attn.v[1] tokens[-1]"), Err(SessionError::NoContexts)));
    s.set_contexts(Contexts::new(vec![0; 80], 8));
    for (line, part) in [
        ("explain 0.attn.v[1]", "column 20: expected an expression over tokens"),
        ("explain 0.attn.v[1] tokens[", "column 21: expected an expression over tokens"),
        ("explain 0.attn.v[99] tokens", "expected an index from 0 to 7"),
        ("explain --windows 0 0.attn.v[1] tokens", "column 19: expected a number of windows"),
        ("explain 0.attn.v[1] nothing", "names something that is not there"),
        ("explain 0.attn.v[1] tokens[-1]", "there are 10 windows"),
    ] {
        if part.starts_with("names") {
            s.set_contexts(Contexts::new(vec![0; 800], 8));
        }
        let error = s.line(line).unwrap_err().to_string();
        s.set_contexts(Contexts::new(vec![0; 80], 8));
        assert!(error.contains(part), "{line}: {error}");
    }
}

fn audit(s: &Session, options: AuditOptions, most: usize) -> Audit {
    let after = &mut |done: usize, _: &_| if done < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) };
    s.audit(options, after).unwrap()
}

#[test]
fn an_audit_explains_what_the_tokens_decide_and_the_seed_decides_the_nodes() {
    let mut s = with_samples(160);
    let options = AuditOptions { nodes: 60, windows: 160, ..AuditOptions::default() };
    let all = audit(&s, options, 60);
    assert!(all.nodes_of_model[1] > 60, "{:?}", all.nodes_of_model);
    assert_eq!((all.nodes.len(), all.stopped), (60, false));
    assert_eq!(all.explained.holds, all.nodes.iter().filter(|node| node.explained).count());
    // Values of the first block's reads are decided by the letter, those of the last block's writes by all letters before.
    let share = |site: &str| {
        let of: Vec<_> = all.nodes.iter().filter(|node| node.node.starts_with(site)).collect();
        assert!(!of.is_empty(), "{site}");
        of.iter().map(|node| node.variance_explained.map_or(0.0, |v| v.value)).sum::<f64>() / of.len() as f64
    };
    assert!(share("0.attn.act_in") > share("1.mlp.resid_delta") + 0.1, "{all}");
    let node = all.nodes.iter().find(|node| node.node.starts_with("0.attn")).expect("one of the first block is drawn");
    assert!(node.expression.starts_with("tokens[-1] in ["), "{node:?}");
    // What the audit says of a node, `explain` says of its explanation.
    let again = explained(&mut s, &format!("explain --windows 160 {} {}", node.node, node.expression));
    assert_eq!(
        (again.simulated.variance_explained, again.simulated.loss_recovered),
        (node.variance_explained, node.loss_recovered)
    );
    // Fewer nodes are the first of more, stopped or not; another seed draws others.
    let few = audit(&s, AuditOptions { nodes: 5, ..options }, 60);
    assert_eq!(few.nodes[..], all.nodes[..5]);
    let stopped = audit(&s, options, 5);
    assert_eq!((stopped.nodes, stopped.stopped, stopped.explained), (few.nodes.clone(), true, few.explained));
    assert_ne!(audit(&s, AuditOptions { nodes: 5, seed: 1, ..options }, 5).nodes, few.nodes);
}
