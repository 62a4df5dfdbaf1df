/**
 * Parse the text between the markers of a tool call, in any of the formats that models learn: JSON
 * of a name and its arguments, a name before its arguments, and tags. The server's
 * `engine/prompting/call_body.py` parses the same formats.
 *
 * @typedef {{name: string, text: string}} Call its arguments as indented JSON
 */

const NAMED =
  /^(?:\s|<[^<>\s]{1,60}>|function(?=<))*(?:functions\.)?([\w.-]+)(?::\d+)?(?:\s|<[^<>\s]{1,60}>|```json|\[CALL_ID\]\s*[\w-]+|\[ARGS\])*(?=\{)/u;
const AFTER_NAMED = /^(?:\s|```|\[TOOL_CALLS\]|<[^<>\s]{1,60}>)*/u;
const TAGGED = [
  {
    close: "</function>",
    call: /<function=([^<>\s]+)>([\s\S]*?)<\/function>/gu,
    value: /<parameter=([^<>\s]+)>([\s\S]*?)<\/parameter>/gu,
  },
  {
    close: "</invoke>",
    call: /<invoke name="([^"<>]+)">([\s\S]*?)<\/invoke>/gu,
    value: /<parameter name="([^"<>]+)"[^<>]*>([\s\S]*?)<\/parameter>/gu,
  },
];
const PAIRS = {
  call: /^\s*([\w.-]+)\s*(<arg_key>[\s\S]*)$/u,
  value: /<arg_key>\s*([^<>]*?)\s*<\/arg_key>\s*<arg_value>([\s\S]*?)<\/arg_value>/gu,
};

/**
 * @param {string} source
 * @returns {Call[] | null} null if there is anything but calls
 */
export function readCalls(source) {
  const text = source.trim();
  const value = parsed(text);
  if (value !== undefined) {
    return callsIn(value) ?? keyedIn(value);
  }
  return row(text) ?? tagged(text) ?? paired(text) ?? named(text);
}

/** Parse calls in consecutive JSON objects. @param {string} text */
function row(text) {
  const calls = [];
  let rest = text;
  while (rest) {
    const end = rest.startsWith("{") ? objectEnd(rest, 0) : -1;
    const found = end > 0 ? callsIn(parsed(rest.slice(0, end))) : null;
    if (!found) {
      return null;
    }
    calls.push(...found);
    rest = rest.slice(end).replace(/^[\s;]+/u, "");
  }
  return calls.length > 0 ? calls : null;
}

/**
 * Parse calls in a JSON object or list; null if it has anything else.
 * @param {any} value
 * @returns {Call[] | null}
 */
function callsIn(value) {
  const calls = [];
  for (const item of Array.isArray(value) ? value : [value]) {
    const called = item?.function ?? item;
    const name = called?.name ?? called?.tool_name;
    const given = called?.arguments ?? called?.parameters;
    if (typeof name !== "string" || !isObject(given)) {
      return null;
    }
    calls.push(call(name, given));
  }
  return calls.length > 0 ? calls : null;
}

/**
 * Parse calls in objects with one key, the name.
 * @param {any} value
 */
function keyedIn(value) {
  const items = Array.isArray(value) ? value : [value];
  const pairs = items.flatMap((item) => (isObject(item) ? Object.entries(item) : []));
  const good = pairs.length === items.length && pairs.every(([, given]) => isObject(given));
  return good && pairs.length > 0 ? pairs.map(([name, given]) => call(name, given)) : null;
}

/** @param {string} text */
function tagged(text) {
  const form = TAGGED.find(({ close }) => text.endsWith(close));
  if (!form || text.replace(form.call, "").trim()) {
    return null;
  }
  const calls = [];
  for (const [, name, body] of text.matchAll(form.call)) {
    const given = values(body, form.value);
    if (!given) {
      return null;
    }
    calls.push(call(name, given));
  }
  return calls;
}

/** @param {string} text */
function paired(text) {
  const match = PAIRS.call.exec(text);
  const given = match && values(match[2], PAIRS.value);
  return given ? [call(match[1], given)] : null;
}

/** @param {string} text */
function named(text) {
  const calls = [];
  let rest = text;
  while (rest) {
    const match = NAMED.exec(rest);
    const end = match ? objectEnd(rest, match[0].length) : -1;
    const given = match && end > 0 ? parsed(rest.slice(match[0].length, end)) : undefined;
    if (!match || !isObject(given)) {
      return null;
    }
    calls.push(call(match[1], given));
    rest = rest.slice(end).replace(AFTER_NAMED, "");
  }
  return calls.length > 0 ? calls : null;
}

/**
 * @param {string} body
 * @param {RegExp} form
 * @returns {Record<string, unknown> | null}
 */
function values(body, form) {
  if (body.replace(form, "").trim()) {
    return null;
  }
  return Object.fromEntries([...body.matchAll(form)].map(([, key, text]) => [key, typed(text)]));
}

/** Parse JSON if it is valid, else keep the text. @param {string} text */
function typed(text) {
  const bare = text.replace(/^\n|\n$/gu, "");
  const value = parsed(bare.trim());
  return value === undefined ? bare : value;
}

/**
 * Return the end of the object that begins at `start`, -1 if incomplete.
 * @param {string} text
 * @param {number} start
 */
function objectEnd(text, start) {
  let depth = 0;
  let quoted = false;
  for (let at = start; at < text.length; at += 1) {
    const char = text[at];
    if (quoted) {
      at += char === "\\" ? 1 : 0;
      quoted = char !== '"';
    } else if (char === '"') {
      quoted = true;
    } else if (char === "{") {
      depth += 1;
    } else if (char === "}") {
      depth -= 1;
      if (depth === 0) {
        return at + 1;
      }
    }
  }
  return -1;
}

/**
 * @param {string} name
 * @param {unknown} given
 * @returns {Call}
 */
function call(name, given) {
  return { name, text: JSON.stringify(given, null, 2) };
}

/** @param {unknown} value */
function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * @param {string} text
 * @returns {any} undefined if not JSON
 */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
