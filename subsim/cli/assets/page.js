
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");

  // Tables: a heading sorts its column, numbers as numbers; a second time the other way.
  const words = new Intl.Collator("en", {numeric: true});
  function number(text) {
    const plain = text.trim().replace(/,(?=\d{3})/g, "").replace(/\u2212/g, "-").replace(/^[[(]/, "");
    const found = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?(?=$|[\s%\])±])/i.exec(plain);
    return found ? Number(found[0]) : NaN;
  }
  const absent = (text) => ["", "-", "nan", "none"].includes(text.trim().toLowerCase());
  function sort(table, column, heading) {
    const down = heading.getAttribute("aria-sort") === "ascending";
    const rows = Array.from(table.tBodies[0].rows, (row) => {
      const text = row.cells[column].textContent;
      return {row, text, value: number(text), absent: absent(text)};
    });
    const numeric = rows.every((each) => each.absent || !Number.isNaN(each.value));
    const compare = (a, b) => (numeric ? a.value - b.value : words.compare(a.text, b.text));
    rows.sort((a, b) => a.absent - b.absent || (a.absent ? 0 : down ? compare(b, a) : compare(a, b)));
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    table.tBodies[0].append(...rows.map((each) => each.row));
  }
  for (const table of document.querySelectorAll("table.sortable")) {
    if (table.tBodies[0].rows.length < 2) continue;
    Array.from(table.tHead.rows[0].cells).forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      button.addEventListener("click", () => sort(table, column, heading));
      heading.append(button);
    });
  }

  const mounts = document.querySelectorAll("[data-plot]");
  if (!mounts.length) return;

  // Plots: means as lines or points, their intervals as bands or bars.
  const dashes = {"-": [], "--": [6, 3], ":": [2, 3], "-.": [6, 3, 2, 3]};
  const shapes = {"-": "circle", "--": "rect", ":": "triangle", "-.": "rectRot"};
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  // The palette is made for white paper: the darkest colours are lightened for black.
  function shade(hex) {
    if (!dark.matches) return hex;
    const parts = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
    const [red, green, blue] = parts.map((part) => Math.round(part + 0.35 * (255 - part)));
    return `rgb(${red}, ${green}, ${blue})`;
  }
  function digits(value) {
    if (value === null) return "none";
    const rounded = Number(value.toPrecision(4));
    const size = Math.abs(rounded);
    return rounded === 0 || (size >= 1e-3 && size < 1e6) ? String(rounded) : rounded.toExponential();
  }
  const intervals = {
    id: "intervals",
    beforeDatasetsDraw(chart, _, {numeric}) {
      const {ctx, chartArea: area, scales: {x, y}} = chart;
      const at = (point, value) => [x.getPixelForValue(point.x), y.getPixelForValue(Math.max(value, y.min))];
      ctx.save();
      ctx.beginPath();
      ctx.rect(area.left, area.top, area.width, area.height);
      ctx.clip();
      chart.data.datasets.forEach((line, number) => {
        if (!chart.isDatasetVisible(number)) return;
        const points = line.data.filter((point) => point.low !== null && point.high !== null);
        ctx.strokeStyle = ctx.fillStyle = line.borderColor;
        ctx.lineWidth = 1.3;
        ctx.globalAlpha = numeric ? 0.2 : 1;
        ctx.beginPath();
        if (numeric) {
          points.forEach((point) => ctx.lineTo(...at(point, point.low)));
          points.reverse().forEach((point) => ctx.lineTo(...at(point, point.high)));
          ctx.fill();
          return;
        }
        for (const point of points) {
          ctx.moveTo(...at(point, point.low));
          ctx.lineTo(...at(point, point.high));
        }
        ctx.stroke();
      });
      ctx.restore();
    },
  };

  function lines(plot) {
    return plot.lines.map((line, number) => {
      const shift = plot.numeric ? 0 : 0.6 * ((number + 0.5) / plot.lines.length - 0.5);
      const data = plot.at.map((at, index) => ({
        x: at + shift, y: line.mean[index], low: line.low[index], high: line.high[index], n: line.n[index], index,
      }));
      const hue = shade(line.colour);
      return {
        label: line.label, data, borderColor: hue, backgroundColor: hue, borderWidth: 1.5, pointRadius: 3,
        pointHoverRadius: 6, borderDash: dashes[line.stroke], pointStyle: shapes[line.stroke], showLine: plot.numeric,
      };
    });
  }
  // Those of the labels that stand far enough apart, in this many pixels, to be read.
  function apart(plot, width) {
    const scaled = (value) => (plot.log_x ? Math.log(value) : value);
    const sorted = [...plot.at].sort((a, b) => a - b);
    const span = scaled(sorted.at(-1)) - scaled(sorted[0]) || 1;
    const shown = [];
    for (const value of sorted) {
      const gap = shown.length ? (scaled(value) - scaled(shown.at(-1))) / span * width : Infinity;
      if (gap > 40) shown.push(value);
    }
    return shown;
  }
  function axes(plot, width) {
    const [ink, line] = [colour("--quiet"), colour("--line")];
    const narrow = width < 480;
    const few = plot.at.length <= 12;
    const title = (text) => ({display: true, text, color: ink});
    const x = {
      type: plot.log_x ? "logarithmic" : "linear", title: title(plot.x), grid: {color: line, display: false},
      border: {color: line}, ticks: {color: ink, maxRotation: plot.numeric ? 0 : 50, autoSkipPadding: 8}, bounds: "data",
    };
    if (!plot.numeric) Object.assign(x, {min: -0.5, max: plot.at.length - 0.5});
    if (few || !plot.numeric) {
      const at = plot.numeric ? apart(plot, width - 60) : plot.at;
      x.afterBuildTicks = (axis) => { axis.ticks = at.map((value) => ({value})); };
      const short = (word) => (narrow && word.length > 14 ? word.slice(0, 13) + "…" : word);
      x.ticks.callback = (value) => short(plot.words[plot.at.indexOf(value)]);
      x.ticks.autoSkip = false;
    } else {
      x.ticks.callback = (value) => digits(value);
    }
    const y = {
      type: plot.log_y ? "logarithmic" : "linear", title: title(plot.y), grid: {color: line}, border: {color: line},
      ticks: {color: ink, callback: digits, maxTicksLimit: 8},
    };
    if (plot.range.length) [y.suggestedMin, y.suggestedMax] = plot.range;
    return {x, y};
  }
  function options(plot, width) {
    const ink = colour("--ink");
    return {
      animation: false, responsive: true, maintainAspectRatio: false, scales: axes(plot, width),
      interaction: {mode: "nearest", axis: "xy", intersect: false},
      plugins: {
        intervals: {numeric: plot.numeric},
        title: {display: plot.title !== "", text: plot.title, color: ink, align: "start", font: {weight: "normal"}},
        legend: {
          display: plot.lines.length > 1, position: "bottom", align: "start",
          title: {display: plot.by !== "", text: plot.by, color: ink, position: "start"},
          labels: {color: ink, usePointStyle: true, boxHeight: 7, padding: 8},
        },
        tooltip: {
          displayColors: false, borderColor: colour("--quiet"), borderWidth: 1,
          callbacks: {
            title: ([item]) => `${plot.x} = ${plot.words[item.raw.index]}`,
            label: ({dataset, raw}) => [
              ...(dataset.label ? [dataset.label] : []),
              `mean ${digits(raw.y)}`,
              `95% interval ${raw.low === null ? "none" : `[${digits(raw.low)}, ${digits(raw.high)}]`}`,
              `n = ${raw.n}`,
            ],
          },
        },
      },
    };
  }

  const charts = new Map();
  function draw(place) {
    const plot = JSON.parse(place.dataset.plot);
    const canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${plot.y} against ${plot.x} ${plot.title}; arrow keys show the values`);
    canvas.tabIndex = 0;
    place.replaceChildren(canvas);
    const chart = new Chart(canvas, {
      type: "line", data: {datasets: lines(plot)}, options: options(plot, place.clientWidth), plugins: [intervals],
    });
    charts.set(place, chart);
    canvas.addEventListener("keydown", (event) => step(chart, event));
  }
  // Left and right go along a line, up and down to another one.
  function step(chart, event) {
    const moves = {ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0]};
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    const sets = chart.data.datasets;
    const [active] = chart.getActiveElements();
    const cut = (value, count) => (value + count) % count;
    const datasetIndex = active ? cut(active.datasetIndex + move[0], sets.length) : 0;
    const index = active ? cut(active.index + move[1], sets[datasetIndex].data.length) : 0;
    const {x, y} = chart.getDatasetMeta(datasetIndex).data[index];
    chart.setActiveElements([{datasetIndex, index}]);
    chart.tooltip.setActiveElements([{datasetIndex, index}], {x, y});
    chart.update();
  }
  const observer = new IntersectionObserver((found) => {
    for (const each of found) {
      if (!each.isIntersecting) continue;
      observer.unobserve(each.target);
      draw(each.target);
    }
  }, {rootMargin: "600px"});
  for (const mount of mounts) observer.observe(mount);
  dark.addEventListener("change", () => {
    for (const [place, chart] of charts) {
      chart.destroy();
      draw(place);
    }
  });
})();
