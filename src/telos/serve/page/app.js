/** The page of `telos serve`: what the server can do, and one panel for each. */

import { get, Refused } from "./api.js";
import { node } from "./dom.js";
import { speak, switchWith, tell } from "./language.js";
import * as chat from "./chat.js";
import * as judge from "./judge.js";
import * as runs from "./runs.js";
import * as see from "./see.js";
import * as translate from "./translate.js";
import * as write from "./write.js";

const PANELS = { write, chat, translate, judge, see, runs };
const tabs = [...document.querySelectorAll('[role="tab"]')];
const panelOf = (tab) => document.getElementById(tab.getAttribute("aria-controls"));
let furnished = {}; // what each panel does when it is shown

speak();
switchWith(document.getElementById("language"));
tabs.forEach((tab) => tab.addEventListener("click", () => select(tab)));
document.querySelector('[role="tablist"]').addEventListener("keydown", step);
window.addEventListener("hashchange", () => select(asked()));
select(asked());
await begin();

/** The tab that the address names, or the first. */
function asked() {
  return tabs.find((tab) => address(tab) === location.hash) ?? tabs[0];
}

/** No panel's own id, or the browser would go there, past the tabs. */
function address(tab) {
  return `#/${panelOf(tab).id}`;
}

function select(chosen) {
  for (const tab of tabs) {
    const now = tab === chosen;
    tab.setAttribute("aria-selected", now);
    tab.tabIndex = now ? 0 : -1;
    panelOf(tab).hidden = !now;
    furnished[panelOf(tab).id]?.shown?.(now);
  }
  history.replaceState(null, "", address(chosen));
}

/** Arrows, Home and End go from tab to tab; only the chosen one is on the way of the Tab key. */
function step(event) {
  const at = tabs.indexOf(document.activeElement);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: -1 }[event.key];
  if (at < 0 || to === undefined) return;
  event.preventDefault();
  const next = tabs.at(to % tabs.length);
  select(next);
  next.focus();
}

/** Ask which models there are, and furnish the panels; or say what is wrong and offer to ask again. */
async function begin() {
  const models = await get("/v1/models").then(({ data }) => data, complain);
  if (!models) return;
  furnished = Object.fromEntries(
    Object.entries(PANELS).map(([id, panel]) => [id, panel.start(document.getElementById(id), models)]));
  select(tabs.find((tab) => tab.tabIndex === 0));
}

function complain(error) {
  if (!(error instanceof Refused)) console.error(error);
  const again = tell(node("button", { type: "button", class: "primary" }), "again");
  const notice = node("div", { class: "notice", role: "alert" }, node("p", {}, error.message), again);
  again.addEventListener("click", () => {
    notice.remove();
    begin();
  });
  document.querySelector("main").prepend(notice);
}
