// Opens every page as somebody does, wide and narrow, light and dark, and says what is wrong with each: what axe-core finds, what it
// asked for elsewhere, what its console said, whether it is wider than the window, and which planted secrets it shows.

import { launch, packages, signIn, task } from "./browser.mjs";
import { readFileSync } from "node:fs";

const axe = readFileSync(packages.resolve("axe-core/axe.min.js"), "utf8");
const browser = await launch();
const wrong = [];
let looked = 0;

// Somebody who signs in and opens some of the pages.
const visit = async (role, token, pages, isFirst) => {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
  const page = await context.newPage();
  let here = "";
  const say = (what) => wrong.push(`${role} ${here}: ${what}`);
  page.on("request", (request) => {
    if (new URL(request.url()).origin !== task.base) say(`asks ${request.url()}`);
  });
  // A page that is refused is one of those that are looked at.
  page.on("console", (message) => {
    const expected = message.location().url.endsWith(here) && /status of (400|403|404)/.test(message.text());
    if (["error", "warning"].includes(message.type()) && !expected) say(message.text());
  });
  page.on("dialog", (dialog) => {
    say(`a script of the event ran: ${dialog.message()}`);
    dialog.dismiss();
  });
  const look = async (path) => {
    here = path;
    await page.setViewportSize({ width: 1440, height: 900 });
    await page.emulateMedia({ colorScheme: "light" });
    await page.goto(`${task.base}${path}`);
    if (!/· Tollgate$/.test(await page.title())) say(`its title is ${await page.title()}`);
    const text = await page.content();
    for (const secret of task.secrets) if (text.includes(secret)) say(`shows the secret ${secret}`);
    // The page's rules let no script in but its own, so axe comes by the debugger.
    await page.evaluate(axe);
    for (const width of [1440, 320]) {
      for (const colorScheme of ["light", "dark"]) {
        await page.setViewportSize({ width, height: 900 });
        await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
        // Of the other colours only colours can be wrong.
        const rules = colorScheme === "light" ? {} : { runOnly: ["color-contrast", "link-in-text-block"] };
        const found = await page.evaluate((rules) => globalThis.axe.run(document, { resultTypes: ["violations"], ...rules }), rules);
        for (const violation of found.violations) {
          say(`${width} ${colorScheme}: ${violation.id}: ${violation.nodes.slice(0, 3).map((node) => `${node.target} ${node.any[0]?.message ?? ""}`).join("; ")}`);
        }
        const [wide, room] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
        if (wide > room) say(`${width}: it is ${wide} wide`);
        looked += 1;
      }
    }
  };
  if (isFirst) await look("/console/sign-in");
  await signIn(page, token);
  for (const path of pages) await look(path);
  await context.close();
};

// Two at a time: each page is looked at in four forms, and a machine has more than one core.
const visits = Object.entries(task.tokens).flatMap(([role, token]) => {
  const half = Math.ceil(task.pages[role].length / 2);
  return [0, half].map((at) => () => visit(role, token, task.pages[role].slice(at, at + half), at === 0));
});
const next = async () => {
  for (let one = visits.shift(); one; one = visits.shift()) await one();
};
await Promise.all([next(), next()]);

await browser.close();
console.log(JSON.stringify({ wrong, looked }));
