// Line charts.

export interface Series { name: string; points: [number, number][]; dash: string }

export const DASHES = ["none", "7 4", "2 3", "10 3 2 3", "1 5"];

const W = 720, H = 280, LEFT = 62, RIGHT = 16, TOP = 14, BOTTOM = 40;

/** A round number, without digits that say nothing. */
const tick = (v: number) => Number(v.toPrecision(4)).toLocaleString("en", { maximumFractionDigits: 6 }).replace("-", "\u2212");

/** Round numbers from `low` to `high`. */
function ticks(low: number, high: number): number[] {
  const rough = (high - low) / 5 || 1;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * unit).find((s) => s >= rough)!;
  const list: number[] = [];
  for (let i = Math.ceil(low / step); i * step <= high + step * 1e-9; i += 1) list.push(i * step);
  return list;
}

export function Chart({ series, x, y, log }: { series: Series[]; x: string; y: string; log?: boolean }) {
  const value = (v: number) => (log ? Math.log10(Math.max(v, 1e-12)) : v);
  const all = series.flatMap((one) => one.points).filter(([, v]) => Number.isFinite(v) && (!log || v > 0));
  if (all.length === 0) return <p class="quiet">There are no numbers.</p>;
  const range = (list: number[]) => { const low = Math.min(...list), high = Math.max(...list); return low === high ? [low - 0.5, high + 0.5] as const : [low, high] as const; };
  const [x0, x1] = range(all.map(([at]) => at)), [y0, y1] = range(all.map(([, v]) => value(v)));
  const px = (at: number) => LEFT + ((at - x0) / (x1 - x0)) * (W - LEFT - RIGHT);
  const py = (v: number) => H - BOTTOM - ((value(v) - y0) / (y1 - y0)) * (H - TOP - BOTTOM);
  const line = (points: [number, number][]) => points.filter(([, v]) => Number.isFinite(v) && (!log || v > 0))
    .map(([at, v], i) => `${i ? "L" : "M"}${px(at).toFixed(1)} ${py(v).toFixed(1)}`).join("");
  const ys = ticks(y0, y1).map((v) => (log ? 10 ** v : v));
  return (
    <svg class="drawing chart" viewBox={`0 0 ${W} ${H}`} role="img" aria-label={`${y} by ${x}: ${series.map((one) => one.name).join(", ")}`}>
      {ys.map((v) => <g key={v}><line class="row" x1={LEFT} x2={W - RIGHT} y1={py(v)} y2={py(v)} /><text class="tick" x={LEFT - 8} y={py(v) + 4} text-anchor="end">{tick(v)}</text></g>)}
      {ticks(x0, x1).map((at) => <text key={at} class="tick" x={px(at)} y={H - BOTTOM + 18} text-anchor="middle">{tick(at)}</text>)}
      <text class="tick" x={(LEFT + W - RIGHT) / 2} y={H - 6} text-anchor="middle">{x}</text>
      <text class="tick" x={LEFT} y={10}>{y}</text>
      {series.map((one, i) => (
        <g key={one.name} class={`series s${i % 5}`}>
          <path class="series-line" d={line(one.points)} stroke-dasharray={one.dash} />
          {one.points.length <= 24 && one.points.map(([at, v]) => <circle key={at} class="series-point" cx={px(at)} cy={py(v)} r="3" />)}
        </g>
      ))}
      {series.length > 1 && series.map((one, i) => (
        <g key={one.name} class={`series s${i % 5}`} transform={`translate(${W - RIGHT - 190} ${TOP + 8 + 18 * i})`}>
          <path class="series-line" d="M0 0H34" stroke-dasharray={one.dash} /><text class="tick" x="42" y="4">{one.name}</text>
        </g>
      ))}
    </svg>
  );
}
