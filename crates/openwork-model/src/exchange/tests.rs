use super::*;
use crate::{NoTap, Tokens};

fn small(tied_unembed: bool) -> Model {
    let config = Config {
        vocab_size: 24,
        n_ctx: 8,
        n_layer: 1,
        n_head: 2,
        d_head: 4,
        d_model: 8,
        d_mlp: 16,
        positions: Positions::Added,
        tied_unembed,
        ..Config::default()
    };
    Model::init(config, 1)
}

/// A published folder with these tensors, in either format.
fn folder(model: &Model, tensors: &BTreeMap<String, Tensor>, pt: bool) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(CONFIG), model.config.to_exported().unwrap()).unwrap();
    match pt {
        true => openwork_tensor::write_pt(dir.path().join("final_model.pt"), tensors).unwrap(),
        false => {
            openwork_tensor::write(dir.path().join("final_model.safetensors"), tensors, &BTreeMap::new()).unwrap();
        }
    }
    dir
}

fn tensors(model: &Model) -> BTreeMap<String, Tensor> {
    let infos = Params::<()>::infos(&model.config).into_iter();
    infos.zip(model.params.values()).map(|(info, w)| (info.name.clone(), as_published(&info, w.dense()))).collect()
}

fn error(dir: &tempfile::TempDir) -> String {
    Model::import(dir, false).err().unwrap().to_string()
}

#[test]
fn what_wrappers_put_before_the_names_is_taken_off_with_a_notice() {
    let model = small(false);
    for (i, prefix) in ["", "_orig_mod.", "module.", "module._orig_mod.", "model."].into_iter().enumerate() {
        let mut named: BTreeMap<String, Tensor> =
            tensors(&model).into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)).collect();
        named.insert("optimizer.state.0.exp_avg".into(), ndarray::arr1(&[0.0_f32]).into());
        let (imported, notices) = Model::import(folder(&model, &named, i % 2 == 0), false).unwrap();
        assert_eq!(imported.sha256(), model.sha256());
        let text = notices.join("\n");
        assert!(prefix.is_empty() || text.contains(&format!("`{prefix}` is taken off")), "{text}");
        assert!(text.contains("1 tensors") && text.contains("optimizer.state.0.exp_avg"), "{text}");
    }
}

#[test]
fn a_tensor_that_the_configuration_denies_is_refused() {
    let model = Model::init(Config { bigram: Bigram::None, sink: false, ..small(false).config }, 1);
    let one = || Tensor::from(ndarray::arr1(&[1.0_f32]));
    for name in [
        "bigram_table",
        "transformer.h.0.attn.attn_imp.sink_logit",
        "transformer.h.1.mlp.c_fc.weight",
        "transformer.h.7.ln_1.weight",
    ] {
        let mut named = tensors(&model);
        assert!(named.insert(name.to_owned(), one()).is_none(), "{name} is the model's own");
        let error = error(&folder(&model, &named, false));
        assert!(error.contains(name) && error.contains(CONFIG), "{error}");
    }
    // Buffers of the original are no part of any configuration.
    let mut named = tensors(&model);
    named.insert("transformer.h.0.attn.bias".into(), one());
    Model::import(folder(&model, &named, false), false).unwrap();
}

#[test]
fn several_models_in_one_file_and_none_are_refused_by_name() {
    let model = small(false);
    let two = ["ema.", "model."]
        .into_iter()
        .flat_map(|prefix| tensors(&model).into_iter().map(move |(name, tensor)| (format!("{prefix}{name}"), tensor)));
    let text = error(&folder(&model, &two.collect(), true));
    assert!(text.contains("several models") && text.contains("`ema.`, `model.`"), "{text}");
    let other = BTreeMap::from([("bert.embeddings".to_owned(), Tensor::from(ndarray::arr1(&[1.0_f32])))]);
    let text = error(&folder(&model, &other, true));
    assert!(text.contains("no model of the published code") && text.contains("`bert.embeddings`"), "{text}");
}

#[test]
fn doubles_are_rounded_with_a_notice() {
    let model = small(false);
    let wide = |tensor: Tensor| Tensor::F64(tensor.to_f32().unwrap().mapv(f64::from));
    for pt in [true, false] {
        let named = tensors(&model).into_iter().map(|(name, tensor)| (name, wide(tensor))).collect();
        let (imported, notices) = Model::import(folder(&model, &named, pt), false).unwrap();
        assert_eq!(imported.sha256(), model.sha256());
        assert!(notices.len() == 1 && notices[0].contains("64-bit floats and are rounded"), "{notices:?}");
    }
}

#[test]
fn a_tied_model_needs_one_of_its_twins_and_an_untied_one_says_what_to_set() {
    let model = small(true);
    let unembed = || tensors(&model)[EMBED].clone();
    // Either, and both if they are the same.
    let mut both = tensors(&model);
    both.insert(UNEMBED.into(), unembed());
    let mut other = both.clone();
    other.remove(EMBED);
    for named in [tensors(&model), both.clone(), other] {
        let (imported, notices) = Model::import(folder(&model, &named, true), false).unwrap();
        assert_eq!((imported.sha256(), notices), (model.sha256(), vec![]));
    }
    both.insert(UNEMBED.into(), Tensor::from(unembed().to_f32().unwrap() + 1.0));
    let text = error(&folder(&model, &both, true));
    assert!(text.contains("differs from `transformer.wte.weight`") && text.contains("tied_unembed"), "{text}");

    let untied = small(false);
    let mut dropped = tensors(&untied);
    dropped.remove(UNEMBED);
    let text = error(&folder(&untied, &dropped, false));
    assert!(text.contains("`lm_head.weight`") && text.contains("\"tied_unembed\": true"), "{text}");
}

