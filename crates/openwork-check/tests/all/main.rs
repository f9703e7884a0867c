//! The checker against the crates that it checks, with which it shares no code: it must come to the same numbers where
//! they are honest, and refuse whatever is not.

mod claims;
mod hand_made;
#[allow(dead_code, reason = "tests of the verdict use more of it")]
#[path = "../../../openwork-verify/tests/zoo/micro.rs"]
mod micro;
mod mutate;
mod parity;
mod relaxation;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use openwork_circuit::{NodeSet, NodeSpace};
use openwork_model::{Config, Model};
use openwork_verify::certificate::Certificate;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// A random model whose every parameter matters: nothing is left at 0 or 1 as it is at initialisation.
fn random_model(config: Config, rng: &mut ChaCha8Rng) -> Model {
    let mut model = Model::init(config, 0);
    for weight in model.params.values_mut() {
        let sparse = rng.random_bool(0.4);
        let [base, spread] = if weight.dense().ncols() == 1 { [0.5, 0.5] } else { [0.0, 0.7] };
        weight.update(|w| {
            for x in w.iter_mut() {
                let value = base + spread * (rng.random_range(0.0..2.0_f32) - 1.0);
                *x = if sparse && rng.random_bool(0.8) { 0.0 } else { value };
            }
        });
    }
    model
}

/// A random set of nodes.
fn random_nodes(space: &NodeSpace, share: f64, rng: &mut ChaCha8Rng) -> NodeSet {
    NodeSet::of(space.clone(), (0..space.len()).filter(|_| rng.random_bool(share)))
}

/// A folder with a model and the certificate at hand.
struct Desk {
    dir: tempfile::TempDir,
    sha256: String,
}

impl Desk {
    fn new(model: &Model) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        model.save(&path, &BTreeMap::new()).unwrap();
        let sha256 = openwork_model::Model::load(&path).unwrap().sha256;
        Self { dir, sha256 }
    }

    fn model(&self) -> PathBuf {
        self.dir.path().join("model.safetensors")
    }

    /// Checks a certificate whose text is `text`, beside a domain file of the text `domain`.
    fn check_text(&self, text: &str, domain: &str, model: &Path) -> Result<String, String> {
        let path = self.dir.path().join("certificate.json");
        std::fs::write(&path, text).unwrap();
        std::fs::write(self.dir.path().join("domain.json"), domain).unwrap();
        openwork_check::check(&path, model).map(|c| c.statement).map_err(|e| e.to_string())
    }

    /// The statement of a certificate that must hold.
    #[track_caller]
    fn accepted(&self, certificate: &Certificate) -> String {
        self.check_text(&certificate.to_json(), &certificate.domain_json(), &self.model()).unwrap()
    }

    /// Reason that the certificate falls after a change.
    #[track_caller]
    fn rejected(&self, certificate: &Certificate, change: impl Fn(&mut Value)) -> String {
        self.check_changed(certificate, change).unwrap_err()
    }

    /// Checks a certificate after a change. The domain file is under `domain` of what is changed; a change of it goes into
    /// its hash too, as a forger would have it.
    #[track_caller]
    fn check_changed(&self, certificate: &Certificate, change: impl Fn(&mut Value)) -> Result<String, String> {
        let mut json: Value = serde_json::from_str(&certificate.to_json()).unwrap();
        let domain: Value = serde_json::from_str(&certificate.domain_json()).unwrap();
        json["domain"] = domain.clone();
        let before = json.clone();
        change(&mut json);
        assert_ne!(json, before, "the change changes something");
        let changed = json.as_object_mut().unwrap().remove("domain").unwrap();
        let check = |json: &Value| self.check_text(&json.to_string(), &changed.to_string(), &self.model());
        let result = check(&json);
        if changed == domain {
            return result;
        }
        let said = result.expect_err("a changed domain has another hash");
        let Some((_, hash)) = said.split_once("`sha256` does not hold").and_then(|(_, s)| s.split_once("found "))
        else {
            return Err(said);
        };
        json["inputs"]["sha256"] = hash.into();
        check(&json)
    }
}
