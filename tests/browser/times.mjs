// Opens each of task.pages again and again, as somebody does who is signed in and whose browser has the style sheet already, and says how
// many milliseconds each took from the question until it was loaded.

import { launch, signIn, task } from "./browser.mjs";

const browser = await launch();
const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
const took = Object.fromEntries(task.pages.map((path) => [path, []]));
await signIn(page, task.token);
for (let time = 0; time < task.times; time += 1) {
  for (const path of task.pages) {
    const answer = await page.goto(`${task.base}${path}`);
    // What is looked for and not there is a page as well.
    if (answer.status() >= 400 && answer.status() !== 404) throw new Error(`${path} was answered ${answer.status()}`);
    const [loaded] = await page.evaluate(() => performance.getEntriesByType("navigation").map((entry) => entry.duration));
    took[path].push(loaded);
  }
}
await browser.close();
console.log(JSON.stringify(took));
