// How the gates learned: a slider over the checkpoints that redraws the map, and moves the points of the saturation.

/** Return [S, H] of a gate at the checkpoints, one row of it. */
function atCheckpoint(packed, row) {
  const units = packed.shape[1];
  return Array.from(unpack(packed).subarray(row * units, (row + 1) * units));
}

/** Return the saturation to draw: of this network, or of the checkpoint that is chosen. */
function saturationOf(gate) {
  if (state.checkpoint < 0) return DATA.saturation.parts[state.part][gate];
  const { left, right } = DATA.learning.parts[state.part][gate];
  return { left: atCheckpoint(left, state.checkpoint), right: atCheckpoint(right, state.checkpoint) };
}

/** Return what the map shows at the checkpoint that is chosen: the last one before it that has a map; null: this network. */
function checkpointMap() {
  if (state.checkpoint < 0 || !DATA.learning.maps.length) return null;
  const step = DATA.learning.steps[state.checkpoint];
  return DATA.learning.maps.filter((kept) => kept.step <= step).at(-1) ?? null;
}

/** Say which network the map shows, if it is not this one. */
function checkpointWords() {
  const kept = checkpointMap();
  if (!kept) return "";
  const has = state.field in kept.examples[state.example][state.part];
  return has ? `, after training step ${kept.step}` : ", this network: there is no room for this field at checkpoints";
}

/** Return a slider over the checkpoints; all of them move together. */
function checkpointSlider(id) {
  const { steps } = DATA.learning;
  const slider = make("input", { type: "range", min: 0, max: steps.length, step: 1, id });
  const value = make("output", { htmlFor: id });
  const label = make("label", { className: "slider", htmlFor: id });
  label.append("after training step", value, slider);
  slider.addEventListener("input", () => change({ checkpoint: Number(slider.value) < steps.length ? Number(slider.value) : -1 }));
  subscribe(["checkpoint"], () => {
    slider.value = state.checkpoint < 0 ? steps.length : state.checkpoint;
    value.textContent = state.checkpoint < 0 ? "this network" : String(steps[state.checkpoint]);
    slider.setAttribute("aria-valuetext", value.textContent);
  });
  return label;
}

/** Draw the mean of each gate of the pinned unit over the checkpoints. */
function learningChart() {
  const { steps, parts } = DATA.learning;
  const styles = { i: ["i", ""], f: ["f", "6 3"], g: ["g", "2 2"], o: ["o", "8 2 2 2"] };
  const lines = Object.entries(parts[state.part]).map(([gate, { mean }]) => {
    const [colour, dash] = styles[gate];
    return { name: gate, values: steps.map((_, row) => atCheckpoint(mean, row)[state.pinned]), colour, dash };
  });
  return [curve(`mean of each gate of unit ${state.pinned}`, lines, steps), keyOf(lines)];
}

function learning() {
  find("learning").hidden = !DATA.learning;
  if (!DATA.learning) return;
  const chart = make("div", { className: "curves" });
  const help = make("p", { className: "help" }, "Move it to see the points below as they were at each checkpoint, over the validation part; at its right end they are those of this network over what this page looks at.");
  find("learning").append(checkpointSlider("checkpoint"), help, chart);
  if (DATA.learning.maps.length) {
    const few = "The map, the read-out and the curves of the pinned unit are those of the checkpoint; everything else stays that of this network. Colours keep their range.";
    find("checkpoint-map").append(checkpointSlider("checkpoint-of-map"), make("p", { className: "help" }, few));
  }
  subscribe(["part", "pinned"], () => chart.replaceChildren(...learningChart()));
}
