/** The notices above a page: maintenance and the announcement. */

// All open pages are told at once.
const LONGEST_DELAY_MS = 2000;

/** Return the element of the notices. @returns {HTMLElement | null} */
const container = () => document.querySelector("#site-notices");

/** Return the digest of the shown notices, "" if there is no place for them. */
export function shownNotices() {
  return container()?.dataset.digest ?? "";
}

/** Dismiss the announcement without leaving the page. */
export function wireNotices() {
  /** @type {HTMLFormElement | null} */
  const form = document.querySelector("form[data-dismiss]");
  form?.addEventListener("submit", (event) => {
    event.preventDefault();
    void fetch(form.action, {
      method: "POST",
      headers: { "X-Requested-With": "fetch" },
      body: new URLSearchParams(
        [...new FormData(form)].map(([name, value]) => [name, String(value)]),
      ),
    });
    form.closest(".site-notice")?.remove();
  });
}

/** Replace the shown notices by those of the server; keep them if it can't be reached. */
export async function refreshNotices() {
  await new Promise((resolve) => setTimeout(resolve, Math.random() * LONGEST_DELAY_MS));
  const shown = container();
  if (shown === null) {
    return;
  }
  const response = await fetch(shown.dataset.url ?? "").catch(() => null);
  if (!response?.ok || response.redirected) {
    return;
  }
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  const fresh = page.querySelector("#site-notices");
  if (fresh instanceof HTMLElement) {
    shown.replaceChildren(...fresh.children);
    shown.dataset.digest = fresh.dataset.digest;
    wireNotices();
  }
}
