// The page of a node: label, worth, contexts, weights in and out.
import { useEffect, useState } from "preact/hooks";
import { ask, forget, live, useAsk } from "./ask";
import { Bar, Fault, Figure, Tokens } from "./parts";
import { go, type State } from "./state";
import { count, percent, signed, size, visible } from "./text";
import type { Effects, Example, Examples, Graph, Link, NodePage } from "./types";

export function NodePanel({ circuit, name, state, graph, effects }: {
  circuit: number; name: string; state: State; graph: Graph; effects: Effects | null;
}) {
  const [version, setVersion] = useState(0);
  const page = useAsk<NodePage>({ ask: "node", circuit, node: name });
  const examples = useAsk<Examples>({ ask: "examples", circuit, node: name });
  if (page.error) return <><Back /><Fault words={page.error} /></>;
  const node = page.answer;
  if (!node || node.name !== name) return <p class="waiting">The node is read {"\u2026"}</p>;
  const number = graph.nodes.findIndex((other) => other.name === name);
  const effect = number >= 0 ? effects?.nodes[number] : undefined;
  return (
    <div class="node-panel" key={`${name} ${version}`}>
      <Back />
      <h3 class="node-name"><code>{node.name}</code></h3>
      <p>{node.site}{node.head !== null && ` Head ${node.head}.`}{!node.in_circuit && " It is not in the circuit."}</p>
      {node.in_circuit && <LabelForm circuit={circuit} node={node} onSaved={() => setVersion(version + 1)} />}
      <dl class="facts">
        {node.worth && <div><dt>Loss of the circuit without it</dt><dd>{signed(node.worth.in_circuit[0])} nats [{size(node.worth.in_circuit[1])}, {size(node.worth.in_circuit[2])}] <span class="quiet">by the verdict</span></dd></div>}
        {node.worth && <div><dt>Loss of the model without it</dt><dd>{signed(node.worth.in_model)} nats</dd></div>}
        {effect != null && <div><dt>Effect of ablating it</dt><dd>{signed(effect)} nats <span class="quiet">on {effects!.pairs} pairs</span></dd></div>}
        {node.mean !== null && <div><dt>Mean over training data</dt><dd>{size(node.mean)}</dd></div>}
        {node.groups.length > 0 && <div><dt>Groups</dt><dd>{node.groups.map(visible).join(", ")}</dd></div>}
      </dl>
      <p><button type="button" onClick={() => go({ view: "prompt" }, true)}>{live ? "See it on a prompt, set it or ablate it" : "See it on the prompts of the task"}</button></p>
      <Links title={`Reads (${node.links})`} links={node.inputs} state={state} from={name} empty="No weight leads into it: it reads the residual stream." />
      <Links title={`Is read by (${node.links})`} links={node.outputs} state={state} from={name} empty="No weight leads from it: it adds to the residual stream." />
      {node.channel.length > 0 && (
        <>
          <h4>Same channel of the residual stream, in the circuit</h4>
          <ul class="plain">
            {node.channel.map((other) => (
              <li key={other.node}>{other.writes ? "written by " : "read by "}<NodeLink name={other.node} label={other.label} />
                <Follow state={state} from={name} to={other.node} /></li>
            ))}
          </ul>
        </>
      )}
      <Contexts name={name} circuit={circuit} examples={examples.answer?.node === name ? examples.answer : null} error={examples.error} />
    </div>
  );
}

function Back() {
  return <button type="button" class="quiet" onClick={() => go({ node: null }, true)}>{"\u2190"} all nodes</button>;
}

export function NodeLink({ name, label }: { name: string; label: string | null }) {
  return <button type="button" class="link" title={name} onClick={() => go({ node: name }, true)}>{label ? visible(label) : name}</button>;
}

/** Goes on along a path: the next node is added, and the path is drawn above the rest. */
function Follow({ state, from, to }: { state: State; from: string; to: string }) {
  const path = state.path[state.path.length - 1] === from ? [...state.path, to] : [from, to];
  return <button type="button" class="quiet follow" aria-label={`Follow the path to ${to}`} onClick={() => go({ path, node: to }, true)}>follow</button>;
}

