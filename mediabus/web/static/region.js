// Keep the region of a page up to date, and press the buttons of Now without a reload.
import { follow, refreshTimes, say, setAway } from "./app.js";

const list = document.querySelector("[data-region]");

if (list) {
  follow(() => list.dataset.region, {
    region: (event) => {
      const fresh = document.createElement("div");
      fresh.innerHTML = event.data;
      refreshTimes(fresh);
      update(fresh);
      setAway("");
    },
  });
  if ("press" in list.dataset) list.addEventListener("submit", press);
}

// Show a new version of the region. An element that is moved loses the focus: give it back.
function update(fresh) {
  const focused = document.activeElement;
  mergeChildren(list, fresh);
  if (focused !== document.activeElement && focused.isConnected) focused.focus();
}

// Make `old` equal to `fresh`, and keep the elements that are the same: their focus, their open
// questions, and what a screen reader has read of them.
function merge(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (old.nodeType !== Node.ELEMENT_NODE || old.tagName !== fresh.tagName) {
    old.replaceWith(fresh);
    return;
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  mergeChildren(old, fresh);
}

function mergeChildren(old, fresh) {
  const wanted = new Set(Array.from(fresh.children, (child) => child.dataset.key));
  const keyed = new Map();
  for (const child of [...old.children]) {
    const { key } = child.dataset;
    if (!key) continue;
    if (wanted.has(key)) keyed.set(key, child);
    else child.remove();
  }
  let here = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const key = child.dataset?.key;
    const match = key ? keyed.get(key) : here;
    if (!match || (!key && match.dataset?.key)) {
      old.insertBefore(child, here);
      continue;
    }
    if (match === here) here = here.nextSibling;
    else old.insertBefore(match, here);
    merge(match, child);
  }
  while (here) {
    const next = here.nextSibling;
    here.remove();
    here = next;
  }
}

async function press(event) {
  event.preventDefault();
  const form = event.target;
  const button = event.submitter;
  const body = new URLSearchParams(new FormData(form, button));
  const words = button.textContent.trim().replace(/\s+/g, " ");
  if (form.ariaBusy) return;
  form.ariaBusy = "true"; // a disabled button would lose the focus
  try {
    const response = await fetch(form.action, { method: "POST", body });
    if (response.redirected && response.url.includes("/login")) location.assign(response.url);
    else if (response.ok) say(`${words}: done`);
    else say(await reason(response));
    form.closest("details")?.removeAttribute("open");
  } catch {
    say("mediabus does not answer. Try again in a moment.");
  }
  form.ariaBusy = null;
}

async function reason(response) {
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  return page.querySelector(".notice p")?.textContent ?? `${response.status} ${response.statusText}`;
}
