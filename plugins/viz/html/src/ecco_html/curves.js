// Brings curves to life: point at, tap or arrow to a place along the axis to see all values there.

views.curves = (part, { names, places, values, levels, ends, colours }) => {
  const stops = [...part.querySelectorAll(".stop")], write = panel(part, "the drawing to see all values there");
  const told = (k) => names.map((name, i) => `${name} ${number(values[i][k], 3)}`).join(", ");
  stops.forEach((node, k) => button(node, `${places[k]}: ${told(k)}`));
  explore(part, stops, {
    show: (k) => write(places[k], "", "", ["", names.map((name, i) =>
      [false, "", ends && ends[i][k] ? `${name} (${ends[i][k]})` : name, values[i][k], levels[i][k], false, colours[i]])]),
    tell: (k) => [`${places[k]}: ${told(k)}`, told(k)],
  });
};
