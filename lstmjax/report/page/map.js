// The heat map: one row a unit, one column a step; the pointer and the keyboard read it, pin units and mark spans.

const canvas = make("canvas", { className: "map", tabIndex: 0, id: "map", role: "application" });
const pinMark = make("div", { className: "mark row" });
const cellMark = make("div", { className: "mark cell" });
let order = []; // units from the top to the bottom
let rowHeight = 1;

function rowOf(unit) {
  return order.indexOf(unit);
}

function drawMap({ names }) {
  order = orderOf(state.part);
  const [width, steps, units] = [plotWidth(), stepsShown(), order.length];
  rowHeight = Math.max(2, Math.min(26, Math.floor(440 / units)));
  const values = unpack(shownOf(state.example, state.part, state.field));
  const { kind, label } = FIELDS[state.field];
  const colours = ramp(kind);
  // Those of this network at every checkpoint, so that colours can be compared.
  const range = colourRange(valuesOf(state.example, state.part, state.field), kind, state.range);
  const ends = state.range === "unit" ? endsOf(state.example, state.part, state.field) : order.map(() => range);
  drawCells(canvas, steps, units, width, rowHeight * units, colours, [0, 1], (t, row) => {
    const [low, high] = ends[order[row]];
    return (values[t * units + order[row]] - low) / (high - low);
  });
  canvas.setAttribute(
    "aria-label",
    `${label} ${state.field} of ${units} units over ${steps} steps, ${DATA.parts[state.part].label}${checkpointWords()}. Arrow keys move, ` +
      "Enter pins the unit, Shift with left or right marks a span, Escape clears it.",
  );
  const smallest = kind === "signed" ? "−largest" : "smallest";
  drawLegend(colours, state.range === "unit" ? [smallest, "largest"] : range.map((end) => said(end, 3)));
  drawRows(names);
}

/** Write the units' numbers beside the rows, as many as there is room for. */
function drawRows(box) {
  const room = 14; // pixels that a number needs
  const [every, at] = [Math.max(1, Math.ceil(room / rowHeight)), rowOf(state.pinned)];
  const free = (row) => row % every === 0 && row !== at && Math.abs(row - at) * rowHeight >= room + 3;
  const names = order.flatMap((unit, row) => (free(row) ? [rowName(unit, row)] : []));
  const pinned = rowName(state.pinned, at);
  pinned.className = "pinned";
  box.replaceChildren(make("div", { className: "rows" }, make("b", {}, "unit"), ...names, pinned));
}

function rowName(unit, row) {
  const name = make("span", {}, String(unit));
  name.style.top = `${(row + 0.5) * rowHeight}px`;
  return name;
}

function drawLegend(colours, [low, high]) {
  const bar = make("canvas", { role: "img", "aria-label": `Colours from ${low} to ${high}` });
  drawCells(bar, 256, 1, 200, 12, colours, [0, 255], (n) => n);
  const what = { percentile: "1st to 99th percentile", whole: "whole range", unit: "of each unit in this example" };
  find("legend").replaceChildren(low, bar, high, make("span", {}, `${state.field}, ${what[state.range]}${checkpointWords()}`));
}

function drawPin() {
  const cell = plotWidth() / stepsShown();
  pinMark.style.top = `${rowOf(state.pinned) * rowHeight}px`;
  pinMark.style.height = `${rowHeight}px`;
  cellMark.style.top = `${rowOf(state.unit) * rowHeight}px`;
  cellMark.style.left = `${state.step * cell}px`;
  cellMark.style.width = `${cell}px`;
  cellMark.style.height = `${rowHeight}px`;
}

/** Return the read-out at the cursor in words. */
function readout() {
  const { example, part, field, unit, step } = state;
  const value = unitOf(example, part, field, unit)[step];
  const time = DATA.examples[example].times ? `, ${timeOf(step)}` : "";
  return { unit: `unit ${unit}`, step: `step ${step}${time}`, value: `${field} = ${said(value)}`, input: inputAt(example, step) };
}

