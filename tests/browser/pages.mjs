// Opens every page as each role does, wide and narrow, light and dark in turns, and says what is wrong with each: what axe-core finds, what it
// asked for elsewhere, what its console said, whether it is wider than the window, and which planted secrets it shows.

import { launch, packages, signIn, task } from "./browser.mjs";
import { readFileSync } from "node:fs";

const axe = readFileSync(packages.resolve("axe-core/axe.min.js"), "utf8");
const browser = await launch();
const wrong = [];
let looked = 0;
let documents = 0;
// What was looked at: main parts, and what stands around them. A page of which both were looked at is not looked at again, whoever opens it;
// only ids could clash between the two. A session's key and where a page is differ from one to the next, and nobody sees them.
const seen = new Set();
const parts = (html) => {
  const plain = html.replace(/(name="(?:form_key|back|next|place)") value="[^"]*"/g, "$1");
  const [from, to] = [plain.indexOf("<main"), plain.lastIndexOf("</main>")];
  const around = `${plain.slice(0, from)}${plain.slice(to)}`;
  return [plain.slice(from, to), around.replace(/<title>[^<]*<\/title>| aria-current="page"/g, "")];
};

// How secrets begin is no secret: a provider's own notes say it.
const shows = (text, secret) => (secret.endsWith("_") ? new RegExp(`${secret}[A-Za-z0-9+/_-]`).test(text) : text.includes(secret));

// A page is looked at wide and narrow, and in the colours of day and night: of two pages one wide by day and narrow by night, the other the other way round. They share
// their styles, and all four forms of each would take twice as long.
const forms = [
  [
    { width: 1440, colorScheme: "light" },
    { width: 320, colorScheme: "dark" },
  ],
  [
    { width: 1440, colorScheme: "dark" },
    { width: 320, colorScheme: "light" },
  ],
];

// Somebody who signs in and opens some of the pages.
const visit = async (role, token, pages, isFirst) => {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, colorScheme: "light", reducedMotion: "reduce" });
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
    looked += 1;
    const answer = await context.request.get(`${task.base}${path}`);
    const text = await answer.text();
    if (!/<title>[^<]* · Tollgate<\/title>/.test(text)) say(`has no title: ${answer.status()}`);
    for (const secret of task.secrets) if (shows(text, secret)) say(`shows the secret ${secret}`);
    const ids = [...text.matchAll(/ id="([^"]*)"/g)].map(([, id]) => id);
    for (const id of ids.filter((id, at) => ids.indexOf(id) !== at)) say(`has the id ${id} twice`);
    const news = parts(text).filter((part) => !seen.has(part));
    if (news.length === 0) return;
    news.forEach((part) => seen.add(part));
    documents += 1;
    const form = forms[documents % forms.length];
    await page.goto(`${task.base}${path}`);
    const shown = await page.content();
    for (const secret of task.secrets) if (shows(shown, secret)) say(`shows the secret ${secret}`);
    // The page's rules let no script in but its own, so axe comes by the debugger.
    await page.evaluate(axe);
    for (const { width, colorScheme } of form) {
      await page.setViewportSize({ width, height: 900 });
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      const found = await page.evaluate(async () => {
        const { violations } = await globalThis.axe.run(document, { resultTypes: ["violations"], preload: false });
        const root = document.documentElement;
        return { violations, wide: root.scrollWidth, room: root.clientWidth };
      });
      for (const violation of found.violations) {
        say(`${width} ${colorScheme}: ${violation.id}: ${violation.nodes.slice(0, 3).map((node) => `${node.target} ${node.any[0]?.message ?? ""}`).join("; ")}`);
      }
      if (found.wide > found.room) say(`${width}: it is ${found.wide} wide`);
    }
    await page.setViewportSize({ width: 1440, height: 900 });
  };
  if (isFirst) await look("/console/sign-in");
  await signIn(page, token);
  for (const path of pages) await look(path);
  await context.close();
};

// Two at a time: a machine has more than one core.
const visits = Object.entries(task.tokens).flatMap(([role, token]) => {
  const half = Math.ceil(task.pages[role].length / 2);
  return [0, half].map((at) => () => visit(role, token, task.pages[role].slice(at, at + half), at === 0));
});
const next = async () => {
  for (let one = visits.shift(); one; one = visits.shift()) await one();
};
await Promise.all([next(), next()]);

await browser.close();
console.log(JSON.stringify({ wrong, looked, documents }));
