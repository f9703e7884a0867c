//! The formats: files that our writers make, and the reader of each.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use openwork_circuit::{Calibration, Circuit, CircuitFile, Claim, Domain, Means, NodeSet, NodeSpace, SearchSettings};
use openwork_data::{Documents, Sources, Tokenizer};
use openwork_debug::{Command, Names, claims::Claims};
use openwork_model::{Config, Model};
use openwork_project::{LineFormat, PromptLines, VerdictFile};
use openwork_tensor::{PtFile, PtNode, ShardWriter, TensorFile, TokenShards};
use openwork_tests::samples::{model, verdict};
use openwork_train::{Recipe, SHIPPED};
use openwork_truth::{Compiled, Options, Program, means};
use openwork_verify::certificate::{About, Scheme, exhaustive};
use openwork_verify::hypothesis::Hypothesis;

/// Reads a file as a user would; true if it is accepted.
type Reader = Box<dyn Fn(&[u8]) -> bool>;

/// A format.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Files that our writers made.
    pub seeds: Vec<Vec<u8>>,
    /// Its reader.
    pub read: Reader,
}

/// Every format, with files in `dir`, which has to be the caller's own.
pub fn targets(dir: &Path) -> Vec<Target> {
    let mut all = texts();
    all.extend(tensors(dir));
    all.extend(of_a_model(dir));
    all.extend(data(dir));
    all
}

/// A reader of a file in `dir` called `name`.
fn file(dir: &Path, name: &str, read: impl Fn(&Path) -> bool + 'static) -> Reader {
    let path = dir.join(name);
    Box::new(move |bytes| {
        fs::write(&path, bytes).expect("a temporary folder takes files");
        read(&path)
    })
}

/// Contents of a file that `write` makes.
fn written(dir: &Path, write: impl FnOnce(&Path)) -> Vec<u8> {
    let path: PathBuf = dir.join("seed");
    write(&path);
    fs::read(path).expect("just written")
}

fn texts() -> Vec<Target> {
    let text = |read: fn(&str) -> bool| -> Reader { Box::new(move |bytes| std::str::from_utf8(bytes).is_ok_and(read)) };
    let hypothesis = "name = \"a\"\nanswer = \"'yes' if sign == '+' else 'no'\"\ncandidates = [\"yes\", \"no\"]\n\
        [[variable]]\nname = \"sign\"\nvalue = \"last_of(tokens, ['+', '-'])\"\nnodes = [\"0.attn.v[3]\", \"0.mlp.post_act[7]\"]\n\
        at = \"all\"\n";
    let script = "prompt a \"x = 1\"\n# a comment\nbreak changed 0.mlp.post_act[3] by 1e-3 against a\n\
        watch (logit(#1) - abs(0.attn.q[1]@-1)) * 2 > 0.5 and not 0.attn.k[1] == 0\n\
        set 0.attn.act_in[3] -> 0.attn.q[1] = -0.5\nset 0.mlp.post_act[3]@2 = mean\n\
        bt 0.mlp.post_act[3]@last --depth 3 --share 0.1 --norm held --effect mean\nwhy #1 not #2\nprint 0.attn.q[0:3]@*\n";
    let claims = "openwork-claims 1\n# a comment\n0.mlp.post_act[3] fires_on only #1 #2 above 0.5 on with_as in 0.9 of 60 pairs seed 3\n\
        edge 0.attn.act_in[3] -> 0.attn.q[1] carries with_as by 0.2 in 0.9 of 60 pairs\n\
        circuit \"circuits/with_as.json\" agrees_with model on with_as in 0.9 of 60 pairs\n";
    vec![
        Target {
            name: "debugger",
            seeds: vec![script.as_bytes().to_vec()],
            read: text(|text| in_names(|names| text.lines().all(|line| Command::parse(line, names).is_ok()))),
        },
        Target {
            name: "claims",
            seeds: vec![claims.as_bytes().to_vec()],
            read: text(|text| in_names(|names| Claims::parse(text, names).is_ok())),
        },
        Target {
            name: "recipe",
            seeds: SHIPPED.map(|(_, text)| text.as_bytes().to_vec()).to_vec(),
            read: text(|text| Recipe::parse(text).is_ok()),
        },
        Target {
            name: "config",
            seeds: vec![Config::default().to_exported().expect("the original has it").into_bytes()],
            read: text(|text| Config::from_published(text).is_ok()),
        },
        Target {
            name: "hypothesis",
            seeds: vec![hypothesis.as_bytes().to_vec()],
            read: text(|text| Hypothesis::parse(text, "h.toml", &model().config).is_ok()),
        },
    ]
}

