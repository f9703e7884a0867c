// Texts and numbers as they are shown.

// Controls, marks of direction and characters without width: whoever reads a token sees that they are there.
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u115f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff]/g;

const NAMES: Record<string, string> = { "\n": "\u21b5", "\t": "\u21e5", "\r": "\u240d" };

/** Text in which nothing is hidden and nothing turns the direction of what follows. */
export function visible(text: string): string {
  return text.replace(HIDDEN, (c) => NAMES[c] ?? `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** Text of a token: a space that it begins with is a raised dot. */
export function tokenText(text: string): string {
  return visible(text).replace(/ /g, "\u00b7") || "\u2205";
}

/** Text of at most so many characters. */
export function cut(text: string, most: number): string {
  const all = [...text];
  return all.length <= most ? text : `${all.slice(0, most - 1).join("")}\u2026`;
}

/** A number with a sign, to three significant digits. */
export function signed(x: number): string {
  return (x < 0 ? "\u2212" : "+") + size(Math.abs(x));
}

/** A number to three significant digits. */
export function size(x: number): string {
  if (!Number.isFinite(x)) return x > 0 ? "\u221e" : x < 0 ? "\u2212\u221e" : "none";
  const a = Math.abs(x);
  const text = a === 0 ? "0" : a >= 1000 ? Math.round(x).toLocaleString("en") : a >= 0.001 ? x.toPrecision(3) : x.toExponential(1);
  return text.replace("-", "\u2212");
}

export function percent(x: number): string {
  const p = 100 * x;
  return p >= 99.95 && p < 100 ? "> 99.9 %" : p > 0 && p < 0.1 ? "< 0.1 %" : `${p.toFixed(1)} %`;
}

export function count(n: number, word: string): string {
  return `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
}
