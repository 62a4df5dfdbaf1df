/** The choice of the model: a native select, so that it works as people know it everywhere. */
import { h } from "./dom.js";
import { bytes, gettext } from "./i18n.js";
import { recall, remember } from "./storage.js";

/** @typedef {{name: string, size: number, state: string}} Model */

export class ModelChoice {
  /**
   * @param {HTMLSelectElement} select
   * @param {() => void} onChange
   */
  constructor(select, onChange) {
    this.select = select;
    select.addEventListener("change", () => {
      remember("model", select.value);
      this.#describe();
      onChange();
    });
    /** @type {Model[]} */
    this.models = [];
  }

  /** Name of the chosen model, empty if none is installed. */
  get value() {
    return this.select.value;
  }

  /**
   * @param {Model[]} models
   * @param {string | null} fallback
   */
  show(models, fallback) {
    const wanted = [this.select.value, recall("model"), fallback];
    this.models = models;
    this.select.replaceChildren(...models.map(({ name }) => h("option", { value: name }, name)));
    this.select.disabled = models.length === 0;
    if (models.length === 0) {
      this.select.append(h("option", { value: "" }, gettext("No model installed")));
    }
    const found = wanted.find((name) => models.some((model) => model.name === name));
    if (found) {
      this.select.value = found;
    }
    this.#describe();
  }

  /**
   * The model that the conversation went on with last.
   * @param {string | undefined} name
   */
  prefer(name) {
    if (name && this.models.some((model) => model.name === name)) {
      this.select.value = name;
      this.#describe();
    }
  }

  /** Without a conversation: what the person chose last. */
  preferRemembered() {
    this.prefer(recall("model") ?? undefined);
  }

  #describe() {
    const model = this.models.find(({ name }) => name === this.select.value);
    const states = /** @type {Record<string, string>} */ ({
      ready: gettext("ready"),
      loading: gettext("loading"),
      measuring: gettext("being measured"),
      waiting: gettext("waiting for memory"),
      failed: gettext("failed to start"),
      unloaded: gettext("loads with the first message"),
    });
    const parts = model ? [bytes(model.size), states[model.state]].filter(Boolean) : [];
    this.select.title = parts.join(", ");
  }
}
