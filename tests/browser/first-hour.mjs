// The first hour of somebody who has read docs/first-hour.md: from signing in to a delivered action, a failure, and a resolved issue. Everything is done
// in the browser, but for the event that the provider sends.

import { createHmac } from "node:crypto";
import { launch, signIn, task } from "./browser.mjs";

const SECRET = "whsec_first_hour_of_the_tests_0123456789";
const browser = await launch();
const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
context.setDefaultTimeout(8000);
const page = await context.newPage();
const began = Date.now();
const told = [];
let failed = "";

const must = (condition, says) => {
  if (!condition) throw new Error(says);
};
const click = (name, exact = false) => page.getByRole("link", { name, exact }).first().click();
const heading = (name) => page.getByRole("heading", { name }).first().waitFor();
const shot = async (name) => {
  if (task.folder) await page.screenshot({ path: `${task.folder}/first-hour-${String(told.length).padStart(2, "0")}-${name}.png`, fullPage: true });
};
const confirmed = async (why) => {
  if (why) await page.getByLabel("Why", { exact: true }).fill(why);
  await page.getByRole("button", { name: "Look at what would be done" }).click();
  await page.getByText("Nothing was done yet.").waitFor();
  await shot("look");
  await page.getByRole("button", { name: "Do it" }).click();
  await heading("Done");
};
const step = async (name, act) => {
  if (failed) return;
  try {
    await act();
    told.push(name);
    await shot("then");
  } catch (error) {
    failed = `${name}: ${error.message.split("\n").slice(0, 6).join(" | ")}`;
    await shot("failed");
  }
};
// Stripe's own form of a signed event.
const stripeSends = async (url, id) => {
  const at = Math.floor(Date.now() / 1000);
  const object = { id: `pi_${id}`, object: "payment_intent", status: "succeeded", amount: 4200, amount_received: 4200, currency: "usd", customer: "cus_1" };
  const body = JSON.stringify({ id, object: "event", type: "payment_intent.succeeded", created: at, livemode: false, data: { object } });
  const signature = createHmac("sha256", SECRET).update(`${at}.${body}`).digest("hex");
  const answer = await fetch(url, { method: "POST", headers: { "stripe-signature": `t=${at},v1=${signature}`, "content-type": "application/json" }, body });
  must(answer.status === 202, `the edge answered ${answer.status}`);
};
const overview = () => page.goto(`${task.base}/console`);
// The list of events shows what came of one as soon as it is there.
const until = async (look, says) => {
  for (let tries = 0; tries < 60; tries += 1) {
    if (await look()) return;
    await page.waitForTimeout(250);
  }
  throw new Error(says);
};
let url = "";

