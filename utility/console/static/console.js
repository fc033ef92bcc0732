// The console's own script: requests of htmx prove that they come from this page.
"use strict";
document.addEventListener("htmx:config:request", (event) => {
  const secret = document.querySelector('meta[name="csrf"]');
  if (secret) event.detail.ctx.request.headers["X-CSRF"] = secret.content;
});
