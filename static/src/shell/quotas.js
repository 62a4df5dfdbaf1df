/** What is left of the user's quotas: in the account menu, and a warning beside the composer. */
import { byId, h } from "../lib/dom.js";
import { fill, gettext, number, percent, until } from "../lib/i18n.js";

/** @typedef {import("../lib/wire").Quota} Quota */

/** Delay after a renewal before it is shown, in ms: the server's clock decides. */
const AFTER_RENEWAL_MS = 1500;
/** The longest delay of a timer, in ms. */
const LONGEST_MS = 2 ** 31 - 1;

export class Quotas {
  #panel = byId("quotas");
  #list = byId("quota-list");
  #note = byId("quota-note");
  /** @type {Quota[]} */
  #shown = [];
  #timer = 0;

  /** @param {() => Promise<{quotas: Quota[]}>} load */
  constructor(load) {
    this.load = load;
    byId("account-menu").addEventListener("toggle", () => this.refresh());
  }

  /** Fetch the figures again, if there are quotas. */
  async refresh() {
    if (this.#shown.length > 0) {
      const found = await this.load().catch(() => null);
      if (found) {
        this.show(found.quotas);
      }
    }
  }

  /** @param {Quota[]} quotas */
  show(quotas) {
    this.#shown = quotas;
    this.#panel.hidden = quotas.length === 0;
    this.#list.replaceChildren(...quotas.map((quota) => row(quota)));
    const tight = quotas.filter(({ used, warn_at }) => used >= warn_at);
    tight.sort((one, other) => one.left / one.amount - other.left / other.amount);
    const text = tight.length > 0 ? warning(tight[0]) : "";
    // A live region: the same text must not be announced again.
    if (this.#note.textContent !== text) {
      this.#note.textContent = text;
    }
    this.#note.hidden = text === "";
    clearTimeout(this.#timer);
    if (quotas.length > 0) {
      const next = Math.min(...quotas.map(({ renews_at }) => Date.parse(renews_at)));
      const delay = next - Date.now() + AFTER_RENEWAL_MS;
      this.#timer = window.setTimeout(
        () => this.refresh(),
        Math.min(Math.max(delay, AFTER_RENEWAL_MS), LONGEST_MS),
      );
    }
  }
}

/** @param {Quota} quota */
function row(quota) {
  const { amount, used, left, reserved, warn_at, renews_at } = quota;
  const figures = { used: number(used), left: number(left), reserved: number(reserved) };
  const said = fill(gettext("{used} used, {left} left"), figures);
  return h(
    "li",
    {},
    h(
      "span",
      {},
      quota.shared ? fill(gettext("{quota}, shared"), { quota: quota.text }) : quota.text,
    ),
    h("meter", {
      min: 0,
      max: amount,
      high: warn_at,
      optimum: 0,
      value: used,
      ariaLabel: fill(gettext("Used of {quota}"), { quota: quota.text }),
    }),
    h("span", { className: "quiet" }, said),
    reserved > 0
      ? h(
          "span",
          { className: "quiet" },
          fill(gettext("{reserved} held by open requests"), figures),
        )
      : "",
    h("span", { className: "quiet" }, fill(gettext("Renews {when}"), { when: until(renews_at) })),
  );
}

/** @param {Quota} quota */
function warning({ text, shared, amount, used, renews_at }) {
  const values = {
    share: percent(Math.min(used / amount, 1)),
    quota: text,
    when: until(renews_at),
  };
  if (used >= amount) {
    return fill(
      shared
        ? gettext("The shared quota of {quota} is used up. It renews {when}.")
        : gettext("Your quota of {quota} is used up. It renews {when}."),
      values,
    );
  }
  return fill(
    shared
      ? gettext("{share} of the shared quota of {quota} is used. It renews {when}.")
      : gettext("{share} of your quota of {quota} is used. It renews {when}."),
    values,
  );
}
