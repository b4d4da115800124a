import { describe, expect, test } from "bun:test";
import { readFileSync, statSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { culvertCommand } from "../support/binary.ts";
import { addTunnel, cleanEnvironment, HOST, served, startEdgeProcess } from "../support/lab.ts";
import { startOrigin } from "../support/origins.ts";
import { pollUntil } from "../support/poll-until.ts";
import { type OwnedProcess, startProcess } from "../support/processes.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { openWebSocket, visit } from "../support/visitors.ts";

const SECRET = "hunter2-51c0";

/** Answers what it was asked, and counts. */
async function startEcho(): Promise<{ readonly port: number; readonly asked: string[] } & AsyncDisposable> {
  const asked: string[] = [];
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks).toString();
    asked.push(`${request.method} ${request.url} ${request.headers.authorization ?? ""} ${body}`);
    response.setHeader("Content-Type", "application/json");
    response.setHeader("Set-Cookie", `sid=${SECRET}; HttpOnly`);
    response.end(JSON.stringify({ count: asked.length, token: SECRET, body }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    asked,
    [Symbol.asyncDispose]: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** Shows requests as a browser would that opened the address. */
class Looker {
  readonly origin: string;
  readonly #cookie: string;

  private constructor(origin: string, cookie: string) {
    this.origin = origin;
    this.#cookie = cookie;
  }

  static async open(url: string): Promise<Looker> {
    const answer = await fetch(url, { redirect: "manual" });
    const set = answer.headers.get("set-cookie") ?? "";
    expect([answer.status, answer.headers.get("location")]).toEqual([303, "/"]);
    expect(set).toMatch(/; Path=\/; HttpOnly; SameSite=Strict$/);
    return new Looker(new URL(url).origin, set.split(";", 1)[0] ?? "");
  }

  ask(path: string, init: RequestInit = {}): Promise<Response> {
    return fetch(this.origin + path, {
      redirect: "manual",
      ...init,
      headers: { ...init.headers, Cookie: this.#cookie },
    });
  }

  async text(path: string): Promise<string> {
    const answer = await this.ask(path);
    expect([path, answer.status]).toEqual([path, 200]);
    return await answer.text();
  }
}

describe("culvert up --inspect", () => {
  test("keeps requests, hides secrets, replays, and saves HAR", async () => {
    await using stack = new AsyncDisposableStack();
    const echo = stack.use(await startEcho());
    const argv = [...culvertCommand(), "up", "--inspect", "--url", `http://127.0.0.1:${echo.port}`];
    const up: OwnedProcess = stack.use(startProcess(argv, { env: cleanEnvironment() }));
    const [, url = ""] = await up.errorLine(/Requests are shown at (http:\/\/127\.0\.0\.1:\d+\/\?key=[0-9a-f]{32})\b/);
    const [, port = ""] = await up.outputLine(/http:\/\/app\.localhost:(\d+)/);
    const asked = {
      ...{ host: "app.localhost", method: "POST", target: `/login?token=${SECRET}&page=2` },
      fields: [
        ["Authorization", `Bearer ${SECRET}`],
        ["Content-Type", "application/json"],
      ],
      body: JSON.stringify({ user: "ann", password: SECRET }),
    } as const;
    expect((await visit(Number(port), asked)).status).toBe(200);

    // Nobody without the key sees anything, and no page elsewhere can send anything.
    const { origin } = new URL(url);
    for (const path of ["/", "/requests/1", "/requests.har"]) expect((await fetch(origin + path)).status).toBe(401);
    expect((await fetch(`${origin}/?key=${"0".repeat(32)}`)).status).toBe(401);
    const looker = await Looker.open(url);
    const foreign = await looker.ask("/requests/1/replay", {
      method: "POST",
      headers: { Origin: "http://evil.example", "Sec-Fetch-Site": "cross-site" },
    });
    expect([foreign.status, echo.asked.length]).toEqual([403, 1]);

    const list = await looker.text("/");
    expect(list).toContain('<a id="r1" href="/requests/1">/login?token=REDACTED&amp;page=2</a>');
    expect(await looker.text("/?q=nothing-like-it")).toContain("No request fits");
    const page = await looker.text("/requests/1");
    for (const shown of ["Bearer REDACTED", "&quot;user&quot;: &quot;ann&quot;", "sid=REDACTED", "200 OK"]) {
      expect(page).toContain(shown);
    }
    const har = await looker.text("/requests.har");
    expect(list + page + har).not.toContain(SECRET);
    expect(JSON.parse(har).log.entries).toHaveLength(1);

    const replayed = await looker.ask("/requests/1/replay", {
      method: "POST",
      headers: { Origin: origin, "Sec-Fetch-Site": "same-origin" },
    });
    expect([replayed.status, replayed.headers.get("location")]).toEqual([303, "/requests/2"]);
    await pollUntil(async () => (await looker.text("/requests/2")).includes("200 OK"), { what: "the replay" });
    // Byte for byte what the visitor sent, secrets too.
    expect(echo.asked).toEqual(Array(2).fill(`POST ${asked.target} Bearer ${SECRET} ${asked.body}`));
    expect(await looker.text("/requests/2")).toContain('<a href="/requests/1">request 1</a>');
    expect(JSON.parse(await looker.text("/requests/2.har")).log.entries[0]).toMatchObject({ _replayOf: 1 });

    // A body that was not kept as a whole is passed on as a whole, and not replayed.
    const long = await visit(Number(port), { host: "app.localhost", method: "PUT", body: "x".repeat(100_000) });
    expect(JSON.parse(long.body.toString()).body).toHaveLength(100_000);
    expect(await looker.text("/requests/3")).toContain("its body was not kept as a whole");
    expect((await looker.ask("/requests/3/replay", { method: "POST" })).status).toBe(409);

    expect((await looker.ask("/clear", { method: "POST" })).status).toBe(303);
    expect(await looker.text("/")).toContain("No request yet");
    expect((await looker.ask("/requests/1")).status).toBe(404);
    up.signal("SIGINT");
    expect(await up.exitCode(10_000)).toBe(0);
    expect(up.stdout).not.toContain(SECRET);
  }, 40_000);

  test("is off unless it is asked for", async () => {
    await using up = startProcess([...culvertCommand(), "up", "--once"], { env: cleanEnvironment() });
    expect(await up.exitCode(15_000)).toBe(0);
    expect(up.stderr).not.toContain("Requests are shown");
  }, 30_000);
});

describe("culvert edge run --inspect TUNNEL", () => {
  test("keeps the requests of that tunnel alone, and tells its key to the owner alone", async () => {
    await using stack = new AsyncDisposableStack();
    const dir = stack.use(makeTempDir());
    const stateDir = join(dir.path, "state");
    const origin = stack.use(await startOrigin());
    const options = { cwd: dir.path, env: cleanEnvironment(), command: culvertCommand() };
    const watched = await addTunnel(stateDir, "watched", [HOST], options);
    const other = await addTunnel(stateDir, "other", ["other.lab.example"], options);
    const flags = ["--inspect", "watched", "--inspect-listen", "127.0.0.1:0", "--inspect-keep", "3"];
    const edge = await startEdgeProcess(stateDir, {}, { ...options, flags });
    stack.use(edge.process);
    const [line] = await edge.process.errorLine(/Requests are kept and shown.*/);
    const path = join(stateDir, "inspect-url");
    const url = readFileSync(path, "utf8").trim();
    expect(line).toContain(`file=${path}`);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(edge.process.stderr).not.toContain(new URL(url).searchParams.get("key") ?? "-");
    for (const token of [watched, other]) {
      const to = ["--url", `http://127.0.0.1:${origin.port}`];
      const argv = [
        ...culvertCommand(),
        "tunnel",
        "--edge",
        `127.0.0.1:${edge.tunnelPort}`,
        "--metrics",
        "127.0.0.1:0",
      ];
      const env = { ...options.env, TUNNEL_CACERT: join(stateDir, "ca.pem") };
      const connector = stack.use(startProcess([...argv, "run", "--token", token, ...to], { env }));
      await connector.errorLine(/Registered tunnel connection/);
    }
    await served(edge.publicPort);
    expect((await visit(edge.publicPort, { host: "other.lab.example", target: "/hello" })).status).toBe(200);
    await using socket = await openWebSocket(edge.publicPort, { host: HOST, target: "/ws" });
    await socket.sendText("hello");
    expect((await socket.receive())?.payload.toString()).toBe("hello");
    const looker = await Looker.open(url);
    const list = await looker.text("/");
    expect(list).not.toContain("other.lab.example");
    expect(list).toContain("101 Switching Protocols");
    const [, id = ""] = /href="\/requests\/(\d+)">\/ws</.exec(list) ?? [];
    expect(await looker.text(`/requests/${id}`)).toContain("it is a WebSocket");
    await socket[Symbol.asyncDispose]();
    edge.process.signal("SIGTERM");
    await edge.process.exitCode(10_000);
    expect(() => statSync(path)).toThrow("ENOENT");
  }, 40_000);

  test.each(["0.0.0.0", "127.evil.example"])("refuses to show requests to the network (%s)", async (host) => {
    await using dir = { ...makeTempDir(), [Symbol.asyncDispose]: async () => {} };
    const argv = ["edge", "run", "--state-dir", dir.path, "--inspect", "x", "--inspect-listen", `${host}:4040`];
    await using edge = startProcess([...culvertCommand(), ...argv], { env: cleanEnvironment() });
    expect(await edge.exitCode(10_000)).not.toBe(0);
    expect(edge.stderr).toContain("--inspect-listen must be on loopback");
  });
});
