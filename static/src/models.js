/**
 * The choice of who answers, a model or an assistant: a native select, so that it works as people
 * know it everywhere.
 */
import { h } from "./dom.js";
import { bytes, gettext } from "./i18n.js";
import { recall, remember } from "./storage.js";

/**
 * @typedef {{name: string, size: number, custom: boolean, state: string}} Model
 * @typedef {{id: string, name: string, icon: string, description: string, model: string,
 *   suggestions: string[], own: boolean}} Assistant
 */

const ASSISTANT = "assistant:";

export class ModelChoice {
  /**
   * @param {HTMLSelectElement} select
   * @param {() => void} onChange what is chosen has changed, by the person
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
    /** @type {Assistant[]} */
    this.assistants = [];
  }

  /** All that can be chosen, for a choice elsewhere. */
  get entries() {
    return [...this.select.options].map(({ value, textContent }) => ({
      label: textContent ?? "",
      run: () => {
        this.select.value = value;
        this.select.dispatchEvent(new Event("change"));
      },
    }));
  }

  /** Name of the model that will answer, empty if none is installed. */
  get value() {
    return this.assistant?.model ?? this.select.value;
  }

  /** How people see the chosen one. */
  get label() {
    return this.select.selectedOptions[0]?.label ?? "";
  }

  /** All that can be chosen, in the order of the list. */
  get choices() {
    return [...this.select.options]
      .filter(({ value }) => value !== "")
      .map(({ value, label }) => {
        const assistant = this.assistants.find(({ id }) => ASSISTANT + id === value);
        const model = assistant?.model ?? value;
        return { value, label, model, assistant: assistant?.id ?? null };
      });
  }

  /** The chosen assistant, null for a plain model. @returns {Assistant | null} */
  get assistant() {
    const { value } = this.select;
    return this.assistants.find(({ id }) => ASSISTANT + id === value) ?? null;
  }

  /**
   * @param {{models: Model[], assistants: Assistant[], default_model: string | null}} found
   */
  show({ models, assistants, default_model: fallback }) {
    const wanted = [this.select.value, recall("model"), fallback];
    this.models = models;
    this.assistants = assistants;
    const presets = [
      ...assistants.map(({ id, name, icon }) =>
        h("option", { value: ASSISTANT + id }, `${icon} ${name}`),
      ),
      ...models.filter(({ custom }) => custom).map(({ name }) => option(name)),
    ];
    const plain = models.filter(({ custom }) => !custom).map(({ name }) => option(name));
    this.select.replaceChildren(
      ...(presets.length === 0
        ? plain
        : [group(gettext("Models"), plain), group(gettext("Assistants"), presets)]),
    );
    this.select.disabled = models.length === 0;
    if (models.length === 0) {
      this.select.append(h("option", { value: "" }, gettext("No model installed")));
    }
    const found = wanted.find((value) => value !== null && this.#has(value));
    if (found) {
      this.select.value = found;
    }
    this.#describe();
  }

  /**
   * Who wrote the last answer of the conversation.
   * @param {{model: string, assistant: {id: string} | null} | null | undefined} generation
   */
  prefer(generation) {
    const values = [ASSISTANT + (generation?.assistant?.id ?? ""), generation?.model ?? ""];
    const found = values.find((value) => this.#has(value));
    if (found) {
      this.select.value = found;
      this.#describe();
    }
  }

  /** Without a conversation: what the person chose last. */
  preferRemembered() {
    const value = recall("model");
    if (value && this.#has(value)) {
      this.select.value = value;
      this.#describe();
    }
  }

  /** @param {string} value */
  #has(value) {
    return [...this.select.options].some((one) => one.value === value && value !== "");
  }

  #describe() {
    const name = this.value;
    const model = this.models.find((one) => one.name === name);
    const states = /** @type {Record<string, string>} */ ({
      ready: gettext("ready"),
      loading: gettext("loading"),
      measuring: gettext("being measured"),
      waiting: gettext("waiting for memory"),
      failed: gettext("failed to start"),
      unloaded: gettext("loads with the first message"),
    });
    const parts = model ? [bytes(model.size), states[model.state]].filter(Boolean) : [];
    const { assistant } = this;
    this.select.title = [...(assistant ? [assistant.model] : []), ...parts].join(", ");
  }
}

/** @param {string} name */
function option(name) {
  return h("option", { value: name }, name);
}

/**
 * @param {string} label
 * @param {HTMLOptionElement[]} options
 */
function group(label, options) {
  return h("optgroup", { label }, ...options);
}
