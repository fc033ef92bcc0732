// The service worker: keeps static files alone, whose addresses change with their content; no page and no answer.
"use strict";
const STATIC = "/console/static/";
self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  const path = new URL(event.request.url).pathname;
  if (event.request.method !== "GET" || !path.startsWith(STATIC)) return;
  event.respondWith(caches.open("static").then(async (kept) => {
    const found = await kept.match(event.request);
    if (found) return found;
    const answer = await fetch(event.request);
    if (answer.ok) {
      const name = path.split("/").pop();
      for (const old of await kept.keys()) if (old.url.endsWith(`/${name}`)) await kept.delete(old);
      await kept.put(event.request, answer.clone());
    }
    return answer;
  }));
});
