import assert from "node:assert/strict";
import { test } from "node:test";
import { inPassage } from "../../src/documents/highlight-range.js";

test("pieces of the passage are found although spaces and hyphens differ", () => {
  const pieces = [
    "Before it all",
    "The feed pump",
    " ",
    "of",
    "the pl\u00ad",
    "ant runs at 40",
    "After",
  ];
  const passage = "## The feed\npump of the plant  runs at 40";
  assert.deepEqual(inPassage(pieces, passage), [false, true, true, true, true, true, false]);
});

test("a line that begins or ends within the passage counts, others do not", () => {
  const pieces = [
    "end of another one. The valve",
    "opens at noon each day",
    "and closes. Not this part",
  ];
  assert.deepEqual(inPassage(pieces, "one. The valve opens at noon each day and closes. Not"), [
    true,
    true,
    true,
  ]);
  assert.deepEqual(inPassage(["short", "word", "of no use"], "another text"), [
    false,
    false,
    false,
  ]);
});

test("a passage of another page marks nothing", () => {
  assert.deepEqual(inPassage(["Chapter thirteen"], "Chapter twelve"), [false]);
  assert.deepEqual(inPassage([], "x"), []);
});
