"use strict";
(() => {
  const root = document.documentElement;
  const plots = JSON.parse(document.getElementById("report-plots").textContent);
  const system = matchMedia("(prefers-color-scheme: dark)");
  const holders = [];

  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const coloured = (value) => {
    if (typeof value === "string") return value.startsWith("--") ? colour(value) : value;
    if (Array.isArray(value)) return typeof value[0] === "object" ? value.map(coloured) : value;
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, coloured(inner)]));
  };

  const axis = (given) => ({
    gridcolor: colour("--line"), linecolor: colour("--line"), zeroline: false, automargin: true, ...given,
  });
  const layout = (given) => {
    const themed = {
      margin: { l: 56, r: 36, t: 44, b: 44 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: colour("--ink"), family: "system-ui, sans-serif", size: 12 },
      hovermode: "x unified",
      hoverlabel: { bgcolor: colour("--paper"), bordercolor: colour("--line"), font: { color: colour("--ink") } },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
      autosize: true,
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--soft"), activecolor: colour("--ink"), orientation: "v" },
      ...given,
    };
    for (const name of ["xaxis", "yaxis", "yaxis2"]) if (themed[name]) themed[name] = axis(themed[name]);
    return themed;
  };
  const options = { responsive: true, displaylogo: false, modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]] };

  const draw = () => plots.forEach((plot, number) => {
    Plotly.react(holders[number], coloured(plot.data), layout(plot.layout), options);
  });

  for (const plot of plots) {
    const figure = document.createElement("figure");
    const title = document.createElement("h2");
    const note = document.createElement("p");
    const holder = document.createElement("div");
    title.textContent = plot.title;
    note.textContent = plot.note;
    holder.className = "plot";
    holder.setAttribute("role", "img");
    holder.setAttribute("aria-label", plot.title);
    figure.append(title, note, holder);
    document.getElementById("plots").append(figure);
    holders.push(holder);
  }

  const dress = (dark) => {
    root.dataset.theme = dark ? "dark" : "light";
    draw();
  };
  system.addEventListener("change", (event) => dress(event.matches));
  document.getElementById("theme").addEventListener("click", () => dress(root.dataset.theme !== "dark"));
  dress(system.matches);
  // Once more when the page has its final width: a scroll bar may have come.
  requestAnimationFrame(() => holders.forEach((holder) => Plotly.Plots.resize(holder)));
})();
