/**
 * The shown branch of the open conversation, as turns in the document: the last ones, and as many
 * above them as somebody has scrolled to.
 */
import { AnswerTurn } from "./answer-turn.js";
import { h } from "./dom.js";
import { gettext } from "./i18n.js";
import { isOpen } from "./thread.js";
import { UserTurn } from "./turns.js";

/** Messages that are drawn when a conversation is opened; and in one frame on the way upwards. */
const WINDOW = 20;
const STEP = 2;
/** Further ones are drawn when the reader is this near to the first, in pixels. */
const AHEAD = "2000px 0px 0px 0px";

/** @typedef {import("./thread.js").Message} Message */

export class Messages {
  /** @type {Map<string, UserTurn | AnswerTurn>} */
  #turns = new Map();
  /** @type {UserTurn | null} */
  #outgoing = null;
  /** The first message that is drawn. @type {string | null} */
  #first = null;
  #top = h("div", { className: "earlier" });
  /** Stands where the conversation can't be shown. @type {HTMLElement | null} */
  #failed = null;
  #loading = false;

  /**
   * @param {object} options
   * @param {HTMLElement} options.root
   * @param {HTMLElement} options.scroller
   * @param {import("./chat.js").Chat} options.chat
   * @param {() => string} options.model
   * @param {import("./editor.js").Desk} options.desk
   * @param {() => void} options.newChat
   * @param {() => void} options.onEarlier earlier messages have been drawn
   */
  constructor({ root, scroller, chat, model, desk, newChat, onEarlier }) {
    this.root = root;
    this.scroller = scroller;
    this.chat = chat;
    this.model = model;
    this.desk = desk;
    this.newChat = newChat;
    this.onEarlier = onEarlier;
    const watch = new IntersectionObserver(
      (entries) => entries.at(-1)?.isIntersecting && this.#showEarlier(),
      { root: scroller, rootMargin: AHEAD },
    );
    watch.observe(this.#top);
    // Who scrolls fast may come near again before the observer has seen that they were not.
    scroller.addEventListener("scroll", () => this.#near() && this.#showEarlier(), {
      passive: true,
    });
  }

  render() {
    const { chat } = this;
    if (chat.failure) {
      this.#clear();
      this.#failed = this.#failure(chat.failure.message);
      this.root.replaceChildren(this.#failed);
      return;
    }
    const path = this.#drawn();
    const shown = new Set(path.map((message) => message.id));
    for (const [id, turn] of this.#turns) {
      if (!shown.has(id)) {
        turn.element.remove();
        this.#turns.delete(id);
      }
    }
    this.#failed?.remove();
    this.#failed = null;
    if (this.root.firstElementChild !== this.#top) {
      this.root.prepend(this.#top);
    }
    /** @type {Element} */
    let before = this.#top;
    for (const message of path) {
      const turn = this.#turnOf(message);
      this.#update(turn, message);
      if (before.nextElementSibling !== turn.element) {
        before.after(turn.element);
      }
      before = turn.element;
    }
    this.#showOutgoing();
  }

  /**
   * Tells a turn what there is of it, unless it knows.
   * @param {UserTurn | AnswerTurn} turn
   * @param {Message} message
   */
  #update(turn, message) {
    const { thread } = this.chat;
    const siblings = thread?.siblings(message.id) ?? [];
    const key = `${siblings} ${thread?.children.has(message.id)}`;
    if (turn.message !== message || turn.key !== key || isOpen(message.generation)) {
      turn.key = key;
      turn.update(message, siblings);
    }
  }

  /** All that can be drawn of the branch. */
  #path() {
    return (this.chat.thread?.path() ?? []).filter(({ role }) => role !== "system");
  }

  /** The part of the branch that is drawn. */
  #drawn() {
    const path = this.#path();
    const first = path.findIndex(({ id }) => id === this.#first);
    const drawn = path.slice(first < 0 ? -WINDOW : first);
    this.#first = drawn[0]?.id ?? null;
    return drawn;
  }

  /** Whether there is anything above what is drawn. */
  get #more() {
    const { thread } = this.chat;
    return thread && (this.#path()[0]?.id !== this.#first || thread.missing() !== null);
  }

  async #showEarlier() {
    const { thread } = this.chat;
    if (this.#loading || !thread || this.#turns.size === 0 || !this.#more) {
      return;
    }
    this.#loading = true;
    try {
      await this.#extend(thread);
    } catch {
      // The next scrolling tries again.
    } finally {
      this.#loading = false;
    }
    if (thread === this.chat.thread && this.#near()) {
      requestAnimationFrame(() => this.#showEarlier());
    }
  }

  /** @param {import("./thread.js").Thread} thread */
  async #extend(thread) {
    const at = () => this.#path().findIndex(({ id }) => id === this.#first);
    if (at() < STEP && thread.missing() !== null) {
      await this.chat.threads.loadEarlier(thread);
    }
    if (thread !== this.chat.thread) {
      return;
    }
    const anchor = this.#turns.get(this.#first ?? "")?.element;
    const before = anchor?.getBoundingClientRect().top ?? 0;
    this.#drawFrom(Math.max(0, at() - STEP));
    // What one reads stays where it is.
    this.scroller.scrollTop += (anchor?.getBoundingClientRect().top ?? 0) - before;
  }

  #near() {
    const { top } = this.#top.getBoundingClientRect();
    return top > this.scroller.getBoundingClientRect().top - parseInt(AHEAD, 10);
  }

  /** Draws the whole branch, as for printing. Rejects with a `CommandError`. */
  async showAll() {
    const { thread } = this.chat;
    while (thread?.missing()) {
      await this.chat.threads.loadEarlier(thread);
    }
    this.#drawFrom(0);
  }

  /** Draws all that is here: a printer's pages can wait for nothing. */
  showLoaded() {
    this.#drawFrom(0);
  }

  /** Draws the branch as far up as a message that is here. @param {string} id */
  reveal(id) {
    const path = this.#path();
    const at = path.findIndex((message) => message.id === id);
    if (at >= 0 && at < path.findIndex((message) => message.id === this.#first)) {
      this.#drawFrom(Math.max(0, at - STEP));
    }
  }

  /** @param {number} at */
  #drawFrom(at) {
    this.#first = this.#path()[at]?.id ?? null;
    this.render();
    this.onEarlier();
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

  /** The editor that one writes in, if one does. */
  get editor() {
    const users = [...this.#turns.values()].filter((turn) => turn instanceof UserTurn);
    return users.map(({ editor }) => editor).find((editor) => editor?.hasFocus) ?? null;
  }

  /** @param {import("./thread.js").Message} message */
  #turnOf(message) {
    let turn = this.#turns.get(message.id);
    if (!turn) {
      turn =
        message.role === "user"
          ? new UserTurn(this.chat, this.model, this.desk)
          : new AnswerTurn(this.chat, this.model);
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
      this.#outgoing = new UserTurn(this.chat, this.model, this.desk);
      this.#outgoing.showOutgoing(outgoing);
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
    this.#first = null;
    this.#outgoing = null;
  }
}
