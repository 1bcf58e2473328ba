// The list of streams. Rows are made once and only what changes is written.
import { $, GLYPHS, WORDS, decibels, make, percent, write } from "./format.js";

const FLOOR = -60; // dB below full scale at which the meter is empty

const scale = (element, share) => {
  const value = `scaleX(${Math.max(0, Math.min(1, share)).toFixed(3)})`;
  if (element.style.transform !== value) element.style.transform = value;
};
export const fullness = (level) => (level - FLOOR) / -FLOOR;

class Line {
  constructor(stream, select) {
    this.data = { stream };
    const cell = (name, label, ...children) =>
      make("td", { role: "cell", class: name, "data-label": label }, ...children);
    this.button = make("button", { type: "button", "aria-pressed": "false", title: stream, text: stream });
    this.sub = make("span", { class: "sub", text: "" });
    this.level = make("i");
    this.rms = make("span", { text: "" });
    this.speech = make("span", { class: "value", text: "–" });
    this.bar = make("i");
    this.p = make("span", { class: "value", text: "–" });
    this.short = make("span", { class: "value", text: "–" });
    this.long = make("span", { class: "value", text: "–" });
    this.glyph = make("span", { class: "glyph", "aria-hidden": "true", text: GLYPHS.none });
    this.word = make("span", { class: "word", text: "–" });
    this.shortCell = cell("num short live", "", this.short);
    this.longCell = cell("num long live", "", this.long);
    this.row = make(
      "tr", { role: "row", "data-verdict": "none", onclick: () => select(stream) },
      make("th", { role: "rowheader", scope: "row", class: "name" }, this.button, this.sub),
      cell("num level live", null, make("span", { class: "gauge", "aria-hidden": "true" }, this.level), this.rms),
      cell("num speech live", "speech", this.speech),
      cell("p-cell live", null, make("span", { class: "gauge p", "aria-hidden": "true" }, this.bar), this.p),
      this.shortCell, this.longCell,
      cell("v-cell live", null, this.glyph, this.word),
    );
  }

  update(data) {
    Object.assign(this.data, data);
    const row = this.data;
    const troubled = ["degraded", "recovering", "failed"].includes(row.state);
    const lost = row.lost > 0.005 ? `, ${percent(row.lost)} lost` : "";
    const late = row.ms > 1000 ? `, ${(row.ms / 1000).toFixed(1)} s late` : "";
    const alert = row.alert ? "alert, " : "";
    write(this.sub, troubled ? `${alert}${row.state}: ${row.reason}` : `${alert}${row.state ?? "waiting"}${lost}${late}`);
    this.sub.title = row.reason ?? "";
    this.sub.classList.toggle("bad", troubled || Boolean(row.alert));
    if (data.rules) {
      this.shortCell.dataset.label = `${row.rules.windows[0]} s`;
      this.longCell.dataset.label = `${row.rules.windows.at(-1)} s`;
    }
    if (row.t === undefined) {
      write(this.word, "waiting");
      return;
    }
    scale(this.level, fullness(row.rms));
    write(this.rms, decibels(row.rms));
    write(this.speech, percent(row.speech));
    scale(this.bar, row.p ?? 0);
    write(this.p, percent(row.p));
    write(this.short, percent(row.windows[0]));
    write(this.long, percent(row.windows.at(-1)));
    write(this.glyph, GLYPHS[row.verdict]);
    write(this.word, WORDS[row.verdict]);
    if (this.row.dataset.verdict !== row.verdict) this.row.dataset.verdict = row.verdict;
  }
}

export class Table {
  constructor(onselect) {
    this.lines = new Map();
    this.selected = null;
    this.onselect = onselect;
    this.raised = new Set(); // names of streams with an active alert
    $("filter").addEventListener("input", () => this.filter());
    $("filter").addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.target.value = "";
      event.target.blur();
      this.filter();
    });
  }

  reset(about, rows) {
    const names = new Set(rows.map((row) => row.stream));
    for (const name of [...this.lines.keys()]) if (!names.has(name)) this.remove(name);
    const where = about.sources.length ? ` of ${about.sources.join(", ")}` : "";
    write($("streams-empty"), `Waiting for the first sound${where}.`);
    this.update(rows);
    this.count();
  }

  update(rows) {
    for (const data of rows) {
      let line = this.lines.get(data.stream);
      if (line === undefined) {
        line = new Line(data.stream, (stream) => this.select(stream));
        this.lines.set(data.stream, line);
        $("rows").append(line.row);
        this.count();
        this.filter();
      }
      line.update(data);
    }
    if (rows.some((row) => row.rules)) this.head();
    this.alerting(this.raised); // the news of an alert may come before the first of its stream
    if (this.selected === null && this.lines.size) this.select(this.lines.keys().next().value);
  }

  /** Name the windows' columns by their lengths, where all streams have the same. */
  head() {
    const rules = [...this.lines.values()].map((line) => line.data.rules).filter(Boolean);
    const name = (lengths, word) => (lengths.size === 1 ? `${[...lengths][0]} s` : word);
    write($("short-head"), name(new Set(rules.map(({ windows }) => windows[0])), "short"));
    write($("long-head"), name(new Set(rules.map(({ windows }) => windows.at(-1))), "long"));
  }

  alerting(streams) {
    this.raised = streams;
    for (const [name, line] of this.lines) {
      const raised = streams.has(name);
      if (raised === line.row.hasAttribute("data-alert")) continue;
      line.row.toggleAttribute("data-alert", raised);
      line.update({ alert: raised });
    }
  }

  remove(name) {
    this.lines.get(name)?.row.remove();
    this.lines.delete(name);
    if (this.selected === name) this.selected = null;
    this.count();
  }

  select(name) {
    if (this.selected === name || !this.lines.has(name)) return;
    this.mark(this.selected, false);
    this.selected = name;
    this.mark(name, true);
    this.onselect(name);
  }

  move(step) {
    const names = [...this.lines].filter(([, line]) => !line.row.hidden).map(([name]) => name);
    if (!names.length) return;
    const at = names.indexOf(this.selected);
    const next = names[Math.max(0, Math.min(names.length - 1, at + step))];
    this.select(next);
    this.lines.get(next).row.scrollIntoView({ block: "nearest" });
  }

  mark(name, selected) {
    const line = this.lines.get(name);
    if (!line) return;
    line.row.toggleAttribute("data-selected", selected);
    line.button.setAttribute("aria-pressed", String(selected));
  }

  filter() {
    const wanted = $("filter").value.trim().toLowerCase();
    for (const [name, line] of this.lines) line.row.hidden = !name.toLowerCase().includes(wanted);
    this.count();
  }

  count() {
    const shown = [...this.lines.values()].filter((line) => !line.row.hidden).length;
    write($("streams-count"), shown === this.lines.size ? `${shown}` : `${shown} of ${this.lines.size}`);
    $("streams-empty").hidden = this.lines.size > 0;
    $("streams-scroll").hidden = this.lines.size === 0;
    $("filter").hidden = this.lines.size < 2;
  }
}
