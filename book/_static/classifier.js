// The classifier in the page: three ways to a picture, the network, and what it says of it.
//
// Network and runtime come from scripts beside this one, loaded when the reader asks for them.
(() => {
  const root = document.querySelector(".clothes-classifier");
  if (!root) return;
  const { enlarged, fromFile, inverted, isLight, padded, paint, pictureOf } = classifierPicture;
  const folder = new URL("classifier/", document.currentScript.src);
  const { classes, mean, std, side, image_size: size } = JSON.parse(
    root.querySelector(".cl-data").textContent,
  );
  const PAUSE = 300; // milliseconds without a change before a drawing is looked at
  const CELL = 10; // pixels of the canvas a cell of the drawing
  const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  const UNREADABLE =
    "is not an image that the browser can read: damaged, too large, or of another kind. " +
    "Try a JPEG, PNG or WebP file.";

  const form = root.querySelector("form");
  const result = root.querySelector(".cl-result");
  const paper = root.querySelector(".cl-paper");
  const part = {};
  for (const element of root.querySelectorAll("[data-cl]")) part[element.dataset.cl] = element;
  const options = [...result.querySelectorAll("[name=cl-class]")];
  const chosen = (name) => form.elements[`cl-${name}`].value;
  const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;
  const say = (text) => { part.status.textContent = text; };

  // --- The network --------------------------------------------------------------------------

  let session = null;
  let last = Promise.resolve(); // the run before: the runtime takes one at a time

  function load(name) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.onload = resolve;
      script.onerror = () => reject(new Error(`the file ${name}.js is missing`));
      script.src = new URL(`${name}.js`, folder);
      document.head.append(script);
    });
  }

  // The bytes of a file that a script has left; base64 of gzip.
  async function take(name) {
    const text = atob(classifierFiles[name]);
    delete classifierFiles[name];
    const bytes = new Uint8Array(text.length);
    for (let index = 0; index < text.length; index++) bytes[index] = text.charCodeAt(index);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  }

  async function open() {
    await Promise.all([load("runtime"), load("model")]);
    const glue = new Blob([await take("glue")], { type: "text/javascript" });
    // One thread and no worker: more would need headers that a plain web host does not send.
    Object.assign(ort.env.wasm, { numThreads: 1, proxy: false });
    ort.env.wasm.wasmBinary = await take("wasm");
    ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(glue) };
    session = await ort.InferenceSession.create(new Uint8Array(await take("model")));
    await run(new Uint8Array(side * side)); // the first run is slower than those that follow
  }

  // {logits, maps, cells, taken, milliseconds} of a picture of side by side pixels.
  async function compute(picture) {
    const taken = padded(picture, side, size);
    const input = Float32Array.from(taken, (level) => (level / 255 - mean[0]) / std[0]);
    const started = performance.now();
    const images = new ort.Tensor("float32", input, [1, 1, size, size]);
    const { logits, maps } = await session.run({ images });
    const milliseconds = performance.now() - started;
    const cells = maps.dims[3];
    return { logits: logits.data, maps: maps.data, cells, taken, milliseconds };
  }

  function run(picture) {
    const next = last.then(() => compute(picture));
    last = next.catch(() => {});
    return next;
  }

  function softmax(logits) {
    const top = Math.max(...logits);
    const powers = Array.from(logits, (logit) => Math.exp(logit - top));
    const total = powers.reduce((sum, power) => sum + power, 0);
    return powers.map((power) => power / total);
  }

  // --- The result ---------------------------------------------------------------------------

  let picture = null; // the last one, side by side pixels
  let found = null; // what the network said of it
  let turn = 0;
  let timer = 0; // of the drawing, which is looked at when the hand rests

  // Classify a picture, and say so of what it is; label is the right answer, where there is one.
  async function classify(next, name, label) {
    const mine = ++turn;
    clearTimeout(timer);
    const answer = await run(next);
    if (mine !== turn) return; // the reader has gone on meanwhile
    [picture, found] = [next, answer];
    const shares = softmax(found.logits);
    const winner = shares.indexOf(Math.max(...shares));
    options.forEach((option, index) => {
      option.checked = index === winner;
      const row = option.parentElement;
      row.querySelector(".cl-percent").textContent = percent(shares[index]);
      row.querySelector(".cl-bar span").style.width = `${100 * shares[index]}%`;
    });
    paint(root.querySelector(".cl-taken"), found.taken, size);
    showHeat();
    result.hidden = false;
    const verdict = label === classes[winner] ? "right" : "wrong";
    const truth = label ? `, and its label is ${label}: ${verdict}` : "";
    say(`${name}: the network says ${classes[winner]}, ${percent(shares[winner])}${truth}.`);
    const time = `${found.milliseconds.toFixed(0)}\u00a0ms`;
    part.time.textContent = `Computed on this machine in ${time}.`;
  }

  // One scale for all classes, so that weak evidence looks weak.
  function showHeat() {
    const index = options.findIndex((option) => option.checked);
    const { maps, cells, taken } = found;
    const largest = Math.max(...maps);
    const map = maps.subarray(index * cells ** 2, (index + 1) * cells ** 2);
    const heat = map.map((value) => (largest > 0 ? Math.max(value, 0) / largest : 0));
    paint(root.querySelector(".cl-heat"), taken, size, enlarged(heat, cells, size));
    const some = heat.some((value) => value > 0);
    const what = some ? "What speaks for" : "Nothing here speaks for";
    part.heat.textContent = `${what} ${classes[index]}`;
  }

  // --- Test images --------------------------------------------------------------------------

  const images = [...form.querySelectorAll("[name=cl-image]")];

  function chooseImage(option) {
    const image = option.parentElement.querySelector("img");
    const source = pictureOf(image, side, side);
    classify(source, `Test image ${option.value}`, option.dataset.label);
  }

  // --- The drawing --------------------------------------------------------------------------

  const drawing = new Uint8Array(side * side);
  const pen = { row: side >> 1, column: side >> 1, down: false };

  function showPaper() {
    const view = paper.getContext("2d");
    for (let row = 0; row < side; row++) {
      for (let column = 0; column < side; column++) {
        const level = drawing[row * side + column];
        view.fillStyle = `rgb(${level} ${level} ${level})`;
        view.fillRect(column * CELL, row * CELL, CELL, CELL);
      }
    }
    if (document.activeElement !== paper) return;
    view.lineWidth = 2;
    for (const [colour, reach] of [["#000", 1], ["#fff", 3], ["#D55E00", pen.down ? 5 : 3]]) {
      view.strokeStyle = colour;
      view.strokeRect(
        pen.column * CELL - reach, pen.row * CELL - reach, CELL + 2 * reach, CELL + 2 * reach,
      );
    }
  }

  function dot() {
    const reach = Number(chosen("width")) >> 1;
    for (let row = pen.row - reach; row <= pen.row + reach; row++) {
      for (let column = pen.column - reach; column <= pen.column + reach; column++) {
        const inside = Math.min(row, column) >= 0 && Math.max(row, column) < side;
        if (inside) drawing[row * side + column] = Number(chosen("ink"));
      }
    }
  }

  function moveTo(row, column) {
    [pen.row, pen.column] = [row, column].map((at) => Math.min(Math.max(at, 0), side - 1));
    if (pen.down) dot();
  }

  // A fast hand skips cells between two events.
  function lineTo(row, column) {
    const [top, left] = [pen.row, pen.column];
    const steps = Math.max(Math.abs(row - top), Math.abs(column - left), 1);
    for (let step = 1; step <= steps; step++) {
      const along = (from, to) => Math.round(from + ((to - from) * step) / steps);
      moveTo(along(top, row), along(left, column));
    }
  }

  function tellPen() {
    const place = `Row ${pen.row + 1}, column ${pen.column + 1} of ${side}`;
    part.pen.textContent = `${place}, pen ${pen.down ? "down" : "up"}.`;
  }

  function drawn() {
    showPaper();
    clearTimeout(timer);
    timer = setTimeout(() => {
      classify(drawing.slice(), "Your drawing");
    }, PAUSE);
  }

  function cellUnder(event) {
    const box = paper.getBoundingClientRect();
    const at = (offset) => Math.floor((offset * side) / box.width);
    return [at(event.clientY - box.top), at(event.clientX - box.left)];
  }

  paper.addEventListener("pointerdown", (event) => {
    paper.setPointerCapture(event.pointerId);
    pen.down = true;
    moveTo(...cellUnder(event));
    drawn();
  });
  paper.addEventListener("pointermove", (event) => {
    if (!event.buttons || !pen.down) return;
    lineTo(...cellUnder(event));
    drawn();
  });
  for (const end of ["pointerup", "pointercancel"]) {
    paper.addEventListener(end, () => {
      pen.down = false;
      tellPen();
      showPaper();
    });
  }
  paper.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const step = STEPS[event.key];
    if (!step && event.key !== " ") return;
    event.preventDefault();
    if (step) moveTo(pen.row + step[0], pen.column + step[1]);
    else pen.down = !pen.down;
    if (pen.down && !step) dot();
    if (pen.down) drawn();
    else showPaper();
    tellPen();
  });
  paper.addEventListener("focus", showPaper);
  paper.addEventListener("blur", () => {
    if (pen.down) {
      pen.down = false;
      tellPen();
    }
    showPaper();
  });
  part.clear.addEventListener("click", () => {
    drawing.fill(0);
    drawn();
  });
  part.copy.addEventListener("click", () => {
    if (picture) drawing.set(picture);
    drawn();
  });

  // --- A file -------------------------------------------------------------------------------

  let read = null; // {picture, name} of the last file, before it is inverted
  const invert = form.elements["cl-invert"];

  function classifyFile() {
    if (!read) return;
    classify(invert.checked ? inverted(read.picture) : read.picture, read.name);
  }

  async function openFile(file) {
    choose("file");
    const mine = ++turn;
    say(`Reading ${file.name} …`);
    let content;
    try {
      content = await fromFile(file, side);
    } catch {
      if (mine === turn) say(`${file.name} ${UNREADABLE}`);
      return;
    }
    if (mine !== turn) return;
    read = { picture: content, name: file.name };
    invert.checked = isLight(content, side);
    part.inverted.textContent = invert.checked
      ? "The border of this picture is light, so it was inverted. Undo that if it is wrong."
      : "The border of this picture is dark, as in the training images, so it was left as it is.";
    classifyFile();
  }

  const imageOf = (transfer) => [...(transfer?.files ?? [])][0];

  root.addEventListener("dragover", (event) => event.preventDefault());
  root.addEventListener("drop", (event) => {
    event.preventDefault();
    const file = imageOf(event.dataTransfer);
    if (file && session) openFile(file);
  });
  document.addEventListener("paste", (event) => {
    const file = imageOf(event.clipboardData);
    if (file && session) openFile(file);
  });

  // --- Controls -----------------------------------------------------------------------------

  function choose(way) {
    form.elements["cl-way"].value = way;
    for (const panel of form.querySelectorAll("[data-way]")) {
      panel.hidden = panel.dataset.way !== way;
    }
    if (way === "drawing") showPaper();
  }

  form.addEventListener("change", ({ target }) => {
    if (target.name === "cl-way") choose(target.value);
    if (target.name === "cl-invert") classifyFile();
    if (target.id === "cl-file" && target.files.length) openFile(target.files[0]);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  // Not on a change: an image that was left for a drawing can be chosen again.
  for (const option of images) option.addEventListener("click", () => chooseImage(option));
  result.addEventListener("change", showHeat);

  part.load.addEventListener("click", async () => {
    if (part.load.getAttribute("aria-disabled") === "true") return;
    part.load.setAttribute("aria-disabled", "true"); // it keeps the focus
    say("Loading the network …");
    try {
      await open();
    } catch (error) {
      part.load.removeAttribute("aria-disabled");
      say(`The network could not be loaded: ${error.message}.`);
      return;
    }
    part.start.hidden = true;
    form.hidden = false;
    form.elements["cl-way"][0].focus();
    say("The network is ready. Choose a picture.");
  });

  root.hidden = false;
  globalThis.classifier = { run, softmax }; // for a reader's console, and the tests
})();
