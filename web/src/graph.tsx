// The graph of a circuit, with what filters, folds and follows it.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { useAsk } from "./ask";
import { Drawing } from "./drawing";
import { layOut, type Box } from "./layout";
import { NodePanel } from "./node";
import { Fault, Figure } from "./parts";
import { go, type State } from "./state";
import { count, percent, signed, size, visible } from "./text";
import type { Effects, Graph } from "./types";

const MEASURES = {
  carried: "mean |weight \u00d7 value| on the task's prompts",
  weight: "magnitude of the weight",
  effect: "rise of the circuit's loss without the edge, nats",
};

/** True for an edge that is known by its effect alone. */
const bare = (edge: Graph["edges"][number]) => edge.kind === "weight" && edge.weight === null;

/** Strength of every edge by the measure at hand; none where it is not known yet. */
function strengths(graph: Graph, measure: State["measure"], effects: Effects | null): number[] {
  let weights = -1;
  return graph.edges.map((edge) => {
    if (edge.kind !== "weight") return 0;
    weights += 1;
    // A published circuit has effects and no weights.
    if (measure === "effect" || edge.weight === null) return Math.max(0, effects?.edges[weights] ?? 0);
    return measure === "carried" && edge.carried !== null ? edge.carried : Math.abs(edge.weight ?? 0);
  });
}

export function GraphPort({ graph, choice, marks, onPick, height }: {
  graph: Graph; choice: Parameters<typeof layOut>[1]; marks: { selected: string | null; path: string[]; shared: Set<string> | null };
  onPick: (name: string) => void; height?: string;
}) {
  const port = useRef<HTMLDivElement>(null);
  const drawing = useRef<Drawing | null>(null);
  const [over, setOver] = useState<Box | null>(null);
  const drawn = useMemo(() => layOut(graph, choice), [graph, choice]);
  const picked = useRef(onPick);
  picked.current = onPick;
  useEffect(() => {
    drawing.current ??= new Drawing(port.current!, {
      pick: (box) => picked.current(box.id),
      look: setOver,
      unfold: (key) => go({ fold: [...choice.fold].filter((other) => other !== key) }, true),
    });
    drawing.current.draw(graph, drawn, marks);
    drawing.current.fit();
    performance.mark("drawn");
  }, [graph, drawn]);
  useEffect(() => drawing.current?.mark(marks), [marks.selected, marks.path.join(), marks.shared]);
  const keys = (event: KeyboardEvent) => {
    const d = drawing.current!;
    const step = 80;
    const moves: Record<string, () => void> = {
      "+": () => d.zoomBy(1.25), "=": () => d.zoomBy(1.25), "-": () => d.zoomBy(0.8), "0": () => d.fit(),
      ArrowLeft: () => d.panBy(step, 0), ArrowRight: () => d.panBy(-step, 0), ArrowUp: () => d.panBy(0, step), ArrowDown: () => d.panBy(0, -step),
    };
    if (event.defaultPrevented || !moves[event.key] || event.ctrlKey || event.metaKey) return;
    moves[event.key]!();
    event.preventDefault();
  };
  return (
    <div class="graph-frame">
      <div class="port" ref={port} tabIndex={0} role="region" aria-label={`Graph of ${graph.name}; plus and minus zoom, arrows pan`} onKeyDown={keys} style={height ? { height } : {}} />
      <div class="zoom" role="group" aria-label="Zoom">
        <button type="button" aria-label="Zoom in" onClick={() => drawing.current?.zoomBy(1.25)}>+</button>
        <button type="button" aria-label="Zoom out" onClick={() => drawing.current?.zoomBy(0.8)}>{"\u2212"}</button>
        <button type="button" aria-label="Fit the whole graph" onClick={() => drawing.current?.fit()}>fit</button>
      </div>
      <div class="look" aria-live="polite">
        {over ? <Looked graph={graph} box={over} strength={choice.strength} /> : <Legend hidden={drawn.hidden} />}
      </div>
    </div>
  );
}

