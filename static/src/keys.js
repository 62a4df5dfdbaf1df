/**
 * What can be done by key, and by name in the palette: one list for both, and for the help sheet.
 *
 * @typedef {object} Command
 * @property {string} label
 * @property {string} [icon]
 * @property {string} [keys] as in "Mod+Shift+O"; `Mod` is Ctrl, on Apple's keyboards ⌘
 * @property {() => boolean} [when] whether it can be done now
 * @property {boolean} [hidden] not in the palette: it is about what is done there already
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
    // A "?" needs Shift on some keyboards and not on others.
    (key === "?" || event.shiftKey === wanted.includes("Shift")) &&
    !event.altKey
  );
}

/**
 * Whether a key press in a text box sends what is written. An Enter that ends a composition
 * (Chinese, Japanese, Korean) chooses a word; Safari sends it after the composition's end, with an
 * old key code. The keyboard of a phone has no Shift+Enter: its Enter begins a new line.
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
 * The keys as they are written on the keyboard.
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
 * Whether a key press belongs to what somebody writes: a sign, or an Escape from a small form.
 * @param {KeyboardEvent} event
 * @param {string} keys
 */
function belongsToText({ target }, keys) {
  const box = target instanceof Element && target.closest("input, textarea, select");
  return box ? keys.length === 1 || (keys === "Escape" && box.id !== "message") : false;
}

/**
 * Runs commands by their keys. None does anything while a dialog waits for an answer.
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
