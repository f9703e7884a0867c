//! Self-checks of runs: the ablation was done at every site, and every number is finite.
//!
//! Hooks that do not fire are the commonest fault of such libraries; so every pass of every run is watched from outside.

use std::{
    ops::ControlFlow,
    slice,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use openwork_circuit::{Ablation, Batch, Frozen, Keep, NodeSet, NormScales, Outcome, evaluate};
use openwork_model::{Matrix, Site, SiteKind, Tap};

use crate::run::{ablator::Ablator, context::Context, error::RunError};

/// A tap that watches an ablating tap: every site of the node set is visited once, every ablated row holds the
/// ablation's value afterwards, and what is left at the two writes of a block is what the residual stream receives.
pub(crate) struct Audit<'a, T> {
    pub inner: T,
    nodes: &'a NodeSet,
    ablation: Ablation<'a>,
    visited: Vec<Site>,
    /// Value that the residual stream must have when it is next seen.
    residual: Option<Matrix>,
    fault: Option<RunError>,
}

impl<'a, T> Audit<'a, T> {
    pub fn new(inner: T, nodes: &'a NodeSet, ablation: Ablation<'a>) -> Self {
        Self { inner, nodes, ablation, visited: Vec::new(), residual: None, fault: None }
    }

    /// The fault of the pass.
    pub fn fault(&self) -> Option<RunError> {
        let expected = self.nodes.space().sites();
        if !self.visited.iter().eq(expected.iter().map(|(site, _)| site)) {
            let (visited, expected) = (self.visited.len(), expected.len());
            return Some(RunError::Sites { visited, expected });
        }
        self.fault.clone()
    }

    fn filled(&self, site: Site, value: &Matrix, range: std::ops::Range<usize>) -> bool {
        value.rows().into_iter().zip(range).enumerate().all(|(index, (row, node))| {
            let all = |value: f32| row.iter().all(|&x| x == value);
            self.nodes.kept()[node]
                || match self.ablation {
                    Ablation::Zero => all(0.0),
                    Ablation::Mean(means) => all(means.values()[node]),
                    Ablation::Constant(values) => all(values[node]),
                    Ablation::Recorded(record) => row == record.at(site).expect("recorded").row(index),
                }
        })
    }
}

impl<T: Tap> Tap for Audit<'_, T> {
    fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        let residual = matches!(site.kind, SiteKind::ResidIn | SiteKind::ResidMid | SiteKind::FinalResid);
        // Bit for bit: the same two numbers are added in the same order.
        if residual && self.residual.as_ref().is_some_and(|expected| expected != value) {
            self.fault = Some(RunError::Residual { site: site.to_string() });
        }
        self.inner.forward(site, value)?;
        if let Some(range) = self.nodes.space().range(site) {
            self.visited.push(site);
            if !self.filled(site, value, range) {
                self.fault = Some(RunError::NotAblated { site: site.to_string() });
            }
        }
        if residual {
            self.residual = Some(value.clone());
        } else if let (SiteKind::AttnWrite | SiteKind::MlpWrite, Some(sum)) = (site.kind, &mut self.residual) {
            *sum += &*value;
        }
        ControlFlow::Continue(())
    }
}

/// The tap of an ablator.
struct Hook<'a> {
    keep: Keep<'a>,
    ablator: &'a dyn Ablator,
}

impl Tap for Hook<'_> {
    fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        self.ablator.ablate(&mut self.keep, site, value)
    }
}

