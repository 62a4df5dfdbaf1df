/** Chips for attached documents. A click shows the text that the model gets. */
import { byId, h, icon } from "../lib/dom.js";
import { bytes, fill, gettext, ngettext, number } from "../lib/i18n.js";
import { at } from "../lib/urls.js";

/** @typedef {import("../lib/wire").Attachment} Attachment */

/**
 * @param {string} name
 * @param {string | Node} details
 */
export function describe(name, details) {
  return h(
    "span",
    { className: "chip" },
    icon("file"),
    h(
      "span",
      { className: "chip-text" },
      h("span", { className: "chip-name", dir: "auto" }, name),
      h("span", { className: "chip-details" }, details),
    ),
  );
}

/**
 * @param {Attachment} attachment
 * @param {boolean} [estimated] whether the token count is an estimate
 */
export function chip(attachment, estimated = false) {
  const parts = [bytes(attachment.size)];
  if (attachment.send === "matches" && attachment.pages) {
    const text = ngettext("{count} page", "{count} pages", attachment.pages);
    parts.push(fill(text, { count: number(attachment.pages) }));
  } else if (attachment.send !== "matches" && attachment.tokens !== null) {
    const text = estimated ? gettext("about {count} tokens") : gettext("{count} tokens");
    parts.push(fill(text, { count: number(attachment.tokens) }));
  }
  if (attachment.send === "pages") {
    parts.push(fill(gettext("only pages {pages}"), { pages: attachment.send_pages }));
  } else if (attachment.send === "matches") {
    parts.push(gettext("only what matches the question"));
  }
  const inner = describe(attachment.name, parts.join(" · "));
  inner
    .querySelector(".chip-text")
    ?.append(...attachment.notes.map((note) => h("span", { className: "chip-note" }, note)));
  const title = gettext("Show the text that the model receives");
  return h(
    "button",
    { type: "button", className: "chip-button", title, onclick: () => showText(attachment) },
    inner,
  );
}

/**
 * Return the chips of a sent message.
 * @param {Attachment[]} attachments
 */
export function chips(attachments) {
  return h(
    "ul",
    { className: "files", "aria-label": gettext("Attachments") },
    ...attachments.map((attachment) => h("li", {}, chip(attachment))),
  );
}

/** @param {Attachment} attachment */
async function showText({ id, name }) {
  /** @type {HTMLDialogElement} */
  const dialog = byId("document");
  byId("document-title").textContent = name;
  const text = byId("document-text");
  text.textContent = gettext("Loading…");
  dialog.showModal();
  const response = await fetch(at(`/chat/attachments/${id}/`)).catch(() => null);
  text.textContent = response?.ok
    ? await response.text()
    : gettext("Couldn't load the document. Try again.");
}
