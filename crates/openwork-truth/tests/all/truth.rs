//! True circuits: sufficient on all inputs, and nothing in them is idle.

use openwork_circuit::{Keep, NodeSet};
use openwork_model::NoTap;
use openwork_truth::{
    AblationValue, Behaviour, Compiled, Noise, Options, Program, Prompt, PromptBatch, TOLERANCE, Truth, means,
};

/// Keeping `nodes` alone: largest KL from the model, and the log-probabilities' largest distance.
fn keeping(compiled: &Compiled, domain: &[Prompt], nodes: &NodeSet, value: AblationValue) -> (f64, f64) {
    let batch = PromptBatch::new(domain);
    let whole = Behaviour::of(&compiled.model, &batch, &mut NoTap);
    let means = means(&compiled.model, domain, compiled.bos());
    let kept = Behaviour::of(&compiled.model, &batch, &mut Keep::new(nodes, value.ablation(&means)));
    (whole.largest_kl(&kept), whole.distance(&kept))
}

fn without(nodes: &NodeSet, node: usize) -> NodeSet {
    NodeSet::of(nodes.space().clone(), (0..nodes.space().len()).filter(|&n| n != node && nodes.kept()[n]))
}

#[test]
fn the_truth_suffices_and_each_of_its_nodes_is_needed() {
    for program in Program::all() {
        let compiled = Compiled::new(program, &Options::default());
        let domain = compiled.domain();
        let means = means(&compiled.model, &domain, compiled.bos());
        let mut either = vec![false; compiled.circuit.space().len()];
        for value in [AblationValue::Zero, AblationValue::Mean] {
            let nodes = Truth::nodes(&compiled.model, &domain, value.ablation(&means));
            either.iter_mut().zip(nodes.kept()).for_each(|(e, &kept)| *e |= kept);
            let (kl, distance) = keeping(&compiled, &domain, &nodes, value);
            // What is left out moves log-probabilities by rounding and half matches, and KL by the square of that.
            assert!(kl < 1e-9 && distance < TOLERANCE / 2.0, "{} {value:?}: {kl:e}, {distance:e}", program.name());
            for node in (0..nodes.space().len()).filter(|&n| nodes.kept()[n]) {
                let (_, distance) = keeping(&compiled, &domain, &without(&nodes, node), value);
                assert!(
                    distance > 10.0 * TOLERANCE,
                    "{} {value:?}: without {} {distance:e}",
                    program.name(),
                    nodes.space().node(node)
                );
            }
        }
        let idle = (0..either.len()).filter(|&n| either[n] != compiled.circuit.kept()[n]);
        let idle: Vec<String> = idle.map(|n| compiled.circuit.space().node(n).to_string()).collect();
        assert!(idle.is_empty(), "{}: {idle:?} are in the program or in the truth alone", program.name());
    }
}

#[test]
fn inputs_of_one_length_have_less_truth() {
    for program in Program::all() {
        let compiled = Compiled::new(program, &Options::default());
        let n = program.n_max();
        for value in [AblationValue::Zero, AblationValue::Mean] {
            let truth = |prompts: &[Prompt]| {
                Truth::nodes(&compiled.model, prompts, value.ablation(&means(&compiled.model, prompts, compiled.bos())))
            };
            let (all, fixed) = (truth(&compiled.domain()), truth(&compiled.prompts(n..=n)));
            let names = |set: &NodeSet| set.nodes().map(|n| n.to_string()).collect::<Vec<_>>();
            let extra: Vec<String> = names(&fixed).into_iter().filter(|n| !names(&all).contains(n)).collect();
            assert!(extra.is_empty(), "{}: {extra:?}", program.name());
            // Where places are told apart, those of shorter prompts are not needed.
            if program == Program::Reverse {
                assert!(fixed.len() < all.len() - 5, "{} of {}", fixed.len(), all.len());
            }
        }
    }
}

#[test]
fn every_edge_between_true_nodes_is_true_and_noise_adds_none() {
    for program in [Program::Reverse, Program::QuoteClosing, Program::Histogram] {
        let plain = Compiled::new(program, &Options::default());
        let noisy = Compiled::new(program, &Options { noise: Noise::AsMuch, ..Options::default() });
        let mut sizes = vec![];
        for compiled in [plain, noisy] {
            let domain = compiled.domain();
            let means = means(&compiled.model, &domain, compiled.bos());
            let truth = Truth::find(&compiled.model, &domain, AblationValue::Mean.ablation(&means));
            let between = openwork_circuit::edges(&compiled.model, &truth.nodes);
            let idle: Vec<String> = between
                .iter()
                .filter(|e| !truth.edges.contains(e))
                .map(|e| format!("{} to {}", e.from, e.to))
                .collect();
            assert!(idle.is_empty(), "{}: {idle:?}", program.name());
            // Every true node but those next to the residual stream reads and is read.
            for node in truth.nodes.nodes() {
                assert!(truth.edges.iter().any(|e| e.from == node || e.to == node), "{node} has no edge");
            }
            sizes.push((truth.nodes.len(), truth.edges.len()));
        }
        assert_eq!(sizes[0], sizes[1], "noise adds nothing to the truth of {}", program.name());
    }
}
