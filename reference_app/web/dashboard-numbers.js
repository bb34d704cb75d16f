// From the text of /metrics to rates, ratios and quantiles. Nothing here knows of a page.

const REQUESTS = "memoserve_request_duration_seconds";
const SAVED = "memoserve_model_time_saved_seconds_total";
const REUSED = new Set(["hit", "stale", "coalesced"]);

/** Return one reading: counts by status and model, buckets by status, seconds saved by model. */
export function parse(text, at) {
  const reading = { at, counts: new Map(), models: new Map(), buckets: new Map(), saved: new Map() };
  for (const [, name, inner, number] of text.matchAll(/^(memoserve_\w+)\{(.*)\} (\S+)$/gm)) {
    const value = Number(number);
    const labels = labelsOf(inner);
    if (name === `${REQUESTS}_count`) count(reading, labels, value);
    else if (name === `${REQUESTS}_bucket`) {
      const bounds = getOr(reading.buckets, labels.cache_status, () => new Map());
      add(bounds, labels.le === "+Inf" ? Infinity : Number(labels.le), value);
    } else if (name === SAVED) add(reading.saved, labels.model, value);
  }
  return reading;
}

function count(reading, { model, cache_status: status }, value) {
  add(reading.counts, status, value);
  if (status === "bypass") return;
  const seen = getOr(reading.models, model, () => ({ reused: 0, all: 0 }));
  seen.all += value;
  if (REUSED.has(status)) seen.reused += value;
}

function labelsOf(inner) {
  const pairs = inner.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g);
  return Object.fromEntries([...pairs].map(([, name, value]) => [name, value]));
}

function getOr(map, key, make) {
  if (!map.has(key)) map.set(key, make());
  return map.get(key);
}

function add(map, key, value) {
  map.set(key, (map.get(key) ?? 0) + value);
}

/** Keep the readings of the last while; begin anew when a counter went down, which is a restart. */
export class History {
  constructor(seconds, window) {
    this.seconds = seconds;
    this.window = window;
    this.readings = [];
  }

  add(reading) {
    if (total(reading) < total(this.last ?? reading)) this.readings = [];
    this.readings.push(reading);
    while (this.readings[0].at < reading.at - this.seconds - this.window) this.readings.shift();
  }

  /** Return the seconds since the first reading that counts. */
  get age() {
    return this.last.at - this.readings[0].at;
  }

  get last() {
    return this.readings.at(-1);
  }

  /** Return `[at, value]` of every reading, each made of it and of the one a window before. */
  points(measure) {
    return this.readings.slice(1).map((now) => {
      const before = this.readings.findLast((each) => each.at <= now.at - this.window);
      return [now.at, measure(before ?? this.readings[0], now)];
    });
  }

  /** Return what was measured last. */
  now(measure) {
    return this.points(measure).at(-1)?.[1] ?? null;
  }

  keys(map) {
    return this.last ? [...this.last[map].keys()].sort() : [];
  }
}

function total(reading) {
  return [...reading.counts.values()].reduce((sum, each) => sum + each, 0);
}

export const rateOf = (map, key) => (before, now) =>
  ((now[map].get(key) ?? 0) - (before[map].get(key) ?? 0)) / (now.at - before.at);

export const rateOfAll = (before, now) => (total(now) - total(before)) / (now.at - before.at);

/** Return a hit ratio, or null where nothing was asked; without a model, of all of them. */
export const hitRatio = (model) => (before, now) => {
  const names = model === undefined ? [...now.models.keys()] : [model];
  const grown = (part) =>
    names.reduce((sum, name) => {
      const earlier = before?.models.get(name)?.[part] ?? 0;
      return sum + (now.models.get(name)?.[part] ?? 0) - earlier;
    }, 0);
  return grown("all") > 0 ? grown("reused") / grown("all") : null;
};

/** Return a quantile as Prometheus' histogram_quantile does: linear within a bucket. */
export const quantile = (q, status) => (before, now) => {
  const earlier = before.buckets.get(status);
  const bounds = [...(now.buckets.get(status) ?? [])]
    .map(([bound, value]) => [bound, value - (earlier?.get(bound) ?? 0)])
    .sort(([a], [b]) => a - b);
  const all = bounds.at(-1)?.[1] ?? 0;
  if (all <= 0) return null;
  const place = bounds.findIndex(([, value]) => value >= q * all);
  const [bound, value] = bounds[place];
  const [lower, below] = place ? bounds[place - 1] : [0, 0];
  return bound === Infinity ? lower : lower + ((bound - lower) * (q * all - below)) / (value - below);
};
