/** The composer: message box, character limit, Send and Stop, and drafts. */
import { byId, h, isSignedOut } from "../lib/dom.js";
import { allows } from "../lib/features.js";
import { fill, gettext, number } from "../lib/i18n.js";
import { sends } from "../lib/shortcuts.js";

/** Share of the limit from which the character counter is shown. */
const NEARLY_FULL = 0.9;

/** Delay of the character counter after a key, in ms. */
const COUNT_MS = 250;
/** A longer text fills the box in any case: its height need not be measured. */
const TALL = 5000;
/** Pasted text that is longer is offered as an attachment. */
const LONG_PASTE = 10_000;

/** Normalize pasted text as a text box does. @param {string} text */
function normalised(text) {
  return text.replace(/\r\n?/gu, "\n");
}

/** @param {string} text in characters as the server counts them */
function length(text) {
  // Count exactly only near the limit, since that takes time.
  return [...text].length;
}

const SIZES_ITSELF = CSS.supports("field-sizing", "content");

export class Composer {
  #form = byId("composer");
  /** @type {HTMLTextAreaElement} */
  #box = byId("message");
  /** @type {HTMLButtonElement} */
  #button = byId("send");
  #counter = byId("counter");
  #problem = byId("send-problem");
  /** @type {string | null} */
  #conversation = null;
  /** Whether a draft was shown on this page. */
  #shown = false;
  #writing = false;
  #tooLong = false;
  /** Whether the counter was shown for the last text. */
  #counted = false;
  /** Whether a count is due. */
  #countDue = false;

