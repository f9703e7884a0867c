//! Compiles a program to exact weights, certifies its circuit over all inputs and over all partial ablations, and has both
//! certificates checked:
//!
//! `cargo run --release -p openwork-check --example certify -- quote-closing OUT`
//!
//! OUT then holds the model, its domain and the two certificates, which `openwork check-certificate CERTIFICATE MODEL` accepts too.
//! Without arguments the program is quote-closing, in a temporary folder.

use std::{collections::BTreeMap, error::Error, fs, io::Write, path::Path};

use openwork_circuit::Domain;
use openwork_tensor::write_atomic;
use openwork_truth::{Compiled, Options, Program, means};
use openwork_verify::certificate::{About, Relax, Rivals, Scheme, exhaustive, relaxation};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let names = Program::all().map(Program::name).join(", ");
    let temporary = tempfile::tempdir()?;
    let (name, out) = match &arguments[..] {
        [] => ("quote-closing", temporary.path()),
        [name, out] => (name.as_str(), Path::new(out)),
        _ => return Err(format!("expected PROGRAM OUT, programs: {names}").into()),
    };
    let program = Program::all().into_iter().find(|p| p.name() == name);
    let program = program.ok_or_else(|| format!("there is no program {name}, but {names}"))?;
    fs::create_dir_all(out)?;

    // In the company of parts that compute something and do not reach the output.
    let compiled = Compiled::new(program, &Options::random(1));
    let file = out.join("model.safetensors");
    compiled.model.save(&file, &BTreeMap::new())?;
    let prompts = compiled.domain();
    let means = means(&compiled.model, &prompts, compiled.bos());
    let about = About {
        model: &compiled.model,
        model_sha256: &compiled.model.sha256(),
        circuit: &compiled.circuit,
        constants: Some(means.values()),
        inputs: &Domain::listed(&prompts.iter().map(|p| p.tokens.clone()).collect::<Vec<_>>())?,
        answers: Some(&prompts.iter().map(|p| p.answer).collect::<Vec<_>>()),
        candidates: None,
    };
    println!("{name}: {} of {} nodes, {} inputs", compiled.circuit.len(), means.values().len(), prompts.len());

    // Every input under zeros, under means, and with the values that left-out nodes have on every other input.
    let schemes = [Scheme::Zero, Scheme::Constants, Scheme::Resample { sources: prompts.len() }];
    let relax =
        Relax { rivals: Rivals::AllTokens, frozen_norms: false, symbols: 2048, inputs: prompts.len(), splits: 0 };
    let certificates = [
        ("exhaustive", exhaustive(&about, &schemes, usize::MAX)?.0),
        ("relaxation", relaxation(&about, relax, &|| false)?.0),
    ];
    let task = format!("{name}, all prompts of the program");
    for (kind, certificate) in certificates {
        let certificate = certificate.named(&task, "domain.json");
        write_atomic(&out.join("domain.json"), |w| w.write_all(certificate.domain_json().as_bytes()))?;
        let path = out.join(format!("{kind}.certificate.json"));
        write_atomic(&path, |w| w.write_all(certificate.to_json().as_bytes()))?;
        println!("{}: {}", path.display(), openwork_check::check(&path, &file)?.statement);
    }
    Ok(())
}
