// Alerts: what they are, playing, verifying and acknowledging them.
import { ask } from "./api.js";
import { $, REASONS, clock, make, moment, percent, write } from "./format.js";

const PROOFS = { intact: "✓ Intact.", changed: "✗ Changed.", missing: "✗ No recording.", unsealed: "◐ Not sealed." };
const NAME = "streamdet.name";

const remembered = () => {
  try {
    return localStorage.getItem(NAME) ?? "";
  } catch {
    return ""; // storage may be forbidden; the name is then asked for each time
  }
};
const remember = (name) => {
  try {
    localStorage.setItem(NAME, name);
  } catch {
    // asked for again next time
  }
};

/** One sound at a time, whoever started it. */
class Player {
  constructor() {
    this.audio = new Audio();
    this.audio.preload = "none";
    this.owner = null;
    for (const kind of ["play", "pause", "ended", "timeupdate", "durationchange", "error"]) {
      this.audio.addEventListener(kind, () => this.owner?.played(kind, this.audio));
    }
  }

  toggle(owner, url) {
    if (this.owner === owner && !this.audio.paused) {
      this.audio.pause();
      return;
    }
    if (this.owner !== owner) {
      this.audio.pause();
      this.owner?.played("pause", this.audio);
      this.owner = owner;
      this.audio.src = url();
    }
    this.audio.play().catch(() => owner.played("error", this.audio));
  }

  seek(owner, seconds) {
    if (this.owner === owner && Number.isFinite(seconds)) this.audio.currentTime = seconds;
  }
}
export const player = new Player();

class Entry {
  constructor(list, alert) {
    this.list = list;
    this.alert = alert;
    const button = (text, press, extra = {}) => make("button", { type: "button", class: "quiet", onclick: press, ...extra, text });
    this.title = make("span");
    this.tag = make("span", { class: "tag" });
    this.facts = make("p", { class: "facts" });
    this.acked = make("p", { class: "acked" });
    this.play = button("Play", () => this.toggle());
    this.verifying = button("Verify", () => this.verify());
    this.picture = make("a", { class: "quiet", target: "_blank", rel: "noopener", hidden: true, text: "Picture", href: `/api/alerts/${encodeURIComponent(alert.id)}/picture` });
    this.ack = button("Acknowledge", () => this.list.acknowledge(this), { class: "" });
    this.range = make("input", { type: "range", min: 0, max: 0, step: 0.05, value: 0, oninput: () => player.seek(this, Number(this.range.value)) });
    this.time = make("output", { text: "0:00.0" });
    this.player = make("div", { class: "player", hidden: true }, this.range, this.time);
    this.proof = make("p", { class: "proof", role: "status" });
    this.item = make(
      "li", { class: "alert" },
      make("div", {}, make("h3", {}, this.title, this.tag), this.facts, this.acked),
      make("div", { class: "actions" }, this.play, this.picture, this.verifying, this.ack),
      this.player, this.proof,
    );
    this.update(alert);
  }

  get active() {
    return this.alert.phase !== "cleared";
  }

  update(alert) {
    this.alert = alert;
    this.item.dataset.phase = alert.phase;
    write(this.title, alert.stream);
    write(this.tag, this.active ? "▲ ALERT, lasting" : "■ over");
    const why = REASONS[alert.reason];
    this.facts.replaceChildren(
      make("time", { datetime: alert.raised, text: moment(alert.raised) }),
      " · since ", make("b", { text: clock(alert.onset) }), " of the stream · ",
      make("b", { text: `${alert.duration.toFixed(1)} s` }), " · peak ", make("b", { text: percent(alert.peak) }),
      why && !this.active ? ` · ${why}` : "",
    );
    const seen = alert.acknowledged;
    write(this.acked, seen ? `✓ Acknowledged by ${seen.by}, ${moment(seen.at)}` : "");
    this.ack.hidden = Boolean(seen);
    this.play.disabled = !alert.playable;
    this.play.title = alert.playable ? "" : "No recording of this alert is kept";
    this.picture.hidden = !alert.pictured;
    const label = `of ${alert.stream}, ${moment(alert.raised)}`;
    this.label("Play", this.play, label);
    this.picture.setAttribute("aria-label", `Picture of alert ${label}`);
    this.label("Verify", this.verifying, label);
    this.label("Acknowledge", this.ack, label);
    this.range.setAttribute("aria-label", `Position in the recording ${label}`);
  }

  label(word, button, label) {
    button.setAttribute("aria-label", `${button.textContent || word} alert ${label}`);
  }

  toggle() {
    player.toggle(this, () => `/api/alerts/${encodeURIComponent(this.alert.id)}/sound?at=${Math.round(this.alert.duration * 10)}`);
  }

