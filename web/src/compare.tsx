// Two circuits side by side.
import { useMemo } from "preact/hooks";
import { useAsk } from "./ask";
import { GraphPort } from "./graph";
import { Badge, Fault, Figure } from "./parts";
import { go, type State } from "./state";
import { percent, visible } from "./text";
import type { Catalogue, Comparison, Graph, Parts } from "./types";

export function CompareView({ state, circuit, catalogue }: { state: State; circuit: number; catalogue: Catalogue }) {
  const { circuits, models } = catalogue;
  const other = circuits.findIndex((_, i) => i !== circuit);
  const second = state.second !== null && circuits[state.second] ? state.second : other >= 0 ? other : circuit;
  const compared = useAsk<Comparison>({ ask: "compare", first: circuit, second });
  const name = (i: number) => `${visible(circuits[i]!.name)} (${visible(models[circuits[i]!.model]!.name)})`;
  const choose = (label: string, value: number, set: (i: number) => void) => (
    <label>{label}{" "}
      <select value={value} onChange={(event) => set(Number(event.currentTarget.value))}>
        {circuits.map((_, i) => <option key={i} value={i}>{name(i)}</option>)}
      </select>
    </label>
  );
  const both = compared.answer;
  const rows: [string, Parts][] = both ? [["nodes", both.nodes], ["edges", both.edges]] : [];
  const list = (words: string, names: string[]) => <td><details><summary>{names.length}</summary>{names.slice(0, 200).map((one) => <code key={one}>{one} </code>)}<span class="hidden">{words}</span></details></td>;
  return (
    <div>
      <div class="tools">
        {choose("One", circuit, (i) => go({ circuit: i, second }, true))}
        {choose("Other", second, (i) => go({ second: i }, true))}
      </div>
      {compared.error && <Fault words={compared.error} />}
      {both && (
        <Figure title="In common" name="comparison" question={{ ask: "compare", first: circuit, second }}
          note={both.same_model ? "Both are circuits of one model." : "They are circuits of two models: a node of the same name need not do the same."}>
          <table class="list">
            <thead><tr><th scope="col"><span class="hidden">part</span></th><th scope="col">in both</th><th scope="col">in one alone</th><th scope="col">in the other alone</th><th scope="col" class="n">shared of all</th></tr></thead>
            <tbody>{rows.map(([word, parts]) => (
              <tr key={word}><th scope="row">{word}</th>{list("in both", parts.both)}{list("in one alone", parts.first)}{list("in the other alone", parts.second)}
                <td class="n">{parts.jaccard === null ? "\u2013" : percent(parts.jaccard)}</td></tr>
            ))}</tbody>
          </table>
        </Figure>
      )}
      <div class="columns">
        {[circuit, second].map((i, side) => <Side key={`${side} ${i}`} circuit={i} title={name(i)} entry={circuits[i]!} shared={both ? both.nodes.both : null} state={state} />)}
      </div>
    </div>
  );
}

function Side({ circuit, title, entry, shared, state }: { circuit: number; title: string; entry: Catalogue["circuits"][number]; shared: string[] | null; state: State }) {
  const asked = useAsk<Graph>({ ask: "graph", circuit });
  const graph = asked.answer;
  const set = useMemo(() => (shared ? new Set(shared) : null), [shared]);
  const choice = useMemo(() => graph && {
    strength: graph.edges.map((edge) => (edge.kind === "weight" ? Math.abs(edge.weight ?? 0) : 0)), least: 0, fold: new Set<string>(), connected: false,
  }, [graph]);
  if (asked.error) return <Fault words={asked.error} />;
  if (!graph || !choice) return <p class="waiting">The graph is drawn {"\u2026"}</p>;
  return (
    <Figure title={title} name={`${graph.name}-graph`} question={{ ask: "graph", circuit }} note="Nodes of this circuit alone have a dashed border. Width is the magnitude of the weight.">
      <p><Badge mark={entry.mark} words={entry.verdict} level={entry.level} /></p>
      <GraphPort graph={graph} choice={choice} marks={{ selected: state.node, path: [], shared: set }} height="26rem"
        onPick={(node) => go({ circuit, node, view: "graph" }, true)} />
    </Figure>
  );
}
