import assert from "node:assert/strict";
import { test } from "node:test";
import { notes, usedText } from "../../src/answer/answer-sources.js";
import { citesOf, place } from "../../src/documents/citation-text.js";

/** @param {Partial<import("../../src/lib/wire").Sources>} more */
const sources = (more) => ({
  mode: "words",
  missing: "",
  searched: 3,
  documents: [
    {
      id: "a",
      kind: /** @type {const} */ ("attachment"),
      name: "a.pdf",
      pages: 340,
      state: "available",
    },
    {
      id: "b",
      kind: /** @type {const} */ ("document"),
      name: "b.pdf",
      pages: 9,
      state: "available",
    },
    { id: "", kind: /** @type {const} */ ("document"), name: "", pages: null, state: "deleted" },
    { id: "d", kind: /** @type {const} */ ("document"), name: "", pages: null, state: "denied" },
  ],
  passages: [
    { number: 1, document: "a", page: 3, last_page: 4, passage: 1 },
    { number: 2, document: "a", page: 4, last_page: 4, passage: 2 },
    { number: 3, document: "b", page: null, last_page: null, passage: 3 },
    { number: 4, document: "", page: 1, last_page: 1, passage: null },
    { number: 5, document: "d", page: 1, last_page: 1, passage: null },
  ],
  removed: 0,
  ...more,
});

test("what was used is said", () => {
  const all = /** @type {any} */ (sources({}));
  assert.equal(usedText(all), "5 passages of 4 documents used");
  assert.deepEqual(notes(all), ["a.pdf: 2 of 340 pages are sent, those that match your question"]);
  const none = { ...all, documents: [], passages: [] };
  assert.equal(usedText(none), "Nothing matched; answered without documents");
  assert.match(usedText({ ...none, missing: "failed" }), /could not be searched/u);
  assert.match(usedText({ ...none, missing: "no_room" }), /No room/u);
  assert.deepEqual(notes({ ...none, missing: "no_model", removed: 2 }), [
    "Searched by keywords only: no embedding model",
    "2 citations without a passage were removed",
  ]);
});

test("labels name document and page, and say what is gone", () => {
  const cites = citesOf(/** @type {any} */ (sources({})));
  assert.deepEqual(cites, {
    count: 5,
    labels: {
      1: "Source 1: a.pdf, pages 3–4",
      2: "Source 2: a.pdf, page 4",
      3: "Source 3: b.pdf",
      4: "Source 4: Deleted document",
      5: "Source 5: Document that you can no longer access",
    },
  });
  assert.equal(citesOf(null), undefined);
  assert.equal(place({ page: null, last_page: null }), "");
});
