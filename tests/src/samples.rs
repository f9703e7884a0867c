//! Small samples of what the formats hold: a model, its project, a verdict.

use std::{fs, path::Path};

use openwork_circuit::{Calibration, Circuit, CircuitFile};
use openwork_data::Tokenizer;
use openwork_model::{Config, Model};
use openwork_project::{Beside, Project, TOKENIZER_KEY, TRAINED_CONTEXT_KEY, VerdictFile};
use openwork_tensor::ShardWriter;
use openwork_truth::zoo::CaseKind;
use openwork_verify::{Case, Controls, Limits, Settings, verify};

/// A small model.
pub fn model() -> Model {
    let config = Config {
        vocab_size: 24,
        n_ctx: 8,
        n_layer: 1,
        n_head: 2,
        d_head: 4,
        d_model: 8,
        d_mlp: 16,
        ..Config::default()
    };
    let mut model = Model::init(config, 1);
    // Few enough nonzeros for the sparse form.
    model.params.blocks[0].proj.weight.update(|w| w.slice_mut(ndarray::s![.., 1..]).fill(0.0));
    model
}

/// A model with all that circuits of it need, in a folder of its own.
pub fn project(dir: &Path) -> Project {
    let dir = dir.join("project");
    fs::create_dir_all(&dir).expect("a folder");
    let tokenizer = Tokenizer::train_on_programs(0, 100_000, 300).expect("trained");
    tokenizer.save(&dir.join("tokenizer.json")).expect("saved");
    let mut writer = ShardWriter::create(dir.join("sample"), tokenizer.sha256(), 64).expect("a folder");
    writer.push(&[1; 32]).expect("written");
    writer.finish().expect("written");
    let config = Config { vocab_size: 300, ..model().config };
    let metadata = [(TOKENIZER_KEY, tokenizer.sha256().to_owned()), (TRAINED_CONTEXT_KEY, "8".to_owned())];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value)).into();
    Model::init(config, 1).save(dir.join("model.safetensors"), &metadata).expect("saved");
    Project::open(&dir.join("model.safetensors"), Beside::default(), &mut |_| ()).expect("a project")
}

/// A verdict of the first level on a ground-truth case, filed under `circuit`.
pub fn verdict(dir: &Path, circuit: &CircuitFile) -> VerdictFile {
    let given = CaseKind::True.build(1.0, 0);
    let case = Case {
        model: &given.model,
        means: &given.means,
        circuit: &Circuit::new(&given.model, given.circuit.clone()),
        claim: given.claim,
        calibration: Calibration::NONE,
        target_loss: given.target_loss,
        held_out: &given.held_out,
        shifts: &[],
        selection: &given.selection,
        meaning: None,
        model_sha256: "",
        domain: None,
    };
    let controls = Controls { done: &[], cut_short: &[] };
    let settings = Settings { random_sets: 100, random_pairs: 32, bootstrap: 400, ..Settings::default() };
    let report = verify(&case, controls, &settings, &Limits::level(1), &mut |_| ()).report;
    VerdictFile::new(&project(dir), circuit, (vec![], report), "p".into(), vec![])
}
