//! The forward pass in f64, token by token, with a look at every node.
//!
//! `x = embed; per block: x += write(attention(read(x))); x += write(mlp(read(x)));
//! logits = unembed(norm(x)) + bigram[token] + bias`, where a read is a norm, AbsTopK, and the nodes.

use crate::model::{Activation, Linear, Model, Norm, NormKind, Sparse};

/// Sees and may change the nodes of one kind at one token: `(token, number of the first node, values)`.
pub type Edit<'a> = dyn FnMut(usize, usize, &mut [f64]) + 'a;

/// Keys and values of the tokens so far, of one layer.
#[derive(Default)]
struct Past {
    keys: Vec<Vec<f64>>,
    values: Vec<Vec<f64>>,
}

impl Model {
    /// Logits at the last token of a prompt.
    pub fn logits(&self, prompt: &[usize], edit: &mut Edit<'_>) -> Vec<f64> {
        let mut past: Vec<Past> = self.blocks.iter().map(|_| Past::default()).collect();
        let mut x = Vec::new();
        for (t, &token) in prompt.iter().enumerate() {
            x = dense(&self.embed.0[token], self.d_model());
            let mut beside = Vec::new();
            match &self.position {
                Some((table, true)) => add(&mut x, &dense(&table.0[t], self.d_model())),
                Some((table, false)) => beside = dense(&table.0[t], self.widths[0] - self.d_model()),
                None => (),
            }
            for (layer, past) in past.iter_mut().enumerate() {
                self.block(layer, t, &mut x, &beside, past, edit);
            }
        }
        let h = self.normalise(&self.final_norm, &x);
        let last = *prompt.last().expect("a prompt has tokens");
        let mut logits = product(self.unembed.as_ref().unwrap_or(&self.embed), &h);
        logits.iter_mut().zip(self.logits_bias.iter().flatten()).for_each(|(l, b)| *l += b);
        if let Some(table) = &self.bigram {
            add(&mut logits, &dense(&table.0[last], self.vocab));
        }
        logits
    }

    fn block(&self, layer: usize, t: usize, x: &mut [f64], beside: &[f64], past: &mut Past, edit: &mut Edit<'_>) {
        let block = &self.blocks[layer];
        let mut site = |kind: usize, mut value: Vec<f64>| {
            if let Some(k) = self.top_k[kind] {
                abs_top_k(k, &mut value);
            }
            edit(t, self.first_node(layer, kind), &mut value);
            value
        };
        let read = |norm: &Norm, pos_norm: &Option<Norm>, x: &[f64]| {
            let mut read = self.normalise(norm, x);
            read.extend(pos_norm.iter().flat_map(|norm| self.normalise(norm, beside)));
            read
        };
        let h = site(0, read(&block.attn_norm, &block.attn_pos_norm, x));
        let mut qkv = linear(&block.qkv, &h);
        let (value, key) = (qkv.split_off(2 * self.widths[1]), qkv.split_off(self.widths[1]));
        let query = site(1, qkv);
        past.keys.push(site(2, key));
        past.values.push(site(3, value));
        let mixed = self.attend(&query, past, block.sink.as_deref());
        add(x, &site(4, linear(&block.attn_out, &mixed)));
        let h = site(5, read(&block.mlp_norm, &block.mlp_pos_norm, x));
        let neurons = linear(&block.fc, &h).into_iter().map(|z| activate(self.activation, z)).collect();
        let neurons = site(6, neurons);
        add(x, &site(7, linear(&block.proj, &neurons)));
    }

