use super::*;
use crate::Params;

#[test]
fn round_trips_and_names_what_it_ignores() {
    let config = Config {
        positions: Positions::Sinusoidal { width: 8 },
        act_density: Some(ActDensity { fraction: 0.125, sites: vec![SiteKind::AttnRead, SiteKind::Value] }),
        norm: NormKind::Layer,
        activation: Activation::Relu,
        bigram: Bigram::Fixed,
        tied_unembed: true,
        sink: true,
        d_head: 5,
        ..Config::default()
    };
    let text = config.to_published();
    assert_eq!(Config::from_published(&text), Ok((config, vec![])));
    let without = Config { norm: NormKind::None, positions: Positions::Added, ..Config::default() };
    assert_eq!(Config::from_published(&without.to_published()), Ok((without, vec![])));
    assert!(!text.contains("\"norm\""), "published norms are written as published");
    let text = text.replacen('{', "{\"pfrac\": 0.25, \"novel\": 1,", 1);
    assert_eq!(Config::from_published(&text).unwrap().1, ["novel"]);
}

/// Effect of a key of the published configuration, at two values.
enum Effect {
    /// The values give two configurations.
    Honoured(Value, Value),
    /// They give one, and no notice.
    Harmless(Value, Value),
    /// The first is read, the second is refused.
    Refused(Value, Value),
}

/// Every key of `GPTConfig` (circuit_sparsity/inference/gpt.py), then those that `load_model` takes out or renames and
/// those that published files have beside them.
fn published_keys() -> Vec<(&'static str, Effect)> {
    use Effect::{Harmless, Honoured, Refused};
    let flag = || (json!(false), json!(true));
    let honoured_flag = || Honoured(flag().0, flag().1);
    let harmless_flag = || Harmless(flag().0, flag().1);
    vec![
        ("block_size", Honoured(json!(256), json!(128))),
        ("vocab_size", Honoured(json!(2048), json!(1024))),
        ("n_layer", Honoured(json!(2), json!(3))),
        ("n_head", Honoured(json!(4), json!(2))),
        ("d_head", Honoured(json!(null), json!(8))),
        ("d_model", Honoured(json!(64), json!(32))),
        ("dropout", Harmless(json!(0.0), json!(0.5))),
        ("bias", honoured_flag()),
        ("ln_bias", honoured_flag()),
        ("rms_norm", honoured_flag()),
        ("residual_activation_type", Refused(json!("identity"), json!("relu"))),
        ("activation_type", Honoured(json!("gelu"), json!("relu"))),
        ("afrac", Honoured(json!(null), json!(0.5))),
        ("afrac_loctypes", Honoured(json!("attn_in"), json!("attn_in,mlp_neuron"))),
        ("debug_nans", harmless_flag()),
        ("tied_unembed", honoured_flag()),
        ("tokenizer_name", Harmless(json!("tinypython_2k"), json!("gpt2"))),
        ("grad_checkpointing", harmless_flag()),
        ("d_mlp", Honoured(json!(null), json!(100))),
        ("enable_bigram_table", honoured_flag()),
        ("learnable_bigram_table", honoured_flag()),
        ("d_pos_emb", Honoured(json!(null), json!(8))),
        ("dropout_cat_pos_emb", harmless_flag()),
        ("sinusoidal_cat_pos_emb", honoured_flag()),
        ("enable_sparse_kernels", harmless_flag()),
        ("flash", harmless_flag()),
        ("sink", honoured_flag()),
        ("n_mlp", Honoured(json!(null), json!(100))),
        ("use_tied_aux_matrix", Refused(json!(false), json!(true))),
        ("bigram_table_rank", Harmless(json!(null), json!(8))),
        ("pfrac", Harmless(json!(null), json!(0.25))),
        ("expansion_factor", Harmless(json!(1), json!(4))),
        ("expansion_factor_mlp", Harmless(json!(null), json!(4))),
        ("afrac_approx", harmless_flag()),
        ("debug_exact_topk", harmless_flag()),
        ("ignore_dw_grad", harmless_flag()),
        ("sparse_matmul_impl", Harmless(json!("cuda"), json!("torch"))),
        ("rtopk", harmless_flag()),
    ]
}

#[test]
fn every_published_key_is_honoured_or_harmless_or_refused() {
    let base = json!({"block_size": 256, "vocab_size": 2048, "n_layer": 2, "n_head": 4, "d_model": 64, "afrac": 0.25,
        "d_pos_emb": 4, "enable_bigram_table": true, "rms_norm": false});
    let read = |key: &str, value: &Value| {
        let mut keys = base.clone();
        keys[key] = value.clone();
        Config::from_published(&keys.to_string())
    };
    let keys = published_keys();
    for (key, effect) in &keys {
        match effect {
            Effect::Honoured(a, b) => {
                let [(a, ignored), (b, _)] = [a, b].map(|value| read(key, value).unwrap());
                assert!(a != b && ignored.is_empty(), "{key}");
            }
            Effect::Harmless(a, b) => {
                assert_eq!(read(key, a).unwrap(), read(key, b).unwrap(), "{key}");
                assert_eq!(read(key, b).unwrap().1, Vec::<String>::new(), "{key}");
                assert!(NO_EFFECT.iter().any(|(name, _)| name == key), "{key} is in no list");
            }
            Effect::Refused(a, b) => {
                assert!(read(key, a).is_ok(), "{key}");
                assert!(read(key, b).unwrap_err().to_string().contains(key));
            }
        }
    }
    // The list has all that is written, and all that is passed over.
    let listed = |key: &str| keys.iter().any(|(name, _)| *name == key);
    let written: Map<String, Value> = serde_json::from_str(&Config::default().to_exported().unwrap()).unwrap();
    assert!(written.keys().all(|key| listed(key)) && NO_EFFECT.iter().all(|(key, _)| listed(key)));
}

