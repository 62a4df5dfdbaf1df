import assert from "node:assert/strict";
import { test } from "node:test";
import MarkdownIt from "markdown-it";
import { Blocks } from "../src/blocks.js";
import { withFootnotes } from "../src/footnotes.js";
import { withMath } from "../src/math.js";

const parser = new MarkdownIt({ html: false });
withMath(parser);
withFootnotes(parser);

const formulas = (text) =>
  [...parser.render(text).matchAll(/class="math( display)?( source)?">([^<]*)</gu)].map(
    ([, display, , source]) => (display ? `$$${source}$$` : source),
  );

test("formulas are found by their marks", () => {
  assert.deepEqual(formulas("Let $x+1$ be \\(y\\), so \\[z\\] and $$w$$."), [
    "x+1",
    "y",
    "$$z$$",
    "$$w$$",
  ]);
  assert.deepEqual(formulas("$$\na\nb\n$$\n\n\\[\nc\n\\]"), ["$$a\nb$$", "$$c$$"]);
  assert.deepEqual(formulas("Text\n$$a$$\n- item\n  $$\n  b\n  $$"), ["$$a$$", "$$b$$"]);
  assert.deepEqual(formulas("$a_1 * b_1 * c$"), ["a_1 * b_1 * c"]);
  assert.deepEqual(formulas("$$ a $$ stands in a sentence"), ["$$a$$"]);
});

test("prices, code and escaped marks are none", () => {
  for (const text of [
    "$5 and $10, US$5 or 10$",
    "`$x$` and \\$x\\$",
    "```\n$x$\n```",
    "    $$x$$",
    "$ x $",
    "a $x",
    "\\(x",
    "$x\n\n$",
  ]) {
    assert.deepEqual(formulas(text), [], text);
  }
});

test("a formula that is half written is shown as its source, and ends with a blank line", () => {
  assert.match(parser.render("$$\na + b\n"), /math display source/u);
  assert.doesNotMatch(parser.render("$$\na + b\n\nmore"), /class="math/u);
});

test("footnotes", () => {
  const html = parser.render("One[^1] and two[^b].\n\n[^1]: The *first*\n  note.\n[^b]: Second");
  assert.match(html, /<sup class="footnote-ref" data-note="1">1<\/sup> and/u);
  assert.match(html, /<div class="footnote" dir="auto" data-note="1"><sup>1<\/sup> The <em>first/u);
  assert.match(html, /data-note="b"><sup>b<\/sup> Second<\/div>/u);
  assert.doesNotMatch(parser.render("[^ no]: x `[^1]`"), /footnote/u);
});

test("formulas and notes are cut as whole blocks while they arrive", () => {
  const text = "A $x$.\n\n$$\na\n$$\n\nB[^1].\n\n\\[\nb\n\\]\n[^1]: note\n[^2]: more\n\nEnd.";
  const blocks = new Blocks(parser);
  const pieces = [];
  for (let end = 1; end < text.length; end += 1) {
    pieces.push(...blocks.cut(text.slice(0, end)).done);
  }
  pieces.push(...blocks.cut(text, true).done);
  assert.equal(pieces.map(({ source }) => parser.render(source)).join(""), parser.render(text));
});

test("marks without end come to an end", () => {
  for (const part of ["\\(", "$a", "$$", "[^", "[^a]: ", "$$\n"]) {
    assert.ok(parser.render(part.repeat(20_000)), part);
  }
});
