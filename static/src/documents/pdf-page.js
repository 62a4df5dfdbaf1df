/** Draw pages of a PDF with pdf.js. Loaded when the first PDF is opened. */
import { GlobalWorkerOptions, TextLayer, getDocument } from "pdfjs-dist/legacy/build/pdf.mjs";
import { h } from "../lib/dom.js";
import { inPassage } from "./highlight-range.js";

// `build.mjs` puts the worker and the data of fonts there. This module is in `chunks/`.
const FILES = new URL("../pdf/", import.meta.url).href;
GlobalWorkerOptions.workerSrc = `${FILES}worker.js`;
/** Sharper than the screen needs on most, but small enough for a phone. */
const MOST_PIXELS = 2;

export class PdfPages {
  /** @param {import("pdfjs-dist").PDFDocumentLoadingTask} task */
  constructor(task) {
    this.task = task;
    /** @type {import("pdfjs-dist").RenderTask | null} */
    this.drawing = null;
  }

  /**
   * Open a PDF. Only the parts that are shown are fetched.
   * @param {string} url
   */
  static async open(url) {
    const pages = new PdfPages(
      getDocument({
        url,
        cMapUrl: `${FILES}cmaps/`,
        cMapPacked: true,
        standardFontDataUrl: `${FILES}standard_fonts/`,
        wasmUrl: `${FILES}wasm/`,
        // The content security policy allows no WebAssembly.
        useWasm: false,
        disableAutoFetch: true,
        disableStream: true,
      }),
    );
    pages.document = await pages.task.promise;
    return pages;
  }

  /** @type {import("pdfjs-dist").PDFDocumentProxy | null} */
  document = null;

  get count() {
    return this.document?.numPages ?? 0;
  }

  /**
   * Draw a page into `place`, and mark the passage.
   * @param {HTMLElement} place
   * @param {number} number from 1
   * @param {string} passage "" marks nothing
   * @param {string} label of the picture, for screen readers
   * @returns {Promise<HTMLElement | null>} the first marked element
   */
  async draw(place, number, passage, label) {
    this.drawing?.cancel();
    const page = await /** @type {any} */ (this.document).getPage(number);
    const { width } = page.getViewport({ scale: 1 });
    const scale = Math.max(0.4, (place.clientWidth || 600) / width);
    const viewport = page.getViewport({ scale });
    const ratio = Math.min(globalThis.devicePixelRatio || 1, MOST_PIXELS);
    const canvas = h("canvas", { role: "img", "aria-label": label });
    canvas.width = Math.floor(viewport.width * ratio);
    canvas.height = Math.floor(viewport.height * ratio);
    const layer = h("div", { className: "pdf-text" });
    const sheet = h("div", { className: "pdf-page" }, canvas, layer);
    sheet.style.setProperty("--page-width", `${viewport.width}px`);
    sheet.style.setProperty("--page-height", `${viewport.height}px`);
    sheet.style.setProperty("--total-scale-factor", String(scale));
    this.drawing = page.render({ canvas, viewport, transform: [ratio, 0, 0, ratio, 0, 0] });
    const text = new TextLayer({
      textContentSource: await page.getTextContent(),
      container: layer,
      viewport,
    });
    await text.render();
    const marked = passage
      ? inPassage(
          text.textDivs.map((div) => div.textContent ?? ""),
          passage,
        )
      : [];
    const found = text.textDivs.filter((_, index) => marked[index]);
    found.forEach((div) => div.classList.add("marked"));
    place.replaceChildren(sheet);
    await /** @type {any} */ (this.drawing).promise.catch((/** @type {Error} */ error) => {
      if (error.name !== "RenderingCancelledException") {
        throw error;
      }
    });
    return /** @type {HTMLElement | undefined} */ (found[0]) ?? null;
  }

  close() {
    this.drawing?.cancel();
    this.task.destroy();
  }
}
