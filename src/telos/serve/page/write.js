/** Writing: a prompt goes in, samples come out as they are written. */

import { stream } from "./api.js";
import { node } from "./dom.js";
import { growing } from "./growing.js";
import { drawing, furnish } from "./panel.js";

const MODES = { on: "complete", gap: "infill" };

/** Furnish the panel. */
export function start(root, models) {
  const form = root.querySelector("form");
  furnish(root, models, {
    needs: Object.values(MODES),
    train: ["telos train my-texts/", "telos serve runs/my-texts"],
    work: (model, signal) => write(root, asked(form, model), signal),
    chosen: (model) => limit(form, model.telos.capabilities),
  });
  form.addEventListener("change", () => show(form));
}

/** Only what the model can do may be chosen. */
function limit(form, capabilities) {
  const can = Object.keys(MODES).filter((mode) => capabilities.includes(MODES[mode]));
  for (const radio of form.elements.mode) radio.disabled = !can.includes(radio.value);
  if (!can.includes(form.elements.mode.value)) form.elements.mode.value = can[0];
  form.querySelector("#how").hidden = can.length < 2 && can[0] === "on";
  show(form);
}

function show(form) {
  form.querySelector("#after").hidden = form.elements.mode.value !== "gap";
}

/** The request as the server wants it. */
function asked(form, model) {
  const fields = form.elements;
  return {
    model: model.id,
    prompt: fields.prompt.value,
    ...(fields.mode.value === "gap" && { suffix: fields.suffix.value }),
    ...drawing(fields),
    n: fields.n.valueAsNumber,
  };
}

async function write(root, request, signal) {
  const samples = Array.from({ length: request.n }, () =>
    growing(node("li", { class: "sample" }), request.prompt, request.suffix));
  root.querySelector(".samples").replaceChildren(...samples.map((one) => one.element));
  try {
    for await (const event of stream("/v1/completions", request, signal)) {
      for (const { index, text, finish_reason: reason } of event.choices) samples[index]?.take(text, reason);
    }
  } finally {
    samples.forEach((one) => one.end());
  }
}
