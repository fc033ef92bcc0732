// The console's own script: requests of htmx prove that they come from this page.
"use strict";
// The words of scripts in the page's language; a page in English has none.
const WORDS = JSON.parse(document.querySelector('meta[name="words"]')?.content || "{}");
function say(text, values = {}) {
  return (WORDS[text] || text).replace(/\{(\w+)\}/g, (_, name) => values[name]);
}
const worker = document.querySelector('meta[name="worker"]');
if (worker && navigator.serviceWorker) navigator.serviceWorker.register(worker.content, { scope: "/console/" }).catch(() => {});
// A box with data-all checks every box of that name in its form.
document.addEventListener("change", (event) => {
  const name = event.target.dataset && event.target.dataset.all;
  if (!name) return;
  for (const box of event.target.form.querySelectorAll(`input[type="checkbox"][name="${name}"]`)) box.checked = event.target.checked;
});
// A text that is shown once: a button copies it, where a browser lets it; else it is selected for the keys that copy.
for (const button of document.querySelectorAll("[data-copy]")) button.hidden = false;
document.addEventListener("click", async (event) => {
  if (!event.target.matches("[data-copy]")) return;
  const field = event.target.parentElement.querySelector("input");
  field.select();
  let done = false;
  try {
    await navigator.clipboard.writeText(field.value);
    done = true;
  } catch {
    done = document.execCommand("copy");
  }
  event.target.textContent = done ? say("Copied") : say("Selected: press Ctrl and C");
});
document.addEventListener("focusin", (event) => {
  if (event.target.matches("[data-selected]")) event.target.select();
});
// A slider says its value.
document.addEventListener("input", (event) => {
  if (event.target.matches("[data-output]")) event.target.parentElement.querySelector("output").textContent = event.target.value;
});
document.addEventListener("htmx:config:request", (event) => {
  const secret = document.querySelector('meta[name="csrf"]');
  if (secret) event.detail.ctx.request.headers["X-CSRF"] = secret.content;
});

// "/" goes to the search from anywhere outside a field; the arrow keys go through its results, Escape closes them.
document.addEventListener("keydown", (event) => {
  const find = document.getElementById("find"), found = document.getElementById("found");
  if (!find || !found || event.ctrlKey || event.metaKey || event.altKey) return;
  const here = document.activeElement;
  if (event.key === "/" && !here.matches("input, select, textarea, [contenteditable]")) {
    event.preventDefault();
    find.focus();
    find.select();
  } else if (event.key === "Escape" && (here === find || found.contains(here))) {
    found.replaceChildren();
    find.focus();
  } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && (here === find || found.contains(here))) {
    const links = [...found.querySelectorAll("a")];
    const next = links.indexOf(here) + (event.key === "ArrowDown" ? 1 : -1);
    if (next < 0) find.focus();
    else if (links[next]) links[next].focus();
    event.preventDefault();
  }
});

// An answer of the search that comes while a result has the focus leaves it on that result, or brings it back to the field.
let chosen;
document.addEventListener("htmx:before:swap", () => {
  chosen = document.activeElement.matches("#found a") ? document.activeElement.getAttribute("href") : null;
});
document.addEventListener("htmx:after:swap", () => {
  if (chosen && document.activeElement === document.body) (document.querySelector(`#found a[href="${CSS.escape(chosen)}"]`) || document.getElementById("find")).focus();
});

// Parts of a page ask when the stream says that they have changed; while there is none, every five seconds.
const parts = [...new Set([...document.querySelectorAll("[hx-trigger]")].flatMap((part) => part.getAttribute("hx-trigger").match(/changed-\w+/g) || []))];
if (parts.length) {
  const told = (name) => document.body.dispatchEvent(new Event(name));
  let stream;
  const open = () => {
    stream = new EventSource(`/console/events?${parts.map((name) => `of=${name.slice(8)}`).join("&")}`);
    for (const name of parts) stream.addEventListener(name.slice(8), () => told(name));
  };
  open();
  // A browser that leaves the page would report the cut stream as an error; one that comes back by its history opens it again.
  addEventListener("pagehide", () => stream.close());
  addEventListener("pageshow", (event) => event.persisted && open());
  setInterval(() => {
    if (stream.readyState !== EventSource.OPEN) parts.forEach(told);
    if (stream.readyState === EventSource.CLOSED) open();
  }, 5000);
}

// A part of a page that asks again by itself stays when an answer fails, and says since when its values are old.
function keepOld(event) {
  const context = event.detail && event.detail.ctx;
  const part = context && context.sourceElement;
  if (!part || !part.matches('[hx-trigger*="every"], [hx-trigger*="changed-"]')) return;
  context.swap = "none";
  if (part.querySelector(":scope > p.stale")) return;
  const told = document.createElement("p");
  told.className = "stale";
  told.setAttribute("role", "alert");
  // By the town's clock, which is not the machine's.
  const pill = document.querySelector("time.pill");
  const town = new Date(Date.parse(pill.dateTime) + performance.now() * pill.dataset.pace);
  told.textContent = say("No answer from the utility since {time}: the values below are older. The page asks again by itself.", { time: town.toLocaleTimeString([], { timeZone: document.documentElement.dataset.zone }) });
  part.prepend(told);
}
document.addEventListener("htmx:response:error", keepOld);
document.addEventListener("htmx:error", keepOld);
// An answer without content: nothing has changed, and the values are good again.
document.addEventListener("htmx:after:request", (event) => {
  const context = event.detail && event.detail.ctx;
  if (!context || !context.sourceElement || context.response.status >= 400) return;
  for (const told of context.sourceElement.querySelectorAll(":scope > p.stale")) told.remove();
});
// What a person opened in a part of a page stays open when the part comes anew.
let opened = [];
document.addEventListener("htmx:before:swap", () => {
  opened = [...document.querySelectorAll("details[open] > summary")].map((summary) => summary.textContent);
});
document.addEventListener("htmx:after:swap", () => {
  for (const summary of document.querySelectorAll("details:not([open]) > summary")) if (opened.includes(summary.textContent)) summary.parentElement.open = true;
});
// A field of a date is one stop of the Tab key: the arrow keys go through its day, month and year.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Tab" || event.ctrlKey || event.altKey || !event.target.matches('[type="date"], [type="month"], [type="datetime-local"]')) return;
  const stops = [...document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex]")].filter((each) => each.tabIndex >= 0 && !each.disabled && each.type !== "hidden" && each.checkVisibility({ visibilityProperty: true }));
  const next = stops[stops.indexOf(event.target) + (event.shiftKey ? -1 : 1)];
  if (!next) return;
  event.preventDefault();
  next.focus();
});
