//! Sound bounds over all partial ablations: every ablated node, at every token by itself, may be anything between its
//! value and its fill (`fill + r (x − fill)`, any r in [0, 1]).
//!
//! The forward pass runs on linear forms, block after block, in a block site after site, at a site token after token.
//! In the last block only the last token goes on after the keys and values. Noise takes symbols in that order until
//! there are no more; what comes later is lumped.
//! - *Norm.* `xᵢ / s` with `s² = (xᵢ² + Σ_{j≠i} xⱼ²) / n + ε`: rises with xᵢ, and the sum of the others has bounds. As a
//!   form: `1/s` is in an interval, whose noise is one symbol for all features of the token.
//! - *AbsTopK.* A feature is in if fewer than k others can reach its least magnitude, out if k others exceed its
//!   greatest, else it is faded with fill 0.
//! - *Attention.* Bounds of every weight from bounds of differences of scores; then the worst weights in that box
//!   that sum up to 1, by sorting. As a form: the values with the middle weights, and the worst that is left.
//! - *Splits*: what holds for r ≤ at and for r ≥ at holds for all r.
//! - *The margin* is bounded as one form divided by the last scale, so that what answer and rival share cancels; or
//!   feature by feature, if that is better.
//! - At every site a form more than twice as wide as its interval is replaced by one noise of that interval.

use std::collections::HashMap;

use crate::{
    Rejected,
    certificate::{Case, MOST_CASES, MOST_SYMBOLS, Relaxation, Rivals, Split, TOLERANCE, demand, malformed, tie},
    form::{Form, SLACK, Symbols, least_average},
    model::{Linear, Model, Norm, NormKind, Sparse},
};

/// Re-derives the claim; returns it in words.
pub fn check(model: &Model, case: &Case, claim: &Relaxation) -> Result<String, Rejected> {
    let n = case.len();
    demand(claim.inputs == n, "inputs", claim.inputs, n)?;
    if claim.bounds.len() != n || claim.answers.len() != n || claim.splits.len() != n {
        return Err(malformed("bounds", format!("bounds, splits and answers must be {n} each")));
    }
    if claim.symbols > MOST_SYMBOLS {
        return Err(malformed("symbols", format!("{} are more than {MOST_SYMBOLS}", claim.symbols)));
    }
    let cases: Vec<u64> = claim.splits.iter().map(|split| leaves(split.as_ref())).collect();
    if let Some(most) = cases.iter().find(|&&cases| cases > MOST_CASES as u64) {
        return Err(malformed("splits", format!("{most} cases of one input are more than {MOST_CASES}")));
    }
    // Each case is two passes, of which every number is a form of as many symbols as there are.
    let bounded = claim.bounds.iter().zip(&cases).filter(|(bound, _)| bound.is_some()).map(|(_, cases)| cases);
    let passes = bounded.sum::<u64>().saturating_mul(2 * (claim.symbols as u64 + 4));
    case.demand_work(model, passes.saturating_add(n as u64))?;
    if claim.rivals == Rivals::OtherCandidate && case.candidates.is_none() {
        return Err(malformed("rivals", "`other_candidate`, but no candidates are listed".into()));
    }
    for (input, (&answer, &claimed)) in claim.answers.iter().zip(&claim.bounds).enumerate() {
        let prompt = case.input(input);
        let logits = model.logits(&prompt, &mut |_, _, _| ());
        let rivals: Vec<usize> = match (claim.rivals, &case.candidates) {
            (Rivals::OtherCandidate, Some(pairs)) => pairs[input].to_vec(),
            _ => (0..model.vocab).collect(),
        };
        let best = rivals.iter().map(|&rival| logits[rival]).fold(f64::NEG_INFINITY, f64::max);
        let is_answer = match &case.answers {
            Some(answers) => answers[input] == answer,
            None => rivals.contains(&answer) && logits[answer] >= best - tie(&logits),
        };
        demand(is_answer, "answers", format!("{answer} for input {input}"), "another one")?;
        let Some(claimed) = claimed else { continue };
        let rivals = rivals.into_iter().filter(|&rival| rival != answer).collect();
        let mut question = Question { model, case, prompt, answer, rivals, claim, ranges: HashMap::new() };
        let found = question.least_margin(claim.splits[input].as_ref())?;
        demand(found >= claimed, "bounds", format!("{claimed} for input {input}"), found)?;
    }
    let certified = claim.bounds.iter().flatten().filter(|&&b| b > TOLERANCE).count();
    demand(claim.certified == certified, "certified", claim.certified, certified)?;
    let least = claim.bounds.iter().try_fold(f64::INFINITY, |m, b| b.map(|b| m.min(b)));
    let words = |bound: Option<f64>| bound.map_or("none".to_owned(), |b| format!("{b}"));
    demand(claim.least_bound == least, "least_bound", words(claim.least_bound), words(least))?;
    Ok(format!(
        "relaxation{}: under every partial ablation the {} keeps a lead of more than {TOLERANCE} on {certified} of {n} inputs; \
         the least bound of the lead is {}",
        if claim.frozen_norms { " (scales of norms held at the model's)" } else { "" },
        if case.answers.is_some() { "right answer" } else { "model's answer" },
        words(least)
    ))
}

