/** What the panels share: a model to choose, one request at a time, and a word on how it went. */

import { Refused } from "./api.js";
import { node, visible } from "./dom.js";
import { hush, say, tell } from "./language.js";
import { large, number } from "./numbers.js";

/**
 * Furnish a panel: its form, if a model can do what it is for, or what to train.
 *
 * needs: capabilities of which a model must have one. train: commands that lead to such a model.
 * work(model, signal): do it. chosen(model): another model was chosen. keys: the text that says which keys do what.
 */
export function furnish(root, models, { needs, train = [], work, chosen = () => {}, keys = "keys" }) {
  const able = models.filter((model) => needs.some((one) => model.telos.capabilities.includes(one)));
  const form = root.querySelector("form");
  form.hidden = able.length === 0;
  root.querySelector(".lacking").hidden = !form.hidden;
  if (form.hidden) return explain(root, train);
  const model = offer(form.querySelector(".model"), able, chosen);
  follow(form);
  request(root, form, keys, (signal) => work(model(), signal));
}

/** How text is to be drawn, as the fields say; without a seed in its field, by chance. */
export function drawing(fields) {
  const numbers = ["temperature", "top_p", "max_tokens"].map((name) => [name, fields[name].valueAsNumber]);
  return { ...Object.fromEntries(numbers), ...(fields.seed.value !== "" && { seed: fields.seed.valueAsNumber }) };
}

/** The text of a field of many texts: its lines, without blank ones. Throws where there is none. */
export function linesOf(field) {
  const lines = field.value.split("\n").map((line) => line.trim()).filter(Boolean);
  if (lines.length === 0) lack(field);
  return lines;
}

/** Ask for texts `size` at a time, so that each request stays small, and show the answers as they come. */
export async function inParts(texts, size, place, ask) {
  place.replaceChildren();
  for (let from = 0; from < texts.length; from += size) place.append(...(await ask(texts.slice(from, from + size))));
}

/** The text of a field, as it is. Throws where there is none. */
export function textOf(field) {
  if (!field.value.trim()) lack(field);
  return field.value;
}

function lack(field) {
  field.focus();
  throw new Refused(say("error.empty"));
}

function explain(root, train) {
  const commands = train.map((command) => node("code", {}, command));
  root.querySelector(".lacking").replaceChildren(
    tell(node("h2"), "lacking"),
    tell(node("p"), `${root.id}.lacking`),
    ...(commands.length ? [node("pre", {}, ...commands)] : []),
  );
}

function offer(place, models, chosen) {
  const select = node("select", { name: "model" }, ...models.map((model) => node("option", { value: model.id }, model.id)));
  const about = node("p", { class: "about" });
  const current = () => models[select.selectedIndex];
  const show = () => {
    const { objective, model, parameters, window } = current().telos;
    tell(about, "model.about", { objective, model, parameters: large(parameters), window: number(window) });
    chosen(current());
  };
  select.addEventListener("change", show);
  place.append(node("label", { class: "field" }, tell(node("span"), "model"), select), about);
  show();
  return current;
}

/** Every slider says what it stands at. */
function follow(form) {
  for (const slider of form.querySelectorAll(".slider")) {
    const [input, output] = [slider.querySelector("input"), slider.querySelector("output")];
    const show = () => (output.textContent = number(input.valueAsNumber, Number(input.dataset.digits)));
    input.addEventListener("input", show);
    show();
  }
}

/** Buttons and keys that start the work and stop it. */
function request(root, form, keys, work) {
  const start = tell(node("button", { type: "submit", class: "primary" }), `${root.id}.send`);
  const stop = tell(node("button", { type: "button", class: "quiet stop" }), "stop");
  const status = node("p", { class: "status", role: "status" });
  const problem = node("div", { class: "problem", role: "alert" });
  const hint = tell(node("span", { class: "keys" }), keys);
  form.querySelector(".actions").append(start, stop, status, hint, problem);
  let running = null;
  busy(false);

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (running) return;
    running = new AbortController();
    busy(true);
    problem.textContent = "";
    tell(status, "working");
    const outcome = await tried(() => work(running.signal), running.signal);
    running = null;
    busy(false);
    if (outcome instanceof Error) problem.textContent = visible(outcome.message);
    if (typeof outcome === "string") tell(status, outcome);
    else hush(status);
  });
  stop.addEventListener("click", () => {
    running?.abort();
    start.focus();
  });
  root.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    if (event.key === "Escape") running?.abort();
  });

  function busy(now) {
    root.setAttribute("aria-busy", now);
    start.setAttribute("aria-disabled", now);
    stop.disabled = !now;
  }
}

/** The name of what to say when it is done or stopped, or the error that says why it is not. */
async function tried(work, signal) {
  try {
    await work();
    return "done";
  } catch (error) {
    if (signal.aborted) return "stopped";
    if (!(error instanceof Refused)) console.error(error); // ours: the page is wrong, not the reader or the server
    return error;
  }
}
