import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer, request } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { type AddressInfo, connect } from "node:net";
import { join } from "node:path";
import { parseCertPem } from "../../src/wire/cert-pem.ts";
import { culvertCommand } from "../support/binary.ts";
import { makeTestCertificate } from "../support/certificate.ts";
import { CLOUDFLARED, type ManagedEdge, NO_CLOUDFLARED, startManagedEdge } from "../support/managed-edge.ts";
import { runProcess, startProcess } from "../support/processes.ts";

const stack = new AsyncDisposableStack();
let edge: ManagedEdge;
/** The edge's API without its path. */
let origin: string;
/** Without what names the API: it shall be in cert.pem. */
let env: Record<string, string>;

beforeAll(async () => {
  edge = stack.use(await startManagedEdge());
  ({ origin } = new URL(edge.apiUrl));
  env = { ...edge.env, TUNNEL_API_URL: "" };
  rmSync(edge.certPath);
}, 30_000);
afterAll(() => stack.disposeAsync());

function certificate() {
  const parsed = parseCertPem(readFileSync(edge.certPath, "utf8"));
  expect(statSync(edge.certPath).mode & 0o777).toBe(0o600);
  rmSync(edge.certPath);
  if (!parsed.ok) throw new Error("The certificate cannot be read");
  return parsed.value;
}

/** Runs a shell line as the operator. */
const shell = (line: string) => runProcess(["sh", "-c", line], { env, cwd: edge.home });
const LOGIN = [...culvertCommand(), "tunnel", "login"].map((word) => `'${word}'`).join(" ");

describe("culvert tunnel login with a token", () => {
  test("that is a flag", async () => {
    const token = await edge.token("flag");
    const { code, stderr } = await edge.culvert("tunnel", "login", "--api-url", edge.apiUrl, "--api-token", token);
    expect([code, stderr]).toEqual([0, expect.stringContaining("You have successfully logged in")]);
    expect(stderr).not.toContain(token);
    expect(await shell(`${culvertCommand().join(" ")} tunnel list`)).toMatchObject({ code: 0 });
    expect(certificate()).toMatchObject({ ...edge.cert, apiToken: token });
  });

  test("needs no path, and neither do the commands after it", async () => {
    const token = await edge.token("short");
    expect((await edge.culvert("tunnel", "login", "--api-url", origin, "--api-token", token)).code).toBe(0);
    expect(await edge.culvert("tunnel", "--api-url", `${origin}/`, "list")).toMatchObject({ code: 0 });
    expect(certificate()).toMatchObject({ ...edge.cert, apiToken: token });
  });

  test("that is piped", async () => {
    const token = await edge.token("piped");
    const { code, stderr } = await shell(`echo ${token} | ${LOGIN} --api-url ${edge.apiUrl}`);
    expect([code, stderr.includes(token)]).toEqual([0, false]);
    expect(certificate().apiToken).toBe(token);
  });

  test("that is nothing, or wrong, or for an API that is not there", async () => {
    for (const [line, why] of [
      [`${LOGIN} --api-url ${edge.apiUrl} </dev/null`, /Nothing was pasted/],
      [`echo | ${LOGIN} --api-url ${edge.apiUrl}`, /Nothing was pasted/],
      [`echo cvt_wrong | ${LOGIN} --api-url ${edge.apiUrl}`, /does not accept the token/],
      [`echo cvt_wrong | ${LOGIN} --api-url http://127.0.0.1:9/client/v4`, /Cannot reach the API/],
    ] as const) {
      const { code, stderr } = await shell(line);
      expect([line, code, stderr]).toEqual([line, 1, expect.stringMatching(why)]);
    }
  });

  test("keeps a certificate that is there", async () => {
    writeFileSync(edge.certPath, "precious");
    const { code, stderr } = await shell(`echo x | ${LOGIN} --api-url ${edge.apiUrl}`);
    expect([code, stderr]).toEqual([1, expect.stringContaining("There is a certificate")]);
    expect(readFileSync(edge.certPath, "utf8")).toBe("precious");
    rmSync(edge.certPath);
  });
});

