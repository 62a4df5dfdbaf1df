/** Charts of the overview, drawn with uPlot. Loaded with the first figures. */
import uPlot from "uplot";
import { fill, gettext, number } from "../lib/i18n.js";

/**
 * @typedef {NonNullable<import("../lib/wire").OverviewNow["charts"]>} Charts
 * @typedef {{label: string, colour: string, filled?: boolean, values: (charts: Charts) => (number | null)[]}} Line
 */

const HEIGHT = 152;

/** @type {Record<string, () => Line[]>} */
const LINES = {
  tokens: () => [
    { label: gettext("Tokens/s"), colour: "--series-1", filled: true, values: (now) => now.tokens },
  ],
  first: () => [
    { label: gettext("Median"), colour: "--series-1", values: (now) => now.ttft_p50 },
    { label: gettext("p95"), colour: "--series-2", values: (now) => now.ttft_p95 },
  ],
  load: () => [
    { label: gettext("Running"), colour: "--series-1", filled: true, values: (now) => now.running },
    { label: gettext("Waiting"), colour: "--series-2", values: (now) => now.waiting },
  ],
  requests: () => [
    {
      label: gettext("Requests"),
      colour: "--series-1",
      filled: true,
      values: (now) => now.requests,
    },
    { label: gettext("Errors"), colour: "--series-3", values: (now) => now.errors },
  ],
};

export class OverviewCharts {
  /** @type {Map<HTMLElement, {plot: uPlot, lines: Line[]}>} */
  #plots = new Map();
  /** @type {Charts | null} */
  #now = null;

  constructor() {
    new ResizeObserver(() => this.#resize()).observe(document.documentElement);
    // Colours are drawn, so a change of the theme needs a new drawing.
    const again = () => this.#again();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
    new MutationObserver(again).observe(document.documentElement, {
      attributeFilter: ["data-theme"],
    });
  }

  /** @param {Charts} now */
  show(now) {
    this.#now = now;
    for (const figure of document.querySelectorAll("[data-overview-chart]")) {
      const element = /** @type {HTMLElement} */ (figure);
      const lines = LINES[element.dataset.overviewChart ?? ""]?.() ?? [];
      const known = this.#plots.get(element);
      const data = /** @type {uPlot.AlignedData} */ (
        /** @type {unknown} */ ([now.minutes, ...lines.map((line) => line.values(now))])
      );
      if (known) {
        known.plot.setData(data);
      } else {
        this.#plots.set(element, { plot: this.#plot(element, lines, data), lines });
      }
      describe(element, lines, now);
    }
  }

  /**
   * @param {HTMLElement} element
   * @param {Line[]} lines
   * @param {uPlot.AlignedData} data
   */
  #plot(element, lines, data) {
    const place = /** @type {HTMLElement} */ (element.querySelector(".plot"));
    const style = getComputedStyle(document.documentElement);
    const soft = resolved("--soft", element);
    const grid = { stroke: resolved("--line", element), width: 1 };
    /** @type {uPlot.Axis} */
    const axis = {
      stroke: soft,
      grid,
      ticks: { show: false },
      font: `12px ${style.getPropertyValue("--font")}`,
    };
    return new uPlot(
      {
        width: place.clientWidth,
        padding: [8, 20, 0, 0],
        height: HEIGHT,
        legend: { show: lines.length > 1, live: false },
        cursor: { y: false, points: { size: 6 } },
        scales: { y: { range: (_plot, _low, high) => [0, Math.max(high * 1.1, 1)] } },
        axes: [
          { ...axis, size: 28, grid: { show: false }, values: (_plot, ticks) => ticks.map(clock) },
          { ...axis, size: 44, values: (_plot, ticks) => ticks.map((tick) => number(tick)) },
        ],
        series: [
          {},
          ...lines.map((line) => {
            const colour = resolved(line.colour, element);
            return {
              label: line.label,
              stroke: colour,
              width: 2,
              points: { show: false },
              spanGaps: true,
              ...(line.filled ? { fill: `color-mix(in srgb, ${colour} 14%, transparent)` } : {}),
            };
          }),
        ],
        plugins: [tooltip(lines)],
      },
      data,
      place,
    );
  }

  #resize() {
    for (const [element, { plot }] of this.#plots) {
      const width = element.querySelector(".plot")?.clientWidth ?? 0;
      if (width && Math.abs(width - plot.width) > 1) {
        plot.setSize({ width, height: HEIGHT });
      }
    }
  }

  #again() {
    for (const { plot } of this.#plots.values()) {
      plot.destroy();
    }
    this.#plots.clear();
    if (this.#now) {
      this.show(this.#now);
    }
  }
}

/**
 * Return a colour of the tokens as a canvas takes it.
 * @param {string} name
 * @param {HTMLElement} element
 */
function resolved(name, element) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  element.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

/** @param {number} seconds since the epoch */
function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString(document.documentElement.lang, {
    hour: "2-digit",
    minute: "2-digit",
  });
}

/**
 * Write what the chart shows as text: the newest and the highest value of each line.
 * @param {HTMLElement} element
 * @param {Line[]} lines
 * @param {Charts} now
 */
function describe(element, lines, now) {
  const texts = lines.map((line) => {
    const values = line.values(now).filter((value) => value !== null);
    if (!values.length || Math.max(...values) === 0) {
      return fill(gettext("{name}: none in the last hour"), { name: line.label });
    }
    return fill(gettext("{name}: last {last}, highest {highest}"), {
      name: line.label,
      last: number(values.at(-1) ?? 0),
      highest: number(Math.max(...values)),
    });
  });
  const text = element.querySelector(".overview-text");
  if (text) {
    text.textContent = texts.join(" · ");
  }
}

/**
 * Show the values of the minute under the pointer.
 * @param {Line[]} lines
 * @returns {uPlot.Plugin}
 */
function tooltip(lines) {
  const box = document.createElement("div");
  box.className = "overview-tip";
  box.hidden = true;
  return {
    hooks: {
      init: (plot) => plot.over.append(box),
      setCursor: (plot) => {
        const { idx, left } = plot.cursor;
        const at = typeof idx === "number" ? plot.data[0][idx] : undefined;
        box.hidden = at === undefined || (left ?? -1) < 0;
        if (at === undefined || typeof idx !== "number") {
          return;
        }
        const values = lines.map((line, place) => {
          const value = plot.data[place + 1]?.[idx];
          return `${line.label}: ${value === null || value === undefined ? "–" : number(value)}`;
        });
        box.replaceChildren(
          ...[clock(at), ...values].map((text) => {
            const row = document.createElement("div");
            row.textContent = text;
            return row;
          }),
        );
        const beyond = (left ?? 0) > plot.over.clientWidth / 2;
        box.style.left = beyond ? "auto" : `${(left ?? 0) + 10}px`;
        box.style.right = beyond ? `${plot.over.clientWidth - (left ?? 0) + 10}px` : "auto";
      },
    },
  };
}
