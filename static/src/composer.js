/** Where one writes: the box, the limit, Send and Stop, and the draft that is never lost. */
import { byId, h } from "./dom.js";
import { fill, gettext, number } from "./i18n.js";
import { sends } from "./keys.js";

/** The counter shows from this part of the limit on. */
const NEARLY_FULL = 0.9;

/** @param {string} text in characters as the server counts them */
function length(text) {
  // Most texts are far from the limit: only near it is an exact count worth its time.
  return [...text].length;
}

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
  #writing = false;
  #tooLong = false;

  /**
   * @param {object} options
   * @param {import("./drafts.js").Drafts} options.drafts
   * @param {number} options.limit in characters
   * @param {() => string} options.model
   * @param {(text: string) => Promise<unknown>} options.send rejects when the text is refused
   * @param {() => Promise<void>} options.stop
   * @param {(text: string) => void} options.onText what is written has changed
   * @param {() => boolean} options.mayGo false when the text would not fit, after saying so
   * @param {import("./files.js").Files} options.files what goes with the text
   */
  constructor({ drafts, limit, model, send, stop, onText, mayGo, files }) {
    this.drafts = drafts;
    this.limit = limit;
    this.model = model;
    this.send = send;
    this.stop = stop;
    this.onText = onText;
    this.mayGo = mayGo;
    this.files = files;
    this.#box.addEventListener("input", () => this.#edited());
    this.#box.addEventListener("keydown", (event) => this.#key(event));
    this.#form.addEventListener("submit", (/** @type {Event} */ event) => {
      event.preventDefault();
      this.#press();
    });
    // The whole frame is the box, as it looks.
    this.#form.addEventListener("click", (/** @type {MouseEvent} */ event) => {
      if (event.target === this.#form) {
        this.focus();
      }
    });
  }

  /**
   * @param {boolean} [asked] whether the person is about to write: elsewhere a touch screen's
   *   keyboard would cover what they came to read
   */
  focus(asked = true) {
    if (asked || !matchMedia("(hover: none)").matches) {
      this.#box.focus({ preventScroll: true });
    }
  }

  /** Nothing is written or attached any more. */
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
   * Puts a text into the box as a quotation, behind what is there.
   * @param {string} text
   */
  quote(text) {
    const lines = text.trim().split(/\r?\n/u);
    const quoted = lines.map((line) => `> ${line}`.trimEnd()).join("\n");
    const before = this.#box.value.trimEnd();
    const added = `${before ? "\n\n" : ""}${quoted}\n\n`;
    this.focus();
    this.#box.setSelectionRange(before.length, this.#box.value.length);
    // Old, but what it writes can be undone.
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
   * Another conversation is shown: its draft comes into the box.
   * @param {string | null} conversation
   * @param {string | undefined} lastSent what the server has of the person's last message
   */
  show(conversation, lastSent) {
    this.#conversation = conversation;
    const { text, sending, files } = this.drafts.load(conversation);
    // The page was closed while this was under way: it is lost only if the server lacks it.
    const arrived = sending !== "" && sending === lastSent;
    this.#box.value = [arrived ? "" : sending, text].filter(Boolean).join("\n\n");
    this.files.show(arrived ? [] : files);
    this.#save();
    this.say("");
    this.#update();
  }

  /** A new conversation has got its id. @param {string} id */
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

  /** Files were added, read or removed. */
  filesChanged() {
    this.#save();
    this.#update();
  }

  #save() {
    const draft = { text: this.#box.value, sending: "", files: this.files.attachments };
    this.drafts.save(this.#conversation, draft);
  }

  #edited() {
    this.drafts.save(this.#conversation, { text: this.#box.value });
    this.say("");
    this.#update();
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
      await this.stop().catch((error) => this.say(error.message));
      return;
    }
    const text = this.#box.value;
    if (this.#isEmpty(text) || this.#tooLong) {
      return;
    }
    if (this.files.busy) {
      this.say(gettext("Some files are still on their way."));
      return;
    }
    if (!this.model()) {
      this.say(gettext("No model is installed yet. An administrator can add one."));
      return;
    }
    if (this.mayGo()) {
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
      const reason = error instanceof Error ? error.message : String(error);
      this.#giveBack(conversation, text, files, reason);
    }
  }

  /**
   * @param {string | null} conversation
   * @param {string} text
   * @param {import("./files.js").Attachment[]} files
   * @param {string} reason
   */
  #giveBack(conversation, text, files, reason) {
    const typed = this.drafts.load(conversation).text;
    const whole = [text, typed].filter(Boolean).join("\n\n");
    const all = [...files, ...this.#filesOf(conversation)];
    this.drafts.save(conversation, { text: whole, sending: "", files: all });
    if (conversation === this.#conversation) {
      this.#box.value = whole;
      this.files.show(all);
      this.#update();
      this.say(reason);
    }
  }

  /**
   * Files that were added since the last message went.
   * @param {string | null} conversation
   */
  #filesOf(conversation) {
    return conversation === this.#conversation ? this.files.attachments : [];
  }

  /** @param {string} text */
  #isEmpty(text) {
    return !text.trim() && this.files.attachments.length === 0;
  }

  /** What keeps the message from going. @param {string} problem */
  say(problem) {
    this.#problem.hidden = problem === "";
    this.#problem.replaceChildren(problem ? h("span", {}, problem) : "");
  }

  #update() {
    const text = this.#box.value;
    const near = text.length > this.limit * NEARLY_FULL;
    const used = near ? length(text) : text.length;
    this.#tooLong = used > this.limit;
    this.#counter.hidden = !(near && used > this.limit * NEARLY_FULL);
    const values = { used: number(used), limit: number(this.limit) };
    this.#counter.textContent = this.#tooLong
      ? fill(gettext("Too long: {used} of {limit} characters"), values)
      : `${values.used} / ${values.limit}`;
    this.#counter.classList.toggle("over", this.#tooLong);
    this.#box.setAttribute("aria-invalid", String(this.#tooLong));
    this.#form.classList.toggle("writing", this.#writing);
    const label = this.#writing ? gettext("Stop") : gettext("Send");
    this.#button.ariaLabel = this.#button.title = label;
    this.#button.querySelector("use")?.setAttribute("href", this.#writing ? "#i-stop" : "#i-send");
    this.#button.disabled = !this.#writing && (this.#isEmpty(text) || this.#tooLong);
    this.onText(text);
    this.#grow();
  }

  /** Browsers without `field-sizing` need the rows counted. */
  #grow() {
    if (!CSS.supports("field-sizing", "content")) {
      this.#box.rows = 1;
      const line = parseFloat(getComputedStyle(this.#box).lineHeight) || 24;
      this.#box.rows = Math.min(10, Math.max(1, Math.round(this.#box.scrollHeight / line)));
    }
  }
}
