//! Models that come with the program: their files are whole, and a verdict's figures are derived again from them.

use openwork_circuit::{Ablation, Keep, batches, evaluate};
use openwork_project::{
    Beside, Project, Request, State, VerdictFile, fsck, models_folder, shipped_models, verdict_path, verify_circuit,
};
use openwork_verify::{CheckId, Limits, Quantity, Scheme};

#[test]
fn files_of_shipped_models_are_whole_and_small() {
    let models = models_folder();
    let names = shipped_models(&models).unwrap();
    assert!(!names.is_empty());
    for name in names {
        let mut bytes = 0;
        for finding in fsck(&models.join(&name)).unwrap() {
            assert!(matches!(finding.state, State::Whole | State::Unknown { .. }), "{}", finding.path.display());
            bytes += std::fs::metadata(&finding.path).map_or(0, |file| file.len());
        }
        assert!(bytes > 0 && bytes <= 12 << 20, "{name} takes {bytes} bytes");
    }
}

#[test]
fn figures_of_the_verdict_on_a_model_of_generated_programs_are_derived_again() {
    derived_again("quickstart-localised", "with_as", "PASS (STRONG)");
}

#[test]
fn figures_of_the_verdict_on_a_model_of_real_code_are_derived_again() {
    derived_again("python-small", "single_double_quote", "PASS (WEAK)");
}

/// Verifies the circuit anew as far as the first level goes, which compares hashes of everything, and runs the circuit by itself.
fn derived_again(model: &str, task: &str, headline: &str) {
    let dir = models_folder().join(model);
    let project = Project::open(&dir, Beside::default(), &mut |_| ()).unwrap();
    let path = project.circuit_path(task);
    let circuit = project.circuit(&path).unwrap();
    let verdict = VerdictFile::read(&verdict_path(&path)).unwrap();
    assert!(verdict.about.differs(&circuit, Some(&project)).is_empty());
    assert_eq!(verdict.report.headline(), headline);

    let (settings, limits) = (verdict.report.settings.clone(), Limits::level(1));
    let request =
        Request { circuit: &circuit, hypothesis: None, with_controls: false, settings: &settings, limits: &limits };
    let again = verify_circuit(&project, request, &mut |_| ()).unwrap().report;
    let mut compared = 0;
    for check in &again.checks {
        let Some(recorded) = verdict.report.checks.iter().find(|c| c.id == check.id) else { continue };
        assert_eq!((check.status, check.estimate), (recorded.status, recorded.estimate), "{}", check.id);
        compared += usize::from(check.estimate.is_some());
    }
    assert!(compared >= 1);

    let splits = project.splits(openwork_project::find_task(task).unwrap(), settings.seed).unwrap();
    let prompts = batches(&splits.held_out, 32, project.model.config.n_ctx);
    let keep = || Keep::new(circuit.circuit.nodes(), Ablation::Mean(&project.means));
    let outcome = evaluate(&project.model, &prompts, false, keep, |_| ());
    let of_circuit = CheckId::Sufficiency { scheme: Scheme::MEAN, quantity: Quantity::Loss };
    let loss = verdict.report.checks.iter().find(|c| c.id == of_circuit).unwrap();
    let (found, recorded) = (outcome.loss(circuit.calibration), loss.estimate.unwrap().mean);
    // The same sums in other batches: single precision.
    assert!((found - recorded).abs() <= 1e-5, "{found} nats, and the verdict says {recorded}");
}
