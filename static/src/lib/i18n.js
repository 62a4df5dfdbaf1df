/** Translations from Django's JavaScript catalogue (`/jsi18n/`) and localized formats. */

/**
 * @typedef {object} Catalogue
 * @property {(text: string) => string} [gettext]
 * @property {(one: string, many: string, count: number) => string} [ngettext]
 */
const catalogue = /** @type {Catalogue} */ (/** @type {unknown} */ (globalThis));

/** @param {string} text */
export function gettext(text) {
  return catalogue.gettext ? catalogue.gettext(text) : text;
}

/**
 * @param {string} one
 * @param {string} many
 * @param {number} count
 */
export function ngettext(one, many, count) {
  if (catalogue.ngettext) {
    return catalogue.ngettext(one, many, count);
  }
  return count === 1 ? one : many;
}

/**
 * Fill the placeholders `{name}` of a text.
 * @param {string} text
 * @param {Record<string, string | number>} values
 */
export function fill(text, values) {
  return text.replace(/\{(\w+)\}/gu, (place, name) => String(values[name] ?? place));
}

export const locale = globalThis.document?.documentElement.lang || "en";

/** @param {number} value */
export function number(value) {
  return new Intl.NumberFormat(locale, { maximumFractionDigits: 1 }).format(value);
}

/**
 * "2 min".
 * @param {number} value
 * @param {"second" | "minute" | "megabyte" | "kilobyte" | "gigabyte" | "terabyte"} name
 */
export function unit(value, name) {
  return new Intl.NumberFormat(locale, {
    style: "unit",
    unit: name,
    unitDisplay: "short",
    maximumFractionDigits: 1,
  }).format(value);
}

/** @param {number} value 0 to 1 */
export function percent(value) {
  return new Intl.NumberFormat(locale, { style: "percent" }).format(value);
}

/** @param {number} ms */
export function seconds(ms) {
  return new Intl.NumberFormat(locale, {
    style: "unit",
    unit: "second",
    unitDisplay: "narrow",
    maximumFractionDigits: ms < 10_000 ? 1 : 0,
  }).format(ms / 1000);
}

/** "1m 5s". @param {number} ms */
export function duration(ms) {
  if (ms < 60_000) {
    return seconds(ms < 1000 ? Math.max(ms, 100) : Math.round(ms / 1000) * 1000);
  }
  const minutes = new Intl.NumberFormat(locale, {
    style: "unit",
    unit: "minute",
    unitDisplay: "narrow",
  });
  const rest = Math.round((ms % 60_000) / 1000) * 1000;
  const whole = minutes.format(Math.floor(ms / 60_000));
  return rest ? `${whole} ${seconds(rest)}` : whole;
}

/** Milliseconds below one second, else seconds. @param {number} ms */
export function milliseconds(ms) {
  return ms >= 1000
    ? seconds(ms)
    : new Intl.NumberFormat(locale, {
        style: "unit",
        unit: "millisecond",
        maximumFractionDigits: 0,
      }).format(ms);
}

/** @param {number} value */
export function bytes(value) {
  const units = /** @type {const} */ (["kilobyte", "megabyte", "gigabyte", "terabyte"]);
  // Factors of 1024 and at most three digits, as `file_size` of the server.
  const whole = Math.max(value, 1);
  const floor = Math.floor(Math.log2(whole) / 10);
  const power = Math.min(whole / 1024 ** floor >= 1000 ? floor + 1 : floor, units.length);
  // Intl's short form of "byte" is "byte" in most languages, also for a plural.
  return power === 0 ? `${number(value)} B` : unit(value / 1024 ** power, units[power - 1]);
}

/** @param {Date} date */
export function month(date) {
  const year = date.getFullYear() === new Date().getFullYear() ? undefined : "numeric";
  return new Intl.DateTimeFormat(locale, { month: "long", year }).format(date);
}

/** Short date without time. @param {string} iso */
export function day(iso) {
  const date = new Date(iso);
  const year = date.getFullYear() === new Date().getFullYear() ? undefined : "numeric";
  return new Intl.DateTimeFormat(locale, { day: "numeric", month: "short", year }).format(date);
}

/** The local time of a moment in the future: "at 14:00", with the date unless it is today. */
export function until(/** @type {string} */ iso) {
  const date = new Date(iso);
  const today = date.toDateString() === new Date().toDateString();
  const style = new Intl.DateTimeFormat(locale, {
    ...(!today && { dateStyle: /** @type {const} */ ("medium") }),
    timeStyle: "short",
  });
  return fill(today ? gettext("at {time}") : gettext("on {time}"), { time: style.format(date) });
}

/** @param {string} iso */
export function dateTime(iso) {
  return new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" }).format(
    new Date(iso),
  );
}

/**
 * "3rd in line".
 * @param {number} place from 1
 */
export function placeInLine(place) {
  const texts = {
    one: gettext("{place}st in line"),
    two: gettext("{place}nd in line"),
    few: gettext("{place}rd in line"),
    other: gettext("{place}th in line"),
  };
  const rule = new Intl.PluralRules("en", { type: "ordinal" }).select(place);
  return fill(texts[/** @type {keyof typeof texts} */ (rule)], { place });
}
