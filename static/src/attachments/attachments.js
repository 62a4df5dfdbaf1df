/** Attachments of a message that is being written: chosen, dropped or pasted, shown as chips. */
import { chip, describe } from "./chips.js";
import { choosable, selectionControl } from "./selection.js";
import { CommandError } from "../server/connection.js";
import { confirm } from "../lib/dialogs.js";
import { h, iconButton } from "../lib/dom.js";
import { fill, gettext, ngettext, number, percent } from "../lib/i18n.js";

/**
 * @typedef {import("./selection.js").Attachment} Attachment
 *
 * @typedef {object} Item
 * @property {string} name
 * @property {number} size
 * @property {number | null} progress 0 to 1 while it is uploaded, null once it is processed
 * @property {Attachment | null} attachment once it is read
 * @property {string} problem why it was refused, "" if accepted
 * @property {(() => void) | null} retry uploads a refused file again, where that may help
 * @property {AbortController} leaving
 *
 * @typedef {object} Places elements that show attachments or add them
 * @property {HTMLElement} list
 * @property {HTMLInputElement} picker
 * @property {HTMLElement} button
 * @property {HTMLTextAreaElement} box
 */

/**
 * @param {string} name
 * @param {number} size in bytes
 * @returns {Item} not uploaded yet
 */
function item(name, size) {
  const leaving = new AbortController();
  return { name, size, progress: null, attachment: null, problem: "", retry: null, leaving };
}

export class Files {
  /** @type {Item[]} */
  #items = [];
  /** @type {Record<string, number>} */
  #tokens = {};
  #estimated = false;
  /** Those of which the server would send what matches the question. @type {string[]} */
  #matching = [];
  #shown = "";

  /**
   * @param {Places} places
   * @param {object} options
   * @param {import("./uploads.js").Uploads} options.uploads
   * @param {{attachments: number, attachment_mb: number}} options.limits
   * @param {() => void} options.onChange
   * @param {() => string} [options.refuses] why files can't be attached now, "" if they can
   */
  constructor({ list, picker, button, box }, { uploads, limits, onChange, refuses }) {
    this.refuses = refuses ?? (() => "");
    this.list = list;
    this.box = box;
    this.uploads = uploads;
    this.limits = limits;
    this.onChange = onChange;
    button.addEventListener("click", () => picker.click());
    picker.addEventListener("change", () => {
      this.add([...(picker.files ?? [])]);
      picker.value = "";
    });
    box.addEventListener("paste", (event) => {
      const files = [...(event.clipboardData?.files ?? [])];
      const types = event.clipboardData?.types ?? [];
      // Office programs copy text together with a picture of it. Paste the text.
      const text = types.includes("text/plain") && types.includes("text/html");
      if (files.length && !text) {
        event.preventDefault();
        this.add(files);
      }
    });
  }

  /** Ids of the attachments that are ready. */
  get ids() {
    return this.attachments.map(({ id }) => id);
  }

  /** @returns {Attachment[]} */
  get attachments() {
    return this.#items.flatMap(({ attachment }) => attachment ?? []);
  }

  /** Whether some files are still uploading or being processed. */
  get busy() {
    return this.#items.some(({ attachment, problem }) => !attachment && !problem);
  }

  /** Names of the refused files that are still listed. */
  get refused() {
    return this.#items.filter(({ problem }) => problem !== "").map(({ name }) => name);
  }

  /**
   * Ask whether to continue without the refused files, if there are any.
   * @returns {Promise<boolean>} false if the user cancels
   */
  async maySend() {
    const { refused } = this;
    if (refused.length === 0) {
      return true;
    }
    const text = ngettext(
      "{names} could not be attached. The model will not see it.",
      "{names} could not be attached. The model will not see them.",
      refused.length,
    );
    return confirm(
      ngettext("Send without this file?", "Send without these files?", refused.length),
      fill(text, { names: refused.join(", ") }),
      ngettext("Send without it", "Send without them", refused.length),
      "primary",
    );
  }