function Legend({ hidden }: { hidden: number }) {
  return (
    <p class="legend">
      <span class="line positive" aria-hidden="true" /> positive weight
      <span class="line negative" aria-hidden="true" /> negative weight (dashed)
      <span class="line residual" aria-hidden="true" /> residual stream
      <span class="line attention" aria-hidden="true" /> query and key
      {hidden > 0 && <b>{count(hidden, "edge")} hidden</b>}
    </p>
  );
}

/** Edges of the node under the pointer or the focus. */
function Looked({ graph, box, strength }: { graph: Graph; box: Box; strength: number[] }) {
  const own = new Set(box.members);
  const list = graph.edges.map((edge, i) => ({ edge, i })).filter(({ edge }) => own.has(edge.from) !== own.has(edge.to));
  list.sort((a, b) => strength[b.i]! - strength[a.i]!);
  const node = graph.nodes[box.members[0]!]!;
  const name = (i: number) => { const n = graph.nodes[i]!; return n.label ? `${visible(n.label)} (${n.name})` : n.name; };
  return (
    <div>
      <b>{box.folded ? `${box.text}: ${count(box.members.length, "node")}` : name(box.members[0]!)}</b>
      {!box.folded && node.worth && <> {"\u2014"} worth {size(node.worth[0])} nats [{size(node.worth[1])}, {size(node.worth[2])}]</>}
      <ul class="edges">
        {list.slice(0, 8).map(({ edge, i }) => (
          <li key={i}>
            {own.has(edge.to) ? `\u2190 ${name(edge.from)}` : `\u2192 ${name(edge.to)}`}{" "}
            {bare(edge) ? "edge" : edge.kind === "weight" ? <code>{signed(edge.weight!)}</code> : edge.kind === "residual" ? "residual stream" : "query and key"}
            {edge.kind === "weight" && strength[i]! > 0 && <span class="quiet"> {size(strength[i]!)}</span>}
          </li>
        ))}
        {list.length > 8 && <li class="quiet">and {count(list.length - 8, "edge")} more</li>}
      </ul>
    </div>
  );
}

