/**
 * The page's WebSocket: reconnects automatically, and resolves commands as promises.
 *
 * A command without a response when the socket closes may or may not have reached the server. It is
 * sent once more with the same id, an idempotency key. If there is no response then, its promise
 * rejects.
 */
import { randomId } from "../lib/dom.js";
import { withErrorId } from "../lib/error-id.js";
import { dateTime, gettext } from "../lib/i18n.js";

const FIRST_RETRY_MS = 200;
const LONGEST_RETRY_MS = 5000;
const ANSWER_MS = 20_000;
const SIGNED_OUT = 4401;
const BAD_ORIGIN = 4403;

/**
 * @typedef {"connecting" | "open" | "reconnecting" | "signed-out" | "refused"} Status
 * @typedef {import("../lib/wire").Command} Command
 * @typedef {import("../lib/wire").ServerEvent} ServerEvent
 * @typedef {Extract<Command, {id: string}>} Request a command that has a response
 *
 * @typedef {object} Pending
 * @property {Request} command
 * @property {number} transmissions
 * @property {(event: ServerEvent) => void} resolve
 * @property {(error: CommandError) => void} reject
 * @property {any} timer
 */

/**
 * A command whose id may be left to the connection.
 * @template T
 * @typedef {T extends {id: string} ? Omit<T, "id"> & {id?: string} : never} WithoutId
 */

/** A command that was refused or got no response. */
export class CommandError extends Error {
  /**
   * @param {string} code
   * @param {string} message for the user
   * @param {boolean} [permanent]
   */
  constructor(code, message, permanent = false) {
    super(message);
    this.code = code;
    this.permanent = permanent;
  }
}

/**
 * Return the milliseconds before a retry: exponential backoff with jitter in the second half, so
 * that clients do not reconnect to a restarted server all at once.
 * @param {number} attempt from 0
 * @param {number} chance 0 to 1
 */
export function backOff(attempt, chance) {
  const longest = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** attempt);
  return longest / 2 + (longest / 2) * chance;
}

/** The session has ended. The page shows this in one place. */
export class SignedOut extends CommandError {
  constructor() {
    super("not_signed_in", gettext("You are signed out. Your text is kept."), true);
  }
}

/**
 * @param {import("../lib/wire").ErrorShape & {renews?: string, renews_at?: string}} error as the
 *   server sends it
 * @param {string | null} [id] of the request
 */
export function toError({ code, message, permanent, renews, renews_at }, id) {
  if (code === "not_signed_in") {
    return new SignedOut();
  }
  // The server words the renewal of a quota in its own time zone.
  const text = renews && renews_at ? message.replace(renews, dateTime(renews_at)) : message;
  return new CommandError(code, withErrorId(text, code, id), permanent);
}

export class Connection {
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {Map<string, Pending>} */
  #pending = new Map();
  #attempt = 0;
  /** @type {any} */
  #retryTimer = null;
  /** @type {Status} */
  status = "connecting";

  /**
   * @param {object} options
   * @param {() => string} options.url asked for each connection
   * @param {(event: ServerEvent) => void} options.onEvent called with all events and responses
   * @param {(status: Status) => void} options.onStatus
   * @param {() => void} options.onOpen called before pending commands are sent again
   * @param {(url: string) => WebSocket} [options.connect]
   * @param {{setTimeout: Function, clearTimeout: Function}} [options.clock]
   */
  constructor({ url, onEvent, onStatus, onOpen, connect, clock }) {
    this.url = url;
    this.onEvent = onEvent;
    this.onStatus = onStatus;
    this.onOpen = onOpen;
    this.connect = connect ?? ((/** @type {string} */ to) => new WebSocket(to));
    this.clock = clock ?? {
      setTimeout: setTimeout.bind(globalThis),
      clearTimeout: clearTimeout.bind(globalThis),
    };
  }

  start() {
    const socket = this.connect(this.url());
    this.#socket = socket;
    socket.onopen = () => {
      this.#attempt = 0;
      this.#become("open");
      this.onOpen();
      for (const pending of this.#pending.values()) {
        this.#transmit(pending);
      }
    };
    socket.onmessage = (message) => this.#receive(JSON.parse(message.data));
    socket.onclose = (event) => this.#closed(socket, event.code);
  }

  /** Reconnect at once: the network is back, or the page became visible. */
  hurry() {
    if (this.status === "reconnecting" && this.#socket === null) {
      this.clock.clearTimeout(this.#retryTimer);
      this.#attempt = 0;
      this.start();
    }
  }

  /** Replace the socket after a change of network: an open one may be dead. */
  renew() {
    if (this.status === "open") {
      this.#socket?.close();
    } else {
      this.hurry();
    }
  }

  /**
   * Send a command and return its response. Rejects with a `CommandError`.
   * @param {WithoutId<Request>} command
   * @returns {Promise<ServerEvent>}
   */
  request(command) {
    const id = command.id ?? randomId();
    return new Promise((resolve, reject) => {
      /** @type {Pending} */
      const pending = {
        command: /** @type {Request} */ ({ ...command, id }),
        transmissions: 0,
        resolve,
        reject,
        timer: this.clock.setTimeout(() => this.#lose(id), ANSWER_MS),
      };
      this.#pending.set(id, pending);
      if (this.status === "signed-out" || this.status === "refused") {
        this.#lose(id);
      } else if (this.status === "open") {
        this.#transmit(pending);
      }
    });
  }

  /**
   * Send a command without a response, if the socket is open.
   * @param {Exclude<Command, Request>} command
   */
  post(command) {
    if (this.status === "open") {
      this.#socket?.send(JSON.stringify(command));
    }
  }

  /** @param {Pending} pending */
  #transmit(pending) {
    if (pending.transmissions === 2) {
      this.#lose(pending.command.id);
      return;
    }
    pending.transmissions += 1;
    this.#socket?.send(JSON.stringify(pending.command));
  }

  /** @param {string} id */
  #lose(id) {
    const error =
      this.status === "signed-out"
        ? new SignedOut()
        : new CommandError(
            "connection_lost",
            gettext("The server can't be reached. Your text is kept; try again in a moment."),
          );
    this.#settle(id)?.reject(error);
  }

  /** @param {string} id */
  #settle(id) {
    const pending = this.#pending.get(id);
    if (pending) {
      this.#pending.delete(id);
      this.clock.clearTimeout(pending.timer);
    }
    return pending;
  }

  /** @param {ServerEvent} event */
  #receive(event) {
    // Update the page's state before the promise resolves.
    this.onEvent(event);
    if ("id" in event && event.id) {
      const pending = this.#settle(event.id);
      if (event.type === "error") {
        pending?.reject(toError(event.error, event.id));
      } else {
        pending?.resolve(event);
      }
    }
  }

  /**
   * @param {WebSocket} socket
   * @param {number} code
   */
  #closed(socket, code) {
    if (socket !== this.#socket) {
      return;
    }
    this.#socket = null;
    if (code === SIGNED_OUT || code === BAD_ORIGIN) {
      this.#become(code === SIGNED_OUT ? "signed-out" : "refused");
      for (const id of [...this.#pending.keys()]) {
        this.#lose(id);
      }
      return;
    }
    this.#become("reconnecting");
    const wait = backOff(this.#attempt, Math.random());
    this.#attempt += 1;
    this.#retryTimer = this.clock.setTimeout(() => this.start(), wait);
  }

  /** @param {Status} status */
  #become(status) {
    if (this.status !== status) {
      this.status = status;
      this.onStatus(status);
    }
  }
}
