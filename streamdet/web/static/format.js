// How numbers and words are written, everywhere the same.
export const WORDS = { bona_fide: "human", spoof: "SYNTHETIC", undecided: "undecided", no_speech: "no speech", none: "–" };
export const GLYPHS = { bona_fide: "●", spoof: "▲", undecided: "◐", no_speech: "○", none: "·" };
export const CODES = { h: "bona_fide", s: "spoof", u: "undecided", n: "no_speech" };
export const PHASES = {
  connecting: "connecting", live: "live", degraded: "degraded", recovering: "recovering", failed: "failed", ended: "ended",
};
export const REASONS = {
  evidence: "", silence: "nobody spoke any more", gap: "audio was missing", limit: "time limit", ended: "the stream ended",
};

export const percent = (share) => (share === null || share === undefined ? "–" : `${Math.round(100 * share)} %`);

export const decibels = (level) => (level <= -90 ? "silent" : `${level < 0 ? "−" : ""}${Math.abs(Math.round(level))} dB`);

export function clock(seconds, digits = 1) {
  const tenths = Math.round(seconds * 10 ** digits) / 10 ** digits;
  const hours = Math.floor(tenths / 3600);
  const minutes = Math.floor(tenths / 60) % 60;
  const rest = (tenths % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

const here = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const dated = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });

export function moment(iso) {
  const date = new Date(iso);
  const today = new Date().toDateString() === date.toDateString();
  return today ? here.format(date) : `${dated.format(date)}, ${here.format(date)}`;
}

/** Make an element: `make("p", { class: "note", text: "…" }, child, …)`. Never parses HTML. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Write text only where it changes, which spares the browser most of the work of fifty streams. */
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export const $ = (id) => document.getElementById(id);
