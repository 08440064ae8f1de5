// The page's data, and the arrays in it as numbers. All text in it goes to the page as text, never as markup.

const DATA = JSON.parse(document.getElementById("data").textContent);
if (DATA.outputs) DATA.outputs = DATA.outputs.map(visible);
const FIELDS = Object.fromEntries(DATA.fields.map((field) => [field.name, field]));
const unpacked = new WeakMap();

/** Return the numbers of a packed array, row by row, and keep them. */
function unpack(packed) {
  if (unpacked.has(packed)) return unpacked.get(packed);
  const values = new Float64Array(packed.shape.reduce((a, b) => a * b, 1)).fill(packed.low);
  if (packed.data) {
    const bytes = Uint8Array.from(atob(packed.data), (letter) => letter.charCodeAt(0));
    const scale = (packed.high - packed.low) / (2 ** packed.bits - 1);
    const view = new DataView(bytes.buffer);
    if (packed.bits === 32) for (let n = 0; n < values.length; n++) values[n] = view.getFloat32(4 * n, true);
    if (packed.bits === 16) for (let n = 0; n < values.length; n++) values[n] += scale * view.getUint16(2 * n, true);
    if (packed.bits === 8) for (let n = 0; n < values.length; n++) values[n] += scale * bytes[n];
  }
  unpacked.set(packed, values);
  return values;
}

/** Return how far an unpacked number is from the computed one at most. */
function errorOf(packed) {
  return (packed.high - packed.low) / (2 ** packed.bits - 1) / 2;
}

/** Return a field of one part in one example, [T, H] row by row; `tree` is that of the run, or of the other run. */
function valuesOf(example, part, field, tree = DATA) {
  return unpack(tree.examples[example].parts[part][field]);
}

/** Return a field as the map shows it, packed: of the checkpoint that is chosen, or of this network. */
function shownOf(example, part, field) {
  return checkpointMap()?.examples[example][part][field] ?? DATA.examples[example].parts[part][field];
}

/** Return the values of one unit over time, as the map shows them. */
function unitOf(example, part, field, unit) {
  const values = unpack(shownOf(example, part, field));
  const units = DATA.parts[part].units;
  return Array.from({ length: DATA.examples[example].steps }, (_, t) => values[t * units + unit]);
}

/**
 * Return for each unit the ends [low, high] of its own values in one example; of a signed field they are -high and high.
 * A unit that moves less than values are off by stands in the usual range: its last digits are of the packing.
 */
function endsOf(example, part, field) {
  const signed = FIELDS[field].kind === "signed";
  const blur = 4 * errorOf(shownOf(example, part, field));
  return Array.from({ length: DATA.parts[part].units }, (_, unit) => {
    const values = unitOf(example, part, field, unit);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const size = Math.max(-low, high);
    if (signed) return size > blur ? [-size, size] : [-1, 1];
    return high - low > blur ? [low, high] : [0, 1];
  });
}

/** Return for each unit of a part the mean of a function of a field, over all steps of all examples. */
function meanOverSteps(part, field, of, tree = DATA) {
  const units = tree.parts[part].units;
  const sums = new Float64Array(units);
  let steps = 0;
  tree.examples.forEach((example, n) => {
    const values = valuesOf(n, part, field, tree);
    for (let k = 0; k < values.length; k++) sums[k % units] += of(values[k]);
    steps += example.steps;
  });
  return Array.from(sums, (sum) => sum / steps);
}

/** Return the q-th quantile, q from 0 to 1. */
function quantile(values, q) {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.round(q * (sorted.length - 1))];
}

/** Return a number as text: five digits where a value is read, three in prose and on axes. */
function said(value, digits = 5) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  const before = size >= 1 ? 1 + Math.floor(Math.log10(size)) : 1; // digits before the point, which stay
  const text = size >= 1e5 || size < 1e-4 ? value.toExponential(2) : String(Number(value.toPrecision(Math.max(digits, before))));
  return text.replace("-", "−");
}

/** Return what the input is at one step, in words. */
function inputAt(example, step) {
  const { kind, features } = DATA.input;
  const packed = DATA.examples[example].input;
  if (kind === "text") return packed[step] < 0 ? "none" : `“${features[packed[step]]}”`;
  const size = packed.shape[1];
  const row = unpack(packed).subarray(step * size, (step + 1) * size);
  const [shown, more] = kind === "image" ? [8, ` … of ${size}`] : [4, ", …"];
  const values = Array.from(row.subarray(0, shown), (value) => said(value));
  const words = kind === "image" ? values.join(" ") : values.map((value, n) => `${features ? features[n] : `x${n}`} ${value}`).join(", ");
  return (kind === "image" ? `row ${step}: ` : "") + words + (size > shown ? more : "");
}
