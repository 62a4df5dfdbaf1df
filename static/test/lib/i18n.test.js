import assert from "node:assert/strict";
import { test } from "node:test";
import { bytes, fill, placeInLine } from "../../src/lib/i18n.js";

test("the position in the queue is an ordinal", () => {
  const places = [1, 2, 3, 4, 11, 22].map((place) => placeInLine(place));
  assert.deepEqual(
    places.map((text) => text.split(" ")[0]),
    ["1st", "2nd", "3rd", "4th", "11th", "22nd"],
  );
});

test("texts with values", () => {
  assert.equal(fill("{a} of {b}, {c}", { a: 1, b: "x" }), "1 of x, {c}");
  assert.equal(bytes(98_000_000), "93.5 MB");
});

test("page 53: few bytes have a short unit", () => {
  assert.deepEqual([0, 1, 780, 999, 1024].map(bytes), ["0 B", "1 B", "780 B", "999 B", "1 kB"]);
});

test("page 44: sizes have at most three digits before the point", () => {
  assert.equal(bytes(1_071_225_242), "1 GB");
  assert.equal(bytes(999 * 1024 ** 2), "999 MB");
});
