//! The whole model against its f64 reference: logits entry by entry, gradients along random directions.

use std::ops::ControlFlow;

use ndarray::Array2;
use openwork_model::{Config, Cpu, Matrix, NoTap, Params, Site, Tap, Tokens, reference};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{SEQ, configs, model};

fn exact(params: &Params<openwork_model::Weight>, config: &Config) -> Params<Array2<f64>> {
    let mut values = params.values().into_iter();
    Params::build(config, |_, _| values.next().unwrap().dense().mapv(f64::from))
}

#[test]
fn logits_match_the_reference() {
    for (name, config) in configs() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let model = model(&config, &mut rng);
        let ids: Vec<u16> = (0..3 * SEQ).map(|_| rng.random_range(0..config.vocab_size as u16)).collect();
        let tokens = Tokens::new(&ids, SEQ);
        let fast = model.forward(tokens, None, &mut NoTap).logits;
        let slow = reference::forward(&config, &exact(&model.params, &config), tokens);
        let error = (fast.mapv(f64::from) - &slow).mapv(|x| x * x).sum().sqrt() / slow.mapv(|x| x * x).sum().sqrt();
        // Some forty dependent roundings of 6e-8 at unit gain.
        assert!(error < 5e-6, "{name}: {error:e}");
        let columns = [3, SEQ, 3 * SEQ - 1];
        let some = model.forward(tokens, Some(&columns), &mut NoTap).logits;
        let apart = (&some - &fast.select(ndarray::Axis(1), &columns)).fold(0.0_f32, |m, x| m.max(x.abs()));
        assert!(apart < 1e-5, "{name}: reading out some columns differs by {apart}");
    }
}

#[test]
fn a_training_pass_is_forward_loss_and_backward_whatever_the_tile() {
    for (name, config) in configs() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let model = model(&config, &mut rng);
        let ids: Vec<u16> = (0..3 * SEQ).map(|_| rng.random_range(0..config.vocab_size as u16 - 1)).collect();
        let tokens = Tokens::new(&ids, SEQ);
        let readout: Vec<usize> = (0..3 * SEQ).filter(|t| t % SEQ != SEQ - 1).collect();
        let targets: Vec<u16> = readout.iter().map(|&t| ids[t + 1]).collect();
        let pass = model.forward(tokens, Some(&readout), &mut NoTap);
        let mut dlogits = pass.logits.clone();
        let losses = openwork_ops::cross_entropy(&mut dlogits, &targets, 0.5);
        let mut expected = model.zero_gradients();
        model.backward(&pass, &dlogits, &mut NoTap, Some(&mut expected));
        for tile in [1, 5, readout.len()] {
            let (mut gradients, mut cpu) = (model.zero_gradients(), Cpu::default());
            let wanted = (&readout[..], &targets[..]);
            let found = model.gradient_in(tokens, wanted, 0.5, tile, &mut NoTap, &mut gradients, &mut cpu).concat();
            // Columns do not depend on each other, but tiles of another width sum in other registers.
            assert!(found.iter().zip(&losses).all(|(a, b)| (a - b).abs() < 1e-5), "{name}, tile {tile}");
            for (a, b) in gradients.values().into_iter().zip(expected.values()) {
                let scale = b.values().iter().fold(1.0_f32, |m, x| m.max(x.abs()));
                // Sums of 27 columns in another order, through two blocks.
                assert!(
                    a.values().iter().zip(b.values()).all(|(a, b)| (a - b).abs() <= 1e-4 * scale),
                    "{name}, tile {tile}"
                );
            }
        }
    }
}

