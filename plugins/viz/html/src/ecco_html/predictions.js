// Brings candidates to life: point at, tap or arrow to one to find it in the other lists.

views.predictions = (part, { names, places, texts, values, keys, ranks }) => {
  const wide = ranks.length, nodes = [...part.querySelectorAll(".source bdi")], write = panel(part, "a candidate to find it in every list", false);
  const at = (k) => [Math.floor(k / wide), k % wide], key = (k) => keys.flat()[k];
  const rows = nodes.map((node) => node.closest("tr"));
  nodes.forEach((node, k) => {
    const [i, j] = at(k);
    button(node, `${names[i]}, rank ${ranks[j]}: ${texts[i][j]}, ${values[i][j]}`);
  });
  explore(part, nodes, {
    show(k) {
      const [i, j] = at(k), found = [];
      rows.forEach((row, other) => {
        const same = key(other) === key(k), [r, c] = at(other);
        row.classList.toggle("same", same);
        if (same && r !== i) found.push(`${names[r]}: rank ${ranks[c]}, ${values[r][c]}`);
      });
      const others = found.length ? `also in ${found.join("; ")}` : names.length > 1 ? "in no other list" : "";
      write(texts[i][j], `rank ${ranks[j]} in ${names[i]}, probability ${values[i][j]}`, others);
      return others;
    },
    idle() { for (const row of rows) row.classList.remove("same"); },
    step: (name, k) => ({ ArrowRight: k + wide, ArrowLeft: k - wide })[name],
    area: (node) => node.closest("tr"),
    place: places.some(Boolean) && ((k) => places[at(k)[0]]),
  });
};
