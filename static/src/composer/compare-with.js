/** Choose further models that answer the next message. */
import { byId, h } from "../lib/dom.js";
import { allows } from "../lib/features.js";
import { fill, gettext } from "../lib/i18n.js";

/** Most answers side by side. */
export const MOST = 3;

/** @typedef {{model: string, assistant: string | null, label: string}} Choice */

export class CompareWith {
  #button = byId("compare");
  #panel = byId("compare-panel");
  #list = byId("compare-list");
  /** @type {Set<string>} values of the choice */
  #chosen = new Set();

  /** @param {import("../models/model-choice.js").ModelChoice} models */
  constructor(models) {
    this.models = models;
    this.#panel.addEventListener("toggle", (/** @type {ToggleEvent} */ event) => {
      if (event.newState === "open") {
        this.#draw();
        this.#place();
      }
    });
    this.#list.addEventListener("change", (/** @type {Event} */ event) => {
      const { value, checked } = /** @type {HTMLInputElement} */ (event.target);
      if (checked) {
        this.#chosen.add(value);
      } else {
        this.#chosen.delete(value);
      }
      this.#update();
    });
    this.update();
  }

  /** Models besides the selected one, in the order of the list. @returns {Choice[]} */
  get chosen() {
    return this.#others().filter(({ value }) => this.#chosen.has(value));
  }

  /** The available models or the selected model have changed. */
  update() {
    const values = new Set(this.#others().map(({ value }) => value));
    this.#chosen = new Set([...this.#chosen].filter((value) => values.has(value)));
    this.#button.hidden = values.size === 0 || !allows("compare");
    this.#update();
  }

  clear() {
    this.#chosen.clear();
    this.#update();
  }

  #others() {
    const { select } = this.models;
    return this.models.choices.filter(({ value }) => value !== select.value);
  }

  #draw() {
    this.#list.replaceChildren(
      ...this.#others().map(({ value, label }) =>
        h(
          "label",
          {},
          h("input", { type: "checkbox", value, checked: this.#chosen.has(value) }),
          h("span", { dir: "auto" }, label),
        ),
      ),
    );
    this.#update();
  }

  #update() {
    const names = this.chosen.map(({ label }) => label).join(", ");
    const label = names
      ? fill(gettext("Compare with {names}"), { names })
      : gettext("Compare with other models");
    this.#button.title = this.#button.ariaLabel = label;
    this.#button.classList.toggle("chosen", names !== "");
    this.#button.dataset.count = names ? `+${this.#chosen.size}` : "";
    const full = this.#chosen.size >= MOST - 1;
    for (const box of this.#list.querySelectorAll("input")) {
      box.disabled = full && !box.checked;
    }
  }

  #place() {
    const [box, size] = [this.#button.getBoundingClientRect(), this.#panel.getBoundingClientRect()];
    const left = Math.max(8, Math.min(box.left, innerWidth - size.width - 8));
    const above = box.top - size.height - 8;
    this.#panel.style.left = `${left}px`;
    this.#panel.style.top = `${above > 8 ? above : box.bottom + 8}px`;
  }
}
