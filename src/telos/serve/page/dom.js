/**
 * Building the page out of nodes. Text of models and of training is hostile: it only ever becomes a text node or
 * the value of a harmless attribute, and nothing in this folder reads markup.
 */

const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}]/gu;
const SHOWN = "\n\t\u200c\u200d"; // joiners are part of emoji and of Arabic and Indic words
const ATTRIBUTES = /^(aria-[a-z]+|data-[a-z]+|class|d|dir|id|name|role|tabindex|type|value|viewBox|[xy][12]?|c[xy]|r|width|height)$/;

/** The text with control and invisible characters, which could reorder it, as their code: `⟦U+202E⟧`. */
export function visible(text) {
  return String(text).replace(HIDDEN, (c) =>
    SHOWN.includes(c) ? c : `⟦U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟧`);
}

/** An element with attributes and children; a child that is no node is text. */
export function node(tag, attributes = {}, ...children) {
  return grown(document.createElement(tag), attributes, children);
}

/** The same for drawings. */
export function shape(tag, attributes = {}, ...children) {
  return grown(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function grown(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (!ATTRIBUTES.test(name)) throw new Error(`dom.js makes no attribute ${name}`);
    element.setAttribute(name, visible(value));
  }
  element.append(...children.map((child) => (child instanceof Node ? child : visible(child))));
  return element;
}

/** A token as a word of its own: blanks at its ends, line ends and tabs as signs, and one for a part of a character. */
export function piece(text) {
  if (text === "") return "▫";
  const edges = text.replace(/^ +| +$/g, (blanks) => "␣".repeat(blanks.length));
  return visible(edges.replace(/\n/g, "↵").replace(/\t/g, "⇥"));
}

/** A bar as long as its share of 1; what it says stands beside it as text. */
export function bar(share) {
  const filled = node("i");
  filled.style.width = `${100 * Math.max(0, Math.min(1, share))}%`;
  return node("span", { class: "bar", "aria-hidden": "true" }, filled);
}
