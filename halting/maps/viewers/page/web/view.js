// The map on the screen: sequences, panes side by side, the token that is looked at, and moving between tokens.

const NARROWEST = 3; // characters a cell
const WIDEST = 9;

/** The width in characters of most texts, wide characters counted twice. */
function usualLength(texts) {
  const length = (text) => [...text].reduce((sum, character) => sum + (character.codePointAt(0) > 0x10ff ? 2 : 1), 0);
  const sorted = Uint16Array.from(texts, length).sort();
  return sorted.length ? sorted[Math.floor(0.97 * (sorted.length - 1))] : 0;
}

class View {
  constructor(place, onToken) {
    this.place = place;
    this.onToken = onToken; // called where another token is looked at
    this.mode = MODES.steps;
    this.near = new Set(); // the strips near the window, and those that have rows in the document
    this.observer = new IntersectionObserver((entries) => this.comeNear(entries), { rootMargin: "400px 0px" });
    let scrolled = false;
    window.addEventListener("scroll", () => {
      if (!scrolled) requestAnimationFrame(() => ((scrolled = false), this.mount()));
      scrolled = true;
    });
    new ResizeObserver(() => this.layOut()).observe(place);
    place.addEventListener("pointerover", (event) => this.hover(event));
    place.addEventListener("click", (event) => this.click(event));
    place.addEventListener("focusin", (event) => this.focused(event));
    place.addEventListener("focusout", (event) => event.target.removeAttribute("aria-label"));
    place.addEventListener("keydown", (event) => this.key(event));
  }

  load(data) {
    this.data = data;
    this.frame = data.frames.length - 1;
    this.step = data.steps;
    this.matches = null;
    this.at = null;
    this.pinned = false;
    this.observer.disconnect();
    this.near.clear();
    const count = data.panes(this.frame).length;
    this.place.style.setProperty("--panes", count);
    this.sections = Array.from({ length: data.sequences }, (_, sequence) => this.section(sequence, count));
    this.strips = this.sections.map((section) => section.strips);
    this.place.replaceChildren(...this.sections.map((section) => section.element));
    const longest = Math.max(usualLength(data.texts), usualLength(data.about.answers.map((answer) => `✗${answer}`)));
    this.characters = Math.min(Math.max(longest, NARROWEST), WIDEST);
    this.columns = 0;
    this.layOut();
    for (const strip of this.strips.flat()) this.observer.observe(strip.element);
  }

  /** The maps that are shown side by side. */
  get panes() {
    return this.data.panes(this.frame);
  }

  section(sequence, count) {
    const strips = Array.from({ length: count }, (_, pane) => new Strip(this, pane, sequence));
    const sums = strips.map(() => element("small"));
    const heading = element("h2", { id: `sequence-${sequence + 1}` }, `sequence ${sequence + 1} `);
    if (count === 1) heading.append(sums[0]);
    const caption = (pane) => element("p", { className: "caption" }, element("b", {}, this.panes[pane].label), " ", sums[pane]);
    const panes = strips.map((strip, pane) =>
      element("div", { className: "pane" }, ...(count > 1 ? [caption(pane)] : []), strip.element),
    );
    const made = { element: element("section", { className: "sequence", "aria-labelledby": heading.id }), strips, sums };
    made.element.append(heading, element("div", { className: "panes" }, ...panes));
    this.sum(made, sequence);
    return made;
  }

  /** Writes mean steps and wrong answers of a sequence. */
  sum({ sums }, sequence) {
    const [start, end] = [this.data.starts[sequence], this.data.starts[sequence + 1]];
    sums.forEach((place, pane) => {
      const map = this.panes[pane];
      let [steps, wrong] = [0, 0];
      for (let token = start; token < end; token++) {
        steps += map.took[token];
        wrong += map.wrong(token);
      }
      const mean = end > start ? `${(steps / (end - start)).toFixed(2)} steps a token` : "";
      place.textContent = mean + (wrong ? `, ${wrong} wrong` : "");
    });
  }

