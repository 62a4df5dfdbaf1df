/** Toggle the visibility of password fields. A classic script: account pages load no modules. */
const choice = document.getElementById("show-passwords");
const fields = [...document.querySelectorAll("input[type=password]")];
if (choice) {
  choice.hidden = false;
  choice.addEventListener("change", (event) => {
    const { checked } = /** @type {HTMLInputElement} */ (event.target);
    for (const field of fields) {
      /** @type {HTMLInputElement} */ (field).type = checked ? "text" : "password";
    }
  });
}