/** What a person does with the address that the terminal shows. */
async function logIn(address: string, token: string): Promise<void> {
  const page = await (await fetch(address)).text();
  const key = /name="key" value="([^"]+)"/.exec(page)?.[1] ?? "";
  const done = await fetch(new URL("/login", address), {
    method: "POST",
    headers: { origin: new URL(address).origin },
    body: new URLSearchParams({ key, token, as: "callback" }),
  });
  expect(await done.text()).toContain("Logged in");
}

describe("a login with a browser", () => {
  test("for culvert", async () => {
    const token = await edge.token("browser");
    await using login = startProcess(
      [...culvertCommand(), "tunnel", "login", "--loginURL", `${origin}/login`, "--callbackURL", `${origin}/login/`],
      { env, cwd: edge.home },
    );
    const [address] = await login.errorLine(/http\S+callback=\S+/);
    await logIn(address, token);
    expect(await login.exitCode()).toBe(0);
    expect(certificate()).toEqual({ ...edge.cert, apiToken: token });
    expect(edge.edge.process.stderr).not.toContain(token);
  });

  test.skipIf(NO_CLOUDFLARED !== undefined)("for the unmodified cloudflared", async () => {
    // It always fetches from login.cloudflareaccess.org, whatever --callbackURL says: here a proxy leads there.
    await using store = await startStore(origin);
    const token = await edge.token("cloudflared");
    await using login = startProcess(
      [CLOUDFLARED, "tunnel", "login", "--loginURL", `${origin}/login`, "--callbackURL", `${origin}/login/`],
      // Without a browser to be found, it shows the address.
      { env: { ...env, PATH: edge.home, HTTPS_PROXY: store.proxy, SSL_CERT_FILE: store.certPath }, cwd: edge.home },
    );
    const [address] = await login.errorLine(/http\S+callback=\S+/);
    await logIn(address, token);
    expect(await login.exitCode()).toBe(0);
    // cloudflared writes what it knows of it, which is not where the API is.
    expect(certificate()).toMatchObject({ accountId: edge.cert.accountId, zoneId: edge.cert.zoneId, apiToken: token });
  });

  test("for a file", async () => {
    const token = await edge.token("file");
    const answer = await fetch(`${origin}/login`, { method: "POST", body: new URLSearchParams({ token, as: "file" }) });
    writeFileSync(edge.certPath, await answer.text(), { mode: 0o600 });
    expect(await shell(`${culvertCommand().join(" ")} tunnel list`)).toMatchObject({ code: 0 });
    expect(certificate()).toEqual({ ...edge.cert, apiToken: token });
  });

  test("waits on the edge's side for as long as cloudflared does, and is not held up by an edge that stops", async () => {
    await using other = await startManagedEdge();
    const waiting = fetch(`${new URL(other.apiUrl).origin}/login/${"k".repeat(43)}=`);
    const early = await Promise.race([waiting, new Promise((resolve) => setTimeout(resolve, 12_000, "waiting"))]);
    expect(early).toBe("waiting");
    const began = performance.now();
    await other.stop();
    expect((await waiting).status).toBe(204);
    expect(performance.now() - began).toBeLessThan(4_000);
  }, 40_000);
});

/** The service where cloudflared fetches certificates, in front of an edge, and a proxy that leads to it. */
async function startStore(edgeOrigin: string) {
  const pair = await makeTestCertificate(["login.cloudflareaccess.org"]);
  const store = createTlsServer(pair, (asked, answer) => {
    request(`${edgeOrigin}/login${asked.url}`, (got) => {
      answer.writeHead(got.statusCode ?? 502, got.headers);
      got.pipe(answer);
    }).end();
  });
  await new Promise<void>((resolve) => store.listen(0, "127.0.0.1", resolve));
  const proxy = createServer();
  proxy.on("connect", (asked, socket) => {
    expect(asked.url).toBe("login.cloudflareaccess.org:443");
    const upstream = connect((store.address() as AddressInfo).port, "127.0.0.1");
    for (const one of [socket, upstream]) one.on("error", () => one.destroy());
    socket.write("HTTP/1.1 200 OK\r\n\r\n");
    socket.pipe(upstream).pipe(socket);
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  const certPath = join(edge.home, "store.pem");
  writeFileSync(certPath, pair.cert);
  return {
    proxy: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`,
    certPath,
    [Symbol.asyncDispose]: async () => {
      for (const server of [store, proxy]) {
        server.closeAllConnections();
        await new Promise((resolve) => server.close(resolve));
      }
    },
  };
}
