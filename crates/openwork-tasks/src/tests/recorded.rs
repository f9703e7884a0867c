//! Every task yields, for a seed, the pairs that it yielded when these hashes were taken.
//!
//! Circuits and verdicts name pairs by seed alone, so a change of a pair invalidates them. Hashes are [`sha256`] of pairs
//! under the encoding of the tests beside this file; taken when every task got four held-out templates, other words and longer prompts.

use super::*;

/// Pairs of the five splits, forty each for the seeds 1 and 7.
#[rustfmt::skip]
const PAIRS: [(&str, &str); 20] = [
    ("single_double_quote", "dd5d9a4b167a2b9be322cdbf153e5b76261354309c76caae9edce841e53634a2"),
    ("bracket_counting", "d2abfafe831356c049977e9ccc391f56b5853f6d42b364f8071560d513868ead"),
    ("set_or_string", "5f3fb8dfb7214de86cf4e26eee35054ba387d0d8da42285013b5c47ada33031f"),
    ("set_or_string_fixedvarname", "ba52b5d2b3ba8fddc293afc3667e17429ccfc0d3fa74a6f705fbac02d5c452a5"),
    ("for_while", "b27a16de42a6ed247cc41121645b110ae3dfe6d496abcf48104348e1f3d5e8d2"),
    ("if_equals", "22ebcd50ebe8d1956f779389baa2b8013c41a2f6ca2e1d4b378df74430060d9b"),
    ("while_return_true", "caa1cba3dfc0febda556ff5b2a246ab0effd19cf9c28ac8b788cbfded42c1f01"),
    ("final_kwarg", "c2121d71f969ba50b6158a4125a651f33ce4258757686acf095c6634a051cc60"),
    ("class_init", "6fffa55fba4f6ec90ccf7f704f195db8ac03e7e70ae0647b83b74839dcc69f6e"),
    ("with_as", "4ce7288dc468c01b81029ee5467c58aec3af58b5f5038f8d23ed54b08bdfc6a9"),
    ("bracket_brace", "810304faa3e3712e28e1895ac548f8631a67a71bca2d87dab945137aefb1b2d3"),
    ("with_open", "1b359771843ee041fff3e6be3200044d16e4c191cbfeb0830c962a1e36e81c49"),
    ("else_elif", "b427de2cd824dce70cbdf250d13303110e43568473f3de999d900f7ebec864bb"),
    ("fstring_brace", "ac35863836ba2707f21312ae613293061e3fb526d134198dba204ebf91650fb4"),
    ("if_ternary", "2a60a31ff72109e8258d848bf6b120c08b08e8a640aa6cc5d247450c7eb67df8"),
    ("var_swap", "bab7cad7c5bb3738ab5ecbd45334eeb222501d9c5ef992760c448f8056a8bad2"),
    ("indent_for", "daf61da2eb47b1f973c1a4505bd7cd70439bdd2bf949b7e01b0f8142932c13bc"),
    ("lambda_func", "38dd4faa1bc043eeabb9cdebe34537cf140aede9e104d6fd99ed9e2b146eecdb"),
    ("enumerate_range", "f4d82d6b117b599492aa3305f555795f34ccee3c761a25eefaa6c9e6051d3a4b"),
    ("var_if", "363fa3b1be6aa3154051102feaca093dc88306ca22801a8816289b542fd992b2"),
];

