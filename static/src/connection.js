/**
 * The one WebSocket of the page: reconnects by itself, answers commands with promises.
 *
 * A command that was sent and not answered when the socket drops may or may not have reached
 * the server. It is sent once more with the same id, by which the server recognises it; what
 * is not answered then is given back to the caller as lost.
 */
import { randomId } from "./dom.js";
import { gettext } from "./i18n.js";

const FIRST_RETRY_MS = 200;
const LONGEST_RETRY_MS = 5000;
const ANSWER_MS = 20_000;
const SIGNED_OUT = 4401;
const BAD_ORIGIN = 4403;

/**
 * @typedef {"connecting" | "open" | "reconnecting" | "signed-out" | "refused"} Status
 * @typedef {{type: string, id?: string, [key: string]: any}} Command
 * @typedef {{type: string, id?: string, error?: any, [key: string]: any}} ServerEvent
 * @typedef {object} Pending
 * @property {Command} command
 * @property {number} transmissions
 * @property {(event: ServerEvent) => void} resolve
 * @property {(error: CommandError) => void} reject
 * @property {any} timer
 */

/** A command that was refused, or that nobody answered. */
export class CommandError extends Error {
  /**
   * @param {string} code
   * @param {string} message fit to be shown
   * @param {boolean} [permanent]
   */
  constructor(code, message, permanent = false) {
    super(message);
    this.code = code;
    this.permanent = permanent;
  }
}

/**
 * Milliseconds before a retry: doubled each time, the later half of it by chance, so that a
 * restarted server does not get everybody at once.
 * @param {number} attempt from 0
 * @param {number} chance 0 to 1
 */
export function backOff(attempt, chance) {
  const longest = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** attempt);
  return longest / 2 + (longest / 2) * chance;
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
   * @param {string} options.url
   * @param {(event: ServerEvent) => void} options.onEvent all events, answers too
   * @param {(status: Status) => void} options.onStatus
   * @param {() => void} options.onOpen before unanswered commands are sent again
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
    const socket = this.connect(this.url);
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

  /** Tries at once: the network is back, or somebody looks at the page again. */
  hurry() {
    if (this.status === "reconnecting" && this.#socket === null) {
      this.clock.clearTimeout(this.#retryTimer);
      this.#attempt = 0;
      this.start();
    }
  }

  /** The network changed: a socket that looks open may be dead. */
  renew() {
    if (this.status === "open") {
      this.#socket?.close();
    } else {
      this.hurry();
    }
  }

  /**
   * Sends a command that is answered. Rejects with a `CommandError`.
   * @param {Command} command
   * @returns {Promise<ServerEvent>}
   */
  request(command) {
    const id = command.id ?? randomId();
    return new Promise((resolve, reject) => {
      /** @type {Pending} */
      const pending = {
        command: { ...command, id },
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
   * Sends a command that nobody waits for, if the socket is open.
   * @param {Command} command
   */
  post(command) {
    if (this.status === "open") {
      this.#socket?.send(JSON.stringify(command));
    }
  }

  /** @param {Pending} pending */
  #transmit(pending) {
    if (pending.transmissions === 2) {
      this.#lose(pending.command.id ?? "");
      return;
    }
    pending.transmissions += 1;
    this.#socket?.send(JSON.stringify(pending.command));
  }

  /** @param {string} id */
  #lose(id) {
    const message =
      this.status === "signed-out"
        ? gettext("You are signed out. Sign in again; your text is kept on this page.")
        : gettext("The server can't be reached. Your text is kept; try again in a moment.");
    this.#settle(id)?.reject(new CommandError("connection_lost", message));
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
    // The state of the page changes before whoever asked goes on.
    this.onEvent(event);
    if (event.id) {
      const pending = this.#settle(event.id);
      if (event.type === "error") {
        const { code, message, permanent } = event.error;
        pending?.reject(new CommandError(code, message, permanent));
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
