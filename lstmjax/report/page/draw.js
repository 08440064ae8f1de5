// Elements, canvases and line charts.

/** Return an element with attributes, properties of the DOM (onclick, textContent, ...) and children. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in element && !name.includes("-")) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function find(id) {
  return document.getElementById(id);
}

/** Return the context of a canvas of this size in CSS pixels, as sharp as the screen is. */
function sized(canvas, width, height) {
  const ratio = Math.min(window.devicePixelRatio || 1, 16000 / Math.max(width, height));
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  return context;
}

/** Draw numbers as coloured cells: `at(column, row)` gives each, from `low` to `high` over the colours. */
function drawCells(canvas, columns, rows, width, height, colours, [low, high], at) {
  const small = new OffscreenCanvas(columns, rows);
  const image = new ImageData(columns, rows);
  const scale = 255.999 / (high - low);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const level = Math.max(0, Math.min(255, Math.floor((at(column, row) - low) * scale)));
      const place = 4 * (row * columns + column);
      for (let k = 0; k < 3; k++) image.data[place + k] = colours[level][k];
      image.data[place + 3] = 255;
    }
  }
  small.getContext("2d").putImageData(image, 0, 0);
  const context = sized(canvas, width, height);
  context.imageSmoothingEnabled = columns > width;
  context.drawImage(small, 0, 0, columns, rows, 0, 0, width, height);
}

/** Return a path through the middles of the steps. */
function pathOf(values, width, height, [low, high]) {
  const cell = width / values.length;
  const y = (value) => height - ((value - low) / (high - low)) * height;
  const points = Array.from(values, (value, t) => `${((t + 0.5) * cell).toFixed(1)} ${y(value).toFixed(2)}`);
  return values.length === 1 ? `M0 ${y(values[0])}H${width}` : `M${points.join("L")}`;
}

/** Return a chart of lines over the steps: `lines` are {values, colour, dash}. Its numbers stand beside it, by `writeEnds`. */
function stepChart(width, height, range, lines, label) {
  const chart = svg("svg", { width, height: height + 4, viewBox: `0 -2 ${width} ${height + 4}`, role: "img", "aria-label": label });
  for (const level of [range[0], 0, range[1]]) {
    if (level < range[0] || level > range[1]) continue;
    const y = height - ((level - range[0]) / (range[1] - range[0])) * height;
    chart.append(svg("line", { x1: 0, x2: width, y1: y, y2: y, class: level === range[0] ? "axis" : "grid" }));
  }
  for (const { values, colour, dash } of lines) {
    const curve = svg("path", { d: pathOf(values, width, height, range), class: "curve", "stroke-dasharray": dash || "" });
    curve.style.stroke = `var(--${colour})`;
    chart.append(curve);
  }
  return chart;
}

/** Write the two ends of a chart's axis beside it, where no line is drawn over them. */
function writeEnds(ends, height, [low, high], words = (level) => said(level, 3)) {
  ends.style.height = `${height + 4}px`; // as high as the chart
  ends.replaceChildren(make("span", {}, words(high)), make("span", {}, words(low)));
}

/** Return round numbers from low to high for an axis. */
function ticks(low, high, count = 4) {
  const rough = (high - low) / count || 1;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * size).find((n) => n >= rough);
  const found = [];
  for (let n = Math.ceil(low / step); n * step <= high + 1e-9 * step; n++) found.push(n * step);
  return found;
}

/** Return the range of numbers, never empty. */
function rangeOf(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
  return high > low ? [low, high] : [low - 0.5, low + 0.5];
}
