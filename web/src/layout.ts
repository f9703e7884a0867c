// Places of a circuit's nodes: rows are sites in the order of the forward pass, from the tokens at the bottom up.
import type { EdgeKind, Graph } from "./types";
import { cut, visible } from "./text";

export interface Box {
  id: string; members: number[]; row: number; text: string; x: number; y: number; width: number; folded: boolean; compact: boolean;
}
export interface Wire { from: number; to: number; kind: EdgeKind; weight: number | null; strength: number; parts: number[] }
export interface Drawn {
  boxes: Box[]; wires: Wire[]; width: number; height: number; left: number; rows: { name: string; y: number }[]; hidden: number;
  /** Size of marks and names: above 1 in a drawing that is so wide that it is seen from afar. */
  unit: number;
}

export const BOX = 26;
const ROW = 92;
const GAP = 14;
/** Width from which on a drawing is seen from afar. */
const NEAR = 1100;
const LEFT = 168;
/** Nodes of a row from which on they are points without names. */
const CROWDED = 18;

/** Key of the group that a node folds into: its head or its layer, if that is folded. */
function folded(graph: Graph, node: number, fold: Set<string>): string | null {
  const { row, head } = graph.nodes[node]!;
  const layer = graph.rows[row]!.layer;
  if (fold.has(`${layer}`)) return `${layer}`;
  return head !== null && fold.has(`${layer}.head.${head}`) ? `${layer}.head.${head}` : null;
}

/** Edges that lie on no way from tokens to logits through what is drawn. Reads are reached from the tokens and writes reach the
 *  logits; all others need an edge in and an edge out. */
function unconnected(graph: Graph, shown: boolean[]): boolean[] {
  const alive = [...shown];
  const through = (kind: string) => kind === "neuron" || kind === "v" || kind === "q" || kind === "k";
  const d = (node: number) => `${graph.rows[graph.nodes[node]!.row]!.layer}.${graph.nodes[node]!.head}`;
  for (let changed = true; changed;) {
    changed = false;
    const into = new Set<number>(), out = new Set<number>(), heads = new Set<string>();
    graph.edges.forEach((edge, i) => {
      if (!alive[i]) return;
      out.add(edge.from);
      into.add(edge.to);
      if (graph.nodes[edge.from]!.kind === "v") heads.add(d(edge.from));
    });
    const dead = (node: number) => {
      const { kind } = graph.nodes[node]!;
      if (!through(kind)) return false;
      // Queries and keys act through the values of their head.
      const leaves = kind === "q" || kind === "k" ? heads.has(d(node)) : out.has(node);
      return !into.has(node) || !leaves;
    };
    graph.edges.forEach((edge, i) => {
      if (alive[i] && edge.kind !== "attention" && (dead(edge.from) || dead(edge.to))) { alive[i] = false; changed = true; }
    });
  }
  return alive;
}

export interface Choice { strength: number[]; least: number; fold: Set<string>; connected: boolean }

/** The drawing of a graph: edges whose strength is at least so much of the largest, nodes that they join, and places. */
export function layOut(graph: Graph, choice: Choice): Drawn {
  const most = Math.max(1e-30, ...graph.edges.map((edge, i) => (edge.kind === "weight" ? choice.strength[i]! : 0)));
  const share = (i: number) => Math.min(1, choice.strength[i]! / most);
  let shown = graph.edges.map((edge, i) => edge.kind !== "weight" || share(i) >= choice.least);
  if (choice.connected) shown = unconnected(graph, shown);
  const used = new Set<number>();
  graph.edges.forEach((edge, i) => { if (shown[i] && edge.kind === "weight") { used.add(edge.from); used.add(edge.to); } });
  const some = used.size > 0 && choice.least > 0;

  const boxes: Box[] = [];
  const boxOf = new Map<string, number>();
  const place = graph.nodes.map((node, i) => {
    if (some && !used.has(i)) return -1;
    const group = folded(graph, i, choice.fold);
    const id = group ?? node.name;
    let at = boxOf.get(id);
    if (at === undefined) {
      at = boxes.length;
      boxOf.set(id, at);
      const name = node.label ? visible(node.label) : `${node.kind} ${node.index}`;
      const text = group === null ? name : group.includes("head") ? `head ${group.split(".")[2]}` : `layer ${group}`;
      boxes.push({ id, members: [], row: node.row, text: cut(text, 22), x: 0, y: 0, width: 0, folded: group !== null, compact: false });
    }
    boxes[at]!.members.push(i);
    return at;
  });
  const wires = new Map<string, Wire>();
  let hidden = 0;
  graph.edges.forEach((edge, i) => {
    const [from, to] = [place[edge.from]!, place[edge.to]!];
    if (!shown[i] || from < 0 || to < 0) { if (edge.kind === "weight") hidden += 1; return; }
    if (from === to) return;
    const id = `${from} ${to} ${edge.kind}`;
    const wire = wires.get(id);
    const strength = edge.kind === "weight" ? share(i) : 0;
    if (!wire) wires.set(id, { from, to, kind: edge.kind, weight: edge.weight, strength, parts: [i] });
    else {
      wire.parts.push(i);
      wire.weight = null;
      wire.strength = Math.max(wire.strength, strength);
    }
  });
  return placed(graph, boxes, [...wires.values()], hidden);
}

