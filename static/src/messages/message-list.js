/**
 * Render the shown branch of the open conversation as turns: the last ones, and earlier ones when
 * the user scrolls up.
 */
import { AnswerTurn } from "./answer-turn.js";
import { h, isSignedOut } from "../lib/dom.js";
import { gettext } from "../lib/i18n.js";
import { isOpen } from "../chat/thread.js";
import { UserTurn } from "./turn.js";

/** Messages rendered when a conversation is opened, and per frame when scrolling up. */
const WINDOW = 20;
const STEP = 2;
/** Distance to the first rendered message at which earlier ones are rendered, in pixels. */
const AHEAD = "2000px 0px 0px 0px";

/** Layout skips turns that are further from the viewport. */
const FAR = "3000px 0px 3000px 0px";

/** @typedef {import("../lib/wire").Message} Message */

export class Messages {
  /** @type {Map<string, UserTurn | AnswerTurn>} */
  #turns = new Map();
  /** @type {UserTurn | null} */
  #outgoing = null;
  /** The first rendered message. @type {string | null} */
  #first = null;
  #top = h("div", { className: "earlier" });
  /** Notice shown if the conversation can't be shown. @type {HTMLElement | null} */
  #failed = null;
  #loading = false;
  #searching = h("p", { className: "waiting searching", role: "status" });

  /**
   * @param {object} options
   * @param {HTMLElement} options.root
   * @param {HTMLElement} options.scroller
   * @param {import("../chat/chat.js").Chat} options.chat
   * @param {() => string} options.model
   * @param {import("./editor.js").Desk} options.desk
   * @param {() => void} options.newChat
   * @param {() => void} options.onEarlier earlier messages have been rendered
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
    // Let layout skip rendered turns that are far from the viewport.
    this.distance = new IntersectionObserver(
      (entries) =>
        entries.forEach(({ target, isIntersecting }) =>
          target.classList.toggle("far", !isIntersecting),
        ),
      { root: scroller, rootMargin: FAR },
    );
    // With fast scrolling the observer may miss that the top was left and reached again.
    scroller.addEventListener("scroll", () => this.#near() && this.#showEarlier(), {
      passive: true,
    });
  }

  render() {
    const { chat } = this;
    if (chat.failure) {
      this.#clear();
      // The page shows already that the session has ended.
      const shown = !isSignedOut(chat.failure);
      this.#failed = shown ? this.#failure(chat.failure.message) : null;
      this.root.replaceChildren(this.#failed ?? "");
      return;
    }
    const path = this.#drawn();
    const shown = new Set(path.map((message) => message.id));
    for (const [id, turn] of this.#turns) {
      if (!shown.has(id)) {
        turn.element.remove();
        this.distance.unobserve(turn.element);
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
    this.#searching.remove();
    this.#showOutgoing();
    this.#showSearching();
  }

  /**
   * Update a turn if its message or position has changed.
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

  /** The loaded part of the branch. */
  #path() {
    return (this.chat.thread?.path() ?? []).filter(({ role }) => role !== "system");
  }

  /** The rendered part of the branch. */
  #drawn() {
    const path = this.#path();
    const first = path.findIndex(({ id }) => id === this.#first);
    const drawn = path.slice(first < 0 ? -WINDOW : first);
    this.#first = drawn[0]?.id ?? null;
    return drawn;
  }

  /** Whether there are messages above the rendered ones. */
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
      // The next scroll event retries.
    } finally {
      this.#loading = false;
    }
    if (thread === this.chat.thread && this.#near()) {
      requestAnimationFrame(() => this.#showEarlier());
    }
  }

  /** @param {import("../chat/thread.js").Thread} thread */
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
    // Keep the scroll position of what is read.
    this.scroller.scrollTop += (anchor?.getBoundingClientRect().top ?? 0) - before;
  }

  #near() {
    const { top } = this.#top.getBoundingClientRect();
    return top > this.scroller.getBoundingClientRect().top - parseInt(AHEAD, 10);
  }

  /** Render the whole branch, as for printing. Rejects with a `CommandError`. */
  async showAll() {
    const { thread } = this.chat;
    while (thread?.missing()) {
      await this.chat.threads.loadEarlier(thread);
    }
    this.#drawFrom(0);
  }

  /** Render all loaded messages at once: printing can't wait for requests. */
  showLoaded() {
    this.#drawFrom(0);
  }

  /** Render the branch up to a loaded message. @param {string} id */
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

  /** Remove everything, since another conversation is shown. */
  reset() {
    this.#clear();
    this.root.replaceChildren();
  }

  /** @param {import("../chat/stream.js").Stream} stream that has changed */
  updateStream(stream) {
    for (const turn of this.#turns.values()) {
      if (turn instanceof AnswerTurn && turn.message?.generation?.id === stream.id) {
        turn.updateText();
      }
    }
  }

  updateRatings() {
    for (const turn of this.#turns.values()) {
      if (turn instanceof AnswerTurn) {
        turn.updateRating();
      }
    }
  }

  /**
   * Return the content of an answer without reasoning.
   * @param {import("../lib/wire").Message | null} message
   */
  contentOf(message) {
    const turn = this.#turns.get(message?.id ?? "");
    return turn instanceof AnswerTurn ? turn.text : "";
  }

  /** The open editor, if any. */
  get editor() {
    const users = [...this.#turns.values()].filter((turn) => turn instanceof UserTurn);
    return users.map(({ editor }) => editor).find((editor) => editor?.hasFocus) ?? null;
  }

  /** @param {import("../lib/wire").Message} message */
  #turnOf(message) {
    let turn = this.#turns.get(message.id);
    if (!turn) {
      turn =
        message.role === "user"
          ? new UserTurn(this.chat, this.model, this.desk)
          : new AnswerTurn(this.chat, this.model);
      turn.element.dataset.message = message.id;
      this.distance.observe(turn.element);
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
    if (!this.#outgoing.element.isConnected || this.#outgoing.element.nextElementSibling) {
      this.root.append(this.#outgoing.element);
    }
  }

  /** Show below the last message that documents are being searched for the next answer. */
  #showSearching() {
    if (!this.chat.searching) {
      this.#searching.remove();
      return;
    }
    if (this.root.lastElementChild !== this.#searching) {
      this.root.append(this.#searching);
      this.#searching.textContent = gettext("Searching documents…");
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
    this.distance.disconnect();
    this.#turns.clear();
    this.#first = null;
    this.#outgoing = null;
  }
}
