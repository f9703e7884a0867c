//! Each case is what its kind says: true circuits are true, and flawed ones have the flaw that they are named after.

use std::{collections::HashSet, ops::ControlFlow};

use openwork_circuit::{Ablation, Keep, NodeSet, edges};
use openwork_model::{Matrix, NoTap, Site, SiteKind, Tap};
use openwork_tasks::Pair;
use openwork_truth::{
    BOS, Behaviour, Carrier, Guards, HandBuilt, Options, Pathology, Prompt, PromptBatch, token,
    zoo::{CaseKind, Expected, GroundTruthCase, Shift},
};

fn prompts(pairs: &[Pair]) -> Vec<Prompt> {
    let both = |p: &Pair| {
        [(&p.positive, p.answer), (&p.negative, p.alternative)].map(|(t, answer)| Prompt { tokens: t.clone(), answer })
    };
    pairs.iter().flat_map(both).collect()
}

fn whole(case: &GroundTruthCase, pairs: &[Pair]) -> Behaviour {
    Behaviour::of(&case.model, &PromptBatch::new(&prompts(pairs)), &mut NoTap)
}

fn keeping(case: &GroundTruthCase, pairs: &[Pair], nodes: &NodeSet, ablation: Ablation<'_>) -> Behaviour {
    Behaviour::of(&case.model, &PromptBatch::new(&prompts(pairs)), &mut Keep::new(nodes, ablation))
}

/// Mean KL of the circuit from the model on some pairs: under mean and under zero ablation.
fn kl(case: &GroundTruthCase, pairs: &[Pair]) -> [f64; 2] {
    [Ablation::Mean(&case.means), Ablation::Zero]
        .map(|ablation| whole(case, pairs).mean_kl(&keeping(case, pairs, &case.circuit, ablation)))
}

/// Fraction of prompts whose right candidate has the higher probability; a tie counts half.
fn accuracy(behaviour: &Behaviour, pairs: &[Pair]) -> f64 {
    let one = |(i, p): (usize, &Vec<f64>)| {
        let d = p[usize::from(pairs[i / 2].answer)] - p[usize::from(pairs[i / 2].alternative)];
        let d = if i % 2 == 0 { d } else { -d };
        // Rounding of log-probabilities.
        if d.abs() < 1e-12 { 0.5 } else { f64::from(u8::from(d > 0.0)) }
    };
    behaviour.0.iter().enumerate().map(one).sum::<f64>() / behaviour.0.len() as f64
}

fn prompts_of(pairs: &[Pair]) -> HashSet<Vec<u16>> {
    pairs.iter().flat_map(|p| [p.positive.clone(), p.negative.clone()]).collect()
}

#[test]
fn every_plant_has_data_that_fit() {
    for (kind, seed) in CaseKind::all().into_iter().zip(0..) {
        for &severity in kind.severities() {
            let p = kind.build(severity, seed);
            let name = format!("{} at {severity} with seed {seed}", kind.name());
            assert!(p.held_out.len() >= 60 && p.selection.len() >= 40, "{name}");
            let selected = prompts_of(&p.selection);
            let shared = prompts_of(&p.held_out).intersection(&selected).count();
            assert_eq!(shared > 0, kind == CaseKind::Leak, "{name}: {shared} prompts shared");
            assert!(p.training.len() >= 32, "{name}");
            let trained = prompts_of(&p.training);
            let shared = prompts_of(&p.held_out).intersection(&trained).count();
            assert!(shared == 0 || kind == CaseKind::Leak, "{name}: {shared} prompts shared with training pairs");
            let used: HashSet<usize> = p.held_out.iter().chain(&p.selection).map(|p| p.template).collect();
            assert!(!p.shifted.is_empty(), "{name}");
            for (_, pairs) in &p.shifted {
                assert!(pairs.len() >= 40 && prompts_of(pairs).is_disjoint(&selected), "{name}");
                assert!(prompts_of(pairs).is_disjoint(&trained), "{name}");
                assert!(pairs.iter().all(|p| !used.contains(&p.template)), "{name}");
            }
            let shifted = p.shifted.iter().flat_map(|s| &s.1);
            for pair in p.held_out.iter().chain(&p.selection).chain(&p.training).chain(shifted) {
                assert!(pair.answer != pair.alternative, "{name}");
                for prompt in [&pair.positive, &pair.negative] {
                    assert!(prompt.len() <= p.model.config.n_ctx, "{name}");
                    assert!(prompt.iter().all(|&t| usize::from(t) < p.model.config.vocab_size), "{name}");
                }
            }
            let right = accuracy(&whole(&p, &p.held_out), &p.held_out);
            match p.expected {
                Expected::NoTask => assert!((0.3..0.7).contains(&right), "{name}: {right}"),
                _ => assert_eq!(right, 1.0, "{name}: the model does its task"),
            }
            assert_eq!(p.expected, kind.expected(severity));
        }
    }
}

