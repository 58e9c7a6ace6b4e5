// Keys of the page of labeling, dropping a table, and where the focus goes.
"use strict";

const keysAreOn = () => document.getElementById("keys")?.checked;

document.addEventListener("DOMContentLoaded", () => {
  const keys = document.getElementById("keys");
  if (keys) {
    keys.checked = localStorage.getItem("keys") !== "off";
    keys.addEventListener("change", () => localStorage.setItem("keys", keys.checked ? "on" : "off"));
  }
  const drop = document.getElementById("drop");
  if (!drop) return;
  const input = document.getElementById("table");
  input.addEventListener("change", () => input.files.length && drop.requestSubmit());
  for (const name of ["dragenter", "dragover"]) {
    drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
  }
  for (const name of ["dragleave", "drop"]) {
    drop.addEventListener(name, () => drop.classList.remove("over"));
  }
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    input.files = event.dataTransfer.files;
    if (input.files.length) drop.requestSubmit();
  });
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || !keysAreOn()) return;
  if (event.target.closest("input:not(#keys), textarea, select")) return;
  const key = CSS.escape(event.key.toLowerCase());
  const button = document.querySelector(`#card [data-key="${key}"]`);
  // A key that comes while an answer is on its way would label a text that nobody has read.
  if (button && !document.querySelector("#card form.htmx-request")) {
    event.preventDefault();
    button.click();
  }
});

// The next text is read out, and keys go to the page rather than to a button that is gone.
document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id === "card") document.getElementById("text")?.focus();
  const select = event.detail.elt.querySelector?.("select[name=do]");
  if (select && event.detail.elt.tagName === "TR") select.focus();
});

document.addEventListener("htmx:sendError", () => {
  const place = document.getElementById("problem"), words = document.createElement("p");
  words.className = "remark";
  words.textContent = "nlp-meta app does not answer. Start it again: all labels up to here are kept.";
  place.replaceChildren(words);
});
