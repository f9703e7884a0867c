//! Killed, interrupted and refused runs.

use openwork_tensor::ShardWriter;

use super::*;

const TEXT: &str = r#"
    seed = 3
    [model]
    vocab_size = 12
    n_ctx = 8
    n_layer = 1
    n_head = 2
    d_head = 4
    d_model = 8
    d_mlp = 16
    norm = "rms"
    linear_bias = true
    activation = "gelu"
    act_density = 0.5
    act_sites = "all"
    positions = "none"
    position_channels = 0
    sink = true
    bigram = "learned"
    tied_unembed = false
    [batch]
    sequences = 6
    chunk_sequences = 1
    lanes = 2
    [optimizer]
    steps = 12
    peak_lr = 0.02
    warmup_fraction = 0.1
    beta1 = 0.9
    beta2 = 0.95
    eps = 0.1
    weight_decay = 0.1
    sharkfin = true
    [sparsity]
    expansion_factor = 2
    pfrac = 1
    anneal = "linear"
    anneal_start = 0.1
    anneal_stop = 0.5
    min_per_unit = 1
    gradient = "exact"
    refresh_every = 0
    regrow = 0.0
    sparse_biases = false
    [run]
    validation_every = 5
    validation_sequences = 4
    checkpoint_every = 4
"#;

fn data(dir: &Path) -> (TokenShards, TokenShards) {
    let make = |name: &str, n: u16| {
        let path = dir.join(name);
        if !path.exists() {
            let mut writer = ShardWriter::create(&path, "tok", 300).unwrap();
            writer.push(&(0..n).map(|i| (i % 12) * (i % 12) % 12).collect::<Vec<_>>()).unwrap();
            writer.finish().unwrap();
        }
        TokenShards::open(&path, "tok").unwrap()
    };
    (make("train", 1000), make("validation", 100))
}

fn finish(run: &mut Run, stop_after: Option<u64>) -> Result<Stopped, RunError> {
    run.train(&BTreeMap::new(), &mut |event| match stop_after {
        Some(stop) if event.line.step + 1 == stop => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    })
}

/// The log without its timings.
fn log(dir: &Path) -> Vec<(u64, String)> {
    let text = std::fs::read_to_string(dir.join("log.jsonl")).unwrap();
    let lines = text.lines().map(|l| serde_json::from_str::<LogLine>(l).unwrap());
    lines.map(|l| (l.step, format!("{:?} {:?} {} {}", l.loss, l.validation_loss, l.l0, l.churn))).collect()
}

#[test]
fn resume_is_bit_identical_to_never_having_stopped() {
    resumes_identically(TEXT, 5);
    // Where nonzeros have just moved, after step 6.
    let support = TEXT
        .replace("gradient = \"exact\"", "gradient = \"support\"")
        .replace("refresh_every = 0", "refresh_every = 3")
        .replace("regrow = 0.0", "regrow = 0.4")
        .replace("pfrac = 1", "pfrac = 0.5");
    resumes_identically(&support, 5);
    resumes_identically(&support, 7);
}

/// A run stopped after `stop` steps, killed two steps later and resumed, is the run that never stopped.
fn resumes_identically(text: &str, stop: u64) {
    let tmp = tempfile::tempdir().unwrap();
    let recipe = || Recipe::parse(text).unwrap();
    let (whole, parts) = (tmp.path().join("whole"), tmp.path().join("parts"));
    let mut run = Run::create(recipe(), &whole, data(tmp.path())).unwrap();
    assert_eq!(finish(&mut run, None).unwrap(), Stopped::Finished);

    let mut run = Run::create(recipe(), &parts, data(tmp.path())).unwrap();
    assert_eq!(finish(&mut run, Some(stop)).unwrap(), Stopped::Interrupted { step: stop });
    // A kill two steps on: the log is ahead of the checkpoint, its last line is cut.
    let mut run = Run::resume(recipe(), &parts, data(tmp.path())).unwrap();
    let checkpoint = std::fs::read(parts.join("checkpoint.safetensors")).unwrap();
    finish(&mut run, Some(stop + 2)).unwrap();
    std::fs::write(parts.join("checkpoint.safetensors"), checkpoint).unwrap();
    let cut = std::fs::read(parts.join("log.jsonl")).unwrap();
    std::fs::write(parts.join("log.jsonl"), &cut[..cut.len() - 20]).unwrap();

    let mut run = Run::resume(recipe(), &parts, data(tmp.path())).unwrap();
    assert_eq!(run.step_count(), stop);
    assert_eq!(finish(&mut run, None).unwrap(), Stopped::Finished);
    for name in ["model.safetensors", "checkpoint.safetensors"] {
        let read = |dir: &Path| std::fs::read(dir.join(name)).unwrap();
        assert!(read(&whole) == read(&parts), "{name} differs");
    }
    assert_eq!(log(&whole), log(&parts));
    assert_eq!(log(&whole).iter().map(|l| l.0).collect::<Vec<_>>(), (0..12).collect::<Vec<_>>());
}

