/** The overview: replaces its regions and draws its charts with what it polls. */
import { gettext, number } from "../lib/i18n.js";

/**
 * @typedef {import("../lib/wire").OverviewNow} Now
 * @typedef {import("../lib/wire").TokenCounter} TokenCounter
 */

/** Milliseconds between polls, and the longest pause after failures. */
const PERIOD = 3000;
const LONGEST = 30_000;

export class Overview {
  #failures = 0;
  /** @type {Map<string, string>} */
  #shown = new Map();
  /** @type {{at: number, counters: TokenCounter[]} | null} */
  #before = null;
  /** @type {number | null} */
  #rate = null;
  /** @type {import("./overview-charts.js").OverviewCharts | null} */
  #charts = null;

  /**
   * @param {HTMLElement} element
   * @param {Pick<Now, "charts" | "counters">} first
   */
  constructor(element, first) {
    this.url = element.dataset.url ?? "";
    this.state = document.getElementById("overview-state");
    this.first = first;
  }

  start() {
    this.#before = { at: Date.now() / 1000, counters: this.first.counters };
    void this.#draw(this.first.charts);
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) {
        void this.#poll();
      }
    });
    setTimeout(() => void this.#repeat(), PERIOD);
  }

  async #repeat() {
    if (!document.hidden) {
      await this.#poll();
    }
    const pause = Math.min(PERIOD * 2 ** this.#failures, LONGEST);
    setTimeout(() => void this.#repeat(), pause);
  }

  async #poll() {
    try {
      const response = await fetch(this.url, { headers: { Accept: "application/json" } });
      if (response.redirected || response.status === 403) {
        location.reload(); // signed out, or the role changed
        return;
      }
      if (!response.ok) {
        throw new Error(String(response.status));
      }
      this.#show(await response.json());
      this.#failures = 0;
      this.#say("");
    } catch {
      this.#failures += 1;
      this.#say(gettext("The server is not responding. These figures are outdated."));
    }
  }

  /** @param {Now} now */
  #show(now) {
    for (const [name, html] of Object.entries(now.regions)) {
      const region = document.getElementById(`overview-${name}`);
      // A link keeps the focus: the region is replaced at the next poll.
      if (region && this.#shown.get(name) !== html && !region.contains(document.activeElement)) {
        region.innerHTML = html;
        this.#shown.set(name, html);
      }
    }
    this.#rate = rate(this.#before, now) ?? this.#rate;
    this.#before = { at: now.at, counters: now.counters };
    const value = document.getElementById("tokens-now")?.firstChild;
    if (this.#rate !== null && value) {
      value.textContent = `${number(this.#rate)} `;
    }
    void this.#draw(now.charts);
  }

  /** @param {Now["charts"]} charts */
  async #draw(charts) {
    if (!charts) {
      return;
    }
    const { OverviewCharts } = await import("./overview-charts.js");
    this.#charts ??= new OverviewCharts();
    this.#charts.show(charts);
  }

  /** @param {string} text */
  #say(text) {
    if (this.state && this.state.textContent !== text) {
      this.state.textContent = text;
    }
  }
}

/**
 * Return the tokens per second between two readings. Models that were loaded in between count from
 * the next reading on. Null if the readings are too close.
 * @param {{at: number, counters: TokenCounter[]} | null} before
 * @param {{at: number, counters: TokenCounter[]}} now
 */
export function rate(before, now) {
  if (!before || now.at - before.at < 1) {
    return null;
  }
  const old = new Map(before.counters.map(({ key, decoded }) => [key, decoded]));
  let tokens = 0;
  for (const { key, decoded } of now.counters) {
    tokens += Math.max(0, decoded - (old.get(key) ?? decoded));
  }
  return tokens / (now.at - before.at);
}
