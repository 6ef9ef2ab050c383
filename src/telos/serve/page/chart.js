/** Two curves over steps, drawn as they are needed: no library. Both pointer and arrow keys read them off. */

import { shape } from "./dom.js";
import { hush, tell } from "./language.js";
import { large, number } from "./numbers.js";

const HEIGHT = 300;
const EDGE = { left: 44, right: 22, top: 10, bottom: 24 };
const MOST = 600; // points that are drawn of a curve
const SMOOTH = 60; // points from which the training loss is drawn smoothed, with the raw one pale behind it

const drawn = new WeakMap(); // place -> {points, at}

/** Draw `{loss: [[step, value], …], validation: […]}` into `place`; what is pointed at is told by `readout`. */
export function draw(place, readout, points) {
  if (!drawn.has(place)) prepare(place, readout);
  drawn.get(place).points = points;
  redraw(place, readout);
}

function prepare(place, readout) {
  drawn.set(place, { points: {}, at: null });
  place.tabIndex = 0;
  place.setAttribute("role", "img");
  new ResizeObserver(() => redraw(place, readout)).observe(place);
  place.addEventListener("pointermove", (event) => {
    const { left } = place.getBoundingClientRect();
    look(place, readout, nearest(place, event.clientX - left));
  });
  place.addEventListener("pointerleave", () => look(place, readout, null));
  place.addEventListener("blur", () => look(place, readout, null));
  place.addEventListener("keydown", (event) => {
    const { points, at } = drawn.get(place);
    const last = points.loss.length - 1;
    const to = { ArrowRight: (at ?? -1) + 1, ArrowLeft: (at ?? last + 1) - 1, Home: 0, End: last }[event.key];
    if (to === undefined || last < 0) return;
    event.preventDefault();
    look(place, readout, Math.max(0, Math.min(last, to)));
  });
}

function look(place, readout, at) {
  if (drawn.get(place).at === at) return;
  drawn.get(place).at = at;
  redraw(place, readout);
}

function nearest(place, x) {
  const { points, scale } = drawn.get(place);
  if (!points.loss.length) return null;
  const far = points.loss.map(([step]) => Math.abs(scale.x(step) - x));
  return far.indexOf(Math.min(...far));
}

function redraw(place, readout) {
  const state = drawn.get(place);
  const { loss = [], validation = [] } = state.points;
  describe(place, loss, validation);
  const width = place.clientWidth;
  if (width === 0) return;
  state.scale = scaled([...loss, ...validation], width);
  const svg = shape("svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, "aria-hidden": "true" },
    ...axes(state.scale, width), ...curves(loss, validation, state.scale));
  read(svg, readout, state, loss, validation);
  place.replaceChildren(svg);
}

/** The curves in words, for those who do not see them. */
function describe(place, loss, validation) {
  if (!loss.length) return tell(place, "runs.empty", {}, "label");
  const [[first, begin], [last, end]] = [loss[0], loss.at(-1)];
  const held = validation.length ? number(validation.at(-1)[1], 3) : "–";
  tell(place, "runs.described", {
    first: number(first), begin: number(begin, 3), last: number(last), end: number(end, 3), validation: held,
  }, "label");
}

function scaled(points, width) {
  const steps = points.map(([step]) => step);
  const values = points.map(([, value]) => value);
  const [x0, x1] = apart(least(steps, 0), most(steps, 1), 0);
  const [y0, y1] = apart(least(values, 0), most(values, 1), 0.05);
  return {
    x: (step) => EDGE.left + ((step - x0) / (x1 - x0)) * (width - EDGE.left - EDGE.right),
    y: (value) => EDGE.top + ((y1 - value) / (y1 - y0)) * (HEIGHT - EDGE.top - EDGE.bottom),
    steps: ticks(x0, x1, Math.max(3, width / 90)).filter(Number.isInteger),
    values: ticks(y0, y1, 5),
  };
}

function least(values, otherwise) {
  return values.length ? values.reduce((a, b) => Math.min(a, b)) : otherwise;
}

function most(values, otherwise) {
  return values.length ? values.reduce((a, b) => Math.max(a, b)) : otherwise;
}

/** Two ends that are not the same, with a margin that is a share of what lies between. */
function apart(low, high, margin) {
  const room = high > low ? margin * (high - low) : Math.max(1, Math.abs(low)) / 2;
  return [low - room, high + room];
}

/** About so many round numbers between two. */
function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

function axes(scale, width) {
  const across = scale.values.flatMap((value) => [
    shape("line", { class: "rule", x1: EDGE.left, x2: width - EDGE.right, y1: scale.y(value), y2: scale.y(value) }),
    shape("text", { class: "left", x: EDGE.left - 8, y: scale.y(value) + 4 }, value >= 1000 ? large(value) : value),
  ]);
  const along = scale.steps.map((step) =>
    shape("text", { class: "below", x: scale.x(step), y: HEIGHT - 6 }, large(step)));
  return [...across, ...along];
}

function curves(loss, validation, scale) {
  const smooth = loss.length >= SMOOTH;
  return [
    path(thinned(loss), scale, smooth ? "line train raw" : "line train"),
    ...(smooth ? [path(thinned(smoothed(loss)), scale, "line train")] : []),
    path(thinned(validation), scale, "line validation"),
    ...(validation.length <= 40 ? validation.map(([step, value]) => dot(scale, step, value, "validation")) : []),
    ...(loss.length === 1 ? [dot(scale, ...loss[0], "train")] : []),
  ];
}

function path(points, scale, kind) {
  const d = points.map(([step, value], i) => `${i ? "L" : "M"}${scale.x(step).toFixed(1)} ${scale.y(value).toFixed(1)}`);
  return shape("path", { class: kind, d: d.join("") });
}

function dot(scale, step, value, kind) {
  return shape("circle", { class: `dot ${kind}`, cx: scale.x(step), cy: scale.y(value), r: 3.5 });
}

/** At most so many points: means of neighbours. */
function thinned(points) {
  const size = Math.ceil(points.length / MOST);
  if (size <= 1) return points;
  return Array.from({ length: Math.ceil(points.length / size) }, (_, i) => mean(points.slice(i * size, (i + 1) * size)));
}

/** Mean over a centred window of a thirtieth of the points, narrower at both ends: it does not lag. */
function smoothed(points) {
  const sums = [0];
  for (const [, value] of points) sums.push(sums.at(-1) + value);
  const reach = Math.floor(points.length / 60);
  return points.map(([step], i) => {
    const near = Math.min(reach, i, points.length - 1 - i);
    return [step, (sums[i + near + 1] - sums[i - near]) / (2 * near + 1)];
  });
}

function mean(points) {
  const sum = points.reduce(([a, b], [step, value]) => [a + step, b + value], [0, 0]);
  return sum.map((one) => one / points.length);
}

/** Mark the point that is looked at, and say what stands there. */
function read(svg, readout, { at, scale }, loss, validation) {
  if (at === null || !loss[at]) return hush(readout);
  const [step, value] = loss[at];
  const before = validation.findLast(([one]) => one <= step);
  svg.append(
    shape("line", { class: "cursor", x1: scale.x(step), x2: scale.x(step), y1: EDGE.top, y2: HEIGHT - EDGE.bottom }),
    dot(scale, step, value, "train"),
  );
  tell(readout, "runs.readout", {
    step: number(step), loss: number(value, 3), validation: before ? number(before[1], 3) : "–",
  });
}
