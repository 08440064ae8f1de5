// The examples to choose from, and what the network says of the chosen one.

const LINES = ["i", "f", "g", "o", "h", "c"]; // colours of lines that are not gates

/** Return a small picture of an example's input, or the beginning of its text. */
function thumbnail(n) {
  const { kind, features } = DATA.input;
  const packed = DATA.examples[n].input;
  if (kind === "text") {
    return make("span", { className: "snippet" }, packed.slice(0, 24).map((k) => (k < 0 ? "·" : visible(features[k]))).join(""));
  }
  const [steps, size] = packed.shape;
  const values = unpack(packed);
  const small = make("canvas", { "aria-hidden": "true" });
  if (kind === "image" && steps <= 4 * size) {
    const scale = 44 / Math.max(steps, size);
    drawCells(small, size, steps, size * scale, steps * scale, ink(), rangeOf(values), (x, y) => values[y * size + x]);
    return small;
  }
  const context = sized(small, 64, 36);
  for (let k = 0; k < Math.min(size, LINES.length); k++) {
    const line = featureOf(n, k);
    const [low, high] = rangeOf(line);
    context.strokeStyle = css(LINES[k]);
    context.beginPath();
    line.forEach((value, t) => context.lineTo(steps > 1 ? (t / (steps - 1)) * 64 : 32, 33 - ((value - low) / (high - low)) * 30));
    context.stroke();
  }
  return small;
}

function drawExamples() {
  const focused = document.activeElement?.name === "example";
  const cards = DATA.examples.map((example, n) => {
    const radio = make("input", { type: "radio", name: "example", checked: n === state.example });
    radio.addEventListener("change", () => change({ example: n }));
    const words = make("span", { className: "words" }, make("b", {}, example.name), verdictOf(example));
    if (example.why) words.append(make("span", { className: "soft" }, example.why));
    const picture = thumbnail(n);
    if (picture.className === "snippet") words.append(picture);
    return make("label", { className: "card" }, radio, ...(picture.className === "snippet" ? [] : [picture]), words);
  });
  find("examples").replaceChildren(...cards);
  if (focused) find("examples").querySelector(":checked").focus();
}

/** Return what was said of an example and whether it is right, as a sign beside the colour. */
function verdictOf({ verdict, right }) {
  if (right === null) return make("span", { className: "verdict", title: verdict }, verdict);
  return make("span", { className: `verdict ${right ? "right" : "wrong"}`, title: verdict }, `${right ? "✓" : "✗"} ${verdict}`);
}

function drawPrediction() {
  const example = DATA.examples[state.example];
  const box = find("prediction");
  const at = DATA.perStep ? ` at step ${state.step}` : "";
  const numbers = DATA.perStep ? rowOfOutputs(example.outputs, state.step) : example.outputs;
  const truth = DATA.perStep && example.target ? targetAt(example.target, state.step) : example.target;
  const chances = DATA.loss === "linear" ? null : numbers;
  const shown = numbers.map((value, n) => ({ value, n }));
  if (DATA.loss === "softmax") shown.sort((a, b) => b.value - a.value || a.n - b.n);
  const rows = shown.slice(0, 10).flatMap(({ value, n }) => {
    const bar = make("i");
    bar.style.width = `${100 * value}%`;
    const isTrue = Array.isArray(truth) ? truth[n] : truth === n;
    const label = DATA.loss === "linear" ? (truth ? `label ${said(truth[n], 3)}` : "") : null;
    const name = make("span", { className: isTrue && chances ? "name true" : "name", title: DATA.outputs[n] }, make("span", {}, DATA.outputs[n]));
    const number = chances ? `${(100 * value).toFixed(1)}%` : said(value, 3);
    if (isTrue && chances) name.append(" (label)");
    return [name, chances ? make("span", { className: "bar" }, bar) : make("span", { className: "soft" }, label), make("span", {}, number)];
  });
  const many = !chances && numbers.length > MAX_NUMBERS;
  const parts = many ? manyNumbers(numbers, truth) : [make("div", { className: "chances" }, ...rows)];
  if (DATA.perStep) parts.unshift(make("p", { className: "help" }, `What the network says${at}; move the cursor for other steps.`));
  if (!many && shown.length > 10) parts.push(make("p", { className: "help" }, `the first 10 of ${shown.length}`));
  if (example.loss !== null) parts.push(make("p", { className: "help" }, `loss ${said(example.loss, 3)}`));
  box.replaceChildren(...parts);
}

