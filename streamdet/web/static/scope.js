// The selected stream: figures, and the last minute as a picture with the score over it.
import { $, CODES, GLYPHS, WORDS, clock, decibels, make, percent, write } from "./format.js";
import { Tape, bytes, fit, hatch, palette, stroke } from "./tape.js";

const SPAN = 60; // seconds shown
const HELD = 200; // hops on the strip
const FRAME_MS = 66; // the picture moves some ten pixels a second, so more frames would not be seen
const LABEL_GAP = 24; // least pixels from one frequency to the next
const FONT = '11px ui-sans-serif, system-ui, "Segoe UI", "DejaVu Sans", sans-serif';
const still = matchMedia("(prefers-reduced-motion: reduce)");

export class Scope {
  constructor() {
    this.stream = null;
    this.row = null;
    this.alerts = [];
    this.held = false;
    this.clear();
    this.figures = new Map();
    this.drawn = 0;
    $("hold").addEventListener("click", () => this.hold());
    new ResizeObserver(() => this.draw()).observe($("picture"));
    const frame = (now) => {
      if (!still.matches) requestAnimationFrame(frame);
      if (!this.held && now - this.drawn >= FRAME_MS && this.running()) this.draw(now);
    };
    requestAnimationFrame(frame);
    still.addEventListener("change", () => requestAnimationFrame(frame));
  }

  clear() {
    this.hops = [];
    this.tape = null;
    this.shown = null;
    this.told = 0;
  }

  begin(about) {
    this.about = about;
  }

  /** Lengths of the short and the long window, in words; they come with the first hop and may change by a reload. */
  get windows() {
    const lengths = this.row?.rules?.windows;
    return lengths ? [`${lengths[0]} s`, `${lengths.at(-1)} s`] : ["short", "long"];
  }

  select(stream) {
    this.stream = stream;
    this.row = null;
    this.clear();
    write($("scope-title"), stream);
    this.draw();
  }

  hold() {
    this.held = !this.held;
    $("hold").setAttribute("aria-pressed", String(this.held));
    write($("hold"), this.held ? "Picture held" : "Hold picture");
    if (!this.held) this.draw();
  }

  update(row) {
    this.row = row;
    const verdict = row.t === undefined ? "none" : row.verdict;
    const box = $("scope-verdict");
    box.dataset.verdict = verdict;
    write(box.querySelector(".glyph"), GLYPHS[verdict]);
    write(box.querySelector(".word"), row.t === undefined ? "waiting for sound" : WORDS[verdict]);
    write($("scope-p"), percent(row.p));
    write($("scope-state"), row.state ? `${row.state}${row.reason ? `: ${row.reason}` : ""}` : "");
    const [short, long] = this.windows;
    write($("short-key"), short);
    write($("long-key"), long);
    if (row.t === undefined) return;
    this.figure("short", percent(row.windows[0]), false, `${short} window`);
    this.figure("long", percent(row.windows.at(-1)), false, `${long} window`);
    this.figure("Speech", percent(row.speech));
    this.figure("Lost", percent(row.lost), row.lost > 0.05);
    this.figure("Level", decibels(row.rms));
    this.figure("Peak", decibels(row.peak), row.peak > -0.2);
    this.figure("Lag", row.ms < 1000 ? `${Math.round(row.ms)} ms` : `${(row.ms / 1000).toFixed(1)} s`, row.ms > 1000);
    this.figure("Heard", clock(row.t));
  }

  figure(name, value, bad = false, label = name) {
    let box = this.figures.get(name);
    if (!box) {
      box = make("div", { class: "live" }, make("dt", { text: name }), make("dd", { text: "" }));
      $("figures").append(box);
      this.figures.set(name, box);
    }
    write(box.firstChild, label);
    write(box.lastChild, value);
    box.classList.toggle("bad", bad);
  }

  /** Take what came of the picture; everything there is where `whole` is set. */
  take(picture) {
    if (picture.stream !== this.stream) return;
    if (picture.whole) this.clear();
    if (!picture.end?.length) return;
    const size = picture.columns * picture.mels;
    const pixels = bytes(picture.pixels);
    this.hop = picture.hop;
    this.columns = picture.columns;
    this.bands = picture.bands;
    if (this.tape?.mels !== picture.mels) {
      this.hops = []; // another model has taken over, or nothing was heard yet
      this.tape = new Tape(HELD * picture.columns, picture.mels);
    }
    picture.end.forEach((end, i) => {
      const last = this.hops.at(-1);
      if (last && end <= last.end) this.hops = []; // another stream of the same name
      const hop = {
        end, p: picture.p[i], windows: picture.windows[i], verdict: CODES[picture.verdict[i]],
        lost: picture.lost[i] === "1", pixels: pixels.subarray(i * size, (i + 1) * size),
      };
      this.hops.push(hop);
      this.paint(hop);
    });
    this.hops.splice(0, Math.max(0, this.hops.length - HELD));
    this.tell();
    if (still.matches || this.shown === null) this.draw();
  }

