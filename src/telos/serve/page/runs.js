/** Watching: the runs in the server's folder, and the curves of one of them as it trains. */

import { get, Refused } from "./api.js";
import { draw } from "./chart.js";
import { node, visible } from "./dom.js";
import { tell } from "./language.js";
import { number } from "./numbers.js";

const EVERY = 2000; // milliseconds between two looks
const SERIES = { loss: "loss", validation: "validation.loss" };

/** Furnish the panel; returns what to do when it is shown and when it is hidden. */
export function start(root) {
  const watch = new Watch(root);
  document.addEventListener("visibilitychange", () => watch.wake());
  return { shown: (now) => watch.show(now) };
}

class Watch {
  #root;
  #shown = false;
  #looking = false;
  #timer = 0;
  #runs = [];
  #entries = new Map(); // id -> what stands in the list
  #curves = null; // of the run that is watched

  constructor(root) {
    this.#root = root;
  }

  show(now) {
    this.#shown = now;
    this.wake();
  }

  /** Look now, and again every so often, as long as somebody is there to see it. */
  async wake() {
    clearTimeout(this.#timer);
    if (!this.#shown || document.hidden || this.#looking) return;
    this.#looking = true;
    await this.#tried(() => this.#look());
    this.#looking = false;
    this.#timer = setTimeout(() => this.wake(), EVERY);
  }

  async #tried(work) {
    const problem = this.#root.querySelector(".problem");
    const say = (text) => problem.textContent === text || (problem.textContent = text); // told once, not every look
    try {
      await work();
      say("");
    } catch (error) {
      if (!(error instanceof Refused)) console.error(error);
      say(visible(error.message));
    }
  }

  async #look() {
    const { data } = await get("/v1/runs");
    this.#runs = data;
    this.#root.querySelector(".nothing").hidden = data.length > 0;
    this.#root.querySelector(".watching").hidden = data.length === 0;
    if (data.length && !this.#chosen()) this.#curves = new Curves(newest(data).id);
    this.#curves?.check(this.#chosen()?.step);
    this.#list();
    await this.#follow();
  }

  #chosen() {
    return this.#runs.find((run) => run.id === this.#curves?.id);
  }

  async #choose(id) {
    this.#curves = new Curves(id);
    this.#list();
    this.#show();
    await this.#tried(() => this.#follow());
  }

  /** Read on where reading stopped, until there is no more. */
  async #follow() {
    const curves = this.#curves;
    for (let more = curves !== null; more; ) {
      more = await curves.read();
      if (curves !== this.#curves) return; // another was chosen meanwhile
      this.#show();
    }
  }

  /** Bring the list up to date. Entries stay the same elements, or a click or the focus on one would be lost. */
  #list() {
    for (const run of this.#runs) {
      if (!this.#entries.has(run.id)) this.#entries.set(run.id, entry(run, () => this.#choose(run.id)));
      this.#entries.get(run.id).update(run, run.id === this.#curves?.id);
    }
    const list = this.#root.querySelector(".list");
    const wanted = this.#runs.map((run) => this.#entries.get(run.id).element);
    if (wanted.length !== list.children.length || wanted.some((one, i) => one !== list.children[i])) {
      list.replaceChildren(...wanted);
      list.scrollTop = this.#entries.get(this.#curves?.id)?.element.offsetTop - list.offsetTop || 0;
    }
  }

  #show() {
    const place = this.#root.querySelector(".curves");
    const run = this.#chosen();
    place.hidden = !run;
    if (!run) return;
    place.querySelector("h2").textContent = visible(run.name);
    place.querySelector(".figures").replaceChildren(...this.#curves.figures());
    draw(place.querySelector(".canvas"), place.querySelector(".readout"), this.#curves.points);
  }
}

function entry(run, choose) {
  const state = node("span", { class: "state" });
  const button = node("button", { type: "button", class: "run" },
    node("b", { dir: "auto" }, run.name), node("span", {}, [run.objective, run.model].filter(Boolean).join(" · ")), state);
  button.addEventListener("click", choose);
  return {
    element: node("li", {}, button),
    update({ finished, step }, chosen) {
      button.setAttribute("aria-pressed", chosen);
      state.classList.toggle("finished", finished);
      tell(state, finished ? "runs.finished" : "runs.unfinished", { step: number(step) });
    },
  };
}

/** A run that still trains, or else the last. */
function newest(runs) {
  return runs.findLast((run) => !run.finished) ?? runs.at(-1);
}

/** What is known of a run's course. */
class Curves {
  points = { loss: [], validation: [] };
  #next = 0;
  #last = {};
  #reading = null;

  constructor(id) {
    this.id = id;
  }

  /** Read what was logged since; whether there was anything. Two who ask at once get the same answer. */
  read() {
    this.#reading ??= this.#read().finally(() => (this.#reading = null));
    return this.#reading;
  }

  async #read() {
    const { lines, next } = await get(`/v1/runs/${encodeURIComponent(this.id)}/metrics?after=${this.#next}`);
    this.#next = next;
    lines.forEach((line) => this.#add(line));
    return lines.length > 0;
  }

  /** A run that is at an earlier step than was read went back, or is another of that name: read it anew. */
  check(step) {
    if (typeof step !== "number" || !(step < this.#last.step)) return;
    this.points = { loss: [], validation: [] };
    this.#last = {};
    this.#next = 0;
  }

  #add(line) {
    if (typeof line?.step !== "number") return;
    Object.assign(this.#last, Object.fromEntries(Object.entries(line).filter(([, value]) => value !== null)));
    for (const [name, key] of Object.entries(SERIES)) {
      if (typeof line[key] !== "number") continue;
      const points = this.points[name];
      while (points.length && points.at(-1)[0] >= line.step) points.pop(); // the run went back to a checkpoint
      points.push([line.step, line[key]]);
    }
  }

  figures() {
    const known = [
      ["runs.step", number(this.#last.step)],
      ["runs.loss", number(this.#last.loss, 3)],
      ["runs.validation_loss", number(this.#last[SERIES.validation], 3)],
      ["runs.speed", number(this.#last.tokens_per_second)],
    ];
    return known.map(([name, value]) => node("div", {}, tell(node("dt"), name), node("dd", {}, value)));
  }
}
