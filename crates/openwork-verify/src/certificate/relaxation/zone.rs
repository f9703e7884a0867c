//! Bounds of the features of one token: a zonotope, and a box around it.
//!
//! Feature i is `centreᵢ + Σₛ sharedᵢₛ εₛ + ownᵢ ηᵢ`, all noise anywhere in [−1, 1], and lies in `[lowᵢ, highᵢ]` too.
//! Rounding is paid for: `n · 2⁻⁵²` of the magnitudes in a sum of n terms, [`SLACK`] of the value of a function.

use ndarray::{Array1, Array2, Axis, Zip, concatenate, s};
use openwork_model::Activation;
use openwork_ops::reference::normal_cdf;

/// Relative slack of a root, a quotient, an exponential or a distribution function and the operations around it.
pub(super) const SLACK: f64 = 1e-13;

/// Noise of less than this gets no symbol of its own.
const WORTH_A_SYMBOL: f64 = 1e-9;

pub(super) type Vector = Array1<f64>;

#[derive(Clone)]
pub(super) struct Zone {
    pub centre: Vector,
    /// `[features, symbols]`; symbols beyond the last column do not matter.
    pub shared: Array2<f64>,
    pub own: Vector,
    pub low: Vector,
    pub high: Vector,
}

/// Origin of a noise symbol, where it is the coefficient of an ablated node: (node, token).
pub(super) type Origin = Option<(usize, usize)>;

/// Noise symbols in use, and how many there may be.
pub(super) struct Symbols {
    pub origins: Vec<Origin>,
    most: usize,
}

/// Partial ablation of features: `a + r (x − a)`, a the ablation value.
pub(super) struct Fading {
    /// Features that are ablated.
    pub faded: Vec<bool>,
    /// To what.
    pub values: Vector,
    /// Range of r, inside [0, 1].
    pub ranges: Vec<(f64, f64)>,
    /// Origin of the coefficient.
    pub origins: Vec<Origin>,
}

impl Symbols {
    pub fn new(most: usize) -> Self {
        Self { origins: vec![], most }
    }

    pub fn left(&self) -> bool {
        self.origins.len() < self.most
    }

    pub fn next(&mut self, origin: Origin) -> usize {
        self.origins.push(origin);
        self.origins.len() - 1
    }
}

/// A matrix and bias, with what bounds need of them.
pub(super) struct Affine {
    weight: Array2<f64>,
    plus: Array2<f64>,
    minus: Array2<f64>,
    bias: Vector,
    terms: Vector,
}

impl Affine {
    pub fn new(weight: Array2<f64>, bias: Option<Vector>) -> Self {
        let plus = weight.mapv(|w| w.max(0.0));
        let minus = weight.mapv(|w| w.min(0.0));
        let terms = weight.map_axis(Axis(1), |row| row.iter().filter(|&&w| w != 0.0).count() as f64 + 4.0);
        let bias = bias.unwrap_or_else(|| Vector::zeros(weight.nrows()));
        Self { weight, plus, minus, bias, terms }
    }

    pub fn apply(&self, x: &Zone) -> Zone {
        let absolute = |x: &Vector| self.plus.dot(x) - self.minus.dot(x);
        let reach = x.centre.mapv(f64::abs) + x.radius();
        let slack = (absolute(&reach) + self.bias.mapv(f64::abs)) * &self.terms * f64::EPSILON;
        let ends = (absolute(&x.size()) + self.bias.mapv(f64::abs)) * &self.terms * f64::EPSILON;
        Zone {
            centre: self.weight.dot(&x.centre) + &self.bias,
            shared: self.weight.dot(&x.shared),
            own: absolute(&x.own) + slack,
            low: self.plus.dot(&x.low) + self.minus.dot(&x.high) + &self.bias - &ends,
            high: self.plus.dot(&x.high) + self.minus.dot(&x.low) + &self.bias + &ends,
        }
        .narrowed()
    }
}

impl Zone {
    pub fn point(x: Vector) -> Self {
        let n = x.len();
        Self { low: x.clone(), high: x.clone(), centre: x, shared: Array2::zeros((n, 0)), own: Vector::zeros(n) }
    }

