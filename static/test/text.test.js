import assert from "node:assert/strict";
import { test } from "node:test";
import { byDay } from "../src/groups.js";
import { bytes, fill, placeInLine } from "../src/i18n.js";
import { Sentences, spoken } from "../src/sentences.js";
import { endText, figures, waitingText } from "../src/status.js";

const generation = (values) => ({
  id: "g",
  state: "done",
  model: "m",
  finish_reason: "stop",
  error: null,
  usage: { prompt_tokens: null, cached_tokens: null, completion_tokens: null },
  timings: {},
  ...values,
});

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

test("conversations fall into days of the reader's clock", () => {
  const now = new Date(2025, 2, 15, 0, 30);
  const at = (...parts) => ({ updated_at: new Date(...parts).toISOString() });
  const groups = byDay(
    [
      at(2025, 2, 15, 0, 10),
      at(2025, 2, 14, 23, 50),
      at(2025, 2, 13),
      at(2025, 2, 8),
      at(2025, 2, 1),
      at(2025, 1, 1),
      at(2024, 2, 1),
    ],
    now,
  );
  assert.deepEqual(
    groups.map(({ group, items }) => [group.key, items.length]),
    [
      ["today", 1],
      ["yesterday", 1],
      ["week", 2],
      ["2025-3", 1],
      ["2025-2", 1],
      ["2024-3", 1],
    ],
  );
});

test("a clock that is a little behind still says today", () => {
  const now = new Date(2025, 0, 1, 12);
  const later = { updated_at: new Date(2025, 0, 2, 1).toISOString() };
  assert.equal(byDay([later], now)[0].group.key, "today");
});

test("the place in line is an ordinal", () => {
  const places = [1, 2, 3, 4, 11, 22].map((place) => placeInLine(place));
  assert.deepEqual(
    places.map((text) => text.split(" ")[0]),
    ["1st", "2nd", "3rd", "4th", "11th", "22nd"],
  );
});

test("what an answer waits for", () => {
  const waiting = (values) => waitingText({ waiting: { progress: null, ahead: 0, ...values } });
  assert.equal(waitingText(null), "Thinking…");
  assert.equal(waiting({ model: "ready" }), "Thinking…");
  assert.equal(waiting({ model: "ready", ahead: 2 }), "3rd in line");
  assert.equal(waiting({ model: "loading", progress: 0.4 }), "Loading the model, 40%");
  assert.equal(waiting({ model: "loading" }), "Loading the model…");
  const line = { model: "ready", ahead: 2, seconds: 18 };
  assert.equal(waiting(line), "3rd in line, about 20s");
  assert.equal(waitingText({ waiting: line }, false), "3rd in line");
  assert.equal(waiting({ model: "ready", seconds: 4 }), "Next in line, about 4s");
  assert.equal(waiting({ model: "ready", seconds: 70 }), "Next in line, about 2m");
});

test("how an answer ended", () => {
  assert.equal(endText(generation({})), null);
  assert.equal(endText(generation({ state: "cancelled" })).retry, false);
  assert.equal(endText(generation({ state: "interrupted" })).retry, true);
  assert.match(endText(generation({ finish_reason: "length" })).text, /length limit/u);
  const error = { code: "model_unavailable", message: "As it came.", permanent: false };
  assert.equal(endText(generation({ state: "failed", error })).text, "As it came.");
  assert.ok(endText(generation({ state: "failed" })).text);
});

test("the figures of an answer", () => {
  const usage = { prompt_tokens: 30, cached_tokens: 10, completion_tokens: 100 };
  const { text, details } = figures(generation({ usage, timings: { decode: 2000, ttft: 500 } }));
  assert.equal(text, "m · 50 tokens/s");
  assert.match(details, /100 tokens written/u);
  assert.equal(figures(generation({})).text, "m");
});

test("texts with values", () => {
  assert.equal(fill("{a} of {b}, {c}", { a: 1, b: "x" }), "1 of x, {c}");
  assert.equal(bytes(98_000_000), "93.5 MB");
});