await step("sign in, and read what to do first", async () => {
  await signIn(page, task.token);
  await heading("To begin with");
  must((await page.locator(".steps .next").textContent()).includes("A source"), "the tenant is there, and a source is next");
});
await step("add Stripe as a source", async () => {
  await click("A source", true);
  await page.getByLabel("Provider").selectOption({ label: "Stripe" });
  await page.getByRole("button", { name: "Go on" }).click();
  must((await page.getByLabel("Name", { exact: true }).inputValue()) === "stripe", "the provider's name is offered");
  await page.getByLabel("Secret", { exact: true }).fill(SECRET);
  await page.getByLabel("Events that count").selectOption("test");
  await confirmed("our shop");
  must(!(await page.content()).includes(SECRET), "the secret is shown");
});
await step("take the URL for the provider", async () => {
  await click(/^The URL of stripe/);
  await heading("The URL to paste into the provider");
  url = (await page.locator("pre.command").first().textContent()).trim();
  must(url === `${task.edge}/in/acme/stripe`, `the URL is ${url}`);
});
await step("add a destination, at the URL of somebody else at first", async () => {
  await overview();
  must((await page.locator(".steps .next").textContent()).includes("A destination"), "a destination is next");
  await click("A destination", true);
  await page.getByRole("button", { name: "Go on" }).click();
  await page.getByLabel("Name", { exact: true }).fill("books");
  await page.getByLabel("URL").fill("http://192.168.7.7/hooks");
  await page.getByLabel("Why", { exact: true }).fill("our books");
  await page.getByRole("button", { name: "Look at what would be done" }).click();
  await page.getByText("Something does not fit").waitFor();
  must((await page.getByLabel("URL").getAttribute("aria-invalid")) === "true", "what is wrong stands at the URL");
  await page.getByLabel("URL").fill(task.receiver);
  await confirmed("our books");
  must((await page.locator(".once pre").textContent()).startsWith("whsec_"), "the receiver's secret is shown once");
  await click("Send books a test");
  await confirmed();
  await page.getByText("books took the test delivery").waitFor();
});
await step("hand a plugin in, and publish it", async () => {
  await click("Plugins", true);
  await click("Upload a plugin");
  await page.getByLabel("Component").setInputFiles(task.component);
  await page.getByRole("button", { name: "Upload it" }).click();
  await page.getByText("The host vetted it").waitFor({ timeout: 60000 });
  await click("Publish it");
  await confirmed("it is ours");
});
await step("make a route that runs it", async () => {
  await overview();
  must((await page.locator(".steps .next").textContent()).includes("A route"), "a route is next");
  await click("A route", true);
  await page.getByLabel("What it does").selectOption("plugin:cashback");
  await page.getByRole("button", { name: "Go on" }).click();
  await page.getByLabel("Name", { exact: true }).fill("cashback");
  await page.getByLabel("Rate bps").fill("500");
  await page.getByLabel("Currency", { exact: true }).fill("USD");
  await page.getByLabel("Statuses").fill("captured");
  await page.getByLabel("It may credit", { exact: true }).check();
  await page.getByLabel("At most, each time it may credit").fill("50.00");
  await page.getByLabel("Currencies in which it may credit").fill("USD");
  await page.getByLabel("books", { exact: true }).check();
  await confirmed("5 % back");
});
await step("send an event as Stripe does, and see it delivered", async () => {
  await stripeSends(url, "evt_first");
  await until(async () => {
    await overview();
    return (await page.locator("tbody tr", { hasText: "delivered" }).count()) === 1;
  }, "the event is not delivered");
  must((await page.getByRole("heading", { name: "To begin with" }).count()) === 0, "nothing is to be begun any more");
  await click("payment_intent.succeeded");
  await heading("Timeline");
  const timeline = await page.locator(".timeline").textContent();
  for (const words of ["Proved by stripe", "Kept and accepted", "credit 2.10 USD", "books answered 20"]) {
    must(timeline.includes(words), `the timeline does not say ${words}: ${timeline}`);
  }
});
await step("make it fail", async () => {
  await click("Destinations");
  await click("Change");
  await page.getByLabel("URL").fill(task.nobody);
  await confirmed("a mistake");
  await stripeSends(url, "evt_second");
  await page.goto(`${task.base}/console/issues`);
  await page.getByText("tried again first").waitFor();
  await until(async () => {
    await overview();
    return (await page.locator(".needs").count()) === 1 && (await page.locator(".needs").textContent()).includes("given up at books");
  }, "no issue is shown");
});
await step("find the issue, and set its cause right", async () => {
  await click(/given up at books/);
  await page.getByText("To books: no answer").waitFor();
  await click("Destinations");
  await click("Change");
  await page.getByLabel("URL").fill(task.receiver);
  await confirmed("the right one");
});
await step("resolve the issue", async () => {
  await click("Issues");
  await page.locator("main").getByRole("link", { name: "Change" }).click();
  await page.getByText("To books: no answer").waitFor();
  await page.getByLabel("Resolve it").check();
  await confirmed("the URL was wrong");
});
await step("replay what was given up, and see it delivered", async () => {
  await click("What was given up, to be replayed");
  await heading("Dead letters");
  await click(/^Replay those that fit/);
  await confirmed("the URL is right again");
  await until(async () => {
    await page.goto(`${task.base}/console/events?filter=event%3Aevt_second`);
    return (await page.locator("tbody tr", { hasText: "delivered" }).count()) === 1;
  }, "the second event is not delivered");
  await click("Issues");
  must((await page.getByText("Nothing was given up.").count()) === 1, "the issue is still open");
});
await step("read in the audit who did all that, and why", async () => {
  await click("Audit");
  const all = await page.locator("main").textContent();
  for (const why of ["our shop", "our books", "it is ours", "5 % back", "a mistake", "the right one", "the URL was wrong", "the URL is right again"]) {
    must(all.includes(why), `the audit does not say: ${why}`);
  }
});

await browser.close();
console.log(JSON.stringify({ failed, told, seconds: Math.round((Date.now() - began) / 1000) }));
