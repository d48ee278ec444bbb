'use strict';
const DATA = JSON.parse(document.getElementById('data').textContent);
const MEASURES = ['entropy', 'overlap', 'drift', 'turn', 'change'];
const NO_OWNER = 255;
const MIN_SIDE = 384; // small images are enlarged to about this many pixels
const MAX_SIDE = 1024; // large images are reduced to this many
const byId = (id) => document.getElementById(id);

// The displayed layer, and the selected query and pixel of each model.
const state = { models: [], layer: 0, smooth: true, classes: false, timer: null, request: 0 };

function make(tag, properties = {}, children = []) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// one model

function addModel(data, owners) {
  const [rows, columns] = data.size;
  const longer = Math.max(rows, columns);
  const scale = longer > MAX_SIDE ? MAX_SIDE / longer : Math.max(1, Math.round(MIN_SIDE / longer));
  const width = Math.max(1, Math.round(columns * scale));
  const height = Math.max(1, Math.round(rows * scale));
  const model = { data, owners, scale, width, height, query: 0, marked: null, panels: {}, lines: {} };
  model.prediction = make('p', { className: 'prediction' });
  model.chips = data.queries.map((query, n) => {
    const chip = make('button', { type: 'button', textContent: `${query.number} · ${query.name}`, title: `query ${query.number} contributes most to ${(100 * query.share).toFixed(1)} % of the image` });
    chip.style.borderLeftColor = query.color;
    chip.addEventListener('click', () => { model.marked = null; choose(model, n); });
    return chip;
  });
  const figures = ['image', 'focus', 'preference'].map((name) => {
    const canvas = make('canvas', { width: model.width, height: model.height, className: name });
    canvas.setAttribute('role', 'img');
    canvas.style.maxWidth = `${(70 * width) / height}vh`; // portrait images fit the window
    canvas.addEventListener('click', (event) => {
      const box = canvas.getBoundingClientRect();
      mark((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    });
    const caption = make('figcaption');
    model.panels[name] = { canvas, caption, context: canvas.getContext('2d', { willReadFrequently: true }) };
    return make('figure', {}, [canvas, caption]);
  });
  const rowsOfTable = MEASURES.map((name) => {
    const now = make('td', { className: 'now' });
    const plot = make('td', { innerHTML: '<svg class="line" viewBox="0 0 260 26"></svg>' });
    model.lines[name] = { now, line: plot.firstChild };
    return make('tr', {}, [make('th', { textContent: name, scope: 'row' }), now, plot]);
  });
  const element = make('article', { className: 'model' }, [
    make('h2', { textContent: data.name }),
    make('div', { className: 'queries' }, model.chips),
    make('div', { className: 'panels' }, figures),
    model.prediction,
    make('table', {}, rowsOfTable),
  ]);
  byId('models').append(element);
  return model;
}

function drawLine(model, name, query, now) {
  const { now: cell, line } = model.lines[name];
  const values = query.layers.map((layer) => layer[name]);
  cell.textContent = values[now] === null ? '–' : values[now].toFixed(3);
  cell.classList.toggle('uniform', name === 'entropy' && values[now] >= DATA.nearlyUniform);
  const top = Math.max(name === 'entropy' || name === 'overlap' || name === 'change' ? 1 : 0.1, ...values.map((v) => v ?? 0));
  const x = (n) => 6 + (n * 248) / Math.max(1, values.length - 1);
  const y = (v) => 23 - (20 * v) / top;
  const points = values.flatMap((v, n) => (v === null ? [] : [`${x(n)},${y(v).toFixed(1)}`]));
  const dot = values[now] === null ? '' : `<circle cx="${x(now)}" cy="${y(values[now])}" r="3.2"/>`;
  line.innerHTML = `<rect x="6" y="25" width="248" height="1"/><polyline points="${points.join(' ')}"/>${dot}`;
}

async function drawModel(model) {
  const { data, panels } = model;
  [model.image, model.labels] = await Promise.all([loadImage(data.image), loadImage(data.labels)]);
  const query = data.queries[model.query];
  model.chips.forEach((chip, n) => chip.setAttribute('aria-pressed', String(n === model.query)));
  if (!query) {
    for (const panel of Object.values(panels)) drawInput(panel.context, model, panel !== panels.image);
    model.prediction.textContent = 'No query predicts a segment in this image.';
    return;
  }
  const now = Math.min(state.layer, data.layers.length - 1);
  const layer = data.layers[now];
  const done = query.layers[now];
  const [mask, focus, preference] = await Promise.all([
    readMap(done.mask, 4, model),
    readMap(done.focus.png, layer.stride, model),
    readMap(done.preference.png, layer.stride, model),
  ]);
  drawInput(panels.image.context, model, false);
  drawHeat(panels.focus.context, model, focus);
  drawHeat(panels.preference.context, model, preference);
  drawWindows(panels.image.context, model, layer.windows);
  for (const panel of Object.values(panels)) drawOutline(panel.context, model, mask);
  drawTrack(panels.image.context, model, query.layers.slice(0, now + 1));
  drawCross(panels.image.context, model);
  const place = `layer ${layer.number} · stride ${layer.stride}`;
  panels.image.caption.textContent = layer.windows.length ? `mask after ${place} · ${layer.windows.length} windows` : `mask after ${place}`;
  panels.focus.caption.textContent = `focus · at most ${done.focus.peak}×`;
  panels.preference.caption.textContent = `preference · at most ${done.preference.peak}×`;
  const [name, score] = done.best;
  model.prediction.textContent = `After ${place}, query ${query.number} predicts ${name} (${score.toFixed(2)}); before the first layer: ${query.best[0]} (${query.best[1].toFixed(2)}).`;
  for (const [kind, panel] of Object.entries(panels)) panel.canvas.setAttribute('aria-label', `${kind} of query ${query.number}, ${name}, ${place}, ${data.name}`);
  for (const measure of MEASURES) drawLine(model, measure, query, now);
}

// The color bar, with a tick at each power of ten.
function drawScale() {
  const bar = document.querySelector('#scale .bar');
  bar.style.background = `linear-gradient(to right, ${DATA.heat.map((x) => `rgb(${x})`).join()})`;
  const [low, high] = DATA.range.map(Math.log10);
  for (let power = Math.ceil(low); power <= high; power++) {
    const tick = make('span', { textContent: `${10 ** power}×` });
    tick.style.left = `${(100 * (power - low)) / (high - low)}%`;
    bar.firstElementChild.append(tick);
  }
}

// all models

let drawing = Promise.resolve();
let requested = 0;
function draw() {
  const number = ++requested;
  drawing = drawing.then(async () => {
    if (number !== requested) return; // a newer state will be drawn
    const first = state.models[0];
    const longest = state.models.reduce((a, b) => (b.data.layers.length > a.data.layers.length ? b : a), first);
    const layer = longest.data.layers[state.layer];
    byId('layer-name').textContent = `${layer.number} of 0–${longest.data.layers.length - 1} · stride ${layer.stride}`;
    for (const model of state.models) await drawModel(model);
    document.body.dataset.drawn = String(number);
  }).catch((error) => showMessage(error.message, 'error'));
  return drawing;
}

function choose(model, n) {
  model.query = n;
  draw();
}

// x and y are relative to the image: networks may resize it differently
function mark(x, y) {
  for (const model of state.models) {
    const [rows, columns] = model.data.size;
    const column = Math.max(0, Math.min(columns - 1, Math.floor(x * columns)));
    const row = Math.max(0, Math.min(rows - 1, Math.floor(y * rows)));
    model.marked = [column, row];
    const owner = model.owners[4 * (row * columns + column)];
    if (owner !== NO_OWNER) model.query = owner;
  }
  draw();
}

// Returns whether the content is still the latest after loading it.
async function showContent(content, isLatest = () => true) {
  images.clear();
  const owners = await Promise.all(content.models.map((model) => readOwners(model)));
  if (!isLatest()) return false;
  stop();
  byId('models').replaceChildren();
  state.models = content.models.map((model, n) => addModel(model, owners[n]));
  const last = Math.max(...content.models.map((model) => model.layers.length)) - 1;
  byId('layer').max = last;
  state.layer = Math.min(state.layer, last);
  byId('layer').value = state.layer;
  byId('main').hidden = false;
  await draw();
  return isLatest();
}

function stop() {
  clearInterval(state.timer);
  state.timer = null;
  byId('play').textContent = '▶';
  byId('play').setAttribute('aria-label', 'Play the layers');
}

function play() {
  if (state.timer) return stop();
  byId('play').textContent = '❚❚';
  byId('play').setAttribute('aria-label', 'Stop');
  state.timer = setInterval(() => setLayer((state.layer + 1) % (Number(byId('layer').max) + 1)), 900);
}

function setLayer(layer) {
  state.layer = layer;
  byId('layer').value = layer;
  draw();
}

// requests to the server

function showMessage(text, kind = '') {
  byId('message').textContent = text;
  byId('message').className = kind;
}

async function request(url, options) {
  const number = ++state.request;
  const isLatest = () => number === state.request; // no other image was requested
  showMessage('Running the networks on the image …', 'busy');
  let response, content;
  try {
    response = await fetch(url, options);
    content = await response.json();
  } catch (error) {
    if (isLatest()) showMessage(`The server does not respond (${error.message}); is it still running?`, 'error');
    return;
  }
  if (!isLatest()) return;
  if (!response.ok) return showMessage(content.error, 'error');
  try {
    if (await showContent(content, isLatest)) showMessage('');
  } catch (error) {
    if (isLatest()) showMessage(error.message, 'error');
  }
}

function upload(file) {
  if (!file) return;
  byId('examples').selectedIndex = -1; // so that the same example can be selected again
  request(`explore?name=${encodeURIComponent(file.name)}`, { method: 'POST', body: file });
}

function offer(examples) {
  byId('source').hidden = false;
  byId('file').addEventListener('change', (event) => {
    upload(event.target.files[0]);
    event.target.value = '';
  });
  byId('offer').hidden = !examples.length;
  byId('examples').append(...examples.map((name, n) => make('option', { value: n, textContent: name })));
  byId('examples').addEventListener('change', (event) => request(`explore/${event.target.value}`, { method: 'POST' }));
  document.addEventListener('dragover', (event) => event.preventDefault());
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    upload(event.dataTransfer.files[0]);
  });
}

document.addEventListener('keydown', (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!step || ['INPUT', 'SELECT'].includes(event.target.tagName) || !state.models.length) return;
  stop();
  setLayer(Math.max(0, Math.min(Number(byId('layer').max), state.layer + step)));
});
byId('title').textContent = document.title = DATA.title;
drawScale();
byId('layer').addEventListener('input', (event) => { stop(); setLayer(Number(event.target.value)); });
byId('smooth').addEventListener('change', (event) => { state.smooth = event.target.checked; draw(); });
byId('classes').addEventListener('change', (event) => { state.classes = event.target.checked; draw(); });
byId('play').addEventListener('click', play);
if (DATA.examples) offer(DATA.examples);
if (DATA.content) showContent(DATA.content).catch((error) => showMessage(error.message, 'error'));
else if (DATA.examples && DATA.examples.length) request('explore/0', { method: 'POST' });
else showMessage('Choose an image or drop one here.');
