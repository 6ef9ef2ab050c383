/**
 * What the page says, in the reader's language. An element that says something names it in `data-text` (or
 * `data-label`, `data-placeholder`), so that switching languages is filling all of them again.
 */

import { visible } from "./dom.js";
import { texts } from "./texts.js";

const REMEMBERED = "telos-language";
const PARTS = { text: "textContent", label: "aria-label", placeholder: "placeholder" };
const given = new WeakMap(); // element -> {part: values}

let language = remembered() ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");

/** A text by its name, with `{name}` filled in from `values`. */
export function say(name, values = {}) {
  const text = texts[language][name];
  if (text === undefined) throw new Error(`texts.js has no ${name}`);
  return text.replace(/\{(\w+)\}/g, (_, key) => visible(values[key]));
}

/** Let an element say a text, now and in whatever language is chosen later; returns the element. */
export function tell(element, name, values = {}, part = "text") {
  element.dataset[part] = name;
  given.set(element, { ...given.get(element), [part]: values });
  fill(element, part);
  return element;
}

/** Let an element say nothing. */
export function hush(element) {
  delete element.dataset.text;
  element.textContent = "";
}

/** Choose a language, remember it, and say everything on the page in it. */
export function speak(chosen = language) {
  language = chosen;
  document.documentElement.lang = { en: "en", zh: "zh-CN" }[language];
  for (const part of Object.keys(PARTS)) {
    for (const element of document.querySelectorAll(`[data-${part}]`)) fill(element, part);
  }
}

/** Let the button change between the two, and name the one that it changes to in that language itself. */
export function switchWith(button) {
  const dress = () => {
    const other = language === "zh" ? "en" : "zh";
    button.textContent = { en: "English", zh: "中文" }[other];
    button.lang = { en: "en", zh: "zh-CN" }[other];
  };
  button.addEventListener("click", () => {
    speak(language === "zh" ? "en" : "zh");
    remember(language);
    dress();
  });
  dress();
}

function fill(element, part) {
  const words = say(element.dataset[part], given.get(element)?.[part]);
  if (part === "text") element.textContent = words;
  else element.setAttribute(PARTS[part], words);
}

function remembered() {
  try {
    const kept = localStorage.getItem(REMEMBERED);
    return Object.hasOwn(texts, kept) ? kept : null;
  } catch {
    return null; // storage may be forbidden; then the browser's language it is
  }
}

function remember(chosen) {
  try {
    localStorage.setItem(REMEMBERED, chosen);
  } catch {
    // as above
  }
}
