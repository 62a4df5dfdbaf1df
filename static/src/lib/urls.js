/** URLs of this site, which a proxy may serve under a path prefix. */

/** Before "/static/" in this script's own address: "/chat", or "" at the root of a host. */
const { protocol, pathname } = new URL(import.meta.url);
const prefix = protocol.startsWith("http") ? pathname.slice(0, pathname.indexOf("/static/")) : "";

/**
 * Return a URL of the site with the path prefix.
 * @param {string} path from the site's root, beginning with a slash
 */
export function at(path) {
  return prefix + path;
}

/** Return the path of the current page without the prefix. */
export function here() {
  return location.pathname.slice(prefix.length);
}

/**
 * Return the URL of a WebSocket of the site.
 * @param {string} path from the site's root
 */
export function socketAt(path) {
  return `${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}${at(path)}`;
}
