// Follows a list: asks for what came behind its newest place, and puts it on top. Everything else works without this.
"use strict";

(() => {
  const EVERY_MS = 2000;
  const ROWS_MAX = 300;
  const button = document.querySelector(".follow");
  const body = document.querySelector("tbody[data-news]");
  const told = document.querySelector(".tail");

  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName);
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const field = document.getElementById("filter") || document.getElementById("find");
    if (field) {
      event.preventDefault();
      field.focus();
    }
  });

  if (!button || !body) return;
  const address = new URL(body.dataset.news, location.href);
  let timer = 0;
  let following = false;

  const stop = (says) => {
    following = false;
    clearTimeout(timer);
    button.setAttribute("aria-pressed", "false");
    button.textContent = "Follow";
    told.textContent = says;
  };

  const look = async () => {
    try {
      const answer = await fetch(address, { redirect: "error", headers: { accept: "text/html" } });
      if (!answer.ok) throw new Error(String(answer.status));
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const rows = [...page.querySelectorAll("tbody > tr")];
      const newest = answer.headers.get("tollgate-newest");
      if (newest) address.searchParams.set("newer", newest);
      if (rows.length > 0) {
        for (const row of rows) row.classList.add("new");
        body.prepend(...rows);
        while (body.rows.length > ROWS_MAX) body.lastElementChild.remove();
        body.closest(".rows").classList.remove("none-yet");
        document.querySelector(".empty")?.remove();
        told.textContent = rows.length === 1 ? "1 new" : `${rows.length} new`;
      }
      if (following) timer = setTimeout(look, EVERY_MS);
    } catch {
      stop("It does not follow any more: the host did not answer, or the session is over.");
      button.textContent = "Follow again";
    }
  };

  button.hidden = false;
  button.addEventListener("click", () => {
    if (following) return stop("It does not follow any more.");
    following = true;
    button.setAttribute("aria-pressed", "true");
    button.textContent = "Following";
    told.textContent = "It follows.";
    look();
  });
})();
