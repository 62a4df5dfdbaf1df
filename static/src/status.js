/** In words: what an answer waits for, how it ended, how fast it was. */
import { duration, fill, gettext, number, percent, placeInLine, seconds } from "./i18n.js";

/**
 * @typedef {import("./stream.js").Stream} Stream
 * @typedef {import("./thread.js").Generation} Generation
 */

/**
 * What stands where the first text will come.
 * @param {Stream | null} stream
 * @param {boolean} [exact] false leaves out what changes all the time
 */
export function waitingText(stream, exact = true) {
  const waiting = stream?.waiting;
  if (!waiting) {
    return gettext("Thinking…");
  }
  const parts = [];
  const { model, progress, ahead, seconds } = waiting;
  if (model === "loading") {
    parts.push(
      progress === null || !exact
        ? gettext("Loading the model…")
        : fill(gettext("Loading the model, {percent}"), { percent: percent(progress) }),
    );
  } else if (model === "measuring") {
    parts.push(gettext("Finding the model's best settings for this machine…"));
  } else if (model === "waiting") {
    parts.push(gettext("Waiting for room to load the model…"));
  } else if (model === "failed") {
    parts.push(gettext("The model stopped. It is being started again…"));
  }
  const wait = seconds && exact ? about(seconds) : "";
  if (ahead > 0 || wait) {
    const place = ahead > 0 ? placeInLine(ahead + 1) : gettext("Next in line");
    parts.push(wait ? fill(gettext("{place}, about {time}"), { place, time: wait }) : place);
  }
  return parts.join(" · ") || gettext("Thinking…");
}

/** A time as one says it when it is not known exactly. @param {number} seconds */
function about(seconds) {
  const step = seconds < 10 ? 1 : seconds < 60 ? 5 : 60;
  return duration(Math.ceil(seconds / step) * step * 1000);
}

/**
 * How an answer ended, when it is not simply done.
 * @param {Generation} generation
 * @returns {{kind: "note" | "error", text: string, retry: boolean, cut: boolean} | null} `cut`:
 *   the model could have gone on
 */
export function endText(generation) {
  const { state, error, finish_reason: reason, usage } = generation;
  if (state === "failed") {
    return {
      kind: "error",
      text: error?.message ?? gettext("Something went wrong on the server. Try again in a moment."),
      retry: error?.code !== "context_length_exceeded",
      cut: error?.code !== "context_length_exceeded",
    };
  }
  if (state === "interrupted") {
    const text = gettext("The answer was interrupted by a fault. What was written is kept.");
    return { kind: "error", text: error?.message ?? text, retry: true, cut: true };
  }
  if (state === "cancelled") {
    return { kind: "note", text: gettext("You stopped this answer."), retry: false, cut: true };
  }
  if (state === "done" && reason === "length") {
    // Continued, it found no room for a single token.
    if (usage.completion_tokens === 0) {
      const full = gettext("The conversation fills what the model can take in. Start a new chat.");
      return { kind: "note", text: full, retry: false, cut: false };
    }
    const text = gettext("The answer ends here because it reached the model's length limit.");
    return { kind: "note", text, retry: false, cut: true };
  }
  return null;
}

/**
 * @param {Generation} generation
 * @returns {{text: string, details: string}} a line and a tooltip
 */
export function figures({ model, assistant, usage, timings }) {
  const parts = [assistant ? `${assistant.icon} ${assistant.name}` : model];
  const tokens = usage.completion_tokens;
  if (tokens && timings.decode > 0) {
    const speed = number(Math.round((tokens / timings.decode) * 10_000) / 10);
    parts.push(fill(gettext("{speed} tokens/s"), { speed }));
  }
  const details = [];
  if (tokens) {
    details.push(fill(gettext("{count} tokens written"), { count: number(tokens) }));
  }
  if (usage.prompt_tokens) {
    const values = {
      count: number(usage.prompt_tokens),
      cached: number(usage.cached_tokens ?? 0),
    };
    details.push(fill(gettext("{count} tokens read, {cached} of them remembered"), values));
  }
  if (timings.ttft > 0) {
    details.push(fill(gettext("first word after {time}"), { time: seconds(timings.ttft) }));
  }
  return { text: parts.join(" · "), details: details.join(", ") };
}
