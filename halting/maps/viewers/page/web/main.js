// Reads the data that the page holds, and shows it.

const view = new View(byId("sequences"), (token, pinned) => details.show(token, pinned));
const details = new Details(byId("details"), view);
const controls = new Controls(view);

/** Shows a page's data: what the file holds, or what a server answered. */
async function show({ about, arrays }) {
  const data = await PageData.read(about, arrays);
  view.load(data);
  controls.load(data);
}

const embeddedData = { about: JSON.parse(byId("about").textContent), arrays: byId("arrays").textContent };
const shown = show(embeddedData);
shown.catch((error) => {
  byId("failure").textContent = `The map cannot be drawn: ${error.message}. A browser of 2024 or later is needed.`;
  byId("failure").hidden = false;
  throw error;
});
if (document.body.dataset.live === "yes") shown.then(() => new Live(embeddedData));
