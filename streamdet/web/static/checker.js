// Files and recordings to check: sending them, waiting, showing what came of it.
import { player } from "./alerts.js";
import { ask } from "./api.js";
import { $, GLYPHS, WORDS, clock, make, percent, write } from "./format.js";
import { Recorder } from "./recorder.js";
import { fullness } from "./table.js";
import { Timeline } from "./timeline.js";

const ASK_MS = 350;
const SHOWN = 6; // results kept on the page
const LONGEST_RECORDING = 300; // seconds

class Check {
  constructor(checker, name, blob) {
    this.checker = checker;
    this.name = name;
    this.url = URL.createObjectURL(blob);
    this.blob = blob;
    this.bar = make("i");
    this.state = make("p", { class: "note", role: "status", text: "Sending" });
    this.cancel = make("button", { type: "button", class: "quiet", text: "Cancel", "aria-label": `Cancel ${name}`, onclick: () => this.stop() });
    this.body = make("div", {}, make("div", { class: "progress", "aria-hidden": "true" }, this.bar), this.state);
    this.head = make("header", {}, make("h3", { text: name }), this.cancel);
    this.box = make("article", { class: "result", "aria-label": `Check of ${name}` }, this.head, this.body);
    this.abort = new AbortController();
  }

  async run() {
    try {
      const path = `/api/scans?name=${encodeURIComponent(this.name)}`;
      let job = await ask(path, { method: "POST", body: this.blob, signal: this.abort.signal });
      this.id = job.id;
      while (!["done", "failed", "cancelled"].includes(job.phase)) {
        this.progress(job);
        await new Promise((resolve) => setTimeout(resolve, ASK_MS));
        job = await ask(`/api/scans/${this.id}`, { signal: this.abort.signal });
      }
      if (job.phase === "done") this.show(job.result);
      else this.fail(job.error ?? "Cancelled.");
    } catch (error) {
      if (error.name !== "AbortError") this.fail(error.message);
    }
  }

  progress(job) {
    const waiting = job.phase === "waiting" && job.ahead > 0;
    const share = job.of ? job.seconds / job.of : 0;
    this.bar.style.transform = `scaleX(${share.toFixed(3)})`;
    const text = waiting ? `Waiting, ${job.ahead} before it` : job.of ? `Judged ${Math.round(100 * share)} % of ${clock(job.of, 0)}` : "Loading the model";
    write(this.state, text);
  }

  async stop() {
    this.abort.abort();
    this.checker.drop(this);
    if (this.id) await ask(`/api/scans/${this.id}`, { method: "DELETE" }).catch(() => null);
  }

  fail(text) {
    this.button("Dismiss");
    this.body.replaceChildren(make("p", { class: "problem", role: "alert", text }));
  }

  button(word) {
    write(this.cancel, word);
    this.cancel.setAttribute("aria-label", `${word} ${this.name}`);
  }

  show(result) {
    this.result = result;
    this.button("Dismiss");
    const verdict = result.verdict;
    const sure = verdict === "spoof" ? result.p_fake : verdict === "bona_fide" ? 1 - result.p_fake : null;
    const answer = make(
      "p", { class: "answer", "data-verdict": verdict },
      make("span", { class: "glyph", "aria-hidden": "true", text: GLYPHS[verdict] }),
      make("b", { class: "word", text: WORDS[verdict] }),
      make("span", { class: "note", text: sure === null ? this.why(result) : `confidence ${percent(sure)}, p_fake ${percent(result.p_fake)}` }),
    );
    const canvas = make("canvas", { role: "img", "aria-label": this.words(result) });
    this.line = new Timeline(canvas, result, result.rules.spoof);
    canvas.addEventListener("click", (event) => this.seek(this.line.seconds(event)));
    this.play = make("button", { type: "button", class: "quiet", text: "Play", "aria-label": `Play ${this.name}`, onclick: () => player.toggle(this, () => this.url) });
    this.range = make("input", { type: "range", min: 0, max: result.seconds, step: 0.05, value: 0, "aria-label": `Position in ${this.name}`, oninput: () => this.seek(Number(this.range.value)) });
    this.time = make("output", { text: clock(result.seconds) });
    const facts = `${clock(result.seconds)} long, ${clock(result.speech_seconds)} of speech, ${result.alerts.length || "no"} alert${result.alerts.length === 1 ? "" : "s"}`;
    this.body.replaceChildren(
      answer, make("p", { class: "note", text: facts }),
      result.error ? make("p", { class: "problem", text: `Only in part: ${result.error}` }) : "",
      canvas, make("div", { class: "player" }, this.play, this.range, this.time), this.details(result),
    );
    this.checker.announce(`${this.name}: ${WORDS[verdict]}${sure === null ? "" : `, confidence ${percent(sure)}`}.`);
  }

  why(result) {
    const least = result.rules.min_speech;
    if (result.verdict === "no_speech") return "nobody speaks in it";
    return result.speech_seconds < least ? `less than ${least} s of speech` : `p_fake ${percent(result.p_fake)} lies between the thresholds`;
  }

  words(result) {
    const peaks = result.track.filter((hop) => hop.p_fake !== null).map((hop) => hop.p_fake);
    const top = peaks.length ? `p_fake between ${percent(Math.min(...peaks))} and ${percent(Math.max(...peaks))}` : "no score";
    const alerts = result.alerts.map((alert) => `alert from ${clock(alert.onset)} to ${clock(alert.end)}`).join(", ");
    return `Timeline of ${this.name}: ${top}${alerts ? `; ${alerts}` : ""}. The table below has the numbers.`;
  }

