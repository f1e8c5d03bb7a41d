// Keeps an open page current: the server says that something has changed, and the part of the page
// that shows it is fetched again. Without this script the page is the same, only not live.
"use strict";

let busy = false;
let again = false;
let pressed = false;

async function renew() {
  // What is replaced while a button is held down would not be clicked.
  if (busy || pressed) {
    again = true;
    return;
  }
  busy = true;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (answer.redirected || !answer.ok) {
      location.reload();
      return;
    }
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const from = fresh.querySelector("main");
    const to = document.querySelector("main");
    connected(true);
    if (pressed) {
      again = true;
      return;
    }
    // Whoever uses the keyboard keeps the place; what is unfolded stays so.
    const focused = document.activeElement && document.activeElement.id;
    const open = [...to.querySelectorAll("details[open]")].map((details) => details.id);
    to.replaceChildren(...from.childNodes);
    for (const id of open) {
      const details = document.getElementById(id);
      if (details) details.open = true;
    }
    if (focused) {
      const element = document.getElementById(focused);
      if (element) element.focus({ preventScroll: true });
    }
  } catch {
    connected(false);
  } finally {
    busy = false;
    catchUp();
  }
}

function catchUp() {
  if (again && !busy && !pressed) {
    again = false;
    renew();
  }
}

addEventListener("pointerdown", () => {
  pressed = true;
});
for (const end of ["pointerup", "pointercancel", "blur"]) {
  // After the click that follows.
  addEventListener(end, () => setTimeout(() => {
    pressed = false;
    catchUp();
  }, 0));
}

function connected(is) {
  document.body.classList.toggle("lost", !is);
}

// Buttons do not load the page anew: the change shows when it has happened.
document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.matches("form.act")) return;
  event.preventDefault();
  const button = event.submitter;
  if (button) button.setAttribute("aria-busy", "true");
  try {
    await fetch(form.action, { method: "POST", headers: { accept: "text/plain" } });
  } catch {
    connected(false);
  }
  setTimeout(renew, 150);
});

const live = new EventSource("/live");
live.addEventListener("message", () => {
  if (!document.hidden) renew();
});
live.addEventListener("error", () => connected(false));
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) renew();
});
