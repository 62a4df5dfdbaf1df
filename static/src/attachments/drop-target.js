/** Accept files that are dropped anywhere on the page. */
import { byId } from "../lib/dom.js";
import { allows } from "../lib/features.js";

/** @param {DragEvent} event */
function hasFiles(event) {
  return allows("attachments") && (event.dataTransfer?.types.includes("Files") ?? false);
}

/** @param {(files: File[]) => void} take */
export function onFilesDropped(take) {
  const sign = byId("drop");
  addEventListener("dragenter", (event) => {
    sign.hidden = !hasFiles(event);
  });
  addEventListener("dragover", (event) => {
    if (hasFiles(event)) {
      event.preventDefault();
    }
  });
  sign.addEventListener("dragleave", () => {
    sign.hidden = true;
  });
  addEventListener("drop", (event) => {
    sign.hidden = true;
    if (hasFiles(event)) {
      event.preventDefault();
      take([...(event.dataTransfer?.files ?? [])]);
    }
  });
}
