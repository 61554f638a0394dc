"use strict";
const $ = (id) => document.getElementById(id);
const list = $("list");
const tests = [...list.querySelectorAll("details.test")];
const summaryOf = (test) => test.querySelector("summary");

// Charts: the library runs when the first one comes into view, each chart is drawn once.
const { kinds, config } = JSON.parse($("kinds").textContent);
let isLoaded = false;
function load() {
  if (isLoaded) return;
  const script = document.createElement("script");
  script.textContent = $("library").textContent;
  document.head.append(script);
  isLoaded = true;
}
function rowsOf(columns) {
  const fields = Object.keys(columns);
  return (columns[fields[0]] ?? []).map((_, at) => Object.fromEntries(fields.map((each) => [each, columns[each][at]])));
}
function draw(drawing) {
  if (drawing.dataset.drawn) return;
  drawing.dataset.drawn = "begun";
  load();
  const packed = Object.entries(JSON.parse(drawing.nextElementSibling.textContent));
  const datasets = Object.fromEntries(packed.map(([name, columns]) => [name, rowsOf(columns)]));
  const title = drawing.previousElementSibling.textContent;
  const kind = kinds[drawing.dataset.kind];
  const spec = {
    ...kind, layer: kind.layer.filter((each) => datasets[each.data.name].length), datasets, config, description: title, height: Number(drawing.dataset.height),
    autosize: { type: "fit-x", contains: "padding" },
  };
  const how = {
    mode: "vega-lite", renderer: "svg", actions: false, defaultStyle: false,
    tooltip: { theme: "none", disableDefaultStyle: true },
  };
  window.vegaEmbed(drawing, spec, how).then(
    () => { drawing.dataset.drawn = "done"; },
    (error) => { drawing.textContent = `This chart could not be drawn: ${error}`; console.error(error); },
  );
}
const drawAll = (within) => within.querySelectorAll(".drawing").forEach(draw);
const watch = new IntersectionObserver((seen) => {
  for (const each of seen) if (each.isIntersecting) { watch.unobserve(each.target); draw(each.target); }
}, { rootMargin: "300px" });
document.querySelectorAll(".drawing").forEach((each) => watch.observe(each));

