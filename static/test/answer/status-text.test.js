import assert from "node:assert/strict";
import { test } from "node:test";
import { endText, figures, retryLabel, waitingText } from "../../src/answer/status-text.js";

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

test("what an answer waits for", () => {
  const waiting = (values) => waitingText({ waiting: { progress: null, ahead: 0, ...values } });
  assert.equal(waitingText(null), "Reading…");
  assert.equal(waiting({ model: "ready" }), "Reading…");
  assert.equal(waiting({ model: "ready", ahead: 2 }), "3rd in line");
  assert.equal(waiting({ model: "loading", progress: 0.4 }), "Loading the model, 40%");
  assert.equal(waiting({ model: "loading" }), "Loading the model…");
  // A request ends tuning, and the model is loaded.
  assert.equal(waiting({ model: "tuning", progress: 0.4 }), "Loading the model…");
  const line = { model: "ready", ahead: 2, seconds: 18 };
  assert.equal(waiting(line), "3rd in line, about 20 sec");
  assert.equal(waitingText({ waiting: line }, false), "3rd in line");
  assert.equal(waiting({ model: "ready", seconds: 4 }), "You are next, about 4 sec");
  assert.equal(waiting({ model: "ready", seconds: 70 }), "You are next, about 2 min");
});

test("how an answer ended", () => {
  assert.equal(endText(generation({})), null);
  assert.equal(endText(generation({ state: "cancelled" })).retry, false);
  assert.equal(endText(generation({ state: "interrupted" })).retry, true);
  assert.match(endText(generation({ finish_reason: "length" })).text, /length limit/u);
  const loop = endText(generation({ finish_reason: "repetition" }));
  assert.deepEqual([loop.kind, loop.cut], ["note", true]);
  assert.match(loop.text, /repeating itself/u);
  const stopped = { state: "cancelled", finish_reason: "administrator" };
  assert.match(endText(generation(stopped)).text, /administrator/u);
  const error = { code: "model_unavailable", message: "As it came.", permanent: false };
  assert.equal(endText(generation({ state: "failed", error })).text, "As it came.");
  assert.ok(endText(generation({ state: "failed" })).text);
});

test("an error that only the log explains shows the answer's ID", () => {
  const ended = (code, state) => {
    const error = { code, message: "It failed.", permanent: true };
    return endText(generation({ id: "g-1", state, error })).text;
  };
  assert.equal(ended("engine_error", "failed"), "It failed. Error ID: g-1");
  assert.equal(ended("interrupted", "interrupted"), "It failed. Error ID: g-1");
  assert.equal(ended("context_length_exceeded", "failed"), "It failed.");
});

test("page 5: an empty answer is an error that can be retried", () => {
  const end = endText(generation({}), true);
  assert.deepEqual(end, {
    kind: "error",
    text: "The model ended without an answer.",
    retry: true,
    cut: false,
  });
  assert.equal(retryLabel(generation({})), "Regenerate");
  // Another reason for the end is more specific.
  assert.match(endText(generation({ state: "cancelled" }), true).text, /stopped/u);
  assert.equal(endText(generation({ state: "failed" }), true).kind, "error");
});

test("the figures of an answer", () => {
  const usage = { prompt_tokens: 30, cached_tokens: 10, completion_tokens: 100 };
  const found = figures(generation({ usage, timings: { decode: 2000, ttft: 500 } }));
  assert.deepEqual([found.author, found.speed], ["m", "50 tokens/s"]);
  assert.equal(
    found.details,
    "50 tokens/s, 100 output tokens, 30 prompt tokens (10 cached), first token after 0.5s",
  );
  assert.deepEqual(figures(generation({})), { author: "m", speed: "", details: "" });
});
