/** Compare answers of several models to one message, side by side, streamed or complete. */
import { AnswerParts } from "../answer/answer-parts.js";
import { AnswerSources, showLabels } from "../answer/answer-sources.js";
import { citesOf } from "../documents/citation-text.js";
import { attempt, byId, h, isSignedOut } from "../lib/dom.js";
import { fill, gettext, milliseconds, number, seconds } from "../lib/i18n.js";
import { MOST } from "../composer/compare-with.js";
import { endText, figures, retryLabel, waitingText } from "../answer/status-text.js";
import { isOpen } from "../chat/thread.js";

/**
 * @typedef {import("../chat/chat.js").Chat} Chat
 * @typedef {import("../composer/compare-with.js").Choice} Choice
 */

/** One answer: its text, its speed, and the button to continue with it. */
class Column {
  #title = h("p", { className: "column-title", dir: "auto" });
  #article = h("article", { "aria-label": gettext("Answer") });
  #parts = new AnswerParts(this.#article);
  #sources = new AnswerSources();
  #note = h("p", { className: "waiting" });
  #figures = h("dl", { className: "column-figures" });
  #take = h(
    "button",
    { type: "button", className: "button" },
    gettext("Continue with this answer"),
  );
  #again = h("button", { type: "button", className: "button" });
  #buttons = h("div", { className: "column-buttons" }, this.#take);
  /** @type {string | null} its message, once the server has taken the request */
  message = null;
  /** Whether it has text and has not failed. */
  usable = false;
  /** Whether it is queued or being generated. */
  open = true;

  /**
   * @param {string} label
   * @param {(message: string) => void} onTaken
   * @param {(column: Column) => void} onAgain regenerate with the same model
   */
  constructor(label, onTaken, onAgain) {
    this.label = label;
    this.#title.textContent = label;
    this.#note.textContent = gettext("Reading…");
    this.#take.hidden = true;
    this.#take.onclick = () => this.message && onTaken(this.message);
    this.#again.onclick = () => onAgain(this);
    this.#article.addEventListener("click", ({ target }) => this.#sources.openMark(target));
    showLabels(this.#article);
    this.element = h(
      "section",
      { className: "column", "aria-label": label },
      this.#title,
      this.#article,
      this.#sources.element,
      this.#note,
      this.#figures,
      this.#buttons,
    );
  }

  /** @param {string} reason why there is no answer */
  fail(reason) {
    this.open = false;
    this.#note.hidden = false;
    this.#note.className = "notice error";
    this.#note.textContent = reason;
  }

  /** @param {Chat} chat */
  update(chat) {
    const message = chat.thread?.messages.get(this.message ?? "");
    const generation = message?.generation;
    if (!message || !generation) {
      return;
    }
    const stream = chat.streams.get(generation.id);
    const open = isOpen(generation);
    const text = open ? (stream?.text ?? "") : message.content;
    const content = this.#parts.show(text, {
      complete: !open,
      syntax: { ...stream?.syntax, ...generation.syntax },
      reasoningMs: null,
      cites: citesOf(generation.sources),
    });
    this.#sources.show(message.id, generation.sources ?? null);
    this.#article.ariaBusy = String(open);
    this.label = this.#title.textContent = figures(generation).author;
    this.element.setAttribute("aria-label", this.label);
    const end = open ? null : endText(generation, this.#parts.empty);
    this.open = open;
    this.usable = !open && !this.#parts.empty && generation.state !== "failed";
    this.#note.hidden = open ? text !== "" : end === null;
    this.#note.className = open ? "waiting" : `notice ${end?.kind ?? ""}`;
    const note = open ? waitingText(stream) : (end?.text ?? "");
    if (this.#note.textContent !== note) {
      this.#note.textContent = note;
    }
    this.#take.hidden = open || this.#parts.empty;
    if (!end?.retry) {
      this.#again.remove();
    } else if (!this.#again.isConnected) {
      this.#again.textContent = retryLabel(generation);
      this.#buttons.append(this.#again);
    }
    if (!open) {
      this.#showFigures(generation, content);
    }
  }

  /**
   * @param {import("../lib/wire").Generation} generation
   * @param {string} content
   */
  #showFigures({ timings, usage }, content) {
    const tokens = usage.completion_tokens ?? 0;
    /** @type {[string, string][]} */
    const rows = [];
    // Queueing and loading the model do not count as the model's speed.
    const waited = timings.queue ?? 0;
    if (waited >= 500) {
      rows.push([gettext("Queue time"), seconds(waited)]);
    }
    if (timings.ttft > 0) {
      rows.push([gettext("Time to first token"), milliseconds(Math.max(1, timings.ttft - waited))]);
    }
    if (tokens > 1 && timings.decode > 0) {
      rows.push([gettext("Tokens/s"), number(((tokens - 1) / timings.decode) * 1000)]);
    }
    const values = { tokens: number(tokens), characters: number([...content].length) };
    rows.push([
      gettext("Length"),
      fill(gettext("{tokens} tokens, {characters} characters"), values),
    ]);
    this.#figures.replaceChildren(
      ...rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
    );
  }
}

