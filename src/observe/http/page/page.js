"use strict";
(() => {
  const EVERY = 5000;
  // Of a plugin that does not answer within this time it is said.
  const DEADLINE = 8000;
  const asOf = () => document.querySelector("#as-of time");
  const stale = document.getElementById("stale");
  const button = document.getElementById("pause");
  let paused = false;
  let busy = false;
  // When the answer that is shown came.
  let shown = Date.now();

  // What differs is changed and everything else stays as it is, so that focus and selection do. An element with an id
  // is the same one wherever it moves to.
  let taken = new Map();
  const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE && node.id) || "";
  const alike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);
  const attributes = (old, next) => {
    for (const { name, value } of next.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    for (const { name } of [...old.attributes]) {
      // Whether it is unfolded is the reader's.
      if (!next.hasAttribute(name) && !(old.tagName === "DETAILS" && name === "open")) old.removeAttribute(name);
    }
  };
  const update = (old, next) => {
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== next.data) old.data = next.data;
      return;
    }
    attributes(old, next);
    let at = old.firstChild;
    for (const child of next.childNodes) {
      const key = keyOf(child);
      let same = key ? taken.get(key) || document.getElementById(key) : at;
      if (!same || !alike(same, child) || same.contains(old)) same = document.importNode(child, false);
      if (same === at) at = at.nextSibling;
      else old.insertBefore(same, at);
      update(same, child);
    }
    while (at) {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
      if (gone.nodeType !== Node.ELEMENT_NODE) continue;
      for (const element of [gone, ...gone.querySelectorAll("[id]")]) if (element.id) taken.set(element.id, element);
    }
  };
  const keeping = (change) => {
    const focused = document.activeElement;
    const selection = document.getSelection();
    const { anchorNode, anchorOffset, focusNode, focusOffset } = selection;
    change();
    if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
    if (!anchorNode || (anchorNode === focusNode && anchorOffset === focusOffset)) return;
    const end = (node) => (node.nodeType === Node.TEXT_NODE ? node.length : node.childNodes.length);
    const moved = selection.anchorNode !== anchorNode || selection.anchorOffset !== anchorOffset
      || selection.focusNode !== focusNode || selection.focusOffset !== focusOffset;
    if (moved && anchorNode.isConnected && focusNode.isConnected) {
      const [from, to] = [Math.min(anchorOffset, end(anchorNode)), Math.min(focusOffset, end(focusNode))];
      selection.setBaseAndExtent(anchorNode, from, focusNode, to);
    }
  };

  const say = (silent) => {
    document.body.classList.toggle("silent", silent);
    const text = silent ? "The plugin does not answer. What is shown is from " + asOf().textContent + "." : "";
    if (stale.textContent !== text) stale.textContent = text;
    stale.hidden = !silent;
  };
  const refresh = async () => {
    // One at a time: a plugin that hangs is not asked again and again.
    if (busy || paused || document.hidden) return;
    busy = true;
    try {
      const signal = AbortSignal.timeout(DEADLINE);
      const answer = await fetch(location.pathname, { cache: "no-store", signal });
      if (!answer.ok) throw new Error(String(answer.status));
      // Without its style: the page's policy, by which the parser goes, admits the style of the first answer alone.
      const text = (await answer.text()).replace(/<(style)[^]*?<\/\1>/, "");
      const next = new DOMParser().parseFromString(text, "text/html");
      const main = next.querySelector("main");
      if (!main) throw new Error("what answers is not the plugin");
      if (!paused) {
        keeping(() => {
          taken = new Map();
          update(document.querySelector("main"), main);
          update(asOf(), next.querySelector("#as-of time"));
          taken.clear();
        });
        document.title = next.title;
        document.querySelector("link[rel=icon]").href = next.querySelector("link[rel=icon]").href;
        shown = Date.now();
        say(false);
      }
    } catch {
      if (!paused) say(true);
    } finally {
      busy = false;
    }
  };
  // By the age of what is shown too: a request may never have been made, or never have ended.
  const look = () => {
    if (!paused && !document.hidden && Date.now() - shown > EVERY + DEADLINE) say(true);
  };
  // After a pause the plugin has its time to answer before that is held against it.
  const goOn = () => {
    shown = Math.max(shown, Date.now() - EVERY);
    refresh();
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    paused = !paused;
    button.textContent = paused ? "Resume updates" : "Pause updates";
    document.body.classList.toggle("paused", paused);
    if (paused) say(false);
    else goOn();
  });
  setInterval(refresh, EVERY);
  setInterval(look, 1000);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) goOn();
  });
})();