export function GraphView({ state, circuit }: { state: State; circuit: number }) {
  const asked = useAsk<Graph>({ ask: "graph", circuit });
  const wanted = state.measure === "effect" || (asked.answer !== null && (asked.answer.edges.length <= 200 || asked.answer.edges.some(bare)));
  const effects = useAsk<Effects>(wanted ? { ask: "effects", circuit } : null);
  const graph = asked.answer;
  const fold = state.fold.join();
  const choice = useMemo(() => graph && {
    strength: strengths(graph, state.measure, effects.answer),
    least: state.least, fold: new Set(state.fold), connected: true,
  }, [graph, state.measure, state.measure === "effect" || graph?.edges.some(bare) ? effects.answer : null, state.least, fold]);
  if (asked.error) return <Fault words={asked.error} />;
  if (!graph || !choice) return <p class="waiting">The graph is drawn {"\u2026"}</p>;
  const parts = foldable(graph);
  return (
    <div class="with-aside">
      <Figure title={`Circuit ${visible(graph.name)}`} name={`${graph.name}-graph`} question={{ ask: "graph", circuit }}
        note={<>Layers (L0 is the first) rise from the tokens to the logits. Width is {MEASURES[graph.edges.some(bare) ? "effect" : state.measure]}
          {state.measure === "carried" && graph.carried_over ? <> ({graph.carried_over})</> : null}.
          Edges that no longer join tokens and logits are hidden with the filter.</>}>
        <div class="tools">
          {!graph.edges.some(bare) && <label>Width shows{" "}
            <select value={state.measure} onChange={(event) => go({ measure: event.currentTarget.value as State["measure"] })}>
              <option value="carried">what an edge carries</option>
              <option value="weight">weight</option>
              <option value="effect">effect of ablating it</option>
            </select>
          </label>}
          <label>Hide edges below{" "}
            <input type="range" min="0" max="1" step="0.01" value={Math.sqrt(state.least)} aria-valuetext={`${percent(state.least)} of the largest`}
              onInput={(event) => go({ least: Math.round(1e4 * Number(event.currentTarget.value) ** 2) / 1e4 })} />
            <output>{percent(state.least)} of the largest</output>
          </label>
          {parts.length > 0 && (
            <details class="fold"><summary>Fold{state.fold.length > 0 && ` (${state.fold.length})`}</summary>
              <div>
                {parts.map((part) => (
                  <label key={part}>
                    <input type="checkbox" checked={state.fold.includes(part)}
                      onChange={(event) => go({ fold: event.currentTarget.checked ? [...state.fold, part] : state.fold.filter((p) => p !== part) }, true)} />
                    {part.includes("head") ? part.replace(".head.", " head ") : `all of layer ${part}`}
                  </label>
                ))}
              </div>
            </details>
          )}
          {state.path.length > 0 && <button type="button" onClick={() => go({ path: [] })}>Leave the path of {count(state.path.length, "node")}</button>}
        </div>
        {effects.error && state.measure === "effect" && <Fault words={effects.error} />}
        {state.measure === "effect" && effects.waiting && <p class="waiting" role="status">Every part is ablated once {"\u2026"}</p>}
        <GraphPort graph={graph} choice={choice} marks={{ selected: state.node, path: state.path, shared: null }}
          onPick={(name) => go({ node: name }, true)} />
      </Figure>
      <aside aria-label="Node">
        {state.node
          ? <NodePanel circuit={circuit} name={state.node} state={state} graph={graph} effects={effects.answer} />
          : <NodeList graph={graph} effects={effects.answer} />}
      </aside>
    </div>
  );
}

/** Layers and heads of a circuit with more than one node. */
function foldable(graph: Graph): string[] {
  const sizes = new Map<string, number>();
  for (const node of graph.nodes) {
    const layer = graph.rows[node.row]!.layer;
    for (const key of node.head === null ? [`${layer}`] : [`${layer}`, `${layer}.head.${node.head}`]) sizes.set(key, (sizes.get(key) ?? 0) + 1);
  }
  return [...sizes].filter(([, n]) => n > 1).map(([key]) => key).sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
}

function NodeList({ graph, effects }: { graph: Graph; effects: Effects | null }) {
  const rows = graph.nodes.map((node, i) => ({ node, effect: effects?.nodes[i] ?? null }));
  const worth = (row: (typeof rows)[number]) => row.node.worth?.[0] ?? row.effect ?? 0;
  // Without a verdict or effects, the largest come first.
  const known = rows.some((row) => row.node.worth || row.effect !== null);
  rows.sort((a, b) => (known ? worth(b) - worth(a) : (b.node.mean_magnitude ?? 0) - (a.node.mean_magnitude ?? 0)));
  return (
    <>
      <h3>{known ? "Nodes, the most needed first" : "Nodes, the largest first"}</h3>
      <p class="quiet">Choose one here or in the graph to see when it fires and what it reads and writes.</p>
      <table class="list">
        <thead><tr><th scope="col">node</th><th scope="col" class="n">{known ? "loss without it" : "mean magnitude"}</th></tr></thead>
        <tbody>
          {rows.slice(0, 60).map(({ node, effect }) => (
            <tr key={node.name}>
              <td><button type="button" class="link" onClick={() => go({ node: node.name }, true)}>{node.label ? visible(node.label) : node.name}</button></td>
              <td class="n">{node.worth ? signed(node.worth[0]) : effect !== null ? signed(effect) : !known && node.mean_magnitude !== null ? size(node.mean_magnitude) : ""}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {rows.length > 60 && <p class="quiet">and {rows.length - 60} more</p>}
    </>
  );
}