#[test]
fn a_run_killed_before_its_first_step_can_be_resumed_or_started_again() {
    let tmp = tempfile::tempdir().unwrap();
    let recipe = || Recipe::parse(TEXT).unwrap();
    let (whole, killed) = (tmp.path().join("whole"), tmp.path().join("killed"));
    finish(&mut Run::create(recipe(), &whole, data(tmp.path())).unwrap(), None).unwrap();

    // Killed while the first checkpoint was written: there is no run yet.
    std::fs::create_dir(&killed).unwrap();
    let half = killed.join(".checkpoint.safetensors.123-0.tmp");
    std::fs::write(&half, b"half").unwrap();
    let none = Run::resume(recipe(), &killed, data(tmp.path())).err().unwrap();
    assert!(matches!(none, RunError::NoCheckpoint { .. }), "{none}");
    drop(Run::create(recipe(), &killed, data(tmp.path())).unwrap());
    assert!(!half.exists(), "leftovers are removed");

    // Killed right after it: every later file may be missing.
    for later in [&["recipe.toml", "log.jsonl"][..], &["log.jsonl"], &[]] {
        later.iter().for_each(|name| std::fs::remove_file(killed.join(name)).unwrap());
        let run = Run::resume(recipe(), &killed, data(tmp.path())).unwrap();
        assert_eq!(run.step_count(), 0);
    }
    finish(&mut Run::resume(recipe(), &killed, data(tmp.path())).unwrap(), None).unwrap();

    // Killed before the model was written: the last checkpoint has it.
    std::fs::remove_file(killed.join("model.safetensors")).unwrap();
    let mut run = Run::resume(recipe(), &killed, data(tmp.path())).unwrap();
    assert_eq!(finish(&mut run, None).unwrap(), Stopped::Finished);
    for name in ["model.safetensors", "checkpoint.safetensors", "recipe.toml"] {
        let read = |dir: &Path| std::fs::read(dir.join(name)).unwrap();
        assert!(read(&whole) == read(&killed), "{name} differs");
    }
    assert_eq!(log(&whole), log(&killed));
}

#[test]
fn a_folder_that_cannot_be_written_is_named_and_the_last_checkpoint_kept() {
    let tmp = tempfile::tempdir().unwrap();
    let recipe = || Recipe::parse(TEXT).unwrap();
    let (dir, moved, file) = (tmp.path().join("run"), tmp.path().join("moved"), tmp.path().join("file"));
    let chain = |error: &dyn std::error::Error| {
        let causes = std::iter::successors(Some(error), |error| error.source());
        causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    };
    std::fs::write(&file, b"").unwrap();
    let error = Run::create(recipe(), file.join("run"), data(tmp.path())).err().unwrap();
    assert!(chain(&error).contains(&format!("cannot create {}", file.join("run").display())), "{error}");

    // The folder goes away in the middle of the run, and a file takes its name.
    let mut run = Run::create(recipe(), &dir, data(tmp.path())).unwrap();
    let error = run.train(&BTreeMap::new(), &mut |event| {
        if event.line.step == 5 {
            std::fs::rename(&dir, &moved).unwrap();
            std::fs::write(&dir, b"").unwrap();
        }
        ControlFlow::Continue(())
    });
    let message = chain(&error.unwrap_err());
    let path = dir.join("checkpoint.safetensors");
    assert!(message.contains(&format!("cannot write {}", path.display())), "{message}");
    assert!(message.contains("an earlier one is kept"), "{message}");
    drop(run);
    let mut run = Run::resume(recipe(), &moved, data(tmp.path())).unwrap();
    assert_eq!(run.step_count(), 4);
    assert_eq!(finish(&mut run, None).unwrap(), Stopped::Finished);
}

