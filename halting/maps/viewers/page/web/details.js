// All that is known of one token, for each run: mass and score as a chart, and what it would have said at each step.

class Details {
  constructor(place, view) {
    this.place = place;
    this.view = view;
  }

  show(token, pinned) {
    this.place.classList.toggle("empty", token === null);
    document.body.classList.toggle("told", token !== null);
    if (token === null) return this.place.replaceChildren(element("p", {}, "Point at a token, or move to one by keys."));
    const { data, panes } = this.view;
    const sequence = data.sequenceOf(token);
    const close = element("button", { type: "button", className: "close", title: "close" }, pinned ? "✕ let go" : "✕");
    close.addEventListener("click", () => this.close());
    const known = [element("span", {}, `sequence ${sequence + 1}, token ${token - data.starts[sequence]}`)];
    if (data.difficulty && Number.isFinite(data.difficulty[token])) {
      known.push(element("span", {}, `${data.about.difficulty} ${Number(data.difficulty[token].toPrecision(4))}`));
    }
    const scrolled = this.place.scrollTop;
    this.place.replaceChildren(
      close,
      element("bdi", { className: "token" }, data.texts[token] || "(empty)"),
      element("p", { className: "told" }, ...known),
      element("div", { className: "runs" }, ...panes.map((map) => this.run(map, token, panes.length > 1))),
    );
    this.place.scrollTop = scrolled;
  }

  close() {
    this.view.pinned = false;
    this.view.look(null);
  }

  run(map, token, named) {
    const kept = map.kept[token];
    const parts = named ? [element("h3", {}, map.label)] : [];
    parts.push(this.summary(map, token), ...this.answers(map, token));
    if (kept) parts.push(...this.chart(map, token, kept), this.table(map, token, kept));
    return element("div", {}, ...parts);
  }

  summary(map, token) {
    const [took, ponder] = [map.took[token], map.ponder[token]];
    const told = [element("span", {}, element("b", {}, `${took} of ${map.steps} steps`))];
    if (Math.abs(ponder - took) > 5e-3) told.push(element("span", {}, `ponder ${ponder.toFixed(2)}`));
    return element("p", { className: "told" }, ...told);
  }

  answers(map, token) {
    if (!map.asked(token)) return [];
    const wrong = map.wrong(token);
    const told = [];
    if (map.final) {
      const verdict = wrong ? "✗ wrong" : "✓ right";
      told.push(element("span", {}, "said ", element("bdi", {}, this.view.data.answer(map.final[token]))), element("b", {}, verdict));
    }
    told.push(element("span", {}, "right answer ", element("bdi", {}, this.view.data.answer(map.targets[token]))));
    return [element("p", { className: wrong ? "told wrong-answer" : "told" }, ...told)];
  }

  /** Bars for the mass, and a ring for the score of each step. */
  chart(map, token, kept) {
    const numbers = Array.from({ length: map.steps }, (_, index) => index + 1);
    const scores = numbers.map((step) => map.score(token, step)).filter(Number.isFinite);
    const [low, high] = [Math.min(0, ...scores), Math.max(1, ...scores)];
    const bars = numbers.map((step) => {
      const bar = element("i", { className: step === this.view.step ? "now" : "" });
      const mass = map.mass(token, step);
      if (mass > 0) bar.append(element("b", { style: `height: ${(100 * mass).toFixed(1)}%` }));
      const score = map.score(token, step);
      if (Number.isFinite(score)) bar.append(element("u", { style: `bottom: ${((100 * (score - low)) / (high - low)).toFixed(1)}%` }));
      return bar;
    });
    const range = scores.length ? `○ score, ${Number(low.toPrecision(3))} to ${Number(high.toPrecision(3))}` : "";
    const key = element("p", { className: "chart-key" }, ...["step 1", `▮ mass, 0 to 1   ${range}`, `${map.steps}`].map((text) => element("span", {}, text)));
    return [element("div", { className: "chart", role: "img", "aria-label": "mass and score at each step; the table has the figures" }, ...bars), key];
  }

  table(map, token, kept) {
    const share = (name) => (step) => {
      const value = map.share(name, token, step);
      return Number.isNaN(value) ? "" : percent(value);
    };
    const columns = { step: (step) => String(step), mass: share("mass") };
    columns.score = (step) => (Number.isFinite(map.score(token, step)) ? map.score(token, step).toPrecision(3) : "");
    if (map.predictions) columns.says = (step) => this.view.data.answer(map.prediction(token, step));
    if (map.arrays.confidence) columns.sure = share("confidence");
    if (map.asked(token) && map.arrays.target_probability) columns["if right"] = share("target_probability");
    const body = element("tbody");
    for (let step = 1; step <= kept; step++) {
      const cells = Object.entries(columns).map(([name, value]) => {
        if (name === "step") return element("th", { scope: "row" }, value(step));
        return element("td", { className: name }, name === "says" ? element("bdi", {}, value(step)) : value(step));
      });
      body.append(element("tr", { className: step === Math.min(this.view.step, kept) ? "now" : "" }, ...cells));
    }
    const head = Object.keys(columns).map((name) => element("th", { scope: "col" }, name === "if right" ? "right" : name));
    return element("table", { "aria-label": "had it stopped at each step" }, element("thead", {}, element("tr", {}, ...head)), body);
  }
}
