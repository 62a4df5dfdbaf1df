/**
 * Apply stored preferences before the first paint: theme, speed of answers, collapsed sidebar.
 */
const root = document.documentElement;
try {
  const theme = localStorage.getItem("chatsite:theme");
  if (theme === "light" || theme === "dark") {
    root.dataset.theme = theme;
  }
  if (localStorage.getItem("chatsite:speed") === "shown") {
    root.dataset.speed = "shown";
  }
  if (localStorage.getItem("chatsite:sidebar") === "closed") {
    root.dataset.sidebar = "closed";
  }
} catch {
  // Storage is disabled: use the system's theme.
}
