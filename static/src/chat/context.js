/** Usage of the model's context, and where in a conversation it begins. Pure. */
import { Output } from "../output/output.js";

/**
 * @typedef {object} Figures tokens
 * @property {number} context length for prompt and answer
 * @property {number} system
 * @property {number} history
 * @property {number} attachments
 * @property {number} message
 * @property {number} [passages] the most that passages of documents take
 * @property {boolean} estimated
 *
 * @typedef {import("./thread.js").Step} Step
 */

/** Smallest share of the context that must be left for the answer. */
const ROOM_SHARE = 0.1;

/** @param {Figures} figures */
export function reckon(figures) {
  const { context, system, history, attachments, message, passages = 0 } = figures;
  const used = system + history + attachments + message + passages;
  return {
    used,
    room: Math.max(0, context - used),
    /** Tokens in excess of the context, one of which the answer needs. */
    over: Math.max(0, used - context + 1),
    tight: used > context * (1 - ROOM_SHARE),
    share: Math.min(1, used / context),
  };
}

/**
 * Return whether a message is left out of prompts: no text and no files, or only reasoning.
 * @param {Step} message
 */
function isSilent({ content, attachments, generation }) {
  const parts = new Output(generation?.syntax ?? {}).read(content, true);
  return attachments.length === 0 && parts.every(({ kind }) => kind === "reasoning");
}

/**
 * Return the id of the first message in the prompt of the branch's last answer, null if the prompt
 * had all. Counts as the server builds a prompt: empty messages are left out, and adjacent messages
 * of one role are joined.
 * @param {Step[]} path
 * @returns {string | null}
 */
export function firstInContext(path) {
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
