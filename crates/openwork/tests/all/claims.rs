//! The claims about `with_as` in the model that comes with the program, there and where the mechanism is broken.

use std::{fs, path::Path};

use openwork_circuit::Means;
use openwork_data::Tokenizer;
use openwork_model::Model;
use openwork_tensor::TokenShards;

use crate::{run, stderr};

/// Windows of the sample that means are taken over anew.
const WINDOWS: usize = 64;

/// Makes head 1 of block 0 read its value 25 from channel 115, and not from 114.
fn break_head(model: &mut Model) {
    let width = model.config.n_head * model.config.d_head;
    // Rows of queries, keys and values, in this order.
    let row = 2 * width + 25;
    model.params.blocks[0].qkv.weight.update(|w| {
        assert!(w[[row, 114]] != 0.0 && w[[row, 115]] == 0.0, "the channel that the claims are about");
        w.swap([row, 114], [row, 115]);
    });
}

#[test]
fn the_claims_about_with_as_hold_in_the_shipped_model_and_fall_where_its_head_reads_another_channel() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/quickstart-localised");
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    let line = format!("debug {} --check {}", models.display(), models.join("circuits/with_as.claims").display());
    let holds = run(dir, &line);
    let words = String::from_utf8_lossy(&holds.stdout).into_owned();
    assert_eq!(holds.status.code(), Some(0), "{words}{}", stderr(&holds));
    assert!(words.contains("the bar is 0.9") && stderr(&holds).contains("14 of 14 claims hold"), "{words}");

    // Its own means, as after a retraining.
    let openwork_model::Loaded { mut model, metadata, .. } = Model::load(models.join("model.safetensors")).unwrap();
    break_head(&mut model);
    let broken = dir.join("broken");
    fs::create_dir_all(broken.join("circuits")).unwrap();
    for name in ["tokenizer.json", "circuits/with_as.json", "circuits/with_as.verdict.json"] {
        fs::copy(models.join(name), broken.join(name)).unwrap();
    }
    model.save(broken.join("model.safetensors"), &metadata).unwrap();
    let tokenizer = Tokenizer::load(&broken.join("tokenizer.json")).unwrap();
    let shards = TokenShards::open(models.join("sample"), tokenizer.sha256()).unwrap();
    let context = metadata["trained_context"].parse().unwrap();
    let mut tokens = vec![0; WINDOWS * context];
    shards.read(0, &mut tokens).unwrap();
    Means::compute(&model, &tokens, context).save(&broken.join("means.safetensors"), &model.sha256()).unwrap();

    let falls = run(dir, &format!("debug broken --check {}", models.join("circuits/with_as.claims").display()));
    let words = String::from_utf8_lossy(&falls.stdout).into_owned();
    assert_eq!(falls.status.code(), Some(1), "{words}{}", stderr(&falls));
    let after = |claim: &str| -> Vec<&str> {
        let at = words.lines().position(|line| line.starts_with("FALLS") && line.contains(claim));
        words.lines().skip(at.unwrap_or_else(|| panic!("{claim} does not fall in\n{words}")) + 1).take(2).collect()
    };
    for claim in ["0.attn.v[25] needed_for", "edge 0.attn.v[25] -> 0.attn.resid_delta[66] carries"] {
        let [share, prompt] = after(claim)[..] else { panic!("{words}") };
        assert!(share.contains("0 of 100 pairs"), "{share}");
        // The first prompt of that pair on which it falls: either of the two may be it.
        let (opened, assigned) = ("with open('names.txt', 'r')\"", "f = open('names.txt', 'r')\"");
        assert!(prompt.contains("on pair 0, \"def count_planet(username)"), "{prompt}");
        assert!(prompt.contains(opened) || prompt.contains(assigned), "{prompt}");
    }
    assert!(after("verdict of")[0].contains("a verdict of another model does not count"), "{words}");
    // The weight is not there any more.
    assert!(words.contains("0.attn.act_in[114] -> 0.attn.v[25]") && words.contains("no nonzero weight"), "{words}");
}
