// The causes of a value as a tree: at every step the parts add up to the value.
import { useAsk } from "./ask";
import { Bar, Fault, Figure } from "./parts";
import { go, type State } from "./state";
import { cut, signed, size, tokenText, visible } from "./text";
import type { BacktraceAnswer, Branch, Causes, Edit, Prompt, Token } from "./types";

export function BacktraceTree({ circuit, prompt, edits, state, position, of }: {
  circuit: number; prompt: Prompt; edits: Edit[]; state: State; position: number; of: { logit: number };
}) {
  const question = { ask: "backtrace", circuit, prompt, edits, of, position, depth: Math.round(state.depth), share: 0.04, effect: state.effect };
  const asked = useAsk<BacktraceAnswer>(question, 80);
  if (asked.error) return <Fault words={asked.error} />;
  const answer = asked.answer;
  if (!answer) return <p class="waiting">The value is opened {"\u2026"}</p>;
  const { value, causes } = answer.backtrace;
  return (
    <div class="wide">
      <Figure title={`Causes of the ${visible(answer.title)}`} name="backtrace" question={question}
        note={<>Parts of the value {size(value)}, the largest first, with divisors of norms and gates of neurons held; they add up to it.
          {state.effect !== "none" && " The second number is the effect: the value less that of a run without the cause."}</>}>
        <div class="tools">
          <label>Steps <input type="number" min="1" max="6" value={state.depth} onChange={(event) => go({ depth: Math.min(6, Math.max(1, Number(event.currentTarget.value) || 1)) })} /></label>
          <label>Effects{" "}
            <select value={state.effect} onChange={(event) => go({ effect: event.currentTarget.value as State["effect"] })}>
              <option value="none">not measured</option>
              <option value="zero">run again with each cause at zero</option>
              <option value="mean">run again with each cause at its mean</option>
            </select>
          </label>
          <button type="button" onClick={() => go({ why: null })}>Close</button>
        </div>
        <Tree causes={causes} most={causes.magnitude || 1} tokens={answer.tokens} />
      </Figure>
    </div>
  );
}

function Tree({ causes, most, tokens }: { causes: Causes; most: number; tokens: Token[] }) {
  return (
    <ul class="tree">
      {causes.shown.map((branch, i) => <Part key={i} branch={branch} most={most} tokens={tokens} />)}
      {causes.smaller.count > 0 && <li class="quiet"><span class="n">{signed(causes.smaller.sum)}</span> {causes.smaller.count} smaller causes together</li>}
      {Math.abs(causes.rest) > 1e-9 && <li class="quiet"><span class="n">{signed(causes.rest)}</span> unexplained</li>}
    </ul>
  );
}

function Part({ branch, most, tokens }: { branch: Branch; most: number; tokens: Token[] }) {
  const line = (
    <>
      <span class="n">{signed(branch.contribution)}</span>
      <Bar share={branch.contribution / most} />
      {branch.effect !== undefined && <span class="effect" title="effect: the value less that of a run without it">effect {signed(branch.effect)}</span>}
      <Cause text={branch.cause} tokens={tokens} />
      {branch.value !== undefined && <span class="quiet"> = {size(branch.value)}</span>}
      {branch.attention && <span class="quiet"> by attention of {branch.attention.layer} head {branch.attention.head} from token {branch.attention.query} to token {branch.attention.key} (probability {size(branch.attention.probability)})</span>}
    </>
  );
  const inner = branch.causes && (branch.causes.shown.length > 0 || branch.causes.smaller.count > 0);
  if (!inner) return <li><div class="leaf">{line}</div></li>;
  return <li><details open={Math.abs(branch.contribution) > 0.25 * most}><summary>{line}</summary><Tree causes={branch.causes!} most={most} tokens={tokens} /></details></li>;
}

/** A cause with the token that it is at. */
function Cause({ text, tokens }: { text: string; tokens: Token[] }) {
  const at = /@(\d+)$/.exec(text);
  const token = at ? tokens[Number(at[1])] : undefined;
  const node = /^(\d+\.(?:attn\.(?:act_in|q|k|v|resid_delta)|mlp\.(?:act_in|post_act|resid_delta))\[\d+\])/.exec(text)?.[1];
  // Tokens are told by their texts where the prompt has them.
  const told = (id: string) => { const known = tokens.find((other) => other.id === Number(id)); return known ? tokenText(known.text) : `#${id}`; };
  const name = (at ? text.slice(0, at.index) : text).replace(/#(\d+)/g, (_, id: string) => told(id));
  return (
    <span class="cause">
      {node ? <button type="button" class="link" onClick={(event) => { event.preventDefault(); go({ node, view: "graph" }, true); }}>{name}</button> : visible(name)}
      {token && <span class="token small" title={`token ${at![1]}`}>{cut(tokenText(token.text), 20)}</span>}
    </span>
  );
}
