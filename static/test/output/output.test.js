import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { duration } from "../../src/lib/i18n.js";
import { Output } from "../../src/output/output.js";

const THINKS = { think_open: "<think>", think_close: "</think>", tools: "hermes" };
const call = (name, given) => ["call", `${name}(${JSON.stringify(given)})`];

/** [text, syntax, parts]; a part is [kind, text]. */
const TEXTS = {
  "content alone": ["Hello <b>you</b>.", THINKS, [["content", "Hello <b>you</b>."]]],
  reasoning: [
    "<think>\nHm, 1 < 2.\n</think>\n\nYes.",
    THINKS,
    [
      ["reasoning", "Hm, 1 < 2."],
      ["content", "Yes."],
    ],
  ],
  "reasoning without an end": ["<think>\nHm", THINKS, [["reasoning", "Hm"]]],
  "a mark in the middle": ["So <think> is a mark.", THINKS, [["content", "So <think> is a mark."]]],
  "marks of another model": [
    "<think>x</think>",
    { think_open: "[THINK]", think_close: "[/THINK]" },
    [["content", "<think>x</think>"]],
  ],
  "other marks": [
    "[THINK]a[/THINK]b",
    { think_open: "[THINK]", think_close: "[/THINK]" },
    [
      ["reasoning", "a"],
      ["content", "b"],
    ],
  ],
  "no syntax": ["<think>x</think>", {}, [["content", "<think>x</think>"]]],
  "calls between words": [
    'One.\n<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>\n' +
      '<tool_call>{"name": "g", "arguments": {}}</tool_call>\nTwo.',
    THINKS,
    [["content", "One."], call("f", { a: 1 }), call("g", {}), ["content", "Two."]],
  ],
  "a call without its end": [
    '<tool_call>{"name": "f", "arguments": {"a": 1}}',
    THINKS,
    [call("f", { a: 1 })],
  ],
  "no call": [
    "A <tool_call> is a mark.\n<tool_call>nothing</tool_call> end",
    THINKS,
    [["content", "A <tool_call> is a mark.\n<tool_call>nothing</tool_call> end"]],
  ],
  "a call in a fence is code": [
    '```\n<tool_call>{"name": "f", "arguments": {}}</tool_call>\n```',
    THINKS,
    [["content", '```\n<tool_call>{"name": "f", "arguments": {}}</tool_call>\n```']],
  ],
  llama: ['{"name": "f", "parameters": {"a": 1}}', { tools: "llama" }, [call("f", { a: 1 })]],
  "JSON that is no call": ['{"a": 1}', { tools: "llama" }, [["content", '{"a": 1}']]],
  mistral: [
    '[TOOL_CALLS][{"name": "f", "arguments": {"a": 1}}]',
    { tools: "mistral" },
    [call("f", { a: 1 })],
  ],
  "mistral by name": ['[TOOL_CALLS]f[ARGS]{"a": 1}', { tools: "mistral" }, [call("f", { a: 1 })]],
  empty: ["", THINKS, []],
};

const read = (parts) =>
  parts.map(({ kind, name, text }) =>
    kind === "call" ? [kind, `${name}(${JSON.stringify(JSON.parse(text))})`] : [kind, text],
  );

for (const [name, [text, syntax, parts]] of Object.entries(TEXTS)) {
  test(`${name}: the same in one go and letter by letter`, () => {
    assert.deepEqual(read(new Output(syntax).read(text, true)), parts);
    const output = new Output(syntax);
    for (let end = 1; end <= text.length; end += 1) {
      const shown = output.read(text.slice(0, end), false);
      for (const part of shown.filter(({ kind }) => kind !== "call")) {
        assert.ok(text.includes(part.text), "nothing is shown that is not there");
      }
    }
    assert.deepEqual(read(output.read(text, true)), parts);
  });
}

// The server's parser is tested on the same cases.
const CASES = JSON.parse(
  readFileSync(new URL("../../../tests/cases/output.json", import.meta.url), "utf8"),
);

/** @param {import("../../src/output/output.js").Part[]} parts */
function summary(parts) {
  const of = (kind) => parts.filter((part) => part.kind === kind);
  return {
    reasoning: of("reasoning")
      .map(({ text }) => text)
      .join(""),
    content: of("content")
      .map(({ text }) => text.trimEnd())
      .join("\n\n"),
    calls: of("call").map(({ name, text }) => ({ name, arguments: JSON.parse(text) })),
  };
}

for (const { name, syntax, text, ...expected } of CASES) {
  test(`${name}: in one go, letter by letter, and again from the beginning`, () => {
    assert.deepEqual(summary(new Output(syntax).read(text, true)), expected);
    const output = new Output(syntax);
    for (let end = 1; end <= text.length; end += 1) {
      output.read(text.slice(0, end), false);
    }
    assert.deepEqual(summary(output.read(text, true)), expected);
    output.read("x", true);
    assert.deepEqual(summary(output.read(text, true)), expected);
  });
}

test("reasoning is open until its end, and what follows is content", () => {
  const output = new Output(THINKS);
  assert.equal(output.read("<think>\nHm", false)[0].open, true);
  assert.equal(output.read("<think>\nHm</th", false)[0].text, "Hm");
  assert.equal(output.read("<think>\nHm</think>", false)[0].open, false);
  assert.equal(output.read("<think>\nHm</think>\n\nSo", false)[1].text, "So");
});

test("an incomplete call is named when it is complete", () => {
  const output = new Output(THINKS);
  const [part] = output.read('<tool_call>{"name": "f"', false);
  assert.deepEqual([part.kind, part.name, part.open], ["call", "", true]);
});

test("another text starts over", () => {
  const output = new Output(THINKS);
  output.read("<think>a</think>b", true);
  assert.deepEqual(read(output.read("other", false)), [["content", "other"]]);
});

test("how long something took", () => {
  assert.deepEqual([400, 12_300, 65_000].map(duration), ["0.4s", "12s", "1m 5s"]);
});