#[test]
fn honest_circuits_are_different_and_true() {
    let mut seen = HashSet::new();
    // All nine programs and all four hand-built ones; every seed is another circuit.
    for seed in 0..16 {
        let p = CaseKind::True.build(1.0, seed);
        for pairs in [&p.held_out, &p.selection, &p.shifted[0].1] {
            let kl = kl(&p, pairs);
            assert!(kl.iter().all(|&k| k < 1e-6), "{} with seed {seed}: {kl:?}", p.host);
        }
        assert!(!edges(&p.model, &p.circuit).is_empty());
        let weights: Vec<u32> = p.model.params.embed.dense().iter().map(|x| x.to_bits()).collect();
        assert!(seen.insert((p.host, p.circuit.kept().to_vec(), weights)), "seed {seed} repeats a circuit");
    }
    let [a, b] = [3, 3].map(|seed| CaseKind::True.build(1.0, seed));
    assert!(a.held_out == b.held_out && a.circuit == b.circuit && a.text == b.text && a.means == b.means);
}

#[test]
fn circuits_that_lack_something_are_far_from_the_model() {
    for kind in [CaseKind::Empty, CaseKind::OneMissing, CaseKind::Random] {
        for &severity in kind.severities() {
            let kl: Vec<f64> = (0..4).map(|seed| kind.build(severity, seed)).map(|p| kl(&p, &p.held_out)[0]).collect();
            // Of programs with many nodes for few inputs each, no single one does more.
            let least = if severity == 1.0 { 0.2 } else { 1e-3 };
            assert!(kl.iter().all(|&k| k > least), "{} at {severity}: {kl:?}", kind.name());
        }
    }
}

#[test]
fn padding_is_idle() {
    for severity in [0.25, 1.0] {
        let p = CaseKind::Padded.build(severity, 2);
        let truth = p.truth.as_ref().unwrap();
        let more = p.circuit.len() - truth.len();
        assert!(more as f32 >= 0.2 * severity * truth.len() as f32);
        assert!(kl(&p, &p.held_out).iter().all(|&k| k < 1e-6));
    }
}

#[test]
fn backups_and_second_paths_hide_that_the_circuit_is_not_needed() {
    for kind in [CaseKind::Backup, CaseKind::TwoCircuits] {
        let p = kind.build(1.0, 1);
        let [mean, zero] = kl(&p, &p.held_out);
        assert!(mean < 1e-3 && zero < 1e-3, "{}: the circuit suffices: {mean} {zero}", kind.name());
        // Without the circuit's head the model is as right as before.
        let own = |n: &usize| {
            p.circuit.kept()[*n]
                && !matches!(
                    p.circuit.space().node(*n).site.kind,
                    SiteKind::MlpRead | SiteKind::Neuron | SiteKind::MlpWrite
                )
        };
        let space = p.circuit.space();
        let rest = NodeSet::of(space.clone(), (0..space.len()).filter(|n| !own(n)));
        let without = keeping(&p, &p.held_out, &rest, Ablation::Mean(&p.means));
        assert_eq!(accuracy(&without, &p.held_out), 1.0, "{}", kind.name());
        let honest = CaseKind::True.build(1.0, 3);
        let without = keeping(&honest, &honest.held_out, &honest.circuit.complement(), Ablation::Mean(&honest.means));
        assert!(accuracy(&without, &honest.held_out) < 0.6, "an honest circuit is needed");
    }
}

