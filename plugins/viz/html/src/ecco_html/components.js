// Brings factors to life: point at one to see where it is active, or at a token to see which factors are active there.

views.components = (part, { names, tokens: words, places, values, signed, colours, tint, top }) => {
  const factors = [...part.querySelectorAll(".factor")], text = part.querySelector(".text"), tokens = [...text.querySelectorAll(".tok")];
  const inks = tokens.map((node) => node.querySelector(".ink")), idle = inks.map((ink) => ink.style.backgroundColor);
  const box = make("div", "", "", part), write = panel(box, "a component to see where it is active, or to a token", false);
  const best = (list) => list.map((x, i) => [abs(x ?? 0), i]).filter(([size]) => size).sort((a, b) => b[0] - a[0]).slice(0, 8).map(([, i]) => i);
  const list = (sizes, labels, which, colour) => ["", which.map((i) => [false, "", labels[i], sizes[i], top ? sizes[i] / top : 0, signed, signed ? "" : colour(i)])];
  const own = (i) => `rgb(${colours[i % colours.length]})`;

  factors.forEach((node, i) =>
    button(node, [names[i], ...[...node.querySelectorAll(".words, .quiet")].map((n) => n.textContent)].join(", ")));
  explore(part.querySelector(".factors"), factors, {
    show(i) {
      const row = values[i], most = abs(row[best(row)[0]]), [r, g, b] = colours[i % colours.length];
      inks.forEach((ink, k) => {
        const level = most ? (row[k] ?? 0) / most : 0;
        ink.style.backgroundColor = signed ? shade(level, true) : level > 0 ? `rgba(${r},${g},${b},${tint * level})` : "";
      });
      write(names[i], "is active at", "", list(row, words, best(row), () => own(i)));
    },
    idle: () => inks.forEach((ink, k) => { ink.style.backgroundColor = idle[k]; }),
  });
  tokens.forEach((node, k) => button(node, words[k]));
  explore(text, tokens, {
    show(k) {
      const column = values.map((row) => row[k]), which = best(column);
      write(words[k], "has active", "", list(column, names, which, own));
      return which.slice(0, 3).map((i) => `${names[i]} ${number(column[i], 3)}`).join(", ");
    },
    place: (k) => places[k],
    ink: (node) => node.firstElementChild,
  });
};
