/** Texts about cited passages. */
import { fill, gettext } from "../lib/i18n.js";

/**
 * @typedef {import("../lib/wire").Sources} Sources
 * @typedef {import("../lib/wire").CitedPassage} CitedPassage
 */

/**
 * Return where a passage is: "page 3", "pages 3–4", "" where there are no pages.
 * @param {{page: number | null, last_page: number | null}} passage
 */
export function place({ page, last_page: last }) {
  if (page === null) {
    return "";
  }
  return last === null || last === page
    ? fill(gettext("page {page}"), { page })
    : fill(gettext("pages {first}–{last}"), { first: page, last });
}

/**
 * Return the name of a passage's document and its place.
 * @param {Sources} sources
 * @param {CitedPassage} passage
 */
export function source({ documents }, passage) {
  const document = documents.find(({ id }) => id === passage.document);
  if (!document || document.state === "deleted") {
    return gettext("Deleted document");
  }
  if (document.state === "denied") {
    return gettext("Document that you can no longer access");
  }
  const where = place(passage);
  return where
    ? fill(gettext("{name}, {place}"), { name: document.name, place: where })
    : document.name;
}

/** @type {WeakMap<Sources, import("../markdown/citations.js").Cites>} */
const known = new WeakMap();

/**
 * Return what an answer with these sources may cite; undefined if no documents were searched.
 * @param {Sources | null | undefined} sources
 */
export function citesOf(sources) {
  if (!sources) {
    return undefined;
  }
  let cites = known.get(sources);
  if (!cites) {
    const labels = Object.fromEntries(
      sources.passages.map((one) => [
        one.number,
        fill(gettext("Source {number}: {source}"), {
          number: one.number,
          source: source(sources, one),
        }),
      ]),
    );
    cites = { count: sources.passages.length, labels };
    known.set(sources, cites);
  }
  return cites;
}