#[test]
fn parameter_gradients_match_finite_differences() {
    for (name, config) in configs() {
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        let model = model(&config, &mut rng);
        let ids: Vec<u16> = (0..2 * SEQ).map(|_| rng.random_range(0..config.vocab_size as u16 - 1)).collect();
        let tokens = Tokens::new(&ids, SEQ);
        let readout = [2, SEQ - 1, SEQ + 4, 2 * SEQ - 1];
        let dlogits = Matrix::from_shape_simple_fn((config.vocab_size, 4), || rng.random_range(-1.0..1.0));
        let pass = model.forward(tokens, Some(&readout), &mut NoTap);
        let mut gradients = model.zero_gradients();
        model.backward(&pass, &dlogits, &mut NoTap, Some(&mut gradients));

        let weights = exact(&model.params, &config);
        let loss = |params: &Params<Array2<f64>>| {
            let logits = reference::forward(&config, params, tokens).select(ndarray::Axis(1), &readout);
            (logits * dlogits.mapv(f64::from)).sum()
        };
        let infos = Params::<()>::infos(&config);
        for (i, info) in infos.iter().enumerate() {
            let gradient = gradients.values()[i].dense().mapv(f64::from);
            if !model.config.is_trained(info.role) {
                assert!(gradient.iter().all(|&g| g == 0.0), "{name}: {} is frozen", info.name);
                continue;
            }
            // h small enough that no top-k choice flips (checked by the agreement itself).
            let (h, mut worst) = (1e-6, 0.0_f64);
            for _ in 0..3 {
                let direction = gradient.mapv(|_| rng.random_range(-1.0..1.0));
                let at = |step: f64| {
                    let mut moved = weights.clone();
                    moved.values_mut()[i].scaled_add(step, &direction);
                    loss(&moved)
                };
                let slope = (at(h) - at(-h)) / (2.0 * h);
                let scale = gradient.mapv(|g| g * g).sum().sqrt().max(1e-3);
                worst = worst.max(((&gradient * &direction).sum() - slope).abs() / scale);
            }
            // f32 forward and backward through two blocks: about a hundred dependent roundings.
            assert!(worst < 2e-4, "{name}: {} differs by {worst:e}", info.name);
        }
    }
}

/// Adds a constant at one site and reads the gradient there.
struct Nudge {
    site: Site,
    by: Matrix,
    gradient: Option<Matrix>,
    seen: Vec<Site>,
}

impl Tap for Nudge {
    fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        self.seen.push(site);
        if site == self.site {
            *value += &self.by;
        }
        ControlFlow::Continue(())
    }

    fn backward(&mut self, site: Site, gradient: &mut Matrix) {
        assert_eq!(self.seen.pop(), Some(site), "backward visits the sites in reverse");
        if site == self.site {
            self.gradient = Some(gradient.clone());
        }
    }
}

#[test]
fn site_gradients_match_finite_differences() {
    // Without AbsTopK, whose choice a step this large would change; the test above covers it.
    let config = Config { act_density: None, ..configs().remove(2).1 };
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let model = model(&config, &mut rng);
    let ids: Vec<u16> = (0..SEQ).map(|_| rng.random_range(0..config.vocab_size as u16)).collect();
    let tokens = Tokens::new(&ids, SEQ);
    let dlogits = Matrix::from_shape_simple_fn((config.vocab_size, SEQ), || rng.random_range(-1.0..1.0));
    for site in config.sites() {
        let width = config.width(site.kind);
        let direction = Matrix::from_shape_simple_fn((width, SEQ), || rng.random_range(-1.0..1.0));
        let run = |step: f32| {
            let mut tap = Nudge { site, by: &direction * step, gradient: None, seen: vec![] };
            let pass = model.forward(tokens, None, &mut tap);
            model.backward(&pass, &dlogits, &mut tap, None);
            assert!(tap.seen.is_empty());
            let loss = (pass.logits.mapv(f64::from) * dlogits.mapv(f64::from)).sum();
            (loss, tap.gradient.expect("the hook fired"))
        };
        let h = 1e-3;
        let slope = (run(h).0 - run(-h).0) / (2.0 * f64::from(h));
        let gradient = run(0.0).1.mapv(f64::from);
        let scale = gradient.mapv(|g| g * g).sum().sqrt();
        let along = (&gradient * &direction.mapv(f64::from)).sum();
        // Here the forward pass is f32: its noise, some 1e-6 of the logits, is divided by h.
        assert!((along - slope).abs() < 5e-3 * scale, "{site}: {along} instead of {slope}");
    }
}
