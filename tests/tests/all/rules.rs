//! Rules of the repository: who may depend on whom, and what sources may hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// The crates that each crate may depend on, in tests aside. No sibling sees another.
const ALLOWED: [(&str, &[&str]); 24] = [
    ("openwork-tensor", &[]),
    ("openwork-sparse", &["openwork-tensor"]),
    ("openwork-cuda", &[]),
    ("openwork-cuda-sim", &["openwork-cuda"]),
    ("openwork-ops", &["openwork-tensor", "openwork-sparse", "openwork-cuda"]),
    ("openwork-model", &["openwork-tensor", "openwork-sparse", "openwork-cuda", "openwork-ops"]),
    // Pairs and words, below whatever has a model.
    ("openwork-tasks", &["openwork-tensor"]),
    ("openwork-data", &["openwork-tensor", "openwork-tasks"]),
    ("openwork-train", &["openwork-tensor", "openwork-sparse", "openwork-cuda", "openwork-ops", "openwork-model"]),
    ("openwork-circuit", &["openwork-tensor", "openwork-sparse", "openwork-ops", "openwork-model", "openwork-tasks"]),
    // A language of expressions and nothing else, for whoever reads some.
    ("openwork-expression", &[]),
    (
        "openwork-extract",
        &[
            "openwork-tensor",
            "openwork-sparse",
            "openwork-cuda",
            "openwork-ops",
            "openwork-model",
            "openwork-tasks",
            "openwork-circuit",
        ],
    ),
    // The one crate above training and circuits: it goes on with the one for the sake of the other.
    (
        "openwork-localise",
        &[
            "openwork-tensor",
            "openwork-sparse",
            "openwork-cuda",
            "openwork-ops",
            "openwork-model",
            "openwork-tasks",
            "openwork-train",
            "openwork-circuit",
        ],
    ),
    (
        "openwork-verify",
        &[
            "openwork-tensor",
            "openwork-sparse",
            "openwork-ops",
            "openwork-model",
            "openwork-tasks",
            "openwork-circuit",
            "openwork-expression",
        ],
    ),
    (
        "openwork-debug",
        &[
            "openwork-tensor",
            "openwork-sparse",
            "openwork-ops",
            "openwork-model",
            "openwork-tasks",
            "openwork-circuit",
            "openwork-expression",
        ],
    ),
    // The checker of certificates stands alone: it has to be right where everything else is wrong.
    ("openwork-check", &[]),
    (
        "openwork-truth",
        &["openwork-tensor", "openwork-sparse", "openwork-ops", "openwork-model", "openwork-tasks", "openwork-circuit"],
    ),
    ("openwork-chart", &[]),
    // Everything that programs share; certificates are checked by whoever wants them checked.
    (
        "openwork-project",
        &[
            "openwork-tensor",
            "openwork-sparse",
            "openwork-cuda",
            "openwork-ops",
            "openwork-model",
            "openwork-tasks",
            "openwork-data",
            "openwork-train",
            "openwork-circuit",
            "openwork-extract",
            "openwork-localise",
            "openwork-verify",
        ],
    ),
    // The viewer: a program without a command line. It looks and asks, and neither trains nor searches.
    (
        "openwork-view",
        &[
            "openwork-tensor",
            "openwork-model",
            "openwork-tasks",
            "openwork-data",
            "openwork-train",
            "openwork-circuit",
            "openwork-verify",
            "openwork-debug",
            "openwork-project",
        ],
    ),
    ("openwork", &["*"]),
    ("openwork-tests", &["*"]),
    ("openwork-benches", &["*"]),
    ("xtask", &[]),
];

/// Everything that `openwork-tensor` brings into a program on Linux, procedural macros aside, by what it is
/// there for. Nobody should have to take more to read a file.
const TENSOR_TREE: [(&str, &str); 8] = [
    ("arrays", "ndarray matrixmultiply rawpointer num-complex num-integer num-traits"),
    ("safetensors", "safetensors hashbrown allocator-api2 equivalent foldhash"),
    ("safetensors, for nothing of ours", "tempfile fastrand getrandom once_cell rustix bitflags linux-raw-sys libc"),
    ("half floats and bytes", "half bytemuck cfg-if zerocopy"),
    ("checksums of zip entries", "crc32fast"),
    ("manifests and headers", "serde serde_core serde_json itoa memchr zmij"),
    ("digests", "sha2 digest block-buffer crypto-common hybrid-array typenum const-oid cpufeatures"),
    ("errors", "thiserror"),
];

