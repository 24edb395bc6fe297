// Insert each event of the page Activity when it happens, in its place and once.
import { follow, refreshTimes, say, setAway } from "./app.js";

const list = document.getElementById("entries");
const bar = document.getElementById("bar");
const pause = document.getElementById("pause");
const older = document.getElementById("older");
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
  if (isOnLaterPage(entry)) return;
  let before = list.firstElementChild;
  while (before && before.dataset.key > entry.dataset.key) before = before.nextElementSibling;
  if (before && before === list.firstElementChild && before.dataset.group === entry.dataset.group) merge(entry, before);
  else list.insertBefore(entry, before);
  entry.classList.add("new");
  if (list.children.length > MOST) shorten();
  document.getElementById("empty").hidden = true;
  refreshTimes(entry);
}

// Whether an event is older than all that this page shows: one of the past that was stored now.
function isOnLaterPage(entry) {
  const last = list.lastElementChild;
  return !older.hidden && last && !last.querySelector(".same") && entry.dataset.key < last.dataset.key;
}

// Remove the oldest events. The page after this one begins with them.
function shorten() {
  while (list.children.length > MOST) list.lastElementChild.remove();
  const next = new URL(older.href);
  next.searchParams.set("after", list.lastElementChild.dataset.after);
  older.href = next;
  older.hidden = false;
}

// The same event again: put the older one below the new one.
function merge(entry, before) {
  let same = before.querySelector(".same");
  if (!same) {
    same = document.createElement("details");
    same.className = "same";
    same.innerHTML = '<summary><span class="times">1</span> times, first <span class="first"></span></summary><ol></ol>';
    same.querySelector(".first").append(before.querySelector(".when time").cloneNode(true));
  }
  const item = document.createElement("li");
  item.dataset.id = before.dataset.id;
  const when = before.querySelector(".when");
  const link = document.createElement("a");
  link.href = when.href;
  link.append(when.querySelector("time"));
  item.append(link);
  same.querySelector("ol").prepend(item);
  const times = same.querySelector(".times");
  times.textContent = Number(times.textContent) + 1;
  entry.querySelector(".what").append(same);
  entry.dataset.after = before.dataset.after;
  before.replaceWith(entry);
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
  follow(() => `${list.dataset.live}&position=${position}`, {
    entry: (event) => {
      position = event.lastEventId || position;
      receive(event.data);
    },
    away: (event) => setAway(event.data),
    reload: () => location.reload(),
  });
}
