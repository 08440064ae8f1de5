// Colours: maps that people with any colour vision can read, on light and on dark.

const MAPS = {
  gate: { light: ["#00204c", "#31446b", "#666970", "#958f78", "#cbba69", "#ffe945"] }, // cividis
  signed: {
    light: ["#08457e", "#3f8fc5", "#a9cfe8", "#f7f7f5", "#f5c08c", "#d9731a", "#8a3c00"],
    dark: ["#9ad4ff", "#3f97d6", "#1d4f78", "#15181e", "#7a4310", "#d9771f", "#ffc588"],
  },
};

function channels(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

/** Return 256 colours [r, g, b] of a map. */
function ramp(kind) {
  const stops = ((isDark() && MAPS[kind].dark) || MAPS[kind].light).map(channels);
  return Array.from({ length: 256 }, (_, n) => {
    const at = (n / 255) * (stops.length - 1);
    const left = Math.min(Math.floor(at), stops.length - 2);
    return stops[left].map((a, k) => Math.round(a + (at - left) * (stops[left + 1][k] - a)));
  });
}

/** Return the numbers at the two ends of the colours of a field: gates as they are, signed values around 0. */
function colourRange(values, kind, range) {
  if (kind === "signed") {
    const sizes = Float64Array.from(values, Math.abs);
    const size = (range === "percentile" ? quantile(sizes, 0.99) : quantile(sizes, 1)) || 1;
    return [-size, size];
  }
  if (range === "whole") return [0, 1];
  const ends = [quantile(values, 0.01), quantile(values, 0.99)];
  return ends[1] > ends[0] ? ends : [0, 1];
}

function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
