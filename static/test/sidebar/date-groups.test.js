import assert from "node:assert/strict";
import { test } from "node:test";
import { byDay } from "../../src/sidebar/date-groups.js";

test("conversations are grouped by days of the user's clock", () => {
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

test("a time slightly in the future is today", () => {
  const now = new Date(2025, 0, 1, 12);
  const later = { updated_at: new Date(2025, 0, 2, 1).toISOString() };
  assert.equal(byDay([later], now)[0].group.key, "today");
});
