/** Shows the times of a page in the reader's time zone, to the second. */
import { locale } from "../lib/i18n.js";

const FORMAT = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "medium" });

/** @param {ParentNode} root */
export function localize(root) {
  for (const time of /** @type {NodeListOf<HTMLTimeElement>} */ (
    root.querySelectorAll("time[datetime]")
  )) {
    const moment = new Date(time.dateTime);
    if (!Number.isNaN(moment.getTime())) {
      time.title = time.dateTime;
      time.textContent = FORMAT.format(moment);
    }
  }
  const zone = FORMAT.resolvedOptions().timeZone;
  for (const name of root.querySelectorAll("[data-zone-name]")) {
    name.textContent = zone;
  }
  // Days of a filter begin in the reader's time zone.
  for (const field of /** @type {NodeListOf<HTMLInputElement>} */ (
    root.querySelectorAll("form[data-zone] input[name=zone]")
  )) {
    field.value = zone;
  }
}
