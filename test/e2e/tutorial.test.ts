import { describe, expect, test } from "bun:test";
import { mkdirSync, readdirSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { type Browser, chromium } from "playwright-core";
import { culvertCommand } from "../support/binary.ts";
import { cleanEnvironment } from "../support/lab.ts";
import { CLOUDFLARED, NO_CLOUDFLARED } from "../support/managed-edge.ts";
import { startOrigin } from "../support/origins.ts";
import { runProcess, startProcess } from "../support/processes.ts";
import { makeTempDir } from "../support/temp-dir.ts";

/*
 * Cloudflare's own tutorial, word for word, with an edge of one's own: from an empty folder to a page in a browser that
 * trusts the edge's authority, once with culvert throughout and once with the unmodified cloudflared.
 */
const HOST = "app.example.test";
const missing = ["chromium", "certutil"].filter((command) => Bun.which(command) === null);

describe.skipIf(missing.length > 0)("the tutorial", () => {
  for (const program of ["culvert", "cloudflared"] as const) {
    test.skipIf(program === "cloudflared" && NO_CLOUDFLARED !== undefined)(
      `with ${program} ends with the app in a browser`,
      async () => {
        await using stack = new AsyncDisposableStack();
        const home = stack.use(makeTempDir()).path;
        const origin = stack.use(await startOrigin());
        expect(readdirSync(home)).toEqual([]);
        const apiPort = await freePort();
        const stateDir = join(home, "edge");
        const env = {
          ...cleanEnvironment(),
          ...{ HOME: home, CULVERT_STATE_DIR: stateDir, TUNNEL_NO_PRECHECKS: "true" },
          TUNNEL_API_URL: `http://127.0.0.1:${apiPort}/client/v4`,
          // cloudflared asks Cloudflare for updates after its commands. It shall reach nobody.
          HTTPS_PROXY: "http://127.0.0.1:9",
        };
        const command = program === "culvert" ? culvertCommand() : [CLOUDFLARED];
        const say = async (...argv: readonly string[]): Promise<string> => {
          const { code, stdout, stderr } = await runProcess(argv, { env, cwd: home });
          expect([argv.join(" "), code, stderr]).toEqual([argv.join(" "), 0, expect.any(String)]);
          return stdout + stderr;
        };

        expect(await say(...culvertCommand(), "edge", "init")).toContain("Start the edge:   culvert edge run");
        const edge = stack.use(
          startProcess(
            [
              ...[...culvertCommand(), "edge", "run", "--api-listen", `127.0.0.1:${apiPort}`, "--tls-internal"],
              ...["--http-listen", "127.0.0.1:0", "--https-listen", "127.0.0.1:0", "--tunnel-listen", "127.0.0.1:0"],
            ],
            { env, cwd: home },
          ),
        );
        const [ready] = await edge.errorLine(/Edge is ready.*/);
        const httpsPort = / https=https:\/\/127\.0\.0\.1:(\d+)/.exec(ready)?.[1] ?? "";
        const tunnelPort = / tunnel=127\.0\.0\.1:(\d+)/.exec(ready)?.[1] ?? "";
        const caPath = / ca=(\S+)/.exec(ready)?.[1] ?? "";

        expect(await say(...command, "tunnel", "create", "web")).toContain("Created tunnel web with id");
        expect(await say(...command, "tunnel", "route", "dns", "web", HOST)).toContain(`Added CNAME ${HOST}`);
        // Only cloudflared has to be told where the edge is and whom to trust.
        const there =
          program === "culvert" ? [] : ["--no-autoupdate", "--edge", `127.0.0.1:${tunnelPort}`, "--cacert", caPath];
        const url = `http://127.0.0.1:${origin.port}`;
        const connector = stack.use(
          startProcess([...command, "tunnel", ...there, "run", "--url", url, "web"], { env, cwd: home }),
        );
        await connector.errorLine(/Registered tunnel connection/, 20_000);

        const trusting = join(home, "trusting");
        await trust(trusting, caPath);
        const browser = stack.use(await openBrowser(trusting, Number(httpsPort)));
        const page = await browser.newPage();
        const answer = await page.goto(`https://${HOST}/hello`);
        expect([answer?.status(), await page.textContent("body")]).toEqual([200, "hello"]);
        expect(await answer?.securityDetails()).toMatchObject({
          issuer: expect.stringContaining("Culvert"),
          subjectName: HOST,
        });
        const protocol = await page.evaluate(
          "performance.getEntriesByType('navigation')[0].nextHopProtocol + ' ' + isSecureContext",
        );
        expect(protocol).toBe("h2 true");

        // The same page is a warning to whoever does not trust the edge.
        const doubting = stack.use(await openBrowser(join(home, "doubting"), Number(httpsPort)));
        const warned = await (await doubting.newPage())
          .goto(`https://${HOST}/hello`)
          .catch((error: Error) => error.message);
        expect(warned).toContain("ERR_CERT_AUTHORITY_INVALID");
      },
      90_000,
    );
  }
});

interface OwnedBrowser extends AsyncDisposable {
  newPage: Browser["newPage"];
}

/** Debian's chromium with a home of its own, for which the hostname is the edge and nothing else exists. */
async function openBrowser(home: string, httpsPort: number): Promise<OwnedBrowser> {
  mkdirSync(home, { recursive: true });
  const browser = await chromium.launch({
    executablePath: Bun.which("chromium") ?? "",
    env: { ...cleanEnvironment(), HOME: home },
    args: [
      `--host-resolver-rules=MAP ${HOST}:443 127.0.0.1:${httpsPort}, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1`,
      ...["--no-sandbox", "--no-proxy-server", "--disable-background-networking", "--disable-component-update"],
    ],
  });
  return { newPage: () => browser.newPage(), [Symbol.asyncDispose]: () => browser.close() };
}

/** Puts an authority where chromium looks for those of its user. */
async function trust(home: string, caPath: string): Promise<void> {
  const db = join(home, ".pki", "nssdb");
  mkdirSync(db, { recursive: true });
  for (const args of [
    ["-N", "--empty-password"],
    ["-A", "-t", "C,,", "-n", "edge", "-i", caPath],
  ]) {
    const { code, stderr } = await runProcess(["certutil", "-d", `sql:${db}`, ...args]);
    expect([args[0], code, stderr]).toEqual([args[0], 0, ""]);
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === "object" && address !== null ? address.port : 0;
}
