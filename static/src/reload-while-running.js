/** Reload an account page while work in the background is shown. A classic script. */
if (document.querySelector("[data-running]")) {
  setTimeout(() => location.reload(), 2000);
}
