import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { type Browser, chromium, type Page } from "playwright-core";
import { culvertCommand } from "../support/binary.ts";
import { cleanEnvironment } from "../support/lab.ts";
import { type ManagedEdge, startManagedEdge } from "../support/managed-edge.ts";
import { type LabOrigin, startOrigin } from "../support/origins.ts";
import { startProcess } from "../support/processes.ts";
import { missingCommands } from "../support/real-services/commands.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { visit } from "../support/visitors.ts";

/*
 * Dashboard and inspector as people use them: in a browser, by their labels, without the mouse where that is asked, and
 * with axe-core looking at every state of every page in light and dark.
 */
const NO_BROWSER = missingCommands("chromium");
const TITLE = NO_BROWSER === undefined ? "in a browser" : `in a browser (skipped: ${NO_BROWSER})`;
// Names of skipped tests are not shown with --only-failures.
if (NO_BROWSER !== undefined) console.warn(`Dashboard and inspector ${TITLE}`);
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const HOST = "app.example.test";
const TIMEOUT_MS = 90_000;

interface Violation {
  readonly id: string;
  readonly nodes: readonly { readonly html: string }[];
}

/** A page whose console says nothing. */
class WatchedPage {
  readonly page: Page;
  readonly said: string[] = [];

  constructor(page: Page) {
    this.page = page;
    page.on("console", (message) => {
      if (message.type() === "error" || message.type() === "warning") this.said.push(message.text());
    });
    page.on("pageerror", (error) => this.said.push(String(error)));
    page.on("requestfailed", (request) => {
      // Leaving a page ends its streams, and the news that it was about to get.
      if (request.failure()?.errorText !== "net::ERR_ABORTED")
        this.said.push(`${request.url()} ${request.failure()?.errorText}`);
    });
  }

