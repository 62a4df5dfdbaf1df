/** What the page says of collections and documents. */
import { h, icon } from "../lib/dom.js";
import { bytes, day, fill, gettext, ngettext, number } from "../lib/i18n.js";

/**
 * @typedef {import("../server/knowledge-api.js").Collection} Collection
 * @typedef {import("../server/knowledge-api.js").Document} Document
 */

/** @param {Document["state"]} state */
export function isOpen(state) {
  return state === "queued" || state === "reading" || state === "uploading";
}

/** @param {number} count */
export function documentCount(count) {
  return fill(ngettext("{count} document", "{count} documents", count), { count: number(count) });
}

/**
 * Return the badge of a document's state, null for one that is ready.
 * @param {Document["state"]} state
 */
export function stateBadge(state) {
  const texts = {
    uploading: gettext("Upload incomplete"),
    queued: gettext("Queued"),
    reading: gettext("Reading…"),
    failed: gettext("Failed"),
    ready: "",
  };
  return texts[state]
    ? h("span", { className: `state-badge ${state}` }, texts[state] ?? state)
    : null;
}

/**
 * Return how many documents of a collection are not ready.
 * @param {Collection} collection
 */
export function badges({ open, failed }) {
  const found = [];
  if (open > 0) {
    const text = fill(gettext("{count} being read"), { count: number(open) });
    found.push(h("span", { className: "state-badge reading" }, text));
  }
  if (failed > 0) {
    const text = fill(gettext("{count} failed"), { count: number(failed) });
    found.push(h("span", { className: "state-badge failed" }, text));
  }
  return found;
}

/** @param {Document} document */
export function details({ kind, pages, size, version, updated_at: updated }) {
  return [
    kind ? kind.toUpperCase() : "",
    pages ? fill(ngettext("{count} page", "{count} pages", pages), { count: number(pages) }) : "",
    bytes(size),
    version > 1 ? fill(gettext("version {number}"), { number: number(version) }) : "",
    day(updated),
  ]
    .filter(Boolean)
    .join(" · ");
}

/** @param {Collection} collection */
export function access({ owner, may_manage: manages, may_write: writes, shared }) {
  if (owner.kind === "group") {
    return fill(gettext("Group {name}"), { name: owner.name });
  }
  if (manages) {
    return shared ? gettext("Shared by you") : gettext("Only you");
  }
  const text = writes ? gettext("{name}, you can edit") : gettext("{name}, you can read");
  return fill(text, { name: owner.name });
}

/**
 * An empty state: what is missing, and what to do.
 * @param {string} drawing
 * @param {string} title
 * @param {string} text
 * @param {...HTMLElement} actions
 */
export function blank(drawing, title, text, ...actions) {
  return h(
    "div",
    { className: "blank-shelf" },
    icon(drawing),
    h("h2", {}, title),
    h("p", {}, text),
    actions.length > 0 ? h("div", { className: "blank-actions" }, ...actions) : null,
  );
}

/**
 * @param {string} drawing
 * @param {string} label
 * @param {() => void} onclick
 * @param {string} [kind] further classes
 */
export function button(drawing, label, onclick, kind = "") {
  return h(
    "button",
    { type: "button", className: `button ${kind}`.trim(), onclick },
    icon(drawing),
    label,
  );
}
