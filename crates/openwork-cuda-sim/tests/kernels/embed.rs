use openwork_cuda_sim::{Arg, launch};
use openwork_ops::{Matrix, bigram, bigram_backward, embed, embed_backward};

use crate::{config, random, vec};

const VOCABULARY: usize = 11;
/// Rows of X are longer than there are tokens.
const STRIDE: usize = 96;
const TOKENS: usize = 70;

fn tokens() -> Vec<u16> {
    (0..TOKENS).map(|t| (t * t * 7 % VOCABULARY) as u16).collect()
}

/// The first columns of rows of [`STRIDE`].
fn columns(x: &[f32]) -> Vec<f32> {
    x.chunks(STRIDE).flat_map(|row| row[..TOKENS].to_vec()).collect()
}

fn padded(x: &Matrix) -> Vec<f32> {
    x.rows().into_iter().flat_map(|row| row.iter().copied().chain([0.0; STRIDE - TOKENS]).collect::<Vec<_>>()).collect()
}

#[test]
fn rows_are_gathered() {
    for features in [1, 32, 45] {
        let (table, mut expected) = (random(VOCABULARY, features, 1), Matrix::zeros((features, TOKENS)));
        embed(&table, &tokens(), &mut expected);
        let before = random(features, TOKENS, 2);
        for add in [0, 1] {
            let (table, token, mut x) = (vec(&table), tokens(), padded(&before));
            let mut args = [
                Arg::read(&table),
                Arg::read(&token),
                Arg::update(&mut x),
                Arg::U32(features as u32),
                Arg::U32(TOKENS as u32),
                Arg::U32(STRIDE as u32),
                Arg::U32(add),
            ];
            launch("gather_rows", config([TOKENS.div_ceil(32), features.div_ceil(32)], 256), &mut args).unwrap();
            let sum = if add == 1 { &before + &expected } else { expected.clone() };
            assert_eq!(columns(&x), vec(&sum));
        }
    }
    // The bigram table is the same look-up, added.
    let (table, mut logits) = (random(VOCABULARY, VOCABULARY, 1), random(VOCABULARY, TOKENS, 2));
    let mut expected = Matrix::zeros((VOCABULARY, TOKENS));
    embed(&table, &tokens(), &mut expected);
    expected += &logits;
    bigram(&table, &tokens(), &mut logits);
    assert_eq!(logits, expected);
}

#[test]
fn gradients_are_scattered_in_order() {
    let token = tokens();
    let mut order: Vec<usize> = (0..TOKENS).collect();
    order.sort_by_key(|&t| token[t]);
    let start: Vec<u32> =
        (0..=VOCABULARY).map(|v| token.iter().filter(|&&t| usize::from(t) < v).count() as u32).collect();
    let place: Vec<u32> = order.iter().map(|&t| t as u32).collect();
    let run = |dx: &Matrix, table: &Matrix, skip: usize| {
        let (dx, mut dtable) = (padded(dx), vec(table));
        let mut args = [
            Arg::read(&start),
            Arg::read(&place),
            Arg::read(&dx),
            Arg::update(&mut dtable),
            Arg::U32(table.ncols() as u32),
            Arg::U32(STRIDE as u32),
            Arg::U32(skip as u32),
        ];
        launch("scatter_rows", config([VOCABULARY, 1], 256), &mut args).unwrap();
        dtable
    };
    let (dx, mut table) = (random(40, TOKENS, 1), random(VOCABULARY, 40, 2));
    let found = run(&dx, &table, VOCABULARY);
    embed_backward(&dx, &token, &mut table);
    assert_eq!(found, vec(&table));
    let (dlogits, mut table) = (random(VOCABULARY, TOKENS, 1), random(VOCABULARY, VOCABULARY, 2));
    let found = run(&dlogits, &table, VOCABULARY - 1);
    bigram_backward(&dlogits, &token, &mut table);
    assert_eq!(found, vec(&table));
}
