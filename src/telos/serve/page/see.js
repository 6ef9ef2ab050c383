/** Seeing: how surprised the model is by each token of a text, and what it would have said in its place. */

import { post } from "./api.js";
import { bar, node, piece } from "./dom.js";
import { tell } from "./language.js";
import { number, percent } from "./numbers.js";
import { furnish, textOf } from "./panel.js";

const HEATS = 10; // shades: one for each nat of surprisal, the last for all from there on
const TOP = 10;
const KINDS = { exact: "see.exact", bound: "see.bound", pseudo: "see.pseudo" };

/** Furnish the panel. */
export function start(root, models) {
  const { input } = root.querySelector("form").elements;
  const tokens = root.querySelector(".tokens");
  const scale = Array.from({ length: HEATS }, (_, heat) => node("i", { class: `heat-${heat}` }));
  root.querySelector(".scale").append(...scale);
  root.querySelector("#numbers").addEventListener("change", (event) => {
    tokens.classList.toggle("numbered", event.target.checked);
  });
  move(root, tokens);
  furnish(root, models, {
    needs: ["score"],
    train: ["telos train my-texts/", "telos serve runs/my-texts"],
    async work(model, signal) {
      const { data } = await post("/v1/score", { model: model.id, input: textOf(input), top: TOP }, signal);
      show(root, data[0]);
    },
  });
}

function show(root, scored) {
  root.querySelector(".seen").hidden = false;
  root.querySelector(".figures").replaceChildren(...figures(scored));
  root.querySelector(".alternatives").replaceChildren();
  const elements = scored.tokens.map((token) => element(token, () => alternatives(root, token)));
  elements[0]?.setAttribute("tabindex", "0");
  root.querySelector(".tokens").replaceChildren(...elements);
}

function figures({ kind, nats, bits_per_byte: bits, tokens }) {
  const figure = (name, value) => node("div", {}, tell(node("dt"), name), node("dd", {}, value));
  const kindOf = tell(node("p", { class: "about" }), KINDS[kind] ?? "see.exact");
  return [
    figure("see.nats", number(nats, 2)),
    figure("see.bits", number(bits, 3)),
    figure("see.count", number(tokens.length)),
    node("div", { class: "kind" }, kindOf),
  ];
}

/** A token that can be pressed. It is no <button>, because those do not break into lines as text does. */
function element(token, open) {
  const scored = typeof token.nats === "number";
  const heat = scored ? Math.min(HEATS - 1, Math.max(0, Math.round(token.nats))) : "none";
  const made = node("span", {
    class: `token heat-${heat}`, role: "button", tabindex: "-1", "aria-pressed": "false",
    "data-nats": scored ? number(token.nats, 1) : "",
  }, token.text === "" ? "▫" : token.text.replace(/\n/g, "↵\n"));
  const about = scored ? "see.token" : "see.token.unscored";
  tell(made, about, { text: piece(token.text), nats: number(token.nats, 2) }, "label");
  made.addEventListener("click", () => {
    choose(made);
    open();
    made.scrollIntoView({ block: "nearest" }); // on a phone what has opened lies over the end of the text
  });
  return made;
}

function choose(chosen) {
  for (const one of chosen.parentElement.children) {
    one.setAttribute("aria-pressed", one === chosen);
    one.setAttribute("tabindex", one === chosen ? "0" : "-1");
  }
}

function alternatives(root, token) {
  const place = root.querySelector(".alternatives");
  const close = tell(node("button", { type: "button", class: "quiet" }), "see.close");
  close.addEventListener("click", () => shut(root));
  const rows = (token.top ?? []).map((one) => {
    const own = one.id === token.id;
    return node("li", { class: own ? "share best" : "share" },
      node("span", { class: "piece", dir: "auto" }, piece(one.text)),
      bar(Math.exp(one.logprob)), node("span", { class: "figure" }, percent(Math.exp(one.logprob))));
  });
  place.replaceChildren(
    node("header", {}, node("h2", { dir: "auto" }, piece(token.text)), close),
    surprise(token),
    tell(node("p", { class: "about" }), rows.length ? "see.alternatives" : "see.no_alternatives"),
    node("ol", { class: "shares" }, ...rows),
  );
}

function surprise({ nats }) {
  if (typeof nats !== "number") return tell(node("p"), "see.unscored");
  return tell(node("p"), "see.surprise", { nats: number(nats, 2), probability: percent(Math.exp(-nats)) });
}

function shut(root) {
  root.querySelector(".alternatives").replaceChildren();
  const chosen = root.querySelector('.token[aria-pressed="true"]');
  chosen?.setAttribute("aria-pressed", "false");
  chosen?.focus();
}

/** Keys among the tokens: arrows, Home and End move; Enter and the space bar press; Escape closes. */
function move(root, tokens) {
  root.addEventListener("keydown", (event) => {
    if (event.key === "Escape") shut(root);
    const all = [...tokens.children];
    const at = all.indexOf(event.target);
    if (at < 0) return;
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
    const press = event.key === "Enter" || event.key === " ";
    if (to === undefined && !press) return;
    event.preventDefault();
    if (press) return event.target.click();
    const next = all[to];
    if (!next) return;
    event.target.setAttribute("tabindex", "-1");
    next.setAttribute("tabindex", "0");
    next.focus();
  });
}
