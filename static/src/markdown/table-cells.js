/**
 * Line breaks in table cells. A cell is one line of Markdown: models write HTML's `<br>`, the only
 * tag that is supported.
 *
 * @typedef {import("markdown-it").MarkdownIt} MarkdownIt
 */

const CELLS = new Set(["td_open", "th_open"]);
const BREAK = /<br\s*\/?>/iu;

/** @param {MarkdownIt} parser */
export function withCellBreaks(parser) {
  // Before text tokens are joined: a tag written with entities is text.
  parser.core.ruler.before("text_join", "cell_breaks", ({ tokens, Token }) => {
    tokens.forEach((token, at) => {
      if (token.type === "inline" && CELLS.has(tokens[at - 1]?.type)) {
        token.children = (token.children ?? []).flatMap((child) => broken(child, Token));
      }
    });
  });
}

/**
 * @param {import("markdown-it").Token} token
 * @param {typeof import("markdown-it").Token} Token
 * @returns {import("markdown-it").Token[]} the text with each `<br>` as a break
 */
function broken(token, Token) {
  if (token.type !== "text" || !BREAK.test(token.content)) {
    return [token];
  }
  return token.content.split(BREAK).flatMap((content, part) => {
    const text = new Token("text", "", 0);
    text.content = content;
    return part === 0 ? [text] : [new Token("hardbreak", "br", 0), text];
  });
}
