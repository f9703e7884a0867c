//! Runs of the study and the recipe of each.

use openwork_benches::Mode;
use serde::{Deserialize, Serialize};

/// Steps of a run, and where it is validated: at every tenth.
pub const STEPS: u64 = 1400;
pub const VALIDATIONS: u64 = 10;
/// Initialisations and orders of the data; the same for every mode.
pub const SEEDS: [u64; 3] = [0, 1, 2];

/// The modes, from the published one to the cheapest.
pub const MODES: [Mode; 6] = [
    Mode::Exact,
    Mode::Support { refresh_every: 20 },
    Mode::Support { refresh_every: 100 },
    Mode::Support { refresh_every: 500 },
    Mode::Support { refresh_every: 0 },
    Mode::Static,
];
/// The modes that are annealed in other ways too, at the lower density.
pub const ANNEALED: [Mode; 2] = [Mode::Exact, Mode::Support { refresh_every: 100 }];
/// The modes that are trained once more, for as long as exact gradients take, at the lower density: at the other one
/// their steps take as long as those.
const EQUAL_TIME: [Mode; 2] = [Mode::Support { refresh_every: 100 }, Mode::Static];

/// The modes whose models are pruned.
const PRUNED: [Mode; 3] = [Mode::Exact, Mode::Support { refresh_every: 100 }, Mode::Static];

/// Anneal of the density; [`Mode::Static`] starts at the final one and ignores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Anneal {
    Linear,
    Exponential,
    Cubic,
}

impl Anneal {
    pub const ALL: [Self; 3] = [Self::Linear, Self::Exponential, Self::Cubic];

    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Exponential => "exponential",
            Self::Cubic => "cubic",
        }
    }
}

/// Fraction of a matrix that is not zero at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Density {
    #[serde(rename = "1/16")]
    Sixteenth,
    #[serde(rename = "1/64")]
    SixtyFourth,
}

impl Density {
    pub const ALL: [Self; 2] = [Self::Sixteenth, Self::SixtyFourth];

    pub fn name(self) -> &'static str {
        match self {
            Self::Sixteenth => "1/16",
            Self::SixtyFourth => "1/64",
        }
    }

    /// Of the recipe; with an expansion factor of 4 matrices keep a sixteenth of it and embeddings a quarter.
    fn pfrac(self) -> f64 {
        match self {
            Self::Sixteenth => 1.0,
            Self::SixtyFourth => 0.25,
        }
    }
}

/// One run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    pub mode: Mode,
    pub anneal: Anneal,
    pub density: Density,
    pub seed: u64,
    /// True if the run has as many steps as fit the time of exact gradients, instead of [`STEPS`].
    pub equal_time: bool,
}

impl Cell {
    /// Name of its files: `support-100-linear-1of64-seed0`.
    pub fn name(&self) -> String {
        let anneal = if self.mode == Mode::Static { "" } else { &format!("-{}", self.anneal.name()) };
        let density = self.density.name().replace('/', "of");
        let long = if self.equal_time { "-equal-time" } else { "" };
        format!("{}{anneal}-{density}-seed{}{long}", self.mode.name(), self.seed)
    }
}

/// The runs in their order: whole seeds first, so that a study that is stopped has all comparisons of fewer
/// seeds; those of equal time last, because they take their length from the others.
pub fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for seed in SEEDS {
        for density in Density::ALL {
            for mode in MODES {
                cells.push(Cell { mode, anneal: Anneal::Linear, density, seed, equal_time: false });
            }
        }
        for mode in ANNEALED {
            for anneal in [Anneal::Exponential, Anneal::Cubic] {
                cells.push(Cell { mode, anneal, density: Density::SixtyFourth, seed, equal_time: false });
            }
        }
    }
    for seed in SEEDS {
        for mode in EQUAL_TIME {
            let density = Density::SixtyFourth;
            cells.push(Cell { mode, anneal: Anneal::Linear, density, seed, equal_time: true });
        }
    }
    cells
}

/// The runs whose models are pruned.
pub fn circuit_cells() -> Vec<Cell> {
    let mut cells = cells();
    cells.retain(|cell| cell.anneal == Anneal::Linear && !cell.equal_time && PRUNED.contains(&cell.mode));
    cells
}

/// Combinations that are not run, in words; with equal time, those of [`EQUAL_TIME`] alone are.
pub fn left_out() -> Vec<String> {
    let cells = cells();
    let mut found = Vec::new();
    for density in Density::ALL {
        for mode in MODES.into_iter().filter(|&mode| mode != Mode::Static) {
            let run = |anneal| cells.iter().any(|c| (c.mode, c.anneal, c.density) == (mode, anneal, density));
            let missing: Vec<&str> = Anneal::ALL.into_iter().filter(|&a| !run(a)).map(Anneal::name).collect();
            if !missing.is_empty() {
                found.push(format!("{} with {} anneal at {}", mode.name(), missing.join(" and "), density.name()));
            }
        }
    }
    found
}

/// The recipe of a run of `steps` steps: that of `quickstart`, but for what the study varies and 4,096 tokens a step.
pub fn recipe(cell: &Cell, steps: u64) -> String {
    let Cell { mode, anneal, density, seed, .. } = *cell;
    // A static mask has its density from the beginning.
    let (start, stop) = if mode == Mode::Static { (0.0, 0.0) } else { (0.01, 0.5) };
    let whole = [
        ("seed", seed),
        ("batch.sequences", 32),
        ("optimizer.steps", steps),
        ("run.validation_every", steps.div_ceil(VALIDATIONS)),
        ("run.validation_sequences", 512),
        ("run.checkpoint_every", steps),
    ];
    let numbers =
        [("sparsity.pfrac", density.pfrac()), ("sparsity.anneal_start", start), ("sparsity.anneal_stop", stop)];
    let whole = whole.map(|(key, number)| (key, (number as i64).into()));
    let numbers = numbers.map(|(key, number)| (key, number.into()));
    let changes = whole.into_iter().chain(numbers).chain(mode.changes());
    openwork_benches::recipe("quickstart", changes.chain([("sparsity.anneal", anneal.name().into())]))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use openwork_train::Recipe;

    use super::*;

    #[test]
    fn the_design_is_what_the_study_promises() {
        let cells = cells();
        let names: BTreeSet<String> = cells.iter().map(Cell::name).collect();
        assert_eq!((cells.len(), names.len()), (54, 54));
        assert!(names.contains("support-100-linear-1of64-seed0") && names.contains("static-1of64-seed2-equal-time"));
        let linear = |cell: &&Cell| cell.anneal == Anneal::Linear && !cell.equal_time;
        assert_eq!(cells.iter().filter(linear).count(), MODES.len() * SEEDS.len() * Density::ALL.len());
        assert_eq!(circuit_cells().len(), PRUNED.len() * SEEDS.len() * Density::ALL.len());
        assert_eq!(left_out().len(), 5 + 3);
    }

    #[test]
    fn recipes_are_valid() {
        for cell in cells() {
            let recipe = Recipe::parse(&recipe(&cell, STEPS)).unwrap();
            let end = recipe.schedule.matrix_density(STEPS - 1);
            assert_eq!(format!("1/{}", 1.0 / end), cell.density.name());
            assert_eq!(recipe.schedule.matrix_density(0) == end, cell.mode == Mode::Static);
        }
    }
}
