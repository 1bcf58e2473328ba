// What a checked recording looks like over its whole length.
import { clock, percent } from "./format.js";
import { Tape, bytes, fit, hatch, palette, stroke } from "./tape.js";

const FONT = '11px ui-sans-serif, system-ui, "Segoe UI", "DejaVu Sans", sans-serif';

export class Timeline {
  constructor(canvas, result, threshold) {
    this.canvas = canvas;
    this.result = result;
    this.threshold = threshold;
    this.at = null;
    this.pixels = bytes(result.picture.pixels);
    this.recolour();
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  get length() {
    return Math.max(this.result.seconds, this.result.track.length * this.result.hop, 0.01);
  }

  recolour() {
    const { mels } = this.result.picture;
    this.tape = new Tape(Math.max(1, this.pixels.length / mels), mels);
    this.tape.paint(0, this.pixels);
    this.draw();
  }

  /** Seconds at a place on the canvas. */
  seconds(event) {
    const { left, width } = this.canvas.getBoundingClientRect();
    return Math.max(0, Math.min(1, (event.clientX - left - 4) / (width - 46))) * this.length;
  }

  draw() {
    if (!this.canvas.clientWidth) return;
    const { context, width, height } = fit(this.canvas);
    const colours = palette();
    const box = { left: 4, right: width - 42, top: 14, bottom: height - 20 };
    const x = (t) => box.left + (t / this.length) * (box.right - box.left);
    const y = (p) => box.bottom - p * (box.bottom - box.top);
    context.font = FONT;
    context.textBaseline = "middle";
    context.fillStyle = colours.sunk;
    context.fillRect(0, 0, width, height);
    const covered = x(Math.min(this.length, this.result.track.length * this.result.hop)) - box.left;
    context.drawImage(this.tape.canvas, box.left, box.top, covered, box.bottom - box.top);
    for (const alert of this.result.alerts) {
      hatch(context, x(alert.onset), 2, x(alert.end) - x(alert.onset), 9, colours.spoof);
      context.strokeStyle = colours.spoof;
      context.lineWidth = 1;
      context.strokeRect(x(alert.onset), 2, x(alert.end) - x(alert.onset), 9);
    }
    const points = this.result.track.map((hop) => (hop.p_fake === null ? null : [x(hop.t), y(hop.p_fake)]));
    const synthetic = this.result.track.map((hop, i) => (hop.verdict === "spoof" ? points[i] : null));
    stroke(context, points, { colour: colours.ink, casing: colours.panel, width: 2 });
    stroke(context, synthetic, { colour: colours.spoof, casing: "transparent", width: 2 });
    context.fillStyle = colours.dim;
    context.textAlign = "left";
    for (const p of [0, 0.5, 1]) context.fillText(percent(p), box.right + 6, y(p) + (p === 1 ? 3 : p === 0 ? -3 : 0));
    this.drawTimes(context, box, x);
    if (this.at !== null) this.drawCursor(context, box, x(this.at), colours);
  }

  drawTimes(context, box, x) {
    const step = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600].find((s) => (x(s) - box.left) > 60) ?? 7200;
    context.textAlign = "center";
    for (let t = step; t < this.length && x(t) < box.right - 16; t += step) context.fillText(clock(t, 0), x(t), box.bottom + 11);
  }

  drawCursor(context, box, at, colours) {
    context.strokeStyle = colours.ink;
    context.lineWidth = 1.5;
    context.beginPath();
    context.moveTo(at, box.top - 4);
    context.lineTo(at, box.bottom + 4);
    context.stroke();
  }
}
