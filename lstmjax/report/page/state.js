// What the reader has chosen. Views subscribe to what they show; a change draws those that depend on it.

const state = {
  example: 0,
  part: 0, // a layer in one direction
  field: FIELDS.f ? "f" : DATA.fields[0].name,
  sort: "",
  range: "percentile",
  step: 0, // the cursor
  unit: 0,
  pinned: 0,
  span: null, // [first, last] steps that are marked
  anchor: null, // where the keyboard began to mark
  question: 0,
  pair: "", // "label,prediction" of the wrong results that are shown; "": all
  output: 0, // of a regression
  checkpoint: -1, // of the learning; -1: this network
  threshold: 0.5, // on from: a gate's value, or a share of a unit's largest |value|
  width: 0,
  theme: 0,
};
const views = [];

function subscribe(keys, draw) {
  views.push({ keys, draw });
}

function change(values) {
  const next = { ...state, ...values };
  if (next.example !== state.example) Object.assign(next, { span: null, anchor: null });
  if (next.field !== state.field) next.threshold = 0.5;
  const units = DATA.parts[next.part].units;
  next.step = Math.max(0, Math.min(next.step, DATA.examples[next.example].steps - 1));
  next.unit = Math.max(0, Math.min(next.unit, units - 1));
  next.pinned = Math.min(next.pinned, units - 1);
  const changed = Object.keys(next).filter((key) => next[key] !== state[key]);
  Object.assign(state, next);
  for (const view of views) if (view.keys.some((key) => changed.includes(key))) view.draw();
}
