// The model on a prompt: its answer while a person types, values of nodes, edits, and the causes of a logit.
import { useState } from "preact/hooks";
import { live, useAsk } from "./ask";
import { BacktraceTree } from "./backtrace";
import { Bar, Fault, Figure, Tokens } from "./parts";
import { go, type State } from "./state";
import { cut, percent, size, tokenText, visible } from "./text";
import type { Edit, Likely, Prompt, Prompts, RunAnswer } from "./types";

/** Edits in the address: `node@position:number`, `*` for all positions, `mean` for the ablation value. */
export function edits(list: string[]): Edit[] {
  return list.flatMap((text): Edit[] => {
    const parts = /^(.+)@(\*|\d+):(mean|[-+.\de]+)$/.exec(text);
    if (!parts) return [];
    const to = parts[3] === "mean" ? "mean" as const : { number: Number(parts[3]) };
    if (typeof to === "object" && !Number.isFinite(to.number)) return [];
    return [{ node: parts[1]!, position: parts[2] === "*" ? null : Number(parts[2]), to }];
  });
}

export function PromptView({ state, circuit }: { state: State; circuit: number }) {
  const offered = useAsk<Prompts>({ ask: "prompts", circuit });
  const first = offered.answer?.prompts[0]?.tokens.map((token) => token.id) ?? null;
  const prompt: Prompt | null = state.text !== null ? { text: state.text }
    : state.tokens ? { tokens: state.tokens } : first ? { tokens: first } : null;
  const question = prompt && { ask: "run", circuit, prompt, edits: edits(state.edits) };
  const run = useAsk<RunAnswer>(question, state.text !== null || state.edits.length > 0 ? 80 : 0);
  const answer = run.answer;
  const last = (answer?.tokens.length ?? 1) - 1;
  const position = Math.min(state.position ?? last, last);
  return (
    <div class="prompt-view">
      <Asking state={state} offered={offered.answer} answer={answer} />
      {offered.error && state.text === null && state.tokens === null && <Fault words={`${offered.error} Type a prompt.`} />}
      {run.error && <Fault words={run.error} />}
      {answer && question && !(run.error && state.text === "") && (
        <div class={`columns${run.waiting ? " stale" : ""}`}>
          <div>
            <Figure title="Tokens" name="run" question={question} note="Choose the token whose next token is looked at; the last one at first.">
              <Tokens tokens={answer.tokens} at={position} onPick={(at) => go({ position: at === last ? null : at })} label="Tokens of the prompt" />
            </Figure>
            <Answers answer={answer} position={position} last={last} state={state} />
          </div>
          <div>
            <Values answer={answer} position={position} state={state} />
          </div>
          {state.why !== null && /^\d+$/.test(state.why) && (
            <BacktraceTree circuit={circuit} prompt={prompt} edits={edits(state.edits)} state={state} position={position}
              of={{ logit: Number(state.why) }} />
          )}
        </div>
      )}
    </div>
  );
}

function Asking({ state, offered, answer }: { state: State; offered: Prompts | null; answer: RunAnswer | null }) {
  const shown = state.text ?? answer?.tokens.map((token) => token.text).join("") ?? "";
  const of = (ids: number[]) => ids.join(".");
  const current = state.text !== null ? "" : of(state.tokens ?? offered?.prompts[0]?.tokens.map((token) => token.id) ?? []);
  return (
    <div class="asking">
      {offered && (
        <label>Prompt of the task{" "}
          <select value={current} onChange={(event) => {
            if (event.currentTarget.value) go({ tokens: event.currentTarget.value.split(".").map(Number), text: null, position: null, why: null }, true);
          }}>
            {state.text !== null && <option value="">your own</option>}
            {offered.prompts.map((prompt, i) => (
              <option key={i} value={of(prompt.tokens.map((token) => token.id))}>
                {`pair ${prompt.pair}${prompt.positive ? "a" : "b"}: ${cut(visible(prompt.tokens.map((token) => token.text).join("")), 48)}${prompt.right ? ` \u2192 ${tokenText(prompt.right.text)}` : ""}`}
              </option>
            ))}
          </select>
        </label>
      )}
      <label>Your own prompt
        <textarea rows={3} spellcheck={false} disabled={!live} value={shown} onInput={(event) => {
          go({ text: event.currentTarget.value, tokens: null, position: null });
        }} />
      </label>
      {!live && <p class="note">This page has no model: it knows the prompts of the task. <code>openwork view MODEL</code> answers any prompt, and edits.</p>}
    </div>
  );
}

function Answers({ answer, position, last, state }: { answer: RunAnswer; position: number; last: number; state: State }) {
  const list = answer.answers[position]!;
  if (list.length === 0) return null;
  const at = (other: Likely[] | null, id: number) => (position === last ? other?.find((token) => token.id === id) : undefined);
  const before = position === last ? answer.unedited : null;
  return (
    <Figure title={`What comes after token ${position}`} name="answers" value={list}
      note={<>Choose a token to open its logit into its causes.{position === last && answer.alone && " \u201calone\u201d is the circuit with everything else at its mean."}</>}>
      <table class="list answers">
        <thead><tr><th scope="col">token</th><th scope="col" class="n">probability</th><th scope="col"><span class="hidden">share</span></th>
          {before && <th scope="col" class="n">unedited</th>}{position === last && answer.alone && <th scope="col" class="n">alone</th>}</tr></thead>
        <tbody>
          {list.map((token) => (
            <tr key={token.id} class={state.why === String(token.id) ? "chosen" : ""}>
              <td><button type="button" class="link token-link" aria-pressed={state.why === String(token.id)}
                onClick={() => go({ why: state.why === String(token.id) ? null : String(token.id) }, true)}>{cut(tokenText(token.text), 40)}</button></td>
              <td class="n">{percent(token.probability)}</td>
              <td><Bar share={token.probability} /></td>
              {before && <td class="n">{at(before, token.id) ? percent(at(before, token.id)!.probability) : "\u2013"}</td>}
              {position === last && answer.alone && <td class="n">{at(answer.alone, token.id) ? percent(at(answer.alone, token.id)!.probability) : "\u2013"}</td>}
            </tr>
          ))}
        </tbody>
      </table>
    </Figure>
  );
}

