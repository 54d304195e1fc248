// What colour, number and marks a token gets in each mode.

const LEVELS = 64; // colours of the scale, classes k0 … k63

const level = (share) => Math.round(Math.min(Math.max(share, 0), 1) * (LEVELS - 1));

/** "99.7 %"; never "100 %" for less than all, nor "0 %" for more than none. */
function percent(share) {
  const shown = share > 0 && share < 1 ? Math.min(Math.max(Math.round(share * 1000) / 10, 0.1), 99.9) : share * 100;
  return `${Number(shown.toPrecision(3))} %`;
}

/** The same in a cell's four characters. */
function shortPercent(share) {
  if (share > 0 && share < 0.01) return "<1%";
  if (share < 1 && share > 0.99) return ">99%";
  return `${Math.round(share * 100)}%`;
}

const BLANK = { colour: "blank", text: "", wrong: false, left: false };

/** Each: its name, whether a map has what it needs, what a cell shows, what the legend says. */
const MODES = {
  steps: {
    name: "steps",
    has: () => true,
    says: "steps taken so far",
    cell(data, map, token, step) {
      const took = map.took[token];
      const wrong = map.wrong(token);
      if (took > step) return { colour: "running", text: "…", wrong, left: false };
      const share = (took - 1) / Math.max(data.steps - 1, 1);
      return { colour: took ? `k${level(share)}` : "blank", text: String(took), wrong, left: false };
    },
  },
  mass: {
    name: "mass",
    has: () => true,
    says: "exit mass spent at this step",
    cell(data, map, token, step) {
      const wrong = map.wrong(token);
      if (step > map.took[token] && !(map.mass(token, step) > 0)) return { ...BLANK, wrong, left: true };
      const mass = map.mass(token, step);
      return { colour: `k${level(mass)}`, text: shortPercent(mass), wrong, left: step >= map.took[token] };
    },
  },
  prediction: {
    name: "prediction",
    has: (map) => Boolean(map.predictions),
    says: "what it would say at this step; colour: how sure it is",
    cell(data, map, token, step) {
      const said = map.prediction(token, step);
      if (!said) return BLANK;
      const sure = map.share("confidence", token, step);
      return {
        colour: Number.isNaN(sure) ? "blank" : `k${level(sure)}`,
        text: data.answer(said),
        wrong: map.asked(token) && said !== map.targets[token],
        left: step >= map.took[token],
      };
    },
  },
  error: {
    name: "error",
    has: (map) => Boolean(map.targets && map.arrays.target_probability),
    says: "probability of a wrong answer at this step",
    cell(data, map, token, step) {
      const right = map.share("target_probability", token, step);
      if (Number.isNaN(right)) return BLANK;
      const said = map.prediction(token, step);
      const wrong = said ? said !== map.targets[token] : map.wrong(token);
      return { colour: `k${level(1 - right)}`, text: shortPercent(1 - right), wrong, left: step >= map.took[token] };
    },
  },
};

/** Which tokens each filter lets through. */
const FILTERS = {
  all: { name: "all tokens", has: () => true, matches: () => null },
  most: {
    name: "most pondered",
    has: () => true,
    matches(data, panes) {
      const { ponder } = panes[0];
      if (!ponder.length) return { tokens: () => false, says: "" };
      const sorted = Float32Array.from(ponder).sort();
      const limit = sorted[Math.floor(0.9 * (sorted.length - 1))];
      const above = sorted.findIndex((value) => value > limit);
      const least = above < 0 ? limit : sorted[above]; // where more than a tenth share the top, all of them
      return { tokens: (token) => ponder[token] >= least, says: `${Number(least.toFixed(2))} steps or more: ` };
    },
  },
  wrong: {
    name: "wrong answers",
    has: (data) => data.panes(data.frames.length - 1).some((map) => map.targets && map.final),
    matches: (data, panes) => ({ tokens: (token) => panes.some((map) => map.wrong(token)), says: "wrong: " }),
  },
  differ: {
    name: "where the runs differ",
    has: (data) => data.others.length > 0,
    matches(data, [first, ...others]) {
      const differs = (token) => (map) =>
        map.took[token] !== first.took[token] || Boolean(map.final && first.final && map.final[token] !== first.final[token]);
      return { tokens: (token) => others.some(differs(token)), says: "other steps or another answer: " };
    },
  },
};
