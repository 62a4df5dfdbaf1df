/** The administration's pages that change by themselves. */
import { Follower } from "./admin/follower.js";
import { Hosts } from "./admin/hosts.js";
import { Jobs } from "./admin/jobs.js";
import { Upload } from "./admin/upload.js";

const data = document.getElementById("live");
const live = data ? JSON.parse(data.textContent ?? "{}") : null;
/** @type {{show: (now: any) => void}[]} */
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
  new Follower(document.getElementById("connection"), (now) => {
    for (const view of views) {
      view.show(now);
    }
  }).open();
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
    if (explained && option) {
      explained.textContent = option.dataset.why ?? "";
      explained.dataset.verdict = option.dataset.verdict ?? "";
    }
  });
}
