// A link in a frame of another site's page, by HTTPS: where the operator lists that site it opens, and somebody works in it; in a page of
// anybody else's nothing is shown. The sites are names that Chromium is told to find here.

import { createServer } from "node:https";
import { request } from "node:http";
import { launch, task } from "./browser.mjs";

const failed = [];
const must = (condition, says) => {
  if (!condition) failed.push(says);
};
const target = new URL(task.base);

const server = createServer({ key: task.key, cert: task.certificate }, (asked, answer) => {
  if (asked.headers.host !== "hooks.example") {
    answer.setHeader("content-type", "text/html; charset=utf-8");
    answer.end(`<!doctype html><title>A shop</title><h1>Webhooks</h1><iframe src="https://hooks.example${task.door}" title="Tollgate" width="900" height="600"></iframe>`);
    return;
  }
  // The proxy before the private listener: it says that it was asked by HTTPS.
  const headers = { ...asked.headers, "x-forwarded-proto": "https" };
  const on = request({ host: target.hostname, port: target.port, method: asked.method, path: asked.url, headers }, (answered) => {
    answer.writeHead(answered.statusCode, answered.rawHeaders.reduce((all, value, at, raw) => (at % 2 ? all : [...all, [value, raw[at + 1]]]), []).flat());
    answered.pipe(answer);
  });
  on.on("error", () => answer.destroy());
  asked.pipe(on);
});
await new Promise((listens) => server.listen(0, "127.0.0.1", listens));
const { port } = server.address();

const browser = await launch([
  `--host-resolver-rules=MAP *.example:443 127.0.0.1:${port}`,
  "--ignore-certificate-errors",
]);
for (const javaScriptEnabled of [true, false]) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, javaScriptEnabled });
  context.setDefaultTimeout(8000);
  const how = javaScriptEnabled ? "with JavaScript" : "without JavaScript";
  const page = await context.newPage();
  try {
    await page.goto("https://shop.example/");
    const frame = page.frameLocator("iframe");
    await frame.getByRole("button", { name: "Come in" }).click();
    await frame.getByRole("heading", { name: "Overview" }).waitFor();
    await frame.getByRole("link", { name: "Events", exact: true }).click();
    await frame.getByRole("heading", { name: "Events", level: 1 }).waitFor();
    await frame.getByRole("button", { name: "dark" }).click();
    await frame.locator("html[data-theme=dark]").waitFor();
    const cookies = await context.cookies("https://hooks.example/console");
    const session = cookies.find((cookie) => cookie.name === "tollgate_session");
    must(session?.sameSite === "None" && session.secure && session.httpOnly, `${how}: its cookie is ${JSON.stringify({ ...session, value: "" })}`);
    must(session?.partitionKey !== undefined, `${how}: its cookie is kept for every site`);
    // Outside of the frame nobody is signed in.
    const alone = await context.newPage();
    await alone.goto("https://hooks.example/console/events");
    must(alone.url().includes("/console/sign-in"), `${how}: the session of the frame is one of the whole browser`);
    await alone.close();
  } catch (error) {
    failed.push(`${how}: ${error.message.split("\n").slice(0, 6).join(" | ")}`);
  }
  await page.goto("https://evil.example/");
  const shown = page.frames().find((frame) => frame !== page.mainFrame());
  must((await shown.getByRole("button", { name: "Come in" }).count()) === 0, `${how}: another site has it in a frame`);
  await context.close();
}
await browser.close();
server.close();
server.closeAllConnections();
console.log(JSON.stringify({ failed }));
