// A strip of spectrogram: bytes in, coloured pixels on a canvas of its own that others draw from.
const STOPS = {
  // one hue that grows with energy, so that curve and alerts stay the only things with a colour of their own
  light: [[238, 241, 243], [196, 214, 222], [120, 160, 178], [52, 96, 118], [14, 40, 56]],
  dark: [[12, 17, 20], [18, 44, 56], [30, 88, 108], [92, 160, 178], [214, 240, 246]],
};

export function dark() {
  const wanted = document.documentElement.dataset.theme;
  return wanted ? wanted === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function ramp(stops) {
  const table = new Uint32Array(256);
  for (let value = 0; value < 256; value++) {
    const at = (value / 255) ** 1.25 * (stops.length - 1);
    const low = Math.min(stops.length - 2, Math.floor(at));
    const [r, g, b] = stops[low].map((from, i) => Math.round(from + (stops[low + 1][i] - from) * (at - low)));
    table[value] = (255 << 24) | (b << 16) | (g << 8) | r;
  }
  return table;
}

const RAMPS = { light: ramp(STOPS.light), dark: ramp(STOPS.dark) };

export function bytes(base64) {
  const text = atob(base64);
  const out = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) out[i] = text.charCodeAt(i);
  return out;
}

export class Tape {
  constructor(width, mels) {
    this.canvas = document.createElement("canvas");
    this.canvas.width = width;
    this.canvas.height = mels;
    this.context = this.canvas.getContext("2d");
    this.mels = mels;
  }

  /** Paint columns (mels bytes each, low bands first) from x on, as far as the strip goes. */
  paint(x, pixels) {
    const columns = Math.min(pixels.length / this.mels, this.canvas.width - x);
    if (columns < 1) return;
    const image = this.context.createImageData(columns, this.mels);
    const out = new Uint32Array(image.data.buffer);
    const colours = RAMPS[dark() ? "dark" : "light"];
    for (let column = 0; column < columns; column++) {
      for (let band = 0; band < this.mels; band++) {
        out[(this.mels - 1 - band) * columns + column] = colours[pixels[column * this.mels + band]];
      }
    }
    this.context.putImageData(image, x, 0);
  }
}

let colours = null; // reading them from the style sheet for every frame would cost more than drawing

/** Colours of the page, as the style sheet has them now. */
export function palette() {
  if (colours) return colours;
  const style = getComputedStyle(document.documentElement);
  const names = { ink: "ink", dim: "dim", line: "line", panel: "panel", sunk: "sunk", human: "human", spoof: "spoof" };
  colours = Object.fromEntries(Object.entries(names).map(([key, name]) => [key, style.getPropertyValue(`--${name}`).trim()]));
  return colours;
}

/** The theme has changed. */
export function repaint() {
  colours = null;
}

/** Fit a canvas to its box and the screen's pixels; returns a context that counts in CSS pixels. */
export function fit(canvas) {
  const ratio = Math.min(3, devicePixelRatio || 1);
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return { context, width, height };
}

/** A line with a casing in the ground's colour, so that it is seen on loud and silent ground alike. */
export function stroke(context, points, { colour, casing, width = 2, dash = [] }) {
  context.lineJoin = "round";
  for (const [style, thickness, pattern] of [[casing, width + 2.5, []], [colour, width, dash]]) {
    context.strokeStyle = style;
    context.lineWidth = thickness;
    context.setLineDash(pattern);
    context.beginPath();
    let pen = false;
    for (const point of points) {
      if (point === null) pen = false;
      else {
        if (pen) context.lineTo(point[0], point[1]);
        else context.moveTo(point[0], point[1]);
        pen = true;
      }
    }
    context.stroke();
  }
  context.setLineDash([]);
}

export function hatch(context, x, y, width, height, colour) {
  context.save();
  context.beginPath();
  context.rect(x, y, width, height);
  context.clip();
  context.strokeStyle = colour;
  context.lineWidth = 2;
  context.beginPath();
  for (let at = x - height; at < x + width; at += 7) {
    context.moveTo(at, y + height);
    context.lineTo(at + height, y);
  }
  context.stroke();
  context.restore();
}