#[test]
fn a_cancelling_pair_is_seen_only_one_at_a_time() {
    for &severity in CaseKind::CancellingPair.severities() {
        let p = CaseKind::CancellingPair.build(severity, 5);
        assert!(kl(&p, &p.held_out).iter().all(|&k| k < 1e-6));
        let space = p.circuit.space();
        let neuron = |n: &usize| space.node(*n).site.kind == SiteKind::Neuron && !p.circuit.kept()[*n];
        let worst = (0..space.len()).filter(neuron).map(|out| {
            let others = NodeSet::of(space.clone(), (0..space.len()).filter(|&n| n != out));
            whole(&p, &p.held_out).mean_kl(&keeping(&p, &p.held_out, &others, Ablation::Zero))
        });
        let worst = worst.fold(0.0, f64::max);
        assert!(severity < 1.0 || worst > 0.5, "{worst}");
    }
}

/// Scales what the unembedding reads of the last token as the norm of another run did.
struct Frozen<'a>(Keep<'a>, f32, Option<Matrix>);

impl Tap for Frozen<'_> {
    fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        self.0.forward(site, value)?;
        match site.kind {
            SiteKind::FinalResid => self.2 = Some(value.clone()),
            SiteKind::FinalRead => {
                let resid = self.2.as_ref().unwrap();
                let last = resid.column(resid.ncols() - 1);
                value.column_mut(0).assign(&(&last * self.1));
            }
            _ => (),
        }
        ControlFlow::Continue(())
    }
}

#[test]
fn the_norm_cheat_works_only_while_norms_are_free() {
    for &severity in CaseKind::NormCheat.severities() {
        let p = CaseKind::NormCheat.build(severity, 6);
        let [mean, zero] = kl(&p, &p.held_out);
        assert!(mean < 1e-3 && zero < 1e-3, "free at {severity}: {mean} {zero}");
        // One prompt at a time: the stream has all its columns, the norm the last alone.
        let frozen = |prompt: &Prompt| {
            let mut record = openwork_model::Record::default();
            let batch = PromptBatch::new(std::slice::from_ref(prompt));
            let model = Behaviour::of(&p.model, &batch, &mut record);
            let last = |kind: SiteKind| {
                record
                    .values
                    .iter()
                    .find(|v| v.0.kind == kind)
                    .unwrap()
                    .1
                    .columns()
                    .into_iter()
                    .next_back()
                    .unwrap()
                    .to_owned()
            };
            let (resid, read) = (last(SiteKind::FinalResid), last(SiteKind::FinalRead));
            let scale = (read.dot(&read) / resid.dot(&resid)).sqrt();
            let mut tap = Frozen(Keep::new(&p.circuit, Ablation::Mean(&p.means)), scale, None);
            model.mean_kl(&Behaviour::of(&p.model, &batch, &mut tap))
        };
        let all = prompts(&p.held_out);
        let frozen = all.iter().map(frozen).sum::<f64>() / all.len() as f64;
        assert!(frozen > 100.0 * mean && frozen > 0.02, "frozen at {severity}: {frozen}");
        assert!(severity < 1.0 || frozen > 0.5, "{frozen}");
    }
}

#[test]
fn shortcuts_fail_elsewhere() {
    for (kind, shift, seed) in
        [(CaseKind::PositionalShortcut, Shift::Templates, 1), (CaseKind::FixedLength, Shift::Lengths, 0)]
    {
        for &severity in kind.severities() {
            let p = kind.build(severity, seed);
            assert!(kl(&p, &p.held_out)[0] < 1e-3, "{}: {:?}", kind.name(), kl(&p, &p.held_out));
            let pairs = &p.shifted.iter().find(|s| s.0 == shift).unwrap().1;
            assert_eq!(accuracy(&whole(&p, pairs), pairs), 1.0, "the model does it there too");
            let there = kl(&p, pairs)[0];
            let alone = keeping(&p, pairs, &p.circuit, Ablation::Mean(&p.means));
            let right = accuracy(&alone, pairs);
            assert!(right < 1.0 - 0.2 * f64::from(severity), "{} at {severity}: right on {right}", kind.name());
            assert!(there > 0.1, "{} at {severity}: {there}", kind.name());
        }
    }
}

