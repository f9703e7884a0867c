//! Agreement with the original implementation's numbers.

use std::path::Path;

fn check(dir: &Path) {
    let reports = openwork_tests::parity::folder(dir).unwrap();
    reports.iter().for_each(|r| println!("{r}"));
    let failed: Vec<String> = reports.iter().filter(|r| !r.passes()).map(ToString::to_string).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn fixtures_of_the_original_implementation() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures");
    if !dir.exists() {
        println!("SKIPPED: the original implementation's fixtures are not at hand ({})", dir.display());
        return;
    }
    check(&dir);
}

#[test]
fn goldens_of_our_own_pytorch_script() {
    check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("golden"));
}
