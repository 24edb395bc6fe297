// Keep the relative times of a page current.
export function ago(seconds) {
  if (seconds < 1) return "now";
  if (seconds < 59.5) return `${Math.round(seconds)} s ago`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min ago`;
  if (minutes < 1440) return `${two(minutes, 60, "h", "min")} ago`;
  return `${two(Math.floor(minutes / 60), 24, "d", "h")} ago`;
}

function two(count, size, large, small) {
  const rest = count % size;
  return `${Math.floor(count / size)} ${large}${rest ? ` ${rest} ${small}` : ""}`;
}

export function refreshTimes(root = document) {
  for (const time of root.querySelectorAll("time[data-ago], time[data-for]")) {
    const past = ago((Date.now() - Date.parse(time.dateTime)) / 1000);
    const text = "ago" in time.dataset ? past : past.replace(" ago", "").replace("now", "a moment");
    if (time.textContent !== text) time.textContent = text;
  }
}

export function say(text) {
  document.getElementById("said").textContent = text;
}

export function setAway(text) {
  const away = document.getElementById("away");
  away.hidden = !text;
  away.querySelector("p").textContent = text;
}

// Follow what the server sends to a page, for as long as the page is open. A browser gives up when
// something else than a stream answers, as while mediabus starts.
export function follow(address, handlers) {
  const source = new EventSource(address());
  for (const [name, handle] of Object.entries(handlers)) source.addEventListener(name, handle);
  source.addEventListener("error", () => {
    setAway("mediabus does not answer. This page continues by itself when it is back.");
    if (source.readyState !== EventSource.CLOSED) return;
    setTimeout(() => follow(address, handlers), 1000 + Math.random() * 1000);
  });
}

refreshTimes();
setInterval(refreshTimes, 10_000);