    /// Per head the average of the values, weighted by the softmax of `q·k / √d_head`; a sink is a key of its own
    /// logit and zero value.
    fn attend(&self, query: &[f64], past: &Past, sink: Option<&[f64]>) -> Vec<f64> {
        let mut mixed = vec![0.0; query.len()];
        for head in 0..self.n_head {
            let rows = head * self.d_head..(head + 1) * self.d_head;
            let score = |key: &Vec<f64>| {
                let dot: f64 = rows.clone().map(|r| query[r] * key[r]).sum();
                dot / (self.d_head as f64).sqrt()
            };
            let scores: Vec<f64> = past.keys.iter().map(score).collect();
            let sink = sink.map(|s| s[head]);
            let largest = scores.iter().copied().chain(sink).fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
            let total = weights.iter().sum::<f64>() + sink.map_or(0.0, |s| (s - largest).exp());
            for r in rows {
                mixed[r] = weights.iter().zip(&past.values).map(|(w, v)| w / total * v[r]).sum();
            }
        }
        mixed
    }

    fn normalise(&self, norm: &Norm, x: &[f64]) -> Vec<f64> {
        let n = x.len() as f64;
        let (mean, eps) = match self.norm {
            NormKind::Layer => (x.iter().sum::<f64>() / n, f64::from(1e-5_f32)),
            NormKind::Rms | NormKind::None => (0.0, f64::from(f32::EPSILON)),
        };
        let scale = match self.norm {
            NormKind::None => 1.0,
            _ => (x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n + eps).sqrt(),
        };
        let bias = |i: usize| norm.bias.as_ref().map_or(0.0, |b| b[i]);
        x.iter().enumerate().map(|(i, x)| norm.gain[i] * (x - mean) / scale + bias(i)).collect()
    }
}

/// Keeps the k largest magnitudes, of equal ones those of lower index.
pub fn abs_top_k(k: usize, x: &mut [f64]) {
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|&a, &b| x[b].abs().total_cmp(&x[a].abs())); // stable
    order.iter().skip(k).for_each(|&i| x[i] = 0.0);
}

pub fn activate(f: Activation, x: f64) -> f64 {
    match f {
        Activation::Gelu => x * normal_cdf(x),
        Activation::Relu => x.max(0.0),
    }
}

/// Φ(x) = ½ + φ(x) (x + x³/3 + x⁵/(3·5) + …), Marsaglia 2004; beyond 8 it is 0 or 1 to 1e-15.
pub fn normal_cdf(x: f64) -> f64 {
    if x.abs() > 8.0 {
        return if x > 0.0 { 1.0 } else { 0.0 };
    }
    let (mut sum, mut before, mut term, mut i) = (x, 0.0, x, 1.0);
    while sum != before {
        before = sum;
        i += 2.0;
        term *= x * x / i;
        sum += term;
    }
    0.5 + sum * (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

fn linear(l: &Linear, x: &[f64]) -> Vec<f64> {
    let mut y = product(&l.weight, x);
    y.iter_mut().zip(l.bias.iter().flatten()).for_each(|(y, b)| *y += b);
    y
}

fn product(w: &Sparse, x: &[f64]) -> Vec<f64> {
    w.0.iter().map(|row| row.iter().map(|&(i, w)| w * x[i]).sum()).collect()
}

fn dense(row: &[(usize, f64)], len: usize) -> Vec<f64> {
    let mut x = vec![0.0; len];
    row.iter().for_each(|&(i, w)| x[i] = w);
    x
}

fn add(x: &mut [f64], y: &[f64]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_cases_by_hand() {
        let mut x = [1.0, -3.0, 3.0, -1.0, 0.5];
        abs_top_k(3, &mut x);
        assert_eq!(x, [1.0, -3.0, 3.0, 0.0, 0.0]);
        // Tables of Φ; the last two are the ends of the series.
        for (x, cdf) in [(0.0, 0.5), (1.0, 0.841_344_746_068_542_9), (-2.5, 0.006_209_665_325_776_132)] {
            assert!((normal_cdf(x) - cdf).abs() < 1e-15, "{x}");
        }
        assert!(normal_cdf(-7.9).abs() < 1e-14 && normal_cdf(-8.1) == 0.0);
    }
}
