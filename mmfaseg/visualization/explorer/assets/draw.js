// Drawing of images, maps and markers on a canvas. A model holds the data of
// one network, the size of its canvases in pixels, and their scale to the image.

const images = new Map();
function loadImage(uri) {
  if (!images.has(uri)) {
    images.set(uri, new Promise((resolve, reject) => {
      const image = new Image();
      image.onload = () => resolve(image);
      image.onerror = () => reject(new Error('an image on the page cannot be decoded'));
      image.src = uri;
    }));
  }
  return images.get(uri);
}

// Returns the pixels of an image, RGBA, after resizing it by a factor.
async function readPixels(uri, { width, height }, factor, smooth) {
  const image = await loadImage(uri);
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.imageSmoothingEnabled = smooth;
  context.drawImage(image, 0, 0, image.width * factor, image.height * factor);
  return context.getImageData(0, 0, width, height).data;
}

// Returns the values 0..255 of a map at the size of a canvas. A map of stride
// s covers s pixels per cell, and may extend beyond the image.
const readMap = (map, stride, model) => readPixels(map, model, stride * model.scale, state.smooth);

// Returns the query of each pixel of the image.
function readOwners({ owners, size: [height, width] }) {
  return readPixels(owners, { width, height }, 1, false);
}

function drawInput(context, model, dark) {
  context.imageSmoothingEnabled = false;
  context.filter = dark ? 'grayscale(1) brightness(0.6)' : 'none';
  context.drawImage(model.image, 0, 0, model.width, model.height);
  context.filter = 'none';
  if (dark || !state.classes) return;
  context.globalAlpha = 0.6;
  context.drawImage(model.labels, 0, 0, model.width, model.height);
  context.globalAlpha = 1;
}

// Draws the border of a mask, white on black.
function drawOutline(context, model, mask) {
  const { width, height } = model;
  const inside = new Uint8Array(width * height);
  for (let i = 0; i < inside.length; i++) inside[i] = mask[4 * i] > 127;
  const border = [];
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      if (!inside[i]) continue;
      const inner = x > 0 && x < width - 1 && y > 0 && y < height - 1;
      if (inner && inside[i - 1] && inside[i + 1] && inside[i - width] && inside[i + width]) continue;
      border.push(x, y);
    }
  }
  const pen = Math.max(1, Math.round(width / 260));
  for (const [color, margin] of [['#000', pen], ['#fff', 0]]) {
    context.fillStyle = color;
    const side = pen + 2 * margin;
    for (let n = 0; n < border.length; n += 2) context.fillRect(border[n] - margin, border[n + 1] - margin, side, side);
  }
}

function drawWindows(context, model, windows) {
  context.lineWidth = Math.max(2, model.width / 250);
  context.strokeStyle = '#4ea1ff';
  for (const [left, top, right, bottom] of windows) {
    context.strokeRect(left * model.scale, top * model.scale, (right - left) * model.scale, (bottom - top) * model.scale);
  }
}

function drawTrack(context, model, layers) {
  const points = layers.map((layer) => layer.center.map((x) => x * model.scale));
  const radius = Math.max(2.5, model.width / 110);
  for (const [color, extra] of [['#000', 2], ['#ffd33d', 0]]) {
    context.strokeStyle = context.fillStyle = color;
    context.lineWidth = radius / 1.6 + extra;
    context.beginPath();
    points.forEach(([x, y], n) => (n ? context.lineTo(x, y) : context.moveTo(x, y)));
    context.stroke();
    context.beginPath();
    context.arc(...points[points.length - 1], radius + extra, 0, 7);
    context.fill();
  }
}

function drawCross(context, model) {
  if (!model.marked) return;
  const [x, y] = model.marked.map((v) => (v + 0.5) * model.scale);
  const arm = Math.max(5, model.width / 50);
  const cross = new Path2D(`M${x - arm} ${y}H${x + arm}M${x} ${y - arm}V${y + arm}`);
  for (const [color, line] of [['#000', 4], ['#fff', 2]]) {
    context.strokeStyle = color;
    context.lineWidth = line;
    context.stroke(cross);
  }
}

// Overlays the darkened image with a map on the fixed color scale.
function drawHeat(context, model, values) {
  drawInput(context, model, true);
  const pixels = context.getImageData(0, 0, model.width, model.height);
  for (let i = 0; i < pixels.data.length; i += 4) {
    const share = Math.sqrt(values[i] / 255) * 0.95;
    const color = DATA.heat[values[i]];
    for (let c = 0; c < 3; c++) pixels.data[i + c] += share * (color[c] - pixels.data[i + c]);
  }
  context.putImageData(pixels, 0, 0);
}
