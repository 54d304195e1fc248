// The numbers of the page: what `halting/viewers/page_data.py` wrote, read back.

const ARRAY_TYPES = { uint16: Uint16Array, uint32: Uint32Array, float32: Float32Array };
const PROBABILITY_UNITS = 65534;

/** The bytes of deflated, base64-coded arrays. */
async function inflate(base64) {
  const bytes = Uint8Array.fromBase64
    ? Uint8Array.fromBase64(base64)
    : Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

/** What one run did with the examples. A token is counted through all sequences; a step from 1. */
class RecordedMap {
  constructor(about, number, array) {
    Object.assign(this, about); // label, update, facts, steps (N)
    this.took = array(`${number}.steps`);
    this.ponder = array(`${number}.ponder`);
    this.kept = array(`${number}.kept`);
    this.final = array(`${number}.final`);
    this.predictions = array(`${number}.predictions`);
    this.targets = array("targets");
    if (this.targets && !this.targets.some(Boolean)) this.targets = null; // nothing is asked anywhere
    this.arrays = {
      mass: array(`${number}.mass`),
      confidence: array(`${number}.confidence`),
      target_probability: array(`${number}.target_probability`),
    };
    this.scores = array(`${number}.score`);
    this.starts = new Uint32Array(this.kept.length + 1);
    for (let token = 0; token < this.kept.length; token++) this.starts[token + 1] = this.starts[token] + this.kept[token];
  }

  /** The place of a token's step in the arrays, or of its last one where it has left before; -1 where none was kept. */
  place(token, step) {
    const kept = this.kept[token];
    return kept ? this.starts[token] + Math.min(step, kept) - 1 : -1;
  }

  /** Mass, confidence or target_probability; NaN where it is not known. */
  share(name, token, step) {
    const array = this.arrays[name];
    const place = this.place(token, step);
    const units = array && place >= 0 ? array[place] : PROBABILITY_UNITS + 1;
    return units > PROBABILITY_UNITS ? NaN : units / PROBABILITY_UNITS;
  }

  /** The mass spent at exactly this step. */
  mass(token, step) {
    return step > this.kept[token] ? 0 : this.share("mass", token, step);
  }

  score(token, step) {
    return step > this.kept[token] ? NaN : this.scores[this.place(token, step)];
  }

  /** The place in the list of answers of what it would have said; 0 where nothing was read. */
  prediction(token, step) {
    const place = this.place(token, step);
    return this.predictions && place >= 0 ? this.predictions[place] : 0;
  }

  /** Whether something is asked of a token. */
  asked(token) {
    return Boolean(this.targets && this.targets[token]);
  }

  wrong(token) {
    return Boolean(this.asked(token) && this.final && this.final[token] !== this.targets[token]);
  }
}

/** All that a page holds: the examples, and the maps of them: the first, the others, and those of its growth. */
class PageData {
  static async read(about, base64) {
    return new PageData(about, await inflate(base64));
  }

  constructor(about, buffer) {
    this.about = about;
    const array = (name) => {
      if (!(name in about.arrays)) return null;
      const [type, offset, length] = about.arrays[name];
      return new ARRAY_TYPES[type](buffer, offset, length);
    };
    this.difficulty = array("difficulty");
    const maps = about.maps.map((each, number) => new RecordedMap(each, number, array));
    this.others = maps.slice(1, 1 + about.others);
    this.frames = [...maps.slice(1 + about.others), maps[0]];
    this.steps = Math.max(1, ...maps.map((map) => map.steps));
    this.starts = [0];
    for (const texts of about.texts) this.starts.push(this.starts.at(-1) + texts.length);
    this.tokens = this.starts.at(-1);
    this.texts = about.texts.flat();
  }

  get sequences() {
    return this.about.texts.length;
  }

  /** The maps that stand side by side when a frame of the growth is shown. */
  panes(frame) {
    return [this.frames[frame], ...this.others];
  }

  answer(place) {
    return this.about.answers[place];
  }

  /** The sequence that a token belongs to. */
  sequenceOf(token) {
    let [low, high] = [0, this.sequences - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.starts[middle] <= token) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}
