/** The form that edits a sent message: its text and attachments. */
import { byId, h, iconButton } from "../lib/dom.js";
import { Files } from "../attachments/attachments.js";
import { gettext } from "../lib/i18n.js";
import { sends } from "../lib/shortcuts.js";

/**
 * @typedef {import("../lib/wire").Message} Message
 * @typedef {import("../lib/wire").Attachment} Attachment
 *
 * @typedef {object} Desk what all editors of the page share
 * @property {import("../composer/drafts.js").Drafts} drafts
 * @property {import("../attachments/uploads.js").Uploads} uploads
 * @property {{attachments: number, attachment_mb: number}} limits
 * @property {() => string} refuses why files can't be attached now, "" if they can
 */

/** @param {string} message */
function draftKey(message) {
  return `edit:${message}`;
}

export class Editor {
  #box = h("textarea", { "aria-label": gettext("Edited text"), dir: "auto", rows: 1 });
  #save = h("button", { type: "submit", className: "button primary" }, gettext("Ask again"));
  #list = h("ul", { className: "files", "aria-label": gettext("Attachments"), hidden: true });
  #picker = h("input", { type: "file", multiple: true, hidden: true });

  /**
   * @param {object} options
   * @param {Message} options.message
   * @param {Desk} options.desk
   * @param {(text: string, files: Attachment[]) => Promise<boolean>} options.send whether it
   *   was accepted
   * @param {(sent: boolean) => void} options.onClose
   */
  constructor({ message, desk, send, onClose }) {
    this.message = message;
    this.desk = desk;
    this.send = send;
    this.onClose = onClose;
    const attach = iconButton("attach", gettext("Attach files"), () => {});
    const cancel = h("button", { type: "button", className: "button" }, gettext("Cancel"));
    const buttons = h(
      "div",
      { className: "edit-buttons" },
      attach,
      h("span", { className: "space" }),
      cancel,
      this.#save,
    );
    this.element = h("form", { className: "edit" }, this.#list, this.#picker, this.#box, buttons);
    this.files = new Files(
      { list: this.#list, picker: this.#picker, button: attach, box: this.#box },
      {
        uploads: desk.uploads,
        limits: desk.limits,
        onChange: () => this.#changed(),
        refuses: desk.refuses,
      },
    );
    const draft = desk.drafts.load(draftKey(message.id));
    const begun = draft.text !== "" || draft.files.length > 0;
    this.#box.value = begun ? draft.text : message.content;
    this.files.show(begun ? draft.files : message.attachments);
    this.#update();
    this.#box.oninput = () => this.#changed();
    cancel.onclick = () => this.#cancel();
    this.element.onsubmit = (event) => {
      event.preventDefault();
      this.#submit();
    };
    this.element.onkeydown = (event) => this.#key(event);
  }

  /**
   * Return whether a message was being edited when the page was left.
   * @param {Desk} desk
   * @param {Message} message
   */
  static begun(desk, message) {
    return desk.drafts.has(draftKey(message.id));
  }

  focus() {
    this.#box.focus();
    this.#box.setSelectionRange(this.#box.value.length, this.#box.value.length);
  }

  get hasFocus() {
    return this.element.contains(document.activeElement);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.key === "Escape" && !event.isComposing) {
      this.#cancel();
    } else if (event.target === this.#box && sends(event)) {
      event.preventDefault();
      this.element.requestSubmit();
    }
  }

  #changed() {
    const { attachments } = this.files;
    this.desk.drafts.saveLater(draftKey(this.message.id), {
      text: this.#box.value,
      files: attachments,
    });
    this.#update();
  }

  #update() {
    const empty = !this.#box.value.trim() && this.files.attachments.length === 0;
    this.#save.disabled = empty || this.files.busy;
  }

  async #submit() {
    if (this.#save.disabled) {
      return;
    }
    if (!(await this.files.maySend())) {
      return;
    }
    this.#save.disabled = true;
    const sent = await this.send(this.#box.value, this.files.attachments);
    if (sent) {
      this.#close(true);
      // Another version has replaced this one.
      byId("message").focus({ preventScroll: true });
    } else {
      this.#update();
    }
  }

  #cancel() {
    const known = new Set(this.message.attachments.map(({ id }) => id));
    this.files.ids.filter((id) => !known.has(id)).forEach((id) => this.desk.uploads.forget(id));
    this.#close(false);
  }

  /** @param {boolean} sent */
  #close(sent) {
    this.desk.drafts.forget(draftKey(this.message.id));
    // Cancel pending uploads.
    this.files.show([]);
    this.element.remove();
    this.onClose(sent);
  }
}