/// Runs a batch with only `nodes` kept, watched, under frozen norms if their scales are given. Also says how many
/// entries the ablation changed.
pub(crate) fn watched_run(
    context: Context<'_>,
    batch: &Batch,
    nodes: &NodeSet,
    ablation: Ablation<'_>,
    frozen: Option<&NormScales>,
    with_log_probs: bool,
) -> Result<(Outcome, usize), RunError> {
    let Context { model, ablator, .. } = context;
    let tap = || Audit::new(Hook { keep: Keep::new(nodes, ablation), ablator }, nodes, ablation);
    let (fault, changed) = (Mutex::new(None), AtomicUsize::new(0));
    let done = |audit: &Audit<'_, Hook<'_>>| {
        let keep = &audit.inner.keep;
        changed.fetch_add(keep.changed, Relaxed);
        let own = (keep.visited != keep.expected()).then_some(RunError::HookNotCalled);
        if let Some(found) = audit.fault().or(own) {
            *fault.lock().expect("no panic holds it") = Some(found);
        }
    };
    let batches = slice::from_ref(batch);
    let outcome = match frozen {
        None => evaluate(model, batches, with_log_probs, tap, done),
        Some(scales) => {
            let tap = || Frozen::new(tap(), model, scales, &batch.readout);
            evaluate(model, batches, with_log_probs, tap, |frozen| done(&frozen.inner))
        }
    };
    match fault.into_inner().expect("no panic holds it") {
        Some(fault) => Err(fault),
        None => Ok((outcome, changed.into_inner())),
    }
}

/// Fails unless a run changed something exactly if an ablated node differs anywhere from the ablation's constant in
/// the plain model, which `deviates` says by node.
pub(crate) fn must_change(nodes: &NodeSet, deviates: &[bool], changed: usize) -> Result<(), RunError> {
    let must_change = nodes.kept().iter().zip(deviates).any(|(kept, deviates)| !kept && *deviates);
    match (must_change, changed > 0) {
        (true, false) => Err(RunError::ChangedNothing),
        (false, true) => Err(RunError::ChangedSomething),
        _ => Ok(()),
    }
}

/// Fails on a result that is not a number.
pub(crate) fn finite(outcome: &Outcome) -> Result<(), RunError> {
    let bad = outcome.differences.iter().position(|d| !d.is_finite());
    let bad = bad.or(outcome.log_probs.iter().position(|l| !l.iter().all(|x| x.is_finite())));
    bad.map_or(Ok(()), |i| Err(RunError::NotFinite { pair: i / 2 }))
}

/// Fails with `otherwise` of the largest distance of logit differences unless two outcomes are the same bit for bit.
pub(crate) fn same(a: &Outcome, b: &Outcome, otherwise: impl FnOnce(f64) -> RunError) -> Result<(), RunError> {
    if a.differences == b.differences && a.log_probs == b.log_probs {
        return Ok(());
    }
    let worst = a.differences.iter().zip(&b.differences).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    Err(otherwise(worst))
}

#[cfg(test)]
mod tests {
    use openwork_circuit::{Means, NodeSpace, batches};
    use openwork_model::{Config, Model, NoTap, Tokens};
    use openwork_tasks::Pair;

    use super::*;
    use crate::run::{ablator::KeepOnly, context::Judged};

    fn setting() -> (Model, Means, NodeSet, Vec<Batch>) {
        let model = Model::init(Config { vocab_size: 20, n_ctx: 8, ..Config::default() }, 2);
        let means = Means::compute(&model, &(0..16).collect::<Vec<u16>>(), 8);
        let nodes = NodeSet::of(NodeSpace::new(&model.config), (0..1000).step_by(3));
        let pair = Pair { positive: vec![1, 2], negative: vec![3, 2], answer: 4, alternative: 5, template: 0 };
        (model, means, nodes, batches(&[pair], 8, 8))
    }

    fn fault_of<T: Tap>(inner: T) -> Option<RunError> {
        let (model, _, nodes, batches) = setting();
        let mut audit = Audit::new(inner, &nodes, Ablation::Zero);
        model.forward(Tokens::new(&batches[0].tokens, batches[0].seq_len), None, &mut audit);
        audit.fault()
    }

