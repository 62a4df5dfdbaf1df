/** Answers of several models to one question, side by side, while they are written and after. */
import { AnswerParts } from "./answer-parts.js";
import { attempt, byId, h } from "./dom.js";
import { fill, gettext, milliseconds, number, seconds } from "./i18n.js";
import { endText, figures, waitingText } from "./status.js";
import { isOpen } from "./thread.js";

/** More do not fit side by side. */
export const MOST = 3;

/**
 * @typedef {import("./chat.js").Chat} Chat
 * @typedef {{model: string, assistant: string | null, label: string}} Choice
 */

/** One answer: its text, how fast it came, and the way to go on with it. */
class Column {
  #title = h("p", { className: "column-title", dir: "auto" });
  #article = h("article", { "aria-label": gettext("Answer") });
  #parts = new AnswerParts(this.#article);
  #note = h("p", { className: "waiting" });
  #figures = h("dl", { className: "column-figures" });
  #take = h("button", { type: "button", className: "button" }, gettext("Go on with this answer"));
  /** @type {string | null} its message, once the server has taken the request */
  message = null;

  /**
   * @param {string} label
   * @param {(message: string) => void} onTaken
   */
  constructor(label, onTaken) {
    this.#title.textContent = label;
    this.#note.textContent = gettext("Thinking…");
    this.#take.hidden = true;
    this.#take.onclick = () => this.message && onTaken(this.message);
    this.element = h(
      "section",
      { className: "column", "aria-label": label },
      this.#title,
      this.#article,
      this.#note,
      this.#figures,
      this.#take,
    );
  }

  /** @param {string} reason why there is no answer */
  fail(reason) {
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
    const said = this.#parts.show(text, {
      complete: !open,
      syntax: { ...stream?.syntax, ...generation.syntax },
      reasoningMs: null,
    });
    this.#article.ariaBusy = String(open);
    this.#title.textContent = figures(generation).text.split(" · ")[0];
    this.element.setAttribute("aria-label", this.#title.textContent);
    const end = open ? null : endText(generation);
    this.#note.hidden = open ? text !== "" : end === null;
    this.#note.className = open ? "waiting" : `notice ${end?.kind ?? ""}`;
    const note = open ? waitingText(stream) : (end?.text ?? "");
    if (this.#note.textContent !== note) {
      this.#note.textContent = note;
    }
    this.#take.hidden = open || text === "";
    if (!open) {
      this.#showFigures(generation, said);
    }
  }

  /**
   * @param {import("./thread.js").Generation} generation
   * @param {string} said
   */
  #showFigures({ timings, usage }, said) {
    const tokens = usage.completion_tokens ?? 0;
    /** @type {[string, string][]} */
    const rows = [];
    // Standing in line and loading the model are nobody's speed.
    const waited = timings.queue ?? 0;
    if (waited >= 500) {
      rows.push([gettext("Waited"), seconds(waited)]);
    }
    if (timings.ttft > 0) {
      rows.push([gettext("First word"), milliseconds(Math.max(1, timings.ttft - waited))]);
    }
    if (tokens > 1 && timings.decode > 0) {
      rows.push([gettext("Tokens/s"), number(((tokens - 1) / timings.decode) * 1000)]);
    }
    const values = { tokens: number(tokens), characters: number([...said].length) };
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

  /**
   * @param {Chat} chat
   * @param {() => void} onClosed
   */
  constructor(chat, onClosed) {
    this.chat = chat;
    chat.addEventListener("thread", () => this.#update());
    chat.addEventListener("stream", () => this.#update());
    chat.addEventListener("compare", (event) =>
      this.show(/** @type {CustomEvent<string[]>} */ (event).detail),
    );
    byId("comparison-close").addEventListener("click", () => this.#dialog.close());
    this.#stop.addEventListener("click", () => this.#stopAll());
    this.#dialog.addEventListener("close", () => {
      this.#shown = [];
      this.#columns.replaceChildren();
      onClosed();
    });
  }

  /**
   * Answers that are there.
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
   * Asks others the question that has just been sent.
   * @param {string} answer the first one's message
   * @param {string} label
   * @param {Choice[]} others
   */
  async ask(answer, label, others) {
    const columns = [label, ...others.map((other) => other.label)].map((one) => this.#column(one));
    columns[0].message = answer;
    this.#open(columns);
    await Promise.all(
      others.map(async ({ model, assistant }, at) => {
        const column = columns[at + 1];
        try {
          const accepted = await this.chat.regenerate(answer, model, assistant);
          column.message = accepted.assistant_message.id;
        } catch (error) {
          column.fail(error instanceof Error ? error.message : String(error));
        }
      }),
    );
    this.#update();
  }

  /** @param {string} label */
  #column(label) {
    return new Column(label, (message) => this.#take(message));
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

  /** Generations of the shown answers that are still being written. */
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
      this.#dialog.close();
    }
  }
}
