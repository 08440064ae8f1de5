// The results over all sequences: what is wrong, which classes are confused, predictions beside targets.

function percent(value) {
  return `${said(100 * value, 3)}%`;
}

/** Return a table of numbers; null stands for what cannot be computed. */
function numbersTable(caption, head, rows) {
  const cell = (value, n) => (n ? make("td", { className: "number" }, value === null ? "–" : typeof value === "number" ? said(value, 3) : value) : make("th", { scope: "row" }, value));
  return make(
    "div",
    { className: "scroll tall", tabIndex: 0, role: "region", "aria-label": caption },
    make("table", {}, make("caption", {}, caption), make("thead", {}, make("tr", {}, ...head.map((word) => make("th", { scope: "col" }, word)))), make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map(cell))))),
  );
}

/** Draw the confusion matrix; a click on a cell shows what is wrong in this way. */
function confusionTable(matrix) {
  const table = make("table", { className: "confusion" }, make("caption", {}, "Confusion: a row for each label, a column for each prediction"));
  table.append(make("tr", {}, make("td"), ...DATA.outputs.map((name) => make("th", { scope: "col" }, name))));
  matrix.forEach((row, label) => {
    const sum = Math.max(1, row.reduce((a, b) => a + b, 0));
    const cells = row.map((count, says) => {
      const cell = make("td", { className: label === says ? "hit" : "miss" });
      cell.style.setProperty("--share", `${Math.round(100 * Math.sqrt(count / sum))}%`);
      const words = `label ${DATA.outputs[label]}, predicted ${DATA.outputs[says]}: ${count}`;
      if (count && label !== says) {
        const button = make("button", { type: "button", title: words, "aria-label": words, "data-pair": `${label},${says}` }, String(count));
        button.addEventListener("click", () => change({ pair: state.pair === button.dataset.pair ? "" : button.dataset.pair }));
        cell.append(button);
      } else cell.append(make("span", { title: words }, count ? String(count) : "·"));
      return cell;
    });
    table.append(make("tr", {}, make("th", { scope: "row" }, DATA.outputs[label]), ...cells));
  });
  subscribe(["pair"], () => table.querySelectorAll("button").forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.pair === state.pair))));
  return make("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": "Confusion matrix" }, table);
}

/** Return an entry of a list of sequences: a button if its gates are on this page. */
function resultEntry({ name, step, example }, words, score) {
  const place = step === null ? name : `${name}, step ${step}`;
  const parts = [make("span", {}, words ? `${place}: ${words}` : place), make("span", {}, score)];
  if (example === null) return make("li", { className: "plain" }, ...parts);
  const button = make("button", { type: "button" }, ...parts);
  button.addEventListener("click", () => {
    change({ example, ...(step === null ? {} : { step }) });
    scrollToStep();
    find("inside").scrollIntoView();
  });
  return make("li", {}, button);
}

function wrongWords({ label, says, output }) {
  return output === undefined ? `says ${DATA.outputs[says]}, label ${DATA.outputs[label]}` : `${DATA.outputs[output]} ${says}, label ${says === "on" ? "off" : "on"}`;
}

function wrongList({ wrong, wrongs, of }) {
  const list = make("ol", { className: "list tall", id: "wrong", "aria-label": "What is wrong, the most confident first" });
  const help = make("p", { className: "help" });
  const clear = make("button", { type: "button", textContent: "Show all" });
  clear.addEventListener("click", () => change({ pair: "" }));
  subscribe(["pair"], () => {
    const shown = wrong.filter((entry) => !state.pair || `${entry.label},${entry.says}` === state.pair);
    clear.hidden = !state.pair;
    const first = wrong.length < wrongs ? ` (the first ${wrong.length} of ${wrongs})` : "";
    help.textContent = wrongs
      ? `${shown.length} ${of}${first}, the most confident first. Those that can be clicked are among the examples above.`
      : "Nothing is wrong.";
    list.replaceChildren(...shown.map((entry) => resultEntry(entry, wrongWords(entry), percent(entry.chance))));
  });
  return make("div", {}, make("h3", {}, "Wrong, by confidence"), help, list, clear);
}

