// The input along the time axis: characters, the rows of an image, or a signal.

/** Draw words in the middle of their steps; `colour(t)` gives the colour of each. */
function drawWords(plot, words, width, colour, label) {
  const canvas = make("canvas", { role: "img", "aria-label": label });
  const context = sized(canvas, width, 24);
  const cell = width / words.length;
  context.textAlign = "center";
  context.textBaseline = "middle";
  const size = Math.max(9, Math.min(13, cell * 1.6)); // letters are 0.6 of it wide
  context.font = `${size}px ui-monospace, Menlo, Consolas, monospace`;
  words.forEach((word, t) => {
    const letters = [...word];
    const room = Math.max(1, Math.floor((cell - 1) / (0.61 * size)));
    context.fillStyle = colour(t);
    context.fillText(letters.length > room ? letters.slice(0, room).join("") : word, (t + 0.5) * cell, 12);
  });
  plot.replaceChildren(canvas);
}

/** Return a letter that can be seen for one that cannot. */
function visible(word) {
  return { " ": "␣", "\n": "↵", "\t": "⇥" }[word] ?? word;
}

function drawText({ names, plot }) {
  const { features } = DATA.input;
  const text = DATA.examples[state.example].input.map((n) => (n < 0 ? "·" : visible(features[n])));
  names.replaceChildren(make("b", {}, "input x"));
  drawWords(plot, text, plotWidth(), () => css("ink"), `Input: ${text.join(" ").slice(0, 2000)}`);
}

function drawImage({ names, plot }) {
  const [width, packed] = [plotWidth(), DATA.examples[state.example].input];
  const [steps, features] = packed.shape;
  const values = unpack(packed);
  const height = Math.max(48, Math.min(112, features * 12));
  const canvas = make("canvas", { role: "img", "aria-label": `Input: ${features} features a step, one column a step` });
  const own = Boolean(DATA.input.features); // features with names are different things, in different units
  const ranges = own ? featureRanges() : new Array(features).fill(rangeOf(values));
  drawCells(canvas, steps, features, width, height, ink(), [0, 1], (t, n) => (values[t * features + n] - ranges[n][0]) / (ranges[n][1] - ranges[n][0]));
  names.replaceChildren(make("b", {}, "input x"), `${features} features down, ${own ? "each from its smallest value to its largest, " : ""}a column each step`);
  plot.replaceChildren(canvas);
}

/** Return greys from the panel's colour to the ink's. */
function ink() {
  const [from, to] = [channels(css("panel")), channels(css("ink"))];
  return Array.from({ length: 256 }, (_, n) => from.map((a, k) => Math.round(a + (n / 255) * (to[k] - a))));
}

const SIGNAL_HEIGHT = 40;

/** Return the values of one feature over the steps of an example. */
function featureOf(example, feature) {
  const packed = DATA.examples[example].input;
  const [steps, features] = packed.shape;
  const values = unpack(packed);
  return Array.from({ length: steps }, (_, t) => values[t * features + feature]);
}

/** Return the ends of each feature's axis: those of its values in all examples, so that examples can be compared. */
function featureRanges() {
  return Array.from({ length: DATA.examples[0].input.shape[1] }, (_, feature) =>
    rangeOf(DATA.examples.flatMap((_, example) => featureOf(example, feature))),
  );
}

/** Draw each feature on an axis for itself: a large one would flatten the others. */
function signalTracks() {
  featureRanges().forEach((range, feature) => {
    const { track, names, ends, plot } = addTrack();
    track.dataset.feature = feature;
    const [chart, strip] = [make("div"), make("canvas", { role: "img", "aria-label": `∂score/∂x of ${nameOf(feature)}` })];
    plot.append(chart);
    if (hasSaliency()) {
      plot.append(strip);
      subscribe(["example", "width", "theme"], () => drawSaliency(strip, [feature], 8));
    }
    const line = () => featureOf(state.example, feature);
    subscribe(["example", "width"], () => {
      chart.replaceChildren(stepChart(plotWidth(), SIGNAL_HEIGHT, range, [{ values: line(), colour: "accent" }], `Input: ${nameOf(feature)} over time`));
      writeEnds(ends, SIGNAL_HEIGHT, range);
    });
    subscribe(["example", "step"], () => {
      const values = [said(line()[state.step]), ...(hasSaliency() ? [saliencyAt(feature)] : [])];
      names.replaceChildren(make("b", {}, nameOf(feature)), ...values.map((value) => make("span", { className: "value" }, value)));
    });
  });
}

function nameOf(feature) {
  return DATA.input.features ? DATA.input.features[feature] : `x${feature}`;
}

const INPUTS = { text: drawText, image: drawImage };

function inputTracks() {
  if (DATA.input.kind === "signal") return signalTracks();
  const track = addTrack();
  subscribe(["example", "width", "theme"], () => INPUTS[DATA.input.kind](track));
}