#[test]
fn what_is_wrong_is_named() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("run");
    let text = TEXT.to_owned();
    let new = |text: &str, dir: &Path| Run::create(Recipe::parse(text).unwrap(), dir, data(tmp.path()));
    let message = |r: Result<Run, RunError>| r.err().unwrap().to_string();
    assert!(message(Run::resume(Recipe::parse(&text).unwrap(), &dir, data(tmp.path()))).contains("no checkpoint"));
    finish(&mut new(&text, &dir).unwrap(), Some(2)).unwrap();
    assert!(message(new(&text, &dir)).contains("already holds a run"));
    // Other line endings and a comment make no other recipe.
    let same = Recipe::parse(&(text.replace('\n', "\r\n") + "# a remark\r\n")).unwrap();
    Run::resume(same, &dir, data(tmp.path())).unwrap();
    let other = Recipe::parse(&text.replace("seed = 3", "seed = 4")).unwrap();
    assert!(message(Run::resume(other, &dir, data(tmp.path()))).contains("another recipe"));
    let long = text.replace("n_ctx = 8", "n_ctx = 800");
    assert!(message(new(&long, &tmp.path().join("b"))).contains("validation shards hold 100 tokens"));
    let longer = text.replace("n_ctx = 8", "n_ctx = 8000");
    assert!(message(new(&longer, &tmp.path().join("b"))).contains("training shards hold 1000 tokens"));
    assert!(!tmp.path().join("b").exists(), "nothing is written before the data is looked at");
    let small = text.replace("vocab_size = 12", "vocab_size = 7");
    let error = finish(&mut new(&small, &tmp.path().join("c")).unwrap(), None).unwrap_err().to_string();
    assert!(error.contains("vocabulary of 7"), "{error}");
    let wild = text.replace("peak_lr = 0.02", "peak_lr = 1000").replace("weight_decay = 0.1", "weight_decay = 0.0");
    let error = finish(&mut new(&wild, &tmp.path().join("d")).unwrap(), None).unwrap_err().to_string();
    assert!(error.contains("diverged") && error.contains("last good checkpoint"), "{error}");
}

#[test]
fn one_process_at_a_time_works_in_a_folder() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("run");
    let recipe = || Recipe::parse(TEXT).unwrap();
    let run = Run::create(recipe(), &dir, data(tmp.path())).unwrap();
    // A write that somebody else is in the middle of.
    let theirs = dir.join(".checkpoint.safetensors.1-0.tmp");
    std::fs::write(&theirs, b"").unwrap();
    let error = Run::resume(recipe(), &dir, data(tmp.path())).err().unwrap();
    assert!(matches!(error, RunError::Lock(_)), "{error}");
    assert!(theirs.exists());
    drop(run);
    Run::resume(recipe(), &dir, data(tmp.path())).unwrap();
    assert!(!theirs.exists());
}

#[test]
fn damaged_data_and_checkpoints_are_noticed_before_a_step() {
    let tmp = tempfile::tempdir().unwrap();
    let recipe = || Recipe::parse(TEXT).unwrap();
    let dir = tmp.path().join("run");
    finish(&mut Run::create(recipe(), &dir, data(tmp.path())).unwrap(), Some(2)).unwrap();

    // Every kind of damage that leaves the file's form as it is: a value, two values exchanged, zeros.
    let path = dir.join("checkpoint.safetensors");
    let whole = std::fs::read(&path).unwrap();
    let start = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let places: Vec<usize> = (start..whole.len()).step_by((whole.len() - start) / 30).collect();
    for at in places {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let error = Run::resume(recipe(), &dir, data(tmp.path())).err().unwrap().to_string();
        assert!(error.contains("checkpoint.safetensors is damaged"), "byte {at}: {error}");
    }
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(crate::check_checkpoint(&path).unwrap().step, 2);

    for part in ["train", "validation"] {
        let shard = tmp.path().join(part).join("shard-00000.bin");
        let tokens = std::fs::read(&shard).unwrap();
        let shards = || data(tmp.path());
        std::fs::write(&shard, vec![0; tokens.len()]).unwrap();
        for outcome in [Run::create(recipe(), tmp.path().join("new"), shards()), Run::resume(recipe(), &dir, shards())]
        {
            let error = outcome.err().unwrap().to_string();
            assert!(error.contains(part) && error.contains("SHA-256"), "{error}");
        }
        assert!(!tmp.path().join("new").exists());
        std::fs::write(&shard, tokens).unwrap();
    }
    // Other validation data make another run.
    std::fs::remove_dir_all(tmp.path().join("validation")).unwrap();
    let mut writer = ShardWriter::create(tmp.path().join("validation"), "tok", 300).unwrap();
    writer.push(&[1; 100]).unwrap();
    writer.finish().unwrap();
    let error = Run::resume(recipe(), &dir, data(tmp.path())).err().unwrap().to_string();
    assert!(error.contains("another data set"), "{error}");
}
