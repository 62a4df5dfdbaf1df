/**
 * The side panel that shows a cited passage in its document: the page of a PDF, else the text, with
 * the passage marked. Loaded when the first citation is opened.
 *
 * @typedef {import("../lib/wire").Quoted} Quoted
 * @typedef {import("./pdf-page.js").PdfPages} PdfPages
 */
import { h, icon, iconButton } from "../lib/dom.js";
import { fill, gettext, number } from "../lib/i18n.js";
import { isTemporary } from "../lib/storage.js";
import { at } from "../lib/urls.js";
import { place } from "./citation-text.js";

/** Characters before and after a passage of a document without pages. */
const AROUND = 4000;
/** Pause after a change of the window's size before a page is drawn again. */
const RESIZED_MS = 150;

/** An error with a text for users. */
class Refused extends Error {}

/**
 * @param {string} path
 * @returns {Promise<any>}
 */
async function load(path) {
  const headers = { Accept: "application/json" };
  const response = await fetch(at(path), { headers, redirect: "manual" }).catch(() => null);
  const data = await response?.json().catch(() => null);
  if (!response?.ok || !data) {
    throw new Refused(
      data?.error?.message ?? gettext("Couldn't load the document. Try again in a moment."),
    );
  }
  return data;
}

class Viewer {
  #title = h("h2", { id: "passage-title", dir: "auto" });
  #where = h("p", { className: "passage-where", "aria-live": "polite" });
  #body = h("div", { className: "passage-body", tabindex: "0", role: "region" });
  #previous = iconButton("left", gettext("Previous page"), () => this.#turn(-1));
  #next = iconButton("right", gettext("Next page"), () => this.#turn(1));
  #original = h(
    "a",
    { className: "button", target: "_blank", rel: "noopener" },
    gettext("Open file"),
  );
  /** @type {PdfPages | null} */
  #pdf = null;
  /** @type {Quoted | null} */
  #quoted = null;
  #page = 0;
  #pages = 0;
  /** @type {any} */
  #resizing = null;
  /** Incremented with each passage and page: an earlier one that arrives late is not shown. */
  #visit = 0;

  constructor() {
    const close = iconButton("close", gettext("Close"), () => this.dialog.close());
    this.#body.setAttribute("aria-labelledby", "passage-title");
    this.dialog = h(
      "dialog",
      { id: "passage", className: "passage", "aria-labelledby": "passage-title" },
      h("header", {}, icon("file"), h("div", {}, this.#title, this.#where), close),
      this.#body,
      h(
        "footer",
        {},
        this.#previous,
        this.#next,
        h("span", { className: "space" }),
        this.#original,
      ),
    );
    this.dialog.addEventListener("close", () => this.#leave());
    // A click beside the panel closes it.
    this.dialog.addEventListener("click", (event) => {
      if (event.target === this.dialog) {
        this.dialog.close();
      }
    });
    this.dialog.addEventListener("keydown", (event) => {
      const step = { PageUp: -1, PageDown: 1 }[event.key];
      if (step && this.#pages > 1 && event.altKey) {
        event.preventDefault();
        this.#turn(step);
      }
    });
    document.body.append(this.dialog);
    // The page of a PDF is as wide as the panel.
    addEventListener("resize", () => {
      clearTimeout(this.#resizing);
      if (this.#pdf && this.dialog.open) {
        this.#resizing = setTimeout(() => this.#showPage(this.#page), RESIZED_MS);
      }
    });
  }

  /** @param {Promise<Quoted>} quoted */
  async open(quoted) {
    this.#leave();
    const visit = this.#visit;
    this.#title.textContent = gettext("Loading…");
    this.#where.textContent = "";
    this.#body.replaceChildren();
    this.#controls(0, 0);
    this.#original.hidden = true;
    if (!this.dialog.open) {
      this.dialog.showModal();
    }
    try {
      const found = await quoted;
      if (visit !== this.#visit) {
        return;
      }
      this.#quoted = found;
      this.#title.textContent = found.name;
      await this.#show(found, visit);
    } catch (error) {
      this.#fail(error, visit);
    }
  }

  /**
   * @param {unknown} error
   * @param {number} visit
   */
  #fail(error, visit) {
    if (visit !== this.#visit) {
      return;
    }
    const text =
      error instanceof Refused
        ? error.message
        : gettext("Couldn't load the document. Try again in a moment.");
    if (!this.#quoted) {
      this.#title.textContent = gettext("Source");
    }
    this.#body.replaceChildren(h("p", { className: "notice error", role: "alert" }, text));
  }

  /**
   * @param {Quoted} quoted
   * @param {number} visit
   */
  async #show(quoted, visit) {
    const isFile = quoted.kind === "document";
    this.#original.hidden = !isFile;
    if (isFile) {
      this.#original.href = at(`/knowledge/documents/${quoted.id}/file/`);
    }
    if (isFile && quoted.file_kind === "pdf") {
      const { PdfPages } = await import("./pdf-page.js");
      const pdf = await PdfPages.open(this.#original.href).catch(() => null);
      if (visit !== this.#visit) {
        pdf?.close();
        return;
      }
      this.#pdf = pdf;
    }
    // A PDF that the browser can't draw is shown as text.
    this.#pages = this.#pdf?.count ?? quoted.pages ?? 0;
    await this.#showPage(quoted.page ?? 1);
  }

  /** @param {number} page */
  async #showPage(page) {
    const quoted = this.#quoted;
    if (!quoted) {
      return;
    }
    this.#visit += 1;
    const visit = this.#visit;
    this.#page = page;
    this.#controls(page, this.#pages);
    this.#body.setAttribute("aria-busy", "true");
    try {
      const marked = this.#pdf
        ? await this.#pdf.draw(this.#body, page, quoted.changed ? "" : quoted.text, this.#name())
        : await this.#drawText(quoted, page, visit);
      if (visit === this.#visit) {
        if (quoted.changed) {
          const text = gettext(
            "The document has changed since this answer. The passage may be elsewhere now.",
          );
          this.#body.prepend(h("p", { className: "notice note" }, text));
        }
        marked?.scrollIntoView({ block: "center" });
      }
    } catch (error) {
      this.#fail(error, visit);
    } finally {
      this.#body.removeAttribute("aria-busy");
    }
  }

  #name() {
    return fill(gettext("{name}, {place}"), {
      name: this.#quoted?.name ?? "",
      place: place({ page: this.#page, last_page: null }),
    });
  }

  /**
   * Show the text of a page, or around the passage.
   * @param {Quoted} quoted
   * @param {number} page
   * @param {number} visit
   */
  async #drawText(quoted, page, visit) {
    const paged = this.#pages > 0 && quoted.page !== null;
    const folder = quoted.kind === "document" ? "/knowledge/documents" : "/chat/attachments";
    const address = `${folder}/${quoted.id}/text/`;
    let found = await load(paged ? `${address}?page=${page}` : address);
    // A long document without pages comes in parts.
    const part = found.page_starts.findLastIndex((/** @type {number} */ at) => at <= quoted.start);
    if (!paged && part > 0) {
      found = await load(`${address}?page=${part + 1}`);
    }
    if (visit !== this.#visit) {
      return null;
    }
    let { text, start } = found;
    if (!paged) {
      const from = Math.max(0, position(text, quoted.start - start) - AROUND);
      const to = position(text, quoted.end - start) + AROUND;
      const before = text.slice(0, from);
      start += [...before].length;
      text = text.slice(from, to);
    }
    const [first, last] = [
      position(text, quoted.start - start),
      position(text, quoted.end - start),
    ];
    const mark = first < last && !quoted.changed ? h("mark", {}, text.slice(first, last)) : null;
    const inside = mark ? [text.slice(0, first), mark, text.slice(last)] : [text];
    this.#body.replaceChildren(h("div", { className: "passage-text", dir: "auto" }, ...inside));
    return mark;
  }

  /** @param {number} by */
  #turn(by) {
    const page = this.#page + by;
    if (page >= 1 && page <= this.#pages) {
      this.#showPage(page);
    }
  }

  /**
   * @param {number} page
   * @param {number} pages
   */
  #controls(page, pages) {
    const several = pages > 1;
    const [previous, next] = [this.#previous, this.#next];
    previous.hidden = next.hidden = !several;
    const focused = document.activeElement;
    previous.disabled = page <= 1;
    next.disabled = page >= pages;
    if (focused === previous && previous.disabled) {
      next.focus();
    } else if (focused === next && next.disabled) {
      previous.focus();
    }
    const values = { page: number(page), pages: number(pages) };
    this.#where.textContent = several ? fill(gettext("Page {page} of {pages}"), values) : "";
  }

  #leave() {
    this.#visit += 1;
    this.#pdf?.close();
    this.#pdf = null;
    this.#quoted = null;
  }
}

