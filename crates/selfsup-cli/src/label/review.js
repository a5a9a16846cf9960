"use strict";
// What was decided of each sample: [label, weight, reason].
function corrected(samples, decisions) {
  const cell = (text) => /[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
  const rows = [["file", "label", "weight", "reason"]];
  samples.forEach(([file], number) => { if (decisions[number]) rows.push([file, ...decisions[number]]); });
  return rows.map((row) => row.map((value) => cell(String(value))).join(",") + "\n").join("");
}
function start() {
  const { title, samples, classes, open } = JSON.parse(document.getElementById("data").textContent);
  const cards = [...document.querySelectorAll("article")];
  const place = "selfsup review " + title + " " + samples.map(([file]) => file).join("|");
  let decisions = {};
  // A browser may forbid pages without an address to remember anything.
  try { decisions = JSON.parse(localStorage.getItem(place)) || {}; } catch { /* nothing is remembered */ }
  const show = (number) => {
    const card = cards[number], decision = decisions[number];
    card.classList.toggle("decided", !!decision);
    for (const button of card.querySelectorAll("button")) {
      const pressed = !!decision && (
        button.dataset.do === "reject" ? decision[1] === 0 :
        decision[1] === 1 && decision[0] === (button.dataset.do === "accept" ? samples[number][1] : button.dataset.class));
      button.setAttribute("aria-pressed", pressed);
    }
    card.querySelector(".decision").textContent =
      !decision ? "" : decision[1] === 0 ? "rejected" : "labelled " + decision[0];
    const count = Object.keys(decisions).length;
    document.getElementById("count").textContent = count + " of " + samples.length + " decided";
    document.getElementById("download").disabled = count === 0;
  };
  const decide = (number, decision) => {
    if (decision) decisions[number] = decision; else delete decisions[number];
    try { localStorage.setItem(place, JSON.stringify(decisions)); } catch { /* nothing is remembered */ }
    show(number);
  };
  const act = (number, what, name) => {
    const proposed = samples[number][1];
    if (what === "accept" && proposed !== null) decide(number, [proposed, 1, "a person accepted it"]);
    if (what === "reject" && proposed !== null) decide(number, [proposed, 0, "a person rejected it"]);
    if (what === "choose") decide(number, [name, 1, "a person chose it"]);
    if (what === "undo") decide(number, null);
  };
  cards.forEach((card, number) => {
    card.addEventListener("click", ({ target }) => {
      const button = target.closest("button");
      if (!button) return;
      const pressed = button.getAttribute("aria-pressed") === "true";
      act(number, pressed ? "undo" : button.dataset.do, button.dataset.class);
    });
    const input = card.querySelector("input");
    if (input) input.addEventListener("change", () => {
      const name = input.value.trim(), known = open || classes.includes(name);
      input.setCustomValidity(name && !known ? "There is no such class." : "");
      if (name && known) act(number, "choose", name); else if (name) input.reportValidity();
    });
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey || event.altKey) return;
    const card = event.target.closest ? event.target.closest("article") : null;
    const number = card ? Number(card.dataset.number) : -1;
    const go = (to) => { if (cards[to]) { cards[to].focus(); event.preventDefault(); } };
    if (event.key === "j" || (card && event.key === "ArrowDown")) return go(number + 1);
    if (event.key === "k" || (card && event.key === "ArrowUp")) return go(Math.max(number - 1, 0));
    if (!card) return;
    const digit = "123456789".indexOf(event.key);
    if (event.key === "a") act(number, "accept");
    else if (event.key === "x") act(number, "reject");
    else if (event.key === "u") return act(number, "undo");
    else if (digit >= 0 && digit < classes.length) act(number, "choose", classes[digit]);
    else return;
    go(number + 1);
  });
  document.getElementById("download").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([corrected(samples, decisions)], { type: "text/csv" }));
    link.download = "corrected.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
  cards.forEach((_, number) => show(number));
}
if (typeof document !== "undefined") start();
if (typeof module !== "undefined") module.exports = { corrected };