#[test]
fn swapped_neurons_mean_the_opposite_in_the_model() {
    for &severity in CaseKind::RoleSwap.severities() {
        let p = CaseKind::RoleSwap.build(severity, 3);
        assert!(kl(&p, &p.held_out).iter().all(|&k| k < 1e-3), "{:?}", kl(&p, &p.held_out));
        struct Neurons<'a>(Keep<'a>, Vec<Matrix>);
        impl Tap for Neurons<'_> {
            fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
                self.0.forward(site, value)?;
                if site.kind == SiteKind::Neuron {
                    self.1.push(value.clone());
                }
                ControlFlow::Continue(())
            }
        }
        let prompts = prompts(&p.held_out[..20]);
        let space = p.circuit.space();
        let node = |set: &NodeSet| (0..space.len()).find(|&n| set.kept()[n]).map(|n| space.node(n).index).unwrap();
        let plus = node(&p.variables[0].nodes);
        for (i, prompt) in prompts.iter().enumerate() {
            let batch = PromptBatch::new(std::slice::from_ref(prompt));
            let last = |nodes: &NodeSet| {
                let mut tap = Neurons(Keep::new(nodes, Ablation::Mean(&p.means)), vec![]);
                Behaviour::of(&p.model, &batch, &mut tap);
                tap.1[0].row(plus).iter().last().copied().unwrap()
            };
            let (alone, inside) = (last(&p.circuit), last(&NodeSet::all(space.clone())));
            assert_eq!((alone > 0.1, inside > 0.1), (i % 2 == 0, i % 2 == 1), "{alone} {inside}");
        }
    }
}

#[test]
fn a_mean_does_for_the_constant_and_zero_does_not() {
    for &severity in CaseKind::MeanOnly.severities() {
        let [mean, zero] =
            (0..1).map(|seed| CaseKind::MeanOnly.build(severity, seed)).map(|p| kl(&p, &p.held_out)).next().unwrap();
        assert!(mean < 1e-6 && zero > 0.5, "{severity}: {mean} {zero}");
    }
}

#[test]
fn wrong_hypotheses_name_the_other_node_and_bypasses_need_none() {
    let p = CaseKind::WrongHypothesis.build(1.0, 0);
    let [(a, b), (c, d)] = [&p.variables, &p.true_variables].map(|v| (&v[0], &v[1]));
    assert!(a.nodes == d.nodes && b.nodes == c.nodes && a.nodes != b.nodes && a.name == c.name);
    assert!(kl(&p, &p.held_out)[0] < 1e-6);
    // `yes` is right where the first variable is true and the second false.
    for pair in &p.held_out {
        let value = |prompt: &[u16]| [a, b].map(|v| prompt.contains(&v.token));
        assert!(value(&pair.positive) == [true, false] && value(&pair.negative) != [true, false]);
    }
    carried_by(&p);
    let p = CaseKind::Undefined.build(1.0, 0);
    let nothing = NodeSet::empty(p.circuit.space().clone());
    let without = keeping(&p, &p.held_out, &nothing, Ablation::Mean(&p.means));
    assert_eq!(accuracy(&without, &p.held_out), 1.0);
    assert!(CaseKind::DeadHook.build(1.0, 0).dead_hook && !p.dead_hook);
}

/// The nodes named by the true variables have the sign of their variable at the last token, those claimed not.
fn carried_by(p: &GroundTruthCase) {
    struct Values(Vec<(Site, f32)>);
    impl Tap for Values {
        fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
            self.0.extend(value.rows().into_iter().map(|row| (site, row[row.len() - 1])));
            ControlFlow::Continue(())
        }
    }
    let agreement = |variables: &[Carrier]| {
        let prompts = prompts(&p.held_out);
        let right = |prompt: &Prompt| {
            let mut values = Values(vec![]);
            Behaviour::of(&p.model, &PromptBatch::new(std::slice::from_ref(prompt)), &mut values);
            let of = |v: &Carrier| {
                let node = v.nodes.nodes().next().unwrap();
                let first = values.0.iter().position(|x| x.0 == node.site).unwrap();
                (values.0[first + node.index].1 > 0.0) == prompt.tokens.contains(&v.token)
            };
            variables.iter().filter(|v| of(v)).count() as f64 / variables.len() as f64
        };
        prompts.iter().map(right).sum::<f64>() / prompts.len() as f64
    };
    assert_eq!(agreement(&p.true_variables), 1.0);
    assert!(agreement(&p.variables) < 0.7);
}

