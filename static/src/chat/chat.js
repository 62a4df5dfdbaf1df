/**
 * State of the chat page: commands of the user and events of the server. Views listen for
 * `thread` (the shown branch or its messages changed), `stream` (the text of one answer), `open`
 * (another conversation is shown), `status` (of the connection) and `ratings` (of answers).
 */
import { CommandError, Connection } from "../server/connection.js";
import { Coalescer } from "../lib/coalescer.js";
import { Ratings } from "./ratings.js";
import { Streams } from "./streams.js";
import { TemporaryChat } from "./temporary.js";
import { isOpen } from "./thread.js";
import { Threads } from "./threads.js";
import { selectionsOf } from "../attachments/selection.js";

/**
 * @typedef {import("../lib/wire").Conversation} Conversation
 * @typedef {import("./thread.js").Thread} Thread
 * @typedef {import("../lib/wire").Message} Message
 * @typedef {import("../lib/wire").Accepted} Accepted
 * @typedef {import("../lib/wire").Send | import("../lib/wire").Edit
 *   | import("../lib/wire").Regenerate | import("../lib/wire").Continue} TurnCommand
 * @typedef {import("../server/connection.js").CommandError} Refusal
 * @typedef {{content: string, attachments: import("../lib/wire").Attachment[]}} Outgoing a message that the server has not accepted yet
 */

const NEW = "new";
const RECENT_MS = 5 * 60_000;
/** No version of a head: that of the response does not count. */
const STALE = -1;

export class Chat extends EventTarget {
  /** @type {Map<string, Outgoing>} by conversation or "new" */
  #outgoing = new Map();
  /** @type {string | null} the conversation that is shown */
  current = null;
  /** @type {Refusal | null} why the current conversation can't be shown */
  failure = null;
  /** Conversations that are being prefetched. @type {Set<string>} */
  #prefetched = new Set();
  /** Incremented with each conversation that is opened. */
  #visit = 0;
  /** Whether documents are being searched for a command of this page. */
  searching = false;
  /** Return the ids of collections of a chat that is not saved. @type {() => string[]} */
  unsavedCollections = () => [];
  /** The temporary chat of this tab, shown or not. @type {TemporaryChat | null} */
  temporary = null;