/// Number of cases that splits make of one.
fn leaves(split: Option<&Split>) -> u64 {
    split.map_or(1, |split| leaves(split.below.as_deref()).saturating_add(leaves(split.above.as_deref())))
}

/// Range of the coefficient of a node at a token; those that are not here are [0, 1].
type Ranges = HashMap<(usize, usize), (f64, f64)>;

/// Margin that has to be bounded, in one case of the coefficients.
struct Question<'a> {
    model: &'a Model,
    case: &'a Case,
    prompt: Vec<usize>,
    answer: usize,
    rivals: Vec<usize>,
    claim: &'a Relaxation,
    ranges: Ranges,
}

impl Question<'_> {
    /// Lower bound of `logit(answer) − logit(rival)`, the least over rivals and over both cases of every split. The cases
    /// are the two parts of one range: none is left out.
    fn least_margin(&mut self, split: Option<&Split>) -> Result<f64, Rejected> {
        let Some(split) = split else { return Ok(self.bound()) };
        let node = self.model.node(&split.node).filter(|&node| !self.case.kept[node]);
        let node = node.ok_or_else(|| malformed("splits", format!("{:?} is no ablated node", split.node)))?;
        let place = (node, split.token);
        let (low, high) = *self.ranges.get(&place).unwrap_or(&(0.0, 1.0));
        if split.token >= self.prompt.len() {
            return Err(malformed("splits", format!("the input has no token {}", split.token)));
        }
        if !(split.at > low && split.at < high) {
            return Err(malformed("splits", format!("{} is not between {low} and {high}", split.at)));
        }
        self.ranges.insert(place, (low, split.at));
        let below = self.least_margin(split.below.as_deref())?;
        self.ranges.insert(place, (split.at, high));
        let above = self.least_margin(split.above.as_deref())?;
        self.ranges.insert(place, (low, high));
        Ok(below.min(above))
    }

    fn bound(&self) -> f64 {
        let Self { model, case, prompt, claim, .. } = self;
        let all = vec![true; case.kept.len()];
        let whole = Ranges::new();
        let mut plain = Walk::new(model, &all, &case.fill, &whole, claim.symbols);
        plain.stream(prompt);
        let mut walk = Walk::new(model, &case.kept, &case.fill, &self.ranges, claim.symbols);
        if claim.frozen_norms {
            walk.frozen = Some(plain.scales);
        }
        let last = walk.stream(prompt);
        let token = *prompt.last().expect("a prompt has tokens");
        let margin = |&rival: &usize| walk.margin(&last, token, self.answer, rival);
        self.rivals.iter().map(margin).fold(f64::INFINITY, f64::min)
    }
}

/// A forward pass on forms.
struct Walk<'a> {
    model: &'a Model,
    kept: &'a [bool],
    fill: &'a [f64],
    ranges: &'a Ranges,
    tokens: usize,
    symbols: Symbols,
    /// Bounds of 1/s of every norm, in the order they are met.
    scales: Vec<(f64, f64)>,
    /// Scales to use instead, in the same order.
    frozen: Option<Vec<(f64, f64)>>,
}

