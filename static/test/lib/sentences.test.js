import assert from "node:assert/strict";
import { test } from "node:test";
import { Sentences, spoken } from "../../src/lib/sentences.js";

test("sentences come when they are complete", () => {
  const sentences = new Sentences();
  assert.deepEqual(sentences.push("Paris is the cap"), []);
  assert.deepEqual(sentences.push("ital. It is"), ["Paris is the capital."]);
  assert.deepEqual(sentences.push(" big"), []);
  assert.deepEqual(sentences.flush(), ["It is big"]);
});

test("numbers, initials and abbreviations end no sentence", () => {
  const sentences = new Sentences();
  assert.deepEqual(sentences.push("1. Dr. Who paid 3.5 pounds, e.g. twice. Then"), [
    "1. Dr. Who paid 3.5 pounds, e.g. twice.",
  ]);
});

test("Chinese needs no space", () => {
  const sentences = new Sentences();
  assert.deepEqual(sentences.push("你好。今天很好！明"), ["你好。", "今天很好！"]);
});

test("a heading and an item end with their line; marks are not read", () => {
  const sentences = new Sentences();
  assert.deepEqual(sentences.push("## A **bold** `title`\n- item\n```py\n"), [
    "A bold title",
    "item",
  ]);
  assert.equal(spoken("[text](http://x) and *word*"), "text and word");
});