#[test]
fn a_negative_head_left_out_makes_the_circuit_surer_than_the_model() {
    let hand = HandBuilt::new(Pathology::NegativeHead, 0.5, &Options::random(4));
    let id = |t: usize| hand.built.ids[t];
    let tokens = [BOS, token::CUE[0], token::FILLERS.start].map(id).to_vec();
    let prompt = [Prompt { tokens, answer: id(token::ANSWER[0]) }];
    let batch = PromptBatch::new(&prompt);
    let margin = |nodes: &NodeSet| {
        let mut tap = Keep::new(nodes, Ablation::Zero);
        Behaviour::of(&hand.built.model, &batch, &mut tap).margin(&prompt)
    };
    let (model, circuit) = (margin(&NodeSet::all(hand.truth.space().clone())), margin(&hand.circuit));
    assert!((model - 5.0).abs() < 1e-3 && (circuit - 10.0).abs() < 1e-3, "{model} {circuit}");
    assert!((margin(&hand.truth) - model).abs() < 1e-3);
}

#[test]
fn shuffled_plants_are_the_same() {
    for (kind, seed) in
        [(CaseKind::OneMissing, 5), (CaseKind::NormCheat, 1), (CaseKind::MeanOnly, 2), (CaseKind::DeadSalmon, 3)]
    {
        let p = kind.build(1.0, seed);
        let q = p.shuffled(9);
        assert!(q.circuit != p.circuit && q.held_out != p.held_out && q.circuit.len() == p.circuit.len());
        assert_eq!(q.circuit.count_by_site(), p.circuit.count_by_site());
        let (before, after) = (kl(&p, &p.held_out), kl(&q, &q.held_out));
        // Sums in another order: rounding of values up to 100.
        for (a, b) in before.iter().zip(after) {
            assert!((a - b).abs() < 1e-3 * a.abs().max(1.0), "{}: {before:?} {after:?}", kind.name());
        }
        let right = |p: &GroundTruthCase| accuracy(&whole(p, &p.held_out), &p.held_out);
        assert_eq!(right(&p), right(&q));
    }
}

#[test]
fn a_shuffle_of_any_model_gives_its_logits_in_another_order() {
    use openwork_model::{Config, Model, NormKind, Positions};
    for (norm, positions) in [(NormKind::Layer, Positions::Concat { width: 3 }), (NormKind::Rms, Positions::Added)] {
        let config = Config { vocab_size: 30, norm, positions, sink: true, act_density: None, ..Config::default() };
        let mut model = Model::init(config, 1);
        // Vectors that differ, so that their order matters.
        for (i, weight) in model.params.values_mut().into_iter().enumerate() {
            weight.update(|w| {
                w.indexed_iter_mut().for_each(|((r, c), x)| *x += 0.05 * ((7 * r + 3 * c + i) % 11) as f32)
            });
        }
        let shuffle = openwork_truth::Shuffle::new(&model.config, 4);
        let prompts: Vec<Prompt> = (0..9).map(|i| Prompt { tokens: vec![i, 2 * i, 29 - i], answer: i }).collect();
        let before = Behaviour::of(&model, &PromptBatch::new(&prompts), &mut NoTap);
        let renamed = PromptBatch::new(&shuffle.prompts(&prompts));
        let after = Behaviour::of(&shuffle.model(&model), &renamed, &mut NoTap);
        for (before, after) in before.0.iter().zip(&after.0) {
            for (token, x) in before.iter().enumerate() {
                // Rounding: sums of a few hundred terms of order one.
                assert!((x - after[usize::from(shuffle.token(token as u16))]).abs() < 1e-3);
            }
        }
    }
}

/// The pathology's answers (mean KL, and accuracy on the pairs of a case) with some nodes outside ablated by their means.
fn without(p: &GroundTruthCase, ablated: &[&NodeSet]) -> f64 {
    let space = p.circuit.space();
    let gone = |n: usize| !p.circuit.kept()[n] && ablated.iter().any(|set| set.kept()[n]);
    let kept = NodeSet::of(space.clone(), (0..space.len()).filter(|&n| !gone(n)));
    accuracy(&keeping(p, &p.held_out, &kept, Ablation::Mean(&p.means)), &p.held_out)
}