    pub fn len(&self) -> usize {
        self.centre.len()
    }

    /// Largest distance of each feature from its centre.
    pub fn radius(&self) -> Vector {
        self.shared.map_axis(Axis(1), |row| row.iter().map(|a| a.abs()).sum::<f64>()) + &self.own
    }

    /// Largest magnitude of each feature.
    pub fn size(&self) -> Vector {
        Zip::from(&self.low).and(&self.high).map_collect(|l, h| l.abs().max(h.abs()))
    }

    /// Least magnitude of each feature.
    pub fn least_size(&self) -> Vector {
        let least = |&l: &f64, &h: &f64| if l <= 0.0 && h >= 0.0 { 0.0 } else { l.abs().min(h.abs()) };
        Zip::from(&self.low).and(&self.high).map_collect(least)
    }

    /// Makes the box no wider than the zonotope.
    pub fn narrowed(mut self) -> Self {
        let radius = self.radius();
        let relative = (self.shared.ncols() + 4) as f64 * f64::EPSILON;
        for (i, r) in radius.into_iter().enumerate() {
            let (c, slack) = (self.centre[i], relative * (self.centre[i].abs() + r));
            self.low[i] = self.low[i].max(c - r - slack);
            self.high[i] = self.high[i].min(c + r + slack);
        }
        self
    }

    /// Room for `symbols` columns.
    fn widened(&self, symbols: usize) -> Array2<f64> {
        let mut shared = Array2::zeros((self.len(), symbols.max(self.shared.ncols())));
        shared.slice_mut(s![.., ..self.shared.ncols()]).assign(&self.shared);
        shared
    }

    /// Adds noise of its own to every feature, as symbols in the order of features while there are any;
    /// `origins` may be empty.
    pub fn add_noise(&mut self, amounts: &[f64], origins: &[Origin], symbols: &mut Symbols) {
        let mut placed = Vec::new();
        for (i, &amount) in amounts.iter().enumerate() {
            if amount > WORTH_A_SYMBOL && symbols.left() {
                placed.push((i, symbols.next(origins.get(i).copied().flatten()), amount));
            } else {
                self.own[i] += amount;
            }
        }
        if let Some(&(_, last, _)) = placed.last() {
            self.shared = self.widened(last + 1);
            placed.into_iter().for_each(|(i, symbol, amount)| self.shared[[i, symbol]] = amount);
        }
    }

    /// One symbol with a coefficient for every feature.
    pub fn add_symbol(&mut self, coefficients: &Vector, symbol: usize) {
        self.shared = self.widened(symbol + 1);
        self.shared.column_mut(symbol).assign(coefficients);
    }

    /// `x + y`, feature by feature.
    pub fn plus(&self, y: &Self) -> Self {
        let columns = self.shared.ncols().max(y.shared.ncols());
        let (rx, ry) = (self.radius(), y.radius());
        let reach = self.centre.mapv(f64::abs) + rx + y.centre.mapv(f64::abs) + ry;
        let ends = (self.size() + y.size()) * 6.0 * f64::EPSILON;
        Self {
            centre: &self.centre + &y.centre,
            shared: self.widened(columns) + y.widened(columns),
            own: &self.own + &y.own + reach * 6.0 * f64::EPSILON,
            low: &self.low + &y.low - &ends,
            high: &self.high + &y.high + &ends,
        }
        .narrowed()
    }

    /// Every feature times a factor, plus a shift.
    pub fn scaled(&self, factors: &Vector, shift: &Vector) -> Self {
        let magnitude = factors.mapv(f64::abs);
        let slack = (&magnitude * &(self.centre.mapv(f64::abs) + self.radius()) + shift.mapv(f64::abs)) * 5.0;
        let ends = (&magnitude * &self.size() + shift.mapv(f64::abs)) * 5.0 * f64::EPSILON;
        let (a, b) = (&self.low * factors, &self.high * factors);
        Self {
            centre: &self.centre * factors + shift,
            shared: &self.shared * &factors.view().insert_axis(Axis(1)),
            own: &self.own * &magnitude + slack * f64::EPSILON,
            low: Zip::from(&a).and(&b).map_collect(|a, b| a.min(*b)) + shift - &ends,
            high: Zip::from(&a).and(&b).map_collect(|a, b| a.max(*b)) + shift + &ends,
        }
        .narrowed()
    }

