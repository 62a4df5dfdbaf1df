/** Documents of a message as small cards; a press shows the text that the model is given. */
import { byId, h, icon } from "./dom.js";
import { bytes, fill, gettext, number } from "./i18n.js";

/** @typedef {import("./files.js").Attachment} Attachment */

/**
 * @param {string} name
 * @param {string} details
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
 * @param {boolean} [estimated] whether its tokens are
 */
export function chip(attachment, estimated = false) {
  const parts = [bytes(attachment.size)];
  if (attachment.tokens !== null) {
    const text = estimated ? gettext("about {count} tokens") : gettext("{count} tokens");
    parts.push(fill(text, { count: number(attachment.tokens) }));
  }
  const inner = describe(attachment.name, parts.join(" · "));
  const title = gettext("Show the text that the model is given");
  return h(
    "button",
    { type: "button", className: "chip-button", title, onclick: () => showText(attachment) },
    inner,
  );
}

/**
 * Those of a message that was sent.
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
  const response = await fetch(`/chat/attachments/${id}/`).catch(() => null);
  text.textContent = response?.ok
    ? await response.text()
    : gettext("The document could not be loaded. Try again in a moment.");
}