  paint(hop) {
    const index = Math.round(hop.end / this.hop) % HELD;
    this.tape.paint(index * this.columns, hop.pixels);
  }

  recolour() {
    if (this.tape) this.hops.forEach((hop) => this.paint(hop));
    this.draw();
  }

  running() {
    const last = this.hops.at(-1);
    return Boolean(last) && this.shown !== null && this.shown < last.end + 0.001 && !document.hidden;
  }

  /** The picture in words, for those who hear it; no more than every three seconds. */
  tell() {
    const now = Date.now();
    const last = this.hops.at(-1);
    if (!last || now - this.told < 3000) return;
    this.told = now;
    const scored = this.hops.filter((hop) => hop.p !== null);
    const top = scored.length ? percent(Math.max(...scored.map((hop) => hop.p))) : "no score";
    const spoken = this.hops.filter((hop) => hop.verdict === "spoof").length * this.hop;
    write(
      $("picture-text"),
      `${this.stream}, at ${clock(last.end)}: ${WORDS[last.verdict]}, p_fake ${percent(last.p)}. ` +
        `In the last ${Math.round(this.hops.length * this.hop)} seconds the highest p_fake was ${top}, ` +
        `${spoken.toFixed(0)} seconds were judged synthetic.`,
    );
  }

  draw(time = performance.now()) {
    const canvas = $("picture");
    if (!canvas.clientWidth) return;
    const step = Math.min(1, (time - this.drawn) / 1000);
    this.drawn = time;
    const { context, width, height } = fit(canvas);
    const colours = palette();
    const box = { left: 34, right: width - 42, top: 18, bottom: height - 56 };
    context.font = FONT;
    context.textBaseline = "middle";
    context.clearRect(0, 0, width, height);
    context.fillStyle = colours.sunk;
    context.fillRect(0, 0, width, height);
    const last = this.hops.at(-1);
    if (!last) {
      context.fillStyle = colours.dim;
      context.textAlign = "center";
      context.fillText(this.stream ? `Waiting for the first sound of ${this.stream}` : "No stream yet", width / 2, height / 2);
      return;
    }
    this.advance(last.end, step);
    const x = (t) => box.right - ((this.shown - t) / SPAN) * (box.right - box.left);
    const y = (p) => box.bottom - p * (box.bottom - box.top);
    context.save();
    context.beginPath();
    context.rect(box.left, 0, box.right - box.left, height);
    context.clip();
    this.drawTape(context, box, x);
    this.drawAlerts(context, box, x, colours);
    this.drawCurves(context, x, y, colours);
    context.restore();
    this.drawAxes(context, box, x, y, colours);
    this.drawWindows(context, box, x, colours, last);
  }

  /** Let the picture run evenly between hops; where it falls behind or jumps, it catches up at once. */
  advance(end, step) {
    if (still.matches || this.held || this.shown === null || Math.abs(end - this.shown) > 1.5) this.shown = this.held ? (this.shown ?? end) : end;
    else this.shown = Math.min(end, this.shown + step * (1 + 0.6 * (end - this.shown - 0.2)));
  }

  drawTape(context, box, x) {
    context.imageSmoothingEnabled = true;
    let run = null;
    const flush = () => {
      if (!run) return;
      const source = run.from * this.columns;
      const count = (run.to - run.from + 1) * this.columns;
      const left = x(run.start);
      context.drawImage(this.tape.canvas, source, 0, count, this.tape.mels, left, box.top, x(run.end) - left, box.bottom - box.top);
      run = null;
    };
    for (const hop of this.hops) {
      const index = Math.round(hop.end / this.hop) % HELD;
      if (run && index === run.to + 1 && !hop.lost) Object.assign(run, { to: index, end: hop.end });
      else {
        flush();
        if (!hop.lost) run = { from: index, to: index, start: hop.end - this.hop, end: hop.end };
        else this.drawLost(context, box, x(hop.end - this.hop), x(hop.end));
      }
    }
    flush();
  }

  drawLost(context, box, from, to) {
    context.strokeStyle = palette().dim;
    context.setLineDash([3, 3]);
    context.lineWidth = 1;
    context.strokeRect(from + 0.5, box.top + 0.5, to - from - 1, box.bottom - box.top - 1);
    context.setLineDash([]);
  }

