//! Every task yields, for a seed, the pairs that it yielded when these hashes were taken.
//!
//! Circuits and verdicts name pairs by seed alone, so a change of a pair invalidates them. Hashes are [`sha256`] of pairs
//! under the encoding of the tests beside this file; taken before the words of prompts and programs became one pool.

use super::*;

/// Pairs of the three splits, forty each for the seeds 1 and 7.
#[rustfmt::skip]
const PAIRS: [(&str, &str); 20] = [
    ("single_double_quote", "75877addef5e2a7f9668f75755c9cc51f1e474cc6844866a83b61315bd538c26"),
    ("bracket_counting", "856f228b88cd153af5c872d09295ff2d4a1e720a8cba0625426524165ee0e03c"),
    ("set_or_string", "031dd6a926404fc6490e264cfef585238818c33ca832b78c0363d81d43b90f7e"),
    ("set_or_string_fixedvarname", "3bf8f4516d50aca7c9cf677aaf52aaefa4d7841a9bd325933b51e6ceb8e38608"),
    ("for_while", "6f8ff21542043ae0f8ec2913f8b979745760cbc1d0da2255c2850a68e46f320a"),
    ("if_equals", "5987a962e7646e7014e884023ad00a4041422cc83c52019b82e01a557610e215"),
    ("while_return_true", "a2e752514b769d1729cc44bd8d17ca252810769e9df37d9d8c752bac7a45c6d9"),
    ("final_kwarg", "1c3c3781980ac75a41d8707ca3249bfcbe014a2ac655d81400e74f2af96820b2"),
    ("class_init", "48fba90d2b25779d644b8aeda9b6a23fc0aca6e9ca09d48d648d9714b8bc5f25"),
    ("with_as", "696d35a2a0102e990025dd4fd22025dd73398e1d7a452282330a514cc746d2b9"),
    ("bracket_brace", "4fa077d15c3801d1dba96aa5acaab5555b8b7b40fb0878335ed2b8235add1bef"),
    ("with_open", "276279c99119eb183da06ace71e9f34d79f00d5dab91a9822dca771c8f7acc10"),
    ("else_elif", "efb01ad6411336a26e01a42e5901ebb01805facea2d6b9d548057d2d6998532e"),
    ("fstring_brace", "4050e015e70880b9dea01f4ecf53250dd5f9ecd40d44758ac9fb0bd1d56b8aba"),
    ("if_ternary", "72141060c5d9103e41084e765638632514e2ee0f75d911995b74a001b9cc89ba"),
    ("var_swap", "9d25476712a552321732a8460a4f23e40f1469b6115002ccddc62db1d7157e10"),
    ("indent_for", "503c39b1490df55de635b1d97099aee9de36b7f95b5ac545d5c2af7dffa047b5"),
    ("lambda_func", "f77331e52672f224bc8d9ee62aa5535fdbf230ac45a03cb8e61b25a288c0d973"),
    ("enumerate_range", "65a8e42b911f05bc015b45b05ab2081eb07b599ce131b5e0bfdbf2661b27d496"),
    ("var_if", "bf7b4b8084b63b4a34fcb96d5c84c84100f5c1c08abd6018684f9311a530009f"),
];

