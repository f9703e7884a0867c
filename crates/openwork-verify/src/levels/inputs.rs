//! Level 0: whether the inputs of a verification fit together.

use std::collections::HashSet;

use openwork_circuit::{NodeSpace, edges};
use openwork_tasks::Pair;

use crate::{
    levels::case::Case,
    report::fault::InputError,
    run::{context::Judged, scheme::Split},
    settings::Settings,
};

/// The circuit of a case, made ready for runs.
pub(super) fn judged(case: &Case<'_>) -> Result<Judged, InputError> {
    let (model, circuit) = (case.model, case.circuit);
    // `check` names a circuit of another shape.
    if *circuit.nodes().space() != NodeSpace::new(&model.config) {
        return Ok(Judged::new(circuit.nodes(), case.selection));
    }
    let judged = Judged::of_circuit(circuit, model, case.selection)
        .map_err(|e| InputError::ResidualEdge { from: e.from.to_string(), to: e.to.to_string() })?;
    // What a circuit leaves out are weights of the model; so must be what it has.
    match circuit.edges().len() + judged.cut().len() == edges(model, circuit.nodes()).len() {
        true => Ok(judged),
        false => Err(InputError::OtherEdges),
    }
}

/// Fails on inputs that do not fit together, or that would make the result worthless.
pub(super) fn check(case: &Case<'_>, settings: &Settings) -> Result<(), InputError> {
    settings.check().map_err(InputError::Settings)?;
    let config = &case.model.config;
    let space = NodeSpace::new(config);
    if *case.circuit.nodes().space() != space {
        return Err(InputError::OtherModel);
    }
    if case.means.values().len() != space.len() || !case.means.values().iter().all(|m| m.is_finite()) {
        return Err(InputError::Means);
    }
    let numbers = [case.calibration.scale, case.calibration.shift, case.target_loss];
    if !numbers.iter().all(|x| x.is_finite()) || case.target_loss <= 0.0 {
        return Err(InputError::Target);
    }
    let mut splits = vec![(None, case.selection), (Some(Split::HeldOut), case.held_out)];
    splits.extend(case.shifts.iter().map(|s| (Some(s.split), s.pairs)));
    for (split, pairs) in splits {
        let in_vocabulary = |t: &u16| usize::from(*t) < config.vocab_size;
        let good = |p: &Pair| {
            p.answer != p.alternative
                && [p.answer, p.alternative].iter().all(in_vocabulary)
                && [&p.positive, &p.negative].iter().all(|s| !s.is_empty() && s.iter().all(in_vocabulary))
        };
        if let Some(pair) = pairs.iter().position(|p| !good(p)) {
            return Err(InputError::Pair { split, pair });
        }
    }
    if case.selection.is_empty() {
        return Err(InputError::NoSelection);
    }
    disjoint(case)
}

/// Prompts are compared as the model sees them, cut on the left to its context.
fn disjoint(case: &Case<'_>) -> Result<(), InputError> {
    let seen = |s: &'_ [u16]| s[s.len().saturating_sub(case.model.config.n_ctx)..].to_vec();
    let selected: HashSet<Vec<u16>> =
        case.selection.iter().flat_map(|p| [seen(&p.positive), seen(&p.negative)]).collect();
    let templates: HashSet<usize> = case.selection.iter().map(|p| p.template).collect();
    let held_out = [(Split::HeldOut, case.held_out)];
    for (split, pairs) in held_out.into_iter().chain(case.shifts.iter().map(|s| (s.split, s.pairs))) {
        let mut own = HashSet::new();
        for (pair, Pair { positive, negative, .. }) in pairs.iter().enumerate() {
            let prompts = (seen(positive), seen(negative));
            if selected.contains(&prompts.0) || selected.contains(&prompts.1) {
                return Err(InputError::SelectedOn { split, pair });
            }
            if !own.insert(prompts) {
                return Err(InputError::Repeated { split, pair });
            }
        }
    }
    for shift in case.shifts.iter().filter(|s| s.split == Split::HeldOutTemplates) {
        if let Some(pair) = shift.pairs.iter().position(|p| templates.contains(&p.template)) {
            return Err(InputError::TemplateSelectedOn { split: shift.split, pair });
        }
    }
    Ok(())
}
