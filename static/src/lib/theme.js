/** The chosen theme, stored for `before-paint.js`. */
import { remember } from "./storage.js";

/** Let the radio buttons named `theme` show and change the theme. */
export function followTheme() {
  const root = document.documentElement;
  for (const radio of document.querySelectorAll("input[name=theme]")) {
    const input = /** @type {HTMLInputElement} */ (radio);
    input.checked = input.value === (root.dataset.theme ?? "system");
    input.addEventListener("change", () => {
      if (input.value === "system") {
        delete root.dataset.theme;
        remember("theme", null);
      } else {
        root.dataset.theme = input.value;
        remember("theme", input.value);
      }
    });
  }
}
