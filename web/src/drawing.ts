// The drawing of a graph: SVG that is made once, and moved and scaled as a whole, so that panning draws nothing anew.
import { select } from "d3-selection";
import { zoom, zoomIdentity, type ZoomBehavior } from "d3-zoom";
import { BOX, type Box, type Drawn, type Wire } from "./layout";
import { signed } from "./text";
import type { Graph } from "./types";

const NS = "http://www.w3.org/2000/svg";

function element<K extends keyof SVGElementTagNameMap>(name: K, attributes: Record<string, string | number>, parent?: Element): SVGElementTagNameMap[K] {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  parent?.append(made);
  return made;
}

export interface Marks { selected: string | null; path: string[]; shared: Set<string> | null }
export interface Handlers { pick: (box: Box) => void; look: (box: Box | null) => void; unfold: (key: string) => void }

function curve(from: Box, to: Box, kind: string): string {
  const half = (box: Box) => (box.compact ? 6 : BOX / 2);
  if (kind === "attention" && from.y === to.y) {
    const y = from.y - half(from), lift = 16 + Math.min(30, Math.abs(to.x - from.x) / 6);
    return `M${from.x} ${y}C${from.x} ${y - lift} ${to.x} ${y - lift} ${to.x} ${y}`;
  }
  const [y1, y2] = [from.y - half(from), to.y + half(to)];
  const bend = (y2 - y1) / 2;
  const round = (x: number) => Math.round(10 * x) / 10;
  return `M${round(from.x)} ${y1}C${round(from.x)} ${y1 + bend} ${round(to.x)} ${y2 - bend} ${round(to.x)} ${y2}`;
}

/** Words on a node for readers of the screen. */
export function describe(graph: Graph, box: Box): string {
  if (box.folded) return `${box.text}, ${box.members.length} nodes, folded`;
  // The name begins with what is seen, so that a person who speaks to the page can say it.
  return `${box.text}, ${graph.nodes[box.members[0]!]!.name}`;
}

export class Drawing {
  readonly svg: SVGSVGElement;
  private readonly behaviour: ZoomBehavior<HTMLElement, unknown>;
  private drawn: Drawn | null = null;
  private unit = 1;
  private boxes: SVGGElement[] = [];
  private wires: SVGPathElement[] = [];
  private touching: number[][] = [];
  private byId = new Map<string, number>();

  constructor(private readonly port: HTMLElement, private readonly handlers: Handlers) {
    this.svg = element("svg", { class: "drawing graph", role: "group", "aria-label": "The circuit: arrow keys move between its nodes" });
    port.append(this.svg);
    this.behaviour = zoom<HTMLElement, unknown>()
      .scaleExtent([0.05, 6])
      .filter((event: Event) => !(event as MouseEvent).button && (event.type !== "wheel" || this.port.contains(event.target as Node)))
      // A composited layer moves without being drawn anew; without the hint it is drawn sharp at its new size.
      .on("start", () => this.svg.classList.add("moving"))
      .on("zoom", (event: { transform: { x: number; y: number; k: number } }) => {
        const { x, y, k } = event.transform;
        this.svg.style.transform = `translate(${x}px,${y}px) scale(${k})`;
      })
      .on("end", () => this.svg.classList.remove("moving"));
    select(port).call(this.behaviour).on("dblclick.zoom", null);
    this.listen();
  }

