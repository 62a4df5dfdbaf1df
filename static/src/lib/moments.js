/** Order the times that the server sends: they have microseconds, which `Date` cuts off. */

const FRACTION = /\.(\d{1,6})/u;

/**
 * @param {string} text in ISO 8601
 * @returns {number} microseconds since 1970, NaN without a valid time
 */
export function microseconds(text) {
  const fraction = FRACTION.exec(text)?.[1] ?? "";
  return Date.parse(text.replace(FRACTION, "")) * 1000 + Number(fraction.padEnd(6, "0"));
}
