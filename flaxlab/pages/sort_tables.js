"use strict";
// A click on a column's title sorts by the values behind the cells: up, down, up again. Cells
// without a value stay at the end.
for (const table of document.querySelectorAll("table.sortable")) {
  const titles = [...table.tHead.rows[0].cells];
  const compare = (a, b) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    const difference = Number(a) - Number(b);
    return Number.isNaN(difference) ? a.localeCompare(b) : difference;
  };
  titles.forEach((title, column) => title.addEventListener("click", () => {
    const down = title.getAttribute("aria-sort") === "ascending";
    titles.forEach((other) => other.removeAttribute("aria-sort"));
    title.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => row.cells[column].dataset.value;
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const empty = value(a) === "" || value(b) === "";
      return compare(value(a), value(b)) * (down && !empty ? -1 : 1);
    });
    table.tBodies[0].append(...rows);
  }));
}
