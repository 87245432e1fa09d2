// What all views share: making nodes, writing numbers, painting, bars, and moving about.
// Text goes into the page through textContent only.

const abs = Math.abs, max = Math.max, min = Math.min;
const on = (node, type, act) => node.addEventListener(type, act);
const make = (tag, className, text, parent) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.textContent = text ?? "";
  if (parent) parent.append(node);
  return node;
};

// Numbers, as escape.py writes them.

const tidy = (text) => text.replace("e+", "e").replaceAll("-", "−");
const number = (x, digits = 4) => {
  if (x === null || Number.isNaN(x)) return "not a number";
  const y = Number(x.toPrecision(digits)), size = abs(y);
  return tidy(Number.isInteger(x) && abs(x) < 1e6 ? String(x) : size < 1e-4 || size >= 10 ** digits ? y.toExponential() : String(y));
};
const plus = (x, signed, digits) => (signed && x > 0 ? "+" : "") + number(x, digits);

// Numbers as packing.py packs them: two characters each, a sign and the logarithm of the size.

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const whole = (text, from, size) => [...text.slice(from, from + size)].reduce((sum, c) => sum * 64 + DIGITS.indexOf(c), 0);
const unpack = (text, greatest) => Array.from({ length: text.length / 2 }, (_, i) => {
  const code = whole(text, 2 * i, 2), size = code & 2047;
  return size === 2047 ? null : size && (code >> 11 ? -1 : 1) * greatest * 10 ** (5 * (size - 2046) / 2046);
});

const shade = (level, signed, most = OPAQUE) => {
  const alpha = Math.round(most * min(abs(level || 0), 1) * 100) / 100;
  return alpha ? `rgba(${signed ? level > 0 ? FOR : AGAINST : AMOUNT},${alpha})` : "";
};

// A row of a table of bars.
function barRow(parent, where, text, value, level, signed, colour) {
  const tr = make("tr", "", "", parent);
  make("td", "quiet", where, tr);
  make("bdi", "", text, make("td", "source", "", tr));
  make("td", "num", plus(value, signed), tr);
  const bar = make("span", "bar", "", make("td", "bars", "", tr));
  bar.style.width = `${100 * min(abs(level || 0), 1)}%`;
  bar.style.backgroundColor = colour || shade(Math.sign(level), signed);
  return tr;
}

// A box beside a picture for what is said about the place that is pointed at: a name, where, more, and tables of bars,
// each a title and its rows: whether it is the place itself, and what barRow takes.
function panel(part, thing, beside = true) {
  part.classList.toggle("beside", beside);
  const box = make("div", "panel", "", part), what = make("div", "what", "", box);
  const name = make("b", "name", "", what), where = make("span", "where quiet", "", what);
  name.after(" ");
  where.textContent = `Point at, tap or arrow to ${thing}; Enter or a click pins it, Esc lets go.`;
  const facts = make("div", "facts quiet", "", box), bars = make("div", "", "", box);
  return (told, at, more, ...tables) => {
    name.textContent = told;
    where.className = "where";
    where.textContent = at;
    facts.textContent = more;
    bars.replaceChildren();
    for (const [title, rows] of tables) {
      const table = make("table", "top", "", bars);
      if (title) make("caption", "", title, table);
      const body = make("tbody", "", "", table);
      for (const [mark, ...row] of rows) barRow(body, ...row).classList.toggle("lit", mark);
    }
  };
}

// Keys that walk in rows of so many.
const lattice = (wide) => (key, k) => ({
  ArrowRight: (k + 1) % wide ? k + 1 : k, ArrowLeft: k % wide ? k - 1 : k, ArrowDown: k + wide, ArrowUp: k - wide,
  Home: k - k % wide, End: k - k % wide + wide - 1,
})[key];

// A node that can be chosen, and its name for those who hear the page.
function button(node, name) {
  node.setAttribute("role", "button");
  node.setAttribute("aria-pressed", "false");
  node.setAttribute("aria-label", name);
}

