/** How full the model's context is, and what of a conversation it no longer sees: pure. */
import { Output } from "./output.js";

/**
 * @typedef {object} Figures tokens
 * @property {number} context that one answer has, with all before it
 * @property {number} system
 * @property {number} history
 * @property {number} attachments
 * @property {number} message
 * @property {boolean} estimated
 *
 * @typedef {import("./thread.js").Step} Step
 */

/** An answer needs this share of the context to be worth beginning. */
const ROOM_SHARE = 0.1;

/** @param {Figures} figures */
export function reckon(figures) {
  const { context, system, history, attachments, message } = figures;
  const used = system + history + attachments + message;
  return {
    used,
    room: Math.max(0, context - used),
    /** Tokens above what the context holds; one is needed for the answer. */
    over: Math.max(0, used - context + 1),
    tight: used > context * (1 - ROOM_SHARE),
    share: Math.min(1, used / context),
  };
}

/**
 * Whether a message is in no prompt: without text or files, or nothing but reasoning.
 * @param {Step} message
 */
function isSilent({ content, attachments, generation }) {
  const parts = new Output(generation?.syntax ?? {}).read(content, true);
  return attachments.length === 0 && parts.every(({ kind }) => kind === "reasoning");
}

/**
 * The first message that the model saw when it wrote the last answer of the branch; null when it
 * saw all. It counts as the server builds a prompt: silent messages are not there, and neighbours
 * of one role are one.
 * @param {Step[]} path
 * @returns {string | null}
 */
export function firstSeen(path) {
  const at = path.findLastIndex(
    ({ generation }) => generation !== null && (generation.usage.prompt_tokens ?? 0) > 0,
  );
  const leftOut = path[at]?.generation?.left_out ?? 0;
  if (leftOut === 0) {
    return null;
  }
  let role = "";
  let count = 0;
  for (const message of path.slice(0, at)) {
    if (isSilent(message)) {
      continue;
    }
    if (message.role !== role) {
      role = message.role;
      count += role === "system" ? 0 : 1;
    }
    if (count > leftOut) {
      return message.id;
    }
  }
  return null;
}
