/** Commands of the chat page, for keys and the command palette. */
import { byId } from "../lib/dom.js";
import { gettext } from "../lib/i18n.js";

/**
 * @typedef {import("../lib/shortcuts.js").Command} Command
 *
 * @typedef {object} Parts what the commands act on
 * @property {import("../chat/chat.js").Chat} chat
 * @property {import("../composer/composer.js").Composer} composer
 * @property {import("../messages/message-list.js").Messages} messages
 * @property {import("../messages/quote.js").Quote} quote
 * @property {import("../messages/autoscroll.js").Follow} follow
 * @property {import("./layout.js").SidebarFrame} frame
 * @property {() => void} newChat
 * @property {(() => void) | null} temporaryChat null where they are not available
 * @property {() => void} search
 * @property {() => void} openPalette
 * @property {() => void} openHelp
 */

/** Return the last turn of a kind. @param {string} kind */
function lastTurn(kind) {
  return document.querySelector(`.turn.${kind}:not(:has(~ .turn.${kind}))`);
}

/**
 * Click a button of the last turn of a kind.
 * @param {string} kind
 * @param {string} name
 */
function press(kind, name) {
  const button = lastTurn(kind)?.querySelector(`.actions button[data-action="${name}"]`);
  if (button instanceof HTMLButtonElement) {
    button.click();
  }
}

/** @param {string} theme */
function chooseTheme(theme) {
  const radio = document.querySelector(`input[name="theme"][value="${theme}"]`);
  if (radio instanceof HTMLInputElement) {
    radio.click();
  }
}

/** Return the links of the account menu as commands. @returns {Command[]} */
function fromMenu() {
  const menu = byId("account-menu");
  const links = [...menu.querySelectorAll("a.row-button")].map((link) => ({
    label: link.textContent?.trim() ?? "",
    icon: "settings",
    run: () => /** @type {HTMLAnchorElement} */ (link).click(),
  }));
  const languages = [...menu.querySelectorAll(".languages button")].map((button) => ({
    label: `${gettext("Language")}: ${button.textContent?.trim()}`,
    icon: "settings",
    when: () => !button.hasAttribute("aria-current"),
    run: () => /** @type {HTMLButtonElement} */ (button).click(),
  }));
  return [...languages, ...links];
}

/**
 * @param {Parts} parts
 * @returns {Command[]}
 */
export function commandsOf(parts) {
  const { chat, composer, messages, quote, follow, frame } = parts;
  const answered = () => lastTurn("answer") !== null;
  const idle = () => answered() && chat.openMessage === null;
  return [
    {
      label: gettext("Commands and conversations"),
      keys: "Mod+K",
      hidden: true,
      run: parts.openPalette,
    },
    { label: gettext("New chat"), icon: "new", keys: "Mod+Shift+O", run: parts.newChat },
    ...(parts.temporaryChat
      ? [{ label: gettext("Temporary chat"), icon: "temporary", run: parts.temporaryChat }]
      : []),
    { label: gettext("Search"), icon: "search", keys: "Mod+Shift+F", run: parts.search },
    {
      label: gettext("Show or hide conversations"),
      icon: "sidebar",
      keys: "Mod+Shift+S",
      run: () => frame.show(document.documentElement.dataset.sidebar !== "open"),
    },
    {
      label: gettext("Focus the message box"),
      icon: "edit",
      keys: "Shift+Escape",
      run: () => composer.focus(),
    },
    {
      label: gettext("Stop"),
      icon: "stop",
      keys: "Escape",
      // Escape closes overlays first.
      when: () =>
        chat.openMessage !== null &&
        document.querySelector(":popover-open") === null &&
        document.documentElement.dataset.drawer !== "true",
      run: () => byId("send").click(),
    },
    {
      label: gettext("Edit the last message"),
      icon: "edit",
      keys: "Mod+ArrowUp",
      when: () => lastTurn("user") !== null,
      run: () => press("user", "edit"),
    },
    {
      label: gettext("Copy the last answer"),
      icon: "copy",
      keys: "Mod+Shift+C",
      when: answered,
      run: () => press("answer", "copy"),
    },
    {
      label: gettext("Regenerate"),
      icon: "again",
      when: idle,
      run: () => press("answer", "again"),
    },
    {
      label: gettext("Quote the selection"),
      icon: "quote",
      when: () => quote.selected() !== "",
      run: () => quote.quote(),
    },
    {
      label: gettext("Jump to latest"),
      icon: "down",
      keys: "Mod+End",
      when: answered,
      run: () => follow.toEnd(true),
    },
    {
      label: gettext("Print conversation"),
      icon: "file",
      keys: "Mod+P",
      when: answered,
      // If the rest can't be loaded, print what is.
      run: () => messages.showAll().then(print, print),
    },
    {
      label: gettext("Theme: light"),
      icon: "settings",
      run: () => chooseTheme("light"),
    },
    { label: gettext("Theme: dark"), icon: "settings", run: () => chooseTheme("dark") },
    {
      label: gettext("Theme: system"),
      icon: "settings",
      run: () => chooseTheme("system"),
    },
    {
      label: gettext("Account and settings"),
      icon: "settings",
      run: () => {
        frame.show(true);
        byId("account-menu").showPopover();
        byId("account-menu").querySelector("input:checked, input")?.focus();
      },
    },
    ...fromMenu(),
    { label: gettext("Keyboard shortcuts"), icon: "key", keys: "?", run: parts.openHelp },
    { label: gettext("Keyboard shortcuts"), keys: "Mod+/", hidden: true, run: parts.openHelp },
  ];
}
