/** A text while a model writes it: it grows, says at last how it ended, and can be copied. */

import { node, visible } from "./dom.js";
import { tell } from "./language.js";

const FINISHED = { stop: "write.finished.stop", length: "write.finished.length" };

/** Let it grow in an element. What was given before and after it is pale, what the model writes is not. */
export function growing(element, before = "", after = "") {
  let text = "";
  const written = node("span", { class: "written" });
  const foot = tell(node("span"), "write.writing");
  const copy = tell(node("button", { type: "button", class: "quiet copy" }), "copy");
  const given = (part) => node("span", { class: "given" }, part);
  element.classList.add("growing");
  element.append(
    node("p", { class: "text", dir: "auto" }, given(before), written, given(after)),
    node("footer", {}, foot, copy));
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(before + text + after);
    tell(copy, "copied");
  });
  copy.hidden = !navigator.clipboard; // browsers give it to secure pages and to this machine's own alone
  return {
    element,
    /** What the model wrote, as it is. */
    get text() {
      return text;
    },
    /** Some more of it, or nothing; and why it ended, if it did. */
    take(piece, reason) {
      text += piece ?? "";
      written.textContent = visible(text);
      if (reason) tell(foot, FINISHED[reason] ?? "done");
    },
    /** No more comes. Returns whether there is anything to keep: an end that the model came to, or some text. */
    end() {
      element.classList.remove("growing");
      if (foot.dataset.text !== "write.writing") return true;
      if (text) tell(foot, "stopped");
      else element.remove();
      return text !== "";
    },
  };
}
