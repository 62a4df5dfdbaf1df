/** Files that are dropped anywhere on the page. */
import { byId } from "./dom.js";

/** @param {DragEvent} event */
function hasFiles(event) {
  return event.dataTransfer?.types.includes("Files") ?? false;
}

/** @param {(files: File[]) => void} take */
export function takeDrops(take) {
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
