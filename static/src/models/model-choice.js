/**
 * Selection of the model or assistant: a native select that opens the page's own list
 * (`model-picker.js`).
 */
import { h } from "../lib/dom.js";
import { bytes, fill, gettext } from "../lib/i18n.js";
import { displayNames } from "../lib/model-names.js";
import { recall, remember } from "../lib/storage.js";

/**
 * @typedef {import("../lib/wire").Model} Model
 * @typedef {import("../lib/wire").Assistant} Assistant
 *
 * @typedef {object} Entry one that can be chosen
 * @property {string} value
 * @property {string} label display name
 * @property {string} title display name of the model
 * @property {string} model
 * @property {number} size of its file in bytes
 * @property {string} description of an assistant
 * @property {boolean} preset whether it is an assistant or a configured model
 * @property {() => void} run selects it
 */

/** Keys that open a native select. */
const OPENERS = new Set([" ", "Enter", "ArrowDown", "ArrowUp", "F4"]);

const ASSISTANT = "assistant:";

export class ModelChoice {
  /**
   * @param {HTMLSelectElement} select
   * @param {() => void} onChange the user has selected another entry
   * @param {() => Promise<any>} fetchDetails of the models, see `ModelPicker`
   * @param {HTMLElement} note on the selected model
   */
  constructor(select, onChange, fetchDetails, note) {
    this.select = select;
    this.fetchDetails = fetchDetails;
    this.note = note;
    select.addEventListener("change", () => {
      remember("model", select.value);
      this.#describe();
      onChange();
    });
    /** @type {Model[]} */
    this.models = [];
    /** @type {Assistant[]} */
    this.assistants = [];
    this.#listen();
  }

  /** Display names. @type {Map<string, string>} */
  #titles = new Map();
  /** @type {Promise<import("./model-picker.js").ModelPicker> | null} */
  #picker = null;

  /** Open the page's list where the browser would open its own. */
  #listen() {
    const { select } = this;
    const frame = select.parentElement ?? select;
    let wasOpen = false;
    frame.addEventListener("pointerenter", () => this.#load());
    select.addEventListener("focus", () => this.#load());
    frame.addEventListener("pointerdown", () => {
      wasOpen = document.querySelector(".picker:popover-open") !== null;
    });
    select.addEventListener("mousedown", (event) => {
      event.preventDefault();
      select.focus();
    });
    frame.addEventListener("click", () => wasOpen || this.#open());
    select.addEventListener("keydown", (event) => {
      if (OPENERS.has(event.key) && !event.isComposing) {
        event.preventDefault();
        this.#open();
      }
    });
  }

  #load() {
    this.#picker ??= import("./model-picker.js").then(
      ({ ModelPicker }) => new ModelPicker(this, this.fetchDetails),
    );
    return this.#picker;
  }

  async #open() {
    if (!this.select.disabled) {
      (await this.#load()).show();
    }
  }

  /** All entries, in the order of the list. @returns {Entry[]} */
  get entries() {
    const options = [...this.select.options].filter(({ value }) => value !== "");
    return options.map(({ value, label }) => {
      const assistant = this.assistants.find(({ id }) => ASSISTANT + id === value);
      const name = assistant?.model ?? value;
      const model = this.models.find((one) => one.name === name);
      return {
        value,
        label,
        title: this.#titles.get(name) ?? name,
        model: name,
        size: model?.size ?? 0,
        description: assistant?.description ?? "",
        preset: Boolean(assistant || model?.custom),
        run: () => this.choose(value),
      };
    });
  }

  /** Select an entry as the user would. @param {string} value */
  choose(value) {
    this.select.value = value;
    this.select.dispatchEvent(new Event("change"));
  }

  /** Return a model's state as text. @param {string} name */
  stateOf(name) {
    const state = this.models.find((one) => one.name === name)?.state ?? "";
    const states = /** @type {Record<string, string>} */ ({
      ready: gettext("ready"),
      loading: gettext("loading"),
      tuning: gettext("tuning"),
      waiting: gettext("waiting for memory"),
      failed: gettext("failed to start"),
      unreachable: gettext("not responding"),
      unloaded: gettext("loads on the first message"),
    });
    return { ready: state === "ready", text: states[state] ?? "" };
  }

  /** Name of the selected model, "" if none is installed. */
  get value() {
    return this.assistant?.model ?? this.select.value;
  }

  /** Display name of the selected entry. */
  get label() {
    return this.select.selectedOptions[0]?.label ?? "";
  }

  /** All choices, in the order of the list. */
  get choices() {
    return [...this.select.options]
      .filter(({ value }) => value !== "")
      .map(({ value, label }) => {
        const assistant = this.assistants.find(({ id }) => ASSISTANT + id === value);
        const model = assistant?.model ?? value;
        return { value, label, model, assistant: assistant?.id ?? null };
      });
  }

  /** The selected assistant, null for a plain model. @returns {Assistant | null} */
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
    this.#titles = displayNames(models.map(({ name }) => name));
    const option = (/** @type {Model} */ { name, base }) => {
      const title = this.#titles.get(name) ?? name;
      const label = base ? fill(gettext("{name} (base model)"), { name: title }) : title;
      return h("option", { value: name }, label);
    };
    const presets = [
      ...assistants.map(({ id, name, icon }) =>
        h("option", { value: ASSISTANT + id }, `${icon} ${name}`),
      ),
      ...models.filter(({ custom }) => custom).map(option),
    ];
    const plain = models.filter(({ custom }) => !custom).map(option);
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
   * Select the author of the conversation's last answer.
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

  /** Select the user's last choice, in a new chat. */
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
    this.note.hidden = !model?.base;
    this.note.textContent = model?.base
      ? gettext(
          "This is a base model: it continues your text and does not answer questions. Choose another model to chat.",
        )
      : "";
    const parts = model ? [name, bytes(model.size), this.stateOf(name).text] : [];
    this.select.title = parts.filter(Boolean).join(", ");
  }
}

/**
 * @param {string} label
 * @param {HTMLOptionElement[]} options
 */
function group(label, options) {
  return h("optgroup", { label }, ...options);
}
