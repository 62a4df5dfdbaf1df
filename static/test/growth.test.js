// Processing untrusted text takes time linear in its length.
import assert from "node:assert/strict";
import { test } from "node:test";
import MarkdownIt from "markdown-it";
import { Blocks } from "../src/markdown/blocks.js";
import { Output } from "../src/output/output.js";
import { Sentences, spoken } from "../src/lib/sentences.js";

const TIMES = 8;
const SHORT_MS = 40;

/** CPU time in milliseconds, the minimum of three runs. */
function cost(work, text) {
  let best = Infinity;
  for (let at = 0; at < 3 && best > SHORT_MS; at += 1) {
    const began = process.cpuUsage();
    work(text);
    const { user, system } = process.cpuUsage(began);
    best = Math.min(best, (user + system) / 1000);
  }
  return best;
}

/** Eight times the text may take 24 times as long; quadratic work takes 64 times. */
function assertLinear(work, text, size) {
  const [small, large] = [cost(work, text(size)), cost(work, text(size * TIMES))];
  assert.ok(large < Math.max(SHORT_MS, 3 * TIMES * small), `${large} ms after ${small} ms`);
}

const parser = new MarkdownIt({ html: false });
const cut = (text) => new Blocks(parser).cut(text);

test("fences of many blanks", () => {
  assertLinear(cut, (n) => `\`\`\`a${" ".repeat(n)}b\n`, 4000);
  assertLinear(cut, (n) => `\`\`\`\nx\n\`\`\`a${" \t".repeat(n / 2)}b\n`, 4000);
});

test("sentences of marks only", () => {
  const push = (text) => new Sentences().push(text);
  assertLinear(push, (n) => `${".".repeat(n)}x`, 8000);
  assertLinear(push, (n) => `.${'"'.repeat(n)}x`, 8000);
  assertLinear(push, (n) => "1".repeat(n), 8000);
});

test("text that is read aloud", () => {
  assertLinear(spoken, (n) => "[".repeat(n), 8000);
  assertLinear(spoken, (n) => "[a](".repeat(n / 4), 8000);
  assertLinear(spoken, (n) => `${"\n".repeat(n)}x`, 8000);
  assertLinear(spoken, (n) => `a${" |".repeat(n / 2)}x`, 8000);
  assert.equal(spoken("see [this](https://x/(y)) now"), "see this now");
});

test("calls by name", () => {
  const read = (text) => new Output({ tools: "mistral" }).read(text, true);
  assertLinear(read, (n) => `[TOOL_CALLS]x[CALL_ID]${" ".repeat(n)}`, 8000);
  assertLinear(read, (n) => `[TOOL_CALLS]${"x".repeat(n)} {`, 8000);
});
