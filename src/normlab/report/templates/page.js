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
  const show = (mark, told = "") => {
    hide();
    on = mark;
    mark.classList.add("on");
    tip.textContent = told || mark.querySelector("title").textContent;
    tip.hidden = false;
    const box = mark.getBoundingClientRect(), own = tip.getBoundingClientRect();
    const left = Math.max(6, Math.min(box.left + box.width / 2 - own.width / 2, innerWidth - own.width - 6));
    const above = box.top - own.height - 8;
    tip.style.left = `${left}px`;
    tip.style.top = `${above > 6 ? above : Math.min(box.bottom + 8, innerHeight - own.height - 6)}px`;
  };
  for (const chart of document.querySelectorAll("svg.chart")) {
    const marks = [...chart.querySelectorAll(".mark")];
    for (const mark of marks) mark.setAttribute("role", "img");  // here, because thousands of them would fill the page
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
  // a term says what it means: under the pointer, by touch, and with the focus; Escape hides it
  for (const term of document.querySelectorAll(".term")) {
    const explain = () => show(term, document.getElementById(term.getAttribute("aria-describedby")).textContent);
    for (const kind of ["pointerenter", "focus", "click"]) term.addEventListener(kind, explain);
    for (const kind of ["pointerleave", "blur"]) term.addEventListener(kind, hide);
    term.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  }
  // which norm for my network: shows the answers to the conditions that the choices name
  const form = document.getElementById("pick"), picked = document.getElementById("picked");
  if (form) {
    const { few, many, keys } = JSON.parse(document.getElementById("questions").textContent);
    const byBatch = (size) => size === 1 ? ["single_example"] : size <= few ? ["few_examples"] : size >= many ? ["many_examples"] : ["few_examples", "many_examples"];
    const pick = () => {
      const asked = Object.fromEntries(new FormData(form)), size = Number(asked.batch);
      const whens = [keys.task[asked.task], keys.data[asked.data], keys.lengths[asked.lengths], keys.features[asked.features], keys.depth[asked.depth], ...(size >= 1 ? byBatch(size) : [])];
      if (asked.phase === "inference_time") whens.splice(0, whens.length, "inference_time");
      if (asked.phase === "trouble") whens.splice(0, whens.length, keys.trouble.evaluation);
      const found = whens.filter(Boolean).map((when) => document.querySelector(`#answers .answer[data-model="${asked.model}"][data-when="${when}"]`));
      picked.replaceChildren(...found.map((each) => each.cloneNode(true)));
    };
    form.addEventListener("input", pick);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.hidden = false;
    pick();
  }
  // a link to a part that is folded opens it
  const open = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let part = target.closest("details"); part; part = part.parentElement.closest("details")) part.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", open);
  document.addEventListener("click", (event) => { if (event.target.closest('a[href^="#"]')) setTimeout(open); });
  open();
  addEventListener("beforeprint", () => { for (const each of document.querySelectorAll("details")) each.open = true; });
})();