/// Number of pairs in every part of [`Splits`] of seed 5, and the hash of all.
#[rustfmt::skip]
const SPLIT_PAIRS: [(&str, [usize; 5], &str); 20] = [
    ("single_double_quote", [384, 128, 192, 192, 94], "bf4c9b0290b611e09fd424aa341e5e458e4a873af305da510ee95637e9754028"),
    ("bracket_counting", [384, 128, 192, 192, 117], "0a990e10bf68b532577b86bd7f2be3517217353b6c3998137ea8529eaa6eb25d"),
    ("set_or_string", [384, 128, 192, 192, 86], "80595476e4c59d927178373d4207629257aa3bc08f9e0b043d88956ee56b7b80"),
    ("set_or_string_fixedvarname", [384, 128, 192, 192, 44], "56ff49e35298b0c61fc88a6371aabd118b25bd6f10732784b39ea72f33955b6b"),
    ("for_while", [384, 128, 192, 192, 167], "5def0f09f6a4006888ac24a635511be8835c7dd934a87c9ed3b658dea1bde2a5"),
    ("if_equals", [384, 128, 192, 192, 54], "bd66cb4bc035da242d89b4cd5c149142d270f3cf79526c1915b7e8ec31effde6"),
    ("while_return_true", [384, 128, 192, 192, 76], "aaffcf82d8b7936e009b063ca975ca0e37751686451a94a8f571d42bba9c578e"),
    ("final_kwarg", [384, 128, 192, 192, 71], "960af5df34a0cc17f0002ef141c69a604df785f68a3d8946a026c1c9a87aee4f"),
    ("class_init", [384, 128, 192, 192, 143], "8f9429c4937a84ba4400f72b726cd8b820054e6f6e1cabfe518f91889c4fcffd"),
    ("with_as", [384, 128, 192, 192, 64], "6547841bfeab32471a40eb727dab95b100253540346e29340f22b48e68e09db5"),
    ("bracket_brace", [384, 128, 192, 192, 72], "e5f45f75a15a308a220e690b75997f9a267158767afe9317665f51628bb71692"),
    ("with_open", [384, 128, 176, 192, 142], "dd5007dd44b15c7b51e787d05a8e79d14390d96efc760dc889f1a3a0e21e81bf"),
    ("else_elif", [384, 128, 192, 192, 91], "d624eee5ec18b63d6bfc96aace266a655dafc0e6a331eac5541c77261aceac10"),
    ("fstring_brace", [384, 128, 192, 192, 79], "1a80e4879905d6552df19fbad79b9ffd2c309199512bd08be61acebbba7f5f6c"),
    ("if_ternary", [384, 128, 172, 192, 39], "1ac5afeea97925703b8e31893f2f88543f5eed71001f9e3bf87308e4f31b50e7"),
    ("var_swap", [384, 128, 192, 192, 191], "f42e5dc8668c0c6582f09aea5da7f3c19b942795ecb968eeb8392526b2ae5bd6"),
    ("indent_for", [384, 128, 192, 192, 0], "8d94994a9fc180ae3037302be952ed3d2c2d4c317542b302a68cb6e948a6cc73"),
    ("lambda_func", [384, 128, 192, 192, 32], "1e6604f8c7fcff96d445a5129193bd0dfa290691924d2dc40e02e1756612089f"),
    ("enumerate_range", [384, 128, 192, 192, 50], "62106e340f8bef34bc2a40c3369c91abb1b7d37220f2fdc48d50473b94cf2ae3"),
    ("var_if", [384, 128, 192, 192, 54], "61e00210220ccf760bbe911f9191d4ae05b5d786781c7a7c7bd766807a6faad9"),
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
        let Splits { train, selection, held_out, held_out_templates, lengths: long } =
            Splits::draw(find(name).expect("is there"), &toy, 5).expect("enough pairs");
        let parts = [train, selection, held_out, held_out_templates, long];
        assert_eq!(parts.each_ref().map(Vec::len), lengths, "{name}");
        assert_eq!(sha256(&parts.concat()), hash, "{name}");
    }
}

#[test]
fn no_prompt_is_in_two_parts() {
    for task in all() {
        let splits = Splits::draw(task, &toy, 9).expect("enough pairs");
        let mut owner = std::collections::HashMap::new();
        let parts = [&splits.train, &splits.selection, &splits.held_out, &splits.held_out_templates, &splits.lengths];
        for (part, pairs) in parts.into_iter().enumerate() {
            for prompt in pairs.iter().flat_map(|p| [&p.positive, &p.negative]) {
                assert_eq!(*owner.entry(prompt).or_insert(part), part, "{}: {prompt:?}", task.name());
            }
        }
    }
}