#[test]
fn guards_hold_alone_and_not_when_all_are_gone() {
    let kinds = [Guards::Two, Guards::Three, Guards::AcrossBlocks, Guards::Heads];
    for (seed, guards) in (0..8).zip(kinds.into_iter().cycle()) {
        for &severity in CaseKind::Guard.severities() {
            let p = CaseKind::Guard.build(severity, seed);
            let hand = HandBuilt::new(Pathology::Guard(guards), severity, &Options::random(seed));
            assert!(hand.circuit == p.circuit, "the same circuit is rebuilt");
            assert!(kl(&p, &p.held_out).iter().all(|&k| k < 1e-6), "the circuit is faithful");
            let all: Vec<&NodeSet> = hand.outside.iter().collect();
            for missing in 0..all.len() {
                let fewer = [&all[..missing], &all[missing + 1..]].concat();
                assert_eq!(without(&p, &fewer), 1.0, "{guards:?} at {severity}: one guard left holds");
            }
            assert_eq!(without(&p, &all), 0.0, "{guards:?} at {severity}: every answer turns");
            if severity == 1.0 && seed < 4 {
                let space = p.circuit.space();
                for node in 0..space.len() {
                    let alone = NodeSet::of(space.clone(), [node]);
                    assert_eq!(without(&p, &[&alone]), 1.0, "{guards:?}: {} alone does nothing", space.node(node));
                }
            }
        }
    }
}

#[test]
fn halves_of_a_cancelling_group_turn_answers_and_the_whole_does_not() {
    for (severity, neurons) in [(0.25, 8), (0.5, 16), (1.0, 30)] {
        let p = CaseKind::CancellingGroup.build(severity, 2);
        let hand = HandBuilt::new(Pathology::CancellingGroup(neurons), 1.0, &Options::random(2));
        let [plus, minus] = [&hand.outside[0], &hand.outside[1]];
        assert!(hand.circuit == p.circuit && kl(&p, &p.held_out).iter().all(|&k| k < 1e-6));
        let neurons_of = |set: &NodeSet| {
            let neurons = set.numbers().filter(|&n| set.space().node(n).site.kind == SiteKind::Neuron);
            NodeSet::of(set.space().clone(), neurons.collect::<Vec<_>>())
        };
        let [plus, minus] = [neurons_of(plus), neurons_of(minus)];
        assert!(without(&p, &[&plus]) < 0.9 && without(&p, &[&minus]) < 0.9, "{severity}");
        assert_eq!(without(&p, &[&plus, &minus]), 1.0);
        // An adversary of the circuit's size can ablate one half of 8 and 16, and not of 30.
        assert_eq!(plus.len() > p.circuit.len(), neurons == 30, "{} {}", plus.len(), p.circuit.len());
    }
}

#[test]
fn an_opposed_write_has_the_other_sign_in_the_model() {
    for &severity in CaseKind::OpposedWrite.severities() {
        let p = CaseKind::OpposedWrite.build(severity, 1);
        let alone = keeping(&p, &p.held_out, &p.circuit, Ablation::Mean(&p.means));
        assert_eq!(accuracy(&alone, &p.held_out), 1.0, "the circuit answers as the model does");
        // Without the two writes the answer is what both agree on: 3 nats.
        let difference = |nodes: &NodeSet| {
            let b = keeping(&p, &p.held_out, nodes, Ablation::Mean(&p.means));
            b.0[0][usize::from(p.held_out[0].answer)] - b.0[0][usize::from(p.held_out[0].alternative)]
        };
        let all = NodeSet::all(p.circuit.space().clone());
        let (model, circuit) = (difference(&all), difference(&p.circuit));
        let share = f64::from(0.3 * severity);
        assert!((model - 3.0 * (1.0 - share)).abs() < 1e-3 && (circuit - 3.0 * (1.0 + share)).abs() < 1e-3);
    }
}

