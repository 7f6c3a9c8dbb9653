// What people do: sign in, look for something, follow a list while events come in, use the keyboard alone, change the colours, decide.

import { launch, signIn, task } from "./browser.mjs";

const browser = await launch();
const failed = [];
const step = async (name, act) => {
  try {
    await act();
  } catch (error) {
    failed.push(`${name}: ${error.message.split("\n").slice(0, 6).join(" | ")}`);
  }
};
const must = (condition, says) => {
  if (!condition) throw new Error(says);
};

for (const javaScriptEnabled of [true, false]) {
  const context = await browser.newContext({ javaScriptEnabled, viewport: { width: 1280, height: 900 } });
  context.setDefaultTimeout(8000);
  const page = await context.newPage();
  const how = javaScriptEnabled ? "with JavaScript" : "without JavaScript";
  await signIn(page, task.token);

  await step(`${how}: the keyboard reaches the page first`, async () => {
    await page.goto(`${task.base}/console/events`);
    await page.keyboard.press("Tab");
    must((await page.locator(":focus").textContent()).includes("Skip"), "the first stop is not the way past the menu");
    await page.keyboard.press("Enter");
    await page.keyboard.press("Tab");
    must((await page.locator(":focus").getAttribute("id")) === "filter", "behind the menu comes something else than the filter");
    await page.keyboard.type("event:evt_0001");
    await page.keyboard.press("Enter");
    await page.waitForURL(/filter=event/);
    must((await page.locator("tbody tr").count()) === 1, "the filter finds one event");
    await page.getByRole("link", { name: "reward.redeemed" }).click();
    await page.getByRole("heading", { name: "Timeline" }).waitFor();
    must((await page.locator(".timeline > li").count()) >= 4, "the timeline has its steps");
  });

  await step(`${how}: colours are a choice that stays`, async () => {
    await page.goto(`${task.base}/console/held`);
    await page.getByRole("button", { name: "dark" }).click();
    await page.waitForURL(/held/);
    must((await page.locator("html").getAttribute("data-theme")) === "dark", "it is not dark");
    const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    must(/rgb\((1?\d|2\d|3\d), /.test(background), `the page is ${background}`);
    await page.getByRole("button", { name: "system" }).click();
  });

  await step(`${how}: the menu opens on a narrow screen`, async () => {
    await page.setViewportSize({ width: 320, height: 700 });
    await page.goto(`${task.base}/console/events`);
    must(!(await page.locator("#menu").isVisible()), "the menu is open");
    await page.getByRole("link", { name: "Menu", exact: true }).click();
    await page.getByRole("link", { name: "Dead letters" }).click();
    await page.getByRole("heading", { name: "Dead letters" }).waitFor();
    await page.setViewportSize({ width: 1280, height: 900 });
  });

  if (javaScriptEnabled) {
    await step(`${how}: a list is followed`, async () => {
      await page.goto(`${task.base}/console/runs`);
      const before = await page.locator("tbody tr").count();
      await page.getByRole("button", { name: "Follow" }).click();
      const other = await context.newPage();
      await other.goto(`${task.base}/console/act/replay?dead_letters=all`);
      await other.getByLabel("Why").fill("followed");
      await other.getByRole("button", { name: "Look at what would be done" }).click();
      await other.getByRole("button", { name: "Do it" }).click();
      await other.getByRole("heading", { name: "Done" }).waitFor();
      await other.close();
      await page.waitForFunction((count) => document.querySelectorAll("tbody tr").length > count, before, { timeout: 15000 });
      must((await page.locator("tbody tr.new").count()) > 0, "what is new is marked");
      await page.keyboard.press("/");
      must((await page.locator(":focus").getAttribute("id")) === "filter", "the slash goes to the filter");
    });
  } else {
    await step(`${how}: nothing is offered that needs it`, async () => {
      await page.goto(`${task.base}/console/runs`);
      must(!(await page.locator(".follow").isVisible()), "a button is there that does nothing");
    });
    await step(`${how}: somebody decides`, async () => {
      await page.goto(`${task.base}/console/held?kind=held-receipt`);
      await page.getByRole("link", { name: "Decide" }).first().click();
      await page.getByLabel("Dismiss it").check();
      await page.getByLabel("Why").fill("a test of theirs");
      await page.getByRole("button", { name: "Look at what would be done" }).click();
      await page.getByText("Nothing was done yet.").waitFor();
      await page.getByRole("button", { name: "Do it" }).click();
      await page.getByRole("heading", { name: "Done" }).waitFor();
    });
  }

  await step(`${how}: a tenant's admin sets a secret, adds a source and takes the step back`, async () => {
    const own = await browser.newContext({ javaScriptEnabled, viewport: { width: 1280, height: 900 } });
    own.setDefaultTimeout(8000);
    const admin = await own.newPage();
    await signIn(admin, task.admin);
    const name = javaScriptEnabled ? "shop-a" : "shop-b";
    const confirmed = async () => {
      await admin.getByRole("button", { name: "Look at what would be done" }).click();
      await admin.getByText("Nothing was done yet.").waitFor();
      await admin.getByRole("button", { name: "Do it" }).click();
      await admin.getByRole("heading", { name: "Done" }).waitFor();
    };
    await admin.getByRole("link", { name: "Secrets" }).click();
    await admin.getByRole("link", { name: "Set a secret" }).click();
    await admin.getByLabel("Name").fill(name);
    await admin.getByLabel("Secret", { exact: true }).fill("browser-secret-of-acme");
    await admin.getByLabel("Why").fill("a new shop");
    await confirmed();
    await admin.getByRole("link", { name: "Sources" }).click();
    await admin.getByRole("link", { name: "Add a source" }).click();
    await admin.getByLabel("Provider").selectOption("generic-hmac");
    await admin.getByRole("button", { name: "Go on" }).click();
    await admin.getByLabel("Name", { exact: true }).fill(name);
    await admin.getByLabel("Or one that was set already").selectOption(name);
    await admin.getByLabel("Why").fill("a new shop");
    await confirmed();
    await admin.getByRole("link", { name: "Back" }).click();
    await admin.getByText(`/in/acme/${name}`).waitFor();
    await admin.getByRole("link", { name: "Settings" }).click();
    must((await admin.locator("pre.body").textContent()).includes(`[sources.${name}]`), "the text has the source");
    await admin.getByRole("link", { name: "Take the last step back" }).click();
    await admin.getByLabel("Why").fill("too early");
    await confirmed();
    await admin.getByRole("link", { name: "Sources" }).click();
    must((await admin.getByText(`/in/acme/${name}`).count()) === 0, "the source is still there");
    await own.close();
  });

  await step(`${how}: a tenant's admin brings a plugin from a file to the route, and back`, async () => {
    const own = await browser.newContext({ javaScriptEnabled, viewport: { width: 1280, height: 900 } });
    own.setDefaultTimeout(8000);
    const admin = await own.newPage();
    await signIn(admin, task.admin);
    const confirmed = async (why) => {
      await admin.getByLabel("Why").fill(why);
      await admin.getByRole("button", { name: "Look at what would be done" }).click();
      await admin.getByText("Nothing was done yet.").waitFor();
      await admin.getByRole("button", { name: "Do it" }).click();
      await admin.getByRole("heading", { name: "Done" }).waitFor();
    };
    await admin.getByRole("link", { name: "Plugins" }).click();
    await admin.getByRole("link", { name: "Upload a plugin" }).click();
    await admin.getByLabel("Component").setInputFiles(task.components[javaScriptEnabled ? 0 : 1]);
    await admin.getByRole("button", { name: "Upload it" }).click();
    await admin.getByText("The host vetted it").waitFor({ timeout: 60000 });
    const page = admin.url();
    await admin.getByRole("link", { name: "Publish it" }).click();
    await confirmed("vetted");
    await admin.goto(page);
    const row = admin.locator("tr", { hasText: "cashback" }).filter({ has: admin.getByRole("link", { name: "Try" }) }).first();
    await row.getByRole("link", { name: "Try" }).click();
    await admin.getByRole("button", { name: "Try it" }).click();
    await admin.getByRole("heading", { name: "Money" }).waitFor({ timeout: 30000 });
    await admin.getByText("would have come out otherwise").waitFor();
    must((await admin.getByRole("heading", { name: "Examples" }).count()) === 1, "examples are shown");
    await admin.getByRole("link", { name: "Give it a share" }).click();
    await admin.getByLabel("Share of the subjects").fill("5");
    await confirmed("a part first");
    await admin.getByRole("link", { name: "Back" }).click();
    await admin.getByText("canary, 5.0 %").waitFor();
    await admin.getByRole("link", { name: "Promote the canary" }).click();
    await confirmed("it does well");
    await admin.getByRole("link", { name: "Back" }).click();
    await admin.getByRole("link", { name: "Roll back" }).click();
    await confirmed("too early");
    await own.close();
  });

  await step(`${how}: a tenant's admin sets up a destination, a source and a route, and tries them`, async () => {
    const own = await browser.newContext({ javaScriptEnabled, viewport: { width: 1280, height: 900 } });
    own.setDefaultTimeout(8000);
    const admin = await own.newPage();
    await signIn(admin, task.admin);
    const name = javaScriptEnabled ? "mine-a" : "mine-b";
    const looked = async () => {
      await admin.getByRole("button", { name: "Look at what would be done" }).click();
      await admin.getByText("Nothing was done yet.").waitFor();
    };
    const confirmed = async () => {
      await looked();
      await admin.getByRole("button", { name: "Do it" }).click();
      await admin.getByRole("heading", { name: "Done" }).waitFor();
    };
    await admin.getByRole("link", { name: "Destinations" }).click();
    await admin.getByRole("link", { name: "Add a destination" }).click();
    await admin.getByLabel("Kind").selectOption("push");
    await admin.getByRole("button", { name: "Go on" }).click();
    await admin.getByLabel("Name", { exact: true }).fill(name);
    await admin.getByLabel("URL").fill(task.destination);
    await admin.getByLabel("Why").fill("our books");
    await confirmed();
    must((await admin.content()).includes("whsec_"), "the secret is shown once");
    await admin.getByRole("link", { name: "Back" }).click();
    await admin.locator("tr", { hasText: name }).getByRole("link", { name: "Send a test" }).click();
    await confirmed();
    await admin.getByText("took the test delivery").waitFor();
    await admin.getByRole("link", { name: "Destinations" }).click();
    await admin.locator("tr", { hasText: name }).getByRole("link", { name: "Change" }).click();
    await admin.getByLabel("Requests a second").fill("5");
    await admin.getByLabel("Why").fill("they are slow");
    await confirmed();
    await admin.getByRole("link", { name: "Audit" }).click();
    await admin.getByText("they are slow").first().waitFor();
    await admin.getByRole("link", { name: "Sources" }).click();
    await admin.getByRole("link", { name: "Add a source" }).click();
    await admin.getByLabel("Provider").selectOption("generic-hmac");
    await admin.getByRole("button", { name: "Go on" }).click();
    await admin.getByLabel("Name", { exact: true }).fill(name);
    await admin.getByLabel("Secret", { exact: true }).fill("browser-secret-of-acme");
    await admin.getByLabel("Why").fill("our shop");
    await confirmed();
    await admin.getByRole("link", { name: "Routes" }).click();
    await admin.getByRole("link", { name: "Add a route" }).click();
    await admin.getByLabel("What it does").selectOption("plugin:cashback");
    await admin.getByRole("button", { name: "Go on" }).click();
    await admin.getByLabel("Name", { exact: true }).fill(name);
    await admin.getByLabel(name, { exact: true }).first().check();
    await admin.getByLabel("Content").fill("body.order_id:x colour:red");
    await admin.getByLabel("Rate bps").fill("100");
    await admin.getByLabel("Currency", { exact: true }).fill("INR");
    await admin.getByLabel("It may credit", { exact: true }).check();
    await admin.getByLabel("At most, each time it may credit").fill("50.00");
    await admin.getByLabel("Currencies in which it may credit").fill("INR");
    await admin.getByLabel("Budgets within which it may credit").fill("500.00 INR a day\n3 actions a day per account");
    await admin.getByLabel("Why").fill("a bonus");
    await admin.getByRole("button", { name: "Look at what would be done" }).click();
    await admin.getByText("Something does not fit").waitFor();
    must((await admin.getByLabel("Content").getAttribute("aria-invalid")) === "true", "the filter is the one that is wrong");
    await admin.getByLabel("Content").fill("");
    await looked();
    await admin.getByText("may credit at most 50.00 INR each, 500.00 INR a day, 3 actions a day per account").waitFor();
    await admin.getByRole("button", { name: "Do it" }).click();
    await admin.getByRole("heading", { name: "Done" }).waitFor();
    await admin.getByRole("link", { name: "Sources" }).click();
    await admin.getByRole("link", { name, exact: true }).click();
    await admin.getByRole("link", { name: "Send a test event" }).click();
    await confirmed();
    await admin.getByText("was verified and kept").waitFor();
    await admin.getByRole("link", { name: /^tollgate-test-/ }).click();
    await admin.getByRole("heading", { name: "Timeline" }).waitFor();
    await own.close();
  });

  await step(`${how}: a tenant's admin hands out a link, and takes it back`, async () => {
    const open = async () => {
      const own = await browser.newContext({ javaScriptEnabled, viewport: { width: 1280, height: 900 } });
      own.setDefaultTimeout(8000);
      return [own, await own.newPage()];
    };
    const [admins, admin] = await open();
    await signIn(admin, task.admin);
    const confirmed = async (page) => {
      await page.getByRole("button", { name: "Look at what would be done" }).click();
      await page.getByText("Nothing was done yet.").waitFor();
      await page.getByRole("button", { name: "Do it" }).click();
      await page.getByRole("heading", { name: "Done" }).waitFor();
    };
    await admin.getByRole("link", { name: "Tokens" }).click();
    await admin.getByRole("link", { name: "Make a link" }).click();
    await admin.getByLabel("Who it is for").fill(`carla ${how}`);
    for (const may of ["issues", "pause", "replay", "bulk"]) await admin.getByLabel(may, { exact: false }).first().check();
    await admin.getByLabel("Accent").fill("#c0f");
    await admin.getByLabel("How long it lasts").selectOption("30m");
    await admin.getByLabel("Why").fill("ticket 7");
    await confirmed(admin);
    const link = await admin.locator(".once pre").textContent();
    must(/^http:\/\/.*\/console\/portal\/tgl_/.test(link), "the link is shown");
    await admin.getByRole("link", { name: "Back" }).click();
    await admin.getByRole("heading", { name: "Portal links" }).waitFor();
    must(!(await admin.content()).includes(link.split("/").pop()), "the link is shown again");

    const [guests, guest] = await open();
    await guest.goto(link);
    await guest.getByRole("heading", { name: "acme" }).waitFor();
    await guest.getByRole("button", { name: "Come in" }).click();
    await guest.getByRole("heading", { name: "Overview" }).waitFor();
    must((await guest.getByRole("link", { name: "Settings", exact: true }).count()) === 0, "settings are offered, which were not listed");
    const accent = await guest.evaluate(() => getComputedStyle(document.querySelector("#menu [aria-current]")).color);
    must(accent !== "rgb(11, 100, 112)" && accent !== "rgb(116, 200, 211)", `the accent is ${accent}`);
    await guest.getByRole("link", { name: "Issues" }).click();
    await guest.getByRole("link", { name: "Change" }).first().click();
    await guest.getByLabel(javaScriptEnabled ? "Acknowledge it" : "Open it again").check();
    await guest.getByLabel("Why").fill("we look at it");
    await confirmed(guest);
    await guest.getByRole("link", { name: "Back" }).click();
    await guest.getByText(`we look at it`).first().waitFor();
    await guest.getByRole("link", { name: "Pauses" }).click();
    await guest.getByRole("row", { name: /Destination crm/ }).getByRole("link", { name: "Pause" }).click();
    await guest.getByLabel("Why").fill("they move");
    await confirmed(guest);
    await guest.getByRole("link", { name: "Back" }).click();
    await guest.getByRole("row", { name: /Destination crm/ }).getByRole("link", { name: "Let it go on" }).click();
    await guest.getByLabel("Why").fill("they moved");
    await confirmed(guest);
    await guest.goto(`${task.base}/console/jobs?filter=status%3Adead`);
    await guest.getByRole("link", { name: "Do one thing to all of these" }).click();
    await guest.getByLabel("Why").fill("mended");
    await guest.getByRole("button", { name: "Look at what would be done" }).click();
    await guest.getByText(/replay would be done to \d+ jobs/).waitFor();
    await guest.getByRole("button", { name: "Do it" }).click();
    await guest.getByRole("link", { name: /bulk_\d+ replay/ }).click();
    await guest.getByRole("progressbar").waitFor();

    await admin.getByRole("row", { name: new RegExp(`carla ${how}`) }).getByRole("link", { name: "Revoke" }).click();
    await admin.getByLabel("Why").fill("done with it");
    await confirmed(admin);
    await guest.goto(`${task.base}/console/events`);
    await guest.getByRole("heading", { name: "This is over" }).waitFor();
    await guest.goto(link);
    await guest.getByRole("heading", { name: "This is over" }).waitFor();
    await guests.close();
    await admins.close();
  });

  await step(`${how}: an author hands a version in and tries it, and brings nothing into effect`, async () => {
    const own = await browser.newContext({ javaScriptEnabled, viewport: { width: 1280, height: 900 } });
    own.setDefaultTimeout(8000);
    const author = await own.newPage();
    await signIn(author, task.author);
    await author.getByRole("link", { name: "Upload a plugin" }).click();
    await author.getByLabel("Component").setInputFiles(task.components[javaScriptEnabled ? 2 : 3]);
    await author.getByRole("button", { name: "Upload it" }).click();
    await author.getByText("The host vetted it").waitFor({ timeout: 60000 });
    const row = author.locator("tr", { hasText: "cashback" }).filter({ has: author.getByRole("link", { name: "Try" }) }).first();
    await row.getByRole("link", { name: "Try" }).click();
    await author.getByRole("button", { name: "Try it" }).click();
    await author.getByText("your token reads no events").waitFor({ timeout: 30000 });
    must((await author.getByRole("heading", { name: "Money" }).count()) === 0, "money of events is shown to who reads none");
    for (const act of ["Promote", "Give it a share", "Roll back", "Pause"]) {
      must((await author.locator("main").getByRole("link", { name: act }).count()) === 0, `"${act}" is offered`);
    }
    for (const other of ["events", "settings?tenant=acme", "tokens"]) {
      await author.goto(`${task.base}/console/${other}`);
      await author.getByRole("heading", { name: "Not allowed" }).waitFor();
    }
    await own.close();
  });

  await step(`${how}: a viewer finds an event and what became of it, and changes nothing`, async () => {
    const own = await browser.newContext({ javaScriptEnabled, viewport: { width: 1280, height: 900 } });
    own.setDefaultTimeout(8000);
    const viewer = await own.newPage();
    await signIn(viewer, task.viewer);
    await viewer.getByRole("link", { name: "Events", exact: true }).click();
    await viewer.getByRole("textbox", { name: "Filter" }).fill("event:evt_0001");
    await viewer.keyboard.press("Enter");
    await viewer.waitForURL(/filter=event/);
    await viewer.getByRole("link", { name: "reward.redeemed" }).click();
    await viewer.getByRole("heading", { name: "Timeline" }).waitFor();
    for (const [list, acts] of [["held", ["Decide"]], ["issues", ["Change"]], ["pauses?tenant=acme", ["Pause", "Let it go on"]], ["dead-letters", ["Replay"]], ["jobs?filter=status%3Adead", ["Do one thing to all of these"]]]) {
      const answer = await viewer.goto(`${task.base}/console/${list}`);
      must(answer.status() === 200, `${list} is answered ${answer.status()}`);
      for (const act of acts) must((await viewer.locator("main").getByRole("link", { name: act, exact: true }).count()) === 0, `"${act}" is offered on ${list}`);
    }
    for (const other of ["plugins/upload", "tokens", "set/source?tenant=acme"]) {
      await viewer.goto(`${task.base}/console/${other}`);
      await viewer.getByRole("heading", { name: "Not allowed" }).waitFor();
    }
    await own.close();
  });

  await step(`${how}: signing out ends it`, async () => {
    await page.goto(`${task.base}/console`);
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByLabel("Token").waitFor();
    await page.goto(`${task.base}/console/events`);
    must(page.url().includes("/console/sign-in"), "the page is still shown");
  });
  await context.close();
}

await browser.close();
console.log(JSON.stringify({ failed }));
