/** Texts for an answer's status: what it waits for, how it ended, how fast it was. */
import { withErrorId } from "../lib/error-id.js";
import { displayName } from "../lib/model-names.js";
import { fill, gettext, number, percent, placeInLine, seconds, unit } from "../lib/i18n.js";

/**
 * @typedef {import("../chat/stream.js").Stream} Stream
 * @typedef {import("../lib/wire").Generation} Generation
 */

/**
 * Return the status that is shown until the first text arrives.
 * @param {Stream | null} stream
 * @param {boolean} [exact] false leaves out estimates, which change often
 */
export function waitingText(stream, exact = true) {
  const delay = delayText(stream);
  if (delay) {
    return delay;
  }
  const waiting = stream?.waiting;
  if (!waiting) {
    return gettext("Reading…");
  }
  const parts = [];
  const { model, progress, ahead, seconds } = waiting;
  if (model === "loading" || model === "tuning") {
    parts.push(
      progress === null || !exact || model === "tuning"
        ? gettext("Loading the model…")
        : fill(gettext("Loading the model, {percent}"), { percent: percent(progress) }),
    );
  } else if (model === "waiting") {
    parts.push(gettext("Waiting for free memory to load the model…"));
  } else if (model === "unreachable") {
    parts.push(gettext("The server of this model is not responding. Trying again…"));
  } else if (model === "failed") {
    parts.push(gettext("The model crashed. Restarting it…"));
  }
  const wait = seconds && exact ? about(seconds) : "";
  if (ahead > 0 || wait) {
    const place = ahead > 0 ? placeInLine(ahead + 1) : gettext("You are next");
    parts.push(wait ? fill(gettext("{place}, about {time}"), { place, time: wait }) : place);
  }
  return parts.join(" · ") || gettext("Reading…");
}

/**
 * Return why an open answer has stalled, "" if it has not.
 * @param {Stream | null} stream
 */
export function delayText(stream) {
  if (!stream || stream.ended) {
    return "";
  }
  if (stream.silent) {
    return gettext("The server is slow to answer. Your answer continues when it responds.");
  }
  if (stream.text && stream.waiting) {
    return gettext("The model is restarting. Your answer continues in a moment.");
  }
  return "";
}

/** Return an estimated time, rounded up: "25 sec", "2 min". @param {number} seconds */
function about(seconds) {
  const step = seconds < 10 ? 1 : seconds < 60 ? 5 : 60;
  const rounded = Math.ceil(seconds / step) * step;
  return rounded < 60 ? unit(rounded, "second") : unit(rounded / 60, "minute");
}

/**
 * Return how an answer ended, null if it is complete.
 * @param {Generation} generation
 * @param {boolean} [empty] whether it has neither content nor tool calls
 * @returns {{kind: "note" | "error", text: string, retry: boolean, cut: boolean} | null} `retry`:
 *   regenerating may help; `cut`: the model could have continued
 */
export function endText(generation, empty = false) {
  const { state, error, finish_reason: reason, usage } = generation;
  if (state === "failed") {
    const text =
      error?.message ?? gettext("Something went wrong on the server. Try again in a moment.");
    return {
      kind: "error",
      text: withErrorId(text, error?.code ?? "error", generation.id),
      retry: error?.code !== "context_length_exceeded",
      cut: error?.code !== "context_length_exceeded",
    };
  }
  if (state === "interrupted") {
    const text = gettext(
      "The answer was interrupted by an error. The text generated so far has been kept.",
    );
    return {
      kind: "error",
      text: withErrorId(error?.message ?? text, "interrupted", generation.id),
      retry: true,
      cut: true,
    };
  }
  if (state === "cancelled" && reason === "administrator") {
    const text = gettext("An administrator stopped this answer.");
    return { kind: "note", text, retry: false, cut: true };
  }
  if (state === "cancelled") {
    return { kind: "note", text: gettext("You stopped this answer."), retry: false, cut: true };
  }
  if (state === "done" && reason === "repetition") {
    const text = gettext("Stopped: the model was repeating itself.");
    return { kind: "note", text, retry: true, cut: true };
  }
  if (state === "done" && reason === "length") {
    // The continued answer had no room for a single token.
    if (usage.completion_tokens === 0) {
      const full = gettext(
        "This conversation has reached the model's context limit. Start a new chat.",
      );
      return { kind: "note", text: full, retry: false, cut: false };
    }
    const text = gettext("The answer ends here because it reached the model's length limit.");
    return { kind: "note", text, retry: false, cut: true };
  }
  if (state === "done" && empty) {
    const text = gettext("The model ended without an answer.");
    return { kind: "error", text, retry: true, cut: false };
  }
  return null;
}

/** Return the label of the retry button. @param {Generation} generation */
export function retryLabel({ state }) {
  return state === "done" ? gettext("Regenerate") : gettext("Retry");
}

/**
 * @param {Generation} generation
 * @returns {{author: string, speed: string, details: string}} author, speed ("" if
 *   unknown) and a tooltip
 */
export function figures({ model, assistant, usage, timings }) {
  const author = assistant ? `${assistant.icon} ${assistant.name}`.trim() : displayName(model);
  const tokens = usage.completion_tokens;
  const rate = tokens && timings.decode > 0 ? (tokens / timings.decode) * 1000 : 0;
  const speed = rate > 0 ? fill(gettext("{speed} tokens/s"), { speed: number(rate) }) : "";
  const details = speed ? [speed] : [];
  if (tokens) {
    details.push(fill(gettext("{count} output tokens"), { count: number(tokens) }));
  }
  if (usage.prompt_tokens) {
    const values = {
      count: number(usage.prompt_tokens),
      cached: number(usage.cached_tokens ?? 0),
    };
    details.push(fill(gettext("{count} prompt tokens ({cached} cached)"), values));
  }
  if (timings.ttft > 0) {
    details.push(fill(gettext("first token after {time}"), { time: seconds(timings.ttft) }));
  }
  return { author, speed, details: details.join(", ") };
}
