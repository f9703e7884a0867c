// Answers of the server, as crates/openwork-view/src/ask has them.

export interface Token { id: number; text: string }
export type Mark = "passed" | "weak" | "refuted" | "open" | "none";

export interface ModelEntry {
  name: string; hash: string; layers: number; channels: number; heads: [number, number]; neurons: number;
  vocabulary: number; context: number; nonzero: [number, number]; means: boolean; sample: boolean;
}
export interface CircuitEntry {
  model: number; name: string; task: string; description: string | null; size: [number, number]; claim: string;
  loss: number | null; mark: Mark; verdict: string; level: number | null;
}
export interface RunEntry { name: string; model: number | null; steps: number }
export interface Catalogue {
  models: ModelEntry[]; circuits: CircuitEntry[]; runs: RunEntry[]; first: number | null; notices: string[]; published: boolean;
}
export interface Curves {
  name: string; steps: number[]; loss: number[]; validation_loss: (number | null)[]; nonzero: number[];
  learning_rate: number[]; dead_neurons: number[]; churn: number[];
}

export interface GraphNode {
  name: string; row: number; kind: string; head: number | null; index: number; label: string | null; note: string | null;
  worth: [number, number, number] | null; mean_magnitude: number | null;
}
export type EdgeKind = "weight" | "residual" | "attention";
export interface GraphEdge { from: number; to: number; kind: EdgeKind; weight: number | null; carried: number | null }
export interface Graph {
  name: string; rows: { layer: number; name: string }[]; nodes: GraphNode[]; edges: GraphEdge[];
  groups: { name: string; note: string | null; nodes: string[] }[]; carried_over: string | null;
}
export interface Effects { loss: number | null; pairs: number; nodes: (number | null)[]; edges: number[] }

export interface Link { node: string; label: string | null; weight: number; in_circuit: boolean }
export interface NodePage {
  name: string; layer: number; kind: string; head: number | null; site: string; in_circuit: boolean;
  label: { name: string; note?: string } | null; groups: string[]; mean: number | null;
  worth: { in_circuit: [number, number, number]; in_model: number; role: number | null } | null;
  links: string; inputs: Link[]; outputs: Link[]; channel: { node: string; label: string | null; writes: boolean }[];
}
export interface Example { window: number; position: number; at: number; tokens: Token[]; values: number[] }
export interface Examples {
  node: string; read: [number, number]; active: number; largest: number;
  lists: { title: string; examples: Example[] }[];
}

export interface Likely { id: number; text: string; logit: number; probability: number }
export interface RunAnswer {
  tokens: Token[]; answers: Likely[][]; unedited: Likely[] | null; alone: Likely[] | null;
  values: { node: string; values: number[]; before?: number[] }[];
}
export interface TaskPrompt { pair: number; positive: boolean; tokens: Token[]; right: Token | null; wrong: Token | null }
export interface Prompts { task: string; prompts: TaskPrompt[] }
export type Prompt = { text: string } | { tokens: number[] };
export interface Edit { node: string; position: number | null; to: { number: number } | "mean" }

export interface Causes {
  shown: Branch[]; smaller: { count: number; sum: number }; rest: number; magnitude: number; held?: Record<string, unknown>;
}
export interface Branch {
  cause: string; contribution: number; value?: number; effect?: number; causes?: Causes;
  attention?: { layer: number; head: number; query: number; key: number; probability: number; score: number; by_query?: Causes; by_key?: Causes };
}
export interface BacktraceAnswer { title: string; tokens: Token[]; backtrace: { target: string; value: number; causes: Causes } }

export interface Interval { mean: number; low: number; high: number; n: number }
export interface MatrixCell {
  split: string; kept: string; ablation: string | null; loss: Interval; accuracy: Interval; agreement: Interval; kl: Interval;
  faithfulness: Interval | null;
}
export interface VerdictPage {
  headline: string; claim: [string, string]; reasons: string[]; level: [number, number];
  levels: { number: number; question: string; state: string; words: string; against: [string, string][]; left_out: string | null }[];
  matrix: MatrixCell[];
  controls: { kind: string; reached_target: boolean; loss: number; size: [number, number] }[];
  nodes: { node: string; in_circuit: Interval; in_model: number }[];
  curves: { axis: string; measure: string; reading: string; points: [number, number][] }[];
  declarations: [string, string][]; provenance: string[];
  counter_example: null | {
    check: string; from: string; intervention: string; prompts: [Token[], Token[]]; candidates: [Token, Token];
    model: [number, number]; run: [number, number]; sources: [Token[], Token[]] | null; partly: [string, number][];
  };
}
export interface Replay { model: [number, number]; run: [number, number]; agrees: boolean }
export interface Parts { both: string[]; first: string[]; second: string[]; jaccard: number | null }
export interface Comparison { same_model: boolean; nodes: Parts; edges: Parts }
