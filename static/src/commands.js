/** The commands of the chat page. */
import { byId } from "./dom.js";
import { gettext } from "./i18n.js";

/**
 * @typedef {import("./keys.js").Command} Command
 *
 * @typedef {object} Parts what the commands act on
 * @property {import("./chat.js").Chat} chat
 * @property {import("./composer.js").Composer} composer
 * @property {import("./messages.js").Messages} messages
 * @property {import("./quote.js").Quote} quote
 * @property {import("./scroll.js").Follow} follow
 * @property {import("./layout.js").SidebarFrame} frame
 * @property {() => void} newChat
 * @property {() => void} search
 * @property {() => void} openPalette
 * @property {() => void} openHelp
 */

/** The last turn of a kind. @param {string} kind */
function lastTurn(kind) {
  return document.querySelector(`.turn.${kind}:not(:has(~ .turn.${kind}))`);
}

/**
 * Presses a button of the last turn of a kind.
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

/** What the account menu offers besides the theme, under its own names. @returns {Command[]} */
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
    { label: gettext("Search"), icon: "search", keys: "Mod+Shift+F", run: parts.search },
    {
      label: gettext("Show or hide conversations"),
      icon: "sidebar",
      keys: "Mod+Shift+S",
      run: () => frame.show(document.documentElement.dataset.sidebar !== "open"),
    },
    {
      label: gettext("To the message box"),
      icon: "edit",
      keys: "Shift+Escape",
      run: () => composer.focus(),
    },
    {
      label: gettext("Stop"),
      icon: "stop",
      keys: "Escape",
      // Escape closes what lies above the page first.
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
      label: gettext("Print the whole conversation"),
      icon: "file",
      keys: "Mod+P",
      when: answered,
      // Of what can't be had now, what is here.
      run: () => messages.showAll().then(print, print),
    },
    {
      label: gettext("Appearance: light"),
      icon: "settings",
      run: () => chooseTheme("light"),
    },
    { label: gettext("Appearance: dark"), icon: "settings", run: () => chooseTheme("dark") },
    {
      label: gettext("Appearance: as the system"),
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
