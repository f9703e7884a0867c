// The verdict on a circuit: levels, the matrix of runs, controls, and the pair that speaks against it, run again.
import { useAsk } from "./ask";
import { Chart, DASHES } from "./chart";
import { Badge, Bar, Fault, Figure, Tokens } from "./parts";
import { go, type State } from "./state";
import { cut, signed, size, tokenText, visible } from "./text";
import type { CircuitEntry, Interval, MatrixCell, Replay, Token, VerdictPage } from "./types";

const SIGNS: Record<string, string> = { passed: "\u2713", weak: "\u2248", failed: "\u2717", unfinished: "\u2026", not_reached: "\u2013", not_asked: "\u2013" };

export function VerdictView({ state, circuit, entry }: { state: State; circuit: number; entry: CircuitEntry }) {
  const asked = useAsk<VerdictPage>({ ask: "verdict", circuit });
  if (entry.mark === "none") return <Fault words={visible(entry.verdict)} />;
  if (asked.error) return <Fault words={asked.error} />;
  const verdict = asked.answer;
  if (!verdict) return <p class="waiting">The verdict is read {"\u2026"}</p>;
  const most = Math.max(1e-12, ...verdict.nodes.map((node) => Math.abs(node.in_circuit.mean)));
  return (
    <div class="verdict-view">
      <Figure title="Verdict" name="verdict" question={{ ask: "verdict", circuit }}>
        <p class="headline"><Badge mark={entry.mark} words={entry.verdict} level={entry.level} /> level {verdict.level[1]} was asked for</p>
        <p>Claims the <b>{verdict.claim[0]}</b>: {verdict.claim[1]}.</p>
        <ul>{verdict.reasons.map((reason) => <li key={reason}>{visible(reason)}</li>)}</ul>
        <ol class="levels">
          {verdict.levels.map((level) => (
            <li key={level.number} class={level.state}>
              <span class="sign" aria-hidden="true">{SIGNS[level.state]}</span>
              <div><b>{level.number}</b> {level.question} <span class="quiet">{level.words}</span>
                {level.against.length > 0 && (
                  <details><summary>{level.against.length === 1 ? "1 check" : `${level.against.length} checks`} against it</summary>
                    <ul>{level.against.map(([check, words]) => <li key={check}><b>{check}</b>: {visible(words)}</li>)}</ul></details>
                )}
                {level.left_out && <p class="quiet">{visible(level.left_out)}</p>}</div>
            </li>
          ))}
        </ol>
      </Figure>
      {verdict.counter_example && <CounterExample example={verdict.counter_example} circuit={circuit} />}
      <Matrix cells={verdict.matrix} state={state} />
      {verdict.nodes.length > 0 && (
        <Figure title="Worth of each node" name="worth" value={verdict.nodes} note="Rise of the loss without the node, nats per sequence, with its 95 % interval.">
          <table class="list">
            <thead><tr><th scope="col">node</th><th scope="col" class="n">in the circuit</th><th scope="col"><span class="hidden">share</span></th><th scope="col" class="n">in the model</th></tr></thead>
            <tbody>{verdict.nodes.map((node) => (
              <tr key={node.node}><td><button type="button" class="link" onClick={() => go({ view: "graph", node: node.node }, true)}>{node.node}</button></td>
                <td class="n">{signed(node.in_circuit.mean)} <span class="quiet">[{size(node.in_circuit.low)}, {size(node.in_circuit.high)}]</span></td>
                <td><Bar share={node.in_circuit.mean / most} /></td><td class="n">{signed(node.in_model)}</td></tr>
            ))}</tbody>
          </table>
        </Figure>
      )}
      {verdict.controls.length > 0 && (
        <Figure title="Controls: searches that must fail" name="controls" value={verdict.controls}>
          <table class="list">
            <thead><tr><th scope="col">control</th><th scope="col" class="n">loss, nats</th><th scope="col" class="n">nodes</th><th scope="col" class="n">edges</th><th scope="col">reached the target</th></tr></thead>
            <tbody>{verdict.controls.map((control) => (
              <tr key={control.kind}><td>{control.kind}</td><td class="n">{size(control.loss)}</td><td class="n">{control.size[0]}</td><td class="n">{control.size[1]}</td>
                <td>{control.reached_target ? "yes \u2717" : "no \u2713"}</td></tr>
            ))}</tbody>
          </table>
        </Figure>
      )}
      {verdict.curves.map((curve) => (
        <Figure key={curve.axis} title={curve.measure} name={curve.axis.replace(/\W+/g, "-")} value={curve} note={curve.reading}>
          <Chart series={[{ name: curve.measure, points: curve.points, dash: DASHES[0]! }]} x={curve.axis} y="" />
        </Figure>
      ))}
      <details class="more"><summary>How it was found, and the choices behind the numbers</summary>
        <ul>{verdict.provenance.map((line) => <li key={line}>{visible(line)}</li>)}</ul>
        <dl class="facts">{verdict.declarations.map(([what, value]) => <div key={what}><dt>{visible(what)}</dt><dd>{visible(value)}</dd></div>)}</dl>
      </details>
    </div>
  );
}

const MEASURES = { agreement: "agreement with the model", accuracy: "accuracy", loss: "task loss, nats", kl: "KL from the model, nats", faithfulness: "faithfulness" } as const;

