//! The checker's forward pass against the model crate's, over all configurations: they share no code.

use std::{collections::BTreeMap, ops::ControlFlow};

use openwork_circuit::NodeSpace;
use openwork_model::{
    ActDensity, Activation, Bigram, Config, Matrix, Model, NoTap, NormKind, Positions, Site, SiteKind, Tap, Tokens,
};
use rand::RngExt;

use crate::{random_model, random_nodes, rng};

pub fn configurations() -> Vec<Config> {
    let mut all = Vec::new();
    let positions =
        [Positions::None, Positions::Added, Positions::Concat { width: 3 }, Positions::Sinusoidal { width: 4 }];
    let sites = [SiteKind::AttnRead, SiteKind::Key, SiteKind::Value, SiteKind::AttnWrite, SiteKind::Neuron];
    for (i, positions) in positions.into_iter().enumerate() {
        for norm in [NormKind::Rms, NormKind::Layer, NormKind::None] {
            for switch in [false, true] {
                all.push(Config {
                    vocab_size: 11,
                    n_ctx: 7,
                    n_layer: 1 + i % 2,
                    n_head: 2,
                    d_head: 3,
                    d_model: 10,
                    d_mlp: 13,
                    norm,
                    norm_bias: switch,
                    linear_bias: !switch,
                    activation: if switch { Activation::Relu } else { Activation::Gelu },
                    act_density: match i {
                        0 => None,
                        1 => Some(ActDensity { fraction: 0.5, sites: sites.to_vec() }),
                        _ => Some(ActDensity::everywhere(0.4)),
                    },
                    positions,
                    sink: switch,
                    bigram: [Bigram::None, Bigram::Learned, Bigram::Fixed][i % 3],
                    tied_unembed: i == 1,
                });
            }
        }
    }
    all
}

/// Holds some nodes at constants.
struct Hold<'a>(&'a NodeSpace, &'a BTreeMap<usize, f32>);

impl Tap for Hold<'_> {
    fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        let Some(range) = self.0.range(site) else { return ControlFlow::Continue(()) };
        for (mut row, node) in value.rows_mut().into_iter().zip(range) {
            self.1.get(&node).into_iter().for_each(|&x| row.fill(x));
        }
        ControlFlow::Continue(())
    }
}

#[test]
fn logits_are_those_of_the_model_whatever_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let mut rng = rng(1);
    let (mut compared, mut moved) = (0, 0);
    for config in configurations() {
        let model = random_model(config, &mut rng);
        model.save(&path, &BTreeMap::new()).unwrap();
        let space = NodeSpace::new(&model.config);
        for len in [1, 4, 7] {
            let prompt: Vec<u16> = (0..len).map(|_| rng.random_range(0..11)).collect();
            let wide: Vec<usize> = prompt.iter().map(|&t| usize::from(t)).collect();
            let held = random_nodes(&space, 0.1, &mut rng);
            let held: BTreeMap<usize, f32> =
                held.numbers().map(|n| (n, rng.random_range(0.0..2.0_f32) - 1.0)).collect();
            for held in [BTreeMap::new(), held] {
                let names: Vec<(String, f64)> =
                    held.iter().map(|(&n, &x)| (space.node(n).to_string(), f64::from(x))).collect();
                let names: Vec<(&str, f64)> = names.iter().map(|(n, x)| (n.as_str(), *x)).collect();
                let mut tap = Hold(&space, &held);
                let pass = model.forward(Tokens::new(&prompt, prompt.len()), Some(&[prompt.len() - 1]), &mut tap);
                let found = openwork_check::logits(&path, &wide, &names).unwrap();
                for (f32, f64) in pass.logits.column(0).iter().zip(&found) {
                    // 2⁻²⁴ an operation, sums of at most 14 terms, some 20 of them in sequence, values up to 50.
                    let error = (f64::from(*f32) - f64).abs();
                    assert!(error < 1e-4 * (1.0 + f64.abs()), "{f32} {f64} {:?}", model.config);
                    compared += 1;
                }
            }
        }
        // A node that is moved is seen, unless its gain or row in the unembedding happens to be zero.
        let plain = model.forward(Tokens::new(&[1, 2, 3], 3), Some(&[2]), &mut NoTap).logits;
        let node = space.node(space.len() - 1).to_string();
        let other = openwork_check::logits(&path, &[1, 2, 3], &[(&node, 9.0)]).unwrap();
        moved += usize::from(plain.column(0).iter().zip(&other).any(|(a, b)| (f64::from(*a) - b).abs() > 0.01));
    }
    assert!(compared == 24 * 6 * 11 && moved >= 10, "{compared} {moved}");
}

#[test]
fn files_that_are_no_models_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let error = || openwork_check::logits(&path, &[1], &[]).unwrap_err().to_string();
    std::fs::write(&path, "nothing").unwrap();
    assert!(error().contains("cannot read"));
    let config = configurations().remove(0);
    Model::init(config, 0).save(&path, &BTreeMap::new()).unwrap();
    assert!(openwork_check::logits(&path, &[1], &[("0.attn.z[1]", 0.0)]).is_err());
    assert!(openwork_check::logits(&path, &[11], &[]).is_err() && openwork_check::logits(&path, &[], &[]).is_err());
    let bytes = std::fs::read(&path).unwrap();
    let pattern = br#"\"n_head\": 2"#;
    let at = bytes.windows(pattern.len()).position(|w| w == pattern).expect("the configuration is in the header");
    let mut other = bytes.clone();
    other[at + pattern.len() - 1] = b'3';
    std::fs::write(&path, other).unwrap();
    assert!(error().contains("is not a matrix of"), "{}", error());
}
