// What a reference leads to opens beside it when the pointer or the focus rests on it, and goes with Escape. The page
// brings it along (write_previews in book/_ext/pure_reading.py): nothing is fetched.
"use strict";

const SHOW_AFTER = 250, HIDE_AFTER = 200; // milliseconds: no flicker on the way across a line
const previews = JSON.parse(document.getElementById("previews")?.textContent ?? "{}");
const box = document.createElement("div");
box.id = "preview";
box.setAttribute("role", "tooltip");
box.hidden = true;
document.querySelector("article")?.append(box);
let timer, shownFor;

function later(action, delay) {
    clearTimeout(timer);
    timer = setTimeout(action, delay);
}

async function show(link) {
    shownFor?.removeAttribute("aria-describedby");
    shownFor = link;
    box.innerHTML = previews[link.getAttribute("href")];
    link.setAttribute("aria-describedby", box.id);
    box.hidden = false;
    if (box.querySelector(".math") && window.MathJax?.typesetPromise) await MathJax.typesetPromise([box]);
    if (shownFor === link) place(link);
}

// Below the line where there is room, else above it, and never beyond the window's edges.
function place(link) {
    const word = link.getClientRects()[0], page = box.offsetParent.getBoundingClientRect();
    const left = Math.max(8, Math.min(word.left, document.documentElement.clientWidth - box.offsetWidth - 8));
    const fits = word.bottom + box.offsetHeight + 8 < window.innerHeight || word.top < box.offsetHeight + 8;
    const top = fits ? word.bottom + 4 : word.top - box.offsetHeight - 4;
    box.style.left = `${left - page.left}px`;
    box.style.top = `${top - page.top}px`;
}

function hide() {
    clearTimeout(timer);
    box.hidden = true;
    shownFor?.removeAttribute("aria-describedby");
    shownFor = undefined;
}

for (const link of document.querySelectorAll("article a[href]")) {
    if (!(link.getAttribute("href") in previews)) continue;
    link.removeAttribute("title"); // the browser would show it on top
    link.addEventListener("pointerenter", event => event.pointerType === "mouse" && later(() => show(link), SHOW_AFTER));
    link.addEventListener("pointerleave", () => later(hide, HIDE_AFTER));
    link.addEventListener("focus", () => link.matches(":focus-visible") && show(link));
    link.addEventListener("blur", hide);
}
box.addEventListener("pointerenter", () => clearTimeout(timer)); // one can read on in it, and scroll
box.addEventListener("pointerleave", () => later(hide, HIDE_AFTER));
document.addEventListener("keydown", event => event.key === "Escape" && hide());
