use std::ops::ControlFlow;

use openwork_ops::{Cpu, Matrix};

use super::*;
use crate::{ActDensity, Model, Padded, Site, SiteKind, Tap};

/// Scales every row of every site by a factor of its own and sums what each factor would gain.
struct Scale {
    values: Vec<Matrix>,
    by_row: Vec<(Site, Vec<f32>)>,
}

fn factor(site: Site, row: usize) -> f32 {
    0.7 + ((site.layer * 31 + site.kind as usize * 7 + row * 13) % 10) as f32 * 0.05
}

impl Tap for Scale {
    fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        self.values.push(value.clone());
        value.rows_mut().into_iter().enumerate().for_each(|(r, mut row)| row *= factor(site, r));
        ControlFlow::Continue(())
    }

    fn backward(&mut self, site: Site, gradient: &mut Matrix) {
        let value = self.values.pop().expect("backward mirrors forward");
        self.by_row.push((site, (&value * &*gradient).rows().into_iter().map(|r| r.sum()).collect()));
        gradient.rows_mut().into_iter().enumerate().for_each(|(r, mut row)| row *= factor(site, r));
    }
}

fn configs() -> Vec<Config> {
    let base = Config { vocab_size: 24, n_ctx: 12, d_model: 16, d_mlp: 24, n_head: 2, d_head: 8, ..Config::default() };
    let sparse = Some(ActDensity::everywhere(0.5));
    let positions =
        [Positions::None, Positions::Added, Positions::Concat { width: 4 }, Positions::Sinusoidal { width: 4 }];
    let with = |positions, n_layer, act_density| Config { positions, n_layer, act_density, ..base.clone() };
    let mut all: Vec<Config> = positions.into_iter().map(|p| with(p, 2, None)).collect();
    all.extend([
        with(Positions::None, 1, None),
        with(Positions::None, 3, sparse.clone()),
        with(Positions::Added, 1, sparse),
    ]);
    all
}

#[test]
fn a_pass_over_prefixes_is_the_pass_over_padded_sequences_and_so_is_its_backward() {
    let long: Vec<u16> = (0..15).collect();
    let sequences: [&[u16]; 6] = [&[3, 5, 7, 9], &[3, 5, 7, 8], &[3, 5], &[4, 5, 7, 9, 2], &long, &[3, 5, 7, 9]];
    for config in configs() {
        let mut model = Model::init(config, 4);
        model.params.values_mut().into_iter().for_each(|w| w.update(|w| *w *= 4.0));
        let padded = Padded::new(sequences, model.config.n_ctx);
        let (mut slow, mut fast) = (Scale { values: vec![], by_row: vec![] }, Scale { values: vec![], by_row: vec![] });
        let pass = model.forward(padded.tokens(), Some(&padded.readout), &mut slow);
        let prefixes = Prefixes::new(sequences, &model.config);
        let mut cpu = Cpu::default();
        let over = model.forward_prefixes(&prefixes, &mut fast, &mut cpu);
        let name = format!("{:?}, {} blocks", model.config.positions, model.config.n_layer);
        let scale = pass.logits.iter().fold(1.0_f32, |m, x| m.max(x.abs()));
        // Sums of at most 24 terms through a few blocks, in another order.
        assert!((&over.logits - &pass.logits).iter().all(|d| d.abs() < 2e-5 * scale), "{name}");
        let dlogits = Matrix::from_shape_fn(pass.logits.dim(), |(r, c)| ((r * 5 + c * 3) % 7) as f32 / 7.0 - 0.4);
        model.backward(&pass, &dlogits, &mut slow, None);
        model.backward_prefixes(&prefixes, &over, &dlogits, &mut fast, &mut cpu);
        assert_eq!(slow.by_row.len(), fast.by_row.len());
        for ((site, a), (same, b)) in slow.by_row.iter().zip(&fast.by_row) {
            assert_eq!(site, same);
            if matches!(site.kind, SiteKind::FinalRead | SiteKind::FinalResid) {
                continue; // the padded pass shows FinalResid at all columns
            }
            let scale = a.iter().fold(1e-2_f32, |m, x| m.max(x.abs()));
            assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 2e-4 * scale), "{name}, {site}:\n{a:?}\n{b:?}");
        }
        over.recycle(&mut cpu);
    }
}

#[test]
fn common_beginnings_and_tokens_are_columns_once() {
    let config = Config { vocab_size: 24, n_ctx: 12, n_layer: 3, positions: Positions::None, ..Config::default() };
    let prefixes = Prefixes::new([&[3, 5, 7][..], &[3, 5, 3], &[3, 5, 7]], &config);
    // Tokens 3, 5, 7; prefixes 3, 35, 357, 353; two different ends.
    assert_eq!(prefixes.columns().collect::<Vec<_>>(), [(3, 4), (4, 4), (4, 2)]);
    assert_eq!((prefixes.sequences(), &prefixes.readout[..]), (3, &[0, 1, 0][..]));
    let with = Config { positions: Positions::Added, ..config };
    assert_eq!(Prefixes::new([&[3, 5, 3][..]], &with).columns().next(), Some((3, 3)));
}
