/**
 * Import: the page reads the file and sends its conversations in batches, so that neither the size
 * of a request nor the server's memory limits their number.
 */
import { byId, h } from "../lib/dom.js";
import { fill, gettext, ngettext, number } from "../lib/i18n.js";
import { textsIn } from "../lib/zip.js";

/**
 * @typedef {import("../lib/wire").Refusal} Refused
 * @typedef {import("../lib/wire").ImportReport} Report
 */

/** Characters of one batch; a larger conversation is sent alone. */
const BATCH_CHARS = 1_000_000;
const BATCH = 100;
/** Limit of the server. */
const ALONE_CHARS = 5_000_000;
const SHOWN = 20;

export class Exchange {
  /** @type {HTMLDialogElement} */
  #dialog = byId("exchange");
  /** @type {HTMLInputElement} */
  #file = byId("exchange-file");
  #progress = byId("exchange-progress");
  #report = byId("exchange-report");

  /**
   * @param {object} options
   * @param {import("../server/api.js").Api} options.api
   * @param {() => Promise<void>} options.onTaken
   */
  constructor({ api, onTaken }) {
    this.api = api;
    this.onTaken = onTaken;
    byId("exchange-close").onclick = () => this.#dialog.close();
    this.#file.onchange = () => this.#chosen();
  }

  open() {
    this.#report.replaceChildren();
    this.#dialog.showModal();
  }

  async #chosen() {
    const file = this.#file.files?.[0];
    if (!file) {
      return;
    }
    this.#file.disabled = true;
    this.#progress.hidden = false;
    this.#progress.removeAttribute("value");
    this.#report.replaceChildren();
    try {
      const raws = await conversationsIn(file);
      this.#show(await this.#send(raws));
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      this.#report.replaceChildren(h("p", { className: "notice error" }, text));
    }
    this.#file.disabled = false;
    this.#file.value = "";
    this.#progress.hidden = true;
    await this.onTaken();
  }

  /** @param {unknown[]} raws @returns {Promise<Report>} */
  async #send(raws) {
    const total = { taken: 0, known: 0, refused: /** @type {Refused[]} */ ([]), left_out: 0 };
    this.#progress.max = raws.length;
    let done = 0;
    for (const batch of batches(raws)) {
      if (batch.length === 1 && batch[0].length > ALONE_CHARS) {
        const { title = "" } = JSON.parse(batch[0]);
        total.refused.push({ title, reason: gettext("It is too large.") });
      } else {
        const report = await this.api.take(`[${batch.join(",")}]`);
        total.taken += report.taken;
        total.known += report.known;
        total.left_out += report.left_out;
        total.refused.push(...report.refused);
      }
      done += batch.length;
      this.#progress.value = done;
    }
    return total;
  }

  /** @param {Report} report */
  #show({ taken, known, refused, left_out }) {
    /**
     * @param {string} one
     * @param {string} many
     * @param {number} count
     */
    const line = (one, many, count) =>
      count ? [h("li", {}, fill(ngettext(one, many, count), { count: number(count) }))] : [];
    const reasons = refused.slice(0, SHOWN).map(({ title, reason }) => {
      const name = title || gettext("Untitled");
      return h("li", {}, h("strong", { dir: "auto" }, name), " ", reason);
    });
    this.#report.replaceChildren(
      h(
        "ul",
        { className: "report" },
        h(
          "li",
          {},
          fill(
            ngettext(
              "{count} conversation was imported.",
              "{count} conversations were imported.",
              taken,
            ),
            { count: number(taken) },
          ),
        ),
        ...line("{count} already imported", "{count} already imported", known),
        ...line(
          "{count} picture, file or tool message was left out.",
          "{count} pictures, files or tool messages were left out.",
          left_out,
        ),
        ...line("{count} could not be read:", "{count} could not be read:", refused.length),
      ),
      reasons.length ? h("ul", { className: "report" }, ...reasons) : "",
    );
  }
}

/** @param {File} file @returns {Promise<unknown[]>} */
async function conversationsIn(file) {
  const texts = /\.zip$/iu.test(file.name)
    ? await textsIn(file, (name) => /(^|\/)conversations[-\w]*\.json$/u.test(name)).catch(() => [])
    : [await file.text()];
  const found = texts.flatMap((text) => {
    try {
      const data = JSON.parse(text);
      return Array.isArray(data) ? data : (data?.conversations ?? [data]);
    } catch {
      return [];
    }
  });
  if (found.length === 0) {
    throw new Error(gettext("There are no conversations in this file."));
  }
  return found;
}

/**
 * Yield the conversations as JSON, in batches of the size of one request.
 * @param {unknown[]} raws
 */
function* batches(raws) {
  /** @type {string[]} */
  let batch = [];
  let size = 0;
  for (const raw of raws) {
    const text = JSON.stringify(raw);
    if (batch.length === BATCH || (batch.length && size + text.length > BATCH_CHARS)) {
      yield batch;
      batch = [];
      size = 0;
    }
    batch.push(text);
    size += text.length;
  }
  if (batch.length) {
    yield batch;
  }
}
