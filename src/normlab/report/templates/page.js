"use strict";
(() => {
  const root = document.documentElement, button = document.getElementById("theme"), tip = document.getElementById("tip");
  const kept = { get: () => { try { return localStorage.getItem("normlab-theme"); } catch { return null; } },
                 set: (value) => { try { localStorage.setItem("normlab-theme", value); } catch { /* a page from disk may have no storage */ } } };
  const asked = new URLSearchParams(location.search).get("theme") || kept.get();
  if (asked === "light" || asked === "dark") root.dataset.theme = asked;
  const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const name = () => { button.textContent = isDark() ? "Light theme" : "Dark theme"; };
  button.hidden = false;
  button.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; kept.set(root.dataset.theme); name(); });
  name();

  // a mark says what it is: under the pointer, by touch, and by the arrow keys in a chart that has the focus
  let on = null;
  const hide = () => { if (on) on.classList.remove("on"); on = null; tip.hidden = true; };
  const show = (mark) => {
    hide();
    on = mark;
    mark.classList.add("on");
    tip.textContent = mark.querySelector("title").textContent;
    tip.hidden = false;
    const box = mark.getBoundingClientRect(), own = tip.getBoundingClientRect();
    const left = Math.max(6, Math.min(box.left + box.width / 2 - own.width / 2, innerWidth - own.width - 6));
    const above = box.top - own.height - 8;
    tip.style.left = `${left}px`;
    tip.style.top = `${above > 6 ? above : Math.min(box.bottom + 8, innerHeight - own.height - 6)}px`;
  };
  for (const chart of document.querySelectorAll("svg.chart")) {
    const marks = [...chart.querySelectorAll(".mark")];
    chart.addEventListener("pointerover", (event) => { const mark = event.target.closest(".mark"); if (mark) show(mark); });
    chart.addEventListener("pointerleave", hide);
    chart.addEventListener("blur", hide);
    chart.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") hide();
      if (!step || !marks.length) return;
      event.preventDefault();
      const next = marks.indexOf(on) + step;
      show(marks[on === null && step < 0 ? marks.length - 1 : (next + marks.length) % marks.length]);
    });
  }
  addEventListener("scroll", () => { if (on && !document.activeElement.closest("svg.chart")) hide(); }, { passive: true });
  addEventListener("beforeprint", () => { for (const each of document.querySelectorAll("details")) each.open = true; });
})();
