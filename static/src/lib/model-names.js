/** Display names of models: "SmolLM2 135M" for `smollm2:135m`. Pure. */

/** Spelling of families, by the prefix of their names. @type {[RegExp, string][]} */
const FAMILIES = [
  [/^smollm/iu, "SmolLM"],
  [/^qwen/iu, "Qwen"],
  [/^codellama\b/iu, "Code Llama"],
  [/^llama-?(?=\d)/iu, "Llama "],
  [/^gemma-?(?=\d)/iu, "Gemma "],
  [/^granite-?(?=\d)/iu, "Granite "],
  [/^phi-?(?=\d)/iu, "Phi-"],
  [/^mistral-nemo\b/iu, "Mistral Nemo"],
  [/^mistral-small\b/iu, "Mistral Small"],
  [/^mistral\b/iu, "Mistral"],
  [/^deepseek-r1\b/iu, "DeepSeek R1"],
  [/^gpt-oss\b/iu, "GPT-OSS"],
];
/** A tag that gives the number of parameters: "135m", "30b-a3b". */
const SIZE = /^\d+(\.\d+)?[bkm]\b/iu;

/** @param {string} name with or without registry, owner and tag */
export function displayName(name) {
  const [model, tag = ""] = (name.split("/").at(-1) ?? name).split(":");
  const short = model.replace(/[-_.]gguf$/iu, "");
  const family = FAMILIES.find(([start]) => start.test(short));
  const written = family ? short.replace(...family) : short;
  if (tag === "" || tag.toLowerCase() === "latest") {
    return written;
  }
  // A local name is kept as it was written.
  const sized = SIZE.test(tag) ? tag.toUpperCase() : tag;
  return family ? `${written} ${sized}` : `${written}:${tag}`;
}

/**
 * Return display names by name. Names whose display names would be equal are given in full.
 * @param {string[]} names
 * @returns {Map<string, string>}
 */
export function displayNames(names) {
  const written = names.map(displayName);
  return new Map(
    names.map((name, at) => {
      const alike = written.filter((other) => other === written[at]).length > 1;
      return [name, alike ? name : written[at]];
    }),
  );
}
