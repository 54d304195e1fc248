// The box of `ponder serve`: what is typed goes to the server, and its map is drawn.

const QUIET = 250; // milliseconds after the last key

class Live {
  constructor(own) {
    this.own = own; // what the page came with, shown where the box is empty
    this.box = byId("text");
    byId("ask").hidden = false;
    byId("ask").addEventListener("submit", (event) => event.preventDefault());
    this.box.addEventListener("input", () => this.later(QUIET));
    if (this.box.value) this.later(0);
  }

  later(milliseconds) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(), milliseconds);
  }

  async ask() {
    this.asking?.abort();
    this.asking = new AbortController();
    const { signal } = this.asking;
    const text = this.box.value;
    if (!text) return this.answer("", () => show(this.own));
    byId("answer").textContent = "thinking …";
    try {
      const start = performance.now();
      const response = await fetch("api/page", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ text }),
        signal,
      });
      const values = await response.json();
      if (response.status === 503) {
        byId("answer").textContent = "The model is busy; waiting …";
        return this.later(1000 * (Number(response.headers.get("Retry-After")) || 1));
      }
      if (!response.ok) return this.refused(Object.values(values.error).join(" "));
      const milliseconds = Math.round(performance.now() - start);
      await this.answer(`${values.about.texts[0].length} tokens, ${milliseconds} ms`, () => show(values));
    } catch (error) {
      if (error.name !== "AbortError") this.refused(`The server does not answer (${error.message}).`);
    }
  }

  async answer(says, draw) {
    await draw();
    byId("answer").className = "";
    byId("answer").textContent = says;
  }

  /** Says why, and leaves the last map that could be drawn. */
  refused(why) {
    byId("answer").className = "refused";
    byId("answer").textContent = why;
  }
}