/// Number of pairs in every part of [`Splits`] of seed 5, and the hash of all.
#[rustfmt::skip]
const SPLIT_PAIRS: [(&str, [usize; 6], &str); 20] = [
    ("single_double_quote", [384, 128, 192, 192, 192, 192], "1e7ece02fad4200f2bd67976758dd32b13251e025872c6214e14f1efc7e10767"),
    ("bracket_counting", [384, 128, 192, 192, 192, 192], "3c70c4886a441ff6fcf27724aceb69f63c12e5d5d6e9a76023f509e7cfbcff05"),
    ("set_or_string", [384, 128, 192, 192, 192, 192], "62bad06c524e31c9b5b2862c7cc9559c98718b9b14104293dfa43d43329d82d9"),
    ("set_or_string_fixedvarname", [384, 128, 192, 192, 192, 192], "bb315de20a1cc5c4e7c18969e87b394b06c937e82b1c478f1409d0e525c21329"),
    ("for_while", [384, 128, 192, 192, 192, 192], "33900ec5419c74326ec6e46337d6e0239c8d2bf1697fb7e077eb6a3a35d90bf5"),
    ("if_equals", [384, 128, 192, 192, 192, 192], "79aec7a1c88b56bca3b845b253c14ebccb6ab8e508bb5ad6e5cf9b667c04601d"),
    ("while_return_true", [384, 128, 192, 192, 192, 192], "b8aa520be74ce60756a319336ea644a70c08198133cd635e53fcb644bda11cd0"),
    ("final_kwarg", [384, 128, 192, 192, 192, 192], "a3de9cd3e50e46d4f55017a70317c490d56a8dc240a46cb0e1e4337ddeeb83fc"),
    ("class_init", [384, 128, 192, 192, 192, 192], "adef08d01459f37aad3bfc74582bdf03ac198b12ba85d4ee79ea0ec06a18af12"),
    ("with_as", [384, 128, 192, 192, 192, 192], "df494081d62ed304a1bbc4d6da77eb5732ed6e5c498fa18dc99dcf40d0fc060a"),
    ("bracket_brace", [384, 128, 192, 192, 192, 192], "6f1f5e3b04e03146968bfa8c4fb508b950356a4574b24cf81cbe16002b80638a"),
    ("with_open", [384, 128, 192, 192, 192, 192], "6a5b2d0f22241859dc80626662423243eb5b8e4c9edc333cbe9f0a7914679213"),
    ("else_elif", [384, 128, 192, 192, 192, 192], "2e5c14e4529d5e5435cfc86a1f5c93d32b5ed81e99393de72ef4e240af9a8a63"),
    ("fstring_brace", [384, 128, 192, 192, 192, 192], "9008005b2fe808c5d3a3a39bada899f99ee21e8dcbc16ebcf567961caca85e87"),
    ("if_ternary", [384, 128, 192, 192, 192, 192], "7f45b528296a1b0c708832b9f35476e57ebc65db373da87d428bed678e61a4a8"),
    ("var_swap", [384, 128, 192, 192, 192, 192], "3f6b74c936b8fb6f29d309eff25afeca00d630163b58783d2ea4616231ab1a56"),
    ("indent_for", [384, 128, 192, 192, 192, 192], "3c917580a0d9673c532b33085827885878c4b70850dbeb3e3d731e6d80dea779"),
    ("lambda_func", [384, 128, 192, 192, 192, 192], "ade8cd055d6dca222b4da2242f7237ed218510448c6cb814c97b1540ffcd0733"),
    ("enumerate_range", [384, 128, 192, 192, 192, 192], "008c731f60fe92acb465a2404838d4cceacdaebd6eb78abb9224d0b309ba2354"),
    ("var_if", [384, 128, 192, 192, 192, 192], "da273b66b5908a2a47dbee3af284b7e2f7309891b7cd8550023b1ea7fc6711bb"),
];

#[test]
fn pairs_of_a_seed_stay_the_same() {
    for (name, hash) in PAIRS {
        let task = find(name).expect("is there");
        let draw = |split, seed| task.pairs(&toy, split, 40, seed).expect("forty pairs");
        let pairs: Vec<Pair> = SPLITS.into_iter().flat_map(|split| [draw(split, 1), draw(split, 7)].concat()).collect();
        assert_eq!(sha256(&pairs), hash, "{name}");
    }
}

#[test]
fn splits_of_a_seed_stay_the_same() {
    for (name, lengths, hash) in SPLIT_PAIRS {
        let Splits { train, selection, held_out, held_out_templates, vocabulary, lengths: long } =
            Splits::draw(find(name).expect("is there"), &toy, 256, 5).expect("enough pairs");
        let parts = [train, selection, held_out, held_out_templates, vocabulary, long];
        assert_eq!(parts.each_ref().map(Vec::len), lengths, "{name}");
        assert_eq!(sha256(&parts.concat()), hash, "{name}");
    }
}

#[test]
fn no_prompt_is_in_two_parts() {
    for task in all() {
        let splits = Splits::draw(task, &toy, 256, 9).expect("enough pairs");
        let mut owner = std::collections::HashMap::new();
        let Splits { train, selection, held_out, held_out_templates, vocabulary, lengths } = &splits;
        let parts = [train, selection, held_out, held_out_templates, vocabulary, lengths];
        for (part, pairs) in parts.into_iter().enumerate() {
            for prompt in pairs.iter().flat_map(|p| [&p.positive, &p.negative]) {
                assert_eq!(*owner.entry(prompt).or_insert(part), part, "{}: {prompt:?}", task.name());
            }
        }
    }
}
