/**
 * What a person does with conversations, and what the server says about them. Holds the state;
 * the views listen for `thread` (the shown branch or its messages), `stream` (one answer's
 * text), `open` (another conversation is shown) and `status` (of the connection).
 */
import { CommandError, Connection } from "./connection.js";
import { Later } from "./later.js";
import { Streams } from "./streams.js";
import { Threads } from "./threads.js";

/**
 * @typedef {import("./thread.js").Conversation} Conversation
 * @typedef {import("./thread.js").Thread} Thread
 * @typedef {import("./thread.js").Message} Message
 * @typedef {import("./connection.js").CommandError} Refusal
 * @typedef {{content: string, attachments: import("./files.js").Attachment[]}} Outgoing a message that the server has not accepted yet
 */

const NEW = "new";
const RECENT_MS = 5 * 60_000;

export class Chat extends EventTarget {
  /** @type {Map<string, Outgoing>} by conversation or "new" */
  #outgoing = new Map();
  /** @type {string | null} the conversation that is shown */
  current = null;
  /** @type {Refusal | null} why the current conversation can't be shown */
  failure = null;
  /** Rises with each conversation that is opened. */
  #visit = 0;

  /**
   * @param {object} options
   * @param {import("./api.js").Api} options.api
   * @param {import("./conversations.js").Conversations} options.conversations
   * @param {string} options.socketUrl
   * @param {() => string | null} options.assistant id of the one that is to answer
   */
  constructor({ api, conversations, socketUrl, assistant }) {
    super();
    this.assistant = assistant;
    this.api = api;
    this.conversations = conversations;
    this.streams = new Streams({
      post: (command) => this.connection.post(command),
      onChange: (stream) => this.#emit("stream", stream),
      onEnd: (_stream, message) => this.#ended(message),
    });
    this.threads = new Threads(api, this.streams);
    this.connection = new Connection({
      url: socketUrl,
      onEvent: (event) => this.#receive(event),
      onOpen: () => this.#connected(),
      onStatus: (status) => this.#emit("status", status),
    });
    this.later = new Later();
    this.connected = false;
  }

  /** @returns {Thread | null} */
  get thread() {
    return this.current === null ? null : this.threads.get(this.current);
  }

  /** @returns {Outgoing | null} */
  get outgoing() {
    return this.#outgoing.get(this.current ?? NEW) ?? null;
  }

  /** The answer of the shown branch that is still being made. @returns {Message | null} */
  get openMessage() {
    const message = this.thread?.openMessage() ?? null;
    return this.streams.get(message?.generation?.id ?? "")?.stopping ? null : message;
  }

  /**
   * What the page was served with: a conversation, a refusal, or neither.
   * @param {import("./thread.js").Opening | null} data
   * @param {Refusal | null} failure
   */
  begin(data, failure) {
    this.current = data?.conversation.id ?? null;
    this.failure = failure;
    if (data) {
      this.adopt(data);
    }
    this.#emit("open");
  }

  /**
   * Shows a conversation, null for a new one.
   * @param {string | null} id
   */
  async open(id) {
    this.#visit += 1;
    const visit = this.#visit;
    this.current = id;
    this.failure = null;
    this.#emit("open");
    if (id === null) {
      return;
    }
    try {
      await this.refresh(id);
    } catch (error) {
      if (visit === this.#visit && error instanceof CommandError) {
        this.failure = error;
        this.#emit("thread");
      }
    }
  }

  /**
   * Takes in a conversation as an endpoint gives it.
   * @param {import("./thread.js").Opening} data
   * @param {number} [headVersion] of the thread when it was asked for
   */
  adopt(data, headVersion) {
    this.threads.adopt(data, headVersion);
    this.conversations.merge([data.conversation]);
    if (data.conversation.id === this.current) {
      this.failure = null;
      this.#emit("thread");
    }
  }

  /** @param {string} id */
  async refresh(id) {
    const version = this.threads.get(id)?.headVersion ?? 0;
    this.adopt(await this.api.conversation(id), version);
  }

  /**
   * Sends a message behind the shown branch. Rejects with a `CommandError`.
   * @param {string} content
   * @param {string} model
   * @param {import("./files.js").Attachment[]} [files]
   * @param {Record<string, any>} [more] fields of the command
   */
  async send(content, model, files = [], more = {}) {
    const conversation = this.current;
    const key = conversation ?? NEW;
    const parent = this.thread?.path().at(-1)?.id ?? null;
    this.#outgoing.set(key, { content, attachments: files });
    const attachments = files.map(({ id }) => id);
    this.#emit("thread");
    const visit = this.#visit;
    try {
      await this.streams.stopped(this.thread?.openMessage()?.generation?.id);
      const assistant = this.assistant();
      const where = { conversation, parent };
      const said = { content, attachments };
      const command = { type: "send", ...said, model, assistant, ...where, ...more };
      const accepted = await this.connection.request(command);
      if (conversation === null && visit === this.#visit) {
        this.current = accepted.conversation.id;
        this.#emit("created");
      }
      return accepted;
    } finally {
      this.#outgoing.delete(key);
      this.#emit("thread");
    }
  }

