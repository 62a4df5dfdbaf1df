/** Draw the charts of usage pages. uPlot is loaded only on pages that have one. */
import { locale, milliseconds, number } from "../lib/i18n.js";

/**
 * @typedef {object} ChartData as of `chatsite/usage/charts.py`
 * @property {"bars" | "lines"} kind
 * @property {"count" | "milliseconds"} unit
 * @property {boolean} hourly
 * @property {string} zone name of the time zone
 * @property {number[]} at seconds
 * @property {{label: string, values: (number | null)[]}[]} series
 */

const HEIGHT = 220;
/** Custom properties of styles/charts.css, one per series. */
const COLOURS = ["--chart-1", "--chart-2", "--chart-3"];

/** Draw each chart of the page, `<div data-chart="id of its data">`. */
export async function drawCharts() {
  const places = /** @type {HTMLElement[]} */ ([...document.querySelectorAll("[data-chart]")]);
  if (!places.length) {
    return;
  }
  const { default: uPlot } = await import("uplot");
  const charts = places.map((place) => new Chart(uPlot, place));
  const draw = () => charts.forEach((chart) => chart.draw());
  new MutationObserver(draw).observe(document.documentElement, {
    attributeFilter: ["data-theme"],
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}

class Chart {
  /** @type {import("uplot") | null} */
  #plot = null;

  /**
   * @param {typeof import("uplot")} uPlot
   * @param {HTMLElement} place
   */
  constructor(uPlot, place) {
    this.uPlot = uPlot;
    this.place = place;
    const data = document.getElementById(place.dataset.chart ?? "");
    /** @type {ChartData} */
    this.data = JSON.parse(data?.textContent ?? "");
    this.draw();
    new ResizeObserver(() => this.#resize()).observe(place);
  }

  /** Draw again, in the colours of the theme. */
  draw() {
    this.#plot?.destroy();
    const { at, series } = this.data;
    const values = series.map((one) => one.values);
    this.#plot = new this.uPlot(
      this.#options(),
      /** @type {import("uplot").AlignedData} */ ([at, ...values]),
      this.place,
    );
  }

  #resize() {
    const width = this.place.clientWidth;
    if (width && this.#plot && this.#plot.width !== width) {
      this.#plot.setSize({ width, height: HEIGHT });
    }
  }

  /** @returns {import("uplot").Options} */
  #options() {
    const style = getComputedStyle(this.place);
    /**
     * Resolve a custom property through an element: a canvas does not know `light-dark()`. A new
     * element for each: a change of colour would begin a transition.
     * @param {string} name
     */
    const colour = (name) => {
      const probe = document.createElement("span");
      probe.style.color = `var(${name})`;
      this.place.append(probe);
      const { color } = getComputedStyle(probe);
      probe.remove();
      return color;
    };
    const { kind, series, zone, hourly } = this.data;
    const axis = {
      stroke: colour("--chart-text"),
      grid: { stroke: colour("--chart-line"), width: 1 },
      ticks: { show: false },
      font: `12px ${style.fontFamily}`,
    };
    const bars = this.uPlot.paths.bars?.({ size: [0.7, 40], radius: 0.15 });
    return {
      width: this.place.clientWidth || 300,
      height: HEIGHT,
      tzDate: (seconds) => this.uPlot.tzDate(new Date(seconds * 1000), zone),
      padding: [8, 8, 0, 0],
      cursor: { y: false, drag: { x: false, y: false } },
      scales: { x: { time: true }, y: { range: (_plot, _least, most) => [0, most * 1.1 || 1] } },
      axes: [
        {
          ...axis,
          grid: { show: false },
          space: 60,
          values: (_plot, ticks) => ticks.map(this.#day),
        },
        { ...axis, size: 56, values: (_plot, ticks) => ticks.map((tick) => this.#value(tick)) },
      ],
      series: [
        { value: (_plot, seconds) => (seconds === null ? "–" : moment(seconds, zone, hourly)) },
        ...series.map(({ label }, index) => ({
          label,
          stroke: colour(COLOURS[index]),
          fill: kind === "bars" ? colour(COLOURS[index]) : undefined,
          width: kind === "bars" ? 0 : 2,
          paths: kind === "bars" ? bars : undefined,
          points: { show: kind === "lines" && this.data.at.length < 10 },
          value: (/** @type {unknown} */ _plot, /** @type {number | null} */ value) =>
            value === null ? "–" : this.#value(value, true),
        })),
      ],
    };
  }

  /** @param {number} seconds */
  #day = (seconds) =>
    new Intl.DateTimeFormat(locale, {
      timeZone: this.data.zone,
      ...(this.data.hourly
        ? { hour: "2-digit", minute: "2-digit" }
        : { day: "numeric", month: "short" }),
    }).format(new Date(seconds * 1000));

  /**
   * @param {number} value
   * @param {boolean} [exact]
   */
  #value(value, exact = false) {
    if (this.data.unit === "milliseconds") {
      return milliseconds(value);
    }
    return exact
      ? number(value)
      : new Intl.NumberFormat(locale, { notation: "compact" }).format(value);
  }
}

/**
 * @param {number} seconds
 * @param {string} zone
 * @param {boolean} hourly
 */
function moment(seconds, zone, hourly) {
  return new Intl.DateTimeFormat(locale, {
    timeZone: zone,
    dateStyle: "medium",
    ...(hourly && { timeStyle: "short" }),
  }).format(new Date(seconds * 1000));
}
