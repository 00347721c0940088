/* The explorer: a training set as a mosaic coloured by counterfactual distance, and
   beside it a sample, its counterfactual without the image one points at, and that image.

   Everything is loaded by script and image elements, which work from a disk as from a
   server: FOLDER/data.js lists the ensembles of a folder, FOLDER/ENSEMBLE/training.png
   and samples.png are mosaics, and every sample has a script with its distances and its
   two orders of the sources, and a mosaic of its counterfactuals, loaded when it is chosen. */
"use strict";

(() => {
  const root = document.getElementById("abc-explorer");
  if (!root) return;

  const UNITS = "Euclidean distance, images scaled to 3x256x256";
  const ORDERS = {
    training: "training order",
    counterfactual: "counterfactual rank, farthest first",
    visual: "visual rank, most alike first",
  };

  // --- small helpers ---

  /** An element with properties, data and ARIA attributes, and children. */
  function make(tag, properties = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name.includes("-") || name === "role" || name === "for") element.setAttribute(name, value);
      else element[name] = value;
    }
    element.append(...children);
    return element;
  }

  /** Shows tile number `tile` of a mosaic, at whatever size the element has. */
  function showTile(element, mosaic, tile) {
    const [columns, rows] = mosaic.grid;
    const share = (position, count) => (count > 1 ? (100 * position) / (count - 1) : 0);
    element.style.backgroundImage = `url("${mosaic.url}")`;
    element.style.backgroundSize = `${100 * columns}% ${100 * rows}%`;
    element.style.backgroundPosition =
      `${share(tile % columns, columns)}% ${share(Math.floor(tile / columns), rows)}%`;
  }

  /** The colour at `share` (0 to 1) of the scale, between its two nearest stops. */
  function colourAt(colours, share) {
    const place = Math.min(Math.max(share, 0), 1) * (colours.length - 1);
    const low = Math.min(Math.floor(place), colours.length - 2);
    const channels = [1, 3, 5].map((start) => {
      const [a, b] = [low, low + 1].map((i) => parseInt(colours[i].slice(start, start + 2), 16));
      return Math.round(a + (b - a) * (place - low));
    });
    return `rgb(${channels.join(", ")})`;
  }

  /** ranks[source] from 1 on, of an order of the sources. */
  function ranksOf(order) {
    const ranks = [];
    order.forEach((source, position) => { ranks[source] = position + 1; });
    return ranks;
  }

  // --- loading ---

  // A data script calls this function; the value stays on its script element until it is picked up.
  window.abcExplorer = (value) => { document.currentScript.value = value; };

  const loading = new Map();

  /** Loads an address once; what failed is tried again the next time. */
  function once(url, load) {
    if (!loading.has(url)) {
      loading.set(url, new Promise(load).catch((error) => { loading.delete(url); throw error; }));
    }
    return loading.get(url);
  }

  const failed = (url) => new Error(`${url} could not be loaded`);

  const loadData = (url) => once(url, (resolve, reject) => {
    const element = make("script", { src: url });
    element.onload = () => {
      element.remove();
      if (element.value === undefined) reject(failed(url)); else resolve(element.value);
    };
    element.onerror = () => { element.remove(); reject(failed(url)); };
    document.head.append(element);
  });

  const loadImage = (url) => once(url, (resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(url);
    image.onerror = () => reject(failed(url));
    image.src = url;
  });

  // --- what is shown ---

  const state = {
    ensembles: [], ensemble: null, row: 0, data: null, ranks: null,
    order: "training", current: null, pinned: null, tiles: [], turn: 0,
  };

  // --- the page's elements ---

  const ensembleChoice = make("select", { id: "abc-ensemble" });
  const orderChoice = make("select", { id: "abc-order" },
    ...Object.entries(ORDERS).map(([value, text]) => make("option", { value, textContent: text })));
  const sampleChoice = make("fieldset", { className: "abc-samples" });
  const mosaic = make("div", { className: "abc-mosaic", role: "listbox" });
  const line = make("p", { className: "abc-line", role: "status", "aria-live": "polite" });
  const origin = make("p", { className: "abc-origin" });
  const bar = make("div", { className: "abc-bar", "aria-hidden": "true" });
  const ticks = make("div", { className: "abc-ticks" });
  const legend = make("figure", { className: "abc-legend" }, bar, ticks,
    make("figcaption", { textContent: `Frame: distance of the counterfactual without the image from the sample (${UNITS})` }));

  /** An image with a caption, for the panel. */
  function picture(name) {
    const image = make("div", { className: "abc-image", role: "img" });
    const caption = make("figcaption");
    return { image, caption, figure: make("figure", { className: `abc-picture abc-${name}` }, image, caption) };
  }
  const pictures = { factual: picture("factual"), without: picture("without"), training: picture("training") };

  function setPicture(name, url, grid, tile, text) {
    const { image, caption } = pictures[name];
    showTile(image, { url, grid }, tile);
    image.setAttribute("aria-label", text);
    caption.textContent = text;
  }

  const control = (text, element) => make("label", { for: element.id }, text, element);

  function build() {
    root.replaceChildren(
      make("div", { className: "abc-controls" }, control("Data set ", ensembleChoice), control("Sort by ", orderChoice)),
      sampleChoice,
      make("div", { className: "abc-columns" },
        make("section", { className: "abc-panel", "aria-label": "Sample and counterfactual" },
          make("div", { className: "abc-pictures" }, ...Object.values(pictures).map((each) => each.figure)), line),
        make("section", { className: "abc-set", "aria-label": "Training set" }, legend, mosaic,
          make("p", { className: "abc-hint", textContent:
            "Point at a training image to see the sample without it; a click or tap pins it. " +
            "Keyboard: arrows, Home and End move, Enter or space pins, Escape lets go." }))),
      origin);
    ensembleChoice.replaceChildren(...state.ensembles.map((each, i) =>
      make("option", { value: String(i), textContent: `${each.name} (${each.sources} images, ${each.scale} scale)` })));
  }

  // --- choosing ---

  const file = (name) => `${state.ensemble.base}/${state.ensemble.folder}/${name}`;

  function chooseEnsemble(number) {
    const each = state.ensembles[number];
    Object.assign(state, { ensemble: each, pinned: null, current: null, data: null });
    ensembleChoice.value = String(number);
    origin.textContent = each.origin;
    sampleChoice.replaceChildren(make("legend", { textContent: "Sample" }), ...each.samples.map((index, row) => {
      const image = make("span", { className: "abc-image" });
      showTile(image, { url: file("samples.png"), grid: each.sample_grid }, row);
      const radio = make("input", { type: "radio", name: "abc-sample", value: String(row), "aria-label":
        `sample ${index}, counterfactual radius ${each.radii[row].toFixed(2)}` });
      return make("label", {}, radio, image);
    }));
    mosaic.setAttribute("aria-label", `Training set of ${each.name}, ${each.sources} images`);
    // a whole multiple of the images' pixels; fewer tiles can be larger
    const [image, frame] = each.sources <= 100 ? [32, 8] : [24, 6];
    mosaic.style.setProperty("--image", `${Math.max(image, each.side)}px`);
    mosaic.style.setProperty("--frame", `${frame}px`);
    state.tiles = each.labels.map((label, source) => {
      const image = make("span", { className: "abc-image" });
      showTile(image, { url: file("training.png"), grid: each.grid }, source);
      return make("div", { className: "abc-tile", role: "option", tabIndex: -1, "data-source": source, "aria-selected": "false" }, image);
    });
    mosaic.replaceChildren(...state.tiles);
    chooseSample(0);
  }

  async function chooseSample(row) {
    const turn = ++state.turn;
    state.row = row;
    sampleChoice.querySelectorAll("input").forEach((radio, i) => { radio.checked = i === row; });
    mosaic.setAttribute("aria-busy", "true");
    const stem = String(state.ensemble.samples[row]).padStart(4, "0");
    try {
      const [data] = await Promise.all([loadData(file(`${stem}.js`)), loadImage(file(`${stem}.png`))]);
      // a choice made while this one was loading has gone ahead of it
      if (turn !== state.turn) return;
      Object.assign(state, { data, ranks: { counterfactual: ranksOf(data.counterfactual), visual: ranksOf(data.visual) } });
      colour();
      sort();
      setPinned(state.pinned);
      show(state.pinned ?? state.current ?? data.counterfactual[0]);
      mosaic.setAttribute("aria-busy", "false");
    } catch (error) {
      if (turn === state.turn) line.textContent = `${error.message}; build the explorer again with python -m abc_lib explorer.`;
    }
  }

  function colour() {
    const { colours, labels } = state.ensemble;
    const { distances, counterfactual } = state.data;
    const farthest = distances[counterfactual[0]];
    state.tiles.forEach((tile, source) => {
      tile.style.setProperty("--colour", colourAt(colours, farthest > 0 ? distances[source] / farthest : 0));
      tile.setAttribute("aria-label", `source ${source}, label ${labels[source]}, distance ${distances[source].toFixed(2)}`);
    });
    bar.style.backgroundImage = `linear-gradient(to right, ${colours.join(", ")})`;
    ticks.replaceChildren(...[0, 1 / 2, 1].map((share) => make("span", { textContent: (share * farthest).toFixed(2) })));
  }

  function sort() {
    const order = state.order === "training" ? state.tiles.keys() : state.data[state.order];
    mosaic.append(...Array.from(order, (source) => state.tiles[source]));
  }

  // --- one source ---

  /** Shows the counterfactual without a source; a pinned one stays until it is let go. */
  function show(source) {
    if (!state.data) return;
    const { labels, samples, sources, grid, sample_grid } = state.ensemble;
    state.current = source;
    state.tiles.forEach((tile, i) => tile.classList.toggle("abc-current", i === source));
    if (!mosaic.contains(document.activeElement)) setTabStop(source);
    const index = samples[state.row];
    const stem = String(index).padStart(4, "0");
    setPicture("factual", file("samples.png"), sample_grid, state.row, `Sample ${index}`);
    setPicture("without", file(`${stem}.png`), grid, source, `Without source ${source}`);
    setPicture("training", file("training.png"), grid, source, `Source ${source}`);
    const { counterfactual, visual } = state.ranks;
    line.textContent =
      `Source ${source}, label ${labels[source]}: without it the sample moves by ${state.data.distances[source].toFixed(2)}. ` +
      `Counterfactual rank ${counterfactual[source]} of ${sources} (1 is farthest), ` +
      `visual rank ${visual[source]} of ${sources} (1 is most alike).${besidePlacebos(source)}` +
      (state.pinned === source ? " Pinned." : "");
  }

  /** How many placebos, for which as many members go and no source, move the sample as far. */
  function besidePlacebos(source) {
    const { distances, placebos } = state.data;
    if (!placebos) return "";
    const far = placebos.filter((placebo) => placebo >= distances[source]).length;
    return ` Chance: ${far} of ${placebos.length} placebos, in which as many members go and no source, move it as far.`;
  }

  function setPinned(source) {
    state.pinned = source;
    state.tiles.forEach((tile, i) => tile.setAttribute("aria-selected", String(i === source)));
  }

  /** The pointer or the focus came to a source. */
  function point(source) {
    if (state.pinned === null && source !== state.current) show(source);
  }

  function togglePin(source) {
    setPinned(state.pinned === source ? null : source);
    show(source);
  }

  /** Lets go of the pinned source; the one that has the focus is shown again. */
  function unpin() {
    if (state.pinned === null) return;
    const focused = sourceAt(document.activeElement);
    const pinned = state.pinned;
    setPinned(null);
    show(focused ?? pinned);
  }

  function sourceAt(element) {
    const tile = element && element.closest ? element.closest(".abc-tile") : null;
    return tile ? Number(tile.dataset.source) : null;
  }

  /** The one tile that the tab key comes to; arrows reach the others. */
  function setTabStop(source) {
    state.tiles.forEach((tile, i) => { tile.tabIndex = i === source ? 0 : -1; });
  }

  /** Where a key leads from position `at`, in the order on the page; null for other keys. */
  function destination(key, at, tiles) {
    const columns = tiles.filter((tile) => tile.offsetTop === tiles[0].offsetTop).length;
    const last = tiles.length - 1;
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - columns, ArrowDown: at + columns, Home: 0, End: last }[key];
    if (to === undefined) return null;
    return to < 0 || to > last ? at : to;
  }

  function onKey(event) {
    const source = sourceAt(event.target);
    if (source === null || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === "Enter" || event.key === " ") {
      togglePin(source);
    } else {
      const tiles = [...mosaic.children];
      const to = destination(event.key, tiles.indexOf(state.tiles[source]), tiles);
      if (to === null) return;
      tiles[to].focus();
    }
    // the page must not scroll, nor the book turn its page
    event.preventDefault();
    event.stopPropagation();
  }

  // --- events ---

  function listen() {
    mosaic.addEventListener("pointerover", (event) => {
      const source = sourceAt(event.target);
      if (source !== null) point(source);
    });
    mosaic.addEventListener("focusin", (event) => {
      const source = sourceAt(event.target);
      if (source !== null) { setTabStop(source); point(source); }
    });
    mosaic.addEventListener("click", (event) => {
      const source = sourceAt(event.target);
      if (source !== null && state.data) togglePin(source);
    });
    mosaic.addEventListener("keydown", onKey);
    document.addEventListener("keydown", (event) => { if (event.key === "Escape") unpin(); });
    ensembleChoice.addEventListener("change", () => chooseEnsemble(Number(ensembleChoice.value)));
    orderChoice.addEventListener("change", () => { state.order = orderChoice.value; if (state.data) sort(); });
    sampleChoice.addEventListener("change", (event) => chooseSample(Number(event.target.value)));
  }

  // --- start ---

  async function start() {
    const folders = (root.dataset.folders || ".").split(/\s+/).filter(Boolean);
    const found = await Promise.allSettled(folders.map((folder) => loadData(`${folder}/data.js`)));
    found.forEach(({ status, value }, i) => {
      // the folder of this machine's own ensembles is often not there
      if (status === "fulfilled" && value.format === 1) {
        state.ensembles.push(...value.ensembles.map((each) => ({ ...each, base: folders[i], colours: value.colours })));
      }
    });
    if (!state.ensembles.length) {
      root.textContent = "No data were found beside this page; build them with python -m abc_lib explorer.";
      return;
    }
    build();
    listen();
    chooseEnsemble(0);
  }

  start();
})();