  /**
   * @param {string} message
   * @param {string} content
   * @param {string} model
   * @param {string[]} attachments ids
   */
  edit(message, content, model, attachments) {
    const assistant = this.assistant();
    const said = { message, content, attachments };
    return this.connection.request({ type: "edit", ...said, model, assistant });
  }

  /**
   * @param {string} message
   * @param {string} model
   * @param {string | null} [assistant] the chosen one, if no other is named
   */
  regenerate(message, model, assistant = this.assistant()) {
    return this.connection.request({ type: "regenerate", message, model, assistant });
  }

  /**
   * Goes on behind an answer that was cut.
   * @param {string} message
   */
  goOn(message) {
    return this.connection.request({ type: "continue", message });
  }

  /** Counts for the page from now on, for the server when it has ended the answer. */
  async stop() {
    const id = this.openMessage?.generation?.id;
    if (!id) {
      return;
    }
    this.streams.stop(id);
    this.#emit("thread");
    try {
      await this.connection.request({ type: "stop", generation: id });
    } catch (error) {
      this.streams.stop(id, false);
      this.#emit("thread");
      throw error;
    }
  }

  /**
   * Shows the newest branch under another alternative.
   * @param {string} message
   */
  async chooseBranch(message) {
    const { thread } = this;
    if (thread) {
      const head = await this.threads.show(thread, message);
      this.#emit("thread");
      await this.api.change(thread.id, { head });
    }
  }

  /**
   * Sees to it that messages of other branches are known.
   * @param {string[]} messages
   */
  async bring(messages) {
    if (this.thread) {
      await this.threads.bring(this.thread, messages);
    }
  }

  /**
   * Makes a message of the open conversation part of the shown branch, and tells where it is.
   * @param {string} message
   */
  async reveal(message) {
    const { thread } = this;
    if (!thread?.knows(message)) {
      return;
    }
    const onBranch = thread.outline().some(({ id }) => id === message);
    const head = await this.threads.show(thread, message, onBranch ? thread.head : null);
    this.#emit("thread");
    this.#emit("found", message);
    if (!onBranch) {
      await this.api.change(thread.id, { head });
    }
  }

  /** @param {import("./connection.js").ServerEvent} event */
  #receive(event) {
    if (event.type === "accepted") {
      this.#accepted(event);
    } else if (event.type === "changed") {
      this.#hint(event.conversation, event.what);
    } else if (event.type === "error") {
      if (event.generation && !event.id) {
        // What we follow is not there any more: the conversation says what became of it.
        this.#hint(this.current, "updated");
      }
    } else if (event.generation && event.type !== "stopped") {
      this.streams.handle(event);
    }
  }

  /** @param {import("./connection.js").ServerEvent} event */
  #accepted({ conversation, user_message, assistant_message }) {
    this.streams.follow(assistant_message.generation.id, true);
    const thread = this.threads.of(conversation.id);
    thread.merge(user_message ? [user_message, assistant_message] : [assistant_message]);
    thread.choose(assistant_message.id);
    this.#outgoing.delete(conversation.id);
    this.conversations.merge([conversation]);
    this.#emit("thread");
  }

  /** @param {Message} message */
  #ended(message) {
    this.threads.get(message.conversation)?.merge([message]);
    if (message.conversation === this.current) {
      this.#emit("thread");
    }
  }

  #connected() {
    this.streams.followAgain();
    // Hints may have been lost meanwhile; of the first time, since the page was written: little
    // happens to what is not recent.
    const newest = this.conversations.get(this.current) ?? this.conversations.sorted[0];
    const age = Date.now() - Date.parse(newest?.updated_at ?? "");
    if (this.connected || age < RECENT_MS) {
      this.#hint(this.current, "updated");
    }
    this.connected = true;
  }

  /**
   * Something changed, perhaps in another tab or on another device.
   * @param {string | null} id
   * @param {string} what
   */
  #hint(id, what) {
    if (what === "deleted" && id !== null) {
      this.conversations.forget(id);
      this.threads.forget(id);
      if (id === this.current) {
        this.#emit("gone");
      }
      return;
    }
    this.later.run("list", () => this.conversations.refresh());
    if (id !== null && id === this.current) {
      this.later.run(id, () => this.refresh(id));
    }
  }

  /**
   * Somebody wants to see answers side by side.
   * @param {string[]} messages
   */
  compare(messages) {
    this.#emit("compare", messages);
  }

  /**
   * @param {string} type
   * @param {any} [detail]
   */
  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
