// What every script here needs: the task, the browser, and somebody who is signed in.

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { join } from "node:path";

export const packages = createRequire(join(process.env.TOLLGATE_BROWSER, "package.json"));
const { chromium } = packages("playwright-core");

export const task = JSON.parse(readFileSync(0, "utf8"));

export const launch = (more = []) =>
  chromium.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--force-color-profile=srgb", "--font-render-hinting=none", ...more],
  });

export const signIn = async (page, token) => {
  if (token.startsWith("/console/portal/")) {
    await page.goto(`${task.base}${token}`);
    await page.getByRole("button", { name: "Come in" }).click();
    await page.waitForURL(/\/console($|\/sources)/);
    return;
  }
  await page.goto(`${task.base}/console`);
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.waitForURL(/\/console($|\/plugins)/);
};
