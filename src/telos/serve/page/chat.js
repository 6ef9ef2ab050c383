/** Chatting: with each message all that was said before goes to the model, and its answer is shown as it comes. */

import { stream } from "./api.js";
import { node } from "./dom.js";
import { growing } from "./growing.js";
import { hush, tell } from "./language.js";
import { number } from "./numbers.js";
import { drawing, furnish, textOf } from "./panel.js";

const WHO = { user: "chat.user", assistant: "chat.assistant" };
const NEAR = 48; // pixels from its end, within which the conversation keeps showing what is said last

/** Furnish the panel. */
export function start(root, models) {
  const form = root.querySelector("form");
  let talk = new Talk(root);
  furnish(root, models, {
    needs: ["chat"],
    train: ["telos train instruct model.from=runs/my-texts data.path=talks.jsonl name=my-assistant", "telos serve runs/my-assistant"],
    keys: "chat.keys",
    work: (model, signal) => talk.ask(model, signal),
  });
  form.addEventListener("invalid", () => (form.querySelector(".more").open = true), true); // or it is not seen
  root.querySelector(".anew").addEventListener("click", () => {
    form.querySelector(".stop").click();
    talk = new Talk(root);
    form.elements.input.focus();
  });
  form.elements.input.addEventListener("keydown", (event) => {
    const writes = event.shiftKey || event.ctrlKey || event.metaKey || event.isComposing; // an input method's Enter chooses
    if (event.key !== "Enter" || writes) return;
    event.preventDefault();
    form.requestSubmit();
  });
}

/** One conversation; where it is shown, it takes the place of the one before. */
class Talk {
  #fields;
  #root;
  #end; // of the panel
  #box; // which scrolls
  #place;
  #said = []; // {role, content}, as the model is told it

  constructor(root) {
    this.#fields = root.querySelector("form").elements;
    this.#root = root.querySelector(".talk");
    this.#end = root.querySelector(".actions");
    this.#box = root.querySelector(".turns");
    this.#place = node("div");
    this.#box.replaceChildren(this.#place);
    this.#root.hidden = true;
    hush(this.#root.querySelector(".used"));
  }

  /** Say what stands in the field. Where no answer comes to it, it was not said, and stands in the field again. */
  async ask(model, signal) {
    const asked = { role: "user", content: textOf(this.#fields.input) };
    const request = this.#request(model, asked);
    const question = turn("user", node("p", { class: "text", dir: "auto" }, asked.content));
    const answer = growing(turn("assistant"));
    this.#fields.input.value = "";
    this.#root.hidden = false;
    this.#place.append(question, answer.element);
    this.#box.scrollTop = this.#box.scrollHeight;
    this.#end.scrollIntoView({ block: "nearest" });
    try {
      for await (const event of stream("/v1/chat/completions", request, signal)) this.#take(model, event, answer);
    } finally {
      if (answer.end()) this.#said.push(asked, { role: "assistant", content: answer.text });
      else this.#unsay(question, asked.content);
    }
  }

  /** The request as the server wants it. */
  #request(model, asked) {
    const system = this.#fields.system.value.trim();
    return {
      model: model.id,
      messages: [...(system ? [{ role: "system", content: system }] : []), ...this.#said, asked],
      ...drawing(this.#fields),
      stream_options: { include_usage: true },
    };
  }

  #take({ telos }, { choices, usage }, answer) {
    const box = this.#box;
    const follows = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR;
    for (const { delta, finish_reason: reason } of choices) answer.take(delta.content, reason);
    if (follows) box.scrollTop = box.scrollHeight;
    if (usage && this.#place.isConnected) used(this.#root.querySelector(".used"), usage.total_tokens, telos.reach);
  }

  #unsay(question, text) {
    question.remove();
    if (!this.#place.isConnected) return; // another conversation has begun
    this.#root.hidden = this.#said.length === 0;
    this.#fields.input.value ||= text;
  }
}

/** What one of them says. */
function turn(role, ...said) {
  return node("div", { class: `turn ${role}` }, tell(node("p", { class: "who" }), WHO[role]), ...said);
}

/** How much of what the model can see the conversation takes; without a limit, nothing is said. */
function used(place, tokens, reach) {
  if (!reach) return hush(place);
  tell(place, tokens > reach ? "chat.forgotten" : "chat.used", { tokens: number(tokens), reach: number(reach) });
}
