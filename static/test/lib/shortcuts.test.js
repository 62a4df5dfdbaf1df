import assert from "node:assert/strict";
import { test } from "node:test";
import { keyNames, matches, sends } from "../../src/lib/shortcuts.js";
import { fits } from "../../src/dialogs/command-palette.js";

const press = (key, held = {}) => ({
  key,
  ctrlKey: false,
  metaKey: false,
  shiftKey: false,
  altKey: false,
  ...held,
});

test("keys match with their modifiers and no others", () => {
  assert.ok(matches(press("k", { ctrlKey: true }), "Mod+K"));
  assert.ok(matches(press("k", { metaKey: true }), "Mod+K"));
  assert.ok(!matches(press("k"), "Mod+K"));
  assert.ok(!matches(press("K", { ctrlKey: true, shiftKey: true }), "Mod+K"));
  assert.ok(!matches(press("k", { ctrlKey: true, altKey: true }), "Mod+K"));
  assert.ok(matches(press("O", { ctrlKey: true, shiftKey: true }), "Mod+Shift+O"));
  assert.ok(matches(press("?", { shiftKey: true }), "?"));
  assert.ok(matches(press("?"), "?"));
  assert.ok(!matches(press("Escape", { shiftKey: true }), "Escape"));
  assert.deepEqual(keyNames("Mod+Shift+ArrowUp"), ["Ctrl", "Shift", "\u2191"]);
});

test("Enter sends, except for an input method or on a phone", () => {
  assert.ok(sends(press("Enter")));
  assert.ok(!sends(press("Enter", { shiftKey: true })));
  assert.ok(!sends(press("Enter", { isComposing: true })));
  assert.ok(!sends(press("Enter", { keyCode: 229 })));
  assert.ok(!sends(press("a")));
  globalThis.matchMedia = () => ({ matches: true });
  assert.ok(!sends(press("Enter")));
  assert.ok(sends(press("Enter", { ctrlKey: true })), "a keyboard that is plugged in");
  delete globalThis.matchMedia;
});

test("all words of a query must match, regardless of case, accents and order", () => {
  assert.ok(fits("Über den Garten", "garten uber"));
  assert.ok(fits("关于苹果的对话", "苹果"));
  assert.ok(fits("anything", ""));
  assert.ok(!fits("Über den Garten", "garten haus"));
});
