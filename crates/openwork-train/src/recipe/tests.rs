use super::*;

#[test]
fn shipped_recipes_load_and_say_what_their_names_promise() {
    for (name, text) in SHIPPED {
        let recipe = Recipe::parse(text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let end = recipe.schedule.steps - 1;
        assert!(recipe.schedule.matrix_density(end) < 0.5, "{name} is weight-sparse");
        match name {
            "python-small" => {
                let quickstart = Recipe::parse(SHIPPED[0].1).unwrap();
                assert_eq!(recipe.config, quickstart.config);
                assert_eq!(recipe.schedule.steps, 2 * quickstart.schedule.steps);
            }
            "python-1x" => assert_eq!(recipe.config.d_model, 256),
            "gao-4x" => {
                assert_eq!((recipe.config.d_model, recipe.config.n_layer), (1024, 8));
                assert_eq!(recipe.schedule.matrix_density(end), 1.0 / 64.0);
                assert_eq!(recipe.schedule.embed_density(end), 1.0 / 16.0);
            }
            _ => (),
        }
    }
}

#[test]
fn line_endings_and_comments_make_no_other_recipe() {
    let text = SHIPPED[0].1;
    let recipe = |text: &str| Recipe::parse(text).unwrap().canonical();
    let windows = text.replace('\n', "\r\n") + "# a remark\r\n";
    assert_eq!(recipe(&windows), recipe(text));
    assert_ne!(recipe(&text.replacen("seed = 0", "seed = 1", 1)), recipe(text));
    let spaced = text.replacen("seed = 0", "seed   =   0   # the first", 1);
    assert_eq!(recipe(&spaced), recipe(text));
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    let text = SHIPPED[0].1;
    let error = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        Recipe::parse(&text.replacen(from, to, 1)).unwrap_err().to_string()
    };
    let unknown = error("sharkfin =", "shark =");
    assert!(unknown.contains("shark") && unknown.contains("line"), "{unknown}");
    let missing = error("sharkfin = true", "");
    assert!(missing.contains("missing field `sharkfin`") && missing.contains("line"), "{missing}");
    assert!(error("anneal_stop = 0.5", "anneal_stop = 5").contains("anneal_stop is 5"));
    assert!(error("regrow = 0.0", "regrow = 0.5").contains("belong to gradient"));
    assert!(error("regrow = 0.0", "regrow = 1.5").contains("regrow is 1.5"));
    let support = text.replacen("gradient = \"exact\"", "gradient = \"support\"", 1);
    assert!(Recipe::parse(&support).is_ok());
    let bf16 = Recipe::parse(&text.replacen("lanes = ", "activations = \"bf16\"\nlanes = ", 1)).unwrap();
    assert_eq!(bf16.schedule.dtype, ActivationDtype::Bf16);
    assert_eq!(Recipe::parse(text).unwrap().schedule.dtype, ActivationDtype::F32);
    assert!(error("seed = 0", "seed = -1").contains("line"));
}

/// The error of the quickstart's recipe with one line changed: `key` of `table` has another value.
fn error_with(key: &str, value: &str) -> String {
    let mut table = String::new();
    let lines = SHIPPED[0].1.lines().map(|line| {
        if let Some(name) = line.strip_prefix('[') {
            table = format!("{}.", name.trim_end_matches(']'));
        }
        match line.split_once('=').map(|(name, _)| format!("{table}{}", name.trim())) {
            Some(name) if name == key => format!("{} = {value}", &name[table.len()..]),
            _ => line.to_owned(),
        }
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    assert!(text.contains(&format!("= {value}")), "{key}");
    match Recipe::parse(&text) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{key} = {value} is accepted"),
    }
}

#[test]
fn every_number_of_a_recipe_has_a_range_and_the_error_has_its_line() {
    let numbers: Vec<(String, bool)> = {
        let table: toml::Table = SHIPPED[0].1.parse().unwrap();
        let of = |(table, keys): (&String, &toml::Value)| {
            let numbers =
                keys.as_table().into_iter().flatten().filter(|(_, value)| value.is_integer() || value.is_float());
            numbers.map(|(key, value)| (format!("{table}.{key}"), value.is_float())).collect::<Vec<_>>()
        };
        table.iter().flat_map(of).collect()
    };
    assert_eq!(numbers.len(), 29);
    // Accepted at 0 beside the other values of this recipe, with the reason.
    let zero = [
        ("model.position_channels", "its value here"),
        ("optimizer.warmup_fraction", "no warm-up"),
        ("optimizer.beta1", "no momentum"),
        ("optimizer.beta2", "the square of the last gradient"),
        ("optimizer.weight_decay", "no decay"),
        ("sparsity.anneal_start", "from the first step on"),
        ("sparsity.min_per_unit", "no floor"),
        ("sparsity.refresh_every", "its value here"),
        ("sparsity.regrow", "its value here"),
    ];
    for (key, float) in &numbers {
        let absurd: &[&str] = match float {
            true => &["nan", "inf", "-inf", "-1.0", "1e300", "-0.5"],
            false => &["-1", "9223372036854775807", "4611686018427387904"],
        };
        for value in absurd.iter().copied().chain((!zero.iter().any(|(zero, _)| zero == key)).then_some(if *float {
            "0.0"
        } else {
            "0"
        })) {
            // Any number of steps is a rhythm, and the seed is any number.
            if matches!(key.as_str(), "run.validation_every" | "run.checkpoint_every")
                && value.starts_with(|c: char| c != '-' && c != '0')
            {
                continue;
            }
            let error = error_with(key, value);
            let line = 1 + SHIPPED[0]
                .1
                .lines()
                .position(|line| line.split('=').next().unwrap().trim() == key.split('.').nth(1).unwrap())
                .unwrap();
            assert!(error.contains(&format!("line {line}")), "{key} = {value}: {error}");
        }
    }
}

#[test]
fn what_makes_no_model_is_named() {
    for (key, value, words) in [
        ("model.act_density", "0.001", "keeps no feature of the 128 at attn_in"),
        ("model.d_mlp", "3", "keeps no feature of the 3 at mlp_neuron"),
        ("model.vocab_size", "1", "from 2 to 65536"),
        ("model.n_layer", "1000000000", "parameters"),
        ("batch.sequences", "1000000000", "tokens in a step"),
        ("batch.lanes", "100000", "at most 4096"),
        ("batch.chunk_sequences", "65", "batch.sequences is 64"),
        ("sparsity.pfrac", "1e-9", "keeps no entry of `transformer.wte.weight`"),
        ("optimizer.weight_decay", "100.0", "1 / optimizer.peak_lr"),
        ("optimizer.beta1", "2.0", "from 0 to below 1"),
    ] {
        let error = error_with(key, value);
        assert!(error.contains(words) && error.contains("line "), "{key} = {value}: {error}");
    }
}
