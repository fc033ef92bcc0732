// Paints the week of a tariff (rates_form.html): a cell, a day, an hour, a stroke of mouse or finger, or from key to key.
"use strict";
for (const grid of document.querySelectorAll("[data-week]")) {
  const DAYS = 8;
  const field = document.getElementById(grid.dataset.week);
  const cells = [...grid.querySelectorAll("td button")];
  let stroke = false;

  const brush = () => document.querySelector('input[name="brush"]:checked').value;
  function paint(painted, price = brush()) {
    for (const cell of painted) {
      cell.className = `price-${price}`;
      cell.textContent = price;
      cell.setAttribute("aria-label", cell.getAttribute("aria-label").replace(/\d+$/, price));
    }
    field.value = cells.map((cell) => cell.textContent).join("");
    field.dispatchEvent(new Event("input", { bubbles: true })); // The form shows what it changes.
  }
  function go(cell) {
    for (const one of cells) one.tabIndex = one === cell ? 0 : -1;
    cell.focus();
  }

  const ofDay = (day) => cells.filter((_, place) => place % DAYS === day);
  const ofHour = (hour) => cells.slice(hour * DAYS, (hour + 1) * DAYS);

  grid.addEventListener("click", ({ target }) => {
    const { day, hour } = target.dataset;
    if (day) paint(ofDay(Number(day)));
    else if (hour) paint(ofHour(Number(hour)));
    else if (cells.includes(target)) paint([target]);
  });
  grid.addEventListener("pointerdown", ({ target, button, clientX, clientY }) => {
    stroke = button === 0 && cells.includes(target) && [clientX, clientY];
    if (stroke) paint([target]);
  });
  // A finger's moves are of the cell on which it began, and a fast one is seen at some cells only: the way is walked.
  grid.addEventListener("pointermove", ({ clientX, clientY, buttons }) => {
    if (!stroke || !buttons) return;
    const [x, y] = stroke;
    const steps = Math.ceil(Math.hypot(clientX - x, clientY - y) / 8);
    const way = Array.from({ length: steps }, (_, n) => (n + 1) / steps);
    const passed = way.map((part) => document.elementFromPoint(x + (clientX - x) * part, y + (clientY - y) * part));
    const painted = new Set(passed.filter((cell) => cells.includes(cell) && cell.textContent !== brush()));
    if (painted.size) paint(painted);
    stroke = [clientX, clientY];
  });
  for (const end of ["pointerup", "pointercancel"]) document.addEventListener(end, () => { stroke = false; });
  grid.addEventListener("keydown", (event) => {
    const place = cells.indexOf(event.target);
    if (place < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: DAYS, ArrowUp: -DAYS }[event.key];
    const next = cells[place + step];
    const isBeside = step && next && (Math.abs(step) > 1 || Math.floor(place / DAYS) === Math.floor((place + step) / DAYS));
    if (step) event.preventDefault();
    if (isBeside) {
      if (event.shiftKey) paint([event.target, next], event.target.textContent);
      go(next);
    } else if (event.key === "d") {
      paint(ofDay(place % DAYS));
    } else if (event.key === "h") {
      paint(ofHour(Math.floor(place / DAYS)));
    } else if (document.querySelector(`input[name="brush"][value="${event.key}"]`)) {
      paint([event.target], event.key);
    }
  });
}
