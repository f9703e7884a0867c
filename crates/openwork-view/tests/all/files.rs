//! Models and circuits that tests look at: a copy of the model that comes with the program.

use std::{
    fs,
    path::{Path, PathBuf},
};

use openwork_circuit::{Circuit, CircuitFile, Label, NodeSet, NodeSpace, SearchSettings};
use openwork_project::{OpenModel, models_folder};
use tempfile::TempDir;

/// Text that would run, break out or turn what follows around, were it not text.
pub const HOSTILE: &str = "</script><script>globalThis.hit=1</script><img src=x onerror=\"globalThis.hit=1\">' \" & \u{202e}desrever\u{202c} \u{0}";

/// Name of the model.
const SHIPPED: &str = "quickstart-localised";

/// A copy of the shipped model, under its name.
pub struct Copied {
    _dir: TempDir,
    path: PathBuf,
}

impl Copied {
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Copies the shipped model with its circuits.
pub fn copy() -> Copied {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(SHIPPED);
    copy_folder(&models_folder().join(SHIPPED), &path);
    Copied { _dir: dir, path }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

pub fn circuit_file(dir: &Path, name: &str) -> PathBuf {
    dir.join("circuits").join(format!("{name}.json"))
}

/// Adds a circuit whose task, label and note are hostile; its labels are long, too.
pub fn add_hostile(dir: &Path) {
    let open = OpenModel::open(dir).unwrap();
    let file = open.circuit(&circuit_file(dir, "with_as")).unwrap();
    let name = format!("{HOSTILE}{}", "long ".repeat(300));
    let label = |node| (node, Label { name: name.clone(), note: Some(HOSTILE.into()) });
    let labels = file.circuit.nodes().nodes().map(label).collect();
    let circuit = file.circuit.clone().with_labels(labels).unwrap();
    let hostile = CircuitFile { task: HOSTILE.into(), circuit, ..file };
    hostile.save(&circuit_file(dir, "<img src=x onerror=globalThis.hit=1>")).unwrap();
}

/// Adds a circuit of the smallest number of nodes, one in three taken first, with at least so many edges.
pub fn add_large(dir: &Path, edges: usize) -> usize {
    let open = OpenModel::open(dir).unwrap();
    let file = open.circuit(&circuit_file(dir, "with_as")).unwrap();
    let space = NodeSpace::new(&open.model.config);
    let order: Vec<usize> = (0..3).flat_map(|start| (start..space.len()).step_by(3)).collect();
    let of = |count: usize| Circuit::new(&open.model, NodeSet::of(space.clone(), order[..count].iter().copied()));
    let (mut low, mut high) = (0, order.len());
    while low + 1 < high {
        let middle = (low + high) / 2;
        match of(middle).edges().len() < edges {
            true => low = middle,
            false => high = middle,
        }
    }
    let circuit = of(high);
    let found = circuit.edges().len();
    assert!(found >= edges, "the model has {found} edges");
    let large = CircuitFile { circuit, search: SearchSettings::ByHand {}, ..file };
    large.save(&circuit_file(dir, "large")).unwrap();
    found
}
