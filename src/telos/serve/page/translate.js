/** Translating: every line is a sentence, and has its best translations with their scores. */

import { post } from "./api.js";
import { node } from "./dom.js";
import { tell } from "./language.js";
import { number } from "./numbers.js";
import { furnish, inParts, linesOf } from "./panel.js";

const AT_ONCE = 8; // sentences in a request

/** Furnish the panel. */
export function start(root, models) {
  const { input, n } = root.querySelector("form").elements;
  furnish(root, models, {
    needs: ["translate"],
    train: ["telos train translate-de-en data.path=train.de data.validation=val.de data.test=test.de", "telos serve runs/translate-de-en"],
    async work(model, signal) {
      await inParts(linesOf(input), AT_ONCE, root.querySelector(".results"), async (lines) => {
        const { data } = await post("/v1/translate", { model: model.id, input: lines, n: n.valueAsNumber }, signal);
        return data.map((one) => sentence(lines[one.index], one.translations));
      });
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
