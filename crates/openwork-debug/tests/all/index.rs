//! The index of activations: the same contexts as a scan of all data, and no answer for another model or other data.

use std::{fs, ops::ControlFlow, path::Path};

use openwork_debug::{Index, IndexData, IndexError, IndexedContexts, Reply, Session};
use openwork_model::{Model, Record, SiteKind, Tokens};
use openwork_tensor::{ShardWriter, TokenShards};

use crate::{model, run, session};

const LENGTH: usize = 8;
const WINDOWS: usize = 70;

/// Letters in shards of three windows and a half, with a part of a window at the end.
fn data(dir: &Path, seed: u64) -> IndexData {
    let mut state = seed;
    let mut letter = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as u16 % 26
    };
    if !dir.exists() {
        let tokens: Vec<u16> = (0..WINDOWS * LENGTH + 3).map(|_| letter()).collect();
        let mut writer = ShardWriter::create(dir, &"0".repeat(64), 28).unwrap();
        writer.push(&tokens).unwrap();
        writer.finish().unwrap();
    }
    IndexData::new(TokenShards::open(dir, &"0".repeat(64)).unwrap(), LENGTH).unwrap()
}

fn build(path: &Path, model: &Model, data: &IndexData) {
    Index::build(path, model, &model.sha256(), data, |_| ControlFlow::Continue(())).unwrap();
}

fn open(dir: &Path, model: &Model, data: IndexData) -> Session {
    let index = Index::open(&dir.join("index"), model, &model.sha256(), data).unwrap();
    let mut session = session(model.clone());
    session.set_index(index);
    session
}

#[track_caller]
fn found(session: &mut Session, line: &str) -> IndexedContexts {
    match run(session, line).reply {
        Reply::Indexed(found) => found,
        other => panic!("not of the index: {other}"),
    }
}

/// Values of `0.mlp.post_act[3]` at all positions, by a run of every window.
fn values(model: &Model, dir: &Path) -> Vec<f32> {
    let shards = TokenShards::open(dir, &"0".repeat(64)).unwrap();
    let mut tokens = vec![0; WINDOWS * LENGTH];
    shards.read(0, &mut tokens).unwrap();
    let row = |window: &[u16]| {
        let mut record = Record::of_kinds(&[SiteKind::Neuron]);
        model.forward(Tokens::new(window, LENGTH), None, &mut record);
        record.values[0].1.row(3).to_vec()
    };
    tokens.chunks(LENGTH).flat_map(row).collect()
}

#[test]
fn the_index_has_the_contexts_of_a_scan_of_all_data() {
    let tmp = tempfile::tempdir().unwrap();
    let (dir, shards) = (tmp.path(), tmp.path().join("data"));
    let model = model(1);
    build(&dir.join("index"), &model, &data(&shards, 1));
    let values = values(&model, &shards);
    let count = |above: f32| values.iter().filter(|value| **value > above).count() as u64;
    assert!(count(0.0) > 20 && count(0.0) < values.len() as u64, "the node is neither dead nor always on");
    let mut session = open(dir, &model, data(&shards, 1));
    let all = found(&mut session, "where 0.mlp.post_act[3]");
    assert_eq!((all.windows, all.positions), (WINDOWS, (WINDOWS * LENGTH) as u64));
    assert_eq!(all.firing, [count(0.0); 2]);
    let mut best: Vec<f32> =
        values.chunks(LENGTH).map(|w| w.iter().copied().fold(0.0, f32::max)).filter(|best| *best > 0.0).collect();
    best.sort_by(|a, b| b.total_cmp(a));
    assert_eq!(all.top.iter().map(|fired| fired.value).collect::<Vec<_>>(), best[..5]);
    let at = |fired: &openwork_debug::Fired| values[fired.window * LENGTH + fired.position];
    let every = all.top.iter().chain(&all.drawn).chain(&all.near);
    assert!(every.clone().count() == 15 && every.clone().all(|fired| at(fired) == fired.value));
    // A power of two parts the counts; a bound between two of them leaves its own power open.
    let bound = best[3];
    let power = f32::from_bits(bound.to_bits() & 0xff80_0000);
    let some = found(&mut session, &format!("where 0.mlp.post_act[3] above {bound}"));
    assert!(some.firing[0] <= count(bound) && count(bound) <= some.firing[1], "{:?}", some.firing);
    assert_eq!(some.firing[1], values.iter().filter(|value| **value >= power).count() as u64);
    assert_eq!(some.top.len(), 3);
    assert!(some.drawn.iter().all(|fired| fired.value > bound) && some.near.iter().all(|fired| fired.value != bound));
    let far = |fired: &openwork_debug::Fired| (fired.value - bound).abs();
    assert!(some.near.windows(2).all(|pair| far(&pair[0]) <= far(&pair[1])));
}