#[test]
fn weights_that_are_not_finite_are_refused_unless_asked_for() {
    let mut model = small(false);
    model.params.logits_bias.update(|w| w[[3, 0]] = f32::NEG_INFINITY);
    let dir = folder(&model, &tensors(&model), true);
    let text = error(&dir);
    assert!(text.contains("`final_logits_bias`") && text.contains("-inf at [3]"), "{text}");
    assert!(text.contains("--allow-not-finite"), "{text}");
    let (imported, _) = Model::import(&dir, true).unwrap();
    // The token is excluded, and that is no fault.
    let tokens = Tokens::new(&[1, 2, 3], 3);
    let logits = imported.forward(tokens, None, &mut NoTap).logits;
    assert_eq!(logits[[3, 0]], f32::NEG_INFINITY);
    assert_eq!(imported.check_finite(tokens, &logits), Ok(()));
    // Our own file says that somebody asked for it.
    let path = dir.path().join("model.safetensors");
    assert!(imported.save(&path, &BTreeMap::new()).is_err() && !path.exists());
    let (key, value) = crate::WITH_NOT_FINITE;
    imported.save(&path, &BTreeMap::from([(key.to_owned(), value.to_owned())])).unwrap();
    assert_eq!(Model::load(&path).unwrap().sha256, imported.sha256());
}

#[test]
fn what_is_exported_has_all_that_load_model_asks_for() {
    let dir = tempfile::tempdir().unwrap();
    small(true).export(dir.path()).unwrap();
    let file = PtFile::open(dir.path().join("final_model.pt")).unwrap();
    for name in [EMBED, UNEMBED, POSITIONS, "final_logits_bias"] {
        assert!(file.names().any(|found| found == name), "{name}");
    }
    let mut odd = small(false);
    odd.config.n_head = 3;
    let out = dir.path().join("odd");
    assert!(odd.export(&out).is_err() && !out.exists());
}

#[test]
fn what_a_file_claims_takes_no_memory_before_it_is_compared() {
    let model = small(false);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    // A billion blocks; a sparse matrix of 2^32 columns.
    let config = Config { n_layer: 1_000_000_000, ..model.config.clone() };
    let metadata = |config: &Config| {
        let pairs = [("format", "openwork-model 1".to_owned()), ("config", config.to_published())];
        pairs.map(|(k, v)| (k.to_owned(), v)).into()
    };
    openwork_tensor::write(&path, &tensors(&model), &metadata(&config)).unwrap();
    let text = Model::load(&path).err().unwrap().to_string();
    assert!(text.contains("transformer.h.1.ln_1.weight"), "{text}");

    let mut dense = tensors(&model);
    dense.remove(EMBED);
    let wide =
        openwork_tensor::CsrTensor { rows: 24, cols: 1 << 32, row_ptr: vec![0; 25], col_idx: vec![], values: vec![] };
    let sparse = BTreeMap::from([(EMBED.to_owned(), wide)]);
    openwork_tensor::write_with_csr(&path, &dense, &sparse, &metadata(&model.config)).unwrap();
    let text = Model::load(&path).err().unwrap().to_string();
    assert!(text.contains("[24, 4294967296]") && text.contains("[24, 8]"), "{text}");
}

#[test]
fn a_weight_in_two_forms_and_a_tensor_without_a_place_are_refused() {
    let model = small(false);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let metadata = [("format", "openwork-model 1".to_owned()), ("config", model.config.to_published())];
    let metadata = metadata.map(|(k, v)| (k.to_owned(), v)).into();
    let load = |more: Vec<(&str, Tensor)>| {
        let mut named = tensors(&model);
        named.extend(more.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)));
        openwork_tensor::write(&path, &named, &metadata).unwrap();
        Model::load(&path)
    };
    assert!(load(vec![]).is_ok());
    let empty = vec![
        ("transformer.wte.weight.csr.shape", Tensor::from(ndarray::arr1(&[24_i64, 8]).into_dyn())),
        ("transformer.wte.weight.csr.row_ptr", ndarray::ArrayD::from_elem(vec![25], 0_i64).into()),
        ("transformer.wte.weight.csr.col_idx", ndarray::ArrayD::from_elem(vec![0], 0_u16).into()),
        ("transformer.wte.weight.csr.values", ndarray::ArrayD::from_elem(vec![0], 0_f32).into()),
    ];
    assert!(matches!(load(empty), Err(LoadError::TwoForms { .. })));
    let error = load(vec![("lm_head.bias", ndarray::arr1(&[1.0_f32]).into())]).err().unwrap().to_string();
    assert!(error.contains("`lm_head.bias`") && error.contains("no place"), "{error}");
}