  /** Fits the cells to the width of the page. */
  layOut() {
    const first = this.strips?.flat().find((strip) => strip.element.clientWidth);
    if (!first) return;
    const probe = element("span", { style: "font: 14px var(--mono); position: absolute" }, "0".repeat(10));
    this.place.append(probe);
    const width = Math.ceil((probe.getBoundingClientRect().width / 10) * this.characters) + 8;
    const gutter = 36;
    probe.remove();
    const columns = Math.max(Math.floor((first.element.clientWidth - gutter + 2) / (width + 2)), 1);
    if (columns === this.columns) return this.mount();
    this.columns = columns;
    this.place.style.setProperty("--cell", `${width}px`);
    const held = this.place.contains(document.activeElement) ? document.activeElement : null;
    for (const strip of this.strips.flat()) strip.layOut(columns);
    this.mount();
    if (held?.token !== undefined) this.go(held.token, held.pane);
  }

  comeNear(entries) {
    for (const { target, isIntersecting } of entries) {
      target.strip.isNear = isIntersecting;
      this.near.add(target.strip);
    }
    this.mount();
  }

  mount() {
    for (const strip of this.near) {
      strip.mount();
      if (!strip.isNear && !strip.rows.size) this.near.delete(strip); // a focused row stays, however far
    }
    this.keepTabStop();
  }

  /** One cell is reached by Tab: the one looked at, or the first that is drawn. */
  keepTabStop() {
    const held = this.stop?.isConnected && this.stop.token === this.at;
    const wanted = held ? this.stop : (this.cell(this.at, this.stop?.pane ?? 0) ?? this.place.querySelector(".cell"));
    if (wanted === this.stop) return;
    if (this.stop) this.stop.tabIndex = -1;
    if (wanted) wanted.tabIndex = 0;
    this.stop = wanted;
  }

  strip(token, pane) {
    return this.strips[this.data.sequenceOf(token)][Math.min(pane, this.panes.length - 1)];
  }

  cell(token, pane) {
    return token === null || token >= this.data.tokens ? null : this.strip(token, pane).cell(token);
  }

  repaint() {
    for (const strip of this.near) strip.repaint();
    const held = document.activeElement;
    if (held.token !== undefined) held.setAttribute("aria-label", this.spoken(held.token, held.pane));
    this.onToken(this.at, this.pinned);
  }

  setFrame(frame) {
    this.frame = frame;
    this.sections.forEach((section, sequence) => this.sum(section, sequence));
  }

  /** Shows the tokens that match (null: all), and hides sequences without any; how many tokens and sequences remain. */
  filter(matches) {
    this.matches = matches;
    this.matching = [];
    let sequences = 0;
    this.sections.forEach((section, sequence) => {
      const before = this.matching.length;
      for (let token = this.data.starts[sequence]; matches && token < this.data.starts[sequence + 1]; token++) {
        if (matches(token)) this.matching.push(token);
      }
      section.element.hidden = matches !== null && this.matching.length === before;
      sequences += !section.element.hidden;
    });
    this.layOut();
    this.mount();
    return { tokens: this.matching.length, sequences };
  }

  // Looking at a token

  look(token) {
    if (token === this.at) return;
    const before = this.at;
    this.at = token;
    for (const each of [before, token]) {
      for (let pane = 0; pane < this.panes.length; pane++) {
        const cell = this.cell(each, pane);
        if (cell) this.strip(each, pane).paint(cell);
      }
    }
    this.keepTabStop();
    this.onToken(token, this.pinned);
  }

  hover(event) {
    const cell = event.target.closest(".cell");
    const [x, y] = this.pointer ?? [];
    this.pointer = [event.screenX, event.screenY];
    if (x === event.screenX && y === event.screenY) return; // the page was scrolled under a pointer that rests
    if (cell && !this.pinned && event.pointerType !== "touch") this.look(cell.token);
  }

  click(event) {
    const cell = event.target.closest(".cell");
    if (!cell) return;
    this.pinned = !(this.pinned && this.at === cell.token);
    this.stop = (this.stop && (this.stop.tabIndex = -1), cell);
    cell.tabIndex = 0;
    this.look(cell.token);
    this.onToken(this.at, this.pinned);
  }

  focused(event) {
    const cell = event.target.closest(".cell");
    if (!cell) return;
    this.look(cell.token);
    cell.setAttribute("aria-label", this.spoken(cell.token, cell.pane));
  }

  release() {
    this.pinned = false;
    this.onToken(this.at, false);
  }