  drawAlerts(context, box, x, colours) {
    for (const alert of this.alerts) {
      const from = Math.max(box.left, x(alert.onset));
      const to = Math.min(box.right, x(alert.onset + alert.duration));
      if (to <= box.left || from >= box.right) continue;
      hatch(context, from, 2, to - from, box.top - 6, colours.spoof);
      context.strokeStyle = colours.spoof;
      context.lineWidth = 1.5;
      context.strokeRect(from, 2, to - from, box.top - 6);
      context.beginPath();
      context.moveTo(from, box.top - 4);
      context.lineTo(from, box.bottom);
      context.stroke();
    }
  }

  drawCurves(context, x, y, colours) {
    const line = (value) => this.hops.map((hop) => (value(hop) === null ? null : [x(hop.end), y(value(hop))]));
    const casing = colours.panel;
    stroke(context, line((hop) => hop.windows.at(-1)), { colour: colours.ink, casing, width: 1.25, dash: [1.5, 3] });
    stroke(context, line((hop) => hop.windows[0]), { colour: colours.ink, casing, width: 1.25, dash: [5, 3] });
    stroke(context, line((hop) => hop.p), { colour: colours.ink, casing, width: 2.5 });
    stroke(context, this.hops.map((hop) => (hop.p === null || hop.verdict !== "spoof" ? null : [x(hop.end), y(hop.p)])), {
      colour: colours.spoof, casing: "transparent", width: 2.5,
    });
  }

  drawAxes(context, box, x, y, colours) {
    context.fillStyle = colours.dim;
    context.strokeStyle = colours.line;
    context.lineWidth = 1;
    context.textAlign = "left";
    for (const p of [0, 0.5, 1]) context.fillText(`${100 * p} %`, box.right + 6, y(p) + (p === 1 ? 4 : p === 0 ? -4 : 0));
    context.textAlign = "right";
    let above = box.top + 2;
    context.fillText("Hz", box.left - 6, above);
    for (const hertz of [4000, 2000, 1000, 250]) {
      const at = this.band(hertz, box);
      if (at - above < LABEL_GAP) continue; // linear bands leave no room for the low ones
      context.fillText(hertz < 1000 ? `${hertz}` : `${hertz / 1000}k`, box.left - 6, at);
      above = at;
    }
    context.textAlign = "center";
    for (let t = Math.ceil((this.shown - SPAN) / 10) * 10; t <= this.shown; t += 10) {
      if (t < 0) continue;
      const at = x(t);
      if (at < box.left + 10 || at > box.right - 8) continue;
      context.beginPath();
      context.moveTo(at, box.bottom);
      context.lineTo(at, box.bottom + 4);
      context.stroke();
      context.fillText(clock(t, 0), at, box.bottom + 12);
    }
    if (this.row?.rules) this.threshold(context, box, y(this.row.rules.spoof), colours);
  }

  threshold(context, box, at, colours) {
    context.strokeStyle = colours.spoof;
    context.lineWidth = 1;
    context.setLineDash([2, 4]);
    context.beginPath();
    context.moveTo(box.left, at);
    context.lineTo(box.right, at);
    context.stroke();
    context.setLineDash([]);
    context.fillStyle = colours.spoof;
    context.textAlign = "left";
    context.fillText("spoof", box.right + 6, at);
  }

  band(hertz, box) {
    const { low, high, scale } = this.bands;
    const mel = (f) => (scale === "linear" ? f : Math.log1p(f / 700));
    return box.bottom - ((mel(hertz) - mel(low)) / (mel(high) - mel(low))) * (box.bottom - box.top);
  }

  /** Which sound each window judges, as brackets under the picture. */
  drawWindows(context, box, x, colours, last) {
    const lengths = this.row?.rules?.windows ?? [];
    [lengths[0], lengths.at(-1)].filter(Boolean).forEach((length, lane) => {
      const y = box.bottom + 27 + lane * 15;
      const from = Math.max(box.left, x(this.shown - length));
      context.strokeStyle = context.fillStyle = colours.ink;
      context.lineWidth = 1.5;
      context.beginPath();
      context.moveTo(from, y - 4);
      context.lineTo(from, y + 4);
      context.moveTo(from, y);
      context.lineTo(box.right, y);
      context.moveTo(box.right, y - 4);
      context.lineTo(box.right, y + 4);
      context.stroke();
      context.textAlign = "right";
      const value = lane === 0 ? last.windows[0] : last.windows.at(-1);
      context.fillText(`last ${length} s: ${percent(value)}`, from - 6, y);
    });
  }
}
