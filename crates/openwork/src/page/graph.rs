//! A circuit as a picture: rows are sites in the order of the forward pass, from the bottom up.

use std::{collections::BTreeMap, fmt::Write as _};

use openwork_circuit::Node;
use openwork_model::SiteKind;

use openwork_project::CircuitReport;

use super::escape;

const WIDTH: f64 = 1000.0;
/// Room for the names of rows on the left.
const LEFT: f64 = 190.0;
const RIGHT: f64 = 20.0;
const ROW: f64 = 62.0;
const TOP: f64 = 34.0;

const INK: &str = "#1f2430";
const QUIET: &str = "#98a2b3";
const BLUE: &str = "#1f5fa0";
const ORANGE: &str = "#d16116";

/// Nodes that stand side by side: queries, keys and values share a row.
fn row_of(node: Node) -> (usize, usize) {
    let stage = match node.site.kind {
        SiteKind::AttnRead => 0,
        SiteKind::Query | SiteKind::Key | SiteKind::Value => 1,
        SiteKind::AttnWrite => 2,
        SiteKind::MlpRead => 3,
        SiteKind::Neuron => 4,
        _ => 5,
    };
    (node.site.layer, stage)
}

fn row_name((layer, stage): (usize, usize)) -> String {
    let name = ["attention reads", "queries, keys, values", "attention writes", "MLP reads", "neurons", "MLP writes"];
    format!("layer {layer} · {}", name[stage])
}

/// The name of a node inside its row.
fn label(node: Node, d_head: usize) -> String {
    let head = |letter: char| format!("h{}.{letter}{}", node.index / d_head, node.index % d_head);
    match node.site.kind {
        SiteKind::Query => head('q'),
        SiteKind::Key => head('k'),
        SiteKind::Value => head('v'),
        SiteKind::Neuron => format!("n{}", node.index),
        _ => format!("r{}", node.index),
    }
}

/// The circuit as SVG.
pub fn draw(circuit: &CircuitReport) -> String {
    let nodes: Vec<Node> = circuit.file.circuit.nodes().nodes().collect();
    if nodes.is_empty() {
        return "<p class=\"quiet\">The circuit has no nodes.</p>".into();
    }
    let mut rows: BTreeMap<(usize, usize), Vec<Node>> = BTreeMap::new();
    nodes.iter().for_each(|&n| rows.entry(row_of(n)).or_default().push(n));
    let links = links(circuit, &nodes);
    let place = arrange(&rows, &links);
    let height = TOP * 2.0 + ROW * rows.len() as f64;
    // Rows rise: the first is at the bottom, above the tokens.
    let y_of: BTreeMap<(usize, usize), f64> =
        rows.keys().enumerate().map(|(i, &row)| (row, height - TOP - ROW * (i as f64 + 0.5))).collect();
    let at = |n: Node| (place[&n], y_of[&row_of(n)]);

    let mut svg = String::new();
    let _ = write!(
        svg,
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"the circuit's nodes and edges\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\">"
    );
    for (row, y) in &y_of {
        let _ = write!(
            svg,
            "<text x=\"0\" y=\"{:.1}\" fill=\"{QUIET}\">{}</text><line x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#f0f2f5\"/>",
            y + 4.0,
            row_name(*row)
        );
    }
    for (text, y) in [("logits", 16.0), ("tokens", height - 10.0)] {
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{y:.1}\" text-anchor=\"middle\" fill=\"{QUIET}\">{text}</text>",
            (LEFT + WIDTH) / 2.0
        );
    }
    for &(from, to) in &links.residual {
        let ((x1, y1), (x2, y2)) = (at(from), at(to));
        let _ = write!(
            svg,
            "<path d=\"{}\" fill=\"none\" stroke=\"{QUIET}\" stroke-opacity=\"0.55\" stroke-dasharray=\"4 4\"/>",
            curve(x1, y1, x2, y2)
        );
    }
    for &(query, key) in &links.attention {
        let ((x1, y1), (x2, _)) = (at(query), at(key));
        let _ = write!(
            svg,
            "<path d=\"M{x1:.1} {y1:.1} Q{:.1} {:.1} {x2:.1} {y1:.1}\" fill=\"none\" stroke=\"{INK}\" stroke-opacity=\"0.6\" stroke-dasharray=\"1.5 3\"/>",
            (x1 + x2) / 2.0,
            y1 - 20.0
        );
    }
    let largest = circuit.file.circuit.edges().iter().fold(1e-12_f32, |m, e| m.max(e.weight.abs()));
    for edge in circuit.file.circuit.edges() {
        let ((x1, y1), (x2, y2)) = (at(edge.from), at(edge.to));
        let strength = f64::from(edge.weight.abs() / largest);
        let _ = write!(
            svg,
            "<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{:.2}\" stroke-opacity=\"{:.2}\"><title>{} → {}: {:+.3}</title></path>",
            curve(x1, y1, x2, y2),
            if edge.weight > 0.0 { BLUE } else { ORANGE },
            0.8 + 3.4 * strength,
            0.45 + 0.5 * strength,
            edge.from,
            edge.to,
            edge.weight
        );
    }
    let crowded = rows.values().map(Vec::len).max().unwrap_or(0) > 22;
    for &node in &nodes {
        let (x, y) = at(node);
        let text = match circuit.file.circuit.labels().get(&node) {
            Some(label) => escape(&label.name),
            None => escape(&label(node, circuit.d_head)),
        };
        let title = escape(&circuit.file.circuit.describe(node));
        if crowded {
            let _ = write!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{INK}\"><title>{title}</title></circle>"
            );
            continue;
        }
        let width = 10.0 + 6.6 * text.len() as f64;
        let _ = write!(
            svg,
            "<g><title>{title}</title><rect x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"20\" rx=\"10\" fill=\"#fff\" stroke=\"{INK}\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"{INK}\">{text}</text></g>",
            x - width / 2.0,
            y - 10.0,
            y + 4.0
        );
    }
    svg.push_str("</svg>");
    svg
}

