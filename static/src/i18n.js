/** The page's language: texts come from Django's JavaScript catalogue (`/jsi18n/`). */

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
 * Puts values in the places of a text: `{name}`.
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

/** Seconds from one on. @param {number} ms */
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
  const units = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
  // Steps of 1024, as Django's `filesizeformat` on the same pages.
  const power = Math.min(Math.floor(Math.log2(Math.max(value, 1)) / 10), units.length - 1);
  return new Intl.NumberFormat(locale, {
    style: "unit",
    unit: units[power],
    maximumFractionDigits: 1,
  }).format(value / 1024 ** power);
}

/** @param {Date} date */
export function month(date) {
  const year = date.getFullYear() === new Date().getFullYear() ? undefined : "numeric";
  return new Intl.DateTimeFormat(locale, { month: "long", year }).format(date);
}

/** The day alone, short. @param {string} iso */
export function day(iso) {
  const date = new Date(iso);
  const year = date.getFullYear() === new Date().getFullYear() ? undefined : "numeric";
  return new Intl.DateTimeFormat(locale, { day: "numeric", month: "short", year }).format(date);
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
