import assert from "node:assert/strict";
import { test } from "node:test";
import { microseconds } from "../../src/lib/moments.js";

test("times of one millisecond are told apart", () => {
  const start = microseconds("2026-12-01T06:37:31+00:00");
  assert.equal(start, Date.UTC(2026, 11, 1, 6, 37, 31) * 1000);
  assert.equal(microseconds("2026-12-01T06:37:31.79269+00:00") - start, 792_690);
  assert.equal(microseconds("2026-12-01T06:37:31.792691Z") - start, 792_691);
  assert.equal(microseconds("2026-12-01T07:37:31.5+01:00") - start, 500_000);
});

test("a text that is no time is not a number", () => {
  assert.ok(Number.isNaN(microseconds("yesterday")));
});
