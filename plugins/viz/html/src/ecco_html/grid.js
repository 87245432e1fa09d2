// Brings a matrix to life: point at, tap or arrow to a cell to see all there is of it.
// `data` is what heat_map.py made. Returns how to show other numbers in the same cells, and how to
// write beside them.

views.grid = (part, { axes: [rows, columns], words, texts, best, ranks, values, more, low, high, signed, bend, unit, joint, along, strongest, places, placed, invite }) => {
  const wide = columns.length, table = part.querySelector("table"), dense = table.classList.contains("dense");
  const cells = [...table.querySelectorAll("tbody td")], write = panel(part, invite || "a box to see all of it");
  const at = (k) => [Math.floor(k / wide), k % wide];
  const where = (i, j) => [rows[i], columns[j]].filter(Boolean).join(", ");
  const value = (i, j) => values[i][j];
  const word = (packed, n) => words[whole(packed, 3 * n, 3)];
  const text = (i, j) => (texts ? word(texts, i * wide + j) : "");
  const reach = max(abs(low), abs(high));
  const level = (x) => bend === "log" ? 1 - Math.log(x / low) / (Math.log(high / low) || 1)
    : bend ? Math.sqrt(x) : signed ? x / high : high > low ? (x - low) / (high - low) : 0.5;
  const share = (x) => bend === "log" ? level(x) : reach ? x / reach : 0; // of a bar
  const extra = (i, j) => more.map(([name, ...ends]) => `${name} ${ends.map((end) => number(end[i][j])).join(" to ")}`);
  table.setAttribute("role", "grid");

  function name(k) {
    const [i, j] = at(k);
    cells[k].setAttribute("aria-label", [`${where(i, j)}: ${cells[k].textContent}`, ...(wide > 8 ? extra(i, j) : [])].join(", "));
  }

  function candidates(i, j) { // the best of a cell, as heat_map.py packed them: a word, and minus the logarithm
    const from = (i * wide + j) * ranks;
    return Array.from({ length: ranks }, (_, r) => {
      const x = Number(Math.exp(-whole(best, 6 * (from + r) + 3, 3) / 4096).toPrecision(3));
      return [false, r + 1, word(best, 2 * (from + r)), x, x, false];
    });
  }

  function list(i, j) { // the other cells of the layer's axis, or the strongest of the row
    const line = along === 0 ? rows.map((label, r) => [r, j, label]) : columns.map((label, c) => [i, c, label]);
    const size = (row) => abs(value(row[0], row[1]) ?? 0);
    const chosen = strongest ? line.filter(size).sort((a, b) => size(b) - size(a)).slice(0, 8) : line;
    return chosen.map(([r, c, label]) =>
      [r === i && c === j, texts ? label : "", texts ? text(r, c) : label, value(r, c), share(value(r, c)), signed]);
  }

  explore(part, cells, {
    show(k) {
      const [i, j] = at(k), x = plus(value(i, j), signed), lists = along < 0 ? [] : [[best && "all layers here", list(i, j)]];
      if (best) lists.unshift(["best in this box", candidates(i, j)]);
      write(text(i, j) || x, `${joint} ${where(i, j)}`, [texts ? `${unit || "value"}: ${x}` : unit, ...extra(i, j)].filter(Boolean).join(" · "), ...lists);
    },
    tell(k) { const [i, j] = at(k); return [`${text(i, j)} ${plus(value(i, j), signed)}`.trim(), ""]; },
    step: lattice(wide),
    best: (there) => strongest ? there.reduce((a, b) => (value(...at(b)) > value(...at(a)) ? b : a)) : there.at(-1),
    place: places && ((k) => places[placed ? at(k)[1] : at(k)[0]]),
  });

  function set(others) {
    values = others;
    cells.forEach((cell, k) => {
      const x = value(...at(k));
      cell.textContent = number(x, 3);
      cell.style.backgroundColor = shade(x === null ? 0 : level(x), signed, dense ? 1 : OPAQUE);
      name(k);
    });
    if (dense) part.querySelectorAll(".swatch").forEach((node, i) => {
      const x = bend === "log" ? low * (high / low) ** (i / 4) : low + (high - low) * i / 4;
      node.style.backgroundColor = shade(level(x), signed, 1);
    });
  }
  if (dense) set(values); else cells.forEach((_, k) => name(k));
  return [set, write];
};
