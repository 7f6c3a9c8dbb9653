// Makes pictures of pages: task.shots says of which, how wide and in which colours, task.folder where they go.

import { join } from "node:path";
import { launch, signIn, task } from "./browser.mjs";

const browser = await launch();
for (const theme of ["light", "dark"]) {
  const context = await browser.newContext({ colorScheme: theme, deviceScaleFactor: task.scale ?? 1, viewport: { width: 1280, height: 860 } });
  const page = await context.newPage();
  if (task.token) await signIn(page, task.token);
  for (const shot of task.shots.filter((shot) => shot.theme === theme)) {
    await page.setViewportSize({ width: shot.width, height: shot.height ?? 860 });
    await page.goto(`${task.base}${shot.page}`);
    await page.screenshot({ path: join(task.folder, `${shot.name}.png`), fullPage: shot.whole ?? false });
  }
  await context.close();
}
await browser.close();
console.log("{}");
