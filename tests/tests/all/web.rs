//! The viewer's committed front end is what `cargo xtask web` builds from the sources that are there: found out without Node.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// SHA-256 over path, length and bytes of every source, in the order of their paths, as `xtask/src/web.rs` computes it.
fn hash_of_sources(web: &Path) -> String {
    let mut files: Vec<PathBuf> =
        ["build.mjs", "package.json", "package-lock.json", "tsconfig.json"].map(PathBuf::from).into();
    let sources = std::fs::read_dir(web.join("src")).unwrap();
    files.extend(sources.map(|entry| Path::new("src").join(entry.unwrap().file_name())));
    files.sort();
    let mut all = vec![];
    for file in files {
        let bytes = std::fs::read(web.join(&file)).unwrap();
        all.extend(format!("{}\0{}\0", file.display(), bytes.len()).into_bytes());
        all.extend(bytes);
    }
    openwork_tensor::sha256_bytes(&all)
}

#[test]
fn the_front_end_is_built_from_its_sources() {
    let assets = root().join("crates/openwork-view/assets");
    let mut expected = format!("sources {}\n", hash_of_sources(&root().join("web")));
    for name in ["view.js", "view.css"] {
        let bytes = std::fs::read(assets.join(name)).unwrap();
        expected += &format!("{name} {}\n", openwork_tensor::sha256_bytes(&bytes));
    }
    let found = std::fs::read_to_string(assets.join("sources.sha256")).unwrap();
    assert_eq!(found, expected, "the front end is stale: cargo xtask web builds it");
}

#[test]
fn front_end_sources_name_no_registry_and_load_nothing_from_elsewhere() {
    let lock = std::fs::read_to_string(root().join("web/package-lock.json")).unwrap();
    assert!(!lock.contains("\"resolved\""), "npm's option omit-lockfile-registry-resolved leaves out addresses");
    for entry in std::fs::read_dir(root().join("web/src")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        // Names of XML are no addresses that anything is loaded from.
        let found = text.lines().find(|line| line.contains("://") && !line.contains("http://www.w3.org/2000/svg"));
        assert_eq!(found, None, "{}", path.display());
        assert!(text.lines().count() <= 500, "{} has more than 500 lines", path.display());
    }
}
