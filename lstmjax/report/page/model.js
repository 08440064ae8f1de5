// The model: every array with its formula and its shape; and what this page is.

function table(caption, head, rows) {
  const cells = (row) => row.map((word, n) => make("td", {}, n === 0 ? make("code", {}, word) : word));
  return make(
    "div",
    { className: "scroll", tabIndex: 0, role: "region", "aria-label": caption },
    make("table", {}, make("caption", {}, caption), make("thead", {}, make("tr", {}, ...head.map((word) => make("th", { scope: "col" }, word)))), make("tbody", {}, ...rows.map((row) => make("tr", {}, ...cells(row))))),
  );
}

function model() {
  const { layers, head, flow, parameters, notes } = DATA.model;
  const columns = ["array", "formula", "letters", "shape"];
  const parts = layers.map(({ title, total, rows }) => make("div", {}, table(title, [...columns, "parameters"], rows), make("p", { className: "help" }, total)));
  if (head.length) parts.push(make("div", {}, table("Dense head: where the units become the outputs", [...columns, "parameters"], head)));
  const details = make("details", {}, make("summary", {}, "What flows through, at every step and from end to end"), table("From the input to the prediction", columns, flow), make("ul", { className: "help" }, ...notes.map((note) => make("li", {}, note))));
  find("shapes").append(make("b", {}, `${parameters} parameters`), make("div", { className: "tables" }, ...parts), details);
}

function about() {
  find("notes").append(...DATA.notes.map((note) => make("li", {}, note)));
}
