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

/// Form of the nodes of a row. A node has one name, the one that commands and files read; it is drawn in full as long as there is
/// room.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// Names in boxes.
    Boxes,
    /// Points with slanted names.
    Slanted,
    /// Points; each has its name as a title, and the list of nodes has all of them.
    Points,
}

/// Width of a name in a box.
fn width(name: &str) -> f64 {
    10.0 + 6.4 * name.chars().count() as f64
}

fn form(row: &[Node]) -> Form {
    const MOST_SLANTED: usize = 60;
    let widest = row.iter().map(|n| width(&n.to_string())).fold(0.0, f64::max);
    match row.len() {
        n if n as f64 * (widest + 4.0) <= WIDTH - LEFT - RIGHT => Form::Boxes,
        n if n <= MOST_SLANTED => Form::Slanted,
        _ => Form::Points,
    }
}

/// Room on the right of a row: slanted names begin at their points.
fn right_of(row: &[Node]) -> f64 {
    let widest = row.iter().map(|n| width(&n.to_string())).fold(0.0, f64::max);
    if form(row) == Form::Slanted { RIGHT + widest * 30_f64.to_radians().cos() } else { RIGHT }
}

/// Height of a row: slanted names, at 30 degrees, stand above their points.
fn height_of(row: &[Node]) -> f64 {
    let widest = row.iter().map(|n| width(&n.to_string())).fold(0.0, f64::max);
    if form(row) == Form::Slanted { ROW + widest / 2.0 } else { ROW }
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
    let height = TOP * 2.0 + rows.values().map(|row| height_of(row)).sum::<f64>();
    // Rows rise: the first is at the bottom, above the tokens.
    let mut below = height - TOP;
    let mut y_of: BTreeMap<(usize, usize), f64> = BTreeMap::new();
    for (&row, nodes) in &rows {
        y_of.insert(row, below - ROW / 2.0);
        below -= height_of(nodes);
    }
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
    let forms: BTreeMap<(usize, usize), Form> = rows.iter().map(|(&row, nodes)| (row, form(nodes))).collect();
    nodes.iter().for_each(|&node| draw_node(&mut svg, circuit, node, at(node), forms[&row_of(node)]));
    svg.push_str("</svg>");
    svg
}

/// A node with its name; its label stands under it.
fn draw_node(svg: &mut String, circuit: &CircuitReport, node: Node, (x, y): (f64, f64), form: Form) {
    let circuit = &circuit.file.circuit;
    let (name, title) = (node.to_string(), escape(&circuit.describe(node)));
    let width = width(&name);
    let _ = write!(svg, "<g><title>{title}</title>");
    let _ = match form {
        Form::Boxes => write!(
            svg,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"20\" rx=\"10\" fill=\"#fff\" stroke=\"{INK}\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" font-size=\"11\" text-anchor=\"middle\" fill=\"{INK}\">{name}</text>",
            x - width / 2.0,
            y - 10.0,
            y + 4.0
        ),
        Form::Slanted => write!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{INK}\"/>\
             <text transform=\"translate({:.1} {:.1}) rotate(-30)\" font-size=\"11\" fill=\"{INK}\">{name}</text>",
            x + 4.0,
            y - 6.0
        ),
        Form::Points => write!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{INK}\"/>"),
    };
    if let Some(label) = circuit.labels().get(&node).filter(|_| form != Form::Points) {
        let _ = write!(
            svg,
            "<text x=\"{x:.1}\" y=\"{:.1}\" font-size=\"11\" text-anchor=\"middle\" fill=\"{BLUE}\">{}</text>",
            y + 23.0,
            escape(&label.name)
        );
    }
    svg.push_str("</g>");
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
        let room = WIDTH - LEFT - right_of(row);
        for (i, &node) in row.iter().enumerate() {
            place.insert(node, LEFT + room * (i as f64 + 0.5) / row.len() as f64);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_boxes_then_slanted_names_then_points() {
        let row = |n: usize| -> Vec<Node> { (0..n).map(|i| format!("0.mlp.post_act[{i}]").parse().unwrap()).collect() };
        let forms = [1, 5, 20, 60, 61].map(|n| form(&row(n)));
        assert!(forms == [Form::Boxes, Form::Boxes, Form::Slanted, Form::Slanted, Form::Points]);
        assert!(height_of(&row(20)) > height_of(&row(5)) + 40.0);
    }

    #[test]
    fn slanted_names_end_inside_the_picture() {
        let row: Vec<Node> = (0..20).map(|i| format!("0.mlp.post_act[{i}]").parse().unwrap()).collect();
        let links = Links { weights: vec![], residual: vec![], attention: vec![] };
        let place = arrange(&BTreeMap::from([(row_of(row[0]), row.clone())]), &links);
        assert!(row.iter().all(|n| place[n] + width(&n.to_string()) * 30_f64.to_radians().cos() < WIDTH));
    }
}
