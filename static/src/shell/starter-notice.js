/** Notice for administrators that the starter model is for evaluation only. */
import { byId, h, iconButton } from "../lib/dom.js";
import { gettext } from "../lib/i18n.js";
import { recall, remember } from "../lib/storage.js";

const KEY = "starter";

/** @param {string} catalogue URL of the page with models for this machine */
export function showStarterCard(catalogue) {
  if (recall(KEY) !== null || document.querySelector(".starter")) {
    return;
  }
  const dismiss = iconButton("close", gettext("Dismiss"), () => {
    remember(KEY, "dismissed");
    card.remove();
    byId("message").focus();
  });
  const card = h(
    "aside",
    { className: "notice starter", "aria-label": gettext("Starter model") },
    h(
      "span",
      {},
      gettext("This starter model is only for trying out. Choose a better one for this machine."),
    ),
    h("a", { className: "button", href: catalogue }, gettext("Choose a model")),
    dismiss,
  );
  byId("welcome").after(card);
}
