// One sequence of one run as a grid of cells, of which only the rows near the window are in the document.

const ROW_HEIGHT = 44;
const MARGIN = 200; // pixels above and below the window that are drawn too

class Strip {
  constructor(view, pane, sequence) {
    this.view = view;
    this.pane = pane;
    this.start = view.data.starts[sequence];
    this.end = view.data.starts[sequence + 1];
    this.rows = new Map(); // number of the row → its element
    this.element = element("div", { className: "strip", tabIndex: -1 });
    this.element.strip = this;
    if (this.start === this.end) this.element.append(element("p", { className: "nothing" }, "(no tokens)"));
  }

  get map() {
    return this.view.panes[this.pane];
  }

  /** Takes its height for so many cells a row. */
  layOut(columns) {
    this.columns = columns;
    this.numRows = Math.ceil((this.end - this.start) / columns);
    this.element.style.height = this.numRows ? `${this.numRows * ROW_HEIGHT}px` : "";
    for (const row of this.rows.values()) row.remove();
    this.rows.clear();
    this.element.removeAttribute("role");
  }

  /** Puts the rows near the window into the document and takes the others out. */
  mount() {
    if (!this.numRows) return;
    const top = this.element.getBoundingClientRect().top;
    const first = Math.max(Math.floor((-top - MARGIN) / ROW_HEIGHT), 0);
    const last = Math.min(Math.floor((window.innerHeight - top + MARGIN) / ROW_HEIGHT), this.numRows - 1);
    for (const [number, row] of this.rows) {
      if ((number < first || number > last) && !row.contains(document.activeElement)) {
        row.remove();
        this.rows.delete(number);
      }
    }
    for (let number = first; number <= last; number++) {
      if (!this.rows.has(number)) this.addRow(number);
    }
    if (this.rows.size) {
      this.element.setAttribute("role", "grid");
      this.element.setAttribute("aria-rowcount", this.numRows);
      this.element.setAttribute("aria-label", `${this.map.label}, sequence ${this.view.data.sequenceOf(this.start) + 1}`);
    } else {
      this.element.removeAttribute("role");
      this.element.removeAttribute("aria-label");
      this.element.removeAttribute("aria-rowcount");
    }
  }

  addRow(number) {
    const from = this.start + number * this.columns;
    const to = Math.min(from + this.columns, this.end);
    const place = element("div", { className: "place", role: "rowheader" }, String(from - this.start));
    const row = element("div", { className: "row", role: "row", "aria-rowindex": number + 1 }, place);
    row.style.top = `${number * ROW_HEIGHT}px`;
    for (let token = from; token < to; token++) {
      const cell = element(
        "div",
        { className: "cell", role: "gridcell", tabIndex: -1 },
        element("bdi", {}, this.view.data.texts[token]),
        element("span", { dir: "auto" }, " "),
      );
      cell.token = token;
      cell.pane = this.pane;
      this.paint(cell);
      row.append(cell);
    }
    this.rows.set(number, row);
    this.element.append(row);
  }

  /** Paints what is in the document again. */
  repaint() {
    for (const row of this.rows.values()) {
      for (let cell = row.firstChild.nextSibling; cell; cell = cell.nextSibling) this.paint(cell);
    }
  }

  /** Colour, number and marks of one cell; touches the document only where something is new. */
  paint(cell) {
    const { view, map } = this;
    const { colour, text, wrong, left } = view.mode.cell(view.data, map, cell.token, view.step);
    const off = view.matches && !view.matches(cell.token) ? " off" : "";
    const at = view.at === cell.token ? " at" : "";
    const classes = `cell ${colour}${wrong ? " wrong" : ""}${left ? " left" : ""}${off}${at}`;
    const shown = wrong ? `✗${text}` : text;
    if (cell.classes !== classes) cell.className = cell.classes = classes;
    if (cell.shown !== shown) cell.lastChild.firstChild.data = cell.shown = shown;
  }

  /** The cell of a token, if it is in the document. */
  cell(token) {
    const place = token - this.start;
    return this.rows.get(Math.floor(place / this.columns))?.children[(place % this.columns) + 1];
  }

  /** Where a token's row stands on the page, in pixels from its top. */
  top(token) {
    const row = Math.floor((token - this.start) / this.columns);
    return this.element.getBoundingClientRect().top + window.scrollY + row * ROW_HEIGHT;
  }
}
