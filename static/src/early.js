/** Before the first paint: the chosen theme and whether the list of conversations is folded. */
const root = document.documentElement;
try {
  const theme = localStorage.getItem("chatsite:theme");
  if (theme === "light" || theme === "dark") {
    root.dataset.theme = theme;
  }
  if (localStorage.getItem("chatsite:sidebar") === "closed") {
    root.dataset.sidebar = "closed";
  }
} catch {
  // Storage is switched off: the system's theme it is.
}