function Links({ title, links, state, from, empty }: { title: string; links: Link[]; state: State; from: string; empty: string }) {
  const own = links.filter((link) => link.in_circuit), others = links.filter((link) => !link.in_circuit);
  const most = Math.max(1e-12, ...links.map((link) => Math.abs(link.weight)));
  const row = (link: Link) => (
    <tr key={link.node}>
      <td><NodeLink name={link.node} label={link.label} /></td>
      <td class="n">{signed(link.weight)}</td>
      <td><Bar share={link.weight / most} /></td>
      <td>{link.in_circuit && <Follow state={state} from={from} to={link.node} />}</td>
    </tr>
  );
  return (
    <>
      <h4>{title}</h4>
      {links.length === 0 && <p class="quiet">{empty}</p>}
      {own.length > 0 && <table class="list"><tbody>{own.map(row)}</tbody></table>}
      {others.length > 0 && (
        <details><summary>{count(others.length, "weight")} of the model outside the circuit</summary>
          <table class="list"><tbody>{others.slice(0, 100).map(row)}</tbody></table>
        </details>
      )}
    </>
  );
}

function LabelForm({ circuit, node, onSaved }: { circuit: number; node: NodePage; onSaved: () => void }) {
  const [name, setName] = useState(node.label?.name ?? "");
  const [note, setNote] = useState(node.label?.note ?? "");
  const [words, setWords] = useState("");
  useEffect(() => { setName(node.label?.name ?? ""); setNote(node.label?.note ?? ""); }, [node]);
  const save = async (event: Event) => {
    event.preventDefault();
    try {
      const saved = await ask<{ file: string }>({ ask: "label", circuit, node: node.name, name, note: note || null });
      forget();
      setWords(`Saved to ${saved.file}`);
      dispatchEvent(new Event("labels"));
      onSaved();
    } catch (error) {
      setWords((error as Error).message);
    }
  };
  if (!live) return node.label ? <p><b>{visible(node.label.name)}</b>{node.label.note && <>: {visible(node.label.note)}</>}</p> : null;
  return (
    <form class="label-form" onSubmit={save}>
      <label>Label<input value={name} maxLength={200} placeholder="a name for what it does" onInput={(event) => setName(event.currentTarget.value)} /></label>
      <label>Explanation<textarea rows={2} maxLength={4000} value={note} onInput={(event) => setNote(event.currentTarget.value)} /></label>
      <button type="submit">Save label</button> <span role="status" class="quiet">{words}</span>
    </form>
  );
}

function Contexts({ name, circuit, examples, error }: { name: string; circuit: number; examples: Examples | null; error: string | null }) {
  if (error) return <Fault words={error} />;
  if (!examples) return <p class="waiting" role="status">Training data are read {"\u2026"}</p>;
  const list = (title: string, of: Example[]) => of.length > 0 && (
    <div key={title}>
      <h4>{title}</h4>
      {of.map((example) => (
        <div class="example" key={`${example.window} ${example.position}`}>
          <span class="value">{size(example.values[example.at]!)}</span>
          <Tokens tokens={example.tokens} values={example.values} largest={examples.largest} at={example.at}
            label={`window ${example.window}, token ${example.position}`} />
        </div>
      ))}
    </div>
  );
  return (
    <Figure title="Where it is active" name={`${name}-contexts`} question={{ ask: "examples", circuit, node: name }}
      note={<>A stronger shade is larger in magnitude; a stripe below says negative.{examples.read[1] > 0 && <> Active at {percent(examples.active / Math.max(1, examples.read[1]))} of {count(examples.read[1], "token")} in {count(examples.read[0], "window")} of the training sample.</>}</>}>
      {examples.lists.map(({ title, examples: of }) => list(title, of))}
    </Figure>
  );
}
