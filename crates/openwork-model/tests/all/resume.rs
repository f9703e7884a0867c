//! Passes that stop at a site and passes that go on from one.

use std::ops::ControlFlow;

use openwork_cuda::{Array, Gpu};
use openwork_cuda_sim::Simulator;
use openwork_model::{
    ActivationDtype, Config, Cpu, Matrix, Model, NoTap, PassState, Record, Site, SiteKind, StateError, Tap, Tokens,
    Weight,
};
use openwork_ops::Cuda;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{SEQ, configs, model};

/// Changes the value at one site and lists the sites that it sees.
struct Change {
    at: Option<Site>,
    seen: Vec<Site>,
}

impl Change {
    fn at(site: impl Into<Option<Site>>) -> Self {
        Self { at: site.into(), seen: vec![] }
    }

    /// Another value for every feature.
    fn change(value: &mut Matrix) {
        value.indexed_iter_mut().for_each(|((row, column), x)| *x = 0.5 - *x * (1 + (row + column) % 3) as f32);
    }
}

impl Tap for Change {
    fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        self.seen.push(site);
        if Some(site) == self.at {
            Self::change(value);
        }
        ControlFlow::Continue(())
    }
}

/// Stops at one site and lists the sites that it sees.
struct StopAt(Site, Vec<Site>);