    /// Features of this zone, then those of another.
    pub fn beside(&self, other: &Self) -> Self {
        let columns = self.shared.ncols().max(other.shared.ncols());
        let both = |a: &Vector, b: &Vector| concatenate![Axis(0), *a, *b];
        Self {
            centre: both(&self.centre, &other.centre),
            shared: concatenate![Axis(0), self.widened(columns), other.widened(columns)],
            own: both(&self.own, &other.own),
            low: both(&self.low, &other.low),
            high: both(&self.high, &other.high),
        }
    }

    /// Some of the features.
    pub fn rows(&self, rows: std::ops::Range<usize>) -> Self {
        let part = |v: &Vector| v.slice(s![rows.clone()]).to_owned();
        Self {
            centre: part(&self.centre),
            shared: self.shared.slice(s![rows.clone(), ..]).to_owned(),
            own: part(&self.own),
            low: part(&self.low),
            high: part(&self.high),
        }
    }

    /// `a + r (x − a)`, a the ablation value, for any r of the feature's range, where it fades; unchanged elsewhere.
    pub fn fade(self, how: &Fading, symbols: &mut Symbols) -> Self {
        if !how.faded.contains(&true) {
            return self;
        }
        let middle = |(&(low, high), &faded): (&(f64, f64), &bool)| if faded { (low + high) / 2.0 } else { 1.0 };
        let factors: Vector = how.ranges.iter().zip(&how.faded).map(middle).collect();
        let shift = Zip::from(&how.values).and(&factors).map_collect(|value, factor| value * (1.0 - factor));
        let mut y = Self { low: self.low.clone(), high: self.high.clone(), ..self.scaled(&factors, &shift) };
        let mut amounts = vec![0.0; self.len()];
        for (i, amount) in amounts.iter_mut().enumerate() {
            if !how.faded[i] {
                // What is kept is not touched, not even by rounding.
                y.own[i] = self.own[i];
                continue;
            }
            let (l, h, f, (r0, r1)) = (self.low[i], self.high[i], how.values[i], how.ranges[i]);
            *amount = (r1 - r0) / 2.0 * (l - f).abs().max((h - f).abs());
            let slack = 8.0 * f64::EPSILON * (f.abs() + l.abs().max(h.abs()));
            y.own[i] += slack;
            y.low[i] = (f + r0 * (l - f)).min(f + r1 * (l - f)) - slack;
            y.high[i] = (f + r0 * (h - f)).max(f + r1 * (h - f)) + slack;
        }
        y.add_noise(&amounts, &how.origins, symbols);
        y.narrowed()
    }

    /// Features whose form is more than twice as wide as their interval forget the form: what products of deviations
    /// have blown up carries no information any more.
    pub fn settled(mut self, symbols: &mut Symbols) -> Self {
        let mut amounts = vec![0.0; self.len()];
        for (i, radius) in self.radius().into_iter().enumerate() {
            let half = (self.high[i] - self.low[i]) / 2.0;
            if radius > 2.0 * half && radius > WORTH_A_SYMBOL {
                self.shared.row_mut(i).fill(0.0);
                self.centre[i] = (self.low[i] + self.high[i]) / 2.0;
                self.own[i] = 4.0 * f64::EPSILON * (self.low[i].abs() + self.high[i].abs());
                amounts[i] = half;
            }
        }
        self.add_noise(&amounts, &[], symbols);
        self
    }

