import assert from "node:assert/strict";
import { test } from "node:test";
import MarkdownIt from "markdown-it";
import { Blocks } from "../../src/markdown/blocks.js";
import { withCellBreaks } from "../../src/markdown/table-cells.js";
import { withCjkEmphasis } from "../../src/markdown/cjk-emphasis.js";
import { withFootnotes } from "../../src/markdown/footnotes.js";
import { withMath } from "../../src/markdown/math.js";

const parser = new MarkdownIt({ html: false });
withMath(parser);
withFootnotes(parser);
withCjkEmphasis(parser);
withCellBreaks(parser);

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

test("prices, code and escaped marks are no formulas", () => {
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

test("t50: prices in brackets and sentences are no formulas", () => {
  for (const text of [
    "($5) vs (5$)",
    "($5) versus (10$) and ($20)",
    "It costs $5 (was 7$).",
    "Between $1,000 per month and 2,000$.",
    "“$5” or “6$”",
    "**$5** or 5$",
    "$0.5 for each seat, 20$ for all",
    "Von $5 bis 7$",
    "$10K … $8K, $/PR … $/session",
  ]) {
    assert.deepEqual(formulas(text), [], text);
  }
  for (const text of [
    "2x + 3",
    "3\\text{ cm and more }",
    "[0,1)",
    "(0,1]",
    "5 mod 3",
    "3 cm",
    "2\\sin x",
  ]) {
    assert.deepEqual(formulas(`So $${text}$ it is.`), [text], text);
  }
  assert.deepEqual(formulas("The $n$th and $1$st, $\\$0.60$"), ["n", "1", "\\$0.60"]);
});

test("t51: bold ends beside Chinese, Japanese and Korean punctuation", () => {
  for (const [text, expected] of [
    ["**注意：**请看", "<strong>注意：</strong>请看"],
    ["请**“注意”**看", "请<strong>“注意”</strong>看"],
    ["这是**重要（必读）**的", "这是<strong>重要（必读）</strong>的"],
    ["*斜体。*然后", "<em>斜体。</em>然后"],
    ["これは**強調。**です", "これは<strong>強調。</strong>です"],
    ["**이용약관(필수)**을", "<strong>이용약관(필수)</strong>을"],
    ["使用**`code`**命令", "使用<strong><code>code</code></strong>命令"],
    ["**A：**text", "<strong>A：</strong>text"],
  ]) {
    assert.equal(parser.render(text), `<p>${expected}</p>\n`, text);
  }
  for (const text of ["2 * 3 * 4", "a ** b ** c", "他 ** 说", "snake_case_名_前"]) {
    assert.equal(parser.render(text), `<p>${text}</p>\n`, text);
  }
  assert.equal(parser.render('**"a"**b'), "<p>**&quot;a&quot;**b</p>\n");
});

test("t52: <br> breaks a line in a cell, and nowhere else", () => {
  const table = (cell) => parser.render(`| a |\n|---|\n| ${cell} |`);
  assert.match(table("x<br>y<br/>z<BR />*w*"), /<td>x<br>\ny<br>\nz<br>\n<em>w<\/em><\/td>/u);
  assert.match(table("`<br>` &lt;br&gt;"), /<td><code>&lt;br&gt;<\/code> &lt;br&gt;<\/td>/u);
  assert.match(table("<b>x</b>"), /<td>&lt;b&gt;x&lt;\/b&gt;<\/td>/u);
  assert.match(parser.render("The <br> tag"), /The &lt;br&gt; tag/u);
});

test("an incomplete formula is shown as source, and ends with a blank line", () => {
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

test("unclosed marks take bounded work", () => {
  for (const part of ["\\(", "$a", "$$", "[^", "[^a]: ", "$$\n"]) {
    assert.ok(parser.render(part.repeat(20_000)), part);
  }
});
