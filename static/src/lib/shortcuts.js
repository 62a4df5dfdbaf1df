/**
 * Commands with keyboard shortcuts: one list for keys, command palette and help.
 *
 * @typedef {object} Command
 * @property {string} label
 * @property {string} [icon]
 * @property {string} [keys] as in "Mod+Shift+O"; `Mod` is Ctrl, on Apple's keyboards ⌘
 * @property {() => boolean} [when] whether it is available now
 * @property {boolean} [hidden] not listed in the palette
 * @property {() => void} run
 */

const APPLE = /Mac|iPhone|iPad/u.test(globalThis.navigator?.platform ?? "");

/**
 * @param {KeyboardEvent} event
 * @param {string} keys
 */
export function matches(event, keys) {
  const wanted = keys.split("+");
  const key = wanted.at(-1)?.toLowerCase();
  const mod = wanted.includes("Mod");
  return (
    event.key.toLowerCase() === key &&
    (event.ctrlKey || event.metaKey) === mod &&
    // Some keyboard layouts need Shift for "?".
    (key === "?" || event.shiftKey === wanted.includes("Shift")) &&
    !event.altKey
  );
}

/**
 * Return whether a key press in a text box sends the message. Not an Enter that ends an IME
 * composition; Safari sends that after the end of the composition, with a legacy key code.
 * On-screen keyboards have no Shift+Enter: their Enter inserts a line break.
 * @param {KeyboardEvent} event
 */
export function sends(event) {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) {
    return false;
  }
  const touch = globalThis.matchMedia?.("(hover: none) and (pointer: coarse)").matches;
  return !touch || event.ctrlKey || event.metaKey;
}

/**
 * Return the names of keys as printed on the keyboard.
 * @param {string} keys
 */
export function keyNames(keys) {
  const names = /** @type {Record<string, string>} */ ({
    Mod: APPLE ? "\u2318" : "Ctrl",
    Escape: "Esc",
    ArrowUp: "\u2191",
    ArrowDown: "\u2193",
  });
  return keys.split("+").map((key) => names[key] ?? key);
}

/**
 * Return whether a key press is text input: a character, or Escape in a small form.
 * @param {KeyboardEvent} event
 * @param {string} keys
 */
function belongsToText({ target }, keys) {
  const box = target instanceof Element && target.closest("input, textarea, select");
  return box ? keys.length === 1 || (keys === "Escape" && box.id !== "message") : false;
}

/**
 * Run commands by their keys, except while a dialog is open.
 * @param {Command[]} commands
 */
export function listen(commands) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]")) {
      return;
    }
    const command = commands.find(({ keys, when }) => {
      return keys && matches(event, keys) && !belongsToText(event, keys) && (when?.() ?? true);
    });
    if (command) {
      event.preventDefault();
      command.run();
    }
  });
}
