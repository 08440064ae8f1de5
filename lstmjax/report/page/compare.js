// Two runs side by side, on the same examples: results, hyperparameters, predictions over time and gates.

const COMPARED = []; // both trees, the first one first

/** Return the units of a part of either run, from the top of its map to the bottom: by mean of f, or size of c. */
function orderIn(tree, part) {
  const field = tree.fields.some(({ name }) => name === "f") ? "f" : "c";
  const scores = meanOverSteps(part, field, field === "f" ? (value) => value : Math.abs, tree);
  return scores.map((_, unit) => unit).sort((a, b) => scores[b] - scores[a] || a - b);
}

/** Draw the gates of one run, and return what draws them again. */
function comparedMap(tree, n) {
  const canvas = make("canvas", { className: "map", role: "img" });
  const cursor = make("div", { className: "mark step" });
  const holder = make("div", { className: "plot" }, canvas, cursor);
  const says = make("p", { className: "help", "data-readout": n });
  const chances = make("div", { className: "chart" });
  const verdict = make("p", { className: "compared-verdict" });
  const layer = make("select", { "aria-label": `Layer of ${tree.title}` });
  tree.parts.forEach(({ label }, part) => layer.append(make("option", { value: part }, label)));
  let unit = 0;
  let order = [];
  const width = () => Math.max(120, holder.clientWidth);
  const field = () => (tree.fields.some(({ name }) => name === state.field) ? state.field : tree.fields[0].name);
  const example = () => tree.examples[state.example];
  const draw = () => {
    const part = Number(layer.value);
    order = orderIn(tree, part);
    const values = valuesOf(state.example, part, field(), tree);
    const { kind, label } = tree.fields.find(({ name }) => name === field());
    const [low, high] = colourRange(values, kind, "percentile");
    const row = Math.max(2, Math.min(22, Math.floor(300 / order.length)));
    drawCells(canvas, example().steps, order.length, width(), row * order.length, ramp(kind), [low, high], (t, at) => values[t * order.length + order[at]]);
    canvas.setAttribute("aria-label", `${label} ${field()} of ${tree.title}, a row for each unit`);
    verdict.replaceChildren(verdictOf(example()));
    chances.replaceChildren();
    if (example().overTime) {
      const lines = linesOverTime(example());
      const range = DATA.loss === "linear" ? rangeOf(lines.flatMap(({ values }) => values)) : [0, 1];
      chances.append(stepChart(width(), 84, range, lines, `Predictions of ${tree.title} over time`), keyOf(lines));
    }
    follow();
  };
  const follow = () => {
    const cell = width() / example().steps;
    Object.assign(cursor.style, { left: `${state.step * cell}px`, width: `${cell}px` });
    unit = Math.min(unit, order.length - 1);
    const value = valuesOf(state.example, Number(layer.value), field(), tree)[state.step * order.length + unit];
    says.textContent = `unit ${unit}, step ${state.step}: ${field()} = ${said(value)}`;
  };
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    unit = order[Math.max(0, Math.min(order.length - 1, Math.floor(((event.clientY - box.top) / box.height) * order.length)))];
    change({ step: Math.floor(((event.clientX - box.left) / box.width) * example().steps) });
    follow();
  });
  layer.addEventListener("change", draw);
  subscribe(["example", "field", "width", "theme"], draw);
  subscribe(["step"], follow);
  const label = tree.parts.length > 1 ? [make("label", {}, "Layer ", layer)] : [];
  return make("div", { className: "compared" }, make("h3", {}, tree.title), make("p", { className: "facts" }, tree.facts.join(" · ")), verdict, ...label, holder, says, chances);
}

/** Return the results of both runs as rows of a table. */
function comparedResults(trees) {
  const [first, second] = trees.map(({ outcome }) => outcome);
  if (!first || !second) return [];
  const titles = trees.map(({ title }) => title);
  if (DATA.loss === "linear") {
    const rows = first.scores.map((scores, n) => [DATA.outputs[n], scores[0], second.scores[n][0]]);
    return [numbersTable("Root mean squared error", ["output", ...titles], rows)];
  }
  const all = ["share that is right", ...[first, second].map(({ right, count }) => right / count)];
  const rows = first.scores.map((scores, n) => [`F1 of ${DATA.outputs[n]}`, scores[3], second.scores[n][3]]);
  return [numbersTable("Results", ["", ...titles], [all, ...rows])];
}

function comparedSettings([first, second]) {
  if (!first.run || !second.run) return [];
  const values = ({ run }) => Object.fromEntries([...run.chosen, ...run.defaults]);
  const [one, other] = [values(first), values(second)];
  const keys = [...new Set([...Object.keys(one), ...Object.keys(other)])].filter((key) => one[key] !== other[key]);
  if (!keys.length) return [make("p", { className: "help" }, "Their hyperparameters are the same.")];
  return [keyTable("Hyperparameters that differ", ["key", first.title, second.title], keys.map((key) => [key, one[key] ?? "–", other[key] ?? "–"]))];
}

function comparedCurves(trees) {
  if (!trees.every(({ curves }) => curves)) return [];
  return trees[0].curves.panels.map(({ name }, panel) => {
    const steps = [...new Set(trees.flatMap(({ curves }) => curves.steps))].sort((a, b) => a - b);
    const lines = trees.map((tree, n) => ({
      name: tree.title,
      points: tree.curves.steps.map((step, k) => [step, tree.curves.panels[panel].validation[k]]),
      colour: ["validation", "f"][n],
      dash: ["", "5 3"][n],
    }));
    return make("div", {}, pointsChart(`validation ${name}`, lines, steps), keyOf(lines));
  });
}

function compare() {
  find("compare").hidden = !DATA.other;
  document.querySelector('nav a[href="#compare"]').hidden = !DATA.other;
  if (!DATA.other) return;
  COMPARED.push(DATA, DATA.other);
  find("compare-maps").append(...COMPARED.map(comparedMap));
  find("compare-tables").append(...comparedResults(COMPARED), ...comparedSettings(COMPARED));
  find("compare-curves").append(...comparedCurves(COMPARED));
}
