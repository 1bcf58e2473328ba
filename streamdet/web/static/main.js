// Puts the page together.
import { Alerts } from "./alerts.js";
import { ask } from "./api.js";
import { Checker } from "./checker.js";
import { $, make } from "./format.js";
import { HealthBar } from "./health.js";
import { shortcuts } from "./keys.js";
import { Link } from "./link.js";
import { Scope } from "./scope.js";
import { Table } from "./table.js";
import { repaint } from "./tape.js";
import { Theme } from "./theme.js";

const announce = (text) => {
  const line = make("p", { text });
  $("announce").append(line);
  setTimeout(() => line.remove(), 15_000);
};

const scope = new Scope();
const health = new HealthBar();
const checker = new Checker(announce);
const follow = (stream) => {
  if (link.client) ask("/api/follow", { method: "POST", json: { client: link.client, stream } }).catch(() => null); // a lost connection says so itself
};
const table = new Table((stream) => {
  scope.select(stream);
  scope.alerts = alerts.of(stream);
  scope.update(table.lines.get(stream).data);
  follow(stream);
});
const alerts = new Alerts(announce, (streams) => {
  table.alerting(streams);
  scope.alerts = alerts.of(scope.stream);
});

const show = (rows) => {
  table.update(rows);
  const line = table.lines.get(table.selected);
  if (line && rows.some((row) => row.stream === table.selected)) scope.update(line.data);
};

const link = new Link({
  hello(value) {
    scope.begin(value);
    health.begin(value);
    checker.begin(value);
    table.reset(value, value.rows);
    alerts.reset(value.alerts);
    if (table.selected) {
      scope.update(table.lines.get(table.selected).data);
      follow(table.selected);
    }
  },
  scores: (value) => show(value.rows),
  streams(value) {
    show(value.rows);
    value.gone.forEach((name) => table.remove(name));
  },
  alert: (value) => alerts.take(value),
  health: (value) => health.update(value),
  picture: (value) => scope.take(value),
  lost: (value) => health.missed(value.scores),
  back: () => announce("Connected again."),
});

// On a narrow screen everything stands in one column, and checking files comes last, for eye and keyboard alike.
const narrow = matchMedia("(max-width: 1180px)");
const place = () => $(narrow.matches ? "right" : "left").append($("checker"));
narrow.addEventListener("change", place);
place();

const theme = new Theme(() => {
  repaint();
  scope.recolour();
  checker.recolour();
});
shortcuts({
  j: () => table.move(1),
  k: () => table.move(-1),
  "/": () => ($("filter").hidden ? null : $("filter").focus()),
  h: () => scope.hold(),
  p: () => alerts.latest((entry) => entry.alert.playable)?.toggle(),
  v: () => alerts.latest()?.verify(),
  a: () => {
    const open = alerts.latest((entry) => !entry.alert.acknowledged);
    if (open) alerts.acknowledge(open);
  },
  o: () => $("choose").click(),
  r: () => $("record").disabled || checker.record(),
  t: () => theme.next(),
});
link.open();
