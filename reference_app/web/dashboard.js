// The live page: reads /metrics once a second and draws what it says.

import { draw } from "/dashboard-chart.js";
import { History, hitRatio, parse, quantile, rateOf, rateOfAll } from "/dashboard-numbers.js";

const STATUSES = ["hit", "stale", "coalesced", "miss", "bypass", "error"];
const SECONDS = 120;
const WINDOW = 10;
const INTERVAL = 1000;

const history = new History(SECONDS, WINDOW);
const state = document.getElementById("state");

async function read() {
  const response = await fetch("/metrics", { credentials: "omit", cache: "no-store" });
  if (!response.ok) throw new Error(`/metrics answers with ${response.status}`);
  history.add(parse(await response.text(), performance.now() / 1000));
}

function byStatus(measure) {
  const known = history.keys("counts");
  return STATUSES.filter((name) => known.includes(name)).map((name) => ({
    name,
    mark: name,
    points: history.points(measure(name)),
  }));
}

function byModel(map, measure) {
  return history.keys(map).map((name, place) => ({
    name,
    mark: `model-${place % 5}`,
    points: history.points(measure(name)),
  }));
}

function show() {
  const now = history.last.at;
  const at = (id) => document.getElementById(id);
  // As long as there is little to show, the little fills the width.
  const common = { now, seconds: Math.min(SECONDS, Math.max(20, history.age)) };
  draw(at("requests"), byStatus((name) => rateOf("counts", name)), { ...common, format: plain, stacked: true });
  draw(at("ratio"), byModel("models", hitRatio), { ...common, format: roundPercent, max: 1 });
  draw(at("latency"), byStatus((name) => quantile(0.95, name)), { ...common, format: duration, log: true });
  draw(at("savings"), byModel("saved", (name) => rateOf("saved", name)), { ...common, format: plain });
  tile("rate", history.now(rateOfAll), plain);
  tile("recent", history.now(hitRatio()), percent);
  tile("overall", hitRatio()(null, history.last), percent);
  tile("saved", [...history.last.saved.values()].reduce((sum, each) => sum + each, 0), duration);
}

function tile(id, value, format) {
  document.getElementById(id).textContent = value === null ? "no traffic" : format(value);
}

const plain = (value) => Number(value.toPrecision(3)).toLocaleString("en");
const percent = (value) => `${(value * 100).toFixed(1)} %`;
const roundPercent = (value) => `${Math.round(value * 100)} %`;

function duration(seconds) {
  if (seconds < 0.001) return `${plain(seconds * 1e6)} µs`;
  if (seconds < 1) return `${plain(seconds * 1000)} ms`;
  if (seconds < 120) return `${plain(seconds)} s`;
  return seconds < 7200 ? `${plain(seconds / 60)} min` : `${plain(seconds / 3600)} h`;
}

async function turn() {
  try {
    if (!document.hidden) {
      await read();
      show();
      state.textContent = "Live.";
      state.classList.remove("lost");
    }
  } catch (error) {
    state.textContent = `No contact: ${error.message}. Trying again.`;
    state.classList.add("lost");
  }
  setTimeout(turn, INTERVAL);
}

turn();