#[test]
fn a_rare_token_turns_the_model_and_not_the_circuit() {
    let p = CaseKind::RareToken.build(1.0, 4);
    let ids = HandBuilt::new(Pathology::RareToken, 1.0, &Options::random(4)).built.ids;
    let rare = |pair: &Pair| pair.positive.contains(&ids[token::RARE]);
    let (with, rest): (Vec<Pair>, Vec<Pair>) = p.held_out.iter().cloned().partition(rare);
    assert!((1..20).contains(&with.len()), "{} of {}", with.len(), p.held_out.len());
    let right = |pairs: &[Pair]| accuracy(&keeping(&p, pairs, &p.circuit, Ablation::Mean(&p.means)), pairs);
    assert_eq!((right(&with), right(&rest)), (0.0, 1.0));
    // A share of the pairs, by severity.
    let count = |severity: f32| {
        let of = |seed| CaseKind::RareToken.build(severity, seed);
        let ids = |seed| HandBuilt::new(Pathology::RareToken, 1.0, &Options::random(seed)).built.ids;
        (0..20)
            .map(|s| of(s).held_out.iter().filter(|p| p.positive.contains(&ids(s)[token::RARE])).count())
            .sum::<usize>()
    };
    let (few, many) = (count(0.1), count(0.3));
    assert!((3..40).contains(&few) && (15..90).contains(&many), "1 % and 3 % of 1,440: {few} {many}");
}

#[test]
fn companions_agree_in_all_data_and_decide_where_they_part() {
    for (seed, severity) in [(0, 1.0), (1, 1.0), (2, 0.75), (3, 0.75)] {
        let p = CaseKind::Companion.build(severity, seed);
        let second = seed % 2 == 1;
        let ids = HandBuilt::new(Pathology::Companion { second }, severity, &Options::random(seed)).built.ids;
        let [cue, companion] = [token::CUE, token::SECOND_CUE].map(|c| c.map(|t| ids[t]));
        for pair in p.held_out.iter().chain(&p.selection) {
            let has = |prompt: &[u16], side: usize| prompt.contains(&cue[side]) && prompt.contains(&companion[side]);
            assert!(has(&pair.positive, 0) && has(&pair.negative, 1));
        }
        assert!(kl(&p, &p.held_out).iter().all(|&k| k < 1e-6));
        // With the companion of the other sign, model and circuit give opposite answers.
        let part = |pair: &Pair| {
            let exchange = |prompt: &[u16]| {
                let other = |t: u16| companion.iter().position(|c| *c == t).map_or(t, |i| companion[1 - i]);
                prompt.iter().map(|&t| other(t)).collect::<Vec<u16>>()
            };
            Pair { positive: exchange(&pair.positive), negative: exchange(&pair.negative), ..pair.clone() }
        };
        let parted: Vec<Pair> = p.held_out.iter().map(part).collect();
        let model = accuracy(&whole(&p, &parted), &parted);
        let circuit = accuracy(&keeping(&p, &parted, &p.circuit, Ablation::Mean(&p.means)), &parted);
        let expected = if second { (1.0, 0.0) } else { (0.0, 1.0) };
        assert_eq!((model, circuit), expected, "seed {seed} at {severity}");
    }
}

#[test]
fn live_company_bends_answers_and_turns_none() {
    for seed in 0..10 {
        let p = CaseKind::LiveCompany.build(1.0, seed);
        for pairs in std::iter::once(&p.held_out).chain(p.shifted.iter().map(|s| &s.1)) {
            assert_eq!(accuracy(&whole(&p, pairs), pairs), 1.0, "{}", p.host);
            assert_eq!(accuracy(&keeping(&p, pairs, &p.circuit, Ablation::Mean(&p.means)), pairs), 1.0, "{}", p.host);
        }
        assert!(kl(&p, &p.held_out)[0] < 0.01, "{}: {:?}", p.host, kl(&p, &p.held_out));
    }
}

#[test]
fn a_random_circuit_is_never_the_true_one() {
    // The first draw of the first seed exchanges none of 14 nodes.
    for seed in [1007, 0, 1, 2] {
        let case = CaseKind::Random.build(0.25, seed);
        assert_ne!(Some(&case.circuit), case.truth.as_ref(), "seed {seed}");
        assert_eq!(case.circuit.len(), case.truth.unwrap().len(), "seed {seed}");
    }
}