  details(result) {
    const every = Math.max(1, Math.round(1 / result.hop));
    const rows = result.track.filter((_, i) => i % every === every - 1);
    const cell = (text, kind = "td") => make(kind, { class: "num", text, ...(kind === "th" ? { scope: "col" } : {}) });
    const box = make("details", {}, make("summary", { text: "Timeline in numbers" }));
    box.addEventListener("toggle", () => {
      if (box.querySelector("table")) return;
      const head = ["Time", "p_fake", "Speech", "Verdict"].map((text) => cell(text, "th"));
      const body = rows.map((hop) => make("tr", {}, cell(clock(hop.t)), cell(percent(hop.p_fake)), cell(percent(hop.speech)), cell(WORDS[hop.verdict])));
      box.append(make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Timeline of ${this.name} in numbers` }, make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body))));
    });
    return box;
  }

  seek(seconds) {
    if (player.owner !== this) {
      player.toggle(this, () => this.url);
      player.audio.addEventListener("loadedmetadata", () => player.seek(this, seconds), { once: true });
    } else player.seek(this, seconds);
    this.line.at = seconds;
    this.line.draw();
  }

  played(kind, audio) {
    write(this.play, audio.paused || audio.ended ? "Play" : "Pause");
    this.play.setAttribute("aria-label", `${this.play.textContent} ${this.name}`);
    if (kind === "error") {
      write(this.time, "this browser cannot play it");
      return;
    }
    this.range.value = audio.currentTime;
    write(this.time, `${clock(audio.currentTime)} / ${clock(this.result.seconds)}`);
    this.line.at = audio.currentTime;
    this.line.draw();
  }
}

export class Checker {
  constructor(announce) {
    this.announce = announce;
    this.checks = [];
    this.recorder = null;
    $("choose").addEventListener("click", () => $("file").click());
    $("file").addEventListener("change", () => {
      this.take([...$("file").files]);
      $("file").value = "";
    });
    $("record").addEventListener("click", () => this.record());
    this.dropping();
  }

  begin(about) {
    this.about = about;
    const limits = about.uploads;
    $("checker").hidden = limits === null;
    if (limits === null) return;
    write($("limits"), `WAV, FLAC, MP3, OGG; up to ${limits.mb} MB and ${clock(limits.seconds, 0)}. Scored here, kept nowhere.`);
    if (!Recorder.possible) {
      $("record").disabled = true;
      write($("limits"), `${$("limits").textContent} The microphone needs https or localhost.`);
    }
  }

  dropping() {
    let depth = 0;
    const files = (event) => this.about?.uploads && [...(event.dataTransfer?.types ?? [])].includes("Files");
    addEventListener("dragenter", (event) => {
      if (!files(event)) return;
      event.preventDefault();
      depth += 1;
      $("veil").hidden = false;
    });
    addEventListener("dragover", (event) => files(event) && event.preventDefault());
    addEventListener("dragleave", () => {
      depth = Math.max(0, depth - 1);
      $("veil").hidden = depth === 0;
    });
    addEventListener("drop", (event) => {
      if (!files(event)) return;
      event.preventDefault();
      depth = 0;
      $("veil").hidden = true;
      this.take([...event.dataTransfer.files]);
    });
  }

  async take(files) {
    write($("check-problem"), "");
    for (const file of files) await this.check(file.name, file);
  }

  async check(name, blob) {
    if (blob.size > this.about.uploads.mb * 1e6) {
      write($("check-problem"), `${name} is too large: ${this.about.uploads.mb} MB are taken at most.`);
      return;
    }
    const check = new Check(this, name, blob);
    this.checks.unshift(check);
    $("checks").prepend(check.box);
    while (this.checks.length > SHOWN) this.drop(this.checks.at(-1));
    await check.run();
  }

  drop(check) {
    check.box.remove();
    if (player.owner === check) player.audio.pause();
    URL.revokeObjectURL(check.url);
    this.checks = this.checks.filter((other) => other !== check);
    $("choose").focus();
  }

  recolour() {
    this.checks.forEach((check) => check.line?.recolour());
  }

  async record() {
    if (this.busy) return;
    this.busy = true;
    try {
      await (this.recorder ? this.finish() : this.start());
    } catch (error) {
      this.recorder = null;
      this.recording(false);
      write($("check-problem"), error.message);
    } finally {
      this.busy = false;
    }
  }

  async start() {
    write($("check-problem"), "");
    const longest = Math.min(LONGEST_RECORDING, this.about.uploads.seconds);
    const recorder = new Recorder((piece, seconds) => {
      let sum = 0;
      for (const sample of piece) sum += sample * sample;
      const level = 10 * Math.log10(sum / piece.length + 1e-9);
      $("record-level").style.transform = `scaleX(${Math.max(0, Math.min(1, fullness(level))).toFixed(3)})`;
      write($("record-time"), `${clock(seconds)} of ${clock(longest, 0)}`);
      if (seconds >= longest && this.recorder === recorder) this.record();
    });
    await recorder.start();
    this.recorder = recorder;
    this.recording(true);
  }

  async finish() {
    const recorder = this.recorder;
    this.recorder = null;
    this.recording(false);
    const blob = await recorder.stop();
    const name = `Recording ${new Date().toLocaleTimeString(undefined, { hour12: false })}.wav`;
    if (recorder.count) this.check(name, blob);
    else write($("check-problem"), "Nothing came from the microphone.");
  }

  recording(on) {
    $("record").setAttribute("aria-pressed", String(on));
    write($("record"), on ? "Stop and check" : "Record from the microphone");
    $("recording").hidden = !on;
  }
}
