// Beside the map: the units that match a marked span, and what which unit remembers.

/** Return a button for a unit that pins it; `share` from 0 to 1 is drawn as a bar. */
function unitButton({ part, unit, words, score, share }) {
  const bar = make("i");
  bar.style.width = `${100 * Math.max(0, Math.min(1, share))}%`;
  const place = DATA.parts.length > 1 ? `, ${DATA.parts[part].label}` : "";
  const chosen = part === state.part && unit === state.pinned;
  const button = make(
    "button",
    { type: "button", "aria-pressed": String(chosen), "data-part": part, "data-unit": unit },
    make("span", {}, `unit ${unit}${place}${words}`),
    make("span", {}, score),
    make("span", { className: "bar", "aria-hidden": "true" }, bar),
  );
  button.addEventListener("click", () => {
    change({ part });
    pin(unit);
  });
  return make("li", {}, button);
}

/** Say which unit is pinned in a list that stays as it is, so that the keyboard's place is kept. */
function markPressed(list) {
  for (const button of list.querySelectorAll("button")) {
    const chosen = Number(button.dataset.part) === state.part && Number(button.dataset.unit) === state.pinned;
    button.setAttribute("aria-pressed", String(chosen));
  }
}

function matchPanel() {
  const slider = make("input", { type: "range", min: 0, max: 1, step: 0.005, id: "threshold" });
  const value = make("output", { htmlFor: "threshold" });
  const says = make("p", { className: "help" });
  const list = make("ol", { className: "list", "aria-label": "Units by score" });
  const clear = make("button", { type: "button", textContent: "Clear the span" });
  clear.addEventListener("click", () => change({ span: null, anchor: null }));
  slider.addEventListener("input", () => change({ threshold: Number(slider.value) }));
  const label = make("label", { className: "slider", htmlFor: "threshold" });
  label.append("on from", value, slider);
  find("match").append(says, label, list, clear);
  subscribe(["field", "threshold"], () => {
    const { field, threshold } = state;
    slider.value = threshold;
    const share = `|${field}| ≥ ${said(100 * threshold)}% of the unit's largest`;
    value.textContent = FIELDS[field].kind === "gate" ? `${field} ≥ ${said(threshold)}` : share;
  });
  subscribe(["example", "field", "threshold", "span", "checkpoint"], () => {
    clear.hidden = !state.span;
    if (!state.span) {
      says.textContent = "Drag over the map, or Shift with ← →, to mark a span: here are the units whose shown value is on in it and off outside.";
      list.replaceChildren();
      return;
    }
    const [first, last] = state.span;
    says.textContent = `Steps ${first} to ${last} of ${stepsShown()}. Score: share of steps on in the span, less the share on outside.`;
    const found = DATA.parts.flatMap((_, part) => matchesOf(part).map((match) => ({ part, ...match })));
    found.sort((a, b) => byScore(a, b) || a.part - b.part || a.unit - b.unit);
    list.replaceChildren(
      ...found.slice(0, 20).map(({ part, unit, sign, score }) =>
        unitButton({ part, unit, words: sign < 0 ? " (negative)" : "", score: score.toFixed(2).replace("-", "−"), share: score }),
      ),
    );
  });
  subscribe(["pinned", "part"], () => markPressed(list));
}

function remembersPanel() {
  find("remembers-panel").hidden = !DATA.remembers.length;
  if (!DATA.remembers.length) return;
  const choice = make("select", { id: "question" });
  DATA.remembers.forEach(({ question }, n) => choice.append(make("option", { value: n }, question)));
  choice.addEventListener("change", () => change({ question: Number(choice.value) }));
  const list = make("ol", { className: "list", "aria-label": "Units by separation" });
  const help = "How well c of one unit alone tells the answer: the area under its ROC curve (AUC; 0.5 by chance, 1 perfectly), the smallest over the steps that are asked about.";
  find("remembers").append(make("label", {}, "Which unit knows ", choice), make("p", { className: "help" }, help), list);
  subscribe(["question"], () => {
    const { ranking } = DATA.remembers[state.question];
    const rows = ranking.slice(0, 20).map(([part, unit, score]) =>
      unitButton({ part, unit, words: "", score: score.toFixed(3), share: 2 * score - 1 }),
    );
    list.replaceChildren(...rows);
  });
  subscribe(["pinned", "part"], () => markPressed(list));
}
