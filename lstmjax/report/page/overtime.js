// What the network would say if the sequence ended at each step: the probability of each class, or the numbers.

const MAX_LINES = 6;

/** Return the outputs to draw as lines, the label and the largest ones at any step, with their values over the steps. */
function linesOverTime({ overTime, target }) {
  const { outputs, values: packed } = overTime;
  const [steps, size] = packed.shape;
  const values = unpack(packed);
  const lines = outputs.map((output, k) => ({ output, values: Array.from({ length: steps }, (_, t) => values[t * size + k]) }));
  const rank = ({ output, values }) => (output === target ? Infinity : Math.max(...values));
  const shown = DATA.loss === "linear" ? lines.slice(0, MAX_LINES) : [...lines].sort((a, b) => rank(b) - rank(a)).slice(0, MAX_LINES);
  shown.sort((a, b) => a.output - b.output);
  const styles = LINES.map((colour, n) => ({ colour, dash: ["", "6 3", "2 2", "8 2 2 2", "4 4", "1 3"][n] }));
  const drawn = shown.map((line, n) => ({ ...line, name: DATA.outputs[line.output], ...styles[n] }));
  if (DATA.loss === "softmax" && overTime.of > shown.length) {
    const rest = Array.from({ length: steps }, (_, t) => Math.max(0, 1 - shown.reduce((sum, line) => sum + line.values[t], 0)));
    drawn.push({ name: `${overTime.of - shown.length} others`, values: rest, colour: "soft", dash: "1 2" });
  }
  return drawn;
}

function overTimeTrack() {
  const drawnAlready = DATA.perStep && DATA.loss !== "softmax"; // beside its labels
  if (!DATA.examples.every((example) => example.overTime) || drawnAlready) return;
  const { track, names, ends, plot } = addTrack();
  track.dataset.kind = "over-time";
  const chances = DATA.loss !== "linear";
  const title = DATA.perStep ? "" : ", if it ended here";
  subscribe(["example", "width"], () => {
    const lines = linesOverTime(DATA.examples[state.example]);
    const range = chances ? [0, 1] : rangeOf(lines.flatMap((line) => line.values));
    const height = Math.max(84, 17 * (lines.length + 2));
    plot.replaceChildren(stepChart(plotWidth(), height, range, lines, `${chances ? "Probabilities" : "Predictions"} at every step`));
    writeEnds(ends, height, range);
  });
  subscribe(["example", "step"], () => {
    const values = linesOverTime(DATA.examples[state.example]).map(({ name, colour, values }) => gutterValue(colour, name, values[state.step], 3, "whole"));
    names.replaceChildren(make("b", {}, chances ? "probability" : "prediction"), title.slice(2), ...values);
  });
}
