/** Files on their way into a message: chosen, dropped or pasted, sent in pieces, shown as chips. */
import { chip, describe } from "./chips.js";
import { h, iconButton } from "./dom.js";
import { fill, gettext, number, percent } from "./i18n.js";

/**
 * @typedef {object} Attachment as the server tells it
 * @property {string} id
 * @property {string} name
 * @property {number} size in bytes
 * @property {number | null} tokens
 *
 * @typedef {object} Item
 * @property {string} name
 * @property {number} size
 * @property {number | null} progress 0 to 1 on its way, null once it is read or being read
 * @property {Attachment | null} attachment once it is read
 * @property {AbortController} leaving
 *
 * @typedef {object} Places where they are shown and come from
 * @property {HTMLElement} list
 * @property {HTMLInputElement} picker
 * @property {HTMLElement} button
 * @property {HTMLTextAreaElement} box
 */

export class Files {
  /** @type {Item[]} */
  #items = [];
  /** @type {Record<string, number>} */
  #tokens = {};
  #estimated = false;
  #shown = "";

  /**
   * @param {Places} places
   * @param {object} options
   * @param {import("./uploads.js").Uploads} options.uploads
   * @param {{attachments: number, attachment_mb: number}} options.limits
   * @param {() => void} options.onChange
   * @param {(problem: string) => void} options.onProblem
   */
  constructor({ list, picker, button, box }, { uploads, limits, onChange, onProblem }) {
    this.list = list;
    this.box = box;
    this.uploads = uploads;
    this.limits = limits;
    this.onChange = onChange;
    this.onProblem = onProblem;
    button.addEventListener("click", () => picker.click());
    picker.addEventListener("change", () => {
      this.add([...(picker.files ?? [])]);
      picker.value = "";
    });
    box.addEventListener("paste", (event) => {
      const files = [...(event.clipboardData?.files ?? [])];
      const types = event.clipboardData?.types ?? [];
      // Office programs copy text, formatted text, and a picture of it: the text is meant.
      const text = types.includes("text/plain") && types.includes("text/html");
      if (files.length && !text) {
        event.preventDefault();
        this.add(files);
      }
    });
  }

  /** Ids of what is ready to be sent. */
  get ids() {
    return this.attachments.map(({ id }) => id);
  }

  /** @returns {Attachment[]} */
  get attachments() {
    return this.#items.flatMap(({ attachment }) => (attachment ? [attachment] : []));
  }

  /** Whether some are not ready yet. */
  get busy() {
    return this.#items.some(({ attachment }) => !attachment);
  }

  /**
   * Others take their place: those of another draft, or none.
   * @param {Attachment[]} attachments
   */
  show(attachments) {
    for (const item of this.#items) {
      item.leaving.abort();
    }
    this.#items = attachments.map((attachment) => ({
      name: attachment.name,
      size: attachment.size,
      progress: null,
      attachment,
      leaving: new AbortController(),
    }));
    this.#draw();
  }

  /**
   * What the documents take of the chosen model.
   * @param {Record<string, number>} tokens by id
   * @param {boolean} estimated
   */
  showTokens(tokens, estimated) {
    this.#tokens = tokens;
    this.#estimated = estimated;
    this.#draw();
  }

  /** @param {File[]} files */
  add(files) {
    const { attachments: most, attachment_mb: megabytes } = this.limits;
    for (const file of files) {
      if (this.#items.length >= most) {
        this.onProblem(fill(gettext("A message can have {count} files."), { count: most }));
        return;
      }
      if (file.size > megabytes * 1e6) {
        const values = { name: file.name, limit: number(megabytes) };
        this.onProblem(fill(gettext("{name} is larger than {limit} MB."), values));
        continue;
      }
      this.#bring(file);
    }
  }

  /** @param {File} file */
  async #bring(file) {
    /** @type {Item} */
    const item = {
      name: file.name,
      size: file.size,
      progress: 0,
      attachment: null,
      leaving: new AbortController(),
    };
    this.#items.push(item);
    this.#changed();
    try {
      item.attachment = await this.uploads.bring(file, item.leaving.signal, (progress) => {
        item.progress = progress < 1 ? progress : null;
        this.#draw();
      });
    } catch (error) {
      this.#items = this.#items.filter((other) => other !== item);
      if (!item.leaving.signal.aborted) {
        this.onProblem(`${file.name}: ${error instanceof Error ? error.message : error}`);
      }
    }
    this.#changed();
  }

  /** @param {Item} item */
  #remove(item) {
    item.leaving.abort();
    this.#items = this.#items.filter((other) => other !== item);
    if (item.attachment) {
      this.uploads.forget(item.attachment.id);
    }
    this.#changed();
    this.box.focus();
  }

  #changed() {
    this.#draw();
    this.onChange();
  }

  #draw() {
    // What has the focus stays where nothing is new.
    const shown = JSON.stringify([this.#items, this.#tokens, this.#estimated]);
    if (shown === this.#shown) {
      return;
    }
    this.#shown = shown;
    this.list.hidden = this.#items.length === 0;
    this.list.replaceChildren(...this.#items.map((item) => this.#chip(item)));
  }

  /** @param {Item} item */
  #chip(item) {
    const remove = iconButton("close", fill(gettext("Remove {name}"), { name: item.name }), () =>
      this.#remove(item),
    );
    const { attachment, progress } = item;
    if (attachment) {
      const tokens = this.#tokens[attachment.id] ?? attachment.tokens;
      const estimated = attachment.id in this.#tokens && this.#estimated;
      return h("li", {}, chip({ ...attachment, tokens }, estimated), remove);
    }
    const state =
      progress === null
        ? gettext("being read…")
        : fill(gettext("{percent} sent"), { percent: percent(progress) });
    return h("li", { className: "busy" }, describe(item.name, state), remove);
  }
}
