/** Judging: every line is a text, and gets a label with the probabilities of all, or none where the model is unsure. */

import { post } from "./api.js";
import { bar, node } from "./dom.js";
import { tell } from "./language.js";
import { percent } from "./numbers.js";
import { furnish, inParts, linesOf } from "./panel.js";

const AT_ONCE = 32; // texts in a request
const MOST = 8; // labels that are shown; the others together are one more

/** Furnish the panel. */
export function start(root, models) {
  const { input } = root.querySelector("form").elements;
  furnish(root, models, {
    needs: ["classify"],
    train: ["telos train classify-three data.path=reviews.csv", "telos serve runs/classify-three"],
    async work(model, signal) {
      await inParts(linesOf(input), AT_ONCE, root.querySelector(".results"), async (texts) => {
        const { data } = await post("/v1/classify", { model: model.id, input: texts }, signal);
        return data.map((one) => verdict(texts[one.index], one));
      });
    },
  });
}

function verdict(text, { label, probability, probabilities, abstained }) {
  const ranked = Object.entries(probabilities).sort(([, a], [, b]) => b - a);
  const rest = ranked.slice(MOST).reduce((sum, [, p]) => sum + p, 0);
  const rows = ranked.slice(0, MOST).map(([name, p]) => row(node("span", { dir: "auto" }, name), p, name === label));
  if (ranked.length > MOST) rows.push(row(tell(node("span"), "judge.rest", { number: ranked.length - MOST }), rest, false));
  const said = abstained
    ? tell(node("p", { class: "label unsure" }), "judge.abstained", { probability: percent(probability) })
    : node("p", { class: "label", dir: "auto" }, label ?? "–");
  return node("li", { class: "verdict" },
    node("p", { class: "source", dir: "auto" }, text), said, node("ul", { class: "shares" }, ...rows));
}

function row(name, probability, best) {
  return node("li", { class: best ? "share best" : "share" },
    name, bar(probability), node("span", { class: "figure" }, percent(probability)));
}
