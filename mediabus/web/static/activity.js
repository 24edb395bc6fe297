// Insert each event of the page Activity when it happens, in its place and once.
import { refreshTimes, say } from "./app.js";

const list = document.getElementById("entries");
const bar = document.getElementById("bar");
const away = document.getElementById("away");
const pause = document.getElementById("pause");
const MOST = 500;

let waiting = [];
let position = list.dataset.position;
let paused = false;

function known(id) {
  return list.querySelector(`[data-id="${CSS.escape(id)}"]`) || waiting.some((entry) => entry.dataset.id === id);
}

function parse(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content.querySelector("li");
}

function insert(entry) {
  let before = list.firstElementChild;
  while (before && before.dataset.key > entry.dataset.key) before = before.nextElementSibling;
  if (before && before === list.firstElementChild && before.dataset.group === entry.dataset.group) merge(entry, before);
  else list.insertBefore(entry, before);
  entry.classList.add("new");
  while (list.children.length > MOST) list.lastElementChild.remove();
  document.getElementById("empty").hidden = true;
  refreshTimes(entry);
}

// The same event again: put the older one below the new one.
function merge(entry, older) {
  let same = older.querySelector(".same");
  if (!same) {
    same = document.createElement("details");
    same.className = "same";
    same.innerHTML = '<summary><span class="times">1</span> times, first <span class="first"></span></summary><ol></ol>';
    same.querySelector(".first").append(older.querySelector(".when time").cloneNode(true));
  }
  const item = document.createElement("li");
  item.dataset.id = older.dataset.id;
  const when = older.querySelector(".when");
  const link = document.createElement("a");
  link.href = when.href;
  link.append(when.querySelector("time"));
  item.append(link);
  same.querySelector("ol").prepend(item);
  const times = same.querySelector(".times");
  times.textContent = Number(times.textContent) + 1;
  entry.querySelector(".what").append(same);
  older.replaceWith(entry);
}

function isHeld() {
  return paused || list.getBoundingClientRect().top < 0;
}

function receive(html) {
  const entry = parse(html);
  if (!entry || known(entry.dataset.id)) return;
  if (isHeld()) {
    waiting.push(entry);
    showBar();
  } else insert(entry);
}

function showBar() {
  bar.hidden = waiting.length === 0;
  document.getElementById("show-new").textContent = `${waiting.length} new`;
}

function release() {
  waiting.forEach(insert);
  waiting = [];
  showBar();
}

function setPaused(value) {
  paused = value;
  pause.setAttribute("aria-pressed", String(value));
  pause.firstChild.textContent = value ? "Resume " : "Pause ";
  say(value ? "Paused" : "Live");
  if (!value) release();
}

function setAway(text) {
  away.hidden = !text;
  away.querySelector("p").textContent = text;
}

function open() {
  const source = new EventSource(`${list.dataset.live}&position=${position}`);
  source.addEventListener("entry", (event) => {
    position = event.lastEventId || position;
    receive(event.data);
  });
  source.addEventListener("away", (event) => setAway(event.data));
  source.addEventListener("reload", () => location.reload());
  source.addEventListener("error", () => {
    setAway("mediabus does not answer. This page continues by itself when it is back.");
    if (source.readyState !== EventSource.CLOSED) return;
    setTimeout(open, 1000 + Math.random() * 1000);
  });
}

if (list.dataset.live) {
  document.querySelector(".live-state").hidden = false;
  document.getElementById("show-new").addEventListener("click", () => {
    release();
    window.scrollTo({ top: 0 });
    list.querySelector("a")?.focus({ preventScroll: true });
  });
  pause.addEventListener("click", () => setPaused(!paused));
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, select, textarea, [contenteditable]");
    if (event.key.toLowerCase() === "p" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) setPaused(!paused);
  });
  window.addEventListener("scroll", () => {
    if (waiting.length && !isHeld()) release();
  }, { passive: true });
  open();
}
