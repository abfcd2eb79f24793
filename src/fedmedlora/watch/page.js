"use strict";
(() => {
  const EVERY_MS = 2000;
  const lost = document.getElementById("lost");
  let known = null;   // what /status.json said last
  let ahead_ms = 0;   // of the server's clock before ours

  // What is here becomes what is there; whatever is the same stays, and with it focus, scrolling, open folds.
  const become = (here, there) => {
    if (here.nodeType !== there.nodeType || here.nodeName !== there.nodeName) {
      here.replaceWith(document.adoptNode(there));
      return;
    }
    if (here.nodeType !== Node.ELEMENT_NODE) {
      if (here.data !== there.data) here.data = there.data;
      return;
    }
    for (const { name, value } of there.attributes) {
      if (here.getAttribute(name) !== value) here.setAttribute(name, value);
    }
    for (const { name } of [...here.attributes]) {
      if (name !== "open" && !there.hasAttribute(name)) here.removeAttribute(name);
    }
    const ours = [...here.childNodes];
    const theirs = [...there.childNodes];
    theirs.forEach((one, place) => {
      if (place < ours.length) become(ours[place], one);
      else here.append(document.adoptNode(one));
    });
    ours.slice(theirs.length).forEach((one) => one.remove());
  };

  const ago = (seconds) => {
    if (seconds < 90) return `${seconds} s ago`;
    if (seconds < 90 * 60) return `${Math.floor(seconds / 60)} min ago`;
    if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h ago`;
    return `${Math.floor(seconds / 86400)} days ago`;
  };

  const tick = () => {
    for (const one of document.querySelectorAll("time")) {
      const told = ago(Math.max(0, Math.floor((Date.now() + ahead_ms - Date.parse(one.dateTime)) / 1000)));
      if (one.textContent !== told) one.textContent = told;
    }
  };

  const ask = async (path) => {
    const answer = await fetch(path, { cache: "no-store", redirect: "error" });
    const date = Date.parse(answer.headers.get("Date"));
    if (!Number.isNaN(date)) ahead_ms = date - Date.now();
    return answer.text();
  };

  const poll = async () => {
    try {
      const told = await ask("/status.json");
      if (told !== known) {
        const fresh = new DOMParser().parseFromString(await ask("/"), "text/html");
        for (const here of document.querySelectorAll("[data-live]")) {
          const there = fresh.querySelector(`[data-live="${here.dataset.live}"]`);
          if (there) become(here, there);
        }
        document.title = fresh.title;
        known = told;
      }
      lost.hidden = true;
    } catch {
      lost.hidden = false;
    }
    tick();
    setTimeout(poll, EVERY_MS);
  };

  setInterval(tick, 1000);
  poll();
})();
