//! Numbers that are not known exactly: a linear form in shared noise, and an interval beside it.
//!
//! A [`Form`] stands for `c + Σ aₛ εₛ + e η` with noise symbols `ε` shared by all forms, a noise `η` of its own, all of
//! them anywhere in [−1, 1]; and it is known to lie in `[lo, hi]` too. Every operation returns a form that holds
//! whatever the exact result may be. Rounding of f64 is covered by slack: a sum of n terms is off by at most
//! `n · 2⁻⁵³` of the sum of their magnitudes (Higham 2002, §4.2), of which at least twice is added to `e` and taken off
//! `lo` and `hi`; functions of one number get [`SLACK`] of their value.

use crate::{forward::normal_cdf, model::Activation};

/// Relative slack of a root, a quotient, an exponential or a distribution function and the few operations around it.
pub const SLACK: f64 = 1e-13;

/// Noise of less than this is not worth a symbol of its own.
const SMALL: f64 = 1e-9;

#[derive(Clone, Debug)]
pub struct Form {
    pub c: f64,
    /// Coefficients of the first symbols; those beyond the end are zero.
    pub a: Vec<f64>,
    pub e: f64,
    pub lo: f64,
    pub hi: f64,
}

/// Hands out noise symbols, as many as there may be.
pub struct Symbols {
    pub used: usize,
    pub most: usize,
}

impl Symbols {
    /// Adds noise of the size `amount` to a form: a symbol if it is worth one and there are any left.
    pub fn noise(&mut self, form: &mut Form, amount: f64) {
        if amount > SMALL && self.used < self.most {
            form.a.resize(self.used, 0.0);
            form.a.push(amount);
            self.used += 1;
        } else {
            form.e += amount;
        }
    }
}

impl Form {
    pub fn point(x: f64) -> Self {
        Self { c: x, a: vec![], e: 0.0, lo: x, hi: x }
    }

    /// Largest distance of the form itself from `c`.
    pub fn radius(&self) -> f64 {
        self.a.iter().map(|a| a.abs()).sum::<f64>() + self.e
    }

    /// Largest magnitude.
    pub fn size(&self) -> f64 {
        self.lo.abs().max(self.hi.abs())
    }

    /// Least magnitude.
    pub fn least_size(&self) -> f64 {
        if self.lo <= 0.0 && self.hi >= 0.0 { 0.0 } else { self.lo.abs().min(self.hi.abs()) }
    }

    /// Uses the form to narrow the interval.
    pub fn narrowed(mut self) -> Self {
        let radius = self.radius();
        let slack = (self.a.len() + 4) as f64 * f64::EPSILON * (self.c.abs() + radius);
        self.lo = self.lo.max(self.c - radius - slack);
        self.hi = self.hi.min(self.c + radius + slack);
        self
    }

