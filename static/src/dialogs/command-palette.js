/** The command palette and the sheet of keyboard shortcuts. */
import { h, icon } from "../lib/dom.js";
import { gettext } from "../lib/i18n.js";
import { keyNames } from "../lib/shortcuts.js";

/**
 * @typedef {import("../lib/shortcuts.js").Command} Command
 * @typedef {{label: string, detail?: string, icon: string, keys?: string, run: () => void}} Entry
 */

/** Number of offered conversations, and delay before the server is searched, in ms. */
const MOST = 12;
const RECENT = 5;
/** Number of commands above them. */
const FIRST = 2;
const PATIENCE = 160;

/** @param {string} text without case and accents */
function plain(text) {
  return text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
}

/**
 * Return whether a label contains all words of a query.
 * @param {string} label
 * @param {string} asked
 */
export function fits(label, asked) {
  const text = plain(label);
  return plain(asked)
    .split(/\s+/u)
    .every((word) => text.includes(word));
}

/** @param {string} keys */
function keyCaps(keys) {
  return h("span", { className: "keys" }, ...keyNames(keys).map((key) => h("kbd", {}, key)));
}

/** Return a dialog that is removed on close. @param {string} label @param {string} className */
function sheet(label, className) {
  const dialog = h("dialog", { className, "aria-label": label });
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) {
      dialog.close();
    }
  });
  document.body.append(dialog);
  return dialog;
}

/**
 * @param {object} options
 * @param {Command[]} options.commands
 * @param {import("../models/model-choice.js").Entry[]} options.models
 * @param {import("../chat/conversations.js").Conversations} options.conversations
 * @param {import("../server/api.js").Api} options.api
 * @param {(id: string, message: string | null) => void} options.open
 */
export function openPalette({ commands, models, conversations, api, open }) {
  const dialog = sheet(gettext("Commands and conversations"), "palette");
  const box = h("input", {
    type: "text",
    role: "combobox",
    autocomplete: "off",
    placeholder: gettext("Type a command or a conversation's title"),
    "aria-label": gettext("Type a command or a conversation's title"),
    "aria-expanded": "true",
    "aria-controls": "palette-list",
    "aria-autocomplete": "list",
  });
  const list = h("div", { role: "listbox", "aria-label": gettext("Commands and conversations") });
  list.id = "palette-list";
  const empty = h("p", { className: "palette-empty", role: "status", hidden: true });
  dialog.append(box, list, empty);

  /** @type {Entry[]} */
  let entries = [];
  let at = 0;
  let turn = 0;
  /** @type {any} */
  let timer = null;

  const choose = (/** @type {number} */ index) => {
    at = Math.max(0, Math.min(index, entries.length - 1));
    const options = [...list.querySelectorAll('[role="option"]')];
    options.forEach((option, place) => (option.ariaSelected = String(place === at)));
    options[at]?.scrollIntoView({ block: "nearest" });
    box.setAttribute("aria-activedescendant", options[at]?.id ?? "");
  };
  const run = (/** @type {Entry | undefined} */ entry) => {
    if (entry) {
      dialog.close();
      entry.run();
    }
  };
  const show = (/** @type {Entry[]} */ found) => {
    entries = found;
    list.replaceChildren(
      ...found.map((entry, place) =>
        h(
          "div",
          { role: "option", id: `palette-${place}`, onclick: () => run(entry) },
          icon(entry.icon),
          h("span", { className: "palette-label", dir: "auto" }, entry.label),
          entry.detail ? h("span", { className: "palette-detail" }, entry.detail) : null,
          entry.keys ? keyCaps(entry.keys) : null,
        ),
      ),
    );
    empty.hidden = found.length > 0;
    empty.textContent = found.length > 0 ? "" : gettext("Nothing found");
    choose(0);
  };
  const conversation = (/** @type {string} */ id, /** @type {string} */ title) => ({
    label: title || gettext("Untitled"),
    icon: "chat",
    detail: gettext("Conversation"),
    run: () => open(id, null),
  });
  const local = (/** @type {string} */ asked) => {
    const able = commands
      .filter(({ hidden, when, label }) => !hidden && (when?.() ?? true) && fits(label, asked))
      .map((command) => ({ ...command, icon: command.icon ?? "forward" }));
    const choices = models
      .filter(({ label, model }) => asked && fits(`${label} ${model}`, asked))
      .map(({ label, model, run }) => ({ label, run, icon: "assistant", detail: model }));
    const chats = conversations.sorted
      .filter(({ title }) => fits(title, asked))
      .slice(0, asked ? MOST : RECENT)
      .map(({ id, title }) => conversation(id, title));
    // Without a query the recent conversations are offered.
    const first = asked ? able.length : FIRST;
    return [...able.slice(0, first), ...choices, ...chats, ...able.slice(first)];
  };
  const ask = async (/** @type {string} */ asked) => {
    turn += 1;
    const mine = turn;
    const known = local(asked);
    const { results } = await api.search(asked, null);
    if (mine === turn && dialog.open) {
      const shown = new Set(conversations.sorted.slice(0, MOST).map(({ id }) => id));
      const more = results.filter((result) => !shown.has(result.conversation.id)).slice(0, MOST);
      const added = more.map(({ conversation: one, hits }) => ({
        ...conversation(one.id, one.title),
        run: () => open(one.id, hits[0]?.message ?? null),
      }));
      const chosen = at;
      show([...known, ...added]);
      choose(chosen);
    }
  };

  box.addEventListener("input", () => {
    const asked = box.value.trim();
    turn += 1;
    show(local(asked));
    clearTimeout(timer);
    if (asked) {
      timer = setTimeout(() => ask(asked).catch(() => {}), PATIENCE);
    }
  });
  box.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && entries.length > 0) {
      event.preventDefault();
      choose((at + step + entries.length) % entries.length);
    } else if (event.key === "Enter" && !event.isComposing) {
      event.preventDefault();
      run(entries[at]);
    }
  });
  dialog.showModal();
  box.focus();
  show(local(""));
}

/** @param {Command[]} commands */
export function openHelp(commands) {
  const dialog = sheet(gettext("Keyboard shortcuts"), "shortcuts");
  const rows = [
    { label: gettext("Send the message"), keys: "Enter" },
    { label: gettext("New line"), keys: "Shift+Enter" },
    ...commands.filter(
      ({ keys, label }, place) =>
        keys && commands.findIndex((other) => other.label === label) === place,
    ),
  ];
  const close = h("button", { type: "button", className: "button" }, gettext("Close"));
  close.onclick = () => dialog.close();
  dialog.append(
    h("h2", {}, gettext("Keyboard shortcuts")),
    h(
      "dl",
      {},
      ...rows.map(({ label, keys }) =>
        h("div", {}, h("dt", {}, label), h("dd", {}, keyCaps(keys ?? ""))),
      ),
    ),
    h("div", { className: "dialog-buttons" }, close),
  );
  dialog.showModal();
}
