/** The server's API key: asked for when the server wants one, kept for this tab of the browser alone. */

import { tell } from "./language.js";

const KEPT = "telos-key";
let asking = null;

/** The key that the reader gives, or "" if they would rather not; `wrong` is one that was refused. */
export function askForKey(wrong) {
  const known = askForKey.known();
  if (known && known !== wrong) return Promise.resolve(known); // given meanwhile, for another request
  asking ??= ask(Boolean(wrong)).finally(() => (asking = null));
  return asking;
}

/** The key that was given before, or "". */
askForKey.known = () => {
  try {
    return sessionStorage.getItem(KEPT) ?? "";
  } catch {
    return ""; // storage may be forbidden; then it is asked for each time
  }
};

function ask(again) {
  const dialog = document.getElementById("key");
  const field = dialog.querySelector("input");
  tell(dialog.querySelector("#key-about"), again ? "key.wrong" : "key.about");
  field.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue ? keep(field.value.trim()) : ""), { once: true });
  });
}

function keep(key) {
  try {
    sessionStorage.setItem(KEPT, key);
  } catch {
    // as above
  }
  return key;
}
