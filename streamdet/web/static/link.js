// The connection: server-sent events, and what to do when they stop.
import { $, clock, write } from "./format.js";

const SILENT_MS = 25_000; // the server gives a sign of life every ten seconds at the latest
const AGAIN_MS = 2_000;

export class Link {
  constructor(handlers) {
    this.handlers = handlers;
    this.client = null;
    this.since = Date.now();
    this.state = "connecting";
    this.source = null;
    this.heard = Date.now();
    setInterval(() => this.check(), 1000);
    addEventListener("pagehide", () => this.source?.close());
  }

  open() {
    this.source?.close();
    this.heard = Date.now();
    const source = (this.source = new EventSource("/api/events"));
    for (const kind of ["hello", "scores", "streams", "alert", "health", "picture", "lost", "bye"]) {
      source.addEventListener(kind, (event) => this.take(source, kind, event.data));
    }
    source.onerror = () => this.fail(source);
  }

  take(source, kind, data) {
    if (source !== this.source) return;
    this.heard = Date.now();
    const value = JSON.parse(data);
    if (kind === "hello") {
      this.client = value.client;
      this.say("live");
    }
    if (kind === "bye") {
      this.say("stopped");
      source.close();
      this.again();
    } else this.handlers[kind]?.(value);
  }

  async fail(source) {
    if (source !== this.source) return;
    this.say(this.state === "stopped" ? "stopped" : "lost");
    if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    this.again();
  }

  again() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.open(), AGAIN_MS);
  }

  check() {
    if (this.state === "live" && Date.now() - this.heard > SILENT_MS) {
      this.say("lost");
      this.open();
    }
    this.show();
  }

  say(state) {
    if (state !== this.state) this.since = Date.now();
    const before = this.state;
    this.state = state;
    document.body.dataset.link = state;
    this.show();
    if (state === "live" && (before === "lost" || before === "stopped")) this.handlers.back?.();
  }

  show() {
    const gone = clock((Date.now() - this.since) / 1000, 0);
    const words = {
      connecting: "Connecting",
      live: "Connected",
      lost: `Connection lost ${gone} ago, trying again`,
      stopped: `streamdet has stopped ${gone} ago, waiting for it`,
    };
    // the status is read aloud when it changes, which must not be once a second
    const text = words[this.state];
    const whole = (Math.floor((Date.now() - this.since) / 1000) % 10) === 0;
    if (this.shown !== this.state || whole) write($("link-text"), text);
    this.shown = this.state;
  }
}