function drawReadout() {
  const { unit, step, value, input } = readout();
  const place = DATA.parts.length > 1 ? `, ${DATA.parts[state.part].label}` : "";
  const beside = DATA.input.kind === "signal" ? "" : `, input ${input}`; // the values of signals stand beside them
  const about = ` ${FIELDS[state.field].label}${beside}`;
  find("readout").replaceChildren(make("b", {}, value), about, make("span", { className: "soft" }, ` · ${unit}${place} · ${step}`));
}

function announce() {
  const { unit, step, value, input } = readout();
  const marked = state.span ? `, span ${state.span[0]} to ${state.span[1]}` : "";
  find("live").textContent = `${unit}, ${step}, ${value}, input ${input}${marked}`;
}

function pin(unit) {
  change({ pinned: unit, unit });
  find("live").textContent = `unit ${unit} pinned`;
}

function mark(first, last) {
  const inside = (t) => Math.max(0, Math.min(stepsShown() - 1, t));
  change({ span: [Math.min(inside(first), inside(last)), Math.max(inside(first), inside(last))] });
}

/** What each key does: where the cursor goes. */
const KEYS = {
  ArrowLeft: () => ({ step: state.step - 1 }),
  ArrowRight: () => ({ step: state.step + 1 }),
  ArrowUp: () => ({ unit: order[Math.max(0, rowOf(state.unit) - 1)] }),
  ArrowDown: () => ({ unit: order[Math.min(order.length - 1, rowOf(state.unit) + 1)] }),
  PageUp: () => ({ unit: order[Math.max(0, rowOf(state.unit) - 10)] }),
  PageDown: () => ({ unit: order[Math.min(order.length - 1, rowOf(state.unit) + 10)] }),
  Home: () => ({ step: 0 }),
  End: () => ({ step: stepsShown() - 1 }),
};

function onKey(event) {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "Enter" || event.key === " ") {
    pin(state.unit);
  } else if (event.key === "Escape") {
    change({ span: null, anchor: null });
    announce();
  } else if (event.key in KEYS) {
    const before = state.step;
    change(KEYS[event.key]());
    if (event.shiftKey && state.step !== before) {
      if (state.anchor === null) change({ anchor: before });
      mark(state.anchor, state.step);
    } else if (!event.shiftKey) {
      change({ anchor: null });
    }
    scrollToStep();
    announce();
  } else {
    return;
  }
  event.preventDefault();
}

function onPointer(plot) {
  let began = null; // where the button went down
  const unitAt = (event) => {
    const box = canvas.getBoundingClientRect();
    const row = Math.floor(((event.clientY - box.top) / box.height) * order.length);
    return order[Math.max(0, Math.min(order.length - 1, row))];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    began = { x: event.clientX, step: stepAt(event, plot), marks: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    change({ unit: unitAt(event) });
    if (!began) return;
    began.marks ||= Math.abs(event.clientX - began.x) > 4;
    if (began.marks) mark(began.step, stepAt(event, plot));
  });
  canvas.addEventListener("pointerup", (event) => {
    if (began && !began.marks) pin(unitAt(event));
    began = null;
  });
  canvas.addEventListener("pointercancel", () => (began = null));
}

function mapTrack() {
  const track = addTrack();
  track.plot.append(canvas, pinMark, cellMark);
  onPointer(track.plot);
  canvas.addEventListener("keydown", onKey);
  subscribe(["example", "part", "field", "sort", "range", "width", "theme", "checkpoint"], () => drawMap(track));
  subscribe(["span", "threshold"], () => {
    if (state.sort === "match with the marked span") drawMap(track);
  });
  subscribe(["pinned"], () => drawRows(track.names));
  subscribe(["pinned", "unit", "step", "example", "part", "field", "sort", "width", "span", "threshold"], drawPin);
  subscribe(["unit", "step", "example", "part", "field", "checkpoint"], drawReadout);
}
