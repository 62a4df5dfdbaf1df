/**
 * Parser of OpenAI's harmony format, which gpt-oss writes: a sequence of messages, each with a
 * header and a body. The server's `engine/prompting/harmony.py` parses the same.
 */
import { readCalls } from "./tool-calls.js";

/** @typedef {import("./output.js").Part} Part */

const MESSAGE = "<|message|>";
const MARKS = ["<|start|>", "<|channel|>", "<|end|>", "<|call|>", "<|return|>"];
const BODY_END = /<\|(?:start|channel|end|call|return)\|>/gu;
const HEADER_BEGINS = ["<|channel|>", "<|start|>", " to="];
const RECIPIENT = /(?:^|\s)to=(?:functions\.)?([^\s<]+)/u;

export class Harmony {
  /** Messages that have ended. @type {Part[]} */
  #done = [];
  /** Start of the text after them. */
  #from = 0;

  /**
   * @param {string} text the whole text so far, which extends the text given before
   * @param {boolean} complete nothing follows
   * @returns {Part[]}
   */
  read(text, complete) {
    for (;;) {
      const [part, end] = this.#message(text, complete);
      if (end === null) {
        return part ? [...this.#done, part] : [...this.#done];
      }
      if (part) {
        this.#done.push({ ...part, open: false });
      }
      this.#from = end;
    }
  }

  /**
   * Return the next message and its end, null if unknown yet.
   * @param {string} text
   * @param {boolean} complete
   * @returns {[Part | null, number | null]}
   */
  #message(text, complete) {
    const rest = text.slice(this.#from);
    const begins = this.#from > 0 ? rest.trimStart() : rest;
    if (!begins || HEADER_BEGINS.some((one) => !complete && one.startsWith(begins))) {
      return [null, null];
    }
    let body = text.length - begins.length;
    let header = "";
    if (HEADER_BEGINS.some((one) => begins.startsWith(one))) {
      const mark = text.indexOf(MESSAGE, body);
      if (mark < 0) {
        return [null, null];
      }
      header = text.slice(body, mark);
      body = mark + MESSAGE.length;
    }
    BODY_END.lastIndex = body;
    const found = BODY_END.exec(text);
    const end = found?.index ?? text.length - (complete ? 0 : pending(text));
    const part = message(header, text.slice(body, end), found !== null || complete);
    if (!found) {
      return [part, null];
    }
    const startsNext = found[0] === "<|start|>" || found[0] === "<|channel|>";
    return [part, startsNext ? end : end + found[0].length];
  }
}

/**
 * @param {string} header
 * @param {string} body
 * @param {boolean} whole
 * @returns {Part}
 */
function message(header, body, whole) {
  const recipient = RECIPIENT.exec(header.replaceAll(/<\|[a-z]+\|>/gu, " "));
  if (!recipient) {
    const channel = header.split("<|channel|>")[1] ?? "";
    const kind = channel.startsWith("analysis") ? "reasoning" : "content";
    return { kind, text: body, name: "", open: !whole };
  }
  if (!whole) {
    return { kind: "call", text: "", name: "", open: true };
  }
  const name = recipient[1] === "functions" ? "" : recipient[1];
  const source = name ? `{"name": ${JSON.stringify(name)}, "arguments": ${body || "{}"}}` : body;
  const [call] = readCalls(source) ?? [];
  return call
    ? { kind: "call", open: false, ...call }
    : { kind: "content", text: body, name: "", open: false };
}

/** Return the length of a possible partial mark at the end of the text. @param {string} text */
function pending(text) {
  const at = text.lastIndexOf("<");
  const tail = at < 0 ? "" : text.slice(at);
  return tail && MARKS.some((mark) => mark.startsWith(tail)) ? tail.length : 0;
}
