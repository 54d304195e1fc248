// The bar of controls: mode, step, growth, filter, theme, and the legend that goes with them.

/** Moves a slider on its own, from the start if it stands at the end. */
class Player {
  constructor(button, slider, name) {
    Object.assign(this, { button, slider, name });
    button.addEventListener("click", () => (this.timer ? this.stop() : this.start()));
  }

  start() {
    if (Number(this.slider.value) >= Number(this.slider.max)) this.set(Number(this.slider.min));
    const pause = Math.min(Math.max(5000 / (this.slider.max - this.slider.min || 1), 150), 700);
    this.timer = setInterval(() => this.tick(), pause);
    this.button.textContent = "❚❚ stop";
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.button.textContent = `▶ ${this.name}`;
  }

  tick() {
    if (Number(this.slider.value) >= Number(this.slider.max)) return this.stop();
    this.set(Number(this.slider.value) + 1);
    if (Number(this.slider.value) >= Number(this.slider.max)) this.stop();
  }

  set(value) {
    this.slider.value = value;
    this.slider.dispatchEvent(new Event("input"));
  }
}

class Controls {
  constructor(view) {
    this.view = view;
    this.steps = new Player(byId("play-steps"), byId("step"), "play");
    this.growth = new Player(byId("play-growth"), byId("frame"), "play training");
    byId("step").addEventListener("input", () => this.later());
    byId("frame").addEventListener("input", () => this.later());
    byId("filter").addEventListener("change", () => this.filter());
    byId("next").addEventListener("click", () => view.match(1));
    byId("previous").addEventListener("click", () => view.match(-1));
    byId("theme").addEventListener("change", (event) => (document.documentElement.dataset.theme = event.target.value));
    view.place.addEventListener("keydown", (event) => {
      const change = { "+": 1, "=": 1, "-": -1, "−": -1 }[event.key];
      if (change && !event.ctrlKey && !event.metaKey) this.steps.set(Number(byId("step").value) + change);
    });
    const bar = byId("controls");
    new ResizeObserver(() => {
      const height = getComputedStyle(bar).position === "sticky" ? bar.offsetHeight : 0;
      document.documentElement.style.setProperty("--bar", `${height}px`);
    }).observe(bar);
  }

  load(data) {
    const { view } = this;
    this.steps.stop();
    this.growth.stop();
    const usable = (mode) => view.panes.every(mode.has);
    if (!usable(view.mode)) view.mode = MODES.steps;
    byId("modes").replaceChildren(
      ...Object.entries(MODES).map(([name, mode]) => {
        const button = element("input", { type: "radio", name: "mode", value: name, checked: mode === view.mode });
        button.disabled = !usable(mode);
        button.addEventListener("change", () => ((view.mode = mode), this.update()));
        return element("label", button.disabled ? { title: "This map holds nothing to show for it." } : {}, button, mode.name);
      }),
    );
    const kept = this.loaded === data.steps ? Number(byId("step").value) : data.steps; // while somebody types
    this.loaded = data.steps;
    Object.assign(byId("step"), { max: data.steps, value: kept, disabled: data.steps < 2 });
    byId("play-steps").disabled = data.steps < 2;
    Object.assign(byId("frame"), { max: data.frames.length - 1, value: data.frames.length - 1 });
    byId("growth").hidden = data.frames.length < 2;
    const filters = Object.entries(FILTERS).filter(([, filter]) => filter.has(data));
    const filter = byId("filter").value;
    byId("filter").replaceChildren(...filters.map(([name, { name: says }]) => element("option", { value: name }, says)));
    if (filters.some(([name]) => name === filter)) byId("filter").value = filter;
    byId("facts").replaceChildren(...this.facts(data));
    byId("controls").hidden = byId("help").hidden = false;
    this.filter();
  }

  facts(data) {
    const hidden = data.sequences < data.about.sequences ? `${data.sequences} of ${data.about.sequences} sequences` : "";
    const facts = data.panes(data.frames.length - 1).map(({ facts: [first, ...rest] }) =>
      element("p", {}, element("b", {}, first), ...rest.map((fact) => ` · ${fact}`)),
    );
    return hidden ? [...facts, element("p", {}, hidden)] : facts;
  }

  /** Updates once a frame, however fast a slider moves. */
  later() {
    this.waiting ??= requestAnimationFrame(() => ((this.waiting = null), this.update()));
  }

  update() {
    const { view } = this;
    view.step = Number(byId("step").value);
    const frame = Number(byId("frame").value);
    byId("step-is").textContent = `${view.step} of ${view.data.steps}`;
    const { update } = view.data.frames[frame];
    byId("frame-is").textContent = update ?? (frame === view.data.frames.length - 1 ? "the end" : `map ${frame + 1}`);
    if (frame !== view.frame) {
      view.setFrame(frame);
      return this.filter(); // who pondered most, or is wrong, is another question at each update
    }
    this.legend();
    view.repaint();
  }

  filter() {
    const { view } = this;
    view.setFrame(Number(byId("frame").value));
    const filter = FILTERS[byId("filter").value].matches(view.data, view.panes);
    const { tokens, sequences } = view.filter(filter && filter.tokens);
    const [all, count] = [view.data.tokens, view.data.sequences].map((number) => number.toLocaleString("en"));
    byId("matches").textContent = filter
      ? `${filter.says}${tokens.toLocaleString("en")} of ${all} tokens, in ${sequences} of ${count} sequences`
      : "";
    byId("next").hidden = byId("previous").hidden = !filter;
    this.update();
  }

  legend() {
    const { view } = this;
    const { steps } = view.data;
    const swatches = [];
    if (view.mode === MODES.steps) {
      const count = steps > 12 ? 9 : steps; // a few of many, but none left out between few
      for (let index = 0; index < count; index++) {
        const step = count < 2 ? 1 : Math.round(1 + (index * (steps - 1)) / (count - 1));
        swatches.push(element("span", { className: `k${level((step - 1) / Math.max(steps - 1, 1))}` }, String(step)));
      }
    } else {
      for (const share of [0, 0.25, 0.5, 0.75, 1]) swatches.push(element("span", { className: `k${level(share)}` }, `${100 * share} %`));
    }
    const mark = (classes, text, says) => element("span", { className: "mark" }, element("span", { className: `cell ${classes}` }, text), says);
    const marks = [];
    if (view.mode === MODES.steps) marks.push(mark("running", "…", "still in the loop"));
    else marks.push(mark("blank left", "", "has left the loop"));
    if (view.panes.some((map) => map.targets)) marks.push(mark("blank wrong", "✗", "wrong answer"));
    byId("legend").replaceChildren(
      element("span", { className: "scale" }, view.mode.says, element("span", { style: "padding: 0; display: inline-flex" }, ...swatches)),
      ...marks,
    );
  }
}
