import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import MarkdownIt from "markdown-it";
import { withCitations } from "../../src/markdown/citations.js";
import { withFootnotes } from "../../src/markdown/footnotes.js";
import { withMath } from "../../src/markdown/math.js";

const cases = JSON.parse(
  readFileSync(new URL("../../../tests/cases/citations.json", import.meta.url), "utf8"),
);
const parser = new MarkdownIt({ html: false, linkify: true });
withMath(parser);
withFootnotes(parser);
withCitations(parser);

const render = (/** @type {string} */ text, /** @type {number} */ count) =>
  parser.render(text, { cites: { count, labels: {} } });

for (const { why, text, clean, passages, marks } of cases) {
  test(`marks: ${why}`, () => {
    const found = [...render(text, passages).matchAll(/data-cite="(\d+)"/gu)];
    assert.deepEqual(
      found.map(([, number]) => Number(number)),
      marks,
    );
    // While it is streamed, an answer looks as it does once it is saved.
    assert.equal(render(text, passages), render(clean, passages));
  });
}

test("without documents all brackets are text", () => {
  assert.equal(parser.render("So [1].", {}), "<p>So [1].</p>\n");
});
