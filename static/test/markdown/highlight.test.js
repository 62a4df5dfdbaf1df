import assert from "node:assert/strict";
import { test } from "node:test";
import { coloured, lastCut } from "../../src/markdown/highlight.js";

const PYTHON = `def f(a: str) -> bool:
    return a < "&<>'"

def g():
    """A text
that goes on
def no: function
    """
    return [
        1,
    ]
`;

test("code is split where a new construct begins, and keeps its text", () => {
  const html = coloured(PYTHON, "python") ?? "";
  const cut = lastCut(html);
  assert.equal(PYTHON.slice(0, cut?.text), PYTHON.slice(0, PYTHON.indexOf("def g")));
  assert.equal(html.slice(0, cut?.html), coloured(PYTHON.slice(0, cut?.text), "python"));
  assert.equal(html.slice(cut?.html), coloured(PYTHON.slice(cut?.text), "python"));
});

test("neither a line within a comment nor a closing bracket begins a construct", () => {
  assert.equal(lastCut(coloured("/* a\nb\nc */", "javascript") ?? ""), null);
  assert.equal(lastCut(coloured("f({\n});\n", "javascript") ?? ""), null);
  assert.equal(lastCut(coloured("let a;\n\n", "javascript") ?? ""), null);
});

test("code of an unknown language stays plain", () => {
  assert.equal(coloured("x", "klingon"), null);
});