const MAX_NUMBERS = 4; // more of a regression are drawn, not written

/** Draw the numbers of a regression and their targets over the number of the output. */
function manyNumbers(numbers, truth) {
  const lines = [{ name: "prediction", values: numbers, colour: "validation", dash: "" }];
  if (truth) lines.push({ name: "target", values: truth, colour: "f", dash: "5 3" });
  return [curve(`${numbers.length} numbers`, lines, numbers.map((_, n) => n), "output", 300), keyOf(lines)];
}

function rowOfOutputs(packed, step) {
  const size = packed.shape[1];
  return Array.from(unpack(packed).subarray(step * size, (step + 1) * size));
}

/** Return the label of one step: the number of a class, or numbers. */
function targetAt(target, step) {
  return target.shape ? rowOfOutputs(target, step) : target[step];
}

/** Where there is a label at each step: what is said and what is right, along the time axis. */
function stepPredictionTrack() {
  if (!DATA.perStep) return;
  const { names, ends, plot } = addTrack();
  subscribe(["example", "width", "theme"], () => {
    const { outputs, target, steps } = DATA.examples[state.example];
    const said = Array.from({ length: steps }, (_, t) => rowOfOutputs(outputs, t));
    if (DATA.loss === "softmax") {
      const best = said.map((row) => row.indexOf(Math.max(...row)));
      const wrong = best.map((n, t) => target && target[t] !== n);
      names.replaceChildren(make("b", {}, "prediction"), target ? "✗ marks a wrong step" : "");
      drawWords(plot, best.map((n) => DATA.outputs[n]), plotWidth(), (t) => css(wrong[t] ? "wrong" : "ink"), "Predicted classes");
      const signs = make("div");
      if (target) drawWords(signs, wrong.map((is) => (is ? "✗" : "")), plotWidth(), () => css("wrong"), `${wrong.filter(Boolean).length} of ${steps} steps are wrong`);
      plot.append(...signs.childNodes);
      return;
    }
    const shown = Math.min(DATA.outputs.length, LINES.length);
    const lines = LINES.slice(0, shown).map((colour, n) => ({ colour, values: said.map((row) => row[n]) }));
    const labels = target ? LINES.slice(0, shown).map((colour, n) => ({ colour, dash: "2 3", values: said.map((_, t) => targetAt(target, t)[n]) })) : [];
    const range = rangeOf([...lines, ...labels].flatMap((line) => line.values));
    writeEnds(ends, 72, range);
    plot.replaceChildren(stepChart(plotWidth(), 72, range, [...lines, ...labels], "Predictions over time"));
  });
  if (DATA.loss === "softmax") return;
  subscribe(["example", "step"], () => {
    const { outputs, target } = DATA.examples[state.example];
    const row = rowOfOutputs(outputs, state.step).slice(0, LINES.length);
    const values = row.map((value, n) => gutterValue(LINES[n], DATA.outputs[n], value, 3, "whole"));
    names.replaceChildren(make("b", {}, "prediction"), target ? "dotted: label" : "", ...values);
  });
}

function predictions() {
  subscribe(["example", "theme"], drawExamples);
  find("prediction-panel").hidden = !DATA.outputs; // layers without a head predict nothing
  if (!DATA.outputs) return;
  subscribe(["example", ...(DATA.perStep ? ["step"] : [])], drawPrediction);
}
