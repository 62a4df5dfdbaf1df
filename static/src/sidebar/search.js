/** Search box above the list, and results in place of the list. */
import { attempt, byId, h } from "../lib/dom.js";
import { dateTime, day, gettext } from "../lib/i18n.js";
import { at } from "../lib/urls.js";

/**
 * @typedef {import("../lib/wire").SearchHit} Hit
 * @typedef {import("../lib/wire").SearchResult} Result
 * @typedef {import("../lib/wire").SearchResults} Found
 */

/** Pause in typing before a search, in ms. */
const PATIENCE = 160;
/** A page may have few results or none. At most this many are requested in a row. */
const PAGES = 5;
const ENOUGH = 10;

export class Search {
  /** @type {HTMLInputElement} */
  #box = byId("search");
  #results = byId("results");
  #list = byId("conversations");
  #state = h("p", { className: "empty-list", role: "status" });
  #found = h("ul", {});
  #more = h("button", { type: "button", className: "button wide" }, gettext("Show more"));
  #problem = byId("list-problem");
  /** @type {any} */
  #timer = null;
  /** Incremented with each search, so that a slow response to an older one is not shown. */
  #turn = 0;
  /** @type {string | null} where the next page begins */
  #before = null;
  #asked = "";

  /**
   * @param {object} options
   * @param {import("../server/api.js").Api} options.api
   * @param {(conversation: string, message: string | null) => void} options.onOpen
   * @param {() => void} options.onShow make the list visible, since a command opens the search
   */
  constructor({ api, onOpen, onShow }) {
    this.api = api;
    this.onOpen = onOpen;
    this.onShow = onShow;
    this.#results.append(this.#state, this.#found, this.#more);
    this.#box.addEventListener("input", () => this.#typed());
    this.#box.addEventListener("keydown", (event) => this.#boxKey(event));
    this.#results.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) =>
      this.#move(event),
    );
    this.#results.addEventListener("click", (/** @type {MouseEvent} */ event) =>
      this.#click(event),
    );
    this.#more.onclick = () => this.#ask(this.#before);
    // Text that was typed before this module was loaded.
    this.#typed();
  }

  focus() {
    this.onShow();
    this.#box.focus();
    this.#box.select();
  }

  #typed() {
    clearTimeout(this.#timer);
    if (this.#box.value.trim() === "") {
      this.#close();
    } else {
      this.#timer = setTimeout(() => this.#ask(null), PATIENCE);
    }
  }

  #close() {
    this.#turn += 1;
    this.#asked = "";
    this.#results.hidden = true;
    this.#list.hidden = false;
    this.#problem.hidden = true;
  }

  /** @param {string | null} before cursor of the next page, null for the first */
  async #ask(before) {
    this.#turn += 1;
    const turn = this.#turn;
    const text = before === null ? this.#box.value : this.#asked;
    this.#asked = text;
    this.#more.disabled = true;
    await attempt(this.#problem, this.#collect(turn, text, before));
    this.#more.disabled = false;
  }

  /**
   * @param {number} turn
   * @param {string} text
   * @param {string | null} before
   */
  async #collect(turn, text, before) {
    let from = before;
    let count = 0;
    for (let page = 0; page < PAGES; page += 1) {
      const found = await this.api.search(text, from);
      if (turn !== this.#turn) {
        return;
      }
      if (page === 0) {
        this.#begin(before === null);
      }
      count += found.results.length;
      this.#found.append(...found.results.map((result) => this.#row(result)));
      from = this.#before = found.before;
      this.#more.hidden = from === null;
      if (from === null || count >= ENOUGH) {
        break;
      }
    }
    this.#state.textContent = this.#found.childElementCount ? "" : gettext("Nothing found.");
    this.#state.hidden = this.#state.textContent === "";
  }

  /** @param {boolean} restart */
  #begin(restart) {
    this.#results.hidden = false;
    this.#list.hidden = true;
    if (restart) {
      this.#found.replaceChildren();
      this.#results.scrollTop = 0;
    }
  }

  /** @param {Result} result */
  #row({ conversation, title, hits }) {
    const moment = hits[0]?.created_at ?? conversation.updated_at;
    const name = title.join("") ? pieces(title) : [gettext("Untitled")];
    const head = h(
      "a",
      { href: at(`/c/${conversation.id}/`), className: "result", dir: "auto" },
      h("span", { className: "result-title" }, ...name),
      h("time", { dateTime: moment, title: dateTime(moment) }, day(moment)),
    );
    const found = hits.map((hit) => this.#hit(conversation.id, hit));
    return h("li", { "data-id": conversation.id }, head, ...found);
  }

  /**
   * @param {string} conversation
   * @param {Hit} hit
   */
  #hit(conversation, { message, role, snippet }) {
    const who = role === "user" ? gettext("You said:") : gettext("Answer:");
    return h(
      "a",
      {
        href: at(`/c/${conversation}/?message=${message}`),
        className: "hit",
        "data-message": message,
        dir: "auto",
      },
      h("span", { className: "sr-only" }, who, " "),
      ...pieces(snippet),
    );
  }

  /** @param {MouseEvent} event */
  #click(event) {
    const link = /** @type {Element} */ (event.target).closest("a");
    if (link && !(event.ctrlKey || event.metaKey || event.shiftKey)) {
      event.preventDefault();
      const id = link.closest("li")?.dataset.id ?? "";
      const message = link.dataset.message ?? null;
      this.onOpen(id, message ?? link.nextElementSibling?.getAttribute("data-message") ?? null);
    }
  }

  /** @param {KeyboardEvent} event */
  #boxKey(event) {
    if (event.isComposing) {
      return;
    }
    if (event.key === "Escape" && this.#box.value) {
      event.preventDefault();
      this.#box.value = "";
      this.#typed();
    } else if (event.key === "Enter" || event.key === "ArrowDown") {
      event.preventDefault();
      this.#results.querySelector("a")?.focus();
    }
  }

  /** Move through the results by arrow keys. @param {KeyboardEvent} event */
  #move(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const links = [...this.#results.querySelectorAll("a")];
    const at = links.indexOf(/** @type {HTMLAnchorElement} */ (document.activeElement));
    if (event.key === "Escape" || (step === -1 && at === 0)) {
      event.preventDefault();
      this.#box.focus();
    } else if (step && at >= 0) {
      event.preventDefault();
      links[at + step]?.focus();
    }
  }
}

/** @param {Hit["snippet"]} texts */
function pieces(texts) {
  return texts.map((text, number) => (number % 2 ? h("mark", {}, text) : text));
}
