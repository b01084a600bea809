"use strict";
(() => {
  const refresh = async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(location.pathname, { cache: "no-store" });
      if (!answer.ok) throw new Error(String(answer.status));
      // Without its style: the page's policy, by which the parser goes, admits the style of the first answer alone.
      const text = (await answer.text()).replace(/<(style)[^]*?<\/\1>/, "");
      const next = new DOMParser().parseFromString(text, "text/html");
      const open = [...document.querySelectorAll("details[open]")].map((details) => details.id);
      document.querySelector("main").replaceWith(next.querySelector("main"));
      open.forEach((id) => document.getElementById(id)?.setAttribute("open", ""));
      document.title = next.title;
      document.querySelector("link[rel=icon]").href = next.querySelector("link[rel=icon]").href;
      document.body.classList.remove("silent");
    } catch {
      document.body.classList.add("silent");
    }
  };
  setInterval(refresh, 5000);
  document.addEventListener("visibilitychange", refresh);
})();
