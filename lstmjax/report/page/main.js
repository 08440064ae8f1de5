// Put the page together.

function choose(id, options, key, parse = String) {
  const select = find(id);
  for (const [value, words] of options) select.append(make("option", { value }, words));
  select.value = state[key];
  select.addEventListener("change", () => change({ [key]: parse(select.value) }));
  subscribe([key], () => (select.value = state[key]));
}

function controls() {
  choose("part", DATA.parts.map(({ label }, n) => [n, label]), "part", Number);
  find("part-choice").hidden = DATA.parts.length === 1;
  choose("sort", SORTS.map(({ name }) => [name, name]), "sort");
  choose("range", [["percentile", "1st–99th percentile"], ["whole", "whole range"], ["unit", "each unit's own range"]], "range");
  for (const { name, label } of DATA.fields) {
    const radio = make("input", { type: "radio", name: "field", value: name, checked: name === state.field, "aria-label": `${name}, ${label}` });
    radio.addEventListener("change", () => change({ field: name }));
    find("fields").append(make("label", { title: label }, radio, name));
  }
}

function start() {
  find("title").textContent = DATA.title;
  find("facts").textContent = DATA.facts.join(" · ");
  state.sort = SORTS[0].name;
  state.width = measured();
  const [best] = DATA.remembers.length ? DATA.remembers[0].ranking : [];
  if (best) state.part = best[0];
  state.pinned = state.unit = best ? best[1] : orderOf(state.part)[0];
  state.step = largestChange(unitOf(state.example, state.part, "c", state.pinned));
  for (const build of [theme, controls, predictions, timeline, matchPanel, remembersPanel, results, compare, learning, saturation, curves, details, model, about]) build();
  for (const view of views) view.draw();
  new ResizeObserver(() => change({ width: measured() })).observe(find("timeline"));
}

start();