export class Comparison {
  /** @type {HTMLDialogElement} */
  #dialog = byId("comparison");
  #columns = byId("comparison-columns");
  #problem = byId("comparison-problem");
  #stop = byId("comparison-stop");
  /** @type {Column[]} */
  #shown = [];
  /** Whether the answers were just requested and none has been chosen. */
  #undecided = false;
  /** The message that the chat continues with. @type {string | null} */
  #choice = null;

  /**
   * @param {Chat} chat
   * @param {object} options
   * @param {() => void} options.onClosed
   * @param {(label: string) => void} options.onKept closed without a choice: the chat continues
   *   with the answer of `label`
   */
  constructor(chat, { onClosed, onKept }) {
    this.chat = chat;
    this.onKept = onKept;
    chat.addEventListener("thread", () => this.#update());
    chat.addEventListener("stream", () => this.#update());
    byId("comparison-close").addEventListener("click", () => this.#dialog.close());
    this.#stop.addEventListener("click", () => this.#stopAll());
    this.#dialog.addEventListener("close", () => {
      this.#keepOne();
      this.#shown = [];
      this.#columns.replaceChildren();
      onClosed();
    });
  }

  /**
   * Show existing answers.
   * @param {string[]} messages
   */
  show(messages) {
    const columns = messages.slice(-MOST).map((id) => {
      const column = this.#column("");
      column.message = id;
      return column;
    });
    this.#open(columns);
    attempt(
      this.#problem,
      this.chat.bring(messages).then(() => this.#update()),
    );
  }

  /**
   * Request answers of further models to the message that was just sent.
   * @param {string} answer message id of the first answer
   * @param {string} label
   * @param {Choice[]} others
   */
  async ask(answer, label, others) {
    const columns = [label, ...others.map((other) => other.label)].map((one) => this.#column(one));
    columns[0].message = answer;
    this.#open(columns);
    this.#undecided = true;
    this.#choice = null;
    await Promise.all(
      others.map(async ({ model, assistant }, at) => {
        const column = columns[at + 1];
        try {
          const accepted = await this.chat.regenerate(answer, model, assistant);
          column.message = accepted.assistant_message.id;
        } catch (error) {
          isSignedOut(error);
          column.fail(error instanceof Error ? error.message : String(error));
        }
      }),
    );
    this.#update();
    // Each further answer became the shown branch. Show the first until the user chooses.
    await attempt(this.#problem, this.chat.chooseBranch(this.#choice ?? answer));
  }

  /** @param {string} label */
  #column(label) {
    return new Column(
      label,
      (message) => this.#take(message),
      (column) => this.#again(column),
    );
  }

  /** @param {Column} column */
  async #again(column) {
    const { message, chat } = { message: column.message, chat: this.chat };
    const generation = chat.thread?.messages.get(message ?? "")?.generation;
    if (message && generation) {
      const { model, assistant } = generation;
      const asked = chat.regenerate(message, model, assistant?.id ?? null).then((accepted) => {
        column.message = accepted.assistant_message.id;
      });
      await attempt(this.#problem, asked);
      this.#update();
    }
  }

  /**
   * Without a choice, continue with the first answer, or with the next one if that is empty or has
   * failed.
   */
  #keepOne() {
    const undecided = this.#undecided;
    this.#undecided = false;
    const kept =
      this.#shown.find(({ message, usable, open }) => message && (usable || open)) ??
      this.#shown.find(({ message }) => message);
    if (undecided && kept?.message) {
      this.#choice = kept.message;
      attempt(this.#problem, this.chat.chooseBranch(kept.message));
      this.onKept(kept.label);
    }
  }

  /** @param {Column[]} columns */
  #open(columns) {
    this.#shown = columns;
    const parent = this.chat.thread?.messages.get(columns[0].message ?? "")?.parent ?? "";
    const question = this.chat.thread?.messages.get(parent)?.content ?? "";
    byId("comparison-question").textContent = question;
    this.#problem.hidden = true;
    this.#columns.replaceChildren(...columns.map(({ element }) => element));
    this.#columns.dataset.count = String(columns.length);
    this.#update();
    this.#dialog.showModal();
  }

  #update() {
    if (this.#shown.length === 0) {
      return;
    }
    this.#shown.forEach((column) => column.update(this.chat));
    this.#stop.hidden = this.#writing.length === 0;
  }

  /** Ids of the generations that are still open. */
  get #writing() {
    return this.#shown.flatMap(({ message }) => {
      const generation = this.chat.thread?.messages.get(message ?? "")?.generation;
      return generation && isOpen(generation) ? [generation.id] : [];
    });
  }

  #stopAll() {
    const stops = this.#writing.map((generation) =>
      this.chat.connection.request({ type: "stop", generation }),
    );
    attempt(this.#problem, Promise.all(stops));
  }

  /** @param {string} message */
  async #take(message) {
    if (await attempt(this.#problem, this.chat.chooseBranch(message))) {
      this.#undecided = false;
      this.#choice = message;
      this.#dialog.close();
    }
  }
}