/** Every run on every split, as a table in shades with its numbers. */
function Matrix({ cells, state }: { cells: MatrixCell[]; state: State }) {
  const measure = state.matrix as keyof typeof MEASURES;
  const splits = [...new Set(cells.map((cell) => cell.split))];
  const rows = [...new Set(cells.map((cell) => `${cell.kept}\u0000${cell.ablation ?? ""}`))];
  const of = (row: string, split: string): Interval | null => {
    const cell = cells.find((one) => `${one.kept}\u0000${one.ablation ?? ""}` === row && one.split === split);
    return cell ? cell[measure] : null;
  };
  const most = Math.max(1e-12, ...cells.map((cell) => Math.abs(cell[measure]?.mean ?? 0)));
  return (
    <Figure title="Every run on every split" name="matrix" value={cells} note="A stronger line is larger. The circuit should be as the model is, and the model without it should not.">
      <div class="tools"><label>Shows{" "}
        <select value={measure} onChange={(event) => go({ matrix: event.currentTarget.value })}>
          {Object.entries(MEASURES).map(([key, words]) => <option key={key} value={key}>{words}</option>)}
        </select></label></div>
      <div class="scroll" tabIndex={0} role="region" aria-label="Runs and splits">
        <table class="matrix">
          <thead><tr><th scope="col">kept</th><th scope="col">ablation</th>{splits.map((split) => <th key={split} scope="col">{split}</th>)}</tr></thead>
          <tbody>{rows.map((row) => {
            const [kept, ablation] = row.split("\u0000");
            return (
              <tr key={row}><th scope="row">{kept}</th><td>{ablation}</td>
                {splits.map((split) => {
                  const value = of(row, split);
                  return value === null ? <td key={split} class="none">{"\u2013"}</td>
                    : <td key={split} class="shade" style={{ "--share": (Math.abs(value.mean) / most).toFixed(3) }} title={`${size(value.mean)} [${size(value.low)}, ${size(value.high)}] over ${value.n} pairs`}>
                        {size(value.mean)}<span class="interval"> [{size(value.low)}, {size(value.high)}]</span></td>;
                })}</tr>
            );
          })}</tbody>
        </table>
      </div>
    </Figure>
  );
}

function differing(a: Token[], b: Token[]): [Set<number>, Set<number>] {
  let start = 0;
  while (start < Math.min(a.length, b.length) && a[start]!.id === b[start]!.id) start += 1;
  let end = 0;
  while (end < Math.min(a.length, b.length) - start && a[a.length - 1 - end]!.id === b[b.length - 1 - end]!.id) end += 1;
  const range = (length: number) => new Set(Array.from({ length: length - end - start }, (_, i) => start + i));
  return [range(a.length), range(b.length)];
}

function CounterExample({ example, circuit }: { example: NonNullable<VerdictPage["counter_example"]>; circuit: number }) {
  const replay = useAsk<Replay>({ ask: "replay", circuit });
  const marks = differing(...example.prompts);
  const [answer, alternative] = example.candidates.map((token) => cut(tokenText(token.text), 30));
  const prefers = (x: number) => (x > 0 ? answer : alternative);
  return (
    <Figure title="Where it fails" name="counter-example" value={example}
      note="Numbers are the logit of the answer above that of the alternative; the run's is calibrated. Tokens in which the prompts differ are underlined.">
      <p>{example.from[0]!.toUpperCase() + example.from.slice(1)} speaks against <b>{example.check}</b>: {example.intervention}.
        The answer is <span class="token small">{answer}</span>, the alternative <span class="token small">{alternative}</span>.</p>
      {example.prompts.map((prompt, i) => (
        <div key={i} class="counter">
          <p><b>{"AB"[i]}</b> right: <span class="token small">{i === 0 ? answer : alternative}</span>{" "}
            <button type="button" class="quiet" onClick={() => go({ view: "prompt", text: null, tokens: prompt.map((token) => token.id), position: null, edits: [], why: null }, true)}>open it in the prompt</button></p>
          <Tokens tokens={prompt} marked={marks[i]} label={`Prompt ${"AB"[i]}`} />
        </div>
      ))}
      <div class="scroll" tabIndex={0} role="region" aria-label="Answers to the two prompts">
        <table class="list">
          <thead><tr><th scope="col">prompt</th><th scope="col" class="n">model</th><th scope="col" class="n">run</th><th scope="col">the run prefers</th>
            <th scope="col" class="n">model now</th><th scope="col" class="n">run now</th></tr></thead>
          <tbody>{[0, 1].map((i) => (
            <tr key={i}><th scope="row">{"AB"[i]}</th><td class="n">{signed(example.model[i]!)}</td><td class="n">{signed(example.run[i]!)}</td>
              <td><span class="token small">{prefers(example.run[i]!)}</span>{example.run[i]! > 0 !== example.model[i]! > 0 && <b> {"\u2717"} unlike the model</b>}</td>
              <td class="n">{replay.answer ? signed(replay.answer.model[i]!) : "\u2026"}</td><td class="n">{replay.answer ? signed(replay.answer.run[i]!) : "\u2026"}</td></tr>
          ))}</tbody>
        </table>
      </div>
      <p role="status" class="replayed">{replay.error ?? (!replay.answer ? "It is run again \u2026" : replay.answer.agrees
        ? "\u2713 Run again just now from what the verdict says: the same, up to rounding." : "\u2717 Run again just now: other numbers than the verdict says.")}</p>
      {example.partly.length > 0 && (
        <details><summary>The nodes that are ablated most, and the part that is kept</summary>
          <table class="list"><tbody>{example.partly.map(([node, part]) => <tr key={node}><td><code>{node}</code></td><td class="n">{size(part)}</td></tr>)}</tbody></table></details>
      )}
      {example.sources && (
        <details><summary>Prompts whose values the ablated nodes take</summary>
          {example.sources.map((tokens, i) => <Tokens key={i} tokens={tokens} label={`Source ${i + 1}`} />)}</details>
      )}
    </Figure>
  );
}