  /** What a screen reader says of a token. */
  spoken(token, pane) {
    const map = this.panes[pane];
    const { text } = this.mode.cell(this.data, map, token, this.step);
    const took = `${map.took[token]} of ${map.steps} steps`;
    const now = this.mode === MODES.steps ? "" : `, ${this.mode.name} at step ${this.step}: ${text || "none"}`;
    const place = token - this.data.starts[this.data.sequenceOf(token)];
    return `token ${place}, ${this.data.texts[token]}, ${took}${now}${map.wrong(token) ? ", wrong answer" : ""}`;
  }

  // Moving

  /** Brings a token into sight and focuses it. */
  go(token, pane = this.stop?.pane ?? 0) {
    if (token === null || token === undefined) return;
    const strip = this.strip(token, pane);
    const bar = byId("controls");
    const covered = getComputedStyle(bar).position === "sticky" ? bar.offsetHeight : 0;
    const sheet = byId("details");
    const below = getComputedStyle(sheet).position === "fixed" ? sheet.offsetHeight : 0;
    const top = strip.top(token);
    const [lowest, highest] = [top - covered - 40, top + ROW_HEIGHT + below + 12 - window.innerHeight];
    if (window.scrollY > lowest) window.scrollTo(0, lowest);
    else if (window.scrollY < highest) window.scrollTo(0, highest);
    this.near.add(strip);
    this.mount();
    strip.mount();
    strip.cell(token)?.focus({ preventScroll: true });
    this.keepTabStop();
  }

  /** The next match after a token (before it: direction −1), round and round. */
  match(direction) {
    if (!this.matches || !this.matching.length) return;
    const { matching } = this;
    const after = matching.findIndex((token) => token > (this.at ?? -1));
    const next = after < 0 ? 0 : after;
    const before = matching.findLastIndex((token) => token < (this.at ?? Infinity));
    this.go(matching[direction > 0 ? next : before < 0 ? matching.length - 1 : before]);
  }

  key(event) {
    const cell = event.target.closest(".cell");
    if (!cell || event.ctrlKey || event.metaKey || event.altKey) return;
    const to = this.destination(event.key, cell.token);
    if (to !== undefined) this.go(to, cell.pane);
    else if (event.key === "o") this.go(cell.token, (cell.pane + 1) % this.panes.length);
    else if (event.key === "n" || event.key === "p") this.match(event.key === "n" ? 1 : -1);
    else if (event.key === "Enter" || event.key === " ") cell.click();
    else if (event.key === "Escape") this.release();
    else return;
    event.preventDefault();
  }

  /** Where a key leads from a token; undefined for another key, null for the end of the road. */
  destination(key, token) {
    const sequence = this.data.sequenceOf(token);
    const [start, end] = [this.data.starts[sequence], this.data.starts[sequence + 1]];
    const shown = (wanted) => (this.sections[this.data.sequenceOf(wanted)].element.hidden ? null : wanted);
    const column = (token - start) % this.columns;
    switch (key) {
      case "ArrowRight":
        return token + 1 < end ? token + 1 : this.beside(sequence, 1, () => 0);
      case "ArrowLeft":
        return token > start ? token - 1 : this.beside(sequence, -1, (length) => length - 1);
      case "ArrowDown":
        if (token + this.columns < end) return token + this.columns;
        if (token - column + this.columns < end) return end - 1; // the last row is short
        return this.beside(sequence, 1, (length) => Math.min(column, length - 1));
      case "ArrowUp":
        if (token - this.columns >= start) return token - this.columns;
        return this.beside(sequence, -1, (length) => {
          const last = Math.floor((length - 1) / this.columns) * this.columns;
          return Math.min(last + column, length - 1);
        });
      case "Home":
        return shown(start);
      case "End":
        return shown(end - 1);
      default:
        return undefined;
    }
  }

  /** A token of the next sequence that is shown and has any; null where there is none. */
  beside(sequence, direction, place) {
    for (let next = sequence + direction; next >= 0 && next < this.data.sequences; next += direction) {
      const length = this.data.starts[next + 1] - this.data.starts[next];
      if (length && !this.sections[next].element.hidden) return this.data.starts[next] + place(length);
    }
    return null;
  }
}
