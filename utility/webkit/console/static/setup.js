// The pages of setup: what is found comes anew by itself, and a device goes to the home at which a person points.
"use strict";
const look = document.getElementById("look"), zone = document.getElementById("timezone");
if (zone && zone.value.endsWith("UTC")) zone.value = Intl.DateTimeFormat().resolvedOptions().timeZone;
for (const words of document.querySelectorAll("[data-scripted]")) words.hidden = false;
// A part in which a person works stays as it is, but for its number.
const isUsed = (part) => part.dataset.used || part.contains(document.activeElement) || part === pointed; // it may be dragged just now
document.addEventListener("input", (event) => {
  const part = event.target.closest("[data-live]");
  if (part) part.dataset.used = "yes";
});
for (const refused of document.querySelectorAll('[role="alert"] + [data-live]')) refused.dataset.used = "yes";
let asks = false;
async function anew() {
  if (document.hidden || asks) return;
  asks = true;
  await renew().finally(() => (asks = false));
}
async function renew() {
  const asked = { method: "POST", body: new URLSearchParams(new FormData(look)), redirect: "manual" };
  const answer = await fetch(look.action, asked).then(() => fetch(look.dataset.page)).catch(() => null);
  if (!answer || !answer.ok || answer.redirected) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const words of page.querySelectorAll("[data-scripted]")) words.hidden = false;
  for (const part of document.querySelectorAll("[data-live]")) {
    const next = page.getElementById(part.id);
    if (isUsed(part)) part.querySelector(".value")?.replaceWith(...(next?.querySelectorAll(".value") || []));
    else if (!next) part.remove();
    else if (!part.isEqualNode(next)) part.replaceWith(next); // What is the same stays: a person may begin to drag it.
  }
  for (const part of page.querySelectorAll("#cards > [data-live]")) if (!document.getElementById(part.id)) document.getElementById("cards").append(part);
}
if (look) {
  look.hidden = true;
  // After a device is placed, the next ones are where they were.
  if (!document.querySelector('[role="alert"]')) scrollTo(0, sessionStorage.getItem(location.href));
  addEventListener("pagehide", () => sessionStorage.setItem(location.href, scrollY));
  anew();
  setInterval(anew, 5000);
  setInterval(() => document.querySelector(".soon") && anew(), 1000);
}
// By keyboard a person goes on at the card that follows the placed one, and in the field of what was opened.
document.addEventListener("submit", (event) => sessionStorage.setItem("card", [...document.querySelectorAll("form.device")].indexOf(event.target)));
document.addEventListener("toggle", (event) => {
  const isOpened = event.target.open && document.activeElement?.matches("summary");
  const field = isOpened && event.target.querySelector("input:not([type=hidden]), select, button");
  field?.focus?.();
  field?.select?.();
}, true);
const message = document.querySelector(".message"), after = Number(sessionStorage.getItem("card") ?? -1);
if (message && after >= 0) {
  message.tabIndex = -1;
  (document.querySelectorAll("form.device")[after]?.querySelector("select") || message).focus({ preventScroll: true });
}
sessionStorage.removeItem("card");
let pointed;
function choose(card) {
  for (const each of document.querySelectorAll(".device.chosen")) each.classList.remove("chosen");
  pointed = card?.matches("form") ? card : null;
  pointed?.classList.add("chosen");
}
function place(home) {
  const form = document.getElementById(pointed.id);
  form.elements.home.value = home.dataset.home;
  form.requestSubmit();
}
document.addEventListener("click", (event) => {
  if (event.target.closest("a, button, input, label, select, summary")) return;
  const home = event.target.closest("[data-home]");
  if (home && pointed) place(home);
  else if (event.target.closest(".device")) choose(event.target.closest(".device"));
});
document.addEventListener("dragstart", (event) => choose(event.target.closest(".device")));
document.addEventListener("dragover", (event) => pointed && event.target.closest("[data-home]") && event.preventDefault());
document.addEventListener("drop", (event) => pointed && event.target.closest("[data-home]") && place(event.target.closest("[data-home]")));
