import assert from "node:assert/strict";
import { test } from "node:test";
import MarkdownIt from "markdown-it";
import { Blocks } from "../../src/markdown/blocks.js";

const parser = new MarkdownIt({ html: false });

/** Feed a text in pieces; return the final pieces and the largest part that was parsed again. */
function feed(text, size = 1) {
  const blocks = new Blocks(parser);
  const done = [];
  let longest = 0;
  for (let end = size; end < text.length; end += size) {
    const cut = blocks.cut(text.slice(0, end));
    done.push(...cut.done);
    if (cut.live?.kind !== "code") {
      longest = Math.max(longest, cut.live?.source.length ?? 0);
    }
  }
  done.push(...blocks.cut(text, true).done);
  return { done, longest };
}

/** HTML of the pieces, joined as the page does it. */
function assemble(pieces) {
  let html = "";
  const env = {};
  for (const { kind, source } of pieces) {
    const piece = parser.render(source, env);
    const list = /<\/(ul|ol)>\n$/u.exec(html);
    const goesOn = new RegExp(`^<${list?.[1]}[^>]*>\n`, "u").exec(piece);
    if (kind === "item" && list && goesOn) {
      html = html.slice(0, list.index) + piece.slice(goesOn[0].length);
    } else {
      html += piece;
    }
  }
  return html;
}

const TEXTS = {
  paragraphs: "One.\nStill one.\n\nTwo.\n\nThree *is* last.",
  headings: "# A\ntext\n## B\nmore\n\nSetext\n===\n\nend",
  "tight list": "Before:\n- one\n- two\n  goes on\n- three\n\nAfter.",
  "ordered list": "1. one\n2. two\n   - in\n   - side\n3. three\n\nEnd.",
  "lists of two kinds": "- a\n- b\n* c\n* d\n1. e\n2. f",
  fence: "Code:\n\n```python\ndef f():\n\n    return 1\n```\n\nAfter.",
  "fence within a list": "- a\n  ```\n  x\n  ```\n- b\n\nc",
  "fence that is not closed": "a\n\n~~~js\nlet x = `1`;\n```\n",
  "longer fence": "````md\n```\ninside\n```\n````\nafter",
  table: "| a | b |\n|---|--:|\n| 1 | 2 |\n| 3 | 4 |\n\nAfter.",
  quote: "> one\n> two\nlazy\n\n> three\n\nfour",
  rule: "a\n\n---\n\nb\n***\nc",
  "earlier definition": "[x]: http://example.org\n\nSee [x].\n\nAnd [x].",
  "definition before a fence": "[x]: http://example.org\n```\ncode\n```\n[x]",
  "carriage returns": "a\r\n\r\n- b\r\n- c\r\n\r\n```\r\nd\r\n```\r\ne",
  chinese: "你好。\n\n1. 一\n2. 二\n\n结束。",
  empty: "",
};

for (const [name, text] of Object.entries(TEXTS)) {
  for (const size of [1, 3, 7, 1000]) {
    test(`${name}, ${size} at a time: the same as in one go`, () => {
      const pieces = feed(text, size).done;
      assert.equal(assemble(pieces), parser.render(text));
      assert.equal(pieces.map(({ source }) => source).join(""), text);
    });
  }
}

test("a frame costs as much as the last block, not the answer", () => {
  const paragraphs = "Some words that fill a line.\n\n".repeat(300);
  assert.ok(feed(paragraphs, 5).longest < 100);
  const list = "- an item of a long list\n".repeat(300);
  assert.ok(feed(list, 5).longest < 100);
});

test("an open fence is shown as text that only grows", () => {
  const blocks = new Blocks(parser);
  const text = "```js\nlet a;\nlet b;\n";
  let shown = "";
  for (let end = 6; end <= text.length; end += 1) {
    const { live } = blocks.cut(text.slice(0, end));
    if (live?.kind === "code") {
      assert.ok(live.source.startsWith(shown));
      assert.equal(live.language, "js");
      shown = live.source;
    }
  }
  assert.equal(shown, "let a;\nlet b;\n");
});

test("a partial marker is not shown until it is known", () => {
  const blocks = new Blocks(parser);
  assert.equal(blocks.cut("Title\n-").live?.source, "Title\n");
  assert.equal(blocks.cut("Title\n- x").live?.source, "Title\n- x");
});
