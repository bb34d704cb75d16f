// Charts as SVG, drawn anew for each reading.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 220;
const AREA = { left: 52, top: 8, bottom: 196 };

/**
 * Draw series into an <svg>, and name them in the list beneath.
 * A series is {name, mark, points: [[at, value or null], …]}; a mark is the class of its colour.
 */
export function draw(svg, series, { now, seconds, format, stacked = false, log = false, max }) {
  const shown = series.filter(({ points }) => points.some(([, value]) => value !== null));
  const layers = stacked ? pile(shown) : shown;
  const scale = scaleFor(layers, { log, max });
  const width = svg.getBoundingClientRect().width || 600; // A unit is a pixel: text keeps its size.
  const right = width - 8;
  const x = (at) => right - ((now - at) / seconds) * (right - AREA.left);
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  svg.replaceChildren(
    ...axes(scale, format, seconds, right),
    ...layers.map((layer) =>
      stacked ? area(layer, x, scale.y) : line(visible(layer, now - seconds), x, scale.y),
    ),
  );
  if (!shown.length) svg.append(text("No traffic", width / 2, HEIGHT / 2, "middle"));
  svg.nextElementSibling.replaceChildren(...shown.map(entry));
}

function pile(series) {
  const floor = new Map();
  return series.map((each) => ({
    ...each,
    points: each.points.map(([at, value]) => {
      const bottom = floor.get(at) ?? 0;
      floor.set(at, bottom + (value ?? 0));
      return [at, bottom + (value ?? 0), bottom];
    }),
  }));
}

function scaleFor(layers, { log, max }) {
  const values = layers.flatMap(({ points }) => points.map(([, value]) => value ?? 0));
  const [bottom, top] = [AREA.bottom, AREA.top];
  const share = (part) => bottom - Math.min(1, Math.max(0, part)) * (bottom - top);
  if (log) {
    const low = -4;
    const high = Math.max(-1, Math.ceil(Math.log10(Math.max(...values, 0.01))));
    const ticks = Array.from({ length: high - low + 1 }, (_, place) => 10 ** (low + place));
    return { ticks, y: (value) => share((Math.log10(Math.max(value, 1e-4)) - low) / (high - low)) };
  }
  const highest = max ?? niceAbove(Math.max(...values, 0));
  return { ticks: [0, 0.25, 0.5, 0.75, 1].map((part) => part * highest), y: (value) => share(value / highest) };
}

function niceAbove(value) {
  if (value <= 0) return 1;
  const step = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 8, 10].map((factor) => factor * step).find((each) => each >= value);
}

function axes(scale, format, seconds, right) {
  const marks = scale.ticks.flatMap((tick) => [
    element("line", { class: "grid", x1: AREA.left, x2: right, y1: scale.y(tick), y2: scale.y(tick) }),
    text(format(tick), AREA.left - 6, scale.y(tick) + 4, "end"),
  ]);
  return [
    ...marks,
    text(`${Math.round(seconds)} seconds ago`, AREA.left, HEIGHT - 6, "start"),
    text("now", right, HEIGHT - 6, "end"),
  ];
}

function visible(layer, since) {
  return { ...layer, points: layer.points.filter(([at]) => at >= since) };
}

/** A line has gaps where there was nothing to measure. */
function line({ name, mark, points }, x, y) {
  let pen = "M";
  const path = points.map(([at, value]) => {
    if (value === null) return (pen = "M"), "";
    const step = `${pen}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
    pen = "L";
    return step;
  });
  return element("path", { class: `line ${mark}`, d: path.join(""), "data-series": name });
}

function area({ name, mark, points }, x, y) {
  const inside = points.filter(([at]) => x(at) >= AREA.left);
  const upper = inside.map(([at, value]) => `${x(at).toFixed(1)} ${y(value).toFixed(1)}`);
  const lower = inside.map(([at, , value]) => `${x(at).toFixed(1)} ${y(value).toFixed(1)}`);
  const d = inside.length ? `M${[...upper, ...lower.reverse()].join("L")}Z` : "";
  return element("path", { class: `area ${mark}`, d, "data-series": name });
}

function entry({ name, mark }) {
  const item = document.createElement("li");
  item.className = mark;
  const label = document.createElement("span");
  label.textContent = name;
  item.append(label);
  return item;
}

function text(content, x, y, anchor) {
  const node = element("text", { x, y, "text-anchor": anchor });
  node.textContent = content;
  return node;
}

function element(name, attributes) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}
