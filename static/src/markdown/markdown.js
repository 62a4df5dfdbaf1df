/**
 * Markdown to sanitized DOM. Loaded after the first paint.
 *
 * A model's output is untrusted: the parser has raw HTML disabled, and DOMPurify allows only known
 * elements and attributes. The page's CSP is the third layer of defence.
 */
import DOMPurify from "dompurify";
import MarkdownIt from "markdown-it";
import { withCellBreaks } from "./table-cells.js";
import { linkCitations, withCitations } from "./citations.js";
import { withCjkEmphasis } from "./cjk-emphasis.js";
import { h, icon } from "../lib/dom.js";
import { linkFootnotes, withFootnotes } from "./footnotes.js";
import { gettext } from "../lib/i18n.js";
import { withMath } from "./math.js";

export { Blocks } from "./blocks.js";
export { CodeBlock } from "./code-block.js";

const TEXT_BLOCKS = new Set([
  "blockquote_open",
  "bullet_list_open",
  "heading_open",
  "ordered_list_open",
  "paragraph_open",
  "td_open",
  "th_open",
]);
const CELLS = new Set(["td_open", "th_open"]);

const CLEAN = {
  ALLOWED_TAGS: (
    "a blockquote br code del div em h1 h2 h3 h4 h5 h6 hr li ol p pre s strong sub sup table " +
    "span tbody td th thead tr ul"
  ).split(" "),
  ALLOWED_ATTR: [
    "class",
    "data-cite",
    "data-language",
    "data-note",
    "dir",
    "href",
    "rel",
    "start",
    "target",
    "title",
  ],
  // DOMPurify checks the values of all attributes against this, except those named below.
  ALLOWED_URI_REGEXP: /^(?:https?|mailto|tel):/iu,
  ADD_URI_SAFE_ATTR: [
    "class",
    "data-cite",
    "data-language",
    "data-note",
    "dir",
    "rel",
    "start",
    "target",
  ],
  ALLOW_ARIA_ATTR: false,
  ALLOW_DATA_ATTR: false,
  RETURN_DOM_FRAGMENT: /** @type {const} */ (true),
};

export const parser = new MarkdownIt({ html: false, linkify: true, breaks: false });
parser.linkify.set({ fuzzyLink: false, fuzzyEmail: false });
withCjkEmphasis(parser);
withCellBreaks(parser);
withMath(parser);
withFootnotes(parser);
withCitations(parser);

// Each block has automatic direction, a list or quotation as a whole: descendants with a direction
// of their own would not count. Column alignment is a class, since CSP blocks style attributes.
parser.core.ruler.push("attributes", (state) => {
  for (const token of state.tokens) {
    if (TEXT_BLOCKS.has(token.type) && (token.level === 0 || CELLS.has(token.type))) {
      token.attrSet("dir", "auto");
    }
    const align = /text-align:\s*(\w+)/u.exec(String(token.attrGet("style") ?? ""));
    if (align) {
      token.attrs = (token.attrs ?? []).filter(([name]) => name !== "style");
      token.attrSet("class", `align-${align[1]}`);
    }
  }
});

const rules = parser.renderer.rules;
const escape = parser.utils.escapeHtml;

/** @param {string} info string of a fence */
export function languageOf(info) {
  return info.trim().split(/\s+/u, 1)[0].toLowerCase();
}

rules.fence = (tokens, index) => {
  const { content, info } = tokens[index];
  const language = escape(languageOf(info));
  return `<div class="code" data-language="${language}"><pre><code>${escape(content)}</code></pre></div>\n`;
};
rules.code_block = (tokens, index) =>
  `<div class="code"><pre><code>${escape(tokens[index].content)}</code></pre></div>\n`;
rules.table_open = () => '<div class="table"><table>\n';
rules.table_close = () => "</table></div>\n";
rules.link_open = (tokens, index, options, _env, self) => {
  tokens[index].attrSet("target", "_blank");
  tokens[index].attrSet("rel", "noopener noreferrer");
  return self.renderToken(tokens, index, options);
};
// The page loads nothing from other sites: an image becomes a link.
rules.image = (tokens, index) => {
  const token = tokens[index];
  const source = escape(String(token.attrGet("src") ?? ""));
  const text = escape(token.content) || source;
  return `<a href="${source}" target="_blank" rel="noopener noreferrer">${text}</a>`;
};

/**
 * @param {string} source
 * @param {Record<string, any>} env link definitions, shared by the pieces of one text, and `cites`
 * @returns {DocumentFragment}
 */
export function render(source, env) {
  const fragment = DOMPurify.sanitize(parser.render(source, env), CLEAN);
  for (const block of fragment.querySelectorAll("div.code")) {
    block.append(copyCodeButton());
    asRegion(block.querySelector("pre"), gettext("Code"));
  }
  for (const table of fragment.querySelectorAll("div.table")) {
    asRegion(table, gettext("Table"));
  }
  for (const item of fragment.querySelectorAll("li")) {
    asTask(item);
  }
  linkFootnotes(fragment);
  linkCitations(fragment, env.cites);
  return fragment;
}

/**
 * Make wide elements scrollable by keyboard.
 * @param {Element | null} element
 * @param {string} label
 */
function asRegion(element, label) {
  element?.setAttribute("tabindex", "0");
  element?.setAttribute("role", "group");
  element?.setAttribute("aria-label", label);
}

/** Create an empty code block, to be filled by `CodeBlock`. @param {string} language */
export function codeBlock(language) {
  const code = h("code");
  const block = h(
    "div",
    { className: "code", "data-language": language },
    h("pre", {}, code),
    copyCodeButton(),
  );
  asRegion(block.querySelector("pre"), gettext("Code"));
  return { block, code };
}

function copyCodeButton() {
  const label = gettext("Copy code");
  return h(
    "button",
    { type: "button", className: "icon-button copy-code", title: label, "aria-label": label },
    icon("copy"),
  );
}

/** Turn "[x] done" at the beginning of an item into a checkbox. @param {Element} item */
function asTask(item) {
  const first = item.firstChild?.nodeName === "P" ? item.firstChild.firstChild : item.firstChild;
  const match = first instanceof Text ? /^\s*\[([ xX])\]\s+/u.exec(first.data) : null;
  if (first instanceof Text && match) {
    first.data = first.data.slice(match[0].length);
    const checked = match[1] !== " ";
    const label = checked ? gettext("Done") : gettext("Not done");
    const box = h("input", { type: "checkbox", disabled: true, checked, "aria-label": label });
    first.before(box);
    item.classList.add("task");
  }
}
