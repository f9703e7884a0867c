// The page: what was opened on the left, a view of the chosen circuit beside it.
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { live, useAsk, withoutModel } from "./ask";
import { CompareView } from "./compare";
import { GraphView } from "./graph";
import { Badge, Fault, Prose } from "./parts";
import { PromptView } from "./prompt";
import { go, useView, type State } from "./state";
import { count, visible } from "./text";
import { TrainingView } from "./training";
import type { Catalogue } from "./types";
import { VerdictView } from "./verdict";

const VIEWS: [State["view"], string][] = [["graph", "Circuit"], ["prompt", "Prompt"], ["verdict", "Verdict"], ["compare", "Side by side"], ["training", "Training"]];

function App() {
  const state = useView();
  const asked = useAsk<Catalogue>({ ask: "catalogue" });
  const [labels, setLabels] = useState(0);
  useEffect(() => {
    const changed = () => setLabels((n) => n + 1);
    addEventListener("labels", changed);
    return () => removeEventListener("labels", changed);
  }, []);
  useEffect(() => { document.documentElement.dataset.theme = state.theme; }, [state.theme]);
  const catalogue = asked.answer;
  const circuit = catalogue && state.circuit !== null && catalogue.circuits[state.circuit] ? state.circuit : catalogue?.first ?? null;
  useEffect(() => {
    if (catalogue) document.title = circuit === null ? "Openwork" : `${visible(catalogue.circuits[circuit]!.name)} \u2013 Openwork`;
  }, [catalogue, circuit]);
  if (asked.error) return <main><Fault words={asked.error} /></main>;
  if (!catalogue) return <main><p class="waiting">The files are read {"\u2026"}</p></main>;
  if (catalogue.published) withoutModel();
  const entry = circuit === null ? null : catalogue.circuits[circuit]!;
  const view = entry === null ? "training" : state.view;
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); document.getElementById("main")?.focus(); }}>To the content</a>
      <header>
        <h1>Openwork</h1>
        {entry && <span class="where"><b>{visible(entry.name)}</b> <Badge mark={entry.mark} words={entry.verdict} level={entry.level} /></span>}
        {!live && <span class="quiet">no live model</span>}
        <label class="theme">Theme{" "}
          <select value={state.theme} onChange={(event) => go({ theme: event.currentTarget.value as State["theme"] })}>
            <option value="auto">as the system</option><option value="light">light</option><option value="dark">dark</option>
          </select>
        </label>
      </header>
      <div class="body">
        <Contents catalogue={catalogue} circuit={circuit} />
        <main id="main" tabIndex={-1}>
          <nav class="views" aria-label="Views">
            {VIEWS.filter(([name]) => (entry !== null || name === "training") && (!catalogue.published || name === "graph" || name === "prompt")).map(([name, words]) => (
              <button key={name} type="button" aria-current={view === name ? "page" : undefined} onClick={() => go({ view: name }, true)}>{words}</button>
            ))}
          </nav>
          {entry?.description && view !== "training" && <p class="task"><Prose text={entry.description} /></p>}
          {view === "training" ? <TrainingView catalogue={catalogue} />
            : view === "prompt" ? <PromptView key={circuit} state={state} circuit={circuit!} />
            : view === "verdict" ? <VerdictView key={circuit} state={state} circuit={circuit!} entry={entry!} />
            : view === "compare" ? <CompareView state={state} circuit={circuit!} catalogue={catalogue} />
            : <GraphView key={`${circuit} ${labels}`} state={state} circuit={circuit!} />}
        </main>
      </div>
    </>
  );
}

function Contents({ catalogue, circuit }: { catalogue: Catalogue; circuit: number | null }) {
  const fresh = { node: null, path: [], fold: [], tokens: null, text: null, edits: [], why: null, position: null, least: 0 };
  return (
    <nav class="contents" aria-label="Models and circuits">
      {catalogue.models.map((model, m) => (
        <section key={m}>
          <h2>{visible(model.name)}</h2>
          {model.channels > 0 && <p class="quiet">{count(model.layers, "layer")}, {count(model.channels, "channel")}, {model.nonzero[0].toLocaleString("en")} of {model.nonzero[1].toLocaleString("en")} weights not zero</p>}
          <ul class="plain">
            {catalogue.circuits.map((entry, i) => entry.model === m && (
              <li key={i}>
                <button type="button" class="circuit" aria-current={i === circuit ? "true" : undefined} onClick={() => go({ circuit: i, ...fresh }, true)}>
                  <span class="name">{visible(entry.name)}</span>
                  <Badge mark={entry.mark} words={entry.verdict} level={entry.level} />
                  <span class="quiet">{count(entry.size[0], "node")}, {count(entry.size[1], "edge")}</span>
                </button>
              </li>
            ))}
          </ul>
          {!catalogue.circuits.some((entry) => entry.model === m) && <p class="quiet">It has no circuits: <code>openwork prune</code> finds one.</p>}
        </section>
      ))}
      {catalogue.runs.length > 0 && (
        <section><h2>Runs</h2>
          <ul class="plain">{catalogue.runs.map((run, i) => <li key={i}><button type="button" class="circuit" onClick={() => go({ view: "training" }, true)}><span class="name">{visible(run.name)}</span> <span class="quiet">{count(run.steps, "step")}</span></button></li>)}</ul></section>
      )}
      {catalogue.notices.length > 0 && <details><summary>{count(catalogue.notices.length, "notice")}</summary><ul>{catalogue.notices.map((notice) => <li key={notice}>{visible(notice)}</li>)}</ul></details>}
    </nav>
  );
}

render(<App />, document.getElementById("app")!);