    /// Keeps the k largest magnitudes: surely, surely not, or perhaps (faded to zero).
    pub fn abs_top_k(mut self, k: usize, symbols: &mut Symbols) -> Self {
        let (least, most) = (self.least_size(), self.size());
        let (mut by_most, mut by_least) = (most.to_vec(), least.to_vec());
        by_most.sort_by(f64::total_cmp);
        by_least.sort_by(f64::total_cmp);
        let mut perhaps = vec![false; self.len()];
        for i in 0..self.len() {
            // A feature reaches its own least magnitude, too, and never exceeds its greatest.
            let may_beat = self.len() - by_most.partition_point(|&m| m < least[i]) - 1;
            let must_beat = self.len() - by_least.partition_point(|&l| l <= most[i]);
            if may_beat < k {
                continue;
            } else if must_beat >= k {
                self.shared.row_mut(i).fill(0.0);
                (self.centre[i], self.own[i], self.low[i], self.high[i]) = (0.0, 0.0, 0.0, 0.0);
            } else {
                perhaps[i] = true;
            }
        }
        let n = self.len();
        let how = Fading { faded: perhaps, values: Vector::zeros(n), ranges: vec![(0.0, 1.0); n], origins: vec![] };
        self.fade(&how, symbols)
    }

    /// ReLU or GELU: the chord, and how far the function leaves it.
    pub fn activate(&self, f: Activation, symbols: &mut Symbols) -> Self {
        let n = self.len();
        let (mut slopes, mut shifts, mut amounts) = (Vector::zeros(n), Vector::zeros(n), vec![0.0; n]);
        let (mut low, mut high, mut slack) = (Vector::zeros(n), Vector::zeros(n), vec![0.0; n]);
        for i in 0..n {
            let (l, h) = (self.low[i], self.high[i]);
            let (slope, [least, most], range) = match f {
                Activation::Relu if l >= 0.0 => (1.0, [0.0; 2], [l, h]),
                Activation::Relu if h <= 0.0 => (0.0, [0.0; 2], [0.0; 2]),
                Activation::Relu => (h / (h - l), [0.0, -l * h / (h - l)], [0.0, h]),
                Activation::Gelu => gelu(l, h),
            };
            (slopes[i], shifts[i], amounts[i]) = (slope, (least + most) / 2.0, (most - least) / 2.0);
            slack[i] = SLACK * (least.abs() + most.abs());
            (low[i], high[i]) = (range[0], range[1]);
        }
        let mut y = Self { low, high, ..self.scaled(&slopes, &shifts) };
        y.add_noise(&amounts, &[], symbols);
        y.own += &Vector::from(slack);
        y.narrowed()
    }
}

/// Slope of the chord of GELU over an interval, bounds of what the function is off it, and its range.
fn gelu(l: f64, h: f64) -> (f64, [f64; 2], [f64; 2]) {
    let f = |x: f64| x * normal_cdf(x);
    let rounding = SLACK * (l.abs() + h.abs());
    // The only minimum, between -0.751792 and -0.751791; the value is rounded down.
    let bottom = if l < -0.751_790 && h > -0.751_793 { -0.169_971_21 } else { f(l).min(f(h)) };
    let range = [bottom - rounding, f(l).max(f(h)) + rounding];
    if h - l < WORTH_A_SYMBOL {
        return (0.0, range, range);
    }
    let slope = (f(h) - f(l)) / (h - l);
    // |f''| <= 2 phi(0) < 0.798: between points w apart a function is off its chord by at most that, times w^2/8.
    let step = (h - l) / 64.0;
    let between = 0.798 / 8.0 * step * step + rounding;
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    for i in 0..=64 {
        let x = l + step * f64::from(i);
        let off = f(x) - slope * x;
        (least, most) = (least.min(off), most.max(off));
    }
    (slope, [least - between, most + between], range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chord_of_gelu_holds_everywhere() {
        for (l, h) in [(-3.0, 2.0), (-0.76, -0.74), (-20.0, 30.0), (0.5, 0.5 + 1e-7), (-9.0, -8.0), (1.0, 1.0)] {
            let (slope, off, range) = gelu(l, h);
            for i in 0..=1000 {
                let x = l + (h - l) * f64::from(i) / 1000.0;
                let y = x * normal_cdf(x);
                assert!(y - slope * x >= off[0] && y - slope * x <= off[1], "{x} in [{l}, {h}]");
                assert!(y >= range[0] && y <= range[1], "{x} in [{l}, {h}]");
            }
            // Not idle: no wider than four times what is needed on a curved piece.
            assert!(off[1] - off[0] <= 0.798 * (h - l).powi(2) / 2.0 + 1e-10, "[{l}, {h}]");
        }
    }
}
