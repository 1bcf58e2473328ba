// The bar on top: what runs, how far behind it is, what it had to drop.
import { $, make, write } from "./format.js";

export class HealthBar {
  constructor() {
    this.boxes = new Map();
    this.lost = 0;
  }

  begin(about) {
    this.about = about;
    this.update(about.health);
  }

  update(health) {
    const dropped = Object.entries(health.dropped).filter(([, count]) => count > 0);
    const total = dropped.reduce((sum, [, count]) => sum + count, 0);
    const lag = health.lag_ms < 1000 ? `${Math.round(health.lag_ms)} ms` : `${(health.lag_ms / 1000).toFixed(1)} s`;
    this.put("Streams", `${health.streams}`);
    this.put("Alerts", `${health.alerts}`, health.alerts > 0);
    this.put("Lag", lag, health.lag_ms > 1000);
    this.put("Dropped", `${total}`, total > 0, dropped.map(([sink, count]) => `${sink}: ${count}`).join(", ") || "No event was dropped");
    this.put("Engine", health.engine);
    this.put("Model", `${this.about.model.name} ${health.model.slice(0, 8)}`, false, health.model);
    this.boxes.get("Trouble")?.toggleAttribute("hidden", !health.trouble);
    if (health.trouble) this.put("Trouble", health.trouble, true);
    if (this.lost) this.put("This page missed", `${this.lost} scores`, true, "It reads too slowly; alerts are never lost");
  }

  missed(scores) {
    this.lost = scores;
  }

  put(name, value, bad = false, title = "") {
    let box = this.boxes.get(name);
    if (!box) {
      box = make("div", {}, make("dt", { text: name }), make("dd", { text: "" }));
      $("health").append(box);
      this.boxes.set(name, box);
    }
    write(box.lastChild, value);
    box.classList.toggle("bad", bad);
    if (title) box.title = title;
  }
}
