// Django's multiple-choice widgets label a plain `span`, which ARIA does not allow, so its role is
// set to `img`. The widgets are created in the `load` event, so this runs after it.
window.addEventListener("load", () => {
  setTimeout(() => {
    for (const icon of document.querySelectorAll(".help-tooltip[aria-label]")) {
      icon.setAttribute("role", "img");
    }
  });
});
