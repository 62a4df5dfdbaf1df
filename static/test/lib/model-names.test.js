import assert from "node:assert/strict";
import { test } from "node:test";
import { displayName, displayNames } from "../../src/lib/model-names.js";

test("page 23: models have display names", () => {
  const names = {
    "smollm2:135m": "SmolLM2 135M",
    "qwen2.5:0.5b": "Qwen2.5 0.5B",
    "qwen3:30b-a3b": "Qwen3 30B-A3B",
    "llama3.2:1b": "Llama 3.2 1B",
    "deepseek-r1:8b": "DeepSeek R1 8B",
    "gpt-oss:20b": "GPT-OSS 20B",
    "phi4-mini:3.8b": "Phi-4-mini 3.8B",
    "hf.co/ggml-org/gemma-3-1b-it-GGUF:Q4_K_M": "Gemma 3-1b-it Q4_K_M",
    "my-model-Q4_1:latest": "my-model-Q4_1",
    "second:1b": "second:1b",
    pirate: "pirate",
  };
  for (const [name, written] of Object.entries(names)) {
    assert.equal(displayName(name), written);
  }
});

test("names with the same display name are given in full", () => {
  const names = displayNames(["qwen3:8b", "hf.co/x/qwen3:8b", "smollm2:135m"]);
  assert.deepEqual([...names.values()], ["qwen3:8b", "hf.co/x/qwen3:8b", "SmolLM2 135M"]);
});
