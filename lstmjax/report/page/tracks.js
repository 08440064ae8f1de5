// Along the time axis, below the map: the gates and the state of the pinned unit, and how the gradient flows.

const DASHES = { f: "6 3", o: "2 2", h: "6 3" }; // told apart without colours, too

/** Return a line of a gutter: what a curve is called, in its colour, and its value at the cursor; names may be long. */
function gutterValue(colour, name, value, digits = 5, className = "") {
  const word = make("i", { className }, name);
  word.style.color = `var(--${colour})`;
  return make("span", { className: "value" }, word, make("span", {}, said(value, digits)));
}

function colourOf(field) {
  return field === "m" ? "h" : field;
}

function unitTracks() {
  const groups = [["gate", "gates"], ["signed", "state"]];
  for (const [kind, title] of groups) {
    const fields = DATA.fields.filter((field) => field.kind === kind).map((field) => field.name);
    if (!fields.length) continue;
    const { track, names, ends, plot } = addTrack();
    track.dataset.kind = kind;
    const lines = () => fields.map((name) => ({ name, values: unitOf(state.example, state.part, name, state.pinned) }));
    subscribe(["example", "part", "pinned", "width", "checkpoint"], () => {
      const drawn = lines().map(({ name, values }) => ({ values, colour: colourOf(name), dash: DASHES[colourOf(name)] }));
      const [low, high] = rangeOf(drawn.flatMap((line) => Array.from(line.values)));
      const size = Math.max(-low, high, 1e-6);
      const range = kind === "gate" ? [0, 1] : [-size, size];
      plot.replaceChildren(stepChart(plotWidth(), 84, range, drawn, `Unit ${state.pinned}: ${fields.join(", ")} over time`));
      writeEnds(ends, 84, range);
    });
    subscribe(["example", "part", "pinned", "step", "checkpoint"], () => {
      const values = lines().map(({ name, values }) => gutterValue(colourOf(name), name, values[state.step]));
      names.replaceChildren(make("b", {}, `unit ${state.pinned}`), ` ${title}`, ...values);
    });
  }
}

/** The sizes of the gradients that reach each step, on a logarithmic axis; 0 stands on its floor. */
function flowTrack() {
  const { names, ends, plot } = addTrack();
  const lines = () => DATA.examples[state.example].flow[state.part];
  const says = `Gradient: the size (norm over the units) of ∂L/∂c and ∂L/∂h at each step, on a logarithmic axis; ${DATA.flow}.`;
  const none = " Here it is 0 at every step: the loss of this example is so small that its gradient is rounded to 0.";
  subscribe(["example"], () => {
    const zero = DATA.examples[state.example].flow.every(({ c, h }) => [...c, ...h].every((value) => value === 0));
    find("flow-says").textContent = says + (zero ? none : "");
  });
  subscribe(["example", "part", "width"], () => {
    const { c, h } = lines();
    const sizes = [...c, ...h].filter((value) => value > 0).map(Math.log10);
    const found = sizes.length ? rangeOf(sizes) : [-1, 0];
    const range = [Math.floor(found[0]), Math.ceil(found[1])];
    const levels = (values) => values.map((value) => (value > 0 ? Math.log10(value) : range[0]));
    const drawn = [
      { values: levels(c), colour: "c" },
      { values: levels(h), colour: "h", dash: DASHES.h },
    ];
    const label = "Size of the gradient at each step, logarithmic";
    plot.replaceChildren(stepChart(plotWidth(), 96, range, drawn, label));
    writeEnds(ends, 96, range, (level) => `10${superscript(level)}`);
  });
  subscribe(["example", "part", "step"], () => {
    const { c, h } = lines();
    names.replaceChildren(
      make("b", {}, "gradient"),
      gutterValue("c", "∂L/∂c", c[state.step], 3),
      gutterValue("h", "∂L/∂h", h[state.step], 3),
    );
  });
}

function superscript(number) {
  return String(number).replace(/./g, (digit) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(digit)]);
}
