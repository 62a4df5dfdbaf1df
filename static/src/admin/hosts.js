/** The hosts: memory, and what each holds. */
import { h } from "../dom.js";
import { bytes, fill, gettext, number, percent } from "../i18n.js";
import { post } from "./follower.js";

/**
 * @typedef {object} Model
 * @property {string} name
 * @property {string} state
 * @property {string} state_text
 * @property {number | null} progress
 * @property {number} busy
 * @property {number} slots
 * @property {number} context
 * @property {number} memory
 * @property {string} reason
 * @property {number} layers
 * @property {number} on_devices
 * @property {string} device_problem
 * @property {string} weights
 *
 * @typedef {object} Device
 * @property {string} name
 * @property {string} description
 * @property {number} free
 * @property {number} total
 * @property {number} promised
 *
 * @typedef {object} Host
 * @property {string} id
 * @property {string} name
 * @property {{total: number, available: number, budget: number, committed: number} | null} memory
 * @property {Device[]} devices
 * @property {Model[]} models
 */

const TONES = /** @type {Record<string, string>} */ ({ ready: "good", failed: "bad" });

export class Hosts {
  #shown = "";

  /**
   * @param {HTMLElement} element
   * @param {string} csrf
   */
  constructor(element, csrf) {
    this.element = element;
    this.csrf = csrf;
    this.notice = document.getElementById("notice");
    const form = /** @type {HTMLFormElement | null} */ (document.getElementById("load"));
    form?.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#act("load", String(new FormData(form).get("name")));
    });
  }

  /** @param {{hosts?: Host[] | null}} now */
  show({ hosts }) {
    const now = JSON.stringify(hosts);
    // A button in use keeps its place until it is left.
    if (now === this.#shown) {
      return;
    }
    this.#shown = now;
    const focused = document.activeElement?.getAttribute("data-key");
    this.element.replaceChildren(...(hosts ?? []).map((host) => this.#host(host)));
    if (!hosts?.length) {
      const text = hosts
        ? gettext("No host is running.")
        : gettext("Redis does not answer, so the hosts are not known.");
      this.element.append(h("p", {}, text));
    }
    if (focused) {
      /** @type {HTMLElement | null} */ (
        this.element.querySelector(`[data-key="${CSS.escape(focused)}"]`)
      )?.focus();
    }
  }

  /** @param {Host} host */
  #host(host) {
    const memory = host.memory;
    const used = memory ? memory.committed / memory.budget : 0;
    return h(
      "section",
      { className: "module host" },
      h("h2", {}, host.name),
      memory &&
        h(
          "p",
          {},
          h("meter", { min: 0, max: 1, value: used, "aria-label": gettext("Memory") }),
          " ",
          fill(gettext("{used} of {budget} that models may use; {free} of {total} are free"), {
            used: bytes(memory.committed),
            budget: bytes(memory.budget),
            free: bytes(memory.available),
            total: bytes(memory.total),
          }),
        ),
      ...host.devices.map((device) =>
        h(
          "p",
          {},
          h("meter", {
            min: 0,
            max: 1,
            value: device.total ? device.promised / device.total : 0,
            "aria-label": device.name,
          }),
          " ",
          fill(gettext("{device}: {used} of {total} are promised to models; {free} are free"), {
            device: `${device.name} (${device.description})`,
            used: bytes(device.promised),
            total: bytes(device.total),
            free: bytes(device.free),
          }),
        ),
      ),
      host.models.length
        ? h(
            "table",
            {},
            h(
              "thead",
              {},
              h(
                "tr",
                {},
                ...[
                  gettext("Model"),
                  gettext("State"),
                  gettext("Busy slots"),
                  gettext("Context"),
                  gettext("Memory"),
                  gettext("Actions"),
                ].map((text) => h("th", { scope: "col" }, text)),
              ),
            ),
            h(
              "tbody",
              {},
              ...host.models.flatMap((model) => [this.#model(host, model), ...details(model)]),
            ),
          )
        : h("p", { className: "quiet" }, gettext("No model is in memory.")),
    );
  }

  /**
   * @param {Host} host
   * @param {Model} model
   */
  #model(host, model) {
    const state = model.progress === null ? "" : ` ${percent(model.progress)}`;
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, model.name),
      h(
        "td",
        {},
        h("span", { className: `state ${TONES[model.state] ?? ""}` }, model.state_text + state),
        model.reason && h("div", { className: "job-error" }, model.reason),
      ),
      h("td", {}, `${model.busy} / ${model.slots}`),
      h("td", {}, model.context ? number(model.context) : ""),
      h("td", {}, model.memory ? bytes(model.memory) : ""),
      h(
        "td",
        {},
        h(
          "button",
          {
            type: "button",
            "data-key": `${host.id} ${model.name}`,
            "aria-label": fill(gettext("Unload {name}"), { name: model.name }),
            disabled: model.state !== "ready",
            onclick: () => void this.#act("unload", model.name),
          },
          gettext("Unload"),
        ),
      ),
    );
  }

  /**
   * @param {string} action
   * @param {string} name
   */
  async #act(action, name) {
    let text = "";
    try {
      await post(`/admin/hosts/${action}/`, this.csrf, { name });
      text = fill(
        action === "load" ? gettext("{name} is being loaded.") : gettext("{name} goes."),
        {
          name,
        },
      );
    } catch (error) {
      text = error instanceof Error ? error.message : String(error);
    }
    if (this.notice) {
      this.notice.textContent = text;
    }
  }
}

/**
 * A row of its own: a cell would be too narrow for it on a phone.
 * @param {Model} model
 */
function details(model) {
  const texts = [];
  if (model.weights) {
    const text = gettext("Computed with a copy of its weights as {kind}, which is faster here");
    texts.push(h("div", {}, fill(text, { kind: model.weights })));
  }
  if (model.on_devices) {
    const figures = { count: number(model.on_devices), layers: number(model.layers) };
    texts.push(h("div", {}, fill(gettext("{count} of {layers} layers on devices"), figures)));
  }
  if (model.device_problem) {
    const text = gettext("A device did not take more layers: {reason}");
    const reason = { reason: model.device_problem };
    texts.push(h("div", { className: "job-error" }, fill(text, reason)));
  }
  return texts.length ? [h("tr", {}, h("td", { colSpan: 6, className: "quiet" }, ...texts))] : [];
}
