// The console's own script: requests of htmx prove that they come from this page.
"use strict";
// A box with data-all checks every box of that name in its form.
document.addEventListener("change", (event) => {
  const name = event.target.dataset && event.target.dataset.all;
  if (!name) return;
  for (const box of event.target.form.querySelectorAll(`input[type="checkbox"][name="${name}"]`)) box.checked = event.target.checked;
});
document.addEventListener("htmx:config:request", (event) => {
  const secret = document.querySelector('meta[name="csrf"]');
  if (secret) event.detail.ctx.request.headers["X-CSRF"] = secret.content;
});