#[test]
fn keys_that_are_left_out_have_the_defaults_of_the_original() {
    let text = r#"{"block_size": 8, "vocab_size": 9, "n_layer": 1, "n_head": 2, "d_model": 8, "afrac": 0.5}"#;
    let (config, ignored) = Config::from_published(text).unwrap();
    let sites = vec![SiteKind::AttnRead, SiteKind::AttnWrite, SiteKind::MlpRead, SiteKind::MlpWrite];
    let expected = Config {
        vocab_size: 9,
        n_ctx: 8,
        n_layer: 1,
        n_head: 2,
        d_head: 4,
        d_model: 8,
        d_mlp: 32,
        norm: NormKind::Layer,
        act_density: Some(ActDensity { fraction: 0.5, sites }),
        positions: Positions::Added,
        bigram: Bigram::None,
        tied_unembed: true,
        ..Config::default()
    };
    assert_eq!((config, ignored), (expected, vec![]));
}

#[test]
fn only_what_the_original_accepts_is_exported() {
    let odd = Config { n_head: 3, ..Config::default() };
    let error = odd.to_exported().unwrap_err().to_string();
    assert!(error.contains("d_model % n_head == 0") && error.contains("64 and 3"), "{error}");
    let none = Config { norm: NormKind::None, ..Config::default() };
    assert!(none.to_exported().unwrap_err().to_string().contains("no norms"));
    // `load_model` pops these without a default.
    let keys: Map<String, Value> = serde_json::from_str(&Config::default().to_exported().unwrap()).unwrap();
    assert!(keys.contains_key("bigram_table_rank") && keys.contains_key("pfrac"));
}

#[test]
fn parameters_are_counted_without_memory_for_them() {
    let config = Config { n_layer: 3, positions: Positions::Concat { width: 4 }, sink: true, ..Config::default() };
    let all = Params::build(&config, |_, [rows, cols]| (rows * cols) as u128).into_values();
    assert_eq!(config.n_parameters(), all.into_iter().sum::<u128>());
    let huge = Config { n_layer: (1 << 31) - 1, d_mlp: (1 << 31) - 1, ..Config::default() };
    assert!(huge.n_parameters() > 1 << 67);
}

#[test]
fn what_is_wrong_is_named() {
    let text = Config::default().to_published();
    let error = |from: &str, to: &str| Config::from_published(&text.replacen(from, to, 1)).unwrap_err().to_string();
    assert_eq!(error("\"n_layer\"", "\"layers\""), "the configuration lacks `n_layer`");
    assert_eq!(error("\"gelu\"", "\"swish\""), "`activation_type` is \"swish\"; expected gelu or relu");
    assert_eq!(
        error("\"n_head\": 4", "\"n_head\": -4"),
        "`n_head` is -4; expected a positive whole number below 2147483648"
    );
    let norm = |name: &str| error("\"rms_norm\": true", &format!("\"rms_norm\": false, \"norm\": {name}"));
    assert!(norm("\"no\"").starts_with("`norm` is \"no\"; expected none (leave"));
    assert!(error("\"rms_norm\"", "\"norm\": \"none\", \"rms_norm\"").contains("beside `rms_norm`"));
    assert!(error("attn_in,", "attn_ni,").starts_with("`afrac_loctypes` is \"attn_ni\""));
    assert!(error("\"identity\"", "\"relu\"").starts_with("`residual_activation_type`"));
    assert!(error("attn_in,", "attn_in, ").starts_with("`afrac_loctypes` is \" attn_q\""));
    assert!(error("\"afrac\": 0.25", "\"afrac\": 1.5").contains("up to 1"));
    assert!(error("\"afrac\": 0.25", "\"afrac\": 1e-9").contains("keeps no feature of the 64 at attn_in"));
    assert!(error("2048", "65537").contains("16 bits"));
    assert!(error("\"block_size\": 256", "\"block_size\": 2147483647").contains("at most 1048576"));
    assert!(error("\"d_mlp\"", "\"n_mlp\": 7, \"d_mlp\"").contains("`n_mlp` is 7"));
    let text = text.replacen("\"d_head\": 16", "\"d_head\": null", 1).replacen("\"n_head\": 4", "\"n_head\": 5", 1);
    assert!(Config::from_published(&text).unwrap_err().to_string().contains("divisor of d_model"));
}
