// The receptive-field explorer: a picture, and what the unit under the pointer sees of it.
//
// Lengths are pixels of the picture. Pixel p covers p to p + 1; the canvas shows the picture with
// a border of MARGIN around it, DENSITY canvas pixels a pixel.
(() => {
  const MARGIN = 64;
  const DENSITY = 2;
  const BLUE = "#0072B2";
  const VERMILION = "#D55E00";
  const QUIET = 300; // milliseconds without a change before a screen reader is told

  const root = document.querySelector(".field-explorer");
  if (!root) return;
  const data = JSON.parse(document.querySelector(".fe-data").textContent);
  const form = root.querySelector("form");
  const canvas = root.querySelector("canvas");
  const pen = canvas.getContext("2d");
  const status = root.querySelector("[role=status]");
  const output = {};
  for (const element of root.querySelectorAll("[data-fe]")) output[element.dataset.fe] = element;

  const chosen = (name) => form.elements[`fe-${name}`].value;
  const clamp = (value, last) => Math.min(Math.max(value, 0), last);
  const united = (value, unit) => `${value}\u00a0${unit}`; // never parted by a line's end
  const times = (side) => `${side}\u00a0×\u00a0${side}`;
  const signed = (value) => String(value).replace("-", "−");
  const number = (value) => value.toFixed(value < 10 ? 1 : 0);

  // Where the reader stays, and where the mouse only looks; null when it looks nowhere.
  let place = null;
  let glance = null;
  let timer = 0;

  const images = new Map();
  for (const picture of data.pictures) {
    const image = new Image();
    image.onload = draw;
    image.src = picture.address;
    images.set(picture.id, image);
  }

  // --- What is chosen ---------------------------------------------------------------------

  function state() {
    const network = chosen("network");
    const version = chosen("version");
    const stage = chosen("stage");
    const picture = data.pictures.find((one) => one.id === chosen("picture"));
    const field = data.fields[network][version][stage];
    const measured = data.measured[network][version];
    const heat = measured ? measured[chosen("time")][stage] : null;
    const at = glance || place || { x: picture.size / 2, y: picture.size / 2 };
    const column = unitAt(at.x, field);
    const row = unitAt(at.y, field);
    const title = data.networks.find((one) => one.id === network).title;
    return { field, heat, measured, picture, stage, row, column, title: `${title} ${version}` };
  }

  // The unit whose middle pixel is the nearest.
  function unitAt(position, field) {
    return clamp(Math.round((position - middle(0, field)) / field.jump), field.units - 1);
  }

  // The middle of the pixels that a unit of a row sees, and the first of them.
  const middle = (unit, field) => first(unit, field) + field.size / 2;
  const first = (unit, field) => field.first + field.jump * unit;
  const last = (unit, field) => first(unit, field) + field.size - 1;

  function inside(unit, field, size) {
    return Math.min(last(unit, field), size - 1) - Math.max(first(unit, field), 0) + 1;
  }

  // --- Words --------------------------------------------------------------------------------

  function outside({ field, row, column, picture }) {
    const seen = inside(row, field, picture.size) * inside(column, field, picture.size);
    const percent = 100 * (1 - seen / field.size ** 2);
    if (percent === 0) return "nothing of the square";
    if (percent < 1) return `less than ${united(1, "%")} of the square`;
    return `${united(Math.round(percent), "%")} of the square`;
  }

  function write(now) {
    const { field, heat, measured, row, column, stage } = now;
    const span = (unit) => `${signed(first(unit, field))} to ${signed(last(unit, field))}`;
    const unit = `row ${row}, column ${column} of the map of ${times(field.units)}`;
    const jump = `counted from 0; jump to the next: ${united(field.jump, "px")}`;
    output.unit.textContent = `${stage}, ${unit}, ${jump}`;
    const spans = `rows ${span(row)}, columns ${span(column)}`;
    output.field.textContent = `${united(times(field.size), "px")}: ${spans}`;
    output.outside.textContent = outside(now);
    const absent = `not measured for ${now.title}`;
    output.heat.textContent = output.share.textContent = absent;
    if (heat) {
      const runs = measured.seeds === 1 ? "one network" : `mean of ${measured.seeds} networks`;
      const width = united(number(heat.width), "px");
      output.heat.textContent = `Gaussian width ${width} ${chosen("time")} training (${runs})`;
      const part = united(number((100 * heat.square) / field.size), "%");
      const square = united(number(heat.square), "px");
      output.share.textContent = `in a square of ${square}, ${part} of the theoretical side`;
    }
    form.querySelector(".fe-time").disabled = !measured;
    canvas.setAttribute("aria-label", `${now.picture.title}: ${now.picture.description}`);
  }

  // A screen reader hears where one came to rest, not all that was passed on the way.
  function announce(now, all) {
    clearTimeout(timer);
    const parts = all ? [`${now.title}, ${now.stage}, picture ${now.picture.title}`] : [];
    parts.push(`Unit: ${output.unit.textContent}`, output.field.textContent);
    parts.push(`Outside of the picture: ${output.outside.textContent}`);
    if (all) parts.push(`Measured: ${output.heat.textContent}`);
    timer = setTimeout(() => { status.textContent = `${parts.join(". ")}.`; }, QUIET);
  }

  // --- The picture --------------------------------------------------------------------------

  function draw() {
    const now = state();
    const size = now.picture.size;
    const extent = (size + 2 * MARGIN) * DENSITY;
    if (canvas.width !== extent) canvas.width = canvas.height = extent;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, extent, extent);
    hatch(extent);
    pen.setTransform(DENSITY, 0, 0, DENSITY, MARGIN * DENSITY, MARGIN * DENSITY);
    const image = images.get(now.picture.id);
    pen.clearRect(0, 0, size, size);
    if (image.complete) pen.drawImage(image, 0, 0, size, size);
    const { field, row, column } = now;
    const square = [first(column, field), first(row, field), field.size];
    dim(size, square);
    if (now.heat) drawHeat(now);
    if (form.elements["fe-grid"].checked) drawGrid(now);
    if (now.heat) {
      const side = now.heat.square;
      const corner = [middle(column, field) - side / 2, middle(row, field) - side / 2];
      outline([...corner, side], VERMILION, [0, 9], 4);
    }
    drawSquare(size, square);
    drawUnit(now);
  }

  // Stripes, where the picture has ended. Grey is seen in the light and in the dark theme.
  function hatch(extent) {
    pen.beginPath();
    for (let x = -extent; x < extent; x += 20) {
      pen.moveTo(x, extent);
      pen.lineTo(x + extent, 0);
    }
    pen.strokeStyle = "rgba(128, 128, 128, 0.45)";
    pen.lineWidth = 2;
    pen.setLineDash([]);
    pen.stroke();
  }

  // Darker, where the unit sees nothing.
  function dim(size, [x, y, side]) {
    pen.save();
    pen.beginPath();
    pen.rect(0, 0, size, size);
    pen.clip();
    pen.beginPath();
    pen.rect(0, 0, size, size);
    pen.rect(x, y, side, side);
    pen.fillStyle = "rgba(0, 0, 0, 0.5)";
    pen.fill("evenodd");
    pen.restore();
  }

  function drawHeat({ heat, field, row, column, picture }) {
    const { cell, side } = heat;
    const reach = Math.floor(side / 2) * cell + Math.floor(cell / 2);
    const x = middle(column, field) - 0.5 - reach;
    const y = middle(row, field) - 0.5 - reach;
    pen.save();
    pen.beginPath();
    pen.rect(0, 0, picture.size, picture.size);
    pen.clip();
    pen.imageSmoothingEnabled = false; // the cells are what was measured
    pen.drawImage(shade(heat), x, y, side * cell, side * cell);
    pen.restore();
  }

  // The heat as a small picture in vermilion, the more opaque the hotter; made once a map.
  function shade(heat) {
    if (!heat.shade) {
      heat.shade = document.createElement("canvas");
      heat.shade.width = heat.shade.height = heat.side;
      const bytes = atob(heat.heat);
      const image = new ImageData(heat.side, heat.side);
      for (let index = 0; index < bytes.length; index++) {
        image.data.set([213, 94, 0, 0.9 * bytes.charCodeAt(index)], 4 * index);
      }
      heat.shade.getContext("2d").putImageData(image, 0, 0);
    }
    return heat.shade;
  }

  // A dot in the middle of each unit's field.
  function drawGrid({ field }) {
    const radius = Math.min(1.5, field.jump / 8);
    for (const [colour, size] of [["#000", radius + 0.5], ["#fff", radius]]) {
      pen.beginPath();
      for (let row = 0; row < field.units; row++) {
        for (let column = 0; column < field.units; column++) {
          pen.rect(middle(column, field) - size, middle(row, field) - size, 2 * size, 2 * size);
        }
      }
      pen.fillStyle = colour;
      pen.fill();
    }
  }

  // A line with a white rim, to be seen on anything.
  function outline([x, y, side], colour, dashes, width) {
    pen.lineCap = dashes[0] === 0 ? "round" : "butt"; // dashes of no length are dots
    pen.setLineDash(dashes);
    for (const [ink, thickness] of [["#fff", width + 2], [colour, width]]) {
      pen.strokeStyle = ink;
      pen.lineWidth = thickness;
      pen.strokeRect(x, y, side, side);
    }
    pen.setLineDash([]);
  }

  // Solid in the picture, dashed outside, and with arrowheads where it goes on beyond the canvas.
  function drawSquare(size, square) {
    outline(square, BLUE, [8, 6], 3);
    pen.save();
    pen.beginPath();
    pen.rect(0, 0, size, size);
    pen.clip();
    outline(square, BLUE, [], 3);
    pen.restore();
    const [x, y, side] = square;
    const across = (clamp(x, size) + clamp(x + side, size)) / 2;
    const down = (clamp(y, size) + clamp(y + side, size)) / 2;
    const edge = size + MARGIN;
    if (y < -MARGIN) arrow(across, -MARGIN, 0);
    if (x + side > edge) arrow(edge, down, 1);
    if (y + side > edge) arrow(across, edge, 2);
    if (x < -MARGIN) arrow(-MARGIN, down, 3);
  }

  // An arrowhead whose tip is at the canvas's edge, turned by quarters from upwards.
  function arrow(x, y, quarters) {
    pen.save();
    pen.translate(x, y);
    pen.rotate((quarters * Math.PI) / 2);
    pen.beginPath();
    pen.moveTo(0, 3);
    pen.lineTo(16, 27);
    pen.lineTo(-16, 27);
    pen.closePath();
    pen.lineWidth = 3;
    pen.strokeStyle = "#fff";
    pen.fillStyle = BLUE;
    pen.stroke();
    pen.fill();
    pen.restore();
  }

  function drawUnit({ field, row, column }) {
    const [x, y] = [middle(column, field), middle(row, field)];
    const size = Math.min(6, field.size / 14); // in a small field it would hide the heat
    for (const [colour, part] of [["#fff", 1], ["#000", 0.8], ["#fff", 0.4]]) {
      const reach = size * part;
      pen.fillStyle = colour;
      pen.fillRect(x - reach, y - reach, 2 * reach, 2 * reach);
    }
  }

  // --- The reader's hands -------------------------------------------------------------------

  function update(all = false) {
    const now = state();
    write(now);
    announce(now, all);
    draw();
  }

  function position(event) {
    const box = canvas.getBoundingClientRect();
    const scale = canvas.width / DENSITY / box.width;
    const at = (offset) => offset * scale - MARGIN;
    return { x: at(event.clientX - box.left), y: at(event.clientY - box.top) };
  }

  canvas.addEventListener("pointermove", (event) => {
    // A finger or a pressed button stays where it leads; a mouse without one only looks.
    if (event.buttons) place = position(event);
    else glance = position(event);
    update();
  });
  canvas.addEventListener("pointerdown", (event) => {
    place = position(event);
    glance = null;
    update();
  });
  canvas.addEventListener("pointerleave", () => {
    glance = null;
    update();
  });

  canvas.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const { field, row, column } = state();
    const end = field.units - 1;
    const target = {
      ArrowLeft: [row, column - 1],
      ArrowRight: [row, column + 1],
      ArrowUp: [row - 1, column],
      ArrowDown: [row + 1, column],
      Home: [row, 0],
      End: [row, end],
      PageUp: [0, column],
      PageDown: [end, column],
    }[event.key];
    if (!target) return;
    event.preventDefault();
    const [y, x] = target.map((unit) => middle(clamp(unit, end), field));
    place = { x, y };
    glance = null;
    update();
  });

  form.addEventListener("change", () => update(true));
  form.addEventListener("submit", (event) => event.preventDefault());

  root.hidden = false;
  update();
})();
