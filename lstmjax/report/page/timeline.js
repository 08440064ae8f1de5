// What stands along the time axis: rows that share it, the cursor through all of them, and the marked span.

let gutterWidth = 150; // as the style has it, which depends on the screen
const MAX_WIDTH = 16000; // browsers draw no wider canvas
const tracks = make("div", { className: "tracks" });
const cursorMark = make("div", { className: "mark step" });
const spanMark = make("div", { className: "mark span" });

/** Add a row to the time axis and return its parts: names and values in the gutter, the ends of its axis, its plot. */
function addTrack() {
  const [names, ends, plot] = ["names", "ends", "plot"].map((className) => make("div", { className }));
  const gutter = make("div", { className: "gutter" }, names, ends);
  const track = make("div", { className: "track" }, gutter, plot);
  tracks.append(track);
  plot.addEventListener("pointermove", (event) => change({ step: stepAt(event, plot) }));
  return { track, names, ends, plot };
}

function stepsShown() {
  return DATA.examples[state.example].steps;
}

/** Return what a step is called: its number, or its time. */
function timeOf(step) {
  const { times } = DATA.examples[state.example];
  return times ? times[step] : String(step);
}

/** Return the width of the time axis: all there is, or more where a step would be too narrow to read. */
function plotWidth() {
  const { kind, features } = DATA.input;
  const words = [...(kind === "text" ? features : []), ...(DATA.perStep && DATA.loss === "softmax" ? DATA.outputs : [])];
  const letters = Math.min(6, Math.max(0, ...words.map((word) => [...word].length)));
  const narrowest = letters === 1 ? 5.5 : letters ? 2 + 8 * letters : 3; // a letter alone may be small
  return Math.round(Math.min(MAX_WIDTH, Math.max(state.width - gutterWidth, stepsShown() * narrowest)));
}

function stepAt(event, plot) {
  const box = plot.getBoundingClientRect();
  return Math.floor(((event.clientX - box.left) / box.width) * stepsShown());
}

function place(mark, first, last) {
  const cell = plotWidth() / stepsShown();
  mark.style.left = `${gutterWidth + first * cell}px`;
  mark.style.width = `${(last - first + 1) * cell}px`;
}

function drawMarks() {
  place(cursorMark, state.step, state.step);
  spanMark.hidden = !state.span;
  if (state.span) place(spanMark, ...state.span);
}

/** Keep the cursor in sight when the axis is wider than the screen. */
function scrollToStep() {
  const box = find("timeline");
  const cell = plotWidth() / stepsShown();
  const [left, right] = [state.step * cell, (state.step + 1) * cell];
  const room = box.clientWidth - gutterWidth;
  if (left < box.scrollLeft) box.scrollLeft = left - cell;
  if (right > box.scrollLeft + room) box.scrollLeft = right - room + cell;
}

function drawAxis({ names, plot }) {
  const [width, steps] = [plotWidth(), stepsShown()];
  const axis = svg("svg", { width, height: 18, "aria-hidden": "true" });
  const cell = width / steps;
  const room = 8 * timeOf(steps - 1).length; // of a label, with the gap beside it
  for (const t of ticks(0, steps - 1, Math.max(2, width / Math.max(70, 1.5 * room))).filter(Number.isInteger)) {
    const anchor = t * cell < room / 2 ? "start" : (t + 1) * cell > width - room / 2 ? "end" : "middle";
    axis.append(svg("text", { x: (t + 0.5) * cell, y: 12, "text-anchor": anchor }, timeOf(t)));
  }
  names.replaceChildren(DATA.examples[state.example].times ? "time" : "step t");
  plot.replaceChildren(axis);
}

/** Return the room for the time axis and its gutter. */
function measured() {
  gutterWidth = parseFloat(css("gutter"));
  return find("timeline").clientWidth;
}

function timeline() {
  find("timeline").append(tracks);
  for (const build of [inputTracks, saliencyTrack, stepPredictionTrack, overTimeTrack, mapTrack, unitTracks, flowTrack]) build();
  const axis = addTrack();
  subscribe(["example", "width"], () => drawAxis(axis));
  tracks.append(spanMark, cursorMark);
  subscribe(["step", "span", "example", "width"], drawMarks);
}
