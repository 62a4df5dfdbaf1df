/**
 * Scroll along with streamed text while the reader is at its end; stop when they scroll up.
 */

import { show } from "../lib/dom.js";

/** Distance from the end that counts as being at the end, in pixels. */
const NEAR = 48;

export class Follow {
  #following = true;
  #top = 0;
  #height = 0;

  /**
   * @param {HTMLElement} scroller
   * @param {HTMLElement} content
   * @param {HTMLElement} jump button that scrolls to the end
   */
  constructor(scroller, content, jump) {
    this.scroller = scroller;
    this.jump = jump;
    scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    scroller.addEventListener("wheel", (event) => event.deltaY < 0 && this.#letGo(), {
      passive: true,
    });
    jump.addEventListener("click", () => this.toEnd(true));
    const observer = new ResizeObserver(() => this.#resized());
    observer.observe(content);
    observer.observe(scroller);
  }

  /** @param {boolean} [smooth] */
  toEnd(smooth = false) {
    this.#following = true;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const { scrollHeight } = this.scroller;
    this.scroller.scrollTo({ top: scrollHeight, behavior: smooth && !calm ? "smooth" : "instant" });
    this.#show();
  }

  /** Scroll to an element and stay there. @param {Element} element */
  show(element) {
    this.#following = false;
    element.scrollIntoView({ block: element.clientHeight > innerHeight / 2 ? "start" : "center" });
    this.#show();
  }

  get #distance() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    return scrollHeight - scrollTop - clientHeight;
  }

  #letGo() {
    if (this.scroller.scrollHeight > this.scroller.clientHeight) {
      this.#following = false;
      this.#show();
    }
  }

  #scrolled() {
    const { scrollTop, scrollHeight } = this.scroller;
    // Upwards, and not because the text became shorter: the user is reading.
    if (scrollTop < this.#top - 1 && scrollHeight >= this.#height) {
      this.#following = false;
    }
    // Downwards only, so that the first pixels up are not reverted.
    if (scrollTop > this.#top && this.#distance <= NEAR) {
      this.#following = true;
    }
    this.#top = scrollTop;
    this.#height = scrollHeight;
    this.#show();
  }

  #resized() {
    if (this.#following) {
      this.scroller.scrollTop = this.scroller.scrollHeight;
    }
    this.#show();
  }

  #show() {
    show(this.jump, !this.#following && this.#distance > NEAR);
  }
}