/**
 * Return the UTF-16 index of a character, which the server counts in code points.
 * @param {string} text
 * @param {number} characters
 * @returns {number}
 */
function position(text, characters) {
  if (characters <= 0) {
    return 0;
  }
  let index = 0;
  for (let count = 0; count < characters && index < text.length; count += 1) {
    index += (text.codePointAt(index) ?? 0) > 0xffff ? 2 : 1;
  }
  return index;
}

/** @type {Viewer | null} */
let viewer = null;

/**
 * Show a citation of an answer.
 * @param {string} message
 * @param {number} cited number of the mark
 * @param {number | null} passage for a temporary chat, whose messages the server does not have
 */
export function openCitation(message, cited, passage) {
  viewer ??= new Viewer();
  const saved = !isTemporary(message);
  return viewer.open(
    saved ? load(`/chat/messages/${message}/citations/${cited}/`) : loadPassage(passage),
  );
}

/**
 * @param {number | null} id
 * @returns {Promise<Quoted>}
 */
async function loadPassage(id) {
  const found = await load(`/knowledge/passages/${id}/`);
  return {
    ...found,
    kind: "document",
    id: found.document,
    file_kind: /\.pdf$/iu.test(found.name) ? "pdf" : "",
    pages: null,
    changed: false,
  };
}

/** Show a passage that a search has found. @param {number} id */
export function openPassage(id) {
  viewer ??= new Viewer();
  return viewer.open(loadPassage(id));
}

/**
 * Show a document of a collection from its beginning.
 * @param {{id: string, name: string, kind: string}} document
 */
export function openDocument({ id, name, kind }) {
  viewer ??= new Viewer();
  return viewer.open(
    load(`/knowledge/documents/${id}/text/`).then(({ pages }) => ({
      ...{ kind: "document", id, name, file_kind: kind, pages, page: 1, last_page: null },
      ...{ start: 0, end: 0, text: "", heading: "", changed: false },
    })),
  );
}
