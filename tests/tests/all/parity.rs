//! Agreement with the original implementation's numbers.

use std::path::Path;

use openwork_cuda_sim::Simulator;
use openwork_ops::Device;

fn check(dir: &Path, device: &Device) {
    let reports = openwork_tests::parity::folder(dir, device).unwrap();
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
    check(&dir, &Device::Cpu);
}

#[test]
fn goldens_of_our_own_pytorch_script() {
    check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("golden"), &Device::Cpu);
}

#[test]
fn a_simulated_gpu_agrees_as_well() {
    // The heads of our own goldens have 4 and 5 channels, for which there are no kernels.
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures");
    match dir.exists() {
        true => check(&dir, &Device::Cuda(Simulator::gpu(227 << 10, 4, 2))),
        false => println!("SKIPPED: the original implementation's fixtures are not at hand ({})", dir.display()),
    }
}