impl Tap for StopAt {
    fn forward(&mut self, site: Site, _: &mut Matrix) -> ControlFlow<()> {
        self.1.push(site);
        if site == self.0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Sites that a pass resumed at `site` computes.
fn computed_after(config: &Config, site: Site) -> Vec<Site> {
    let given = PassState::<Matrix>::sites(site);
    let later = |s: &Site| *s > site && !given.contains(s);
    config.sites().into_iter().filter(later).collect()
}

/// Puts a matrix that fits no operation in the place of those of the blocks and the unembedding that `which` chooses,
/// by their order in the pass: any operation with it panics.
fn break_matrices(model: &mut Model, which: impl Fn(usize) -> bool) {
    let blocks = model.params.blocks.iter_mut();
    let matrices = blocks.flat_map(|b| [&mut b.qkv, &mut b.attn_out, &mut b.fc, &mut b.proj]);
    let matrices = matrices.map(|linear| &mut linear.weight).chain(model.params.unembed.as_mut());
    for (_, weight) in matrices.enumerate().filter(|(i, _)| which(*i)) {
        *weight = Weight::new(Matrix::zeros((1, 1)));
    }
}

/// Number of matrices (of blocks and unembedding) that a pass has used when it is at `site`.
fn matrices_used(site: Site) -> usize {
    use SiteKind::*;
    let in_block = match site.kind {
        ResidIn | AttnRead | FinalResid | FinalRead => 0,
        Query | Key | Value | AttnMix => 1,
        AttnWrite | ResidMid | MlpRead => 2,
        Neuron => 3,
        MlpWrite => 4,
    };
    4 * site.layer + in_block
}

fn tokens(config: &Config, rng: &mut ChaCha8Rng) -> Vec<u16> {
    (0..2 * SEQ).map(|_| rng.random_range(0..config.vocab_size as u16)).collect()
}

#[test]
fn a_resumed_pass_gives_the_bits_of_the_whole_one_from_every_site() {
    let readout = [4, SEQ + 2, 2 * SEQ - 1];
    for (name, config) in configs() {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let model = model(&config, &mut rng);
        let ids = tokens(&config, &mut rng);
        let tokens = Tokens::new(&ids, SEQ);
        for readout in [None, Some(&readout[..])] {
            let mut record = Record::default();
            let logits = model.forward(tokens, readout, &mut record).logits;
            for site in config.sites() {
                let state = record.state(site).unwrap();
                let mut seen = Change::at(None);
                assert_eq!(model.resume(tokens, readout, state.clone(), &mut seen), logits, "{name}, {site}");
                assert_eq!(seen.seen, computed_after(&config, site), "{name}, {site}");

                let changed = model.forward(tokens, readout, &mut Change::at(site)).logits;
                let mut state = state;
                Change::change(state.value_mut());
                assert_eq!(model.resume(tokens, readout, state, &mut NoTap), changed, "{name}, {site} changed");
                assert_ne!(changed, logits, "{name}, {site}: the change has to show");
            }
        }
    }
}

#[test]
fn a_tap_that_changes_later_sites_does_so_in_a_resumed_pass() {
    let (_, config) = configs().remove(0);
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    let model = model(&config, &mut rng);
    let ids = tokens(&config, &mut rng);
    let tokens = Tokens::new(&ids, SEQ);
    let later = Site { layer: 1, kind: SiteKind::MlpRead };
    // The record sees the values that the first tap left.
    let mut both = (Change::at(later), Record::default());
    let logits = model.forward(tokens, None, &mut both).logits;
    for site in config.sites() {
        let state = both.1.state(site).unwrap();
        assert_eq!(model.resume(tokens, None, state, &mut Change::at(later)), logits, "{site}");
    }
}

#[test]
fn no_operation_runs_before_the_site_where_a_pass_is_resumed() {
    let (_, config) = configs().remove(0);
    let mut rng = ChaCha8Rng::seed_from_u64(13);
    let model = model(&config, &mut rng);
    let ids = tokens(&config, &mut rng);
    let tokens = Tokens::new(&ids, SEQ);
    let mut record = Record::default();
    let logits = model.forward(tokens, None, &mut record).logits;
    for site in config.sites() {
        let mut broken = model.clone();
        broken.params.embed = Weight::new(Matrix::zeros((1, 1)));
        break_matrices(&mut broken, |i| i < matrices_used(site));
        assert_eq!(broken.resume(tokens, None, record.state(site).unwrap(), &mut NoTap), logits, "{site}");
    }
}

#[test]
fn no_operation_runs_after_the_site_where_a_pass_is_stopped() {
    let (_, config) = configs().remove(0);
    let mut rng = ChaCha8Rng::seed_from_u64(14);
    let model = model(&config, &mut rng);
    let ids = tokens(&config, &mut rng);
    let tokens = Tokens::new(&ids, SEQ);
    let sites = config.sites();
    for (i, &site) in sites.iter().enumerate() {
        let mut broken = model.clone();
        break_matrices(&mut broken, |i| i >= matrices_used(site));
        let mut tap = StopAt(site, vec![]);
        let pass = broken.forward_until(tokens, Some(&[3]), &mut tap, &mut Cpu::default());
        assert_eq!(pass.break_value(), Some(site));
        assert_eq!(tap.1, sites[..=i]);
    }
    let past_the_end = Site { layer: 9, kind: SiteKind::ResidIn };
    let pass = model.forward_until(tokens, None, &mut StopAt(past_the_end, vec![]), &mut Cpu::default());
    assert_eq!(pass.continue_value().unwrap().logits, model.forward(tokens, None, &mut NoTap).logits);

    // Resumed passes stop, too.
    let mut record = Record::default();
    model.forward(tokens, None, &mut record);
    let (from, to) = (sites[4], sites[12]);
    let mut tap = StopAt(to, vec![]);
    let state = record.state(from).unwrap();
    assert_eq!(model.resume_until(tokens, None, state, &mut tap, &mut Cpu::default()), ControlFlow::Break(to));
    assert_eq!(tap.1, sites[5..=12]);
}

#[test]
#[should_panic = "the tap stopped a pass at 1.attn.q"]
fn forward_is_for_taps_that_do_not_stop() {
    let (_, config) = configs().remove(0);
    let model = Model::init(config, 1);
    let site = Site { layer: 1, kind: SiteKind::Query };
    model.forward(Tokens::new(&[1, 2], 2), None, &mut StopAt(site, vec![]));
}

#[test]
fn a_state_names_the_value_that_it_lacks() {
    let (_, config) = configs().remove(0);
    let model = Model::init(config, 1);
    let mut record = Record::default();
    model.forward(Tokens::new(&[1, 2], 2), None, &mut record);
    let site = Site { layer: 1, kind: SiteKind::Query };
    let missing = Site { layer: 1, kind: SiteKind::Value };
    record.values.retain(|(site, _)| *site != missing);
    assert_eq!(record.state(site).unwrap_err(), StateError { site, missing });
    let text = record.state(site).unwrap_err().to_string();
    assert_eq!(text, "resuming a pass at 1.attn.q needs the value at 1.attn.v, which was not recorded");
}

#[test]
#[should_panic = "the value at 1.resid_mid is [16, 2] but the pass has [16, 3] there"]
fn a_state_of_another_batch_is_refused() {
    let (_, config) = configs().remove(0);
    let model = Model::init(config, 1);
    let mut record = Record::default();
    model.forward(Tokens::new(&[1, 2], 2), None, &mut record);
    let state = record.state(Site { layer: 1, kind: SiteKind::ResidMid }).unwrap();
    model.resume(Tokens::new(&[1, 2, 3], 3), None, state, &mut NoTap);
}

#[test]
#[should_panic = "a model of 2 blocks has no site 5.resid_mid"]
fn a_site_that_the_model_lacks_is_refused() {
    let (_, config) = configs().remove(0);
    let model = Model::init(config, 1);
    let state = PassState::new(Site { layer: 5, kind: SiteKind::ResidMid }, |_| Some(Matrix::zeros((16, 2)))).unwrap();
    model.resume(Tokens::new(&[1, 2], 2), None, state, &mut NoTap);
}

/// Copies of the values at all sites, on a GPU.
struct Copies(Vec<(Site, Array)>);

impl Tap<Array> for Copies {
    fn forward(&mut self, site: Site, value: &mut Array) -> ControlFlow<()> {
        self.0.push((site, value.copy()));
        ControlFlow::Continue(())
    }
}

#[test]
fn a_gpu_resumes_passes_too() {
    let (_, base) = configs().remove(0);
    let config = Config { d_head: 8, ..base };
    let mut rng = ChaCha8Rng::seed_from_u64(15);
    let model = model(&config, &mut rng);
    let ids = tokens(&config, &mut rng);
    let (tokens, readout) = (Tokens::new(&ids, SEQ), [3, 2 * SEQ - 1]);
    let gpu: Gpu = Simulator::gpu(227 << 10, 6, 2);
    for dtype in [ActivationDtype::F32, ActivationDtype::Bf16] {
        let on_gpu = model.upload(&gpu).unwrap();
        let (mut engine, mut copies) = (Cuda::new(gpu.clone(), dtype), Copies(vec![]));
        let pass = on_gpu.model.forward_in(tokens, Some(&readout), &mut copies, &mut engine);
        let logits = pass.logits.download().unwrap();
        for site in config.sites() {
            let copy = |at| copies.0.iter().find(|(site, _)| *site == at).map(|(_, value)| value.copy());
            let state = PassState::new(site, copy).unwrap();
            let resumed = on_gpu.model.resume_until(tokens, Some(&readout), state, &mut NoTap, &mut engine);
            assert_eq!(resumed.continue_value().unwrap().download().unwrap(), logits, "{site}");
        }
    }
}