/// The library that reaches the GPU; only one crate may name it.
const GPU: &str = concat!("cud", "arc");

/// Files that may hold `unsafe` code.
const UNSAFE: [&str; 12] = [
    "crates/openwork-cuda-sim/src/device.rs",
    "crates/openwork-cuda-sim/src/lib.rs",
    "crates/openwork-cuda/src/attention.rs",
    "crates/openwork-cuda/src/driver.rs",
    "crates/openwork-cuda/src/elementwise.rs",
    "crates/openwork-cuda/src/gpu.rs",
    "crates/openwork-cuda/src/loader.rs",
    "crates/openwork-cuda/src/nvidia.rs",
    "crates/openwork-cuda/src/parameters/update.rs",
    "crates/openwork-cuda/src/products.rs",
    "crates/openwork-cuda/src/rehearsal.rs",
    "crates/openwork-cuda/src/tokens.rs",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The resolved packages of this platform, as far as they are not needed by tests only.
struct Packages {
    /// Direct dependencies by name.
    direct: BTreeMap<String, BTreeSet<String>>,
    /// Enabled features by name.
    features: BTreeMap<String, BTreeSet<String>>,
    members: BTreeSet<String>,
    /// Licences by name, as each package states them.
    licences: BTreeMap<String, String>,
}

impl Packages {
    fn read() -> Self {
        let host = Command::new(env!("CARGO")).args(["-vV"]).output().unwrap();
        let host = String::from_utf8(host.stdout).unwrap();
        let host = host.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version=1", "--filter-platform", host])
            .current_dir(root())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let list = |value: &Value| value.as_array().unwrap().clone();
        let names: BTreeMap<String, String> =
            list(&metadata["packages"]).iter().map(|p| (text(&p["id"]), text(&p["name"]))).collect();
        let mut packages = Self {
            direct: BTreeMap::new(),
            features: BTreeMap::new(),
            members: BTreeSet::new(),
            licences: BTreeMap::new(),
        };
        let stated: BTreeMap<String, String> = list(&metadata["packages"])
            .iter()
            .map(|p| (text(&p["name"]), p["license"].as_str().unwrap_or("none").to_owned()))
            .collect();
        for node in list(&metadata["resolve"]["nodes"]) {
            let name = names[&text(&node["id"])].clone();
            let normal = |dep: &Value| list(&dep["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
            let deps = list(&node["deps"]).into_iter().filter(normal).map(|dep| names[&text(&dep["pkg"])].clone());
            // Two versions of a package count as one.
            packages.direct.entry(name.clone()).or_default().extend(deps);
            packages.features.entry(name).or_default().extend(list(&node["features"]).iter().map(text));
        }
        packages.licences = stated.into_iter().filter(|(name, _)| packages.direct.contains_key(name)).collect();
        packages.members = list(&metadata["workspace_members"]).iter().map(|id| names[&text(id)].clone()).collect();
        packages
    }

    /// Dependencies of `name`, direct and indirect.
    fn tree(&self, name: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut open = vec![name.to_owned()];
        while let Some(name) = open.pop() {
            for dependency in &self.direct[&name] {
                if found.insert(dependency.clone()) {
                    open.push(dependency.clone());
                }
            }
        }
        found
    }
}

#[test]
fn licences_of_all_dependencies_are_allowed() {
    let text = std::fs::read_to_string(root().join("deny.toml")).unwrap();
    let deny: toml::Table = text.parse().unwrap();
    let allowed: BTreeSet<&str> =
        deny["licenses"]["allow"].as_array().unwrap().iter().map(|licence| licence.as_str().unwrap()).collect();
    let mut used = BTreeSet::new();
    for (name, stated) in Packages::read().licences {
        // "(A OR B) AND C"; older packages write "A/B".
        for all in stated.replace(['(', ')'], "").replace('/', " OR ").split(" AND ") {
            let found: Vec<&str> = all.split(" OR ").map(str::trim).filter(|one| allowed.contains(one)).collect();
            assert!(!found.is_empty(), "{name} is under {stated}, of which deny.toml allows nothing");
            used.extend(found.into_iter().map(str::to_owned));
        }
    }
    assert!(allowed.iter().all(|licence| used.contains(*licence)), "deny.toml allows what nothing is under: {used:?}");
}

#[test]
fn dependencies_point_downwards_only() {
    let packages = Packages::read();
    let allowed = BTreeMap::from(ALLOWED);
    for member in &packages.members {
        let allowed = allowed.get(member.as_str()).unwrap_or_else(|| panic!("{member} has no place in ALLOWED yet"));
        for dependency in packages.direct[member].intersection(&packages.members) {
            assert!(
                allowed.contains(&"*") || allowed.contains(&dependency.as_str()),
                "{member} may not depend on {dependency}"
            );
        }
    }
}

#[test]
fn the_verifier_shares_no_code_with_the_finder() {
    let tree = Packages::read().tree("openwork-verify");
    for finder in ["openwork-extract", "openwork-train", "openwork-localise"] {
        assert!(!tree.contains(finder), "openwork-verify depends on {finder}");
    }
}

#[test]
fn readers_of_tensors_get_nothing_that_they_do_not_need() {
    // Not from the metadata, whose features are those of the whole workspace.
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--package=openwork-tensor", "--edges=normal,no-proc-macro", "--prefix=none", "--format={p}"])
        .arg("--target=x86_64-unknown-linux-gnu")
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    let names = tree.lines().filter_map(|line| line.split(' ').next()).filter(|&name| name != "openwork-tensor");
    let found: BTreeSet<&str> = names.collect();
    let allowed: BTreeSet<&str> = TENSOR_TREE.iter().flat_map(|(_, names)| names.split(' ')).collect();
    assert_eq!(found.difference(&allowed).collect::<Vec<_>>(), Vec::<&&str>::new(), "new dependencies");
    assert_eq!(allowed.difference(&found).collect::<Vec<_>>(), Vec::<&&str>::new(), "gone: shorten TENSOR_TREE");
}

#[test]
fn formats_and_patterns_build_without_the_gpu() {
    let packages = Packages::read();
    for name in ["openwork-tensor", "openwork-sparse"] {
        assert!(!packages.tree(name).contains(GPU), "{name} brings {GPU}");
    }
}

#[test]
fn nobody_enables_ndarray_blas() {
    // Features are unified: every other crate would have to link a BLAS too.
    assert!(!Packages::read().features["ndarray"].contains("blas"));
}

/// Files of the repository with one of the endings, by path from its root.
fn files(endings: &[&str]) -> Vec<(String, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type().unwrap().is_dir() {
                if !name.starts_with('.') && !["target", "runs", "__pycache__", "node_modules"].contains(&name.as_str())
                {
                    walk(&entry.path(), found);
                }
            } else {
                found.push(entry.path());
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), &mut found);
    found.retain(|path| endings.iter().any(|&ending| path.extension().is_some_and(|e| e == ending)));
    found.sort();
    let read = |path: PathBuf| {
        let name = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
        std::fs::read_to_string(&path).ok().map(|text| (name, text))
    };
    found.into_iter().filter_map(read).collect()
}

/// Lines of code with their numbers, comments aside.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(i, line)| (i + 1, line.split("//").next().unwrap_or_default()));
    lines.filter(|(_, line)| !line.trim().is_empty())
}

#[test]
fn dangerous_code_is_where_it_is_expected() {
    let word = concat!("un", "safe");
    let forms = [" {", " fn", " impl", " extern", " trait", "(", "_code"].map(|next| format!("{word}{next}"));
    for (name, text) in files(&["rs"]) {
        let found = code(&text).find(|(_, line)| forms.iter().any(|form| line.contains(form)));
        match found {
            Some((line, _)) if !UNSAFE.contains(&name.as_str()) => panic!("{name}:{line}: {word} code"),
            None if UNSAFE.contains(&name.as_str()) => panic!("{name} needs no exception any more"),
            _ => (),
        }
    }
}

#[test]
fn only_the_gpu_crate_names_its_library() {
    for (name, text) in files(&["rs", "toml"]) {
        let fine = name == "Cargo.toml" || name.starts_with("crates/openwork-cuda/");
        let found = code(&text).find(|(_, line)| !fine && line.contains(GPU));
        assert_eq!(found, None, "{name} names {GPU}");
    }
}

/// Modules of `openwork-verify` at the root, each after all that it may use. The root itself only re-exports.
const ROOMS: [&str; 10] =
    ["streams", "settings", "stats", "run", "certificate", "checks", "methods", "hypothesis", "report", "levels"];

/// The modules at the root that a source names after `crate::`, braces of a `use` included.
fn rooms_used(source: &str) -> BTreeSet<String> {
    let name = |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let mut used = BTreeSet::new();
    for (at, _) in source.match_indices("crate::") {
        let rest = &source[at + "crate::".len()..];
        let Some(list) = rest.strip_prefix('{') else {
            used.insert(name(rest));
            continue;
        };
        let (mut depth, mut begins) = (1, true);
        for (i, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => begins = true,
                c if begins && depth == 1 && !c.is_whitespace() => {
                    used.insert(name(&list[i..]));
                    begins = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    used
}

#[test]
fn the_rooms_of_the_verifier_use_only_earlier_ones() {
    let mut seen = BTreeSet::new();
    for (name, text) in files(&["rs"]) {
        let Some(path) = name.strip_prefix("crates/openwork-verify/src/").filter(|path| *path != "lib.rs") else {
            continue;
        };
        let room = path.split(['/', '.']).next().unwrap_or_default();
        let place = |room: &str| ROOMS.iter().position(|r| *r == room);
        let own = place(room).unwrap_or_else(|| panic!("{name} is in no room of the list"));
        let source: String = code(&text).map(|(_, line)| format!("{line}\n")).collect();
        for used in rooms_used(&source) {
            let fine = place(&used).is_some_and(|place| place <= own);
            assert!(fine, "{name} uses {used}, which is no room before {room}");
        }
        seen.insert(room.to_owned());
    }
    assert_eq!(seen.len(), ROOMS.len(), "every room is there: {seen:?}");
}

#[test]
fn rooms_are_found_in_every_form_of_use() {
    let source = "use crate::{run::{audit, scheme::Fill}, stats};\nlet x = crate::report::cell;";
    assert_eq!(rooms_used(source), ["report", "run", "stats"].map(str::to_owned).into());
}

#[test]
fn libraries_do_not_print() {
    let macros = ["println!", "eprintln!", "print!", "eprint!", "dbg!"];
    for (name, text) in files(&["rs"]) {
        let library = name.strip_prefix("crates/").is_some_and(|rest| {
            let program = rest.starts_with("openwork/");
            rest.split('/').nth(1) == Some("src")
                && !program
                && !rest.ends_with("tests.rs")
                && !rest.contains("/tests/")
        });
        let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let found = code(text).find(|(_, line)| library && macros.iter().any(|m| line.contains(m)));
        assert_eq!(found, None, "{name} prints");
    }
}

#[test]
fn text_files_are_read_with_or_without_a_byte_order_mark() {
    // The checker shares no code, and the system's files have none.
    let own = ["crates/openwork-tensor/src/text.rs", "crates/openwork-check/src/certificate.rs"];
    for (name, text) in files(&["rs"]) {
        let library = name.starts_with("crates/") && name.contains("/src/") && !name.ends_with("tests.rs");
        let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let reads = |line: &str| line.contains("fs::read_to_string(") && !line.contains("\"/proc/");
        let found = code(text).find(|(_, line)| library && !own.contains(&name.as_str()) && reads(line));
        assert_eq!(found, None, "{name}: openwork_tensor::read_text reads text files");
    }
}

/// Names of the values that messages may show as Rust does: shapes, small fractions, and texts and lists of texts in quotes.
const SHOWN: [&str; 19] = [
    "FORMAT",
    "answer",
    "answers",
    "candidate",
    "cues",
    "entry",
    "expected",
    "found",
    "fraction",
    "given",
    "index",
    "name",
    "other",
    "pieces",
    "prompt",
    "shape",
    "storage",
    "text",
    "used",
];

/// The values that a message shows in Rust's debug format; a value without a name is empty.
fn debugged(message: &str) -> impl Iterator<Item = &str> {
    let debug = [":?}", ":#?}"];
    debug.into_iter().flat_map(move |form| {
        message
            .match_indices(form)
            .filter_map(move |(at, _)| message[..at].rfind('{').map(|start| &message[start + 1..at]))
    })
}

#[test]
fn messages_are_not_debug_output() {
    for (name, text) in files(&["rs"]) {
        if !name.starts_with("crates/") || !name.contains("/src/") || name.ends_with("tests.rs") {
            continue;
        }
        let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let errors =
            text.split("#[error(").skip(1).filter_map(|rest| rest.split_once(")]\n")).map(|(message, _)| message);
        for message in errors {
            let found = debugged(message).find(|value| !SHOWN.contains(value));
            assert_eq!(found, None, "{name}: {message}");
        }
        if name.starts_with("crates/openwork/src/") {
            for (line, code) in code(text) {
                assert_eq!(debugged(code).next(), None, "{name}:{line}: openwork_tensor::quoted shows a text");
            }
        }
    }
}

#[test]
fn debug_formats_are_found() {
    assert_eq!(debugged("a {found:?} b {} c {x:#?}").collect::<Vec<_>>(), ["found", "x"]);
    assert_eq!(debugged("a {:?}").collect::<Vec<_>>(), [""]);
}

#[test]
fn nothing_is_left_for_later() {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("to", "do!"), concat!("unimple", "mented!")];
    for (name, text) in files(&["rs", "md", "toml", "cu", "cuh", "py"]) {
        for (number, line) in text.lines().enumerate() {
            let found = words.iter().find(|word| line.contains(*word));
            assert_eq!(found, None, "{name}:{}", number + 1);
        }
    }
}

#[test]
fn files_are_of_readable_length() {
    for (name, text) in files(&["rs", "cu", "cuh", "py"]) {
        let lines = text.lines().count();
        assert!(lines <= 800, "{name} has {lines} lines, more than 800");
    }
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap_or_default();
    assert!(readme.lines().count() <= 200, "README.md has {} lines, more than 200", readme.lines().count());
}

#[test]
fn no_command_of_the_program_uses_another() {
    for (name, text) in files(&["rs"]) {
        let command = name.starts_with("crates/openwork/src/commands/") && !name.ends_with("/mod.rs");
        let found = code(&text).find(|(_, line)| command && (line.contains("commands::") || line.contains("super::")));
        assert_eq!(found, None, "{name}: code that two commands need is in `ui`, `page` or a library");
    }
}

#[test]
fn doc_lines_say_what_an_item_is() {
    // "Evaluation context: model and ablation values", not "What every run is about".
    let words = ["What ", "Which ", "Where ", "How ", "Why ", "Whether "];
    for (name, text) in files(&["rs"]) {
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_start();
            let doc = line.strip_prefix("/// ").or_else(|| line.strip_prefix("//! "));
            let riddle = doc.is_some_and(|doc| words.iter().any(|word| doc.starts_with(word)));
            assert!(!riddle, "{name}:{}: {line}", number + 1);
        }
    }
}

#[test]
fn libraries_have_typed_errors() {
    for (name, text) in files(&["rs"]) {
        let library = name.starts_with("crates/") && !name.starts_with("crates/openwork/") && name.contains("/src/");
        let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let is_text = |line: &str| {
            let result = line.split_once("-> ").filter(|_| line.contains("pub fn")).map(|(_, result)| result);
            result.is_some_and(|result| result.contains("Result<") && result.contains(", String>"))
        };
        let found = code(text).find(|(_, line)| library && is_text(line));
        assert_eq!(found, None, "{name}: an error that a caller can act on is an enum");
    }
}

#[test]
fn every_published_crate_has_a_readme_metadata_and_an_example() {
    for entry in std::fs::read_dir(root().join("crates")).unwrap() {
        let dir = entry.unwrap().path();
        let name = dir.file_name().unwrap().to_string_lossy().into_owned();
        let manifest: toml::Table = std::fs::read_to_string(dir.join("Cargo.toml")).unwrap().parse().unwrap();
        let package = manifest["package"].as_table().unwrap();
        if package.get("publish").and_then(toml::Value::as_bool) == Some(false) {
            continue;
        }
        for key in ["description", "repository", "documentation", "readme", "keywords", "categories"] {
            assert!(package.contains_key(key), "{name}: its Cargo.toml has no {key}");
        }
        let readme = std::fs::read_to_string(dir.join("README.md")).unwrap_or_default();
        assert!(readme.contains("## Limits"), "{name}: its README does not say what the crate does not do");
        // The program is its own example.
        if name != "openwork" {
            assert!(readme.contains("```rust"), "{name}: its README has no example");
            let examples = std::fs::read_dir(dir.join("examples")).map_or(0, Iterator::count);
            assert!(examples > 0, "{name} has no example");
            let lib = std::fs::read_to_string(dir.join("src/lib.rs")).unwrap();
            assert!(lib.contains("include_str!(\"../README.md\")"), "{name}: the README's example is not tested");
        }
    }
}
