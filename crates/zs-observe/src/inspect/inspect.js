"use strict";
(async () => {
  const ROW = 60, SCALE = 1000, EXTRA = 6;
  const at = (id) => document.getElementById(id);
  const node = (tag, className, text) => {
    const it = document.createElement(tag);
    if (className) it.className = className;
    if (text !== undefined) it.textContent = text;
    return it;
  };
  const number = (it, digits = 3) => (it / SCALE).toFixed(digits);

  // The episodes.
  const packed = atob(at("data").textContent.trim());
  const bytes = Uint8Array.from(packed, (it) => it.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const { alarms, episodes: all } = JSON.parse(await new Response(stream).text());
  const { pieces, questions, components, episodes } = all;
  const searches = (it) => it.g.filter((segment) => segment.h).map((segment) => segment.h);
  for (const it of episodes) {
    const queries = searches(it).map((search) => search.query);
    it.text = [questions[it.q].text, ...questions[it.q].answers, it.f || "", ...queries].join("\n").toLowerCase();
  }
  const byQuestion = new Map();
  for (const it of episodes) {
    if (!byQuestion.has(it.q)) byQuestion.set(it.q, []);
    byQuestion.get(it.q).push(it);
  }

  // Filters.
  const list = at("list"), spacer = at("spacer"), detail = at("detail"), tip = at("tip");
  for (const [index, it] of alarms.entries()) {
    const steps = it.until === it.since ? `step ${it.since}` : `steps ${it.since}–${it.until}`;
    const option = node("option", "", `${it.alarm}, ${steps}`);
    option.value = index;
    at("f-alarm").append(option);
  }
  let shown = [], current = -1, colour = "author";
  const limit = (id, otherwise) => (at(id).value === "" ? otherwise : Number(at(id).value));
  const orders = {
    "step": (a, b) => a.s - b.s, "-step": (a, b) => b.s - a.s,
    "reward": (a, b) => a.r - b.r, "-reward": (a, b) => b.r - a.r,
  };
  const mattered = (search) => (search.v || []).some((it) => it.value !== 0);
  const searchFilters = {
    noisy: (it) => searches(it).some((search) => search.quality === "noisy"),
    failed: (it) => searches(it).some((search) => search.error),
    none: (it) => searches(it).length === 0,
    mattered: (it) => searches(it).some(mattered),
    idle: (it) => searches(it).some((search) => search.v && !mattered(search)),
  };
  function filter() {
    const text = at("f-text").value.trim().toLowerCase();
    const steps = [limit("f-step-min", -Infinity), limit("f-step-max", Infinity)];
    const rewards = [limit("f-reward-min", -Infinity) * SCALE, limit("f-reward-max", Infinity) * SCALE];
    const alarm = at("f-alarm").value === "" ? null : alarms[at("f-alarm").value];
    const search = searchFilters[at("f-search").value];
    const chosen = shown[current];
    shown = episodes.filter((it) =>
      it.s >= steps[0] && it.s <= steps[1] && it.r >= rewards[0] - 0.5 && it.r <= rewards[1] + 0.5 &&
      (!alarm || (it.s >= alarm.since && it.s <= alarm.until)) &&
      (!text || it.text.includes(text)) && (!search || search(it)));
    shown.sort(orders[at("f-order").value]);
    at("count").textContent = `${shown.length} of ${episodes.length} episodes`;
    spacer.style.height = `${Math.max(shown.length * ROW, 1)}px`;
    list.scrollTop = 0;
    current = shown.indexOf(chosen);
    draw();
  }

  // The list: only the rows in sight are in the page.
  function draw() {
    const first = Math.max(0, Math.floor(list.scrollTop / ROW) - EXTRA);
    const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + EXTRA);
    const rows = [];
    for (let index = first; index < last; index++) {
      const it = shown[index], found = searches(it);
      const row = node("div", "row");
      row.id = `row-${index}`;
      row.dataset.index = index;
      row.style.top = `${index * ROW}px`;
      row.setAttribute("role", "option");
      row.setAttribute("aria-selected", index === current);
      row.setAttribute("aria-setsize", shown.length);
      row.setAttribute("aria-posinset", index + 1);
      const noisy = found.filter((search) => search.quality === "noisy").length;
      const sub = node("div", "sub");
      sub.append(node("span", "reward", number(it.r)), ` step ${it.s} · sample ${it.i + 1} · ${found.length} ${found.length === 1 ? "search" : "searches"}`,
        noisy ? `, ${noisy} noisy` : "", ` · ${it.f === undefined ? it.e || "no answer" : it.f}`);
      row.append(node("div", "", questions[it.q].text), sub);
      rows.push(row);
    }
    spacer.replaceChildren(...rows);
    if (current >= first && current < last) list.setAttribute("aria-activedescendant", `row-${current}`);
    else list.removeAttribute("aria-activedescendant");
  }
  let isDue = false;
  const drawSoon = () => {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => { isDue = false; draw(); });
  };
  function choose(index) {
    if (shown.length === 0) return;
    current = Math.max(0, Math.min(shown.length - 1, index));
    const top = current * ROW;
    if (top < list.scrollTop) list.scrollTop = top;
    else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
    draw();
    show(shown[current]);
  }

  // One episode.
  const authorClass = (it) => (["prompt", "policy", "observation"].includes(it) ? it : "agent");
  const textOf = (segment) => segment.t.map((it) => pieces[it]).join("");
  const advantage = (segment, index) => (segment.a === undefined ? undefined : segment.a[segment.a.length === 1 ? 0 : index]);
  function facts(it) {
    const parts = [`step ${it.s}`, `sample ${it.i + 1}`, `reward ${number(it.r)}`];
    components.forEach((name, index) => parts.push(`${name} ${number(it.c[index])}`));
    parts.push(`noise probability ${number(it.n)}`);
    if (it.e) parts.push(it.e);
    if (it.b) parts.push(`continues sample ${it.b[0] + 1} from turn ${it.b[1] + 1}`);
    if (it.d) parts.push("replaced, nothing was learned from it");
    return parts.join(" · ");
  }
  function paint(span, segment, index) {
    const value = colour === "log-prob" ? segment.l && segment.l[index] : colour === "advantage" ? advantage(segment, index) : undefined;
    if (value === undefined) { span.style.background = ""; return; }
    const share = colour === "log-prob" ? Math.min(1, -value / SCALE / 4) : Math.min(1, Math.abs(value) / SCALE / 2);
    const tone = colour === "advantage" && value > 0 ? "--cool" : "--warm";
    span.style.background = `rgba(var(${tone}), ${(share * 0.75).toFixed(3)})`;
  }
  function segmentNode(segment, index) {
    const box = node("section", `segment author-${authorClass(segment.p)}`);
    const head = node("h4", "", segment.p);
    head.append(node("span", "", `${segment.t.length} ${all.by_token ? "tokens" : "part"}`));
    if (segment.h) {
      const { query, quality, documents, error, v } = segment.h;
      head.append(node("span", `chip ${quality}`, `drawn: ${quality}`), node("span", "", `${documents} documents for “${query}”`));
      if (error) head.append(node("span", "chip failed", `failed: ${error}`));
      for (const it of v || []) {
        const kind = it.value > 0 ? "useful" : it.value < 0 ? "noisy" : "";
        head.append(node("span", `chip ${kind}`, `value against ${it.documents}: ${number(it.value)}`),
          node("span", "", it.answer === undefined ? "no answer then" : `then “${it.answer}”`));
      }
    }
    const text = node("div", "text");
    text.dataset.segment = index;
    segment.t.forEach((piece, place) => {
      const span = node("span", "token", pieces[piece]);
      span.dataset.place = place;
      paint(span, segment, place);
      text.append(span);
    });
    box.append(head, text);
    return box;
  }
  let open = null;
  function show(it) {
    open = it;
    hideTip();
    const question = questions[it.q];
    const others = byQuestion.get(it.q).filter((other) => other !== it);
    const compare = node("select");
    compare.id = "compare";
    compare.append(node("option", "", others.length ? "nothing" : "no other episode of this question"));
    compare.options[0].value = "";
    others.forEach((other, index) => {
      const option = node("option", "", `step ${other.s}, sample ${other.i + 1}, reward ${number(other.r)}`);
      option.value = index;
      compare.append(option);
    });
    const colours = node("select");
    colours.id = "colour";
    for (const [value, label] of [["author", "author"], ["log-prob", "log-probability"], ["advantage", "advantage"]]) {
      const option = node("option", "", label);
      option.value = value;
      colours.append(option);
    }
    colours.value = colour;
    const tools = node("div", "tools");
    const compareLabel = node("label", "", "Difference to"), colourLabel = node("label", "", "Colour tokens by");
    compareLabel.append(compare);
    colourLabel.append(colours);
    tools.append(compareLabel, colourLabel);
    const legend = node("p", "legend");
    for (const author of [...new Set(it.g.map((segment) => segment.p))]) {
      legend.append(node("span", `author-${authorClass(author)}`, author));
    }
    const title = node("h3", "", question.text);
    title.append(" ", node("span", "golden", question.answers.join(", ")));
    const diff = node("div");
    const body = node("div");
    body.id = "segments";
    body.tabIndex = 0;
    body.setAttribute("role", "group");
    body.setAttribute("aria-label", "Tokens; left and right arrow keys move from one to the next");
    body.append(...it.g.map(segmentNode));
    const hasAdvantages = it.g.some((segment) => segment.a !== undefined);
    const hint = `Hover over a token, tap it, or move with the arrow keys: log-probability${hasAdvantages ? " and advantage" : " (no advantages were recorded)"}.`;
    detail.replaceChildren(title, node("p", "facts", facts(it)), tools, diff, legend, node("p", "lead", hint), body);
    compare.addEventListener("change", () => {
      const other = compare.value === "" ? null : others[compare.value];
      diff.replaceChildren(...(other ? [node("p", "facts", `From: ${facts(other)}`), difference(other, it)] : []));
    });
    colours.addEventListener("change", () => {
      colour = colours.value;
      body.querySelectorAll(".token").forEach((span) => paint(span, it.g[span.parentNode.dataset.segment], Number(span.dataset.place)));
    });
  }

  // What a token is worth.
  function tipText(span) {
    const segment = open.g[span.parentNode.dataset.segment], place = Number(span.dataset.place);
    const lines = [`${JSON.stringify(pieces[segment.t[place]])} by ${segment.p}`];
    const logProb = segment.l && segment.l[place];
    if (logProb !== undefined) lines.push(`log-probability ${number(logProb)} (${(100 * Math.exp(logProb / SCALE)).toFixed(1)} %)${all.by_token ? "" : ", mean"}`);
    const worth = advantage(segment, place);
    if (worth !== undefined) lines.push(`advantage ${worth > 0 ? "+" : ""}${number(worth)}`);
    if (segment.h) lines.push(`documents drawn ${segment.h.quality}`);
    return lines.join("\n");
  }
  function showTip(span) {
    detail.querySelectorAll(".token.current").forEach((it) => it.classList.remove("current"));
    span.classList.add("current");
    tip.textContent = tipText(span);
    tip.hidden = false;
    const box = span.getBoundingClientRect(), own = tip.getBoundingClientRect();
    const below = box.bottom + 8 + own.height < innerHeight;
    tip.style.left = `${Math.max(6, Math.min(innerWidth - own.width - 6, box.left))}px`;
    tip.style.top = `${below ? box.bottom + 8 : Math.max(6, box.top - own.height - 8)}px`;
  }
  function hideTip() {
    tip.hidden = true;
    detail.querySelectorAll(".token.current").forEach((it) => it.classList.remove("current"));
  }
  const tokenOf = (event) => event.target.closest && event.target.closest(".token");
  detail.addEventListener("pointerover", (event) => { const span = tokenOf(event); if (span) showTip(span); });
  detail.addEventListener("pointerleave", hideTip);
  detail.addEventListener("click", (event) => { const span = tokenOf(event); if (span) showTip(span); });
  detail.addEventListener("keydown", (event) => {
    if (event.target.id !== "segments") return;
    if (event.key === "Escape") { hideTip(); return; }
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const spans = [...event.target.querySelectorAll(".token")];
    const place = spans.findIndex((it) => it.classList.contains("current"));
    const next = spans[Math.max(0, Math.min(spans.length - 1, place < 0 ? 0 : place + step))];
    next.scrollIntoView({ block: "nearest" });
    showTip(next);
  });
  addEventListener("scroll", () => { if (!tip.hidden) hideTip(); }, { passive: true });

  // The difference of two episodes, word by word: a longest common subsequence.
  const words = (it) => it.g.filter((segment) => segment.p !== "prompt")
    .flatMap((segment) => [`\n[${segment.p}] `, ...(textOf(segment).match(/\s+|[^\s<>]+|<[^<>\s]*>|[<>]/g) || [])]);
  const lines = (it) => it.g.filter((segment) => segment.p !== "prompt")
    .flatMap((segment) => [`\n[${segment.p}] `, ...(textOf(segment).match(/[^\n]*\n|[^\n]+/g) || [])]);
  function difference(before, after) {
    let [a, b] = [words(before), words(after)];
    if (a.length * b.length > 2e7) [a, b] = [lines(before), lines(after)];
    let start = 0, endA = a.length, endB = b.length;
    while (start < endA && start < endB && a[start] === b[start]) start++;
    while (endA > start && endB > start && a[endA - 1] === b[endB - 1]) { endA--; endB--; }
    const rows = endA - start + 1, columns = endB - start + 1;
    const common = new Uint32Array(rows * columns);
    for (let i = rows - 2; i >= 0; i--) {
      for (let j = columns - 2; j >= 0; j--) {
        common[i * columns + j] = a[start + i] === b[start + j]
          ? common[(i + 1) * columns + j + 1] + 1
          : Math.max(common[(i + 1) * columns + j], common[i * columns + j + 1]);
      }
    }
    const runs = [];
    const add = (kind, text) => {
      if (runs.length && runs[runs.length - 1][0] === kind) runs[runs.length - 1][1] += text;
      else runs.push([kind, text]);
    };
    a.slice(0, start).forEach((it) => add("span", it));
    let i = 0, j = 0;
    while (i < rows - 1 || j < columns - 1) {
      if (i < rows - 1 && j < columns - 1 && a[start + i] === b[start + j]) { add("span", a[start + i]); i++; j++; }
      else if (j >= columns - 1 || (i < rows - 1 && common[(i + 1) * columns + j] >= common[i * columns + j + 1])) { add("del", a[start + i]); i++; }
      else { add("ins", b[start + j]); j++; }
    }
    a.slice(endA).forEach((it) => add("span", it));
    const box = node("div", "diff");
    box.append(...runs.map(([kind, text], index) => node(kind, "", index ? text : text.trimStart())));
    return box;
  }

  // What the user does.
  at("filters").addEventListener("input", filter);
  at("filters").addEventListener("submit", (event) => event.preventDefault());
  at("filters").addEventListener("reset", () => setTimeout(filter));
  document.querySelectorAll(".show-alarm").forEach((it) => it.addEventListener("click", () => {
    at("f-alarm").value = it.dataset.alarm;
    filter();
    at("episodes").scrollIntoView();
    list.focus({ preventScroll: true });
  }));
  list.addEventListener("scroll", drawSoon, { passive: true });
  addEventListener("resize", drawSoon);
  list.addEventListener("click", (event) => {
    const row = event.target.closest(".row");
    if (!row) return;
    choose(Number(row.dataset.index));
    if (matchMedia("(max-width: 60rem)").matches) detail.scrollIntoView();
  });
  list.addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.floor(list.clientHeight / ROW) - 1);
    const moves = { ArrowDown: current + 1, ArrowUp: current - 1, PageDown: current + page, PageUp: current - page, Home: 0, End: shown.length - 1 };
    if (!(event.key in moves)) return;
    event.preventDefault();
    choose(moves[event.key]);
  });
  filter();
  document.body.dataset.ready = "yes";
})().catch((error) => {
  document.getElementById("count").textContent = `The episodes cannot be unpacked: ${error.message}`;
});
