/** The hosts with their memory and loaded models. */
import { h } from "../lib/dom.js";
import { bytes, fill, gettext, number, percent } from "../lib/i18n.js";
import { post } from "./snapshot-socket.js";
import { at } from "../lib/urls.js";

/**
 * @typedef {import("../lib/wire").HostRow} Host
 * @typedef {import("../lib/wire").ModelRow} Model
 * @typedef {import("../lib/wire").HostDevice} Device
 */

const TONES = /** @type {Record<string, string>} */ ({
  ready: "good",
  failed: "bad",
  unreachable: "bad",
});

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
    // Keep a focused button in place until it loses the focus.
    if (now === this.#shown) {
      return;
    }
    this.#shown = now;
    const focused = document.activeElement?.getAttribute("data-key");
    this.element.replaceChildren(...(hosts ?? []).map((host) => this.#host(host)));
    if (!hosts?.length) {
      const text = hosts
        ? gettext("No host is running.")
        : gettext("Redis is not responding. The state of the hosts is unknown.");
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
      h(
        "h2",
        {},
        host.name,
        host.draining ? " " : null,
        host.draining
          ? h(
              "span",
              {
                className: "badge warn",
                title: gettext("It takes no more requests and ends when its answers are complete."),
              },
              gettext("draining"),
            )
          : null,
      ),
      memory &&
        h(
          "p",
          {},
          h("meter", { min: 0, max: 1, value: used, "aria-label": gettext("Memory") }),
          " ",
          fill(
            gettext("{used} of {budget} model memory used; {free} of {total} system memory free"),
            {
              used: bytes(memory.committed),
              budget: bytes(memory.budget),
              free: bytes(memory.available),
              total: bytes(memory.total),
            },
          ),
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
          fill(gettext("{device}: {used} of {total} reserved for models; {free} free"), {
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
        : h("p", { className: "quiet" }, gettext("No model is loaded.")),
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
        model.remote
          ? null
          : h(
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
    let text;
    try {
      await post(at(`/admin/hosts/${action}/`), this.csrf, { name });
      text = fill(action === "load" ? gettext("Loading {name}…") : gettext("Unloading {name}…"), {
        name,
      });
    } catch (error) {
      text = error instanceof Error ? error.message : String(error);
    }
    if (this.notice) {
      this.notice.textContent = text;
    }
  }
}

/**
 * A separate row: a cell would be too narrow on a phone.
 * @param {Model} model
 */
function details(model) {
  const texts = [];
  if (model.weights) {
    const text = gettext("Running from a {kind} copy of the weights (faster on this CPU)");
    texts.push(h("div", {}, fill(text, { kind: model.weights })));
  }
  if (model.on_devices) {
    const figures = { count: number(model.on_devices), layers: number(model.layers) };
    texts.push(h("div", {}, fill(gettext("{count} of {layers} layers on GPU"), figures)));
  }
  if (model.device_problem) {
    const text = gettext("Couldn't offload more layers to the GPU: {reason}");
    const reason = { reason: model.device_problem };
    texts.push(h("div", { className: "job-error" }, fill(text, reason)));
  }
  return texts.length ? [h("tr", {}, h("td", { colSpan: 6, className: "quiet" }, ...texts))] : [];
}
