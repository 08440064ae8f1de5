// In which order the units stand, and which of them match what the reader marked.

const SORTS = [
  { name: "mean of f", needs: "f", of: (part) => meanOverSteps(part, "f", (value) => value) },
  { name: "time scale −1/mean log f", needs: "f", of: (part) => meanOverSteps(part, "f", Math.log).map((mean) => (mean < 0 ? -1 / mean : Infinity)) },
  { name: "mean of |c|", needs: "c", of: (part) => meanOverSteps(part, "c", Math.abs) },
  { name: "spread of c", needs: "c", of: spreadOfC },
  { name: "number", of: (part) => Array.from({ length: DATA.parts[part].units }, (_, unit) => -unit) },
  { name: "match with the marked span", of: scoresInSpan },
  ...DATA.remembers.map(({ question, ranking }) => ({
    name: `separation: ${question}`,
    of: (part) => {
      const scores = new Array(DATA.parts[part].units).fill(-1);
      for (const [place, unit, score] of ranking) if (place === part) scores[unit] = score;
      return scores;
    },
  })),
].filter((sort) => !sort.needs || FIELDS[sort.needs]);

function spreadOfC(part) {
  const means = meanOverSteps(part, "c", (value) => value);
  return meanOverSteps(part, "c", (value) => value * value).map((square, unit) => square - means[unit] ** 2);
}

/** Return the step at which values change most: where the cursor starts. */
function largestChange(values) {
  const changes = values.map((value, t) => (t ? Math.abs(value - values[t - 1]) : 0));
  return changes.indexOf(Math.max(...changes));
}

/** Return the units of a part from the top of the map to its bottom: largest first, equal ones by number. */
function orderOf(part) {
  const scores = SORTS.find((sort) => sort.name === state.sort).of(part);
  return scores.map((_, unit) => unit).sort((a, b) => scores[b] - scores[a] || a - b);
}

/**
 * Return for each unit how well "on" tells the marked span from the rest: the share of its steps that are on in the
 * span, less the share outside. On is value ≥ the unit's threshold, or for signed fields value ≤ −threshold, whichever is
 * better.
 */
function matchUnits(values, units, [first, last], thresholds, signed) {
  const steps = values.length / units;
  const inside = last - first + 1;
  const found = [];
  for (let unit = 0; unit < units; unit++) {
    for (const sign of signed ? [1, -1] : [1]) {
      const on = [0, 0];
      const sums = [0, 0];
      for (let t = 0; t < steps; t++) {
        const value = sign * values[t * units + unit];
        const where = t >= first && t <= last ? 0 : 1;
        on[where] += value >= thresholds[unit];
        sums[where] += value;
      }
      const outside = Math.max(1, steps - inside);
      const score = on[0] / inside - on[1] / outside;
      const match = { unit, sign, score, margin: sums[0] / inside - sums[1] / outside };
      if (!found[unit] || byScore(found[unit], match) > 0) found[unit] = match;
    }
  }
  return found;
}

/** Compare two matches, the better one first: by score, then by how far the means inside and outside are apart. */
function byScore(one, other) {
  return other.score - one.score || other.margin - one.margin;
}

function matchesOf(part) {
  const signed = FIELDS[state.field].kind === "signed";
  const values = unpack(shownOf(state.example, part, state.field));
  // Each signed field by the unit's own size: one unit that counts up would set a threshold that no other reaches.
  const thresholds = endsOf(state.example, part, state.field).map(([, high]) => state.threshold * (signed ? high : 1));
  return matchUnits(values, DATA.parts[part].units, state.span, thresholds, signed);
}

function scoresInSpan(part) {
  return state.span ? matchesOf(part).map((match) => match.score) : new Array(DATA.parts[part].units).fill(0);
}
