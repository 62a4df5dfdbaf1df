/** The search in one collection: passages, the best first. */
import { h, isSignedOut } from "../lib/dom.js";
import { fill, gettext, ngettext, number } from "../lib/i18n.js";
import { documentCount } from "./words.js";

/** @typedef {import("../server/knowledge-api.js").Passage} Passage */

const PATIENCE_MS = 250;
const SHOWN_CHARS = 420;

export class CollectionSearch {
  #status = h("p", { className: "quiet", role: "status" });
  #list = h("ol", { className: "found-passages" });
  /** @type {any} */
  #timer = null;
  #asked = new AbortController();

  /**
   * @param {import("../server/knowledge-api.js").KnowledgeApi} api
   * @param {string} collection id
   * @param {object} options
   * @param {(passage: Passage) => void} options.onOpen
   * @param {(searching: boolean) => void} options.onState whether results replace the documents
   */
  constructor(api, collection, { onOpen, onState }) {
    this.api = api;
    this.collection = collection;
    this.onOpen = onOpen;
    this.onState = onState;
    this.box = h("input", {
      type: "search",
      maxLength: 400,
      autocomplete: "off",
      dir: "auto",
      placeholder: gettext("Search in this collection"),
      "aria-label": gettext("Search in this collection"),
    });
    this.results = h("div", { hidden: true }, this.#status, this.#list);
    this.box.addEventListener("input", () => this.#later(PATIENCE_MS));
    this.box.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.isComposing) {
        this.#later(0);
      }
    });
  }

  /** @param {number} wait in ms */
  #later(wait) {
    clearTimeout(this.#timer);
    this.#asked.abort();
    const text = this.box.value.trim();
    this.results.hidden = text === "";
    this.onState(text !== "");
    if (text === "") {
      this.#list.replaceChildren();
      this.#status.textContent = "";
      return;
    }
    this.#asked = new AbortController();
    const { signal } = this.#asked;
    this.#timer = setTimeout(() => this.#search(text, signal), wait);
  }

  /**
   * @param {string} text
   * @param {AbortSignal} signal
   */
  async #search(text, signal) {
    this.#status.textContent = gettext("Searching…");
    try {
      const found = await this.api.search(this.collection, text, signal);
      const { passages, searched_documents: searched, missing } = found;
      this.#list.replaceChildren(...passages.map((one) => this.#row(one)));
      this.#status.textContent = said(passages.length, searched, missing);
    } catch (error) {
      if (!signal.aborted && !isSignedOut(error)) {
        this.#list.replaceChildren();
        this.#status.textContent = error instanceof Error ? error.message : String(error);
      }
    }
  }

  /** @param {Passage} passage */
  #row(passage) {
    const { name, page, heading, text } = passage;
    const place =
      page === null ? name : fill(gettext("{name}, page {page}"), { name, page: number(page) });
    const cut = [...text].length > SHOWN_CHARS;
    const shown = cut ? `${[...text].slice(0, SHOWN_CHARS).join("")}…` : text;
    return h(
      "li",
      {},
      h(
        "button",
        {
          type: "button",
          className: "found-place",
          dir: "auto",
          onclick: () => this.onOpen(passage),
        },
        place,
      ),
      heading ? h("p", { className: "quiet", dir: "auto" }, heading) : null,
      h("p", { className: "found-text", dir: "auto" }, shown),
    );
  }
}

/**
 * @param {number} count
 * @param {number} searched
 * @param {string} missing
 */
function said(count, searched, missing) {
  const values = { count: number(count), documents: documentCount(searched) };
  const found =
    count === 0
      ? fill(gettext("Nothing matches in {documents}."), values)
      : fill(
          ngettext("{count} passage of {documents}", "{count} passages of {documents}", count),
          values,
        );
  /** @type {Record<string, string>} */
  const reasons = {
    no_model: gettext("Searched by keywords only: no embedding model is installed."),
    engine_unavailable: gettext(
      "Searched by keywords only: the embedding model is not available now.",
    ),
    index_building: gettext(
      "Some documents are found by keywords only until their index is complete.",
    ),
    language: gettext("Searched by keywords only: the embedding model knows English only."),
  };
  return [found, reasons[missing]].filter(Boolean).join(" ");
}
