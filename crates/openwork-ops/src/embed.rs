//! Look-ups by token and position, and the scatters that are their backward.

use openwork_sparse::{Panel, PanelMut, transpose};

use crate::{Matrix, row, row_mut, simd};

/// Tokens of a block: rows of a table are gathered or scattered as they lie, and the block is transposed
/// in between while it is in the cache.
const BLOCK: usize = 32;

/// Calls `f(columns, block [tokens, features])` for blocks of `x [≥ features, tokens]`, transposed.
fn transposed_blocks(x: &Matrix, features: usize, mut f: impl FnMut(std::ops::Range<usize>, &[f32])) {
    let n = x.ncols();
    let x = x.as_slice().expect("row-major");
    let mut block = vec![0.0; BLOCK * features];
    for t0 in (0..n).step_by(BLOCK) {
        let width = BLOCK.min(n - t0);
        let block = &mut block[..width * features];
        transpose(Panel::new(&x[t0..], [features, width], n), PanelMut::new(block, [width, features], features));
        f(t0..t0 + width, block);
    }
}

/// Calls `f(v, columns, values)` for every row v and block of columns of the matrix whose columns are the
/// rows of `table` that `tokens` name.
fn gathered_rows(table: &Matrix, tokens: &[u16], mut f: impl FnMut(usize, usize, &[f32])) {
    let features = table.ncols();
    let (mut gathered, mut block) = (vec![0.0; BLOCK * features], vec![0.0; BLOCK * features]);
    for (i, tokens) in tokens.chunks(BLOCK).enumerate() {
        let width = tokens.len();
        for (to, &token) in gathered.chunks_exact_mut(features).zip(tokens) {
            to.copy_from_slice(row(table, usize::from(token)));
        }
        let block = &mut block[..width * features];
        transpose(Panel::new(&gathered, [width, features], features), PanelMut::new(block, [features, width], width));
        block.chunks_exact(width).enumerate().for_each(|(v, values)| f(v, i * BLOCK, values));
    }
}

/// Adds a row of a block to the row of a table.
fn add(values: &[f32], to: &mut [f32]) {
    simd(
        #[inline(always)]
        || to.iter_mut().zip(values).for_each(|(to, x)| *to += x),
    );
}

/// `x[:, t] = table[token_t, :]`: `table [vocab, d]`, `x [≥ d, tokens]`, the first `d` rows overwritten.
pub fn embed(table: &Matrix, tokens: &[u16], x: &mut Matrix) {
    gathered_rows(table, tokens, |f, t0, values| row_mut(x, f)[t0..t0 + values.len()].copy_from_slice(values));
}

/// `dtable[token_t, :] += dx[:, t]`, tokens in order.
pub fn embed_backward(dx: &Matrix, tokens: &[u16], dtable: &mut Matrix) {
    let features = dtable.ncols();
    transposed_blocks(dx, features, |columns, block| {
        for (&token, values) in tokens[columns].iter().zip(block.chunks_exact(features)) {
            add(values, row_mut(dtable, usize::from(token)));
        }
    });
}

/// `x[:, t] += table[position_t, :]`, the position being the token's place in its sequence.
pub fn position(table: &Matrix, seq_len: usize, x: &mut Matrix) {
    for (f, column) in table.columns().into_iter().enumerate() {
        for (t, x) in x.row_mut(f).iter_mut().enumerate() {
            *x += column[t % seq_len];
        }
    }
}

/// `dtable[position_t, :] += dx[:, t]`.
pub fn position_backward(dx: &Matrix, seq_len: usize, dtable: &mut Matrix) {
    for (f, mut column) in dtable.columns_mut().into_iter().enumerate() {
        for (t, dx) in dx.row(f).iter().enumerate() {
            column[t % seq_len] += dx;
        }
    }
}

/// `logits[:, t] += table[token_t, :]` (the bigram table): `table, logits [vocab, ..]`.
pub fn bigram(table: &Matrix, tokens: &[u16], logits: &mut Matrix) {
    gathered_rows(table, tokens, |v, t0, values| add(values, &mut row_mut(logits, v)[t0..t0 + values.len()]));
}

/// `dtable[token_t, :] += dlogits[:, t]`, except for the last row of the table: the published look-up
/// names index −1 as padding, which wraps to the last token and takes no gradient.
pub fn bigram_backward(dlogits: &Matrix, tokens: &[u16], dtable: &mut Matrix) {
    let (padding, vocab) = (dtable.nrows() - 1, dlogits.nrows());
    transposed_blocks(dlogits, vocab, |columns, block| {
        for (&token, values) in tokens[columns].iter().zip(block.chunks_exact(vocab)) {
            if usize::from(token) != padding {
                add(values, row_mut(dtable, usize::from(token)));
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{gradient, random};

    const TOKENS: [u16; 7] = [3, 0, 3, 4, 1, 1, 3];

    #[test]
    fn embed_and_its_gradient() {
        let (table, dy) = (random(5, 4, 1), random(4, 7, 2));
        let plain = |table: &ndarray::Array2<f64>| {
            ndarray::Array2::from_shape_fn((4, 7), |(f, t)| table[[usize::from(TOKENS[t]), f]])
        };
        let mut x = Matrix::ones((4, 7));
        embed(&table, &TOKENS, &mut x);
        assert_eq!(x.mapv(f64::from), plain(&table.mapv(f64::from)));
        let mut grad = Matrix::zeros((5, 4));
        embed_backward(&dy, &TOKENS, &mut grad);
        gradient(&grad, &table.mapv(f64::from), &dy, plain);
    }

    #[test]
    fn position_and_its_gradient() {
        let (table, dy) = (random(5, 4, 1), random(4, 6, 2));
        let plain = |table: &ndarray::Array2<f64>| ndarray::Array2::from_shape_fn((4, 6), |(f, t)| table[[t % 3, f]]);
        let mut x = Matrix::zeros((4, 6));
        position(&table, 3, &mut x);
        assert_eq!(x.mapv(f64::from), plain(&table.mapv(f64::from)));
        let mut grad = Matrix::zeros((5, 4));
        position_backward(&dy, 3, &mut grad);
        gradient(&grad, &table.mapv(f64::from), &dy, plain);
    }

    #[test]
    fn bigram_and_its_gradient() {
        let tokens: Vec<u16> = (0..70).map(|t| t * 7 % 5).collect();
        let (table, dy) = (random(5, 5, 1), random(5, 70, 2));
        let plain = |table: &ndarray::Array2<f64>| {
            ndarray::Array2::from_shape_fn((5, 70), |(v, t)| table[[usize::from(tokens[t]), v]])
        };
        let mut x = Matrix::zeros((5, 70));
        bigram(&table, &tokens, &mut x);
        assert_eq!(x.mapv(f64::from), plain(&table.mapv(f64::from)));
        let mut grad = Matrix::zeros((5, 5));
        bigram_backward(&dy, &tokens, &mut grad);
        assert!(grad.row(4).iter().all(|&g| g == 0.0), "the padding row takes no gradient");
        let mut masked = dy.clone();
        (0..70).filter(|&t| tokens[t] == 4).for_each(|t| masked.column_mut(t).fill(0.0));
        gradient(&grad, &table.mapv(f64::from), &masked, plain);
    }
}
