// State of the page, which is its address: everything that it shows is in the fragment.
import { useEffect, useState } from "preact/hooks";

export interface State {
  view: "graph" | "prompt" | "verdict" | "compare" | "training";
  circuit: number | null;
  second: number | null;
  node: string | null;
  measure: "carried" | "weight" | "effect";
  least: number;
  fold: string[];
  path: string[];
  text: string | null;
  tokens: number[] | null;
  position: number | null;
  edits: string[];
  why: string | null;
  depth: number;
  effect: "none" | "zero" | "mean";
  theme: "auto" | "light" | "dark";
  matrix: string;
}

const DEFAULTS: State = {
  view: "graph", circuit: null, second: null, node: null, measure: "carried", least: 0, fold: [], path: [], text: null,
  tokens: null, position: null, edits: [], why: null, depth: 4, effect: "none", theme: "auto", matrix: "agreement",
};

const ONE_OF: Partial<Record<keyof State, readonly string[]>> = {
  view: ["graph", "prompt", "verdict", "compare", "training"],
  measure: ["carried", "weight", "effect"],
  effect: ["none", "zero", "mean"],
  theme: ["auto", "light", "dark"],
  matrix: ["agreement", "accuracy", "loss", "kl", "faithfulness"],
};

function read(): State {
  const state = { ...DEFAULTS } as Record<string, unknown>;
  const fields = new URLSearchParams(location.hash.slice(1));
  for (const [name, text] of fields) {
    if (!(name in DEFAULTS)) continue;
    const field = name as keyof State;
    if (ONE_OF[field]) {
      if (ONE_OF[field].includes(text)) state[name] = text;
    } else if (field === "fold" || field === "path" || field === "edits") {
      state[name] = text.split(",").filter((part) => part !== "");
    } else if (field === "tokens") {
      const ids = text.split(".").map(Number);
      if (ids.every((id) => Number.isInteger(id) && id >= 0 && id < 65536)) state[name] = ids;
    } else if (field === "text" || field === "node" || field === "why") {
      state[name] = text;
    } else if (Number.isFinite(Number(text))) {
      state[name] = Number(text);
    }
  }
  return state as unknown as State;
}

function written(state: State): string {
  const fields = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    const usual = DEFAULTS[name as keyof State];
    if (value === null || JSON.stringify(value) === JSON.stringify(usual)) continue;
    fields.set(name, Array.isArray(value) ? value.join(name === "tokens" ? "." : ",") : String(value));
  }
  return `#${fields.toString()}`;
}

let current = read();
const watchers = new Set<() => void>();

function tell(): void {
  watchers.forEach((watcher) => watcher());
}

/** Changes the state. `step` makes it a step of the browser's history. */
export function go(patch: Partial<State>, step = false): void {
  current = { ...current, ...patch };
  const hash = written(current);
  if (hash !== location.hash) history[step ? "pushState" : "replaceState"](null, "", hash);
  tell();
}

addEventListener("hashchange", () => { current = read(); tell(); });
addEventListener("popstate", () => { current = read(); tell(); });

export function useView(): State {
  const [state, setState] = useState(current);
  useEffect(() => {
    const watcher = () => setState(current);
    watchers.add(watcher);
    watcher();
    return () => { watchers.delete(watcher); };
  }, []);
  return state;
}