type Forms = Vec<Form>;

impl<'a> Walk<'a> {
    fn new(model: &'a Model, kept: &'a [bool], fill: &'a [f64], ranges: &'a Ranges, most: usize) -> Self {
        let symbols = Symbols { used: 0, most };
        Self { model, kept, fill, ranges, tokens: 0, symbols, scales: vec![], frozen: None }
    }

    /// The residual stream at the last token after the last block, centred where the norm centres; its scale is the
    /// last of `scales`.
    fn stream(&mut self, prompt: &[usize]) -> Forms {
        let model = self.model;
        self.tokens = prompt.len();
        let row = |table: &Sparse, i: usize, width: usize| {
            let mut row = vec![Form::point(0.0); width];
            table.0[i].iter().for_each(|&(j, x)| row[j] = Form::point(x));
            row
        };
        let mut x: Vec<Forms> = prompt.iter().map(|&t| row(&model.embed, t, model.d_model())).collect();
        let mut beside = vec![vec![]; prompt.len()];
        for (t, x) in x.iter_mut().enumerate() {
            match &model.position {
                Some((table, true)) => *x = add(x, &row(table, t, model.d_model())),
                Some((table, false)) => beside[t] = row(table, t, model.widths[0] - model.d_model()),
                None => (),
            }
        }
        for layer in 0..model.blocks.len() {
            self.block(layer, &mut x, &beside);
        }
        let last = x.pop().expect("a prompt has tokens");
        let (centred, scale) = self.scale(&last);
        self.scales.push(scale);
        centred
    }

    fn block(&mut self, layer: usize, x: &mut [Forms], beside: &[Forms]) {
        let block = &self.model.blocks[layer];
        let d = self.model.widths[1];
        let reads: Vec<Forms> =
            (0..x.len()).map(|t| self.read(&block.attn_norm, &block.attn_pos_norm, &x[t], &beside[t])).collect();
        let reads = self.site(layer, 0, reads);
        let first = if layer + 1 == self.model.blocks.len() { x.len() - 1 } else { 0 };
        let part = |i: usize, reads: &[Forms]| -> Vec<Forms> {
            reads.iter().map(|h| linear(&block.qkv, i * d..(i + 1) * d, h)).collect()
        };
        let queries = self.site(layer, 1, part(0, &reads[first..]));
        let keys = self.site(layer, 2, part(1, &reads));
        let values = self.site(layer, 3, part(2, &reads));
        let mixed = queries.iter().enumerate().map(|(i, query)| {
            let visible = first + i + 1;
            linear(
                &block.attn_out,
                0..self.model.d_model(),
                &self.attend(query, &keys[..visible], &values[..visible], block.sink.as_deref()),
            )
        });
        let writes: Vec<Forms> = mixed.collect();
        let writes = self.site(layer, 4, writes);
        x[first..].iter_mut().zip(&writes).for_each(|(x, write)| *x = add(x, write));
        let reads: Vec<Forms> =
            (first..x.len()).map(|t| self.read(&block.mlp_norm, &block.mlp_pos_norm, &x[t], &beside[t])).collect();
        let reads = self.site(layer, 5, reads);
        let mut neurons = Vec::new();
        for h in &reads {
            let z = linear(&block.fc, 0..self.model.widths[6], h);
            neurons.push(z.iter().map(|z| z.activate(self.model.activation, &mut self.symbols)).collect());
        }
        let neurons = self.site(layer, 6, neurons);
        let writes = neurons.iter().map(|h| linear(&block.proj, 0..self.model.d_model(), h)).collect();
        let writes = self.site(layer, 7, writes);
        x[first..].iter_mut().zip(&writes).for_each(|(x, write)| *x = add(x, write));
    }