    /// `b + Σ w x`.
    pub fn sum<'a>(b: f64, terms: impl IntoIterator<Item = (f64, &'a Form)>) -> Self {
        let mut y = Self::point(b);
        let (mut n, mut size, mut ends) = (4, b.abs(), b.abs());
        for (w, x) in terms {
            if w == 0.0 {
                continue;
            }
            n += 1;
            y.c += w * x.c;
            y.a.resize(y.a.len().max(x.a.len()), 0.0);
            y.a.iter_mut().zip(&x.a).for_each(|(y, a)| *y += w * a);
            y.e += w.abs() * x.e;
            y.lo += if w > 0.0 { w * x.lo } else { w * x.hi };
            y.hi += if w > 0.0 { w * x.hi } else { w * x.lo };
            size += w.abs() * (x.c.abs() + x.radius());
            ends += w.abs() * x.size();
        }
        let relative = f64::from(n) * f64::EPSILON;
        y.e += relative * size;
        y.lo -= relative * ends;
        y.hi += relative * ends;
        y.narrowed()
    }

    /// `x y`: the product of the deviations is lumped.
    pub fn product(x: &Self, y: &Self) -> Self {
        let corners = [x.lo * y.lo, x.lo * y.hi, x.hi * y.lo, x.hi * y.hi];
        let mut a = vec![0.0; x.a.len().max(y.a.len())];
        a.iter_mut().zip(&x.a).for_each(|(a, xa)| *a += y.c * xa);
        a.iter_mut().zip(&y.a).for_each(|(a, ya)| *a += x.c * ya);
        let (rx, ry) = (x.radius(), y.radius());
        let slack = 8.0 * f64::EPSILON * (x.c.abs() + rx) * (y.c.abs() + ry);
        let end = 8.0 * f64::EPSILON * x.size() * y.size();
        Self {
            c: x.c * y.c,
            a,
            e: x.c.abs() * y.e + y.c.abs() * x.e + rx * ry + slack,
            lo: corners.into_iter().fold(f64::INFINITY, f64::min) - end,
            hi: corners.into_iter().fold(f64::NEG_INFINITY, f64::max) + end,
        }
        .narrowed()
    }

    /// `fill + r (x − fill)` for any r of an interval inside [0, 1].
    pub fn fade(&self, fill: f64, r: (f64, f64), symbols: &mut Symbols) -> Self {
        let at = |r: f64, x: f64| fill + r * (x - fill);
        let corners = [at(r.0, self.lo), at(r.0, self.hi), at(r.1, self.lo), at(r.1, self.hi)];
        let (middle, half) = ((r.0 + r.1) / 2.0, (r.1 - r.0) / 2.0);
        let mut y = Self::sum(fill * (1.0 - middle), [(middle, self)]);
        let amount = half * (self.lo - fill).abs().max((self.hi - fill).abs());
        symbols.noise(&mut y, amount);
        let slack = 8.0 * f64::EPSILON * (fill.abs() + self.size());
        y.e += slack;
        y.lo = corners.into_iter().fold(f64::INFINITY, f64::min) - slack;
        y.hi = corners.into_iter().fold(f64::NEG_INFINITY, f64::max) + slack;
        y.narrowed()
    }

    /// A form more than twice as wide as its interval forgets the form: what products of deviations have blown up
    /// carries no information any more.
    pub fn settled(self, symbols: &mut Symbols) -> Self {
        let (radius, half) = (self.radius(), (self.hi - self.lo) / 2.0);
        if radius <= 2.0 * half || radius <= SMALL {
            return self;
        }
        let e = 4.0 * f64::EPSILON * (self.lo.abs() + self.hi.abs());
        let mut y = Self { c: (self.lo + self.hi) / 2.0, a: vec![], e, ..self };
        symbols.noise(&mut y, half);
        y
    }

    /// `slope · x + shift ± error` where that holds, and inside `[lo, hi]`.
    fn line(&self, slope: f64, error: (f64, f64), range: (f64, f64), symbols: &mut Symbols) -> Self {
        let mut y = Self::sum((error.0 + error.1) / 2.0, [(slope, self)]);
        symbols.noise(&mut y, (error.1 - error.0) / 2.0);
        y.e += SLACK * (error.0.abs() + error.1.abs());
        (y.lo, y.hi) = range;
        y.narrowed()
    }

    /// ReLU or GELU: a line through the ends of the interval, and how far the function is from it.
    pub fn activate(&self, f: Activation, symbols: &mut Symbols) -> Self {
        let (l, u) = (self.lo, self.hi);
        match f {
            Activation::Relu if l >= 0.0 => self.clone(),
            Activation::Relu if u <= 0.0 => Self::point(0.0),
            Activation::Relu => {
                let slope = u / (u - l);
                self.line(slope, (0.0, -slope * l), (0.0, u), symbols)
            }
            Activation::Gelu => {
                let range = gelu_range(l, u);
                if u - l < SMALL {
                    return self.line(0.0, range, range, symbols);
                }
                let slope = (gelu(u) - gelu(l)) / (u - l);
                self.line(slope, gelu_off_line(slope, l, u), range, symbols)
            }
        }
    }
}

fn gelu(x: f64) -> f64 {
    x * normal_cdf(x)
}

/// Argument of GELU's minimum, and a value a little below that minimum.
const GELU_LEAST: (f64, f64) = (-0.751_791_524, -0.169_971_21);

/// Least and greatest value of GELU on an interval: it falls to its minimum and rises after it.
fn gelu_range(l: f64, u: f64) -> (f64, f64) {
    let (at_l, at_u) = (gelu(l), gelu(u));
    let slack = SLACK * (l.abs() + u.abs());
    let inside = l <= GELU_LEAST.0 + 1e-6 && u >= GELU_LEAST.0 - 1e-6;
    let least = if inside { GELU_LEAST.1 } else { at_l.min(at_u) };
    (least - slack, at_l.max(at_u) + slack)
}

/// Bounds of `GELU(x) − slope x` on an interval: on 64 pieces the values at their ends, and what a function of second
/// derivative at most `2 φ(0) < 0.798` can do between (that over 8, times the piece squared).
fn gelu_off_line(slope: f64, l: f64, u: f64) -> (f64, f64) {
    let width = (u - l) / 64.0;
    let values = (0..=64).map(|i| l + width * f64::from(i)).map(|x| gelu(x) - slope * x);
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
    let between = 0.798 * width * width / 8.0 + SLACK * (l.abs() + u.abs());
    (low - between, high + between)
}

/// Least of `Σ p v` over weights in a box that sum up to 1: the weight that is free goes to the least values.
pub fn least_average(weights: &[(f64, f64)], values: &[f64]) -> f64 {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut free = (1.0 - weights.iter().map(|w| w.0).sum::<f64>()).max(0.0);
    let mut sum = 0.0;
    for i in order {
        let extra = free.min(weights[i].1 - weights[i].0);
        free -= extra;
        sum += (weights[i].0 + extra) * values[i];
    }
    let largest = values.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    sum - SLACK * (values.len() + 1) as f64 * largest
}
