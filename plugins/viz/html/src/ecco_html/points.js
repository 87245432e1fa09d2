// Brings points to life: point at one, or go from one to the next by arrow, to see its token and where it stands.

views.points = (part, data) => {
  const dots = [...part.querySelectorAll(".dot")], write = panel(part, "a dot to see its token");
  const id = (k) => Number(dots[k].dataset.i);
  dots.forEach((dot, k) => {
    button(dot, data.names[id(k)]);
  });
  explore(part, dots, {
    show: (k) => write(data.names[id(k)], `stands at ${data.at[id(k)]}`, ""),
    tell: (k) => [data.names[id(k)], data.names[id(k)]],
    place: (k) => data.places[id(k)] || "",
  });
};
