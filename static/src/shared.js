/** The page of a shared conversation, a read-only copy. */
import { loadMarkdown } from "./answer/answer-body.js";
import { AnswerParts } from "./answer/answer-parts.js";
import { byId, copyFrom, h } from "./lib/dom.js";
import { gettext } from "./lib/i18n.js";

loadMarkdown();

/** @type {{role: string, content: string, syntax: import("./lib/wire").OutputSyntax}[]} */
const messages = JSON.parse(byId("messages").textContent);
const thread = byId("thread");

for (const { role, content, syntax } of messages) {
  const user = role === "user";
  const heading = h(
    "h2",
    { className: "sr-only" },
    user ? gettext("You said:") : gettext("Answer:"),
  );
  if (user) {
    const bubble = h("div", { className: "bubble", dir: "auto" }, content);
    thread.append(h("div", { className: "turn user" }, heading, bubble));
  } else {
    const article = h("article", { "aria-label": gettext("Answer") });
    new AnswerParts(article).show(content, { complete: true, syntax, reasoningMs: null });
    thread.append(h("div", { className: "turn answer" }, heading, article));
  }
}
thread.addEventListener("click", (/** @type {MouseEvent} */ event) => {
  const button = /** @type {Element} */ (event.target).closest("button.copy-code");
  if (button instanceof HTMLButtonElement) {
    const code = button.parentElement?.querySelector("code")?.textContent ?? "";
    copyFrom(button, code, gettext("Copied"));
  }
});