// Moving about in `nodes`, one stop of the Tab key: point at, tap or arrow to one to see it; Enter, Space or a click
// pins it, Esc lets go. A pinned one with a place (stack-position) is what other parts of the page go to.
//   can(k): whether it can be seen; show(k) shows it and may return what is said aloud; tell(k): what is told of another
//   while one is pinned, for the eye and for the ear; best(ks): which of the nodes at a place that was chosen elsewhere;
//   idle(): nothing is pointed at; choose(k): what a click does instead; step(key, k): where a key leads, if not along
//   the list.
//   Nodes that are no buttons are cells.
function explore(part, nodes, {
  can = () => true, show, tell = () => ["", ""], idle, leave, choose, step, place, best = (there) => there.at(-1), area = (node) => node, ink = (node) => node, stop = 0 }) {
  const index = new Map(), page = part.closest(".view");
  nodes.forEach((node, k) => index.set(node, k).set(area(node), k));
  const of = (e) => {
    for (let node = e.target; node && node !== part; node = node.parentNode) if (index.has(node)) return index.get(node);
  };
  const tip = make("div", "tip", "", part), live = make("div", "unseen", "", part), pin = make("button", "pin", "pin");
  tip.hidden = true;
  tip.setAttribute("aria-hidden", "true");
  live.setAttribute("role", "status");
  const what = part.querySelector(".what");
  if (what) what.append(" ", pin);
  const walk = (key, k) => ({ ArrowRight: k + 1, ArrowDown: k + 1, ArrowLeft: k - 1, ArrowUp: k - 1, Home: 0, End: nodes.length - 1 })[key];
  let held = false, shown = -1;
  for (const node of nodes) node.tabIndex = -1;

  const press = (node, on) => node.setAttribute(node.tagName === "TD" ? "aria-selected" : "aria-pressed", on);

  function mark() {
    for (const node of part.querySelectorAll(".shown")) {
      node.classList.remove("shown");
      press(node, false);
    }
    if (nodes[shown]) {
      nodes[shown].classList.add("shown");
      press(nodes[shown], held);
    }
    part.classList.toggle("pinned", held);
    part.classList.toggle("blank", shown < 0);
    pin.textContent = held ? "pinned" : "pin";
    pin.setAttribute("aria-pressed", held);
  }

  function look(k) {
    shown = k;
    if (k >= 0) live.textContent = show(k) || "";
    mark();
  }

  function quit() {
    tip.hidden = true;
    if (leave) leave();
    if (idle && !held) { shown = -1; mark(); idle(); }
  }

  function visit(k, aloud) {
    if (!held && can(k)) {
      if (k !== shown) look(k);
      tip.hidden = true;
      if (leave) leave();
      return;
    }
    const [seen, heard] = tell(k), frame = part.getBoundingClientRect();
    tip.textContent = seen;
    tip.hidden = !seen;
    const box = ink(nodes[k]).getClientRects()[0] || frame;
    tip.style.left = `${max(min(box.left - frame.left, frame.width - tip.offsetWidth), 0)}px`;
    tip.style.top = `${box.top - frame.top - tip.offsetHeight - 2}px`;
    if (aloud) live.textContent = heard;
  }

  function hold(pinned, k = shown) {
    held = pinned;
    if (held && k !== shown) look(k); else mark();
  }

  function share() {
    const chosen = place && held ? place(shown) || "" : "";
    if (OURS && place) history.replaceState(null, "", chosen ? `#${chosen}` : location.pathname + location.search);
    page.dispatchEvent(new CustomEvent("ecco-place", { detail: [chosen, part] }));
  }

  function toggle(k) {
    if (choose) choose(k);
    else if (can(k)) { hold(!(held && shown === k), k); share(); }
    visit(k);
  }

  if (place) on(page, "ecco-place", ({ detail: [chosen, from] }) => {
    for (const node of part.querySelectorAll(".linked")) node.classList.remove("linked");
    if (from === part) return;
    const there = [...nodes.keys()].filter((i) => chosen && place(i) === chosen), k = there.length ? best(there) : -1;
    for (const i of there) nodes[i].classList.add("linked");
    if (k >= 0 && can(k)) hold(true, k); else hold(false);
    if (k < 0) return;
    go(k);
    requestAnimationFrame(() => reveal(nodes[k]));
  });

  function go(k) {
    nodes[stop].tabIndex = -1;
    stop = k;
    nodes[k].tabIndex = 0;
  }

  on(part, "pointerover", (e) => {
    const k = of(e);
    if (k !== undefined) visit(k); else quit();
  });
  on(part, "pointerleave", quit);
  on(part, "focusin", (e) => {
    const k = of(e);
    if (k !== undefined) { go(k); visit(k, true); }
  });
  on(part, "focusout", quit);
  on(part, "click", (e) => {
    const k = of(e);
    if (k !== undefined) { nodes[k].focus({ preventScroll: true }); toggle(k); }
    else if (e.target === pin) { hold(!held); share(); }
  });
  on(part, "keydown", (e) => {
    if (e.altKey || e.ctrlKey || e.metaKey) return;
    const k = of(e);
    if (e.key === "Escape" && held && !choose) { hold(false); share(); }
    else if (k === undefined || e.target === pin) return;
    else if (e.key === "Enter" || e.key === " ") toggle(k);
    else {
      const next = (step && step(e.key, k)) ?? walk(e.key, k);
      if (next === undefined) return;
      if (nodes[next]) nodes[next].focus();
    }
    e.preventDefault();
    e.stopPropagation();
  });

  if (nodes.length) go(stop);
  mark();
  return { look, hold, say: (text) => { live.textContent = text; } };
}

// Scrolls a node into the sight of its own box, not the page.
function reveal(node) {
  const box = node.closest(".text, .scroll");
  if (!box) return;
  const frame = box.getBoundingClientRect(), own = node.getBoundingClientRect();
  box.scrollTop += own.top - frame.top - (frame.height - own.height) / 2;
  box.scrollLeft += own.left - frame.left - (frame.width - own.width) / 2;
}
