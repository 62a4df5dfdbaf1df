/** A part of a page that the server renders again every few seconds. */

const PERIOD = 2000;
const LONGEST = 30_000;

/**
 * Replace the element's content by what its `data-refresh` URL returns for `data-part`.
 * @param {HTMLElement} element
 */
export function refresh(element) {
  const { refresh: url = "", part = "" } = element.dataset;
  let failures = 0;
  let shown = "";

  async function poll() {
    try {
      const response = await fetch(url, { headers: { "X-Part": part } });
      if (response.redirected || response.status === 403) {
        location.reload(); // signed out, or the role changed
        return;
      }
      if (!response.ok) {
        throw new Error(String(response.status));
      }
      const html = await response.text();
      failures = 0;
      // A focused button stays; the part is replaced at the next poll.
      if (html !== shown && !element.contains(document.activeElement)) {
        element.innerHTML = html;
        shown = html;
      }
    } catch {
      failures += 1;
    }
  }

  async function repeat() {
    if (!document.hidden) {
      await poll();
    }
    setTimeout(() => void repeat(), Math.min(PERIOD * 2 ** failures, LONGEST));
  }
  setTimeout(() => void repeat(), PERIOD);
}