#[test]
fn the_same_data_give_the_same_bytes_on_any_number_of_threads() {
    let tmp = tempfile::tempdir().unwrap();
    let shards = tmp.path().join("data");
    let model = model(2);
    let data = data(&shards, 2);
    let of = |threads: usize| {
        let path = tmp.path().join(threads.to_string());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| build(&path, &model, &data));
        fs::read(path).unwrap()
    };
    assert!(of(1) == of(3));
}

#[test]
fn an_index_of_another_model_or_other_data_is_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let (path, shards) = (tmp.path().join("index"), tmp.path().join("data"));
    let first = model(3);
    build(&path, &first, &data(&shards, 3));
    let refused = |model: &Model, data: IndexData| match Index::open(&path, model, &model.sha256(), data) {
        Err(IndexError::Stale { what, .. }) => what.to_owned(),
        Err(error) => error.to_string(),
        Ok(_) => panic!("the index is read"),
    };
    assert_eq!(refused(&model(4), data(&shards, 3)), "model");
    assert_eq!(refused(&first, data(&tmp.path().join("other"), 4)), "data");
    let short = IndexData::new(TokenShards::open(&shards, &"0".repeat(64)).unwrap(), LENGTH - 1).unwrap();
    assert_eq!(refused(&first, short), "windows of so many tokens:");
    let whole = fs::read(&path).unwrap();
    for cut in [whole.len() - 1, 20, 0] {
        fs::write(&path, &whole[..cut]).unwrap();
        assert!(refused(&first, data(&shards, 3)).contains("is no index"), "{cut} bytes");
    }
    // An entry outside the data is no context.
    let mut wrong = whole.clone();
    wrong[16 + 128 + 24..].chunks_mut(4).for_each(|word| word.copy_from_slice(&9_999_u32.to_le_bytes()));
    fs::write(&path, &wrong).unwrap();
    let mut session = open(tmp.path(), &first, data(&shards, 3));
    let error = session.line("where 0.mlp.post_act[3]").unwrap_err().to_string();
    assert!(error.contains("is no index"), "{error}");
}

#[test]
fn a_build_that_is_ended_leaves_no_file_and_an_edited_weight_no_answer_of_the_index() {
    let tmp = tempfile::tempdir().unwrap();
    let (dir, shards) = (tmp.path(), tmp.path().join("data"));
    let model = model(5);
    let mut seen = vec![];
    let ended = Index::build(&dir.join("index"), &model, &model.sha256(), &data(&shards, 5), |windows| {
        seen.push(windows);
        if windows > 40 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(ended, Err(IndexError::Interrupted)) && !dir.join("index").exists());
    assert_eq!(seen, [32, 64]);
    build(&dir.join("index"), &model, &data(&shards, 5));
    let mut session = open(dir, &model, data(&shards, 5));
    let before = found(&mut session, "where 0.mlp.post_act[3]");
    run(&mut session, "prompt a \"abc\"; set transformer.wte.weight[5,3] = 2");
    let error = session.line("where 0.mlp.post_act[3]").unwrap_err().to_string();
    assert!(error.contains("no data"), "{error}");
    run(&mut session, "undo");
    assert_eq!(found(&mut session, "where 0.mlp.post_act[3]"), before);
}
