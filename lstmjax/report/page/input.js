// The input along the time axis: characters, the rows of an image, or a signal.

/** Draw words in the middle of their steps; `colour(t)` gives the colour of each. */
function drawWords(plot, words, width, colour, label) {
  const canvas = make("canvas", { role: "img", "aria-label": label });
  const context = sized(canvas, width, 24);
  const cell = width / words.length;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.font = "13px ui-monospace, Menlo, Consolas, monospace";
  words.forEach((word, t) => {
    const letters = [...word];
    const room = Math.max(1, Math.floor((cell - 1) / 8));
    context.fillStyle = colour(t);
    context.fillText(letters.length > room ? letters.slice(0, room).join("") : word, (t + 0.5) * cell, 12);
  });
  plot.replaceChildren(canvas);
}

/** Return a letter that can be seen for one that cannot. */
function visible(word) {
  return { " ": "␣", "\n": "↵", "\t": "⇥" }[word] ?? word;
}

function drawText({ gutter, plot }) {
  const { features } = DATA.input;
  const text = DATA.examples[state.example].input.map((n) => (n < 0 ? "·" : visible(features[n])));
  gutter.replaceChildren(make("b", {}, "input x"));
  drawWords(plot, text, plotWidth(), () => css("ink"), `Input: ${text.join(" ").slice(0, 2000)}`);
}

function drawImage({ gutter, plot }) {
  const [width, packed] = [plotWidth(), DATA.examples[state.example].input];
  const [steps, features] = packed.shape;
  const values = unpack(packed);
  const height = Math.max(48, Math.min(112, features * 12));
  const canvas = make("canvas", { role: "img", "aria-label": `Input: ${features} features a step, one column a step` });
  drawCells(canvas, steps, features, width, height, ink(), rangeOf(values), (t, n) => values[t * features + n]);
  gutter.replaceChildren(make("b", {}, "input x"), `${features} features down, a column each step`);
  plot.replaceChildren(canvas);
}

/** Return greys from the panel's colour to the ink's. */
function ink() {
  const [from, to] = [channels(css("panel")), channels(css("ink"))];
  return Array.from({ length: 256 }, (_, n) => from.map((a, k) => Math.round(a + (n / 255) * (to[k] - a))));
}

const LINES = ["i", "f", "g", "o", "h", "c"];

function drawSignal({ gutter, plot }) {
  const packed = DATA.examples[state.example].input;
  const [steps, features] = packed.shape;
  const values = unpack(packed);
  const shown = Math.min(features, LINES.length);
  const lines = LINES.slice(0, shown).map((colour, n) => ({
    colour,
    values: Array.from({ length: steps }, (_, t) => values[t * features + n]),
  }));
  const range = rangeOf(lines.flatMap((line) => line.values));
  const names = lines.map((line, n) => {
    const value = make("span", {}, said(line.values[state.step]));
    const name = make("b", { title: nameOf(n) }, nameOf(n));
    name.style.color = `var(--${line.colour})`;
    return make("span", { className: "value" }, name, value);
  });
  if (features > shown) names.push(make("span", {}, `the first ${shown} of ${features}`));
  gutter.replaceChildren(make("b", {}, "input x"), ...names);
  plot.replaceChildren(stepChart(plotWidth(), Math.max(72, 18 * (shown + 1)), range, lines, "Input over time"));
}

function nameOf(feature) {
  return DATA.input.features ? DATA.input.features[feature] : `x${feature}`;
}

const INPUTS = { text: drawText, image: drawImage, signal: drawSignal };

function inputTrack() {
  const track = addTrack();
  subscribe(["example", "width", "theme", ...(DATA.input.kind === "signal" ? ["step"] : [])], () => INPUTS[DATA.input.kind](track));
}