/** Draw targets against predictions: on the diagonal they agree. */
function targetChart(outcome, output) {
  const [side, left] = [380, 58];
  const points = outcome.target.map((targets, n) => [targets[output], outcome.prediction[n][output], outcome.points[n]]);
  const [low, high] = rangeOf(points.flatMap(([target, prediction]) => [target, prediction]));
  const x = (value) => left + ((value - low) / (high - low)) * (side - left - 12);
  const y = (value) => side - 44 - ((value - low) / (high - low)) * (side - 56);
  const chart = svg("svg", { viewBox: `0 0 ${side} ${side}`, role: "img", "aria-label": `Targets against predictions of ${DATA.outputs[output]}` });
  for (const level of ticks(low, high)) {
    chart.append(svg("line", { x1: x(low), x2: x(high), y1: y(level), y2: y(level), class: "grid" }), svg("line", { y1: y(low), y2: y(high), x1: x(level), x2: x(level), class: "grid" }));
    chart.append(svg("text", { x: left - 7, y: y(level) + 4, "text-anchor": "end" }, said(level, 3)), svg("text", { x: x(level), y: side - 27, "text-anchor": "middle" }, said(level, 3)));
  }
  chart.append(svg("line", { x1: x(low), y1: y(low), x2: x(high), y2: y(high), class: "diagonal" }));
  for (const [target, prediction, { name, step }] of points) {
    const point = svg("circle", { cx: x(target), cy: y(prediction), r: 3, class: "point" });
    point.append(svg("title", {}, `${name}${step === null ? "" : `, step ${step}`}: target ${said(target, 3)}, prediction ${said(prediction, 3)}`));
    chart.append(point);
  }
  chart.append(svg("text", { x: (left + side) / 2, y: side - 8, "text-anchor": "middle" }, "target"));
  chart.append(svg("text", { x: 12, y: side / 2 - 20, "text-anchor": "middle", transform: `rotate(-90 12 ${side / 2 - 20})` }, "prediction"));
  return chart;
}

function regression(outcome) {
  const figure = make("div", { className: "square" });
  const parts = [figure];
  if (DATA.outputs.length > 1) {
    const choice = make("select", { id: "output" });
    DATA.outputs.forEach((name, n) => choice.append(make("option", { value: n }, name)));
    choice.addEventListener("change", () => change({ output: Number(choice.value) }));
    parts.unshift(make("label", { className: "soft" }, "Output ", choice));
  }
  subscribe(["output"], () => figure.replaceChildren(targetChart(outcome, state.output)));
  const list = make("ol", { className: "list tall", "aria-label": "The largest errors, root mean squared" }, ...outcome.worst.map((entry) => resultEntry(entry, "", said(entry.error, 3))));
  const rows = outcome.scores.map((scores, n) => [DATA.outputs[n], ...scores]);
  return [
    make("div", {}, make("h3", {}, "Targets against predictions"), ...parts),
    numbersTable("Errors of each output", ["output", "root mean squared", "mean absolute", "R²"], rows),
    make("div", {}, make("h3", {}, "The largest errors, root mean squared"), list),
  ];
}

function classification(outcome) {
  const { scores, matrix, of } = outcome;
  const rows = scores.map((values, n) => [DATA.outputs[n], String(values[0]), ...values.slice(1)]);
  const parts = matrix ? [confusionTable(matrix)] : [];
  return [...parts, numbersTable("Scores of each class", [DATA.loss === "softmax" ? "class" : "output", of, "recall", "precision", "F1"], rows), wrongList(outcome)];
}

function results() {
  const { outcome } = DATA;
  find("results").hidden = !outcome;
  document.querySelector('nav a[href="#results"]').hidden = !outcome;
  if (!outcome) return;
  const { right, count, of, about } = outcome;
  const all = `${count.toLocaleString("en")} ${of}${about ? ` of ${about}` : ""}`;
  find("results-says").textContent = DATA.loss === "linear" ? `Over ${all}.` : `${right.toLocaleString("en")} of ${all} are right (${percent(right / count)}).`;
  find("results-parts").append(...(DATA.loss === "linear" ? regression : classification)(outcome));
}
