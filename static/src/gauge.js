/** The gauge beside Send, what it is made of, and the choice when a message would not fit. */
import { reckon } from "./context.js";
import { byId, h } from "./dom.js";
import { fill, gettext, number, percent } from "./i18n.js";

/** Length of the ring in the drawing's own units. */
const RING = 100;

/** @typedef {import("./context.js").Figures} Figures */

export class Gauge {
  #button = byId("gauge");
  #ring = byId("gauge-ring");
  #text = byId("gauge-text");
  #panel = byId("gauge-panel");
  #rows = byId("gauge-rows");
  /** @type {HTMLInputElement} */
  #keep = byId("keep-latest");
  #problem = byId("context-problem");
  /** @type {Figures | null} */
  #figures = null;

  /**
   * @param {object} options
   * @param {() => boolean} options.keepsLatest of the shown conversation
   * @param {(keep: boolean) => void} options.keepLatest
   * @param {() => void} options.startAnew
   */
  constructor({ keepsLatest, keepLatest, startAnew }) {
    this.keepsLatest = keepsLatest;
    this.keepLatest = keepLatest;
    this.startAnew = startAnew;
    this.#keep.addEventListener("change", () => keepLatest(this.#keep.checked));
    this.#panel.addEventListener("toggle", () => this.#place());
  }

  /** Whether what is written surely does not fit, and nobody has said what to leave out. */
  get refuses() {
    return this.#figures !== null && !this.#figures.estimated && this.#isOver(this.#figures);
  }

  /** @param {Figures | null} figures */
  show(figures) {
    this.#figures = figures;
    this.#button.hidden = figures === null;
    this.#keep.checked = this.keepsLatest();
    this.#showProblem();
    if (!figures) {
      this.#panel.hidePopover();
      return;
    }
    const { used, room, share, tight } = reckon(figures);
    const about = figures.estimated ? "~" : "";
    this.#text.textContent = about + percent(share);
    this.#ring.setAttribute("stroke-dasharray", `${share * RING} ${RING}`);
    this.#button.classList.toggle("tight", tight);
    const values = {
      share: this.#text.textContent,
      used: number(used),
      context: number(figures.context),
    };
    this.#button.title = this.#button.ariaLabel = fill(
      figures.estimated
        ? gettext("Context: {share}, about {used} of {context} tokens")
        : gettext("Context: {share}, {used} of {context} tokens"),
      values,
    );
    /** @type {[string, number][]} */
    const rows = [
      [gettext("Instructions"), figures.system],
      [gettext("Conversation"), figures.history],
      [gettext("Attachments"), figures.attachments],
      [gettext("This message"), figures.message],
      [gettext("Room for the answer"), room],
    ];
    const shown = rows.filter(([_, count], at) => count > 0 || at > 2);
    const note = h("p", {}, gettext("Estimated: the model is not loaded yet."));
    this.#rows.replaceChildren(
      ...shown.map(([label, count]) =>
        h("div", {}, h("dt", {}, label), h("dd", {}, about + number(count))),
      ),
    );
    byId("gauge-note").replaceChildren(figures.estimated ? note : "");
  }

  /** To the choice, when somebody sends all the same. */
  insist() {
    this.#problem.querySelector("button")?.focus();
  }

  /** @param {Figures} figures */
  #isOver(figures) {
    const { over } = reckon(figures);
    // What stays in any case: with it alone there must be room too.
    const least = reckon({ ...figures, history: 0 });
    return this.keepsLatest() ? least.over > 0 : over > 0;
  }

  #showProblem() {
    const figures = this.#figures;
    if (!figures || !this.#isOver(figures)) {
      this.#problem.hidden = true;
      this.#problem.dataset.shown = "";
      return;
    }
    const { over } = reckon(figures);
    const helps = figures.history > 0 && reckon({ ...figures, history: 0 }).over === 0;
    const values = { over: number(over), context: number(figures.context) };
    const text = fill(
      figures.estimated
        ? gettext("This is about {over} tokens more than the {context} that the model can hold.")
        : gettext("This is {over} tokens more than the {context} that the model can hold."),
      values,
    );
    const shorten =
      figures.attachments > 0
        ? gettext("Shorten the message or remove attachments.")
        : gettext("Shorten the message.");
    const advice = helps ? gettext("Shorten the message, or choose:") : shorten;
    const shown = `${helps} ${text}`;
    if (this.#problem.dataset.shown === shown) {
      return;
    }
    this.#problem.dataset.shown = shown;
    this.#problem.hidden = false;
    const button = (/** @type {string} */ label, /** @type {() => void} */ onclick) =>
      h("button", { type: "button", className: "button", onclick }, label);
    this.#problem.replaceChildren(
      h("span", {}, `${text} ${advice}`),
      ...(helps
        ? [
            button(gettext("Leave out the oldest messages"), () => this.keepLatest(true)),
            button(gettext("Start a new chat"), () => this.startAnew()),
          ]
        : []),
    );
  }

  /** Above its button, in the page's own coordinates. */
  #place() {
    const [box, size] = [this.#button.getBoundingClientRect(), this.#panel.getBoundingClientRect()];
    const left = Math.max(8, Math.min(box.right - size.width, innerWidth - size.width - 8));
    const above = box.top - size.height - 8;
    this.#panel.style.left = `${left}px`;
    this.#panel.style.top = `${above > 8 ? above : box.bottom + 8}px`;
  }
}
