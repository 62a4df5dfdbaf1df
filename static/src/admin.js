/** Live pages of the administration. */
import { bulkSelection } from "./admin/bulk-selection.js";
import { SnapshotSocket } from "./admin/snapshot-socket.js";
import { Hosts } from "./admin/hosts.js";
import { Jobs } from "./admin/jobs.js";
import { refresh } from "./admin/refreshed-part.js";
import { localize } from "./admin/local-times.js";
import { Upload } from "./admin/upload.js";
import { drawCharts } from "./charts/charts.js";
import { wireNotices } from "./lib/notices.js";
import { copyText } from "./lib/dom.js";
import { gettext } from "./lib/i18n.js";
import { followTheme } from "./lib/theme.js";

followTheme();
wireNotices();
drawCharts();
if (document.querySelector("[data-local-times]")) {
  localize(document);
}

const data = document.getElementById("live");
/** @type {import("./lib/wire").LivePage | null} */
const live = data ? JSON.parse(data.textContent ?? "{}") : null;
/** @type {{show: (now: Pick<import("./lib/wire").LivePage, "hosts" | "jobs">) => void}[]} */
const views = [];
const jobs = document.getElementById("jobs");
if (live && jobs) {
  views.push(new Jobs(jobs, live.csrf));
}
const hosts = document.getElementById("hosts");
if (live && hosts) {
  views.push(new Hosts(hosts, live.csrf));
}
if (live) {
  for (const view of views) {
    view.show(live);
  }
  new SnapshotSocket(document.getElementById("connection"), (now) => {
    for (const view of views) {
      view.show(now);
    }
  }).open();
}

for (const part of document.querySelectorAll("[data-refresh]")) {
  refresh(/** @type {HTMLElement} */ (part));
}

const upload = document.getElementById("upload-data");
if (upload) {
  const form = /** @type {HTMLFormElement} */ (document.getElementById("upload"));
  new Upload(form, JSON.parse(upload.textContent ?? "{}"));
}

for (const select of document.querySelectorAll("select[data-explains]")) {
  const explained = document.getElementById(select.getAttribute("data-explains") ?? "");
  select.addEventListener("change", () => {
    const option = /** @type {HTMLSelectElement} */ (select).selectedOptions[0];
    const verdict = /** @type {HTMLElement | null} */ (
      explained?.querySelector(".verdict") ?? null
    );
    const details = explained?.querySelector("details p");
    if (option && verdict) {
      verdict.textContent = option.dataset.short ?? "";
      verdict.dataset.verdict = option.dataset.verdict ?? "";
    }
    if (option && details) {
      details.textContent = option.dataset.details ?? "";
    }
  });
}

for (const form of document.querySelectorAll("form[data-selection]")) {
  bulkSelection(/** @type {HTMLFormElement} */ (form));
}

for (const button of document.querySelectorAll("button[data-copy]")) {
  const input = button.parentElement?.querySelector("input");
  button.addEventListener("click", async () => {
    await copyText(input?.value ?? "");
    button.textContent = gettext("Copied");
  });
}