  /** Draws a graph in place of the one before. */
  draw(graph: Graph, drawn: Drawn, marks: Marks): void {
    this.drawn = drawn;
    this.unit = drawn.unit;
    const { svg } = this;
    svg.textContent = "";
    svg.setAttribute("width", String(drawn.width));
    svg.setAttribute("height", String(drawn.height));
    svg.setAttribute("viewBox", `0 0 ${drawn.width} ${drawn.height}`);
    for (const row of drawn.rows) {
      element("line", { class: "row", x1: drawn.left - 20, x2: drawn.width, y1: row.y, y2: row.y }, svg);
      element("text", { class: "row-name", x: 8, y: row.y + 4, "font-size": (12 * drawn.unit).toFixed(1) }, svg).textContent = row.name;
    }
    element("text", { class: "end", x: 8, y: drawn.height - 12, "font-size": (12 * drawn.unit).toFixed(1) }, svg).textContent = "tokens";
    element("text", { class: "end", x: 8, y: 6 + 12 * drawn.unit, "font-size": (12 * drawn.unit).toFixed(1) }, svg).textContent = "logits";
    this.touching = drawn.boxes.map(() => []);
    const wires = element("g", { class: "wires" }, svg);
    // The strongest are drawn last, on top.
    const order = drawn.wires.map((_, i) => i).sort((a, b) => drawn.wires[a]!.strength - drawn.wires[b]!.strength);
    this.wires = new Array<SVGPathElement>(drawn.wires.length);
    for (const i of order) this.wires[i] = this.wire(drawn.wires[i]!, drawn, graph, wires);
    drawn.wires.forEach((wire, i) => { this.touching[wire.from]!.push(i); this.touching[wire.to]!.push(i); });
    const group = element("g", { class: "boxes" }, svg);
    this.byId = new Map(drawn.boxes.map((box, i) => [box.id, i]));
    this.boxes = drawn.boxes.map((box, i) => this.box(box, i, graph, group));
    this.mark(marks);
  }

  private wire(wire: Wire, drawn: Drawn, graph: Graph, parent: Element): SVGPathElement {
    const sign = wire.kind !== "weight" ? wire.kind : wire.weight === null ? "mixed" : wire.weight < 0 ? "negative" : "positive";
    const path = element("path", {
      class: `wire ${sign}`,
      d: curve(drawn.boxes[wire.from]!, drawn.boxes[wire.to]!, wire.kind),
      "stroke-width": (drawn.unit * (wire.kind === "weight" ? 0.8 + 4 * wire.strength : 1.2)).toFixed(2),
      "stroke-opacity": wire.kind === "weight" ? (0.35 + 0.6 * wire.strength).toFixed(2) : 0.7,
    }, parent);
    const names = [wire.from, wire.to].map((end) => describe(graph, drawn.boxes[end]!));
    const words = wire.kind === "weight"
      ? wire.parts.length > 1 ? `${wire.parts.length} edges` : wire.weight === null ? "edge" : `weight ${signed(wire.weight)}`
      : wire.kind === "residual" ? "residual stream" : "query and key";
    element("title", {}, path).textContent = `${names[0]} \u2192 ${names[1]}: ${words}`;
    return path;
  }

  private box(box: Box, i: number, graph: Graph, parent: Element): SVGGElement {
    const made = element("g", {
      class: `box${box.folded ? " folded" : ""}${box.compact ? " compact" : ""}`,
      transform: `translate(${box.x.toFixed(1)} ${box.y})`,
      "data-box": i, role: "button", tabindex: i === 0 ? 0 : -1, "aria-label": describe(graph, box),
    }, parent);
    if (box.compact) {
      element("circle", { r: Math.min(10, 5 * this.unit) }, made);
    } else {
      element("rect", { x: -box.width / 2, y: -BOX / 2, width: box.width, height: BOX, rx: box.folded ? 2 : 8 }, made);
      element("text", { y: 4 }, made).textContent = box.text;
    }
    return made;
  }

  /** Marks the selected node, a path, and nodes that another circuit has too. */
  mark(marks: Marks): void {
    if (!this.drawn) return;
    const { boxes, wires } = this.drawn;
    const path = new Set(marks.path);
    this.svg.classList.toggle("following", path.size > 1);
    boxes.forEach((box, i) => {
      const made = this.boxes[i]!;
      const selected = box.id === marks.selected;
      made.classList.toggle("selected", selected);
      made.classList.toggle("on-path", path.has(box.id));
      made.classList.toggle("only", marks.shared !== null && !marks.shared.has(box.id));
      made.setAttribute("aria-pressed", String(selected));
    });
    const steps = new Set(marks.path.slice(1).map((id, i) => `${marks.path[i]} ${id}`));
    wires.forEach((wire, i) => {
      const [a, b] = [boxes[wire.from]!.id, boxes[wire.to]!.id];
      this.wires[i]!.classList.toggle("on-path", steps.has(`${a} ${b}`) || steps.has(`${b} ${a}`));
    });
  }

