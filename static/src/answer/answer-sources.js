/** What is below an answer about the documents that were searched for it, and its citations. */
import { h, icon, show } from "../lib/dom.js";
import { fill, gettext, ngettext, number } from "../lib/i18n.js";
import { source } from "../documents/citation-text.js";

/**
 * @typedef {import("../lib/wire").Sources} Sources
 * @typedef {import("../lib/wire").CitedPassage} CitedPassage
 */

/** Return what was used: "6 passages of 2 documents used". @param {Sources} sources */
export function usedText({ passages, documents, missing }) {
  if (passages.length > 0) {
    const values = { count: number(passages.length), documents: documentCount(documents.length) };
    return fill(
      ngettext(
        "{count} passage of {documents} used",
        "{count} passages of {documents} used",
        passages.length,
      ),
      values,
    );
  }
  if (missing === "failed") {
    return gettext("Documents could not be searched; answered without documents");
  }
  if (missing === "no_room") {
    return gettext("No room for passages in the context; answered without documents");
  }
  return gettext("Nothing matched; answered without documents");
}

/** @param {number} count */
function documentCount(count) {
  return fill(ngettext("{count} document", "{count} documents", count), { count: number(count) });
}

/**
 * Return notes on how documents were searched, and on what was sent of attachments.
 * @param {Sources} sources
 */
export function notes(sources) {
  const { missing, documents, passages, removed } = sources;
  const found = [];
  if (missing === "no_model") {
    found.push(gettext("Searched by keywords only: no embedding model"));
  } else if (missing === "engine_unavailable") {
    found.push(gettext("Searched by keywords only: the embedding model is not available"));
  } else if (missing === "index_building") {
    found.push(gettext("Searched by keywords only: the index is being built"));
  } else if (missing === "language") {
    found.push(gettext("Searched by keywords only: the embedding model knows English only"));
  }
  for (const { id, kind, name, pages } of documents) {
    const sent = pagesSent(passages.filter(({ document }) => document === id));
    if (kind === "attachment" && pages && sent > 0) {
      const values = { name, sent: number(sent), pages: number(pages) };
      const text =
        missing === "spread"
          ? ngettext(
              "{name}: no page matches your question; {sent} of {pages} pages is sent",
              "{name}: no page matches your question; {sent} of {pages} pages from all of it are sent",
              sent,
            )
          : ngettext(
              "{name}: {sent} of {pages} pages is sent, the one that matches your question",
              "{name}: {sent} of {pages} pages are sent, those that match your question",
              sent,
            );
      found.push(fill(text, values));
    }
  }
  if (removed > 0) {
    const text = ngettext(
      "{count} citation without a passage was removed",
      "{count} citations without a passage were removed",
      removed,
    );
    found.push(fill(text, { count: number(removed) }));
  }
  return found;
}

/** @param {CitedPassage[]} passages */
function pagesSent(passages) {
  const sent = new Set();
  for (const { page, last_page: last } of passages) {
    for (let at = page ?? 1; page !== null && at <= (last ?? page); at += 1) {
      sent.add(at);
    }
  }
  return sent.size;
}

export class AnswerSources {
  #message = "";
  /** @type {Sources | null} */
  #sources = null;
  #label = h("span");
  #notes = h("ul", { className: "source-notes" });
  #list = h("ol", { className: "source-list" });
  #fold = h(
    "details",
    { className: "fold sources" },
    h("summary", {}, this.#label, icon("chevron")),
    this.#list,
  );
  /** Shown instead of the list if nothing was used. */
  #nothing = h("p", { className: "source-none" });

  constructor() {
    this.element = h(
      "div",
      { className: "answer-sources", hidden: true },
      this.#fold,
      this.#nothing,
      this.#notes,
    );
    this.element.addEventListener("click", ({ target }) => this.openMark(target));
  }

  /**
   * @param {string} message id of the answer
   * @param {Sources | null} sources null if no documents were searched
   */
  show(message, sources) {
    this.#message = message;
    if (this.#sources === sources) {
      return;
    }
    this.#sources = sources;
    show(this.element, sources !== null);
    if (!sources) {
      return;
    }
    const text = usedText(sources);
    const used = sources.passages.length > 0;
    this.#fold.hidden = !used;
    this.#nothing.hidden = used;
    this.#label.textContent = used ? text : "";
    this.#nothing.textContent = used ? "" : text;
    this.#list.replaceChildren(...sources.passages.map((one) => this.#row(sources, one)));
    this.#notes.replaceChildren(...notes(sources).map((note) => h("li", {}, note)));
    show(this.#notes, this.#notes.childElementCount > 0);
  }

  /**
   * @param {Sources} sources
   * @param {CitedPassage} passage
   */
  #row(sources, passage) {
    const { number: cited } = passage;
    const text = source(sources, passage);
    return h(
      "li",
      {},
      h(
        "button",
        { type: "button", className: "source", "data-cite": String(cited) },
        h("span", { className: "source-number", "aria-hidden": "true" }, String(cited)),
        h("span", { className: "sr-only" }, fill(gettext("Source {number}: "), { number: cited })),
        h("span", { className: "source-name", dir: "auto" }, text),
      ),
    );
  }

  /** Open the passage of a mark or row that was clicked. @param {EventTarget | null} target */
  async openMark(target) {
    const mark = target instanceof Element ? target.closest("button[data-cite]") : null;
    const cited = Number(mark?.getAttribute("data-cite"));
    const passage = this.#sources?.passages.find((one) => one.number === cited);
    if (passage) {
      const { openCitation } = await import("../documents/viewer.js");
      await openCitation(this.#message, cited, passage.passage);
    }
  }
}

/** @type {HTMLElement | null} */
let tip = null;

/**
 * Show the source of a mark while the pointer is over it or it has the focus.
 * @param {HTMLElement} element contains the marks
 */
export function showLabels(element) {
  const enter = (/** @type {Event} */ { target }) => {
    const mark = target instanceof Element ? target.closest("button.cite") : null;
    if (mark) {
      place(mark);
    }
  };
  const leave = () => {
    tip?.hidePopover?.();
  };
  element.addEventListener("pointerover", enter);
  element.addEventListener("focusin", enter);
  element.addEventListener("pointerout", leave);
  element.addEventListener("focusout", leave);
  element.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      leave();
    }
  });
}

/** @param {Element} mark */
function place(mark) {
  if (!tip) {
    // Screen readers get the same text as the label of the mark.
    tip = h("div", { className: "cite-tip", popover: "manual", "aria-hidden": "true" });
    document.body.append(tip);
  }
  tip.textContent = mark.getAttribute("aria-label");
  tip.showPopover();
  const [box, size] = [mark.getBoundingClientRect(), tip.getBoundingClientRect()];
  const left = Math.max(8, Math.min(box.left, innerWidth - size.width - 8));
  const above = box.top - size.height - 6;
  tip.style.left = `${left}px`;
  tip.style.top = `${above > 8 ? above : box.bottom + 6}px`;
}
