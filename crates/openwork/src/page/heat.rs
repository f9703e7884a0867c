//! The sufficiency matrix as a heat map: ablations down, norms and pairs across, colour by task loss.

use std::{f64::consts::LN_2, fmt::Write as _};

use openwork_verify::{AblationValue, Cell, Faithfulness, Kept, Norms, Report, Scheme, Split};

use super::escape;

/// Every run of every split.
pub fn matrix(out: &mut String, report: &Report) {
    if report.matrix.is_empty() {
        return;
    }
    let columns = columns(report);
    out.push_str(
        "<h3>Does the circuit do what the model does?</h3><p class=\"quiet\">Task loss in nats (0 is perfect, 0.693 is \
         chance), its 95 % interval, and how often the answer is the model's. Rows say by what all other nodes are \
         replaced.</p><div class=\"scroll\"><table class=\"heat\"><thead><tr><th rowspan=\"2\">replaced by</th>",
    );
    for split in splits(report) {
        let n = columns.iter().filter(|c| c.0 == split).count();
        let _ = write!(out, "<th colspan=\"{n}\">{split}</th>");
    }
    out.push_str("</tr><tr>");
    for (_, norms) in &columns {
        let norms = if *norms == Norms::Free { "free norms" } else { "frozen norms" };
        let _ = write!(out, "<th>{norms}</th>");
    }
    out.push_str("</tr></thead>");
    let groups = [
        (Kept::Circuit, "The circuit alone"),
        (Kept::Model, "The model, for comparison"),
        (Kept::Nothing, "No node at all, for comparison"),
        (Kept::AllButCircuit, "The model without the circuit"),
    ];
    for (kept, title) in groups {
        group(out, report, &columns, kept, title);
    }
    out.push_str("</table></div>");
    legend(out);
}

fn splits(report: &Report) -> Vec<Split> {
    let mut splits = Vec::new();
    report.matrix.iter().for_each(|c| {
        if !splits.contains(&c.split) {
            splits.push(c.split);
        }
    });
    splits
}

/// Splits and norms that were run, in order.
fn columns(report: &Report) -> Vec<(Split, Norms)> {
    let run = |split: Split, norms: Norms| report.matrix.iter().any(|c| c.split == split && norms_of(c) == norms);
    let both = |split| [(split, Norms::Free), (split, Norms::Frozen)];
    splits(report).into_iter().flat_map(both).filter(|&(split, norms)| run(split, norms)).collect()
}

/// The model is run as it is: its norms are free.
fn norms_of(cell: &Cell) -> Norms {
    cell.ablation.map_or(Norms::Free, |scheme| scheme.norms)
}

/// The rows of what was kept.
fn group(out: &mut String, report: &Report, columns: &[(Split, Norms)], kept: Kept, title: &str) {
    let values = std::iter::once(None).chain(AblationValue::ALL.into_iter().map(Some));
    let mut rows = String::new();
    for value in values {
        let cell = |&(split, norms): &(Split, Norms)| {
            let scheme = value.map(|value| Scheme { value, norms });
            report.cell(split, kept, scheme).filter(|c| norms_of(c) == norms)
        };
        let cells: Vec<Option<&Cell>> = columns.iter().map(cell).collect();
        if cells.iter().all(Option::is_none) {
            continue;
        }
        let name = value.map_or("(none is)".into(), |value| value.to_string());
        let _ = write!(rows, "<tr><th>{name}</th>");
        for c in cells {
            match c {
                Some(c) => tile(&mut rows, c),
                None => rows.push_str("<td class=\"empty\">–</td>"),
            }
        }
        rows.push_str("</tr>");
    }
    if !rows.is_empty() {
        let span = columns.len() + 1;
        let _ = write!(out, "<tbody><tr><th class=\"group\" colspan=\"{span}\">{title}</th></tr>{rows}</tbody>");
    }
}

fn tile(out: &mut String, c: &Cell) {
    let _ = write!(
        out,
        "<td style=\"{}\" title=\"{}\"><b>{:.3}</b><small>[{:.3}, {:.3}]</small><small>agrees {:.1} %</small></td>",
        colour(c.loss.mean),
        escape(&details(c)),
        c.loss.mean,
        c.loss.ci95.0,
        c.loss.ci95.1,
        100.0 * c.agreement.mean
    );
}

/// All numbers of a run, for those who point at it.
fn details(c: &Cell) -> String {
    let faithfulness = match &c.faithfulness {
        Some(Faithfulness::Defined { ratio_of_means, .. }) => format!("\nfaithfulness {ratio_of_means}"),
        Some(Faithfulness::Undefined { .. }) => "\nfaithfulness undefined: its denominator is too small".into(),
        None => String::new(),
    };
    format!(
        "loss {} nats ({} without calibration)\nagreement {}\naccuracy {}\nKL from the model {} nats, 99th percentile \
         {:.3}, largest {:.3}{faithfulness}\n{} pairs",
        c.loss, c.loss_uncalibrated, c.agreement, c.accuracy, c.kl, c.kl_p99, c.kl_max, c.loss.n
    )
}

/// From white (no loss) to dark blue (chance and worse): lightness falls all the way, so that grey prints and eyes
/// that see few colours read the same order.
fn colour(loss: f64) -> String {
    let part = (loss / LN_2).clamp(0.0, 1.0);
    let mix = |white: f64, dark: f64| (white + part * (dark - white)).round();
    let ink = if part > 0.5 { "#fff" } else { "#1f2430" };
    format!("background:rgb({},{},{});color:{ink}", mix(255.0, 16.0), mix(255.0, 58.0), mix(255.0, 110.0))
}

fn legend(out: &mut String) {
    out.push_str("<p class=\"legend quiet\">task loss, nats");
    for loss in [0.0, 0.1, 0.2, 0.35, 0.5] {
        let _ = write!(out, " <span style=\"{}\">{loss:.2}</span>", colour(loss));
    }
    let _ = write!(out, " <span style=\"{}\">0.69 and more</span></p>", colour(LN_2));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_loss_is_darker_and_ink_stays_readable() {
        let parse = |style: String| -> (f64, bool) {
            let inner = style.split(['(', ')']).nth(1).unwrap().to_owned();
            (inner.split(',').map(|x| x.parse::<f64>().unwrap()).sum(), style.ends_with("#fff"))
        };
        let shades: Vec<(f64, bool)> = (0..=10).map(|i| parse(colour(LN_2 * f64::from(i) / 10.0))).collect();
        assert!(shades.windows(2).all(|w| w[0].0 > w[1].0), "{shades:?}");
        assert!(shades.iter().all(|(light, white)| *white == (*light < 475.0)), "{shades:?}");
        assert_eq!(colour(9.0), colour(LN_2));
    }
}