  played(kind, audio) {
    const playing = kind !== "error" && !audio.paused && !audio.ended && player.owner === this;
    write(this.play, playing ? "Pause" : "Play");
    this.label("Play", this.play, `of ${this.alert.stream}, ${moment(this.alert.raised)}`);
    this.player.hidden = false;
    if (kind === "error") {
      write(this.time, "cannot be played");
      return;
    }
    const length = Number.isFinite(audio.duration) ? audio.duration : 0;
    this.range.max = length;
    this.range.value = audio.currentTime;
    write(this.time, `${clock(audio.currentTime)} / ${clock(length)}`);
  }

  async verify() {
    this.verifying.disabled = true;
    write(this.proof, "Verifying");
    try {
      const proof = await ask(`/api/alerts/${encodeURIComponent(this.alert.id)}/verify`, { method: "POST" });
      this.proof.dataset.state = proof.state;
      this.proof.replaceChildren(
        make("b", { text: PROOFS[proof.state] }), ` ${proof.text}`,
        proof.sha256 ? make("br") : "", proof.sha256 ? make("code", { text: `SHA-256 ${proof.sha256}` }) : "",
      );
    } catch (error) {
      this.proof.dataset.state = "missing";
      write(this.proof, error.message);
    } finally {
      this.verifying.disabled = false;
    }
  }
}

export class Alerts {
  constructor(announce, changed) {
    this.entries = new Map();
    this.announce = announce;
    this.changed = changed;
    $("open-only").addEventListener("change", () => this.filter());
    $("name-cancel").addEventListener("click", () => $("name-dialog").close());
    $("name-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const name = $("name").value.trim();
      if (!name) return;
      remember(name);
      $("name-dialog").close();
      this.send(this.asked, name);
    });
  }

  reset(alerts) {
    const known = new Set(alerts.map((alert) => alert.id));
    for (const [id, entry] of this.entries) {
      if (known.has(id)) continue;
      entry.item.remove();
      this.entries.delete(id);
    }
    [...alerts].reverse().forEach((alert) => this.place(alert));
    this.count();
  }

  take(alert) {
    const before = this.entries.get(alert.id)?.alert;
    this.place(alert);
    if (!before && alert.phase !== "cleared") this.announce(`Alert: ${alert.stream} sounds synthetic, peak ${percent(alert.peak)}.`);
    if (before && before.phase !== "cleared" && alert.phase === "cleared") this.announce(`Alert on ${alert.stream} is over after ${alert.duration.toFixed(0)} seconds.`);
    if (before && !before.acknowledged && alert.acknowledged) this.announce(`Alert on ${alert.stream} acknowledged by ${alert.acknowledged.by}.`);
    this.count();
  }

  place(alert) {
    const entry = this.entries.get(alert.id);
    if (entry) entry.update(alert);
    else {
      const fresh = new Entry(this, alert);
      this.entries.set(alert.id, fresh);
      $("alert-list").prepend(fresh.item);
    }
  }

  of(stream) {
    return [...this.entries.values()].map((entry) => entry.alert).filter((alert) => alert.stream === stream);
  }

  latest(test = () => true) {
    return [...this.entries.values()].reverse().find(test);
  }

  count() {
    const all = [...this.entries.values()];
    const active = all.filter((entry) => entry.active);
    const open = all.filter((entry) => !entry.alert.acknowledged);
    write($("alerts-count"), all.length ? `${all.length}, ${active.length} lasting, ${open.length} not acknowledged` : "");
    document.title = active.length ? `▲ ${active.length} · streamdet` : "streamdet";
    this.filter();
    this.changed(new Set(active.map((entry) => entry.alert.stream)));
  }

  filter() {
    let shown = 0;
    for (const entry of this.entries.values()) {
      entry.item.hidden = $("open-only").checked && Boolean(entry.alert.acknowledged);
      shown += entry.item.hidden ? 0 : 1;
    }
    $("alerts-empty").hidden = shown > 0;
    write($("alerts-empty"), this.entries.size ? "All alerts are acknowledged." : "No alerts. When a voice stays synthetic for long enough, it is listed here with its recording.");
  }

  acknowledge(entry) {
    this.asked = entry;
    $("name").value = remembered();
    $("name-dialog").showModal();
    $("name").select();
  }

  async send(entry, name) {
    try {
      this.take(await ask(`/api/alerts/${encodeURIComponent(entry.alert.id)}/acknowledge`, { method: "POST", json: { by: name } }));
    } catch (error) {
      entry.proof.dataset.state = "missing";
      write(entry.proof, error.message);
    }
  }
}
