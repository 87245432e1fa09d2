// Brings attention to life: every head is a small picture to pick; the one picked is a matrix, and lines between tokens.

views.patterns = (part, data) => {
  const [queries, keys] = data.tokens, high = queries.length, wide = keys.length, one = part.querySelector(".one");
  const all = "mean of all heads", mean = data.grid.values, heads = data.heads.length;
  const matrices = data.packed.flat().map((text) => {
    const flat = unpack(text, 1);
    return queries.map((_, i) => keys.map((_, j) => (data.causal ? (j > i ? 0 : flat[i * (i + 1) / 2 + j]) : flat[i * wide + j])));
  });
  const names = data.layers.flatMap((layer) => data.heads.map((head) => `${layer}, ${head}`));

  // The heads.

  const picker = make("div", "picker", "", part.querySelector(".heads")), buttons = [];
  picker.style.gridTemplateColumns = `max-content repeat(${heads}, max-content)`;
  picker.setAttribute("role", "group");
  picker.setAttribute("aria-label", "heads");
  function head(name, parent) {
    const node = make("button", "head", "", parent);
    button(node, name);
    buttons.push(node);
    return node;
  }
  make("span", "", "", picker);
  for (const head of data.heads) make("span", "quiet", head, picker);
  data.layers.forEach((layer, l) => {
    make("span", "quiet", layer, picker);
    data.heads.forEach((_, h) => {
      const canvas = make("canvas", "", "", head(names[l * heads + h], picker));
      canvas.width = wide;
      canvas.height = high;
      const pen = canvas.getContext("2d"), image = pen.createImageData(wide, high);
      matrices[l * heads + h].flat().forEach((x, k) => image.data.set([...AMOUNT, 255 * Math.sqrt(x)], 4 * k));
      pen.putImageData(image, 0, 0);
    });
  });
  head(all, part.querySelector(".heads")).textContent = all;

  // The one that is picked.

  const title = make("div", "what", all);
  title.setAttribute("role", "status");
  const tabs = make("div", "tabs"), figure = one.firstElementChild, lines = make("div", "lines");
  const [set, write] = views.grid(one, data.grid);
  one.before(title, tabs);
  figure.before(lines);
  const choices = ["matrix", "lines"].map((name, i) => {
    const tab = make("button", "pin", name, tabs);
    on(tab, "click", () => tabbed(i));
    return tab;
  });
  function tabbed(i) {
    figure.hidden = i === 1;
    lines.hidden = i === 0;
    choices.forEach((tab, k) => tab.setAttribute("aria-pressed", k === i));
  }

  const [left, middle, right] = ["div", "div", "div"].map((tag) => make(tag, "", "", lines));
  const froms = queries.map((text) => make("span", "", text, left)), tos = keys.map((text) => make("span", "", text, right));
  const svg = part.querySelector(".wires"), wire = svg.firstElementChild;
  svg.setAttribute("viewBox", `0 0 10 ${max(high, wide)}`);
  middle.append(svg);
  middle.style.height = `${22.4 * max(high, wide)}px`;
  let values = mean;
  function draw(only) {
    svg.replaceChildren();
    values.forEach((row, i) => row.forEach((x, j) => {
      if (x < 0.05 || (only !== undefined && i !== only)) return;
      const line = svg.appendChild(wire.cloneNode());
      line.setAttribute("y1", i + 0.5);
      line.setAttribute("y2", j + 0.5);
      line.setAttribute("stroke-opacity", Math.sqrt(x));
    }));
    tos.forEach((node, j) => { node.style.backgroundColor = only === undefined ? "" : shade(Math.sqrt(values[only][j])); });
  }
  froms.forEach((node, i) => button(node, data.grid.axes[0][i]));
  explore(lines, froms, {
    show(i) {
      draw(i);
      const row = values[i], best = keys.map((_, j) => j).filter((j) => row[j]).sort((a, b) => row[b] - row[a]).slice(0, 8);
      write(`${i} ${queries[i]}`, "attends to", "", ["", best.map((j) => [false, j, keys[j], row[j], row[j]])]);
      return "attends to " + best.slice(0, 3).map((j) => `${keys[j]} ${number(row[j], 2)} at ${j}`).join(", ");
    },
    idle: () => draw(),
    place: data.grid.places && ((i) => data.grid.places[i]),
  });

  const { hold } = explore(part.querySelector(".heads"), buttons, {
    show(k) {
      values = matrices[k] || mean;
      title.textContent = names[k] || all;
      set(values);
      draw();
    },
    can: () => false,
    tell: (k) => [names[k] || "", ""],
    choose: (k) => hold(true, k),
    stop: names.length,
    step: (key, k) => (key === "ArrowDown" ? min(k + heads, names.length) : lattice(heads)(key, k)),
  });
  tabbed(0);
  hold(true, names.length);
};
