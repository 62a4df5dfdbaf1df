/** One message of the shown branch with its actions. */
import { chips } from "../attachments/chips.js";
import { attempt, copyFrom, h, iconButton } from "../lib/dom.js";
import { Editor } from "./editor.js";
import { fill, gettext, dateTime } from "../lib/i18n.js";

/**
 * @typedef {import("../lib/wire").Message} Message
 * @typedef {import("../chat/chat.js").Chat} Chat
 */

export class Turn {
  #problem = h("p", { className: "notice error", role: "alert", hidden: true });

  /**
   * @param {Chat} chat
   * @param {string} kind
   */
  constructor(chat, kind) {
    this.chat = chat;
    this.element = h("div", { className: `turn ${kind}` });
    this.actions = h("div", { className: "actions" });
    this.branches = h("div", { className: "branches", hidden: true });
    this.problem = this.#problem;
    /** Its position in the tree at the last update. */
    this.key = "";
    /** @type {Message | null} */
    this.message = null;
  }

  /**
   * Await work that the server may refuse, and show the error in the turn.
   * @param {Promise<unknown>} work
   */
  attempt(work) {
    return attempt(this.#problem, work);
  }

  /**
   * Create the ‹ 2/3 › control between alternatives.
   * @param {string[]} siblings
   * @param {string} id
   */
  showBranches(siblings, id) {
    const key = `${siblings.indexOf(id)}/${siblings.length}`;
    if (this.branches.dataset.key === key) {
      return;
    }
    this.branches.dataset.key = key;
    this.branches.hidden = siblings.length < 2;
    const at = siblings.indexOf(id);
    /** @param {number} to */
    const go = (to) => async () => {
      if (await this.attempt(this.chat.chooseBranch(siblings[to]))) {
        focusBranches(siblings[to], to > at);
      }
    };
    const previous = iconButton("left", gettext("Previous version"), go(at - 1));
    const next = iconButton("right", gettext("Next version"), go(at + 1));
    previous.disabled = at === 0;
    next.disabled = at === siblings.length - 1;
    const place = { place: at + 1, count: siblings.length };
    const text = h("span", {}, `${at + 1}/${siblings.length}`);
    text.title = fill(gettext("Version {place} of {count}"), place);
    this.branches.replaceChildren(previous, text, next);
    if (this.message?.role === "assistant") {
      const label = gettext("Compare the versions side by side");
      this.branches.append(iconButton("compare", label, () => this.chat.compare(siblings)));
    }
  }
}

/**
 * Focus the same version button in the turn that has replaced this one.
 * @param {string} id
 * @param {boolean} forwards
 */
function focusBranches(id, forwards) {
  const turn = document.querySelector(`.turn[data-message="${CSS.escape(id)}"]`);
  const buttons = [...(turn?.querySelectorAll(".branches button:not(:disabled)") ?? [])];
  const button = buttons.at(forwards ? -1 : 0);
  if (button instanceof HTMLElement) {
    button.focus({ preventScroll: true });
  }
}

export class UserTurn extends Turn {
  #bubble = h("div", { className: "bubble", dir: "auto" });
  /** @type {Editor | null} while the message is edited */
  editor = null;
  #fresh = true;

  /**
   * @param {Chat} chat
   * @param {() => string} model the chosen one
   * @param {import("./editor.js").Desk} desk
   */
  constructor(chat, model, desk) {
    super(chat, "user");
    this.model = model;
    this.desk = desk;
    const copy = iconButton("copy", gettext("Copy"), () =>
      copyFrom(copy, this.message?.content ?? "", gettext("Copied")),
    );
    this.editButton = iconButton("edit", gettext("Edit"), () => this.#edit());
    this.editButton.dataset.action = "edit";
    this.actions.append(this.branches, copy, this.editButton);
    const heading = h("h2", { className: "sr-only" }, gettext("You said:"));
    this.element.append(heading, this.#bubble, this.actions, this.problem);
  }

  /**
   * @param {Message} message
   * @param {string[]} siblings
   */
  update(message, siblings) {
    this.#show(message.content, message.attachments);
    this.message = message;
    this.actions.title = dateTime(message.created_at);
    this.showBranches(siblings, message.id);
    // Only at the first render: an edit that is started in one tab does not open in others.
    if (this.#fresh && Editor.begun(this.desk, message)) {
      this.#edit(false);
    }
    this.#fresh = false;
  }

  /**
   * @param {string} content
   * @param {import("../lib/wire").Attachment[]} attachments
   */
  #show(content, attachments) {
    if (this.#bubble.textContent !== content) {
      this.#bubble.textContent = content;
    }
    // The form replaces the message while it is edited.
    this.#bubble.hidden = content === "" || this.editor !== null;
    if (attachments.length && !this.element.querySelector(":scope > .files")) {
      this.#bubble.before(chips(attachments));
    }
  }

  /** Show a message that is being sent. @param {import("../chat/chat.js").Outgoing} outgoing */
  showOutgoing({ content, attachments }) {
    this.#show(content, attachments);
    this.element.classList.add("outgoing");
    this.actions.hidden = true;
  }

  /** @param {boolean} [focus] whether to focus the text box */
  #edit(focus = true) {
    const { message } = this;
    if (!message || this.editor) {
      return;
    }
    const files = this.element.querySelector(":scope > .files");
    const hide = (/** @type {boolean} */ hidden) => {
      this.#bubble.hidden = hidden || message.content === "";
      this.actions.hidden = hidden;
      files?.toggleAttribute("hidden", hidden);
    };
    this.editor = new Editor({
      message,
      desk: this.desk,
      send: (text, files) => this.attempt(this.chat.edit(message.id, text, this.model(), files)),
      onClose: (sent) => {
        this.editor = null;
        this.problem.hidden = true;
        hide(false);
        if (!sent) {
          this.editButton.focus();
        }
      },
    });
    hide(true);
    this.#bubble.after(this.editor.element);
    if (focus) {
      this.editor.focus();
    }
  }
}
