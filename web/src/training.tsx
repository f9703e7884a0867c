// Curves of training runs, and circuits of several models in their order: a circuit as it forms.
import { useEffect, useState } from "preact/hooks";
import { ask } from "./ask";
import { Chart, DASHES, type Series } from "./chart";
import { Badge, Fault, Figure } from "./parts";
import { go } from "./state";
import { visible } from "./text";
import type { Catalogue, Curves, Graph } from "./types";

const CHARTS: [string, (curves: Curves) => (number | null)[], boolean][] = [
  ["training loss, nats per token", (curves) => curves.loss, false],
  ["validation loss, nats per token", (curves) => curves.validation_loss, false],
  ["nonzeros", (curves) => curves.nonzero, true],
  ["learning rate", (curves) => curves.learning_rate, false],
  ["dead neurons", (curves) => curves.dead_neurons, false],
];

export function TrainingView({ catalogue }: { catalogue: Catalogue }) {
  const [curves, setCurves] = useState<Curves[]>([]);
  const [error, setError] = useState<string | null>(null);
  useEffect(() => {
    Promise.all(catalogue.runs.map((_, run) => ask<Curves>({ ask: "curves", run }))).then(setCurves, (fault: Error) => setError(fault.message));
  }, [catalogue]);
  const tasks = [...new Set(catalogue.circuits.map((circuit) => circuit.task))];
  const many = tasks.filter((task) => new Set(catalogue.circuits.filter((circuit) => circuit.task === task).map((circuit) => circuit.model)).size > 1);
  return (
    <div>
      {error && <Fault words={error} />}
      {catalogue.runs.length === 0 && <p class="quiet">No log of a training run lies beside what was opened. <code>openwork view RUN</code> shows a run's curves.</p>}
      <div class="columns">
        {curves.length > 0 && CHARTS.map(([title, of, log]) => {
          const series: Series[] = curves.map((one, i) => ({
            name: visible(one.name), dash: DASHES[i % DASHES.length]!,
            points: of(one).flatMap((value, k): [number, number][] => (value === null ? [] : [[one.steps[k]!, value]])),
          }));
          if (series.every((one) => one.points.length === 0)) return null;
          return <Figure key={title} title={title} name={title.replace(/\W+/g, "-")} value={series}><Chart series={series} x="step" y={log ? "logarithmic" : ""} log={log} /></Figure>;
        })}
      </div>
      {many.map((task) => <TimeLine key={task} task={task} catalogue={catalogue} />)}
      {many.length === 0 && <p class="note">Several checkpoints of a run, named one after the other, show here how the circuit of a task forms: <code>openwork view RUN1 RUN2 ..</code>.</p>}
    </div>
  );
}

/** The circuits of a task in several models, in the order in which they were named: a row for each node. */
function TimeLine({ task, catalogue }: { task: string; catalogue: Catalogue }) {
  const own = catalogue.circuits.map((circuit, i) => ({ circuit, i })).filter(({ circuit }) => circuit.task === task);
  const [graphs, setGraphs] = useState<Graph[]>([]);
  useEffect(() => { Promise.all(own.map(({ i }) => ask<Graph>({ ask: "graph", circuit: i }))).then(setGraphs, () => setGraphs([])); }, [task]);
  if (graphs.length !== own.length) return null;
  const names = [...new Set(graphs.flatMap((graph) => graph.nodes.map((node) => node.name)))];
  const sets = graphs.map((graph) => new Map(graph.nodes.map((node) => [node.name, node])));
  const first = (name: string) => sets.findIndex((set) => set.has(name));
  names.sort((a, b) => first(a) - first(b) || a.localeCompare(b, "en", { numeric: true }));
  return (
    <Figure title={`${visible(task)} over the models, in the order in which they were named`} name={`${task}-time-line`} value={graphs}
      note="A filled mark: the circuit of that model has the node.">
      <div class="scroll" tabIndex={0} role="region" aria-label={`Circuits of ${task}`}>
        <table class="matrix">
          <thead><tr><th scope="col">node</th>{own.map(({ circuit, i }) => (
            <th key={i} scope="col"><button type="button" class="link" onClick={() => go({ circuit: i, view: "graph", node: null }, true)}>{visible(catalogue.models[circuit.model]!.name)}</button><br />
              <Badge mark={circuit.mark} words={circuit.verdict} level={circuit.level} /><br /><span class="quiet">{circuit.size[0]} nodes, {circuit.size[1]} edges</span></th>))}</tr></thead>
          <tbody>{names.slice(0, 300).map((name) => (
            <tr key={name}><th scope="row"><code>{name}</code></th>
              {sets.map((set, i) => <td key={i} class="mark">{set.has(name) ? <span title={set.get(name)!.label ? visible(set.get(name)!.label!) : name}>{"\u25cf"}<span class="hidden">yes</span></span> : <span class="quiet">{"\u00b7"}<span class="hidden">no</span></span>}</td>)}</tr>
          ))}</tbody>
        </table>
      </div>
    </Figure>
  );
}
