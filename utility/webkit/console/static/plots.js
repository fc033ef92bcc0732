// Draws the figures with data-plot (see the macro `plot`), and behind a button of each a table of the same numbers.
// The arrow keys go from step to step; a line below says a step's values, their sum, and why one is missing.
//
// The address answers {series: [{label, unit, x, step_s, high, low?, marks, missing}], note?}: `high` has null in a gap,
// `low` makes a band of the least and greatest values of a step, `marks` are [begin, end, word] of doubtful spans,
// `shaded` of the first series are spans that a person looks for. A series of a
// `flow` has its colour (palette.py); with `stack` the series lie one upon the other, and the legend has their own values.
"use strict";
(() => {
  const ZONE = document.documentElement.dataset.zone;
  const MOST_ROWS = 200;
  const AGAIN_MS = 60000;
  const COLOURS = 6;  // lines that are told apart; more are off until a person chooses them in the legend
  const SMOOTH = 60;  // steps from which on an area has a line, and no stairs
  const DASHES = [undefined, [8, 4], [2, 4], [12, 4, 2, 4], [5, 5], [1, 6]];

  const { lang: LANGUAGE, dataset: { numbers: NUMBERS } } = document.documentElement;
  const clock = (options) => new Intl.DateTimeFormat(LANGUAGE === "en" ? "en-GB" : LANGUAGE, { timeZone: ZONE, ...options });
  const MINUTES = clock({ hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const DAYS = clock({ day: "numeric", month: "short" });
  const MONTHS = clock({ month: "short", year: "numeric" });
  const WHOLE = clock({
    day: "2-digit", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit",
    hourCycle: "h23", timeZoneName: "short",
  });
  const at = (seconds) => new Date(seconds * 1000);
  const number = (value) => (value === null || value === undefined ? "–" : value.toLocaleString("en", { maximumFractionDigits: 3, signDisplay: "negative" })
    .replace(/[,.]/g, (mark) => NUMBERS[mark === "," ? 1 : 5]));
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const sign = (one) => (one.flow ? `${JSON.parse(style(`--sign-${one.flow}`))} ` : "");
  const make = (name, text) => Object.assign(document.createElement(name), { textContent: text });

  // The columns of uPlot: a high for each series, and a low for each band; a step holds until its end.
  function columns(series) {
    const parts = series.map((one) => {
      const x = [...one.x], high = [...one.high], low = one.low ? [...one.low] : null;
      if (x.length) {
        x.push(x[x.length - 1] + one.step_s);
        high.push(high[high.length - 1]);
        if (low) low.push(low[low.length - 1]);
      }
      return low ? [x, high, low] : [x, high];
    });
    return uPlot.join(parts, parts.map((part) => part.map(() => 2)));
  }

  // Series of equal steps, the highest sum first, so that each covers a part of the one before it.
  function stacked(series) {
    const sums = series[0].x.map(() => 0);
    return series.map((one) => ({
      ...one, own: one.high,
      high: one.high.map((value, at) => (value === null ? null : (sums[at] += value))),
    })).reverse();
  }

  function labels(_, splits) {
    const span = splits[splits.length - 1] - splits[0];
    const form = span > 200 * 86400 ? MONTHS : span > 2 * 86400 ? DAYS : MINUTES;
    return splits.map((time) => form.format(at(time)));
  }

  // Doubtful spans are shaded behind the lines.
  function shade(series) {
    return (plot) => {
      const { ctx, bbox } = plot;
      ctx.save();
      const spans = [...series.flatMap((one) => one.marks.map((mark) => [...mark, "--warning"])), ...(series[0].shaded || []).map((span) => [...span, "--flow-sun"])];
      for (const [begin, end, , colour] of spans) {
        ctx.fillStyle = `${style(colour)}1f`;
        const left = Math.max(bbox.left, plot.valToPos(begin, "x", true));
        const right = Math.min(bbox.left + bbox.width, plot.valToPos(end, "x", true));
        if (right > left) ctx.fillRect(left, bbox.top, Math.max(1, right - left), bbox.height);
      }
      ctx.restore();
    };
  }

  // The name of each area where it is thickest, if it fits there: colour is never alone.
  function named(series) {
    return (plot) => {
      const { ctx } = plot, px = devicePixelRatio;
      ctx.save();
      Object.assign(ctx, { font: `600 ${12 * px}px Inter, sans-serif`, textAlign: "center", textBaseline: "middle", fillStyle: style("--ink") });
      for (const one of series.filter((each) => each.own)) {
        const edge = (value) => plot.valToPos(value, one.unit, true), last = one.own.length - 1;
        const text = `${sign(one)}${one.label}`, wide = plot.valToPos(one.x[last], "x", true) - plot.valToPos(one.x[0], "x", true);
        const beside = Math.ceil(((ctx.measureText(text).width / 2 + 4 * px) / wide) * last);
        const tall = one.own.map((own, at) => (own ? edge(one.high[at] - own) - edge(one.high[at]) : 0));
        const least = tall.map((_, at) => (at < beside || at > last - beside ? 0 : Math.min(...tall.slice(at - beside, at + beside + 1))));
        const at = least.indexOf(Math.max(...least));
        if (least[at] > 20 * px) ctx.fillText(text, plot.valToPos(one.x[at] + one.step_s / 2, "x", true), edge(one.high[at] - one.own[at] / 2));
      }
      ctx.restore();
    };
  }

  function newest(plot) {
    if (plot.cursor.idx !== null && plot.cursor.idx !== undefined) return;
    let last = plot.data[0].length - 1;
    while (last > 0 && plot.data.slice(1).every((values) => values[last] === null || values[last] === undefined)) last -= 1;
    if (plot.legend.idx !== last) plot.setLegend({ idx: last });
  }

  function options(series, width, told) {
    const units = [...new Set(series.map((one) => one.unit))];
    const few = series.every((one) => one.x.length <= 400);
    const lines = [{ label: say("Time"), value: (_, time) => (time === null ? "–" : WHOLE.format(at(time))) }];
    const bands = [];
    series.forEach((one, place) => {
      const colour = style(one.flow ? `--flow-${one.flow}` : `--plot-${(place % COLOURS) + 1}`);
      const line = {
        scale: one.unit, stroke: colour, width: 2, dash: one.flow ? undefined : DASHES[place % COLOURS], show: place < COLOURS, points: { show: false },
        paths: few && !(one.own && one.x.length > SMOOTH) ? uPlot.paths.stepped({ align: 1 }) : undefined,
        fill: one.own && place === series.length - 1 ? `${colour}52` : series.length === 1 && !one.low ? `${colour}1f` : undefined,
        value: (_, value, __, at) => (value === null || value === undefined ? "–" : `${number(one.own ? one.own[Math.min(at, one.own.length - 1)] : value)} ${one.unit}`),
      };
      lines.push({ ...line, label: one.low ? `${sign(one)}${one.label}, most` : `${sign(one)}${one.label}` });
      // An area is between its own line and the next one below it.
      if (one.own && place < series.length - 1) bands.push({ series: [place + 1, place + 2], fill: `${colour}52` });
      if (one.low) {
        lines.push({ ...line, label: `${one.label}, least` });
        bands.push({ series: [lines.length - 2, lines.length - 1], fill: `${colour}55` });
      }
    });
    const axis = { stroke: style("--soft"), font: "12px Inter, sans-serif", grid: { stroke: style("--line"), width: 1 }, ticks: { show: false } };
    return {
      width, height: 280, series: lines, bands,
      tzDate: (seconds) => uPlot.tzDate(at(seconds), ZONE),
      // Areas begin at nothing: a part of an area would say a part of the energy.
      scales: { x: { time: true }, ...(series.some((one) => one.own) ? { [series[0].unit]: { range: (_, __, most) => [0, most * 1.05 || 1] } } : {}) },
      axes: [
        { ...axis, values: labels, grid: { show: false } },
        ...units.map((unit, place) => ({ ...axis, scale: unit, label: unit, labelFont: axis.font, labelSize: 20, space: 70, side: place ? 1 : 3, grid: { ...axis.grid, show: place === 0 } })),
      ],
      // Without a cursor, as on a phone, the legend has the newest values.
      cursor: { points: { size: 7 }, y: false },
      hooks: { drawClear: [shade(series)], draw: [named(series)], setLegend: [newest, told], ready: [newest] },
    };
  }

  // A step in words: its time and values, their sum, and why one is missing or doubtful.
  function step(found, time) {
    const parts = [];
    let sum = 0;
    for (const one of found.series) {
      const place = one.x.findLastIndex((x) => x <= time);
      const value = place < 0 || one.x[place] + one.step_s < time ? null : one.high[place];
      const doubt = word(one, time, time + one.step_s);
      sum += value || 0;
      parts.push(`${one.label} ${value === null ? say("no reading") : `${number(value)} ${one.unit}`}${doubt ? ` (${doubt})` : ""}`);
    }
    if (found.stack) parts.push(say("together {energy}", { energy: `${number(sum)} ${found.series[0].unit}` }));
    const shaded = (found.series[0].shaded || []).filter((span) => span[0] <= time && time < span[1]).map((span) => span[2]);
    return `${WHOLE.format(at(time))}: ${[...parts, ...new Set(shaded)].join(", ")}`;
  }

  // What the lines can't say, in words.
  function facts(found) {
    const list = document.createElement("ul");
    for (const one of found.series) {
      const words = [...new Set(one.marks.map((mark) => mark[2]))];
      if (words.length) list.append(make("li", `${one.label}: shaded where it is ${words.join(", ")}.`));
      if (one.missing) list.append(make("li", say("{label}: {count} of {whole} steps have no value.", { label: one.label, count: one.missing, whole: one.x.length })));
      if (one.low) list.append(make("li", `${one.label}: the least and the greatest value of every ${one.step_s} s.`));
    }
    for (const words of new Set((found.series[0].shaded || []).map((span) => span[2]))) list.append(make("li", `Shaded: ${words}.`));
    if (found.note) list.append(make("li", found.note));
    return list;
  }

  function word(one, from, to) {
    return [...new Set(one.marks.filter((mark) => mark[0] < to && mark[1] > from).map((mark) => mark[2]))].join(", ");
  }

  // The numbers for people who do not see the plot; of many steps, the extremes of some together.
  function table(found, label) {
    const element = document.createElement("table");
    element.className = "numbers";
    element.append(make("caption", label));
    const head = element.createTHead().insertRow();
    for (const text of [say("From"), ...found.series.map((one) => `${one.label}, ${one.unit}`)]) {
      const cell = make("th", text);
      cell.scope = "col";
      head.append(cell);
    }
    const body = element.createTBody();
    const longest = found.series.reduce((most, one) => (one.x.length > most.x.length ? one : most));
    const many = Math.max(1, Math.ceil(longest.x.length / MOST_ROWS));
    for (let first = 0; first < longest.x.length; first += many) {
      const from = longest.x[first], to = from + many * longest.step_s;
      const row = body.insertRow();
      const time = make("th", WHOLE.format(at(from)));
      time.scope = "row";
      row.append(time);
      for (const one of found.series) {
        const places = one.x.map((x, place) => place).filter((place) => one.x[place] >= from && one.x[place] < to && one.high[place] !== null);
        const high = Math.max(...places.map((place) => one.high[place]));
        const low = Math.min(...places.map((place) => (one.low || one.high)[place]));
        const value = !places.length ? say("no value") : low === high ? number(high) : say("{low} to {high}", { low: number(low), high: number(high) });
        const doubt = word(one, from, to);
        row.append(make("td", doubt ? `${value} (${doubt})` : value));
      }
    }
    return element;
  }

  function draw(figure, found) {
    figure.plotted?.destroy();
    figure.querySelectorAll(":scope > :not(figcaption)").forEach((old) => old.remove());
    const series = found.series.filter((one) => one.high.some((value) => value !== null));
    if (!series.length) {
      figure.append(make("p", say("No quarter-hour of this time has all its readings. A new one is drawn a few minutes after its end.")));
      return;
    }
    const place = document.createElement("div");
    place.setAttribute("aria-hidden", "true");
    figure.append(place);
    const drawn = found.stack ? stacked(series) : series;
    const readout = make("p", "");
    readout.className = "readout";
    readout.setAttribute("aria-live", "polite");
    const told = (plot) => {
      const { idx } = plot.legend, isHere = idx !== null && plot.cursor.idx === idx;
      readout.textContent = isHere ? step({ ...found, series }, plot.data[0][idx]) : "";
    };
    figure.plotted = new uPlot(options(drawn, place.clientWidth || 600, told), columns(drawn), place);
    figure.append(readout);
    figure.tabIndex = 0;
    figure.onkeydown = (event) => {
      const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key], plot = figure.plotted;
      if (!way || event.target !== figure) return;
      event.preventDefault();
      const last = plot.data[0].length - 1, from = plot.cursor.idx ?? plot.legend.idx ?? last;
      plot.setCursor({ left: plot.valToPos(plot.data[0][Math.min(last, Math.max(0, from + way))], "x"), top: 10 });
    };
    const details = document.createElement("details");
    details.append(make("summary", say("The same as a table")));
    details.addEventListener("toggle", () => {
      if (!details.open || details.querySelector("table")) return;
      const wide = document.createElement("div");
      wide.className = "overflow-auto";
      wide.tabIndex = 0;
      wide.setAttribute("role", "region");
      wide.setAttribute("aria-label", say("Table of the plot"));
      wide.append(table({ ...found, series }, figure.getAttribute("aria-label")));
      details.append(facts({ ...found, series }), wide);
    });
    figure.append(details);
  }

  async function load(figure) {
    figure.loaded = Date.now();
    try {
      const answer = await fetch(figure.dataset.plot, { headers: { Accept: "application/json" } });
      const found = await answer.json();
      if (!answer.ok) throw new Error(typeof found.detail === "string" ? found.detail : "");
      figure.found = found;
      draw(figure, found);
    } catch (error) {
      figure.querySelectorAll('p[role="alert"]').forEach((old) => old.remove());
      const text = make("p", say("The plot could not be loaded. {why} Load the page again.", { why: error.message || "" }));
      text.setAttribute("role", "alert");
      figure.append(text);
    }
  }

  const widths = new ResizeObserver((entries) => {
    for (const { target, contentRect } of entries) {
      if (target.plotted && contentRect.width) target.plotted.setSize({ width: contentRect.width, height: 280 });
    }
  });

  const all = () => document.querySelectorAll("figure[data-plot]");
  function begin() {
    for (const figure of all()) {
      if (figure.loaded) continue;
      widths.observe(figure);
      load(figure);
    }
  }
  function again() {
    if (document.visibilityState !== "visible") return;
    for (const figure of all()) if (Date.now() - (figure.loaded || 0) > AGAIN_MS) load(figure);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
  document.addEventListener("htmx:after:swap", begin);
  document.addEventListener("visibilitychange", again);
  window.addEventListener("online", again);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const figure of all()) if (figure.found) draw(figure, figure.found);
  });
})();
