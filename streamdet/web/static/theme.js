// Light, dark, or as the system has it.
import { $, write } from "./format.js";

const ORDER = ["auto", "light", "dark"];

export class Theme {
  constructor(changed) {
    this.changed = changed;
    this.now = document.documentElement.dataset.theme ?? "auto";
    $("theme").addEventListener("click", () => this.next());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
    this.show();
  }

  next() {
    this.now = ORDER[(ORDER.indexOf(this.now) + 1) % ORDER.length];
    if (this.now === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = this.now;
    try {
      localStorage.setItem("streamdet.theme", this.now);
    } catch {
      // it then lasts as long as the page
    }
    this.show();
    this.changed();
  }

  show() {
    write($("theme"), `Theme: ${this.now}`);
  }
}
