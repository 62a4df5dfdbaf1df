/**
 * What a message sends of its attachments: all, chosen pages, or what matches the question.
 *
 * @typedef {import("../lib/wire").Attachment & {chosen?: boolean}} Attachment `chosen` by the user;
 *   else the server decides by what fits
 */
import { h } from "../lib/dom.js";
import { fill, gettext, number } from "../lib/i18n.js";

/**
 * Return the user's choices, as commands have them.
 * @param {Attachment[]} attachments
 * @returns {import("../lib/wire").Chosen[]}
 */
export function selectionsOf(attachments) {
  return attachments
    .filter(({ chosen }) => chosen)
    .map(({ id, send, send_pages: pages }) => ({ attachment: id, send, pages }));
}

/**
 * Return whether there is something to choose.
 * @param {Attachment} attachment
 * @param {boolean} matches whether what matches the question is sent of it by default
 */
export function choosable({ pages, chosen }, matches) {
  return matches || Boolean(chosen) || (pages ?? 0) > 1;
}

/**
 * Return the controls that choose what is sent of an attachment.
 * @param {Attachment} attachment takes the choice
 * @param {Attachment["send"]} send what is sent now
 * @param {() => void} onChange
 */
export function selectionControl(attachment, send, onChange) {
  const { name, pages } = attachment;
  /** @type {[Attachment["send"], string][]} */
  const options = [
    ["matches", gettext("Matching pages")],
    ["pages", gettext("Chosen pages")],
    ["whole", gettext("Whole document")],
  ];
  if (!pages || pages < 2) {
    options.splice(0, 2, ["matches", gettext("Matching passages")]);
  }
  const select = h(
    "select",
    { "aria-label": fill(gettext("What is sent of {name}"), { name }) },
    ...options.map(([value, label]) => h("option", { value, selected: value === send }, label)),
  );
  select.onchange = () => {
    attachment.send = /** @type {Attachment["send"]} */ (select.value);
    attachment.chosen = true;
    if (attachment.send === "pages") {
      attachment.send_pages ||= "1";
    }
    onChange();
  };
  const range = h("input", {
    type: "text",
    className: "page-range",
    value: attachment.send_pages,
    maxLength: 200,
    placeholder: "3-7, 12",
    hidden: send !== "pages",
    "aria-label": fill(gettext("Pages of {name}, 1 to {pages}"), {
      name,
      pages: number(pages ?? 1),
    }),
  });
  range.onchange = () => {
    attachment.send_pages = range.value.trim() || "1";
    onChange();
  };
  range.onkeydown = (event) => {
    if (event.key === "Enter") {
      // The form around it would be sent.
      event.preventDefault();
      range.blur();
    }
  };
  return h("span", { className: "selection" }, select, range);
}