// Filter and sort.
function matches(test) {
  const words = $("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  const text = `${test.dataset.test} ${summaryOf(test).textContent}`.toLowerCase();
  return words.every((word) => text.includes(word))
    && (!$("only").value || test.dataset.verdict === $("only").value)
    && (!$("where").value || test.dataset.machine === $("where").value);
}
function filter() {
  let shown = 0;
  for (const test of tests) {
    test.hidden = !matches(test);
    shown += !test.hidden;
  }
  const all = `${tests.length} test${tests.length === 1 ? "" : "s"}`;
  $("shown").value = shown === tests.length ? all : `${shown} of ${all}`;
  $("none").hidden = shown > 0 || !tests.length;
  for (const each of document.querySelectorAll(".count"))
    each.setAttribute("aria-pressed", String(each.dataset.verdict === $("only").value));
}
function showAll() {
  $("find").value = $("only").value = $("where").value = "";
  filter();
}
for (const id of ["find", "only", "where"]) $(id).addEventListener("input", filter);
$("all").addEventListener("click", showAll);
for (const each of document.querySelectorAll(".count"))
  each.addEventListener("click", () => {
    $("only").value = $("only").value === each.dataset.verdict ? "" : each.dataset.verdict;
    filter();
    $("tests").scrollIntoView();
  });

const UP_FIRST = new Set(["name", "n2", "n3", "n4"]);
function sort(button) {
  const key = button.dataset.sort;
  const isUp = button.getAttribute("aria-pressed") === "true" ? !button.classList.contains("up") : UP_FIRST.has(key);
  for (const each of document.querySelectorAll("[data-sort]")) {
    each.setAttribute("aria-pressed", String(each === button));
    each.classList.toggle("up", each === button && isUp);
  }
  const place = (test) => Number(test.dataset.place);
  const compare = (a, b) => {
    if (key === "name") return a.dataset.test.localeCompare(b.dataset.test, "en", { numeric: true }) * (isUp ? 1 : -1);
    const [left, right] = [a.dataset[key], b.dataset[key]];
    if (left === undefined || right === undefined) return (left === undefined) - (right === undefined);
    return (Number(left) - Number(right)) * (isUp ? 1 : -1);
  };
  tests.sort((a, b) => compare(a, b) || place(a) - place(b));
  list.prepend(...tests);
}
for (const each of document.querySelectorAll("[data-sort]")) each.addEventListener("click", () => sort(each));

// Links to a test: by its short id, or by its node id.
function named(hash) {
  let name = hash.slice(1);
  try { name = decodeURIComponent(name); } catch { /* taken as it is */ }
  return tests.find((test) => test.id === name) ?? tests.find((test) => test.dataset.test === name);
}
function follow() {
  const test = location.hash && named(location.hash);
  if (!test) return;
  if (test.hidden) showAll();
  test.open = true;
  summaryOf(test).scrollIntoView();
  summaryOf(test).focus({ preventScroll: true });
}
window.addEventListener("hashchange", follow);
list.addEventListener("click", (event) => {
  const summary = event.target.closest("details.test > summary");
  if (summary && !summary.parentElement.open) history.replaceState(null, "", `#${summary.parentElement.id}`);
});

// Theme.
const THEMES = ["system", "light", "dark"];
function remembered() { try { return localStorage.getItem("llmperf-theme"); } catch { return null; } }
function setTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  $("theme").textContent = `Theme: ${theme}`;
  try { localStorage.setItem("llmperf-theme", theme); } catch { /* a browser that keeps nothing of files */ }
}
function nextTheme() {
  const now = document.documentElement.dataset.theme ?? "system";
  setTheme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
}
setTheme(THEMES.includes(remembered()) ? remembered() : "system");
$("theme").addEventListener("click", nextTheme);

// Keys.
const help = $("help");
$("keys").addEventListener("click", () => help.showModal());
function move(by) {
  const shown = tests.filter((test) => !test.hidden);
  if (!shown.length) return;
  const at = shown.findIndex((test) => test.contains(document.activeElement));
  const next = at < 0 ? (by > 0 ? 0 : shown.length - 1) : Math.min(Math.max(at + by, 0), shown.length - 1);
  summaryOf(shown[next]).focus();
  summaryOf(shown[next]).scrollIntoView({ block: "nearest" });
}
function close() {
  const test = document.activeElement.closest?.("details.test");
  if (test?.open) { test.open = false; summaryOf(test).focus(); }
}
document.addEventListener("keydown", (event) => {
  if (help.open || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input, select")) {
    if (event.key === "Escape") { event.target.blur(); event.preventDefault(); }
    return;
  }
  const acts = {
    "/": () => { $("find").focus(); $("find").select(); }, j: () => move(1), k: () => move(-1),
    Escape: close, t: nextTheme, "?": () => help.showModal(),
  };
  if (acts[event.key]) { event.preventDefault(); acts[event.key](); }
});

// Paper: what is red is told whole, with its charts.
let opened = [];
function print(isPrinting) {
  if (isPrinting && !opened.length) {
    opened = tests.filter((test) => !test.hidden && !test.open && "print" in test.dataset);
    for (const test of opened) test.open = true;
    for (const each of document.querySelectorAll("details[open], .chapter, #overview")) drawAll(each);
  } else if (!isPrinting) {
    for (const test of opened) test.open = false;
    opened = [];
  }
}
window.addEventListener("beforeprint", () => print(true));
window.addEventListener("afterprint", () => print(false));
matchMedia("print").addEventListener("change", (event) => print(event.matches));

filter();
follow();