  /** Shows a node's edges above all others. */
  private look(at: number | null): void {
    this.svg.classList.toggle("looking", at !== null);
    this.svg.querySelectorAll(".near").forEach((near) => near.classList.remove("near"));
    if (at !== null) {
      this.boxes[at]?.classList.add("near");
      for (const i of this.touching[at] ?? []) {
        const wire = this.drawn!.wires[i]!;
        this.wires[i]!.classList.add("near");
        this.boxes[wire.from]!.classList.add("near");
        this.boxes[wire.to]!.classList.add("near");
      }
    }
    this.handlers.look(at === null ? null : this.drawn!.boxes[at]!);
  }

  private listen(): void {
    const of = (event: Event) => {
      const box = (event.target as Element).closest("[data-box]");
      return box ? Number(box.getAttribute("data-box")) : null;
    };
    let over: number | null = null;
    this.svg.addEventListener("pointerover", (event) => { const at = of(event); if (at !== over) { over = at; this.look(at); } });
    this.svg.addEventListener("pointerleave", () => { over = null; this.look(null); });
    // On the port, since an SVG element that listens for the focus can have it.
    this.port.addEventListener("focusin", (event) => this.look(of(event)));
    this.port.addEventListener("focusout", () => this.look(null));
    const pick = (at: number) => {
      const box = this.drawn!.boxes[at]!;
      if (box.folded) this.handlers.unfold(box.id);
      else this.handlers.pick(box);
    };
    this.svg.addEventListener("click", (event) => { const at = of(event); if (at !== null) pick(at); });
    this.svg.addEventListener("keydown", (event) => {
      const at = of(event);
      if (at === null) return;
      if (event.key === "Enter" || event.key === " ") pick(at);
      else {
        const next = this.neighbour(at, event.key);
        if (next === null) return;
        this.focus(next);
      }
      event.preventDefault();
    });
  }

  /** The node that an arrow key leads to: beside it in its row, or at the end of its strongest edge up or down. */
  private neighbour(at: number, key: string): number | null {
    const { boxes, wires } = this.drawn!;
    const own = boxes[at]!;
    if (key === "ArrowLeft" || key === "ArrowRight") {
      const side = key === "ArrowLeft" ? -1 : 1;
      const beside = boxes.map((box, i) => ({ i, by: side * (box.x - own.x), row: box.row })).filter((box) => box.row === own.row && box.by > 0);
      return beside.sort((a, b) => a.by - b.by)[0]?.i ?? null;
    }
    if (key !== "ArrowUp" && key !== "ArrowDown") return null;
    const up = key === "ArrowUp";
    const ends = this.touching[at]!.map((i) => wires[i]!).map((wire) => ({ end: wire.from === at ? wire.to : wire.from, strength: wire.strength }));
    const there = ends.filter(({ end }) => (up ? boxes[end]!.y < own.y : boxes[end]!.y > own.y));
    return there.sort((a, b) => b.strength - a.strength)[0]?.end ?? null;
  }

  private focus(at: number): void {
    this.boxes.forEach((box, i) => box.setAttribute("tabindex", i === at ? "0" : "-1"));
    this.boxes[at]!.focus({ preventScroll: true });
  }

  /** Moves the whole drawing into the port. */
  fit(): void {
    if (!this.drawn) return;
    const { clientWidth: w, clientHeight: h } = this.port;
    const k = Math.min(1.4, w / this.drawn.width, h / this.drawn.height);
    const x = (w - k * this.drawn.width) / 2, y = (h - k * this.drawn.height) / 2;
    select(this.port).call(this.behaviour.transform, zoomIdentity.translate(Math.max(0, x), Math.max(0, y)).scale(k));
  }

  zoomBy(factor: number): void {
    select(this.port).call(this.behaviour.scaleBy, factor);
  }

  panBy(x: number, y: number): void {
    select(this.port).call(this.behaviour.translateBy, x, y);
  }

  has(id: string): boolean {
    return this.byId.has(id);
  }
}
