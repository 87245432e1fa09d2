// Brings token scores to life: point at, tap or arrow to a token, and the tokens that led to it are painted.
// `part` is the static markup; `data` is what packing.py made.

views.token_scores = (part, data) => {
  const one = (selector) => part.querySelector(selector);
  const targets = data.targets, spoken = (t) => t[6] || `position ${t[1]} ${t[2]}`, sources = data.sources.map((source, j) => typeof source === "string" ? [0, source, j] : source);
  const signed = (x, digits = data.digits) => plus(x, data.signed, digits);

  function scores(i) {
    if (typeof data.rows[i] === "string") data.rows[i] = unpack(data.rows[i], targets[i][5] || 1);
    return data.rows[i];
  }

  const score = (i, j) => (j < scores(i).length ? scores(i)[j] : 0);
  const top = (i) => (data.shared === null ? targets[i][5] : data.shared);

  // Tokens, and which sources and targets they are.

  const tokens = [...part.querySelectorAll(".tok")];
  for (const row of part.querySelectorAll(".tokens[data-from]")) {
    [...row.children].forEach((node, i) => { node.dataset.p = Number(row.dataset.from) + i; });
  }
  const index = new Map(tokens.map((node, k) => [node, k]));
  const at = new Map();
  const stack = (k) => tokens[k].closest(".row").dataset.stack;
  tokens.forEach((node, k) => at.set(`${stack(k)}:${node.dataset.p}`, k));
  const spots = sources.map(([s, , ...positions]) =>
    positions.map((p) => at.get(`${s}:${p}`)).filter((k) => k !== undefined));
  const goals = new Map(); // token -> the targets that stand there
  const chips = new Map(tokens.filter((node) => node.dataset.t).map((node) => [Number(node.dataset.t), index.get(node)]));
  const home = targets.map(([s, position], i) => {
    const k = chips.get(i) ?? at.get(`${s}:${position}`);
    if (k !== undefined) goals.set(k, [...(goals.get(k) || []), i]);
    return k;
  });
  const inStack = (s, p) => (data.names.length > 1 ? data.names[s] + " " : "") + p;
  const spot = (k) => inStack(stack(k), tokens[k].dataset.p);
  const span = (j) => {
    const [s, , first, ...more] = sources[j];
    return inStack(s, first) + (more.length ? "–" + more.at(-1) : "");
  };

  let shown = targets.length - 1;
  const via = new Array(tokens.length).fill(-1); // token -> the source that painted it
  const chosen = new Map([...goals].map(([k, list]) => [k, list.at(-1)])); // where several targets share a token

  // What the script adds to the markup.

  const text = one(".text"), body = one(".top tbody");
  const several = targets.length > goals.size;
  const pick = several && make("select", "pick");
  if (several) {
    const label = make("label", "quiet", "target ");
    label.append(pick);
    targets.forEach((t, i) => { make("option", "", `${t[1]}: ${t[2]}`, pick).value = i; });
    text.before(label);
  }
  const all = make("details", "fold all");
  make("summary", "", `all ${sources.length} sources, in order`, all);
  const box = make("div", "scroll tall", "", all);
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", "all sources");
  if (body) one(".top").after(all);
  if (one(".key")) one(".key").textContent = data.key;
  text.classList.toggle("long", tokens.length > 400);
  const inks = tokens.map((node) => node.querySelector(".ink"));
  tokens.forEach((node, k) => {
    inks[k].removeAttribute("style");
    node.removeAttribute("title");
    if (goals.has(k)) button(node, spoken(targets[goals.get(k)[0]]));
  });

  // Showing one target.

  function row(i, j, parent) {
    const v = score(i, j);
    barRow(parent, span(j), sources[j][1], v, top(i) ? v / top(i) : 0, data.signed).dataset.j = j;
  }

  function paint(i) {
    const value = new Float64Array(tokens.length);
    via.fill(-1);
    sources.forEach((_, j) => {
      const v = score(i, j) ?? 0;
      for (const k of spots[j]) {
        if (via[k] < 0 || abs(v) > abs(value[k])) { value[k] = v; via[k] = j; }
      }
    });
    inks.forEach((ink, k) => { ink.style.backgroundColor = top(i) ? shade(value[k] / top(i), data.signed) : ""; });
  }

  function strongest(i) {
    const weight = sources.map((_, j) => abs(score(i, j) ?? 0));
    return sources.map((_, j) => j).filter((j) => weight[j]).sort((a, b) => weight[b] - weight[a]).slice(0, 8);
  }

  function fill() { // the long table, only while it is open
    if (!all.open) return box.replaceChildren();
    const table = make("table", "top");
    const rows = make("tbody", "", "", table);
    sources.forEach((_, j) => row(shown, j, rows));
    return box.replaceChildren(table);
  }

  function show(i) {
    shown = i;
    const [, , goal, where, facts, , , word] = targets[i], k = home[i];
    paint(i);
    if (word && k !== undefined && tokens[k].classList.contains("ghost")) inks[k].textContent = word.trimStart() || word;
    one(".name").textContent = goal;
    one(".where").textContent = where;
    const first = strongest(i);
    if (body) {
      one(".facts").textContent = facts;
      if (one(".low")) one(".low").textContent = data.signed ? number(-top(i), 3) : "0";
      one(".high").textContent = signed(top(i), 3);
      body.replaceChildren();
      first.forEach((j) => row(i, j, body));
      fill();
    }
    if (several) pick.value = i;
    const led = first.slice(0, 3).map((j) => `${sources[j][1]} ${signed(score(i, j))} at ${span(j)}`);
    return `${spoken(targets[i])}: ${data.led} ${led.join(", ") || "nothing"}`;
  }

  // Telling one source's score.

  function light(j = -1) {
    for (const node of part.querySelectorAll(".lit")) node.classList.remove("lit");
    if (j < 0) return;
    for (const k of spots[j]) tokens[k].classList.add("lit");
    for (const node of part.querySelectorAll(`tr[data-j="${j}"]`)) node.classList.add("lit");
  }

  function tell(k) {
    const j = via[k], isClass = tokens[k].dataset.t;
    light(j);
    const said = j < 0 ? "not a source" : signed(score(shown, j));
    return [(isClass ? "" : `${spot(k)} · `) + said,
      (isClass ? "class: " : `position ${spot(k)}: `) + (j < 0 ? said : `${sources[j][1]} ${said}`)];
  }

  const marks = [...goals.keys()].sort((a, b) => a - b);
  const { look, hold, say } = explore(part, tokens, {
    can: (k) => goals.has(k),
    show: (k) => show(chosen.get(k)),
    tell,
    leave: light,
    step: (key, k) => (key === "ArrowDown" ? marks.find((m) => m > k) ?? -1
      : key === "ArrowUp" ? marks.findLast((m) => m < k) ?? -1 : undefined),
    place: (k) => tokens[k] && !tokens[k].dataset.t ? `${data.names[stack(k)] ?? ""}-${tokens[k].dataset.p}` : "",
    ink: (node) => node.firstElementChild,
    stop: home[shown] ?? 0,
  });

  on(part, "pointerover", (e) => {
    const tr = e.target.closest("tr[data-j]");
    if (tr) light(Number(tr.dataset.j));
  });
  on(part, "click", (e) => { // a row of a table brings its token into sight
    const tr = e.target.closest("tr[data-j]"), k = tr && spots[tr.dataset.j][0];
    if (tr && k !== undefined) tokens[k].scrollIntoView({ block: "nearest" });
  });
  if (several) on(pick, "change", () => {
    const i = Number(pick.value), k = home[i];
    if (k === undefined) { hold(true, -1); say(show(i)); } else { chosen.set(k, i); look(k); hold(true, k); }
  });
  on(all, "toggle", fill);

  if (home[shown] === undefined) show(shown); else look(home[shown]);
  say("");
  requestAnimationFrame(() => { // a long text scrolls in itself, so that the scores stay in sight
    const ink = inks[home[shown] ?? 0];
    if (ink && text.classList.contains("long")) text.scrollTop = ink.offsetTop - text.clientHeight / 2;
  });
};
