/** Translating: every line is a sentence, and has its best translations with their scores. */

import { post } from "./api.js";
import { node } from "./dom.js";
import { tell } from "./language.js";
import { number } from "./numbers.js";
import { furnish, linesOf } from "./panel.js";

/** Furnish the panel. */
export function start(root, models) {
  const { input, n } = root.querySelector("form").elements;
  furnish(root, models, {
    needs: ["translate"],
    async work(model, signal) {
      const lines = linesOf(input);
      const { data } = await post("/v1/translate", { model: model.id, input: lines, n: n.valueAsNumber }, signal);
      root.querySelector(".results").replaceChildren(...data.map((one) => sentence(lines[one.index], one.translations)));
    },
  });
}

function sentence(source, translations) {
  const ways = translations.map(({ text, score }) =>
    node("li", {},
      node("span", { class: "text", dir: "auto" }, text),
      tell(node("span", { class: "score" }), "translate.score", { score: number(score, 2) })));
  return node("li", { class: "sentence" }, node("p", { class: "source", dir: "auto" }, source), node("ol", {}, ...ways));
}
