//! Ours beside others, by turns.

use std::cell::RefCell;

use anyhow::Result;
use openwork_benches::{
    Contestant, Csv, Peer, Record, Samples, Table,
    stats::{Spread, median},
    take_turns,
};

use crate::{
    case::{Case, Op},
    ours,
};

const ROUNDS: usize = 9;
/// Tokens of the two settings: one chunk, which stays in the cache, and operands that do not.
const TOKENS: [(usize, &str); 2] = [(256, "hot"), (4096, "streaming")];

/// Compares the operations that `ops` name, all by default.
pub fn run(peer: Peer, ops: &[String], quick: bool, record: &mut Record) -> Csv {
    let peer = RefCell::new(peer);
    let mut csv = Csv::new(["op", "out", "in", "tokens", "density", "contestant", "round", "seconds"]);
    let named = |op: &Op| ops.is_empty() || ops.iter().any(|name| name == op.name());
    let ops: Vec<Op> = Op::ALL.into_iter().filter(named).collect();
    if ops.is_empty() {
        let names = Op::ALL.map(Op::name).join(", ");
        record.line(format!("comparison skipped: it has {names} and none of the operations named"));
    }
    for op in ops {
        let running: Vec<&str> = op.peers().iter().copied().filter(|name| runs(&peer, op, name, record)).collect();
        for case in cases(op, quick) {
            let samples = measure(&case, &running, &peer);
            report(&case, &samples, record);
            for Samples { name, seconds } in samples {
                for (round, seconds) in seconds.iter().enumerate() {
                    let mut row = case.words().to_vec();
                    row[4] = case.density.to_string();
                    row.extend([name.clone(), round.to_string(), seconds.to_string()]);
                    csv.row(row);
                }
            }
        }
    }
    csv
}

/// True if a peer has the operation; a note is printed where it has not.
fn runs(peer: &RefCell<Peer>, op: Op, name: &str, record: &mut Record) -> bool {
    let tiny = Case { op, out: 64, input: 64, tokens: 64, density: "1/4".parse().expect("a fraction") };
    match peer.borrow_mut().ask(&format!("{name} {}", tiny.words().join(" "))) {
        Ok(_) => true,
        Err(error) => {
            record.line(format!("{name} skipped: {error:#}"));
            false
        }
    }
}

/// Square and both MLP shapes at three widths.
fn cases(op: Op, quick: bool) -> Vec<Case> {
    let widths: &[usize] = if quick { &[256] } else { &[256, 512, 1024] };
    let densities: &[&str] = match (op, quick) {
        (Op::AbsTopK, _) => &["1/4"],
        (_, true) => &["1/4", "1/64"],
        (_, false) => &["1", "1/4", "1/16", "1/64", "1/256"],
    };
    let mut cases = Vec::new();
    for &d in widths {
        let shapes: &[(usize, usize)] = match op {
            Op::Product | Op::Update => &[(d, d), (4 * d, d), (d, 4 * d)],
            Op::AbsTopK => &[(d, d), (4 * d, 4 * d)],
        };
        let tokens: &[(usize, &str)] = if op == Op::Update { &[(1, "")] } else { &TOKENS };
        for &(out, input) in shapes {
            for &(tokens, _) in tokens {
                for density in densities {
                    let case = Case { op, out, input, tokens, density: density.parse().expect("a fraction") };
                    // 1024 features are one width, and four times another.
                    if !cases.contains(&case) {
                        cases.push(case);
                    }
                }
            }
        }
    }
    cases
}

fn measure(case: &Case, running: &[&str], peer: &RefCell<Peer>) -> Vec<Samples> {
    let mut contestants = Vec::new();
    for &name in ours::contestants(case.op) {
        let mut sample = ours::sampler(name, case);
        contestants.push(Contestant::new(name, move || Ok(sample())));
    }
    for &name in running {
        let line = format!("{name} {}", case.words().join(" "));
        contestants.push(Contestant::new(name, move || -> Result<f64> { peer.borrow_mut().ask(&line) }));
    }
    take_turns(contestants, ROUNDS)
}

fn report(case: &Case, samples: &[Samples], record: &mut Record) {
    let Case { op, out, input, tokens, density } = case;
    let setting =
        TOKENS.iter().find(|(n, _)| n == tokens).map_or(String::new(), |(n, name)| format!(", {n} tokens ({name})"));
    record.line(format!("\n{} [{out}, {input}], density {density}{setting}", op.name()));
    let baseline = op.peers().iter().find_map(|name| samples.iter().find(|samples| samples.name == *name));
    let ratio = |contestant: &Samples| baseline.map(|baseline| median(&contestant.speedups(baseline)));
    let over = baseline.map_or("-".into(), |baseline| format!("x {}", baseline.name));
    let mut table = Table::new(["", "us", "p10-p90", "GFLOP/s", &over]);
    for contestant in samples {
        let us = contestant.seconds.iter().map(|s| s * 1e6).collect::<Vec<_>>();
        let spread = Spread::of(&us);
        // Of the operations that have to be done: two for every nonzero and token.
        let flop = 2.0 * density.value * (out * input * tokens) as f64;
        let speed = if *op == Op::Product { format!("{:.1}", flop / spread.median / 1e3) } else { "-".into() };
        table.row(vec![
            contestant.name.clone(),
            format!("{:.1}", spread.median),
            format!("{:.1}-{:.1}", spread.p10, spread.p90),
            speed,
            ratio(contestant).map_or("-".into(), |ratio| format!("{ratio:.2}")),
        ]);
    }
    record.line(&table);
    for contestant in samples {
        let name = format!("{}_{}", case.name(), contestant.name);
        record.metric(&name, median(&contestant.seconds) * 1e6, "us");
        if let Some(baseline) = baseline.filter(|baseline| baseline.name != contestant.name) {
            let ratio = median(&contestant.speedups(baseline));
            record.metric(&format!("{name}_over_{}", baseline.name), ratio, "ratio");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_shapes_are_there_once() {
        let names = |op, quick| cases(op, quick).iter().map(Case::name).collect::<std::collections::BTreeSet<_>>();
        assert_eq!((names(Op::Product, false).len(), cases(Op::Product, false).len()), (90, 90));
        assert_eq!((names(Op::Update, false).len(), names(Op::AbsTopK, false).len()), (45, 10));
        assert!(names(Op::Product, true).contains("product_1024x256_t4096_1/64"));
    }

    #[test]
    fn ours_can_be_timed() {
        for op in Op::ALL {
            let case = Case { op, out: 32, input: 32, tokens: 32, density: "1/4".parse().unwrap() };
            assert!(ours::contestants(op).iter().all(|name| ours::sampler(name, &case)() > 0.0));
        }
    }
}
