// Saliency: the gradient of the predicted score with respect to each feature at each step, beside the input.

/** Return the gradients of an example, [T, I] row by row; null where they are not here. */
function saliencyOf(example) {
  const packed = DATA.examples[example].saliency;
  return packed ? { values: unpack(packed), features: packed.shape[1], steps: packed.shape[0] } : null;
}

/** Return the range of the colours: the same for all features, so that they can be compared. */
function saliencyRange(values) {
  return colourRange(values, "signed", "whole");
}

/** Draw the gradients of some features, a row each. */
function drawSaliency(canvas, rows, height) {
  const { values, features, steps } = saliencyOf(state.example);
  const [low, high] = saliencyRange(values);
  drawCells(canvas, steps, rows.length, plotWidth(), height, ramp("signed"), [low, high], (t, row) => values[t * features + rows[row]]);
}

/** Return the gradient of one feature at the cursor, in words. */
function saliencyAt(feature) {
  const { values, features } = saliencyOf(state.example);
  return `∂ ${said(values[state.step * features + feature], 3)}`;
}

function hasSaliency() {
  return DATA.examples.every((example) => example.saliency);
}

/** Below text and images: a row for each feature. */
function saliencyTrack() {
  find("saliency-says").hidden = !hasSaliency();
  if (!hasSaliency()) return;
  find("saliency-says").textContent =
    `Saliency: ∂score/∂x of each feature at each step, with x as the network sees it (scaled). The score is ${DATA.score}. ` +
    "Orange: more of the feature raises the score; blue: it lowers it.";
  if (DATA.input.kind === "signal") return; // beside each feature
  const { track, names, plot } = addTrack();
  track.dataset.kind = "saliency";
  const canvas = make("canvas", { role: "img", "aria-label": "∂score/∂x, a row for each feature" });
  plot.append(canvas);
  subscribe(["example", "width", "theme"], () => {
    const { features } = saliencyOf(state.example);
    const rows = Array.from({ length: features }, (_, n) => n);
    drawSaliency(canvas, rows, Math.max(72, Math.min(112, features * 12)));
  });
  subscribe(["example", "step"], () => {
    const { values, features } = saliencyOf(state.example);
    const row = values.subarray(state.step * features, (state.step + 1) * features);
    let most = 0;
    row.forEach((value, n) => (most = Math.abs(value) > Math.abs(row[most]) ? n : most));
    const name = DATA.input.kind === "text" ? visible(nameOf(most)) : nameOf(most);
    // No more lines than there is room for beside the rows: the map must not move under the pointer.
    names.replaceChildren(make("b", {}, "saliency"), "the largest here: ", make("b", { title: "rows are in the order of the features" }, name), saliencyAt(most));
  });
}
