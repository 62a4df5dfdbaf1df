/** The context gauge beside Send: its breakdown, and the choice if a message does not fit. */
import { reckon } from "../chat/context.js";
import { byId, h } from "../lib/dom.js";
import { fill, gettext, number, percent } from "../lib/i18n.js";

/** Circumference of the ring in SVG units. */
const RING = 100;
/** Share of the context from which the gauge is always shown. */
const SHOWN_FROM = 0.5;

/** @typedef {import("../chat/context.js").Figures} Figures */

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
   * @param {() => void} options.startNewChat
   */
  constructor({ keepsLatest, keepLatest, startNewChat }) {
    this.keepsLatest = keepsLatest;
    this.keepLatest = keepLatest;
    this.startNewChat = startNewChat;
    this.#keep.addEventListener("change", () => keepLatest(this.#keep.checked));
    this.#panel.addEventListener("toggle", () => this.#place());
  }

  /** Whether the message certainly does not fit and leaving out old messages is not allowed. */
  get refuses() {
    return this.#figures !== null && !this.#figures.estimated && this.#isOver(this.#figures);
  }

  /** @param {Figures | null} figures */
  show(figures) {
    this.#figures = figures;
    this.#keep.checked = this.keepsLatest();
    this.#showProblem();
    this.#button.hidden = figures === null;
    if (!figures) {
      this.#panel.hidePopover();
      return;
    }
    const { used, room, share, over, tight } = reckon(figures);
    const about = figures.estimated ? "~" : "";
    this.#text.textContent = about + percent(share);
    this.#ring.setAttribute("stroke-dasharray", `${share * RING} ${RING}`);
    // A nearly empty context needs no attention: the gauge is shown on hover or focus only.
    const quiet = share < SHOWN_FROM && figures.attachments === 0 && !this.keepsLatest();
    this.#button.classList.toggle("quiet", quiet);
    this.#button.classList.toggle("tight", tight && !(over > 0 && !this.#isOver(figures)));
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
      [gettext("Passages of documents (at most)"), figures.passages ?? 0],
      [gettext("This message"), figures.message],
      [gettext("Left for the answer"), room],
    ];
    const shown = rows.filter(([_, count], at) => count > 0 || at > 3);
    const note = h("p", {}, gettext("Estimated: the model is not loaded yet."));
    this.#rows.replaceChildren(
      ...shown.map(([label, count]) =>
        h("div", {}, h("dt", {}, label), h("dd", {}, about + number(count))),
      ),
    );
    byId("gauge-note").replaceChildren(figures.estimated ? note : "");
  }

  /** Focus the choice if the user presses Send although the message does not fit. */
  insist() {
    this.#problem.querySelector("button")?.focus();
  }

  /** @param {Figures} figures */
  #isOver(figures) {
    const { over } = reckon(figures);
    // The parts that can't be left out must fit by themselves.
    const least = reckon({ ...figures, history: 0 });
    return this.keepsLatest() ? least.over > 0 : over > 0;
  }

  #showProblem() {
    const figures = this.#figures;
    const button = (/** @type {string} */ label, /** @type {() => void} */ onclick) =>
      h("button", { type: "button", className: "button", onclick }, label);
    if (figures && reckon(figures).over > 0 && !this.#isOver(figures)) {
      this.#say("left out", gettext("The oldest messages will be left out."), [
        button(gettext("Undo"), () => this.keepLatest(false)),
      ]);
      return;
    }
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
        ? gettext("This exceeds the model's context of {context} tokens by about {over}.")
        : gettext("This exceeds the model's context of {context} tokens by {over}."),
      values,
    );
    const shorten =
      figures.attachments > 0
        ? gettext("Shorten the message or remove attachments.")
        : gettext("Shorten the message.");
    const advice = helps ? gettext("Shorten the message, or choose:") : shorten;
    const choices = [
      button(gettext("Leave out the oldest messages"), () => this.keepLatest(true)),
      button(gettext("Start a new chat"), () => this.startNewChat()),
    ];
    this.#say(`${helps} ${text}`, `${text} ${advice}`, helps ? choices : []);
  }

  /**
   * @param {string} key of the content: the same content is not rendered again, to keep the focus
   * @param {string} text
   * @param {HTMLButtonElement[]} choices
   */
  #say(key, text, choices) {
    if (this.#problem.dataset.shown !== key) {
      this.#problem.dataset.shown = key;
      this.#problem.hidden = false;
      this.#problem.replaceChildren(h("span", {}, text), ...choices);
    }
  }

  /** Place the panel above its button. */
  #place() {
    const [box, size] = [this.#button.getBoundingClientRect(), this.#panel.getBoundingClientRect()];
    const left = Math.max(8, Math.min(box.right - size.width, innerWidth - size.width - 8));
    const above = box.top - size.height - 8;
    this.#panel.style.left = `${left}px`;
    this.#panel.style.top = `${above > 8 ? above : box.bottom + 8}px`;
  }
}