  /**
   * Replace the list by the attachments of another draft.
   * @param {Attachment[]} attachments
   */
  show(attachments) {
    for (const item of this.#items) {
      item.leaving.abort();
    }
    this.#items = attachments.map((attachment) => ({
      ...item(attachment.name, attachment.size),
      attachment,
    }));
    this.#draw();
  }

  /**
   * Show the token counts for the chosen model.
   * @param {Record<string, number>} tokens by id
   * @param {boolean} estimated
   * @param {string[]} [matching] those that don't fit: what matches the question is sent
   */
  showTokens(tokens, estimated, matching = []) {
    this.#tokens = tokens;
    this.#estimated = estimated;
    this.#matching = matching;
    this.#draw();
  }

  /** @param {File[]} files */
  add(files) {
    const reason = this.refuses();
    if (reason) {
      this.#refuse(files, reason);
      return;
    }
    const { attachments: most, attachment_mb: megabytes } = this.limits;
    const room = Math.max(0, most - this.#items.filter(({ problem }) => !problem).length);
    for (const file of files.slice(0, room)) {
      if (file.size > megabytes * 1e6) {
        const values = { limit: number(megabytes) };
        this.#refuse([file], fill(gettext("Larger than {limit} MB"), values));
      } else {
        this.#bring(file);
      }
    }
    if (files.length > room) {
      const problem = fill(gettext("A message can have at most {count} files."), { count: most });
      this.#refuse(files.slice(room), problem);
    }
  }

  /**
   * List files that can't be attached, until the user removes them.
   * @param {File[]} files
   * @param {string} problem
   */
  #refuse(files, problem) {
    const names = files.map(({ name }) => name).join(", ");
    this.#items.push({ ...item(names, 0), problem });
    this.#changed();
  }

  /** @param {File} file */
  #bring(file) {
    const added = item(file.name, file.size);
    this.#items.push(added);
    this.#upload(file, added);
  }

  /**
   * @param {File} file
   * @param {Item} item
   */
  async #upload(file, item) {
    Object.assign(item, { progress: 0, problem: "", retry: null });
    this.#changed();
    try {
      item.attachment = await this.uploads.bring(file, item.leaving.signal, (progress) => {
        item.progress = progress < 1 ? progress : null;
        this.#draw();
      });
    } catch (error) {
      if (item.leaving.signal.aborted) {
        return;
      }
      item.problem = error instanceof Error ? error.message : String(error);
      const permanent = error instanceof CommandError && error.permanent;
      item.retry = permanent ? null : () => this.#upload(file, item);
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
    // Keep unchanged elements, so that the focus stays.
    const shown = JSON.stringify([this.#items, this.#tokens, this.#estimated, this.#matching]);
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
    const { attachment, progress, problem, retry } = item;
    if (problem) {
      const details = h("span", { role: "alert" }, problem);
      const again =
        retry && iconButton("again", fill(gettext("Retry {name}"), { name: item.name }), retry);
      return h("li", { className: "refused" }, describe(item.name, details), again, remove);
    }
    if (attachment) {
      const tokens = this.#tokens[attachment.id] ?? attachment.tokens;
      const estimated = attachment.id in this.#tokens && this.#estimated;
      const matches = this.#matching.includes(attachment.id);
      const send = attachment.chosen ? attachment.send : matches ? "matches" : "whole";
      const choice = choosable(attachment, matches)
        ? selectionControl(attachment, send, () => this.#changed())
        : null;
      return h("li", {}, chip({ ...attachment, send, tokens }, estimated), choice, remove);
    }
    const state =
      progress === null
        ? gettext("Processing…")
        : fill(gettext("{percent} uploaded"), { percent: percent(progress) });
    return h("li", { className: "busy" }, describe(item.name, state), remove);
  }
}