/** Values of the circuit's nodes at every token, as a table in shades. */
function Values({ answer, position, state }: { answer: RunAnswer; position: number; state: State }) {
  const [all, setAll] = useState(false);
  const most = (values: number[]) => Math.max(...values.map(Math.abs));
  const rows = [...answer.values];
  const shown = all ? rows : rows.slice(0, 40);
  const changed = (node: string) => edits(state.edits).some((edit) => edit.node === node);
  return (
    <Figure title="Values of the circuit's nodes" name="values" value={answer.values}
      note="A row for each node, a column for each token; each row has its own scale. A stronger shade is larger in magnitude, a stripe says negative. Choose a node to set it.">
      <div class="scroll" tabIndex={0} role="region" aria-label="Values of nodes by token">
        <table class="values">
          <thead><tr><th scope="col">node</th>{answer.tokens.map((token, i) => (
            <th key={i} scope="col" class={i === position ? "at" : ""} title={`token ${i}`}><span>{cut(tokenText(token.text), 10)}</span></th>))}</tr></thead>
          <tbody>
            {shown.map((row) => {
              const scale = Math.max(most(row.values), most(row.before ?? [0]), 1e-12);
              return (
                <tr key={row.node}>
                  <th scope="row"><button type="button" class="link" aria-pressed={state.node === row.node}
                    onClick={() => go({ node: state.node === row.node ? null : row.node })}>{row.node}{changed(row.node) && " \u270e"}</button></th>
                  {row.values.map((value, i) => (
                    <td key={i} class={`cell${value < 0 ? " negative" : ""}${i === position ? " at" : ""}`} style={{ "--share": (Math.abs(value) / scale).toFixed(3) }}
                      title={`${row.node} at token ${i}: ${size(value)}${row.before ? `, unedited ${size(row.before[i]!)}` : ""}`}>
                      <span class="hidden">{size(value)}</span></td>
                  ))}
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
      {rows.length > shown.length && <button type="button" onClick={() => setAll(true)}>Show all {rows.length} nodes</button>}
      {state.node && <Setter answer={answer} node={state.node} position={position} state={state} />}
      {state.edits.length > 0 && (
        <div class="edits"><h4>Edits in force</h4>
          <ul class="plain">
            {state.edits.map((edit, i) => (
              <li key={edit}><code>{edit.replace("@*:", " at all tokens = ").replace("@", " at token ").replace(":", " = ")}</code>{" "}
                <button type="button" class="quiet" aria-label={`Take back ${edit}`} onClick={() => go({ edits: state.edits.filter((_, j) => j !== i) })}>take back</button></li>
            ))}
          </ul>
          <button type="button" onClick={() => go({ edits: [] })}>Take all back</button>
        </div>
      )}
    </Figure>
  );
}

function Setter({ answer, node, position, state }: { answer: RunAnswer; node: string; position: number; state: State }) {
  const [everywhere, setEverywhere] = useState(true);
  const row = answer.values.find((values) => values.node === node);
  if (!row) return <p class="quiet">{node} is not in the circuit; nodes of the circuit can be set here.</p>;
  if (!live) return null;
  const plain = row.before ?? row.values;
  const reach = 2 * Math.max(...plain.map(Math.abs), 0.5);
  const place = everywhere ? "*" : String(position);
  const value = row.values[position]!;
  const set = (to: string) => go({ edits: [...state.edits.filter((edit) => !edit.startsWith(`${node}@${place}:`)), `${node}@${place}:${to}`] });
  const mine = state.edits.some((edit) => edit.startsWith(`${node}@`));
  return (
    <fieldset class="setter">
      <legend>Set <code>{node}</code></legend>
      <label>Value <input type="range" min={-reach} max={reach} step={reach / 200} value={value} aria-valuetext={size(value)}
        onInput={(event) => set(String(Number(Number(event.currentTarget.value).toPrecision(4))))} /> <output>{size(value)}</output></label>{" "}
      <span class="quiet">it was {size(plain[position]!)} at token {position}</span>
      <div class="row">
        <label><input type="radio" name="place" checked={everywhere} onChange={() => setEverywhere(true)} /> at all tokens</label>
        <label><input type="radio" name="place" checked={!everywhere} onChange={() => setEverywhere(false)} /> at token {position}</label>
        <button type="button" onClick={() => set("mean")}>Ablate: its mean</button>
        <button type="button" onClick={() => set("0")}>Zero</button>
        {mine && <button type="button" onClick={() => go({ edits: state.edits.filter((edit) => !edit.startsWith(`${node}@`)) })}>As it was</button>}
      </div>
    </fieldset>
  );
}