    /// AbsTopK, then the nodes.
    fn site(&mut self, layer: usize, kind: usize, mut tokens: Vec<Forms>) -> Vec<Forms> {
        let first = self.model.first_node(layer, kind);
        let skipped = self.tokens - tokens.len();
        for (t, forms) in tokens.iter_mut().enumerate() {
            if let Some(k) = self.model.top_k[kind] {
                *forms = self.abs_top_k(k, forms);
            }
            forms.iter_mut().for_each(|form| *form = form.clone().settled(&mut self.symbols));
            for (i, form) in forms.iter_mut().enumerate().filter(|(i, _)| !self.kept[first + i]) {
                let range = *self.ranges.get(&(first + i, skipped + t)).unwrap_or(&(0.0, 1.0));
                *form = form.fade(self.fill[first + i], range, &mut self.symbols);
            }
        }
        tokens
    }

    fn abs_top_k(&mut self, k: usize, x: &[Form]) -> Forms {
        let mut kept = Vec::with_capacity(x.len());
        for (i, form) in x.iter().enumerate() {
            let others = || x.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, other)| other);
            let may_beat = others().filter(|other| other.size() >= form.least_size()).count();
            let must_beat = others().filter(|other| other.least_size() > form.size()).count();
            kept.push(match (may_beat < k, must_beat >= k) {
                (true, _) => form.clone(),
                (_, true) => Form::point(0.0),
                _ => form.fade(0.0, (0.0, 1.0), &mut self.symbols),
            });
        }
        kept
    }

    fn read(&mut self, norm: &Norm, pos_norm: &Option<Norm>, x: &[Form], beside: &[Form]) -> Forms {
        let mut read = self.normalise(norm, x);
        if let Some(norm) = pos_norm {
            read.extend(self.normalise(norm, beside));
        }
        read
    }

    /// The centred forms, and bounds of 1/s.
    fn scale(&self, x: &[Form]) -> (Forms, (f64, f64)) {
        let n = x.len() as f64;
        let (centred, eps): (Forms, _) = match self.model.norm {
            NormKind::None => return (x.to_vec(), (1.0, 1.0)),
            NormKind::Rms => (x.to_vec(), f64::from(f32::EPSILON)),
            NormKind::Layer => {
                let mean = Form::sum(0.0, x.iter().map(|x| (1.0 / n, x)));
                (x.iter().map(|x| Form::sum(0.0, [(1.0, x), (-1.0, &mean)])).collect(), f64::from(1e-5_f32))
            }
        };
        if let Some(frozen) = &self.frozen {
            return (centred, frozen[self.scales.len()]);
        }
        let squares = |size: fn(&Form) -> f64| centred.iter().map(|x| size(x).powi(2)).sum::<f64>() / n + eps;
        let slack = SLACK * (n + 8.0);
        let (low, high) = (squares(Form::least_size), squares(Form::size));
        (centred, ((1.0 - slack) / high.sqrt(), (1.0 + slack) / low.sqrt()))
    }

    /// `gain x / s + bias`.
    fn normalise(&mut self, norm: &Norm, x: &[Form]) -> Forms {
        let (x, (low, high)) = self.scale(x);
        self.scales.push((low, high));
        let (middle, half) = ((low + high) / 2.0, (high - low) / 2.0);
        let quotients = self.quotients(&x, (low, high));
        // One symbol for the scale, if it is uncertain beyond rounding.
        let symbol = (half > 1e-9 * middle && self.symbols.used < self.symbols.most).then_some(self.symbols.used);
        self.symbols.used += usize::from(symbol.is_some());
        let feature = |(i, x): (usize, &Form)| {
            let (gain, bias) = (norm.gain[i], norm.bias.as_ref().map_or(0.0, |b| b[i]));
            let mut y = Form::sum(0.0, [(middle, x)]);
            match symbol {
                Some(symbol) => {
                    y.a.resize(symbol, 0.0);
                    y.a.push(half * x.c);
                    y.e += half * x.radius();
                }
                None => y.e += half * x.size(),
            }
            y.e += 8.0 * f64::EPSILON * half * (x.c.abs() + x.radius());
            (y.lo, y.hi) = quotients[i];
            Form::sum(bias, [(gain, &y)])
        };
        x.iter().enumerate().map(feature).collect()
    }

    /// Intervals of `x / s`. Where s is the root of a mean of squares, a feature's own square is told from those of the
    /// others: the quotient rises with the feature.
    fn quotients(&self, x: &[Form], (low, high): (f64, f64)) -> Vec<(f64, f64)> {
        let eps = if self.model.norm == NormKind::Layer { f64::from(1e-5_f32) } else { f64::from(f32::EPSILON) };
        let n = x.len() as f64;
        let total = |size: fn(&Form) -> f64| x.iter().map(|x| size(x).powi(2)).sum::<f64>();
        let (least, most) = (total(Form::least_size), total(Form::size));
        let slack = SLACK * (n + 8.0);
        let feature = |x: &Form| {
            let lo = (x.lo * low).min(x.lo * high) - slack * x.size() * high;
            let hi = (x.hi * low).max(x.hi * high) + slack * x.size() * high;
            if self.frozen.is_some() || self.model.norm == NormKind::None {
                return (lo, hi);
            }
            let others = (
                (least - x.least_size().powi(2) - slack * least).max(0.0),
                (most - x.size().powi(2)).max(0.0) + slack * most,
            );
            let at = |end: f64, others: f64| end / ((end * end + others) / n + eps).sqrt();
            let by_lo = at(x.lo, if x.lo >= 0.0 { others.1 } else { others.0 });
            let by_hi = at(x.hi, if x.hi >= 0.0 { others.0 } else { others.1 });
            (lo.max(by_lo - slack * by_lo.abs()), hi.min(by_hi + slack * by_hi.abs()))
        };
        x.iter().map(feature).collect()
    }

    fn attend(&mut self, query: &[Form], keys: &[Forms], values: &[Forms], sink: Option<&[f64]>) -> Forms {
        let d_head = self.model.d_head;
        let mut mixed = Vec::with_capacity(query.len());
        for head in 0..self.model.n_head {
            let rows = head * d_head..(head + 1) * d_head;
            let score = |key: &Forms| {
                let products: Forms = rows.clone().map(|r| Form::product(&query[r], &key[r])).collect();
                Form::sum(0.0, products.iter().map(|p| (1.0 / (d_head as f64).sqrt(), p)))
            };
            let mut scores: Forms = keys.iter().map(score).collect();
            scores.extend(sink.map(|s| Form::point(s[head])));
            let weights = softmax(&scores);
            for r in rows {
                let zero = Form::point(0.0);
                let mut column: Vec<&Form> = values.iter().map(|v| &v[r]).collect();
                column.extend(sink.map(|_| &zero));
                mixed.push(average(&weights, &column, &mut self.symbols));
            }
        }
        mixed
    }

    /// Lower bound of `logit(answer) − logit(rival)` from the centred residual stream at the last token.
    fn margin(&self, x: &[Form], token: usize, answer: usize, rival: usize) -> f64 {
        let model = self.model;
        let table = model.unembed.as_ref().unwrap_or(&model.embed);
        let mut difference = vec![0.0; x.len()];
        table.0[answer].iter().for_each(|&(i, w)| difference[i] += w);
        table.0[rival].iter().for_each(|&(i, w)| difference[i] -= w);
        let norm = &model.final_norm;
        let form = Form::sum(0.0, difference.iter().zip(&norm.gain).map(|(d, g)| d * g).zip(x));
        let bias = |i: usize| norm.bias.as_ref().map_or(0.0, |b| b[i]);
        let of = |row: &[(usize, f64)], i: usize| row.iter().find(|e| e.0 == i).map_or(0.0, |e| e.1);
        let bigram = model.bigram.as_ref().map_or(0.0, |b| of(&b.0[token], answer) - of(&b.0[token], rival));
        let logits_bias = model.logits_bias.as_ref().map_or([0.0; 2], |b| [b[answer], -b[rival]]);
        let constants = difference.iter().enumerate().map(|(i, d)| d * bias(i)).chain(logits_bias).chain([bigram]);
        let (constant, size) = constants.fold((0.0, 0.0_f64), |(sum, size), x| (sum + x, size + x.abs()));
        let (low, high) = *self.scales.last().expect("the final norm");
        let rounding = |reach: f64| SLACK * (x.len() as f64 + 8.0) * (reach + size);
        let as_one = (form.lo * low).min(form.lo * high) + constant - rounding(form.size() * high);
        // Feature by feature, which knows that no quotient exceeds the root of the width.
        let (mut by_feature, mut reach) = (constant, 0.0);
        for ((d, gain), (lo, hi)) in difference.iter().zip(&norm.gain).zip(self.quotients(x, (low, high))) {
            let w = d * gain;
            by_feature += (w * lo).min(w * hi);
            reach += (w * lo).abs().max((w * hi).abs());
        }
        as_one.max(by_feature - rounding(reach))
    }
}