  /**
   * @param {object} options
   * @param {import("../server/api.js").Api} options.api
   * @param {import("./conversations.js").Conversations} options.conversations
   * @param {() => string} options.socketUrl
   * @param {() => string | null} options.assistant id of the chosen assistant
   * @param {string} options.person the user's name
   */
  constructor({ api, conversations, socketUrl, assistant, person }) {
    super();
    this.person = person;
    this.assistant = assistant;
    this.api = api;
    this.conversations = conversations;
    this.streams = new Streams({
      post: (command) => this.connection.post(command),
      onChange: (stream) => this.#emit("stream", stream),
      onEnd: (_stream, message) => this.#ended(message),
    });
    this.threads = new Threads(api, this.streams);
    this.ratings = new Ratings(api);
    this.ratings.addEventListener("change", () => this.#emit("ratings"));
    this.connection = new Connection({
      url: socketUrl,
      onEvent: (event) => this.#receive(event),
      onOpen: () => this.#connected(),
      onStatus: (status) => this.#emit("status", status),
    });
    this.coalescer = new Coalescer();
    this.connected = false;
  }

  /** @returns {Thread | null} */
  get thread() {
    if (this.temporary?.id === this.current) {
      return this.temporary?.thread ?? null;
    }
    return this.current === null ? null : this.threads.get(this.current);
  }

  /** The temporary chat, if it is shown. */
  get shownTemporary() {
    return this.temporary?.id === this.current ? this.temporary : null;
  }

  /** @returns {Outgoing | null} */
  get outgoing() {
    return this.#outgoing.get(this.current ?? NEW) ?? null;
  }

  /** The answer of the shown branch that is still being generated. @returns {Message | null} */
  get openMessage() {
    const message = this.thread?.openMessage() ?? null;
    return this.streams.get(message?.generation?.id ?? "")?.stopping ? null : message;
  }

  /**
   * Initialize from the page's data: a conversation, an error, or neither.
   * @param {import("../lib/wire").Opening | null} data
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
   * Show a conversation, null for a new one.
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

  /** Show the temporary chat of this tab; start one if there is none. */
  openTemporary() {
    if (!this.temporary) {
      this.temporary = TemporaryChat.restore(this.person) ?? new TemporaryChat(this.person);
      for (const { id, content, generation } of this.temporary.thread.messages.values()) {
        if (generation && isOpen(generation)) {
          this.streams.follow(generation.id);
        } else if (generation && id) {
          this.streams.settle(generation.id, content);
        }
      }
    }
    this.#visit += 1;
    this.current = this.temporary.id;
    this.failure = null;
    this.#emit("open");
  }

  /** Discard the temporary chat of this tab and stop its answers. */
  discardTemporary() {
    const { temporary } = this;
    const saved = temporary ?? TemporaryChat.restore(this.person);
    this.temporary = null;
    saved?.discard();
    for (const { generation } of temporary?.openAnswers ?? []) {
      this.connection.request({ type: "stop", generation: generation?.id ?? "" }).catch(() => {});
    }
  }

  /** Save the temporary chat in the tab, with the streamed text of open answers. */
  saveTemporary() {
    this.temporary?.save(
      ({ content, generation }) => this.streams.get(generation?.id ?? "")?.text || content,
    );
  }

  /**
   * Merge a conversation as an endpoint returns it.
   * @param {import("../lib/wire").Opening} data
   * @param {number} [headVersion] of the thread when the request was sent
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
    const { headVersion, headSaves } = this.threads.get(id) ?? { headVersion: 0, headSaves: 0 };
    this.adopt(await this.api.conversation(id), headSaves ? STALE : headVersion);
  }

  /**
   * Prefetch a conversation that is likely to be opened. Errors are shown when it is opened.
   * @param {string} id
   */
  async prefetch(id) {
    if (!this.threads.get(id) && !this.#prefetched.has(id)) {
      this.#prefetched.add(id);
      const data = await this.api.conversation(id).catch(() => null);
      this.#prefetched.delete(id);
      if (data && !this.threads.get(id)) {
        this.threads.adopt(data);
      }
    }
  }

  /**
   * Send a message after the shown branch. Rejects with a `CommandError`.
   * @param {string} content
   * @param {string} model
   * @param {import("../lib/wire").Attachment[]} [files]
   * @param {{keep_latest?: boolean, collections?: string[]}} [more] further fields of the command
   */
  async send(content, model, files = [], more = {}) {
    if (this.shownTemporary) {
      return this.#sendTemporary(this.shownTemporary, content, model);
    }
    const conversation = this.current;
    const key = conversation ?? NEW;
    const parent = this.thread?.path().at(-1)?.id ?? null;
    this.#outgoing.set(key, { content, attachments: files });
    const attachments = files.map(({ id }) => id);
    const selections = selectionsOf(files);
    this.#emit("thread");
    const visit = this.#visit;
    try {
      await this.streams.stopped(this.thread?.openMessage()?.generation?.id);
      const accepted = await this.#request({
        type: "send",
        content,
        attachments,
        selections,
        model,
        assistant: this.assistant(),
        conversation,
        parent,
        ...more,
      });
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
   * @param {import("../lib/wire").Attachment[]} files
   */
  edit(message, content, model, files) {
    const temporary = this.shownTemporary;
    if (temporary) {
      const parent = temporary.thread.messages.get(message)?.parent ?? null;
      return this.#askTemporary(temporary, temporary.question(content, parent), model);
    }
    return this.#request({
      type: "edit",
      message,
      content,
      attachments: files.map(({ id }) => id),
      selections: selectionsOf(files),
      model,
      assistant: this.assistant(),
    });
  }

  /**
   * @param {string} message
   * @param {string} model
   * @param {string | null} [assistant] the chosen one by default
   */
  regenerate(message, model, assistant = this.assistant()) {
    const temporary = this.shownTemporary;
    if (temporary) {
      const { messages } = temporary.thread;
      const question = messages.get(messages.get(message)?.parent ?? "");
      if (question) {
        return this.#askTemporary(temporary, question, model, { assistant });
      }
    }
    return this.#request({ type: "regenerate", message, model, assistant });
  }

  /**
   * Continue a truncated answer.
   * @param {string} message
   */
  continueAnswer(message) {
    const temporary = this.shownTemporary;
    const answer = temporary?.thread.messages.get(message);
    const question = temporary?.thread.messages.get(answer?.parent ?? "");
    if (temporary && answer?.generation && question) {
      const { model, assistant } = answer.generation;
      const more = { assistant: assistant?.id ?? null, continued: answer };
      return this.#askTemporary(temporary, question, model, more);
    }
    return this.#request({ type: "continue", message });
  }

  /** Stop the open answer. The page shows it as stopped before the server confirms. */
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
   * Show the newest branch under another alternative.
   * @param {string} message
   */
  async chooseBranch(message) {
    const { thread } = this;
    if (thread) {
      const head = await this.threads.show(thread, message);
      this.#emit("thread");
      await this.#saveHead(thread, head);
    }
  }

  /**
   * @param {Thread} thread
   * @param {string} head
   */
  async #saveHead(thread, head) {
    if (thread === this.temporary?.thread) {
      this.saveTemporary();
    } else {
      thread.headSaves += 1;
      try {
        await this.api.change(thread.id, { head });
      } finally {
        thread.headSaves -= 1;
      }
    }
  }

  /**
   * Load messages of other branches.
   * @param {string[]} messages
   */
  async bring(messages) {
    if (this.thread) {
      await this.threads.bring(this.thread, messages);
    }
  }

  /**
   * Show the branch of a message of the open conversation, and emit `found`.
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
      await this.#saveHead(thread, head);
    }
  }

  /**
   * Send a message of the temporary chat, which is shown while the server has not accepted it.
   * @param {TemporaryChat} temporary
   * @param {string} content
   * @param {string} model
   */
  async #sendTemporary(temporary, content, model) {
    const { thread } = temporary;
    this.#outgoing.set(temporary.id, { content, attachments: [] });
    this.#emit("thread");
    try {
      await this.streams.stopped(thread.openMessage()?.generation?.id);
      const question = temporary.question(content, thread.path().at(-1)?.id ?? null);
      return await this.#askTemporary(temporary, question, model);
    } finally {
      this.#outgoing.delete(temporary.id);
      this.#emit("thread");
    }
  }

  /**
   * Request an answer in the temporary chat. Rejects with a `CommandError`; then nothing changes.
   * @param {TemporaryChat} temporary
   * @param {Message} question of the thread, or a new one
   * @param {string} model
   * @param {{assistant?: string | null, continued?: Message}} [more]
   * @returns {Promise<{assistant_message: Message}>}
   */
  async #askTemporary(temporary, question, model, { assistant, continued } = {}) {
    const { role, content } = question;
    const accepted = await this.connection.request({
      type: "temporary",
      messages: [
        ...temporary.branch(question.parent),
        { role: /** @type {"user"} */ (role), content },
      ],
      model,
      assistant: assistant === undefined ? this.assistant() : assistant,
      keep_latest: temporary.keepLatest,
      collections: this.unsavedCollections(),
      resume_text: continued?.content ?? "",
    });
    const { generation } = /** @type {import("../lib/wire").TemporaryAccepted} */ (accepted);
    const answer = continued
      ? { ...continued, generation }
      : temporary.answer(generation, question.id);
    temporary.thread.merge([question, answer]);
    temporary.thread.choose(answer.id);
    this.#outgoing.delete(temporary.id);
    this.saveTemporary();
    this.#emit("thread");
    return { assistant_message: answer };
  }

  /**
   * Send a command that starts an answer. Rejects with a `CommandError`.
   * @param {import("../server/connection.js").WithoutId<TurnCommand>} command
   * @returns {Promise<Accepted>}
   */
  async #request(command) {
    return /** @type {Accepted} */ (await this.connection.request(command));
  }

  /** @param {import("../lib/wire").ServerEvent} event */
  #receive(event) {
    if (event.type === "searching") {
      this.searching = true;
      this.#emit("thread");
    } else if (event.type === "accepted") {
      this.searching = false;
      this.#accepted(event);
    } else if (event.type === "changed") {
      if (event.conversation === null) {
        this.#listHint();
      } else {
        this.#hint(event.conversation, event.what);
      }
    } else if (event.type === "notices") {
      this.#emit("notices");
    } else if (event.type === "error") {
      if (this.searching && event.id) {
        this.searching = false;
        this.#emit("thread");
      }
      if (event.generation && this.temporary?.answerOf(event.generation)) {
        this.#failTemporary(event.generation, event.error);
      } else if (event.generation && !event.id) {
        // The stream no longer exists: the conversation has its outcome.
        this.#hint(this.current, "updated");
      }
    } else if (event.type === "temporary_accepted") {
      this.searching = false;
      // Its deltas may arrive before the response is handled.
      this.streams.follow(event.generation.id, true);
    } else if ("generation" in event && event.type !== "stopped") {
      this.streams.handle(event);
    }
  }

  /** @param {Accepted} event */
  #accepted({ conversation, user_message, assistant_message }) {
    if (assistant_message.generation) {
      this.streams.follow(assistant_message.generation.id, true);
    }
    const thread = this.threads.of(conversation.id);
    thread.merge(user_message ? [user_message, assistant_message] : [assistant_message]);
    thread.choose(assistant_message.id);
    this.#outgoing.delete(conversation.id);
    this.conversations.merge([conversation]);
    this.#emit("thread");
  }

  /**
   * The server no longer has an answer of the temporary chat: keep the text that has arrived.
   * @param {string} id of the generation
   * @param {import("../lib/wire").ErrorShape} error
   */
  #failTemporary(id, error) {
    const message = this.temporary?.answerOf(id);
    if (message?.generation && isOpen(message.generation)) {
      const text = this.streams.get(id)?.text || message.content;
      this.temporary?.end(text, { ...message.generation, state: "interrupted", error });
      this.streams.settle(id, text);
      this.saveTemporary();
      this.#emit("thread");
    }
  }

  /** @param {Message} message */
  #ended(message) {
    if (message.conversation === "") {
      if (message.generation) {
        // Only this page knows the sources: the server has not stored them.
        const known = this.temporary?.answerOf(message.generation.id)?.generation?.sources ?? null;
        this.temporary?.end(message.content, { ...message.generation, sources: known });
        this.saveTemporary();
        this.#emit("thread");
      }
      return;
    }
    this.threads.get(message.conversation)?.merge([message]);
    if (message.conversation === this.current) {
      this.#emit("thread");
    }
    this.#emit("settled");
  }

  #connected() {
    this.streams.followAgain();
    // Hints may have been lost while disconnected, or since the page was rendered. In the second
    // case an old conversation is unlikely to have changed.
    const newest = this.conversations.get(this.current) ?? this.conversations.sorted[0];
    const age = Date.now() - Date.parse(newest?.updated_at ?? "");
    if (this.connected || age < RECENT_MS) {
      this.#hint(this.shownTemporary ? null : this.current, "updated");
    }
    this.connected = true;
  }

  /**
   * Handle a hint: something changed, maybe in another tab or on another device.
   * @param {string | null} id
   * @param {string} what
   */
  #hint(id, what) {
    if (what === "deleted" && id !== null) {
      this.#forget(id);
      return;
    }
    this.coalescer.run("list", () => this.conversations.refresh());
    if (id !== null && id === this.current) {
      this.coalescer.run(id, () => this.#refreshOrForget(id));
    }
  }

  /** Handle a hint that many conversations or a folder changed. */
  #listHint() {
    this.coalescer.run("whole list", () => this.conversations.reload(this.current));
    const id = this.current;
    if (id !== null && !this.shownTemporary) {
      this.coalescer.run(id, () => this.#refreshOrForget(id));
    }
  }

  /** @param {string} id */
  async #refreshOrForget(id) {
    try {
      await this.refresh(id);
    } catch (error) {
      // A refusal that is already shown stays.
      if (error instanceof CommandError && error.code === "not_found" && !this.failure) {
        this.#forget(id);
      }
    }
  }

  /** Forget a conversation that was deleted. @param {string} id */
  #forget(id) {
    this.conversations.forget(id);
    this.threads.forget(id);
    if (id === this.current) {
      this.#emit("gone");
    }
  }

  /**
   * Request to show answers side by side.
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
