import assert from "node:assert/strict";
import { test } from "node:test";
import { choosable, selectionsOf } from "../../src/attachments/selection.js";

const file = (/** @type {object} */ more) =>
  /** @type {any} */ ({ id: "1", pages: null, send: "whole", send_pages: "", ...more });

test("only choices of the user are sent", () => {
  const chosen = file({ id: "2", chosen: true, send: "pages", send_pages: "3-4" });
  assert.deepEqual(selectionsOf([file({}), chosen]), [
    { attachment: "2", send: "pages", pages: "3-4" },
  ]);
});

test("there is a choice for several pages, and for what does not fit", () => {
  assert.equal(choosable(file({}), false), false);
  assert.equal(choosable(file({}), true), true);
  assert.equal(choosable(file({ pages: 2 }), false), true);
  assert.equal(choosable(file({ chosen: true }), false), true);
});