  /** What axe-core finds, in both colour schemes. */
  async expectAccessible(): Promise<void> {
    for (const colorScheme of ["light", "dark"] as const) {
      await this.page.emulateMedia({ colorScheme });
      // The page's own policy lets no script in but the edge's; the browser's debugger is not bound by it.
      await this.page.evaluate(AXE);
      const found = (await this.page.evaluate(
        "axe.run().then(({ violations }) => violations)",
      )) as readonly Violation[];
      const shown = found.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`);
      expect([this.page.url(), colorScheme, shown]).toEqual([this.page.url(), colorScheme, []]);
    }
  }
}

describe.skipIf(NO_BROWSER !== undefined)(TITLE, () => {
  const stack = new AsyncDisposableStack();
  let browser: Browser;
  let edge: ManagedEdge;
  let origin: LabOrigin;

  beforeAll(async () => {
    const home = stack.use(makeTempDir()).path;
    origin = stack.use(await startOrigin());
    edge = stack.use(await startManagedEdge());
    browser = await chromium.launch({
      executablePath: Bun.which("chromium") ?? "",
      env: { ...cleanEnvironment(), HOME: home },
      args: [
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        ...["--no-sandbox", "--no-proxy-server", "--disable-background-networking", "--disable-component-update"],
      ],
    });
    stack.defer(() => browser.close());
  }, TIMEOUT_MS);
  afterAll(() => stack.disposeAsync());

  test(
    "the dashboard: sign in, create a tunnel, run a replica, hostnames, rules, live log, delete",
    async () => {
      const secret = await edge.token("dashboard");
      const url = new URL("/", edge.apiUrl).href;
      const context = await browser.newContext({ permissions: ["clipboard-read", "clipboard-write"] });
      await using _context = { [Symbol.asyncDispose]: () => context.close() };
      const watched = new WatchedPage(await context.newPage());
      const { page } = watched;
      page.on("dialog", (dialog) => void dialog.accept());

      await page.goto(url);
      expect(await page.title()).toBe("Sign in - Culvert edge");
      await watched.expectAccessible();
      await page.getByLabel("API token").fill(secret);
      await page.keyboard.press("Enter");
      await page.getByRole("heading", { name: "Tunnels", exact: true }).waitFor();
      const [cookie] = await context.cookies();
      expect(cookie).toMatchObject({ name: "culvert-dashboard", httpOnly: true, sameSite: "Strict" });
      expect(cookie?.value).not.toContain(secret);
      expect(await page.content()).not.toContain(secret);
      await watched.expectAccessible();

      // A name that is none is refused on the page, and what was typed stays.
      await page.getByLabel("Name", { exact: true }).fill("a tunnel <b>\u0007");
      await page.getByRole("button", { name: "Create" }).click();
      await page.getByRole("alert").waitFor();
      watched.said.length = 0;
      await page.getByLabel("Name", { exact: true }).fill("web <b>shop</b>");
      await page.getByRole("button", { name: "Create" }).click();
      await page.getByRole("heading", { name: "web <b>shop</b>" }).waitFor();
      await page.getByText("inactive", { exact: true }).waitFor();
      await watched.expectAccessible();
      await page.getByRole("button", { name: "Start" }).click();
      await page.getByText("no connector of the tunnel is connected").waitFor();

      // The command that is shown is the one that works.
      await page.getByRole("button", { name: "Show how to run a replica" }).click();
      const command = page.locator("#install-0");
      await command.waitFor();
      await watched.expectAccessible();
      await page.getByRole("button", { name: "Copy" }).first().click();
      await page.locator("#said", { hasText: "Copied" }).waitFor({ state: "attached" });
      const copied = (await page.evaluate("navigator.clipboard.readText()")) as string;
      expect(copied).toBe((await command.textContent()) ?? "");
      const [token = ""] = /(?<=--token )\S+/.exec(copied) ?? [];
      const argv = [...culvertCommand(), "tunnel", "--metrics", "127.0.0.1:0", "run", "--token", token];
      const connector = stack.use(
        startProcess([...argv, "--url", `http://127.0.0.1:${origin.port}`], { env: cleanEnvironment() }),
      );
      await connector.errorLine(/Registered tunnel connection/, 20_000);
      // It shows by itself, and what was on the screen stays: the form that led here is not sent again.
      const sent: string[] = [];
      page.on("request", (request) => {
        if (request.isNavigationRequest()) sent.push(`${request.method()} ${request.url()}`);
      });
      await page.getByText("healthy", { exact: true }).waitFor();
      await page.getByText("1 connected").waitFor();
      expect([await command.textContent(), new URL(page.url()).pathname.endsWith("/install")]).toEqual([copied, true]);
      expect(sent).toEqual([]);

      await page.getByLabel("New hostname").fill("not a hostname");
      await page.keyboard.press("Enter");
      await page.getByRole("alert").getByText("is not a hostname").waitFor();
      watched.said.length = 0;
      await page.getByLabel("New hostname").fill(HOST);
      await page.keyboard.press("Enter");
      await page.getByText("The hostname leads to this tunnel").waitFor();
      expect((await visit(edge.edge.publicPort, { host: HOST, target: "/hello" })).body.toString()).toBe("hello");

      const rules = page.getByRole("textbox", { name: "Rules" });
      await rules.fill("ingress:\n  - service: htp://localhost\n");
      await page.getByRole("button", { name: "Check" }).click();
      await page.getByRole("alert").waitFor();
      expect(await rules.inputValue()).toContain("htp://localhost");
      await watched.expectAccessible();
      watched.said.length = 0;
      await rules.fill(`ingress:\n  - hostname: ${HOST}\n    service: http_status:418\n  - service: http_status:404\n`);
      await page.getByRole("button", { name: "Check" }).click();
      await page.getByText("The rules are good").waitFor();
      await page.getByRole("button", { name: "Save" }).click();
      await page.getByText("Saved: connectors have the new rules").waitFor();
      await connector.errorLine(/Updated to new configuration/, 10_000);
      expect((await visit(edge.edge.publicPort, { host: HOST })).status).toBe(418);
      expect(await rules.inputValue()).toContain("http_status:418");

      await page.getByRole("button", { name: "Start" }).click();
      await page.getByText("Connected: new lines show").waitFor();
      await rules.fill("ingress:\n  - service: http_status:410\n");
      const second = new WatchedPage(await context.newPage());
      await second.page.goto(page.url());
      await second.page.getByRole("textbox", { name: "Rules" }).fill("ingress:\n  - service: http_status:410\n");
      await second.page.getByRole("button", { name: "Save" }).click();
      await page.getByRole("log").getByText("Updated to new configuration").waitFor();
      await watched.expectAccessible();
      await page.getByRole("button", { name: "Stop" }).click();

      // By keyboard alone: the button is reached and works.
      await page.getByRole("button", { name: `Delete ${HOST}` }).focus();
      await page.keyboard.press("Enter");
      await page.getByText("The hostname leads nowhere now").waitFor();
      await page.getByRole("button", { name: "Delete this tunnel" }).click();
      await page.getByRole("alert").getByText("active connections").waitFor();
      watched.said.length = 0;
      await page.getByLabel("Also when it is connected").check();
      await page.getByRole("button", { name: "Delete this tunnel" }).click();
      await page.getByText("The tunnel is deleted").waitFor();
      // The other page shows it, too: its tunnel is gone.
      await second.page.getByRole("heading", { name: "Not found" }).waitFor();
      second.said.length = 0;
      await second.page.getByRole("link", { name: "To the tunnels" }).click();
      await second.page.getByText("There is no tunnel yet").waitFor();
      await page.getByRole("button", { name: "Sign out" }).click();
      await page.getByLabel("API token").waitFor();
      // Another page of this browser notices.
      await second.page.getByLabel("API token").waitFor();
      expect(await context.cookies()).toEqual([]);
      expect([...watched.said, ...second.said]).toEqual([]);
    },
    TIMEOUT_MS,
  );

  test(
    "a page that gets no news says so, and keeps what it has",
    async () => {
      await using own = await startManagedEdge();
      await using context = await browser.newContext();
      const watched = new WatchedPage(await context.newPage());
      const { page } = watched;
      await page.goto(new URL("/", own.apiUrl).href);
      await page.getByLabel("API token").fill(await own.token("stale"));
      await page.keyboard.press("Enter");
      await page.getByText("There is no tunnel yet").waitFor();
      await own.stop();
      const asked: number[] = [];
      page.on("request", (request) => {
        if (request.headers()["x-refresh"] !== undefined) asked.push(performance.now());
      });
      await page
        .locator("p.stale", { hasText: /^Not up to date: the edge gives no news since .+\. Trying again\.$/ })
        .waitFor();
      await page.locator("#said[role=status]", { hasText: "Not up to date" }).waitFor({ state: "attached" });
      // Three seconds after the last news, then six.
      const [first = 0, second = 0] = asked;
      expect([asked.length, second - first > 5_000]).toEqual([2, true]);
      await page.getByText("There is no tunnel yet").waitFor();
      await watched.expectAccessible();
      await own.start();
      // Whoever was signed in with the earlier process is told.
      await page.getByLabel("API token").waitFor({ timeout: 60_000 });
      expect(await page.getByText("Not up to date").count()).toBe(0);
    },
    TIMEOUT_MS,
  );

  test(
    "the inspector: requests show by themselves, and are replayed",
    async () => {
      const argv = [...culvertCommand(), "up", "--inspect", "--url", `http://127.0.0.1:${origin.port}`];
      await using up = startProcess(argv, { env: cleanEnvironment() });
      const [, url = ""] = await up.errorLine(/Requests are shown at (http:\S+)/);
      const [, port = ""] = await up.outputLine(/http:\/\/app\.localhost:(\d+)/);
      await using context = await browser.newContext();
      const watched = new WatchedPage(await context.newPage());
      const { page } = watched;
      await page.goto(url);
      expect(new URL(page.url()).search).toBe("");
      await page.getByText("No request yet").waitFor();
      await watched.expectAccessible();

      const before = origin.seen.length;
      await visit(Number(port), { host: "app.localhost", target: "/hello?token=hunter2&page=2" });
      const row = page.getByRole("link", { name: "/hello?token=REDACTED&page=2" });
      await row.waitFor();
      await watched.expectAccessible();
      await row.click();
      await page.getByText("200 OK").waitFor();
      expect(await page.getByLabel("Body of the answer").textContent()).toBe("hello");
      await watched.expectAccessible();
      await page.getByRole("button", { name: "Replay" }).click();
      await page.getByRole("link", { name: "request 1" }).waitFor();
      await page.getByText("200 OK").waitFor();
      expect(origin.seen.slice(before).map(({ target }) => target)).toEqual(
        Array(2).fill("/hello?token=hunter2&page=2"),
      );
      await page.getByRole("link", { name: "All requests" }).click();
      await page.getByText("2 seen, 2 kept").waitFor();
      const saving = page.waitForEvent("download");
      await page.getByRole("link", { name: "Save all as HAR" }).click();
      const saved = join(stack.use(makeTempDir()).path, "all.har");
      await (await saving).saveAs(saved);
      const har = readFileSync(saved, "utf8");
      expect([JSON.parse(har).log.entries.length, har.includes("hunter2")]).toEqual([2, false]);
      expect(watched.said).toEqual([]);
    },
    TIMEOUT_MS,
  );
});