    /// Ablates like `Keep` at every site but one.
    struct Deaf<'a>(Keep<'a>, Site);
    impl Tap for Deaf<'_> {
        fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
            if site != self.1 {
                self.0.forward(site, value)?;
            }
            ControlFlow::Continue(())
        }
    }

    /// Ablates a copy.
    struct OnACopy<'a>(Keep<'a>);
    impl Tap for OnACopy<'_> {
        fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
            self.0.forward(site, &mut value.clone())?;
            ControlFlow::Continue(())
        }
    }

    #[test]
    fn a_hook_that_does_nothing_is_caught() {
        let (_, means, nodes, _) = setting();
        let keep = || Keep::new(&nodes, Ablation::Zero);
        assert_eq!(fault_of(keep()), None);
        let not_ablated = |fault: Option<RunError>| matches!(fault, Some(RunError::NotAblated { .. }));
        assert!(not_ablated(fault_of(NoTap)) && not_ablated(fault_of(OnACopy(keep()))));
        let deaf = fault_of(Deaf(keep(), Site { layer: 1, kind: SiteKind::Key }));
        assert_eq!(deaf, Some(RunError::NotAblated { site: "1.attn.k".into() }));
        assert!(not_ablated(fault_of(Keep::new(&nodes, Ablation::Mean(&means)))));
    }

    #[test]
    fn a_model_that_skips_or_ignores_the_hook_is_caught() {
        let (model, _, nodes, batches) = setting();
        // A harness that calls the tap at every site but one, or adds something else to the residual stream.
        let replay = |skip: Option<SiteKind>, other: f32| {
            let mut record = openwork_model::Record::default();
            model.forward(Tokens::new(&batches[0].tokens, batches[0].seq_len), None, &mut record);
            let mut audit = Audit::new(Keep::new(&nodes, Ablation::Zero), &nodes, Ablation::Zero);
            let mut x = Matrix::zeros((64, batches[0].tokens.len()));
            for (site, mut value) in record.values {
                if skip == Some(site.kind) {
                    continue;
                }
                if matches!(site.kind, SiteKind::ResidIn | SiteKind::ResidMid | SiteKind::FinalResid) {
                    value.assign(&x);
                }
                assert!(audit.forward(site, &mut value).is_continue());
                if matches!(site.kind, SiteKind::AttnWrite | SiteKind::MlpWrite) {
                    x += &value.mapv(|v| v + other);
                }
            }
            audit.fault()
        };
        assert_eq!(replay(None, 0.0), None);
        assert!(matches!(replay(Some(SiteKind::Query), 0.0), Some(RunError::Sites { visited: 14, .. })));
        assert!(matches!(replay(None, 0.5), Some(RunError::Residual { .. })));
    }

    #[test]
    fn a_run_must_change_something_exactly_when_a_node_deviates() {
        let (model, means, nodes, batches) = setting();
        let judged = Judged::new(&nodes, &[]);
        let context = Context { model: &model, means: &means, judged: &judged, seed: 1, ablator: &KeepOnly };
        let run =
            |nodes: &NodeSet| watched_run(context, &batches[0], nodes, Ablation::Mean(&means), None, false).unwrap().1;
        let deviates = |yes: bool| vec![yes; nodes.space().len()];
        assert!(must_change(&nodes, &deviates(true), run(&nodes)).is_ok());
        assert_eq!(must_change(&nodes, &deviates(false), run(&nodes)), Err(RunError::ChangedSomething));
        assert_eq!(must_change(&nodes, &deviates(true), 0), Err(RunError::ChangedNothing));
        let all = NodeSet::all(nodes.space().clone());
        assert!(must_change(&all, &deviates(true), run(&all)).is_ok());
    }

    #[test]
    fn outcomes_that_differ_or_are_not_finite_are_caught() {
        let o = |d: f64| Outcome { differences: vec![10.0, d], log_probs: vec![] };
        let otherwise = |distance| RunError::NotTheModel { distance };
        assert!(same(&o(1.0), &o(1.0), otherwise).is_ok());
        assert!(
            matches!(same(&o(1.0), &o(1.0 + 1e-15), otherwise), Err(RunError::NotTheModel { distance }) if distance > 0.0)
        );
        assert!(same(&o(1.0), &Outcome::default(), otherwise).is_err());
        assert_eq!(finite(&o(f64::NAN)), Err(RunError::NotFinite { pair: 0 }));
        assert!(finite(&Outcome { differences: vec![], log_probs: vec![vec![f32::NEG_INFINITY]] }).is_err());
    }
}
