/** The overview of the administration. */
import { Overview } from "./admin/overview.js";

const element = document.getElementById("overview");
const data = document.getElementById("overview-now");
if (element && data) {
  new Overview(element, JSON.parse(data.textContent ?? "{}")).start();
}
