/** Tells users that an administrator has read a conversation of theirs, until they confirm. */
import { byId, h, isSignedOut } from "../lib/dom.js";
import { dateTime, fill, gettext } from "../lib/i18n.js";

/**
 * @param {import("../lib/wire").AdminReadNotice[]} reads
 * @param {import("../server/api.js").Api} api
 * @param {(conversation: string) => void} onOpen
 */
export function showReadNotices(reads, api, onOpen) {
  const place = byId("read-notices");
  place.replaceChildren(
    ...reads.map((read) => {
      const values = {
        reader: read.reader,
        title: read.title || gettext("Untitled"),
        time: dateTime(read.created_at),
      };
      const text = read.conversation
        ? fill(gettext("{reader} (administration) read your chat “{title}” on {time}."), values)
        : fill(
            gettext("{reader} (administration) read one of your deleted chats on {time}."),
            values,
          );
      const open = h(
        "button",
        { type: "button", className: "button", onclick: () => onOpen(read.conversation ?? "") },
        gettext("Open chat"),
      );
      const confirm = h("button", { type: "button", className: "button" }, gettext("OK"));
      const notice = h(
        "div",
        { className: "notice note", role: "status" },
        h(
          "span",
          { dir: "auto" },
          text,
          " ",
          fill(gettext("Reason: {reason}"), { reason: read.reason }),
        ),
        ...(read.conversation ? [open] : []),
        confirm,
      );
      confirm.onclick = async () => {
        try {
          await api.confirmRead(read.id);
          notice.remove();
        } catch (error) {
          isSignedOut(error);
        }
      };
      return notice;
    }),
  );
}
