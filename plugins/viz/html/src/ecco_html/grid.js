// Brings a matrix to life: point at, tap or arrow to a cell to see all there is of it.
// `data` is what heat_map.py made. Returns how to show other numbers in the same cells, and how to
// write beside them.

views.grid = (part, { axes: [rows, columns], texts, values, more, low, high, signed, log, unit, joint, along, strongest, places, placed, invite }) => {
  const wide = columns.length, table = part.querySelector("table");
  const cells = [...table.querySelectorAll("tbody td")], write = panel(part, invite || "a box to see all of it");
  const at = (k) => [Math.floor(k / wide), k % wide];
  const where = (i, j) => [rows[i], columns[j]].filter(Boolean).join(", ");
  const value = (i, j) => values[i][j];
  const text = (i, j) => (texts ? `${texts[i][j]} ` : "");
  const reach = max(abs(low), abs(high));
  const level = (x) => log ? 1 - Math.log(x / low) / (Math.log(high / low) || 1) : reach ? x / reach : 0;
  const extra = (i, j) => more.map(([name, ...ends]) => `${name} ${ends.map((end) => number(end[i][j])).join(" to ")}`);
  table.setAttribute("role", "grid");

  function name(k) {
    const [i, j] = at(k);
    cells[k].setAttribute("aria-label", [`${where(i, j)}: ${cells[k].textContent}`, ...(wide > 8 ? extra(i, j) : [])].join(", "));
  }

  function list(i, j) { // the other cells of the layer's axis, or the strongest of the row
    const line = along === 0 ? rows.map((label, r) => [r, j, label]) : columns.map((label, c) => [i, c, label]);
    const size = (row) => abs(value(row[0], row[1]) ?? 0);
    const chosen = strongest ? line.filter(size).sort((a, b) => size(b) - size(a)).slice(0, 8) : line;
    return chosen.map(([r, c, label]) =>
      [r === i && c === j, texts ? label : "", texts ? texts[r][c] : label, value(r, c), level(value(r, c)), signed]);
  }

  explore(part, cells, {
    show(k) {
      const [i, j] = at(k), told = text(i, j) || plus(value(i, j), signed);
      const first = texts ? `${unit || "value"}: ${plus(value(i, j), signed)}` : unit;
      write(told, `${joint} ${where(i, j)}`, [first, ...extra(i, j)].filter(Boolean).join(" · "), along < 0 ? [] : list(i, j));
    },
    tell(k) { const [i, j] = at(k); return [text(i, j) + plus(value(i, j), signed), ""]; },
    step: lattice(wide),
    best: (there) => strongest ? there.reduce((a, b) => (value(...at(b)) > value(...at(a)) ? b : a)) : there.at(-1),
    place: places && ((k) => places[placed ? at(k)[1] : at(k)[0]]),
  });
  cells.forEach((_, k) => name(k));

  return [(others) => {
    values = others;
    cells.forEach((cell, k) => {
      const x = value(...at(k));
      cell.textContent = number(x, 3);
      cell.style.backgroundColor = shade(level(x), signed);
      name(k);
    });
  }, write];
};