fn add(x: &[Form], y: &[Form]) -> Forms {
    x.iter().zip(y).map(|(x, y)| Form::sum(0.0, [(1.0, x), (1.0, y)])).collect()
}

/// Some rows of `W x + b`.
fn linear(l: &Linear, rows: std::ops::Range<usize>, x: &[Form]) -> Forms {
    let bias = |row: usize| l.bias.as_ref().map_or(0.0, |b| b[row]);
    rows.map(|row| Form::sum(bias(row), l.weight.0[row].iter().map(|&(i, w)| (w, &x[i])))).collect()
}

/// Bounds of `1 / Σⱼ exp(sⱼ − sₖ)` for every k.
fn softmax(scores: &[Form]) -> Vec<(f64, f64)> {
    let weight = |k: usize| {
        let (mut most, mut least) = (1.0, 1.0);
        for j in (0..scores.len()).filter(|&j| j != k) {
            let difference = Form::sum(0.0, [(1.0, &scores[j]), (-1.0, &scores[k])]);
            most += difference.hi.exp();
            least += difference.lo.exp();
        }
        let slack = SLACK * (scores.len() + 8) as f64;
        // What is too small for f64 is not zero.
        ((1.0 - slack) / most, ((1.0 + slack) / least + f64::MIN_POSITIVE).min(1.0))
    };
    (0..scores.len()).map(weight).collect()
}