/// Lines between nodes: weights, the residual stream, and the product of queries and keys.
struct Links {
    weights: Vec<(Node, Node)>,
    residual: Vec<(Node, Node)>,
    attention: Vec<(Node, Node)>,
}

fn links(circuit: &CircuitReport, nodes: &[Node]) -> Links {
    let of = |kind: SiteKind| nodes.iter().copied().filter(move |n| n.site.kind == kind);
    let attention = of(SiteKind::Query)
        .flat_map(|q| {
            of(SiteKind::Key).filter(move |k| k.site.layer == q.site.layer && k.index == q.index).map(move |k| (q, k))
        })
        .collect();
    let circuit = &circuit.file.circuit;
    Links {
        weights: circuit.edges().iter().map(|e| (e.from, e.to)).collect(),
        residual: circuit.residual_edges().iter().map(|e| (e.from, e.to)).collect(),
        attention,
    }
}

/// Horizontal places: evenly spaced in a row, ordered by the mean place of neighbours in a few sweeps, so
/// that links cross little.
fn arrange(rows: &BTreeMap<(usize, usize), Vec<Node>>, links: &Links) -> BTreeMap<Node, f64> {
    let mut neighbours: BTreeMap<Node, Vec<Node>> = BTreeMap::new();
    for &(a, b) in links.weights.iter().chain(&links.residual).chain(&links.attention) {
        neighbours.entry(a).or_default().push(b);
        neighbours.entry(b).or_default().push(a);
    }
    let mut rows = rows.clone();
    let mut place = BTreeMap::new();
    let spread = |row: &[Node], place: &mut BTreeMap<Node, f64>| {
        for (i, &node) in row.iter().enumerate() {
            place.insert(node, LEFT + (WIDTH - LEFT - RIGHT) * (i as f64 + 0.5) / row.len() as f64);
        }
    };
    rows.values().for_each(|row| spread(row, &mut place));
    for _ in 0..12 {
        for row in rows.values_mut() {
            let centre = |node: &Node| match neighbours.get(node) {
                Some(n) => n.iter().map(|m| place[m]).sum::<f64>() / n.len() as f64,
                None => place[node],
            };
            let centres: BTreeMap<Node, f64> = row.iter().map(|n| (*n, centre(n))).collect();
            row.sort_by(|a, b| centres[a].total_cmp(&centres[b]));
            spread(row, &mut place);
        }
    }
    place
}

/// A smooth line between two nodes.
fn curve(x1: f64, y1: f64, x2: f64, y2: f64) -> String {
    let middle = (y1 + y2) / 2.0;
    format!("M{x1:.1} {y1:.1} C{x1:.1} {middle:.1} {x2:.1} {middle:.1} {x2:.1} {y2:.1}")
}
