// Pictures as the network takes them. Nothing here touches the page.
//
// A picture is a Uint8Array of grey levels, row by row, of a square.
globalThis.classifierPicture = (() => {
  const GREY = [0.299, 0.587, 0.114]; // weights of red, green and blue: ITU-R BT.601
  const LARGEST = 448; // pixels: the browser brings larger squares down to it, off the main thread
  const VERMILION = [213, 94, 0];
  const DARKEST = 0.85; // the most that heat hides of the picture

  // What each new pixel of a row takes from the old ones: a triangle around its middle, as wide
  // as one new pixel on either side, so that nothing is skipped. PyTorch's antialiased bilinear.
  function shares(from, to) {
    const scale = Math.max(from / to, 1);
    return Array.from({ length: to }, (_, pixel) => {
      const middle = ((pixel + 0.5) * from) / to - 0.5;
      const first = Math.max(Math.ceil(middle - scale), 0);
      const last = Math.min(Math.floor(middle + scale), from - 1);
      const found = [];
      for (let old = first; old <= last; old++) {
        found.push([old, 1 - Math.abs(old - middle) / scale]);
      }
      const total = found.reduce((sum, [, share]) => sum + share, 0);
      return found.map(([old, share]) => [old, share / total]);
    });
  }

  // A square of side pixels as one of size pixels; not rounded.
  function resized(values, side, size) {
    const parts = shares(side, size);
    const narrow = new Float32Array(side * size);
    const result = new Float32Array(size * size);
    for (let row = 0; row < side; row++) {
      parts.forEach((part, column) => {
        for (const [old, share] of part) {
          narrow[row * size + column] += share * values[row * side + old];
        }
      });
    }
    parts.forEach((part, row) => {
      for (const [old, share] of part) {
        for (let column = 0; column < size; column++) {
          result[row * size + column] += share * narrow[old * size + column];
        }
      }
    });
    return result;
  }

  // Whatever a canvas can draw, as a square picture. What is transparent becomes white.
  function pictureOf(source, side, size) {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = side;
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, side, side);
    pen.drawImage(source, 0, 0);
    const { data } = pen.getImageData(0, 0, side, side);
    const grey = new Float32Array(side * side);
    for (let pixel = 0; pixel < grey.length; pixel++) {
      grey[pixel] = GREY.reduce((sum, weight, part) => sum + weight * data[4 * pixel + part], 0);
    }
    return Uint8Array.from(resized(grey, side, size), Math.round);
  }

  // Width and height of a file, for which the browser reads little more than its beginning.
  function measure(address) {
    return new Promise((resolve, reject) => {
      const image = new Image();
      image.onload = () => resolve([image.naturalWidth, image.naturalHeight]);
      image.onerror = reject;
      image.src = address;
    });
  }

  // The square in the middle of a file, as a picture. Rejected where no image can be read.
  async function fromFile(file, size) {
    const address = URL.createObjectURL(file);
    try {
      const [width, height] = await measure(address);
      const side = Math.min(width, height);
      const small = Math.min(side, LARGEST);
      const smaller = { resizeWidth: small, resizeHeight: small, resizeQuality: "high" };
      const options = small < side ? smaller : {};
      const corner = [Math.floor((width - side) / 2), Math.floor((height - side) / 2)];
      const bitmap = await createImageBitmap(file, ...corner, side, side, options);
      try {
        return pictureOf(bitmap, small, size);
      } finally {
        bitmap.close();
      }
    } finally {
      URL.revokeObjectURL(address);
    }
  }

  // Whether the outermost pixels are light, on the average.
  function isLight(picture, side) {
    const border = picture.filter((_, index) => {
      const [row, column] = [Math.floor(index / side), index % side];
      return Math.min(row, column) === 0 || Math.max(row, column) === side - 1;
    });
    return border.reduce((sum, level) => sum + level, 0) / border.length > 127.5;
  }

  const inverted = (picture) => picture.map((level) => 255 - level);

  // With as many zeros on all sides as make it a square of size pixels.
  function padded(picture, side, size) {
    const margin = (size - side) / 2;
    const result = new Uint8Array(size * size);
    for (let row = 0; row < side; row++) {
      const line = picture.subarray(row * side, (row + 1) * side);
      result.set(line, (row + margin) * size + margin);
    }
    return result;
  }

  // A map of cells by cells values as one of size by size, bilinear, each value in the middle of
  // its square of pixels.
  function enlarged(map, cells, size) {
    const at = Array.from({ length: size }, (_, pixel) => {
      return Math.min(Math.max(((pixel + 0.5) * cells) / size - 0.5, 0), cells - 1);
    });
    const mix = (low, high, part) => low + (high - low) * (part % 1);
    const cell = (row, column) => map[row * cells + Math.min(column, cells - 1)];
    const along = (row, x) => mix(cell(row, Math.floor(x)), cell(row, Math.floor(x) + 1), x);
    return Float32Array.from({ length: size * size }, (_, index) => {
      const [y, x] = [at[Math.floor(index / size)], at[index % size]];
      const row = Math.floor(y);
      return mix(along(row, x), along(Math.min(row + 1, cells - 1), x), y);
    });
  }

  // Show a picture, with heat from 0 to 1 over it where there is some.
  function paint(canvas, picture, size, heat) {
    const image = new ImageData(size, size);
    picture.forEach((level, index) => {
      const part = heat ? DARKEST * heat[index] : 0;
      const colour = VERMILION.map((ink) => level + (ink - level) * part);
      image.data.set([...colour, 255], 4 * index);
    });
    canvas.width = canvas.height = size;
    canvas.getContext("2d").putImageData(image, 0, 0);
  }

  return { enlarged, fromFile, inverted, isLight, padded, paint, pictureOf, resized };
})();