/// `Σ p v` over weights in a box that sum up to 1.
fn average(weights: &[(f64, f64)], values: &[&Form], symbols: &mut Symbols) -> Form {
    let negated = |v: &[f64]| -> Vec<f64> { v.iter().map(|v| -v).collect() };
    let range = |low: &[f64], high: &[f64]| (least_average(weights, low), -least_average(weights, &negated(high)));
    let total: f64 = weights.iter().map(|w| w.0 + w.1).sum();
    let middle: Vec<f64> = weights.iter().map(|w| (w.0 + w.1) / total).collect();
    let centres: Vec<f64> = values.iter().map(|v| v.c).collect();
    let at_middle: f64 = middle.iter().zip(&centres).map(|(p, c)| p * c).sum();
    let (low, high) = range(&centres, &centres);
    // The weights differ from the middle ones by (p − p̄), which moves centres and, apart from those, deviations.
    let off = |(w, p): (&(f64, f64), &f64)| (p - w.0).abs().max((w.1 - p).abs());
    let deviation: f64 = weights.iter().zip(&middle).map(off).zip(values).map(|(off, v)| off * v.radius()).sum();
    let terms = middle.iter().copied().zip(values.iter().copied());
    let mut y = Form::sum((low + high) / 2.0 - at_middle, terms);
    symbols.noise(&mut y, (high - low) / 2.0 + deviation);
    let size = values.iter().map(|v| v.size().max(v.c.abs() + v.radius())).fold(0.0_f64, f64::max);
    y.e += SLACK * (values.len() + 8) as f64 * size;
    let ends = |end: fn(&Form) -> f64| -> Vec<f64> { values.iter().map(|v| end(v)).collect() };
    let (lo, hi) = range(&ends(|v| v.lo), &ends(|v| v.hi));
    Form { lo, hi, ..y }.narrowed()
}
