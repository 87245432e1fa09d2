// Brings token scores to life: point at, tap or arrow to a token, and the tokens that led to it are painted.
// `view` is the static markup; `data` is what packing.py made. Text goes into the page through textContent only.

function tokenScores(view, data) {
  const one = (selector) => view.querySelector(selector);
  const make = (tag, className, text, parent) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    if (parent) parent.append(node);
    return node;
  };
  const { targets, sources } = data;

  // Numbers.

  const tidy = (text) => text.replace("e+", "e").replaceAll("-", "−");
  const number = (x, digits = data.digits) =>
    x === null || Number.isNaN(x) ? "not a number" : tidy(String(Number(x.toPrecision(digits))));
  const signed = (x, digits) => (data.signed && x > 0 ? "+" : "") + number(x, digits);

  function halves(text, greatest) { // packing.py, _halves
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const packed = new DataView(bytes.buffer);
    return Array.from({ length: bytes.length / 2 }, (_, i) => {
      const h = packed.getUint16(2 * i, true), exponent = (h >> 10) & 31, fraction = h & 1023;
      if (exponent === 31) return fraction ? null : (h >> 15 ? -Infinity : Infinity);
      const size = exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24;
      return ((h >> 15 ? -size : size) / 32768) * (greatest || 1);
    });
  }

  function scores(i) {
    if (typeof data.rows[i] === "string") data.rows[i] = halves(data.rows[i], targets[i][5]);
    return data.rows[i];
  }

  const score = (i, j) => (j < scores(i).length ? scores(i)[j] : 0);
  const top = (i) => (data.shared === null ? targets[i][5] : data.shared);

  function shade(level) {
    const alpha = Math.round(data.opaque * Math.min(Math.abs(level), 1) * 100) / 100;
    return alpha ? `rgba(${data.colours[level > 0 ? 0 : 1].join(",")},${alpha})` : "";
  }

  // Tokens, and which sources and targets they are.

  const tokens = [...view.querySelectorAll(".tok")];
  const index = new Map(tokens.map((node, k) => [node, k]));
  const at = new Map();
  tokens.forEach((node, k) => at.set(`${node.closest(".row").dataset.stack}:${node.dataset.p}`, k));
  const spots = sources.map(([stack, , ...positions]) =>
    positions.map((p) => at.get(`${stack}:${p}`)).filter((k) => k !== undefined));
  const goals = new Map(); // token -> the targets that stand there
  const chips = new Map(tokens.filter((node) => node.dataset.t).map((node) => [Number(node.dataset.t), index.get(node)]));
  const home = targets.map(([stack, position], i) => {
    const k = chips.get(i) ?? at.get(`${stack}:${position}`);
    if (k !== undefined) goals.set(k, [...(goals.get(k) || []), i]);
    return k;
  });
  const inStack = (stack, p) => (data.names.length ? data.names[stack] + " " : "") + p;
  const spot = (k) => inStack(tokens[k].closest(".row").dataset.stack, tokens[k].dataset.p);
  const place = (j) => {
    const [stack, , first, ...more] = sources[j];
    return inStack(stack, first) + (more.length ? `–${more.at(-1)}` : "");
  };

  let shown = targets.length - 1, pinned = -1, stop = home[shown] ?? 0;
  const via = new Array(tokens.length).fill(-1); // token -> the source that painted it
  const chosen = new Map([...goals].map(([k, list]) => [k, list.at(-1)])); // where several targets share a token

  // What the script adds to the markup.

  const text = one(".text"), panel = one(".panel"), body = one(".top tbody");
  const tip = make("div", "tip", "", view);
  tip.hidden = true;
  tip.setAttribute("aria-hidden", "true");
  const live = make("div", "unseen", "", panel);
  live.setAttribute("role", "status");
  const pin = make("button", "pin", "pin");
  pin.type = "button";
  one(".what").append(" ", pin);
  const several = targets.length > goals.size;
  const pick = several && make("select", "pick");
  if (several) {
    const label = make("label", "quiet", "target ");
    label.append(pick);
    targets.forEach((t, i) => { make("option", "", `${t[1]}: ${t[2]}`, pick).value = i; });
    panel.prepend(label);
  }
  const all = make("details", "fold all");
  make("summary", "", `all ${sources.length} sources, in order`, all);
  const box = make("div", "scroll tall", undefined, all);
  box.tabIndex = 0;
  one(".top").after(all);
  one(".key").textContent = data.key;
  text.classList.toggle("long", tokens.length > 400);
  const inks = tokens.map((node) => node.querySelector(".ink"));
  tokens.forEach((node, k) => {
    inks[k].removeAttribute("style");
    node.removeAttribute("title");
    node.tabIndex = -1;
    if (goals.has(k)) {
      node.setAttribute("role", "button");
      node.setAttribute("aria-pressed", "false");
      node.setAttribute("aria-label", targets[goals.get(k)[0]][6]);
    }
  });

  // Showing one target.

  function row(i, j, parent) {
    const tr = make("tr", "", undefined, parent), v = score(i, j);
    tr.dataset.j = j;
    make("td", "quiet", place(j), tr);
    make("bdi", "", sources[j][1], make("td", "source", undefined, tr));
    make("td", "num", signed(v), tr);
    const bar = make("span", "bar", undefined, make("td", "bars", undefined, tr));
    const level = top(i) ? v / top(i) : 0;
    bar.style.width = `${100 * Math.min(Math.abs(level), 1)}%`;
    bar.style.backgroundColor = shade(Math.sign(level));
  }

  function paint(i) {
    const value = new Float64Array(tokens.length);
    via.fill(-1);
    sources.forEach((_, j) => {
      const v = score(i, j) ?? 0;
      for (const k of spots[j]) {
        if (via[k] < 0 || Math.abs(v) > Math.abs(value[k])) { value[k] = v; via[k] = j; }
      }
    });
    inks.forEach((ink, k) => { ink.style.backgroundColor = top(i) ? shade(value[k] / top(i)) : ""; });
  }

  function strongest(i) {
    const weight = sources.map((_, j) => Math.abs(score(i, j) ?? 0));
    return sources.map((_, j) => j).filter((j) => weight[j]).sort((a, b) => weight[b] - weight[a]).slice(0, 8);
  }

  function fill() { // the long table, only while it is open
    if (!all.open) return box.replaceChildren();
    const table = make("table", "top");
    const rows = make("tbody", "", undefined, table);
    sources.forEach((_, j) => row(shown, j, rows));
    return box.replaceChildren(table);
  }

  function show(i) {
    shown = i;
    const [, , goal, where, facts, , spoken, word] = targets[i], k = home[i];
    paint(i);
    if (k !== undefined && tokens[k].classList.contains("ghost")) inks[k].textContent = word.trimStart() || word;
    one(".name").textContent = goal;
    one(".where").textContent = where;
    one(".facts").textContent = facts;
    if (one(".low")) one(".low").textContent = data.signed ? number(-top(i), 3) : "0";
    one(".high").textContent = signed(top(i), 3);
    body.replaceChildren();
    const first = strongest(i);
    first.forEach((j) => row(i, j, body));
    fill();
    if (several) pick.value = i;
    mark();
    const led = first.slice(0, 3).map((j) => `${sources[j][1]} ${signed(score(i, j))} at ${place(j)}`);
    live.textContent = `${spoken}: led to by ${led.join(", ") || "nothing"}`;
  }

  function mark() {
    tokens.forEach((node, k) => {
      node.classList.toggle("shown", k === home[shown]);
      if (goals.has(k)) node.setAttribute("aria-pressed", String(pinned >= 0 && k === home[pinned]));
    });
    view.classList.toggle("pinned", pinned >= 0);
    pin.textContent = pinned >= 0 ? "pinned" : "pin";
    pin.setAttribute("aria-pressed", String(pinned >= 0));
  }

  function setPin(i) {
    pinned = i;
    if (i >= 0) show(i); else mark();
  }

  // Telling one source's score.

  function light(j) {
    for (const node of view.querySelectorAll(".lit")) node.classList.remove("lit");
    if (j < 0) return;
    for (const k of spots[j]) tokens[k].classList.add("lit");
    for (const node of view.querySelectorAll(`tr[data-j="${j}"]`)) node.classList.add("lit");
  }

  function tell(k) {
    const j = via[k], node = tokens[k];
    light(j);
    const said = j < 0 ? "not a source" : signed(score(shown, j));
    tip.textContent = (node.dataset.t ? "" : `${spot(k)} · `) + said;
    tip.hidden = false;
    const frame = view.getBoundingClientRect(), box = inks[k].getClientRects()[0] || frame;
    const left = Math.min(box.left - frame.left, frame.width - tip.offsetWidth);
    tip.style.left = `${Math.max(left, 0)}px`;
    tip.style.top = `${box.top - frame.top - tip.offsetHeight - 2}px`;
    return j < 0 ? said : `${sources[j][1]} ${said}`;
  }

  function visit(k, aloud) {
    if (pinned < 0 && goals.has(k)) {
      if (chosen.get(k) !== shown) show(chosen.get(k));
      leave();
    } else {
      const said = tell(k);
      if (aloud) live.textContent = (tokens[k].dataset.t ? "class: " : `position ${spot(k)}: `) + said;
    }
  }

  function leave() {
    tip.hidden = true;
    light(-1);
  }

  function toggle(k) {
    if (goals.has(k)) setPin(pinned >= 0 && home[pinned] === k ? -1 : chosen.get(k));
    visit(k);
  }

  function go(k) {
    tokens[stop].tabIndex = -1;
    stop = k;
    tokens[k].tabIndex = 0;
  }

  // One listener of each kind for the whole page.

  const token = (event) => index.get(event.target.closest(".tok"));
  view.addEventListener("pointerover", (event) => {
    const k = token(event), tr = event.target.closest("tr[data-j]");
    if (k !== undefined) visit(k);
    else { leave(); if (tr) light(Number(tr.dataset.j)); }
  });
  view.addEventListener("pointerleave", leave);
  view.addEventListener("focusin", (event) => {
    const k = token(event);
    if (k !== undefined) { go(k); visit(k, true); }
  });
  view.addEventListener("focusout", leave);
  view.addEventListener("click", (event) => {
    const k = token(event);
    if (k !== undefined) { tokens[k].focus({ preventScroll: true }); toggle(k); }
    else if (event.target === pin) setPin(pinned >= 0 ? -1 : shown);
    else { // a row of a table brings its token into sight
      const tr = event.target.closest("tr[data-j]"), first = tr && spots[tr.dataset.j][0];
      if (first !== undefined && first !== null) tokens[first].scrollIntoView({ block: "nearest" });
    }
  });
  if (several) pick.addEventListener("change", () => {
    const i = Number(pick.value);
    if (home[i] !== undefined) { chosen.set(home[i], i); go(home[i]); }
    setPin(i);
  });
  all.addEventListener("toggle", fill);

  function step(key, k) {
    const marks = [...goals.keys()].sort((a, b) => a - b);
    if (key === "ArrowRight") return k + 1;
    if (key === "ArrowLeft") return k - 1;
    if (key === "ArrowDown") return marks.find((m) => m > k);
    if (key === "ArrowUp") return marks.findLast((m) => m < k);
    if (key === "Home") return 0;
    return key === "End" ? tokens.length - 1 : null;
  }

  view.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const k = token(event);
    if (event.key === "Escape" && pinned >= 0) setPin(-1);
    else if (k === undefined) return;
    else if (event.key === "Enter" || event.key === " ") toggle(k);
    else {
      const next = step(event.key, k);
      if (next === null) return;
      if (tokens[next]) tokens[next].focus();
    }
    event.preventDefault();
    event.stopPropagation();
  });

  go(stop);
  show(shown);
  live.textContent = "";
  requestAnimationFrame(() => { // a long text scrolls in itself, so that the scores stay in sight
    const ink = inks[stop];
    if (ink) text.scrollTop = ink.offsetTop - text.clientHeight / 2;
  });
}