  /**
   * @param {object} options
   * @param {import("./drafts.js").Drafts} options.drafts
   * @param {number} options.limit in characters
   * @param {() => string} options.model
   * @param {(text: string) => Promise<unknown>} options.send rejects if the text is refused
   * @param {() => Promise<void>} options.stop
   * @param {(text: string) => void} options.onText the text has changed
   * @param {() => boolean} options.maySend false if the text would not fit; shows why
   * @param {import("../attachments/attachments.js").Files} options.files attachments
   */
  constructor({ drafts, limit, model, send, stop, onText, maySend, files }) {
    this.drafts = drafts;
    this.limit = limit;
    this.model = model;
    this.send = send;
    this.stop = stop;
    this.onText = onText;
    this.maySend = maySend;
    this.files = files;
    this.#box.addEventListener("input", () => this.#edited());
    this.#box.addEventListener("paste", (event) => this.#pasted(event));
    this.#box.addEventListener("keydown", (event) => this.#key(event));
    this.#form.addEventListener("submit", (/** @type {Event} */ event) => {
      event.preventDefault();
      this.#press();
    });
    // A click anywhere in the frame focuses the box.
    this.#form.addEventListener("click", (/** @type {MouseEvent} */ event) => {
      if (event.target === this.#form) {
        this.focus();
      }
    });
  }

  /**
   * @param {boolean} [asked] whether the user is about to write: otherwise the on-screen
   *   keyboard would cover what is read
   */
  focus(asked = true) {
    if (asked || !matchMedia("(hover: none)").matches) {
      this.#box.focus({ preventScroll: true });
    }
  }

  /** Remove text and attachments. */
  clear() {
    this.#box.value = "";
    this.files.show([]);
    this.#save();
    this.#update();
  }

  get text() {
    return this.#box.value;
  }

  /**
   * Append a text to the box as a quotation.
   * @param {string} text
   */
  quote(text) {
    const lines = text.trim().split(/\r?\n/u);
    const quoted = lines.map((line) => `> ${line}`.trimEnd()).join("\n");
    const before = this.#box.value.trimEnd();
    const added = `${before ? "\n\n" : ""}${quoted}\n\n`;
    this.focus();
    this.#box.setSelectionRange(before.length, this.#box.value.length);
    // Deprecated, but the only way that keeps undo.
    if (!document.execCommand("insertText", false, added)) {
      this.fill(before + added);
    }
    this.#box.setSelectionRange(this.#box.value.length, this.#box.value.length);
    this.#box.scrollTop = this.#box.scrollHeight;
  }

  /** @param {string} text */
  fill(text) {
    this.#box.value = text;
    this.#edited();
    this.focus();
  }

  /**
   * Load the draft of another conversation into the box.
   * @param {string | null} conversation
   * @param {string | undefined} lastSent the user's last message that the server has
   */
  show(conversation, lastSent) {
    this.#conversation = conversation;
    const { text, sending, files } = this.drafts.load(conversation);
    // The page was closed while this was being sent: restore it if the server lacks it.
    const arrived = sending !== "" && sending === lastSent;
    // Typed before the scripts ran; a browser may also have restored the draft itself.
    const early = this.#shown || text.includes(this.#box.value) ? "" : this.#box.value;
    this.#shown = true;
    this.#box.value = [arrived ? "" : sending, text, early].filter(Boolean).join("\n\n");
    this.files.show(arrived ? [] : files);
    this.#save();
    this.say("");
    this.#update();
  }

  /** Move the draft of a new conversation to its id. @param {string} id */
  rename(id) {
    const draft = this.drafts.load(this.#conversation);
    this.drafts.save(this.#conversation, { text: "", sending: "", files: [] });
    this.#conversation = id;
    this.drafts.save(id, { text: draft.text });
  }

  /** @param {boolean} writing whether an answer of this conversation is open */
  showState(writing) {
    this.#writing = writing;
    this.#update();
  }

  /** Files were added, processed or removed. */
  filesChanged() {
    this.#save();
    this.#update();
  }

  #save() {
    const draft = { text: this.#box.value, sending: "", files: this.files.attachments };
    this.drafts.save(this.#conversation, draft);
  }

  #edited() {
    this.drafts.saveLater(this.#conversation, { text: this.#box.value });
    this.say("");
    this.#update();
  }

  /**
   * Offer to attach a long pasted text as a file, which can be collapsed and keeps the box fast.
   * @param {ClipboardEvent} event
   */
  #pasted(event) {
    const text = event.clipboardData?.getData("text/plain") ?? "";
    if (
      text.length <= LONG_PASTE ||
      event.defaultPrevented ||
      !allows("attachments") ||
      this.files.refuses()
    ) {
      return;
    }
    const attach = h("button", { type: "button", className: "button" }, gettext("Attach as file"));
    // After the paste event, which hides the notice.
    setTimeout(() => {
      this.say(gettext("The pasted text is long. Attach it as a file instead?"), "note", attach);
    });
    attach.onclick = () => {
      const { value } = this.#box;
      const at = value.lastIndexOf(normalised(text));
      const rest = at < 0 ? value : value.slice(0, at) + value.slice(at + normalised(text).length);
      this.fill(rest);
      this.files.add([new File([text], gettext("Pasted text") + ".txt", { type: "text/plain" })]);
    };
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (sends(event)) {
      event.preventDefault();
      if (!this.#writing) {
        this.#press();
      }
    }
  }

  async #press() {
    if (this.#writing) {
      await this.stop().catch((error) => this.#fail(error));
      return;
    }
    const text = this.#box.value;
    this.#count();
    if (this.#isEmpty(text) || this.#tooLong) {
      return;
    }
    if (this.files.busy) {
      this.say(gettext("Some files are still uploading."));
      return;
    }
    if (!this.model()) {
      this.say(gettext("No model is installed yet. An administrator can add one."));
      return;
    }
    if (this.maySend() && (await this.files.maySend())) {
      await this.#deliver(text);
    }
  }

  /** @param {string} text */
  async #deliver(text) {
    const conversation = this.#conversation;
    const files = this.files.attachments;
    this.drafts.save(conversation, { text: "", sending: text });
    this.#box.value = "";
    this.say("");
    const sent = this.send(text);
    this.files.show([]);
    this.#update();
    this.focus();
    try {
      await sent;
      this.drafts.save(conversation, { sending: "", files: this.#filesOf(conversation) });
    } catch (error) {
      this.#giveBack(conversation, text, files, error);
    }
  }

  /**
   * @param {string | null} conversation
   * @param {string} text
   * @param {import("../lib/wire").Attachment[]} files
   * @param {unknown} error
   */
  #giveBack(conversation, text, files, error) {
    const typed = this.drafts.load(conversation).text;
    const whole = [text, typed].filter(Boolean).join("\n\n");
    const all = [...files, ...this.#filesOf(conversation)];
    this.drafts.save(conversation, { text: whole, sending: "", files: all });
    if (conversation === this.#conversation) {
      this.#box.value = whole;
      this.files.show(all);
      this.#update();
      this.#fail(error);
    }
  }

  /** @param {unknown} error */
  #fail(error) {
    if (!isSignedOut(error)) {
      this.say(error instanceof Error ? error.message : String(error));
    }
  }

  /**
   * Return the files that were added since the last message was sent.
   * @param {string | null} conversation
   */
  #filesOf(conversation) {
    return conversation === this.#conversation ? this.files.attachments : [];
  }

  /** @param {string} text */
  #isEmpty(text) {
    return !/\S/u.test(text) && this.files.attachments.length === 0;
  }

  /**
   * Return what blocks sending, or what is offered before it.
   * @param {string} text
   * @param {"error" | "note"} [kind]
   * @param {HTMLButtonElement | ""} [action]
   */
  say(text, kind = "error", action = "") {
    if (text === "" && this.#problem.hidden) {
      return;
    }
    this.#problem.hidden = text === "";
    this.#problem.className = `notice ${kind}`;
    this.#problem.replaceChildren(text ? h("span", {}, text) : "", action);
  }

  /** Update at each key: no scan of the whole text, and only changed elements are touched. */
  #update() {
    const text = this.#box.value;
    // There are at most as many characters as UTF-16 units: most texts need no exact count.
    if (text.length > this.limit * NEARLY_FULL) {
      if (!this.#countDue) {
        this.#countDue = true;
        setTimeout(() => this.#count(), this.#counted ? COUNT_MS : 0);
      }
    } else if (this.#counted) {
      this.#count();
    }
    const label = this.#writing ? gettext("Stop") : gettext("Send");
    if (this.#button.title !== label) {
      this.#form.classList.toggle("writing", this.#writing);
      this.#button.ariaLabel = this.#button.title = label;
      const drawing = this.#writing ? "#i-stop" : "#i-send";
      this.#button.querySelector("use")?.setAttribute("href", drawing);
    }
    const disabled = !this.#writing && (this.#isEmpty(text) || this.#tooLong);
    if (this.#button.disabled !== disabled) {
      this.#button.disabled = disabled;
    }
    const tall = text.length > TALL;
    if (this.#box.classList.contains("tall") !== tall) {
      this.#box.classList.toggle("tall", tall);
    }
    this.onText(text);
    this.#grow();
  }

  /** Count characters as the server does, if near the limit or above it. */
  #count() {
    this.#countDue = false;
    const text = this.#box.value;
    const near = text.length > this.limit * NEARLY_FULL;
    const used = near ? length(text) : text.length;
    this.#counted = near;
    this.#tooLong = used > this.limit;
    this.#counter.hidden = !(near && used > this.limit * NEARLY_FULL);
    const values = { used: number(used), limit: number(this.limit) };
    this.#counter.textContent = this.#tooLong
      ? fill(gettext("Too long: {used} of {limit} characters"), values)
      : `${values.used} / ${values.limit}`;
    this.#counter.classList.toggle("over", this.#tooLong);
    this.#box.setAttribute("aria-invalid", String(this.#tooLong));
    this.#button.disabled = !this.#writing && (this.#isEmpty(text) || this.#tooLong);
  }

  /** Set the number of rows in browsers without `field-sizing`. */
  #grow() {
    if (!SIZES_ITSELF && !this.#box.classList.contains("tall")) {
      this.#box.rows = 1;
      const line = parseFloat(getComputedStyle(this.#box).lineHeight) || 24;
      this.#box.rows = Math.min(10, Math.max(1, Math.round(this.#box.scrollHeight / line)));
    }
  }
}