function placed(graph: Graph, boxes: Box[], wires: Wire[], hidden: number): Drawn {
  const rows: number[][] = graph.rows.map(() => []);
  boxes.forEach((box, i) => rows[box.row]!.push(i));
  for (const row of rows) {
    const compact = row.length > CROWDED;
    for (const i of row) {
      const box = boxes[i]!;
      box.compact = compact && !box.folded;
      box.width = box.compact ? 12 : Math.max(44, 16 + 7.2 * [...box.text].length);
    }
  }
  const near: number[][] = boxes.map(() => []);
  for (const wire of wires) { near[wire.from]!.push(wire.to); near[wire.to]!.push(wire.from); }
  spread(rows, boxes);
  for (let turn = 0; turn < 8; turn += 1) {
    const order = turn % 2 === 0 ? rows : [...rows].reverse();
    for (const row of order) {
      const wish = new Map(row.map((i) => [i, mean(near[i]!.filter((j) => boxes[j]!.row !== boxes[i]!.row).map((j) => boxes[j]!.x), boxes[i]!.x)]));
      row.sort((a, b) => wish.get(a)! - wish.get(b)! || a - b);
      settle(row, boxes, wish);
    }
  }
  const lefts = boxes.map((box) => box.x - box.width / 2);
  const rights = boxes.map((box) => box.x + box.width / 2);
  const unit = boxes.length ? Math.min(4, Math.max(1, (Math.max(...rights) - Math.min(...lefts)) / NEAR)) : 1;
  const left = LEFT * unit;
  const shift = left - (lefts.length ? Math.min(...lefts) : 0);
  boxes.forEach((box) => { box.x += shift; });
  const width = Math.max(left + 320, ...boxes.map((box) => box.x + box.width / 2 + 24));
  const filled = rows.map((row, i) => ({ row, i })).filter(({ row }) => row.length > 0);
  // Wide rows stand further apart, or their edges would lie flat.
  const apart = Math.max(ROW, Math.min(ROW * unit, (0.7 * width) / Math.max(1, filled.length)));
  const height = apart * filled.length + 70;
  const named = filled.map(({ row, i }, level) => {
    const y = height - 36 - apart / 2 - apart * level + 10;
    row.forEach((at) => { boxes[at]!.y = y; });
    return { name: `L${graph.rows[i]!.layer} ${graph.rows[i]!.name}`, y };
  });
  return { boxes, wires, width, height, left, rows: named, hidden, unit };
}

const mean = (list: number[], usual: number) => (list.length ? list.reduce((a, b) => a + b, 0) / list.length : usual);

/** Rows side by side around 0. */
function spread(rows: number[][], boxes: Box[]): void {
  for (const row of rows) {
    const width = row.reduce((sum, i) => sum + boxes[i]!.width + GAP, -GAP);
    let x = -width / 2;
    for (const i of row) { boxes[i]!.x = x + boxes[i]!.width / 2; x += boxes[i]!.width + GAP; }
  }
}

/** Moves the boxes of a row as near to their wishes as their widths allow: from the left, from the right, and the mean of both. */
function settle(row: number[], boxes: Box[], wish: Map<number, number>): void {
  const apart = (a: number, b: number) => (boxes[a]!.width + boxes[b]!.width) / 2 + GAP;
  const right: number[] = [], left: number[] = new Array(row.length);
  row.forEach((i, k) => { right.push(k === 0 ? wish.get(i)! : Math.max(wish.get(i)!, right[k - 1]! + apart(row[k - 1]!, i))); });
  for (let k = row.length - 1; k >= 0; k -= 1) {
    const i = row[k]!;
    left[k] = k === row.length - 1 ? wish.get(i)! : Math.min(wish.get(i)!, left[k + 1]! - apart(i, row[k + 1]!));
  }
  row.forEach((i, k) => { boxes[i]!.x = (right[k]! + left[k]!) / 2; });
}
