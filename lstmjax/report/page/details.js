// The run behind the network: the command that trains it again, and its hyperparameters.

function keyTable(caption, head, rows) {
  const cells = (row) => row.map((word, n) => make("td", {}, n ? word : make("code", {}, word)));
  return make("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": caption }, make("table", {}, make("caption", {}, caption), make("thead", {}, make("tr", {}, ...head.map((word) => make("th", { scope: "col" }, word)))), make("tbody", {}, ...rows.map((row) => make("tr", {}, ...cells(row))))));
}

function details() {
  find("run").hidden = !DATA.run;
  document.querySelector('nav a[href="#run"]').hidden = !DATA.run;
  if (!DATA.run) return;
  const { command, chosen, defaults } = DATA.run;
  find("command").textContent = command;
  find("hyperparameters").append(
    keyTable("Hyperparameters that were chosen", ["key", "value"], chosen),
    make("details", {}, make("summary", {}, `The other ${defaults.length}, as they are by default`), keyTable("Defaults", ["key", "value"], defaults)),
  );
}
