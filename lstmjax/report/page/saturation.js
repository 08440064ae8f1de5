// Each gate's units by how often they are closed and open (Karpathy et al. 2015): right is closed, up is open.

const SIDE = 240;
const EDGE = 44; // room for the words, the numbers and a point on the axis

const [LOW, HIGH] = [0.1, 0.9]; // nearly closed, nearly open

/** Return what the limits are about: the candidate is between −1 and 1. */
function limited(gate) {
  return gate === "g" ? "(g + 1)/2" : gate;
}

function inWords(gate, left, right) {
  const share = (value) => `${said(100 * value, 3)}%`;
  return `${limited(gate)} is below ${LOW} at ${share(left)} of the steps, above ${HIGH} at ${share(right)}`;
}

function scatter(gate) {
  const { left, right } = saturationOf(gate);
  const [low, high] = [LOW, HIGH];
  const what = limited(gate);
  const room = SIDE - EDGE - 8;
  const [x, y] = [(value) => EDGE + value * room, (value) => 8 + (1 - value) * room];
  const chart = svg("svg", { viewBox: `0 0 ${SIDE} ${SIDE}`, role: "img", "aria-label": `Saturation of ${gate}, a point for each unit` });
  for (const level of [0, 0.5, 1]) {
    chart.append(svg("line", { x1: x(level), x2: x(level), y1: y(0), y2: y(1), class: "grid" }));
    chart.append(svg("line", { x1: x(0), x2: x(1), y1: y(level), y2: y(level), class: "grid" }));
    chart.append(svg("text", { x: x(level), y: y(0) + 17, "text-anchor": "middle" }, String(level)));
    chart.append(svg("text", { x: x(0) - 8, y: y(level) + 4, "text-anchor": "end" }, String(level)));
  }
  chart.append(svg("line", { x1: x(0), y1: y(1), x2: x(1), y2: y(0), class: "axis" })); // no unit is right of it
  chart.append(svg("text", { x: x(0.5), y: SIDE - 6, "text-anchor": "middle" }, `fraction of steps with ${what} < ${low}`));
  const up = svg("text", { x: 12, y: y(0.5), "text-anchor": "middle", transform: `rotate(-90 12 ${y(0.5)})` }, `fraction with ${what} > ${high}`);
  chart.append(up);
  const units = left.map((_, unit) => unit).filter((unit) => unit !== state.pinned);
  for (const unit of [...units, state.pinned]) {
    const pinned = unit === state.pinned;
    const point = svg("circle", { cx: x(left[unit]), cy: y(right[unit]), r: pinned ? 6 : 4, class: pinned ? "unit pinned" : "unit" });
    point.append(svg("title", {}, `unit ${unit}: ${inWords(gate, left[unit], right[unit])}`));
    point.addEventListener("click", () => pin(unit));
    chart.append(point);
  }
  const caption = make("figcaption", {}, `${FIELDS[gate]?.label ?? "gate"} ${gate}`);
  const values = `unit ${state.pinned}: ${inWords(gate, left[state.pinned], right[state.pinned])}`;
  return make("figure", {}, caption, chart, make("p", { className: "help" }, values));
}

function saturation() {
  find("saturation-help").textContent = DATA.saturation.says;
  subscribe(["part", "pinned", "checkpoint"], () => {
    const gates = Object.keys(DATA.saturation.parts[state.part]);
    find("scatters").replaceChildren(...gates.map(scatter));
  });
}
