/** Keep the context gauge in sync with conversation, text and attachments. */
import { selectionsOf } from "../attachments/selection.js";
import { byId } from "../lib/dom.js";
import { Gauge } from "./context-gauge.js";
import { TokenCounter } from "./token-counter.js";

export class ContextUsage {
  /** The setting of a chat that has no messages yet. */
  #newKeepsLatest = false;

  /**
   * @param {object} options
   * @param {import("../chat/chat.js").Chat} options.chat
   * @param {() => string} options.model the chosen one
   * @param {() => string | null} options.assistant id of the chosen one
   * @param {import("../attachments/attachments.js").Files} options.files
   * @param {{ids: string[]}} options.collections attached to the chat
   * @param {() => void} options.startNewChat with the current text
   * @param {() => void} options.onChosen the user has chosen; the message box may take the focus
   */
  constructor({ chat, model, assistant, files, collections, startNewChat, onChosen }) {
    this.chat = chat;
    this.model = model;
    this.assistant = assistant;
    this.files = files;
    this.collections = collections;
    this.onChosen = onChosen;
    this.gauge = new Gauge({
      keepsLatest: () => this.keepsLatest,
      keepLatest: (keep) => this.#keepLatest(keep),
      startNewChat,
    });
    this.counter = new TokenCounter({
      request: (command) =>
        /** @type {Promise<import("../lib/wire").TokenCounts>} */ (
          chat.connection.request(command)
        ),
      onChange: () => this.#show(),
    });
    chat.addEventListener("open", () => {
      this.#newKeepsLatest = false;
    });
  }

  get keepsLatest() {
    const { conversations, current, shownTemporary } = this.chat;
    if (shownTemporary) {
      return shownTemporary.keepLatest;
    }
    return conversations.get(current)?.keep_latest ?? this.#newKeepsLatest;
  }

  /** Whether the message fits. If not, the gauge shows the choice. */
  get fits() {
    const refused = this.counter.current && this.gauge.refuses;
    if (refused) {
      this.gauge.insist();
    }
    return !refused;
  }

  /** Count the tokens before the next message, unless an answer is being generated. */
  update() {
    const { chat } = this;
    const last = chat.thread?.path().at(-1) ?? null;
    const model = this.model();
    const ready = model && !chat.failure && !chat.outgoing && !chat.openMessage;
    const temporary = chat.shownTemporary;
    const known = chat.current === null || last !== null || temporary !== null;
    const before = temporary
      ? { conversation: null, parent: null, messages: temporary.branch(last?.id ?? null) }
      : { conversation: chat.current, parent: last?.id ?? null };
    const branch = {
      model,
      assistant: this.assistant(),
      ...before,
      attachments: this.files.ids,
      selections: selectionsOf(this.files.attachments),
      collections: this.collections.ids,
    };
    this.counter.setBranch(ready && known ? branch : null, last?.generation?.state);
  }

  #show() {
    const { figures, files: tokens, matching } = this.counter;
    this.gauge.show(figures);
    if (figures) {
      this.files.showTokens(tokens, figures.estimated, matching);
    }
  }

  /** @param {boolean} keep whether the oldest messages may be left out */
  async #keepLatest(keep) {
    const { chat } = this;
    const temporary = chat.shownTemporary;
    if (temporary) {
      temporary.keepLatest = keep;
      chat.saveTemporary();
      this.#retryFailed(keep);
    } else if (chat.current === null) {
      this.#newKeepsLatest = keep;
    } else {
      const { conversation } = await chat.api.change(chat.current, { keep_latest: keep });
      chat.conversations.merge([conversation]);
      this.#retryFailed(keep);
    }
    this.gauge.show(this.counter.figures);
    byId("gauge-panel").hidePopover();
    this.onChosen();
  }

  /** Regenerate an answer that failed because the context was full. @param {boolean} keep */
  #retryFailed(keep) {
    const failed = this.chat.thread?.path().at(-1);
    if (keep && failed?.generation?.error?.code === "context_length_exceeded") {
      this.chat.regenerate(failed.id, this.model());
    }
  }
}
