//! Look-ups by token and position, and the scatters that are their backward.

use crate::Matrix;

/// `x[:, t] = table[token_t, :]`: `table [vocab, d]`, `x [≥ d, tokens]`, the first `d` rows overwritten.
pub fn embed(table: &Matrix, tokens: &[u16], x: &mut Matrix) {
    for (f, column) in table.columns().into_iter().enumerate() {
        for (x, &token) in x.row_mut(f).iter_mut().zip(tokens) {
            *x = column[usize::from(token)];
        }
    }
}

/// `dtable[token_t, :] += dx[:, t]`, tokens in order.
pub fn embed_backward(dx: &Matrix, tokens: &[u16], dtable: &mut Matrix) {
    for (f, mut column) in dtable.columns_mut().into_iter().enumerate() {
        for (dx, &token) in dx.row(f).iter().zip(tokens) {
            column[usize::from(token)] += dx;
        }
    }
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

/// Rows are copied in blocks of this many columns, so that both sides stay in cache.
const BLOCK: usize = 32;

/// `logits[:, t] += table[token_t, :]` (the bigram table): `table, logits [vocab, ..]`.
pub fn bigram(table: &Matrix, tokens: &[u16], logits: &mut Matrix) {
    for t0 in (0..tokens.len()).step_by(BLOCK) {
        let block = &tokens[t0..tokens.len().min(t0 + BLOCK)];
        let rows: Vec<&[f32]> = block.iter().map(|&token| crate::row(table, usize::from(token))).collect();
        for (v, mut out) in logits.rows_mut().into_iter().enumerate() {
            for (i, row) in rows.iter().enumerate() {
                out[t0 + i] += row[v];
            }
        }
    }
}

/// `dtable[token_t, :] += dlogits[:, t]`, except for the last row of the table: the published look-up
/// names index −1 as padding, which wraps to the last token and takes no gradient.
pub fn bigram_backward(dlogits: &Matrix, tokens: &[u16], dtable: &mut Matrix) {
    let padding = dtable.nrows() - 1;
    let mut block = vec![0.0_f32; BLOCK * dlogits.nrows()];
    let vocab = dlogits.nrows();
    for t0 in (0..tokens.len()).step_by(BLOCK) {
        let tokens = &tokens[t0..tokens.len().min(t0 + BLOCK)];
        for (v, row) in dlogits.rows().into_iter().enumerate() {
            for i in 0..tokens.len() {
                block[i * vocab + v] = row[t0 + i];
            }
        }
        for (i, &token) in tokens.iter().enumerate() {
            if usize::from(token) != padding {
                let out = crate::row_mut(dtable, usize::from(token));
                out.iter_mut().zip(&block[i * vocab..(i + 1) * vocab]).for_each(|(d, &g)| *d += g);
            }
        }
    }
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