/// Names of a model whose tokens are bytes.
fn in_names(read: impl FnOnce(Names<'_>) -> bool) -> bool {
    let (config, prompts) = (model().config, ["a".to_owned()]);
    let most = config.vocab_size as u16;
    let encode = move |text: &str| text.bytes().map(|byte| u16::from(byte) % most).collect::<Vec<u16>>();
    let decode = |tokens: &[u16]| tokens.iter().map(|&token| char::from(token as u8)).collect::<String>();
    read(Names { config: &config, vocabulary: &(encode, decode), prompts: &prompts })
}

fn tensors(dir: &Path) -> Vec<Target> {
    let whole = |file: TensorFile| {
        let tensors = file.names().all(|name| file.tensor(name).is_ok());
        tensors && file.csr_names().all(|name| file.csr(name).is_ok())
    };
    let saved = written(dir, |path| model().save(path, &BTreeMap::new()).expect("saved"));
    let pt = written(dir, |path| {
        let matrix = ndarray::arr2(&[[1.0_f32, -2.0], [0.0, 3.0]]);
        openwork_tensor::write_pt(path, &BTreeMap::from([("w".to_owned(), matrix.into())])).expect("written");
    });
    // Without checksums, as PyTorch can be told to write it: damage gets further.
    let mut unsummed = pt.clone();
    for at in 0..unsummed.len() {
        let field = match &unsummed[at..] {
            [b'P', b'K', 1, 2, ..] => 16,
            [b'P', b'K', 3, 4, ..] => 14,
            _ => continue,
        };
        unsummed[at + field..at + field + 4].fill(0);
    }
    vec![
        Target {
            name: "safetensors",
            seeds: vec![saved.clone()],
            read: Box::new(move |bytes| TensorFile::from_bytes(bytes.to_vec()).is_ok_and(whole)),
        },
        Target {
            name: "model",
            seeds: vec![saved],
            read: file(dir, "model.safetensors", |path| Model::load(path).is_ok()),
        },
        Target {
            name: "pt",
            seeds: vec![pt, unsummed],
            read: Box::new(|bytes| {
                let _ = PtNode::from_bytes(bytes.to_vec());
                PtFile::from_bytes(bytes.to_vec()).is_ok_and(|file| file.names().all(|name| file.tensor(name).is_ok()))
            }),
        },
        Target {
            name: "checkpoint",
            seeds: vec![checkpoint(dir)],
            read: file(dir, "checkpoint.safetensors", |path| openwork_train::check_checkpoint(path).is_ok()),
        },
    ]
}

/// The checkpoint of step 0 of a tiny run.
fn checkpoint(dir: &Path) -> Vec<u8> {
    let mut text = SHIPPED[0].1.to_owned();
    for (from, to) in
        [("vocab_size = 2048", "vocab_size = 16"), ("n_ctx = 128", "n_ctx = 8"), ("d_model = 128", "d_model = 8")]
    {
        text = text.replace(from, to);
    }
    let recipe = Recipe::parse(&text.replace("d_mlp = 512", "d_mlp = 8")).expect("a recipe");
    let shards = |name: &str| {
        let path = dir.join(name);
        let mut writer = ShardWriter::create(&path, "t", 64).expect("a folder");
        writer.push(&[1; 32]).expect("written");
        writer.finish().expect("written");
        TokenShards::open(path, "t").expect("just written")
    };
    let run = dir.join("run");
    drop(openwork_train::Run::create(recipe, &run, (shards("train"), shards("validation"))).expect("a run"));
    let bytes = fs::read(run.join("checkpoint.safetensors")).expect("just written");
    for folder in ["run", "train", "validation"] {
        fs::remove_dir_all(dir.join(folder)).expect("just made");
    }
    bytes
}

fn of_a_model(dir: &Path) -> Vec<Target> {
    let model = model();
    let sha256 = model.sha256();
    let means_of = Means::compute(&model, &[1, 2, 3, 4, 5, 6, 7, 8], 8);
    let circuit = CircuitFile {
        task: "for_while".into(),
        model_sha256: sha256.clone(),
        means_sha256: means_of.sha256(),
        tokenizer_sha256: "t".into(),
        circuit: Circuit::new(&model, NodeSet::of(NodeSpace::new(&model.config), [0, 9, 40])),
        claim: Claim::Answer,
        calibration: Calibration::NONE,
        target_loss: 0.15,
        loss: 0.1,
        seed: 0,
        search: SearchSettings::ByHand {},
    };
    let means_file = written(dir, |path| means_of.save(path, &sha256).expect("saved"));
    let circuit_file = written(dir, |path| circuit.save(path).expect("saved"));
    let (of_means, of_circuit, hash) = (model.clone(), model, sha256.clone());
    vec![
        Target {
            name: "means",
            seeds: vec![means_file],
            read: file(dir, "means.safetensors", move |path| Means::load(path, &of_means, &sha256).is_ok()),
        },
        Target {
            name: "circuit",
            seeds: vec![circuit_file],
            read: file(dir, "circuit.json", move |path| CircuitFile::load(path, &of_circuit, &hash).is_ok()),
        },
        Target {
            name: "verdict",
            seeds: vec![verdict(dir, &circuit).to_json().into_bytes()],
            read: file(dir, "circuit.verdict.json", |path| VerdictFile::read(path).is_ok()),
        },
        certificate(dir),
    ]
}

/// A certificate of a compiled program; its model lies beside it.
fn certificate(dir: &Path) -> Target {
    let program = Program::all().into_iter().find(|program| program.name() == "quote-closing").expect("a program");
    let compiled = Compiled::new(program, &Options::random(1));
    let beside = dir.join("compiled.safetensors");
    compiled.model.save(&beside, &BTreeMap::new()).expect("saved");
    let prompts: Vec<_> = compiled.domain().into_iter().take(4).collect();
    let means = means(&compiled.model, &prompts, compiled.bos());
    let about = About {
        model: &compiled.model,
        model_sha256: &compiled.model.sha256(),
        circuit: &compiled.circuit,
        constants: Some(means.values()),
        inputs: &Domain::listed(&prompts.iter().map(|p| p.tokens.clone()).collect::<Vec<_>>()).expect("prompts"),
        answers: Some(&prompts.iter().map(|p| p.answer).collect::<Vec<_>>()),
        candidates: None,
    };
    let (certificate, _) = exhaustive(&about, &[Scheme::Zero, Scheme::Constants], usize::MAX).expect("a certificate");
    std::fs::write(dir.join(certificate.domain_file()), certificate.domain_json()).expect("written");
    Target {
        name: "certificate",
        seeds: vec![certificate.to_json().into_bytes()],
        read: file(dir, "certificate.json", move |path| openwork_check::check(path, &beside).is_ok()),
    }
}

fn data(dir: &Path) -> Vec<Target> {
    let rows =
        (0..20).map(|i| format!("{{\"text\": \"x = {i}\\n\", \"n\": [{i}, null]}}\n")).collect::<String>().into_bytes();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&rows).expect("memory");
    let zst = ruzstd::encoding::compress_to_vec(&rows[..], ruzstd::encoding::CompressionLevel::Fastest);
    let documents = |dir: &Path, name: &str| {
        file(dir, name, |path| {
            let documents = Documents::open(&Sources::new(vec![path.to_owned()]));
            documents.is_ok_and(|documents| documents.filter_map(Result::ok).count() > 0)
        })
    };
    let tokenizer = Tokenizer::train_on_programs(0, 100_000, 300).expect("trained");
    let tokenizer = written(dir, |path| tokenizer.save(path).expect("saved"));
    let mut writer = ShardWriter::create(dir.join("shards"), "t", 4).expect("a folder");
    writer.push(&[1, 2, 3, 4, 5, 6]).expect("written");
    writer.finish().expect("written");
    let manifest = fs::read(dir.join("shards/manifest.json")).expect("just written");
    let shards = dir.join("shards");
    vec![
        Target {
            name: "tokenizer",
            seeds: vec![tokenizer],
            read: file(dir, "tokenizer.json", |path| Tokenizer::load(path).is_ok()),
        },
        Target {
            name: "manifest",
            seeds: vec![manifest],
            read: file(dir, "shards/manifest.json", move |_| {
                TokenShards::open(&shards, "t").is_ok_and(|found| found.verify_hashes().is_ok())
            }),
        },
        Target { name: "jsonl", seeds: vec![rows.clone()], read: documents(dir, "rows.jsonl") },
        Target { name: "gz", seeds: vec![gz.finish().expect("memory")], read: documents(dir, "rows.jsonl.gz") },
        Target { name: "zst", seeds: vec![zst], read: documents(dir, "rows.jsonl.zst") },
        Target {
            name: "prompts",
            seeds: vec![b"{\"prompt\": \"a\\nb\"}\n\"c\"\n".to_vec()],
            read: file(dir, "prompts.jsonl", |path| {
                PromptLines::open(path, LineFormat::Json).is_ok_and(|lines| lines.count() > 0)
            }),
        },
    ]
}
