/** The shown branch of the open conversation, as turns in the document. */
import { h } from "./dom.js";
import { gettext } from "./i18n.js";
import { AnswerTurn } from "./answer-turn.js";
import { UserTurn } from "./turns.js";

export class Messages {
  /** @type {Map<string, UserTurn | AnswerTurn>} */
  #turns = new Map();
  /** @type {UserTurn | null} */
  #outgoing = null;

  /**
   * @param {object} options
   * @param {HTMLElement} options.root
   * @param {import("./chat.js").Chat} options.chat
   * @param {() => string} options.model
   * @param {() => void} options.newChat
   */
  constructor({ root, chat, model, newChat }) {
    this.root = root;
    this.chat = chat;
    this.model = model;
    this.newChat = newChat;
  }

  render() {
    const { chat } = this;
    if (chat.failure) {
      this.#clear();
      this.root.replaceChildren(this.#failure(chat.failure.message));
      return;
    }
    const path = chat.thread?.path() ?? [];
    const shown = new Set(path.map((message) => message.id));
    for (const [id, turn] of this.#turns) {
      if (!shown.has(id)) {
        turn.element.remove();
        this.#turns.delete(id);
      }
    }
    this.root.querySelector(".failure")?.remove();
    /** @type {Element | null} */
    let before = null;
    for (const message of path) {
      if (message.role === "system") {
        continue;
      }
      const turn = this.#turnOf(message);
      turn.update(message, chat.thread?.siblings(message.id) ?? []);
      /** @type {Element | null} */
      const place = before ? before.nextElementSibling : this.root.firstElementChild;
      if (place !== turn.element) {
        this.root.insertBefore(turn.element, place);
      }
      before = turn.element;
    }
    this.#showOutgoing();
  }

  /** Another conversation is shown: nothing of this one stays. */
  reset() {
    this.#clear();
    this.root.replaceChildren();
  }

  /** @param {import("./stream.js").Stream} stream that has changed */
  updateStream(stream) {
    for (const turn of this.#turns.values()) {
      if (turn instanceof AnswerTurn && turn.message?.generation?.id === stream.id) {
        turn.updateText();
      }
    }
  }

  /**
   * What an answer says, without its reasoning.
   * @param {import("./thread.js").Message | null} message
   */
  said(message) {
    const turn = this.#turns.get(message?.id ?? "");
    return turn instanceof AnswerTurn ? turn.text : "";
  }

  /** @param {import("./thread.js").Message} message */
  #turnOf(message) {
    let turn = this.#turns.get(message.id);
    if (!turn) {
      const Kind = message.role === "user" ? UserTurn : AnswerTurn;
      turn = new Kind(this.chat, this.model);
      turn.element.dataset.message = message.id;
      turn.element.dataset.message = message.id;
      this.#turns.set(message.id, turn);
    }
    return turn;
  }

  #showOutgoing() {
    const outgoing = this.chat.outgoing;
    if (!outgoing) {
      this.#outgoing?.element.remove();
      this.#outgoing = null;
      return;
    }
    if (!this.#outgoing) {
      this.#outgoing = new UserTurn(this.chat, this.model);
      this.#outgoing.showOutgoing(outgoing.content);
    }
    if (this.root.lastElementChild !== this.#outgoing.element) {
      this.root.append(this.#outgoing.element);
    }
  }

  /** @param {string} message */
  #failure(message) {
    return h(
      "div",
      { className: "failure", role: "alert" },
      h("p", {}, message),
      h(
        "button",
        { type: "button", className: "button primary", onclick: this.newChat },
        gettext("Start another conversation"),
      ),
    );
  }

  #clear() {
    this.#turns.clear();
    this.#outgoing = null;
  }
}
