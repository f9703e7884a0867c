// Questions to the live server, or to the answers that an exported page holds.
import { useEffect, useState } from "preact/hooks";

export type Question = { ask: string } & Record<string, unknown>;

interface Entry { question: Question; answer?: unknown; error?: string }

/** A question as text that does not depend on the order of its fields. */
function key(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(key).join(",")}]`;
  if (value !== null && typeof value === "object") {
    const fields = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
    return `{${fields.map(([name, field]) => `${JSON.stringify(name)}:${key(field)}`).join(",")}}`;
  }
  return JSON.stringify(value);
}

const held = document.getElementById("data");
const kept: Map<string, Entry> | null = held
  ? new Map((JSON.parse(held.textContent ?? "[]") as Entry[]).map((entry) => [key(entry.question), entry]))
  : null;

/** True if a model answers; false in an exported page, and where a published circuit is looked at. */
export let live = kept === null;

export function withoutModel(): void {
  live = false;
}

const known = new Map<string, Promise<unknown>>();

async function fetched(question: Question): Promise<unknown> {
  const response = await fetch("api", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(question),
  }).catch(() => {
    throw new Error("The program that serves this page has ended: start `openwork view` again.");
  });
  const text = await response.text();
  if (response.ok) return JSON.parse(text);
  let reason = text;
  try { reason = (JSON.parse(text) as { error: string }).error; } catch { /* the text is the reason */ }
  throw new Error(reason);
}

/** The answer to a question. Answers are kept, since they follow from files and question alone. */
export function ask<T>(question: Question): Promise<T> {
  const name = key(question);
  let answer = known.get(name);
  if (!answer) {
    if (kept) {
      const entry = kept.get(name);
      answer = entry?.answer !== undefined
        ? Promise.resolve(entry.answer)
        : Promise.reject(new Error(entry?.error ?? "This page has no model. `openwork view MODEL` answers this live."));
    } else {
      answer = fetched(question);
      answer.catch(() => known.delete(name));
    }
    // A person who types makes many questions.
    if (known.size > 400) known.delete(known.keys().next().value!);
    known.set(name, answer);
  }
  return answer as Promise<T>;
}

/** Forgets answers that a saved label changes. */
export function forget(): void {
  known.clear();
}

export interface Asked<T> { answer: T | null; error: string | null; waiting: boolean }

/** The answer to a question that may be none yet; the last answer stays while the next is waited for. */
export function useAsk<T>(question: Question | null, delay = 0): Asked<T> {
  const name = question ? key(question) : "";
  const [state, setState] = useState<Asked<T> & { of: string }>({ answer: null, error: null, waiting: true, of: "" });
  useEffect(() => {
    if (!question) return;
    let gone = false;
    setState((old) => ({ ...old, waiting: true }));
    const timer = setTimeout(() => {
      ask<T>(question).then(
        (answer) => gone || setState({ answer, error: null, waiting: false, of: name }),
        (error: Error) => gone || setState((old) => ({ ...old, error: error.message, waiting: false, of: name })),
      );
    }, delay);
    return () => { gone = true; clearTimeout(timer); };
  }, [name]);
  return question ? state : { answer: null, error: null, waiting: false };
}
