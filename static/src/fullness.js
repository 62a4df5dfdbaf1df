/** Keeps the gauge in step with what is shown, written and attached. */
import { byId } from "./dom.js";
import { Gauge } from "./gauge.js";
import { Meter } from "./meter.js";

export class Fullness {
  /** Of a chat that is not begun yet. */
  #newKeepsLatest = false;

  /**
   * @param {object} options
   * @param {import("./chat.js").Chat} options.chat
   * @param {() => string} options.model the chosen one
   * @param {() => string | null} options.assistant id of the chosen one
   * @param {import("./files.js").Files} options.files
   * @param {() => void} options.startAnew with what is written, in a new chat
   * @param {() => void} options.onChosen something was chosen: the box may have the focus again
   */
  constructor({ chat, model, assistant, files, startAnew, onChosen }) {
    this.chat = chat;
    this.model = model;
    this.assistant = assistant;
    this.files = files;
    this.onChosen = onChosen;
    this.gauge = new Gauge({
      keepsLatest: () => this.keepsLatest,
      keepLatest: (keep) => this.#keepLatest(keep),
      startAnew,
    });
    this.meter = new Meter({
      request: (command) => chat.connection.request(command),
      onChange: () => this.#show(),
    });
    chat.addEventListener("open", () => {
      this.#newKeepsLatest = false;
    });
  }

  get keepsLatest() {
    const { conversations, current } = this.chat;
    return conversations.get(current)?.keep_latest ?? this.#newKeepsLatest;
  }

  /** Whether what is written may be sent; says so where it can't. */
  get fits() {
    const refused = this.meter.current && this.gauge.refuses;
    if (refused) {
      this.gauge.insist();
    }
    return !refused;
  }

  /** Counts what the next message would come behind, unless that is still being written. */
  update() {
    const { chat } = this;
    const last = chat.thread?.path().at(-1) ?? null;
    const model = this.model();
    const ready = model && !chat.failure && !chat.outgoing && !chat.openMessage;
    const known = chat.current === null || last !== null;
    const branch = {
      model,
      assistant: this.assistant(),
      conversation: chat.current,
      parent: last?.id ?? null,
      attachments: this.files.ids,
    };
    this.meter.setBranch(ready && known ? branch : null, last?.generation?.state);
  }

  #show() {
    const { figures, files: tokens } = this.meter;
    this.gauge.show(figures);
    if (figures) {
      this.files.showTokens(tokens, figures.estimated);
    }
  }

  /** @param {boolean} keep whether the model may go without the oldest messages */
  async #keepLatest(keep) {
    const { chat } = this;
    if (chat.current === null) {
      this.#newKeepsLatest = keep;
    } else {
      const { conversation } = await chat.api.change(chat.current, { keep_latest: keep });
      chat.conversations.merge([conversation]);
      const failed = chat.thread?.path().at(-1);
      if (keep && failed?.generation?.error?.code === "context_length_exceeded") {
        chat.regenerate(failed.id, this.model());
      }
    }
    this.gauge.show(this.meter.figures);
    byId("gauge-panel").hidePopover();
    this.onChosen();
  }
}
