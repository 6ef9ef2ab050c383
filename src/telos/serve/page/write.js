/** Writing: a prompt goes in, samples come out as they are written. */

import { stream } from "./api.js";
import { node, visible } from "./dom.js";
import { tell } from "./language.js";
import { furnish } from "./panel.js";

const MODES = { on: "complete", gap: "infill" };
const FINISHED = { stop: "write.finished.stop", length: "write.finished.length" };

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
  const numbers = ["temperature", "top_p", "max_tokens", "n"].map((name) => [name, fields[name].valueAsNumber]);
  return {
    model: model.id,
    prompt: fields.prompt.value,
    ...(fields.mode.value === "gap" && { suffix: fields.suffix.value }),
    ...(fields.seed.value !== "" && { seed: fields.seed.valueAsNumber }),
    ...Object.fromEntries(numbers),
  };
}

async function write(root, request, signal) {
  const samples = Array.from({ length: request.n }, () => sample(request.prompt, request.suffix ?? ""));
  root.querySelector(".samples").replaceChildren(...samples.map((one) => one.element));
  try {
    for await (const event of stream("/v1/completions", request, signal)) {
      for (const choice of event.choices) samples[choice.index]?.take(choice);
    }
  } finally {
    samples.forEach((one) => one.end());
  }
}

/** A sample that grows: what was given is pale, what the model wrote is not. */
function sample(prompt, suffix) {
  let text = "";
  const written = node("span", { class: "written" });
  const foot = tell(node("span"), "write.writing");
  const copy = tell(node("button", { type: "button", class: "quiet copy" }), "copy");
  const body = node("p", { class: "text", dir: "auto" },
    node("span", { class: "given" }, prompt), written, node("span", { class: "given" }, suffix));
  const element = node("li", { class: "sample growing" }, body, node("footer", {}, foot, copy));
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(prompt + text + suffix);
    tell(copy, "copied");
  });
  copy.hidden = !navigator.clipboard; // browsers give it to secure pages and to this machine's own alone
  return {
    element,
    take(choice) {
      text += choice.text ?? "";
      written.textContent = visible(text);
      if (choice.finish_reason) tell(foot, FINISHED[choice.finish_reason] ?? "done");
    },
    end() {
      element.classList.remove("growing");
      if (foot.dataset.text !== "write.writing") return;
      if (text) tell(foot, "stopped");
      else element.remove();
    },
  };
}
