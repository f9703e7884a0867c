// Parts that several views share.
import type { ComponentChildren } from "preact";
import { ask, type Question } from "./ask";
import { cut, size, tokenText, visible } from "./text";
import type { Mark, Token } from "./types";
import svgStyle from "./svg.css";

const MARKS: Record<Mark, string> = { passed: "\u2713", weak: "\u2248", refuted: "\u2717", open: "\u2026", none: "?" };

/** A verdict as a badge: sign, word and level, so that no colour is needed to read it. */
export function Badge({ mark, words, level }: { mark: Mark; words: string; level: number | null }) {
  const short = mark === "none" ? "NOT VERIFIED" : words.split(",")[0]!;
  return (
    <span class={`badge ${mark}`} title={words}>
      <span aria-hidden="true">{MARKS[mark]}</span> {short}
      {level !== null && <span class="level"> level {level} of 6</span>}
    </span>
  );
}

/** A text with `code` in back quotes. */
export function Prose({ text }: { text: string }) {
  return <>{visible(text).split("`").map((part, i) => (i % 2 === 1 ? <code key={i}>{part.replace(/^ /, "\u00b7")}</code> : part))}</>;
}

export function Fault({ words }: { words: string }) {
  return <p class="fault" role="status">{words}</p>;
}

/** Tokens in boxes, each in a shade of its value: darker is larger, and a stripe says negative. */
export function Tokens({ tokens, values, largest, at, marked, onPick, label }: {
  tokens: Token[]; values?: number[]; largest?: number; at?: number; marked?: Set<number>; label: string;
  onPick?: (position: number) => void;
}) {
  const most = largest || Math.max(1e-12, ...(values ?? []).map(Math.abs));
  const box = (token: Token, i: number) => {
    const value = values?.[i];
    const share = value === undefined ? 0 : Math.min(1, Math.abs(value) / most);
    const classes = ["token", i === at && "at", marked?.has(i) && "marked", value !== undefined && value < 0 && "negative"];
    const title = `token ${i}, id ${token.id}${value === undefined ? "" : `: ${size(value)}`}`;
    const props = { class: classes.filter(Boolean).join(" "), title, style: { "--share": share.toFixed(3) } };
    const text = cut(tokenText(token.text), 40);
    return onPick
      ? <button type="button" {...props} aria-pressed={i === at} onClick={() => onPick(i)}>{text}</button>
      : <span {...props}>{text}</span>;
  };
  return <div class={`tokens${values ? " heat" : ""}`} role="group" aria-label={label}>{tokens.map(box)}</div>;
}

/** A bar of a share from -1 to 1; negative ones are striped and run to the left. */
export function Bar({ share }: { share: number }) {
  const width = `${(50 * Math.min(1, Math.abs(share))).toFixed(1)}%`;
  return <span class="bar" aria-hidden="true"><span class={share < 0 ? "negative" : ""} style={{ width }} /></span>;
}

function save(name: string, kind: string, text: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: kind }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** A drawing with the colours that it has on the page. */
function standalone(svg: SVGSVGElement): string {
  const copy = svg.cloneNode(true) as SVGSVGElement;
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  const colours = getComputedStyle(document.documentElement);
  const style = document.createElementNS("http://www.w3.org/2000/svg", "style");
  style.textContent = svgStyle.replace(/var\((--[a-z-]+)\)/g, (_: string, name: string) => colours.getPropertyValue(name).trim());
  copy.prepend(style);
  return new XMLSerializer().serializeToString(copy);
}

/** A figure with its heading and downloads: the JSON behind it, and its drawing. */
export function Figure({ title, question, children, name, note, value }: {
  title: string; name: string; children: ComponentChildren; question?: Question; value?: unknown; note?: ComponentChildren;
}) {
  const json = async () => save(`${name}.json`, "application/json", JSON.stringify(value ?? await ask(question!), null, 1));
  const drawing = (event: Event) => {
    const svg = (event.currentTarget as Element).closest("figure")?.querySelector<SVGSVGElement>("svg.drawing");
    if (svg) save(`${name}.svg`, "image/svg+xml", standalone(svg));
  };
  return (
    <figure class="figure">
      <figcaption>
        <h3>{title}</h3>
        <span class="downloads">
          {(question || value !== undefined) && <button type="button" class="quiet" onClick={json} aria-label={`JSON of ${title}`}>JSON</button>}
          <button type="button" class="quiet svg-only" onClick={drawing} aria-label={`SVG of ${title}`}>SVG</button>
        </span>
      </figcaption>
      {children}
      {note && <p class="note">{note}</p>}
    </figure>
  );
}
