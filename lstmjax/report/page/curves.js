// How the run learned: loss and metric over the training steps.

const [CURVE_WIDTH, CURVE_HEIGHT] = [520, 230];

/** Return the width of a chart in its units: no more than the screen has, or its text would be too small. */
function chartWidth() {
  return Math.min(CURVE_WIDTH, window.innerWidth - 60);
}

/** Draw lines {name, values, colour, dash} over numbers, and say what stands along the axis. */
function curve(name, lines, steps, along = "training step", width = chartWidth()) {
  return pointsChart(name, lines.map((line) => ({ ...line, points: steps.map((step, n) => [step, line.values[n]]) })), steps, along, width);
}

/** Draw lines {name, points, colour, dash}, points [step, value] each, over all `steps`. */
function pointsChart(name, lines, steps, along = "training step", width = chartWidth()) {
  const [left, right, top, bottom] = [48, width - 10, 8, CURVE_HEIGHT - 36];
  const [low, high] = rangeOf(lines.flatMap(({ points }) => points.map(([, value]) => value)));
  const [first, last] = rangeOf(steps);
  const x = (step) => left + ((step - first) / (last - first)) * (right - left);
  const y = (value) => bottom - ((value - low) / (high - low)) * (bottom - top);
  const chart = svg("svg", { viewBox: `0 0 ${width} ${CURVE_HEIGHT}`, role: "img", "aria-label": `${name}, over ${along}` });
  for (const level of ticks(low, high)) {
    chart.append(svg("line", { x1: left, x2: right, y1: y(level), y2: y(level), class: "grid" }));
    chart.append(svg("text", { x: left - 6, y: y(level) + 4, "text-anchor": "end" }, said(level, 3)));
  }
  for (const step of ticks(first, last, 6).filter(Number.isInteger)) {
    chart.append(svg("text", { x: x(step), y: bottom + 16, "text-anchor": x(step) > width - 30 ? "end" : "middle" }, String(step)));
  }
  chart.append(svg("text", { x: (left + right) / 2, y: CURVE_HEIGHT - 3, "text-anchor": "middle" }, along));
  for (const { name: part, points, colour, dash } of lines) {
    const path = svg("path", { d: `M${points.map(([step, value]) => `${x(step)} ${y(value)}`).join("L")}`, class: "curve", "stroke-dasharray": dash });
    path.style.stroke = `var(--${colour})`;
    chart.append(path);
    points.forEach(([step, value]) => {
      const dot = svg("circle", { cx: x(step), cy: y(value), r: points.length < 60 ? 3 : 1.5 });
      dot.style.fill = `var(--${colour})`;
      dot.append(svg("title", {}, `${along} ${step}: ${part} ${name} ${said(value)}`));
      chart.append(dot);
    });
  }
  return make("figure", {}, make("figcaption", {}, name), chart);
}

/** Return the key of the lines of a chart. */
function keyOf(lines) {
  const entries = lines.map(({ name, colour, dash }) => {
    const line = make("i");
    line.style.borderColor = `var(--${colour})`;
    if (dash) line.style.borderTopStyle = "dashed";
    return make("span", {}, line, name);
  });
  return make("div", { className: "key" }, ...entries);
}

function curves() {
  find("training").hidden = !DATA.curves;
  document.querySelector('nav a[href="#training"]').hidden = !DATA.curves;
  if (!DATA.curves) return;
  const lines = ({ train, validation }) => [
    { name: "train", values: train, colour: "train", dash: "5 3" },
    { name: "validation", values: validation, colour: "validation", dash: "" },
  ];
  find("curves").append(...DATA.curves.panels.map((panel) => curve(panel.name, lines(panel), DATA.curves.steps)));
  const only = DATA.run?.trainOnly ?? [];
  const [train, validation] = lines(DATA.curves.panels[0]);
  find("curves").after(keyOf([{ ...train, name: only.length ? `train (with ${only.join(", ")})` : "train" }, validation]));
}
