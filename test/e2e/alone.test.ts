import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { builtBinary, culvertCommand, denoCommand } from "../support/binary.ts";
import { addTunnel, type EdgeProcess, HOST, served, startEdgeProcess } from "../support/lab.ts";
import { GIBIBYTE, patternDigest } from "../support/lab-pattern.ts";
import { type LabOrigin, startOrigin } from "../support/origins.ts";
import { type OwnedProcess, runProcess, startProcess } from "../support/processes.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { download, openVisit, openWebSocket, serverSentEvents, upload, visit } from "../support/visitors.ts";

const binary = builtBinary();
const BULK_TIMEOUT_MS = 90_000;

describe.skipIf(binary === undefined)("the binary alone: empty folder, empty environment", () => {
  const stack = new AsyncDisposableStack();
  const command = [resolve(binary ?? "")];
  let options: { cwd: string; env: Record<string, string>; command: readonly string[] };
  let stateDir: string;
  let origin: LabOrigin;
  let edge: EdgeProcess;
  let connector: OwnedProcess;
  let token: string;
  const connect = (): OwnedProcess => {
    const url = `http://127.0.0.1:${origin.port}`;
    return stack.use(
      startProcess([...command, "tunnel", "--metrics", "127.0.0.1:0", "run", "--token", token, "--url", url], options),
    );
  };

  beforeAll(async () => {
    const dir = stack.use(makeTempDir());
    const cwd = join(dir.path, "empty");
    mkdirSync(cwd);
    options = { cwd, env: {}, command };
    stateDir = join(dir.path, "state");
    origin = stack.use(await startOrigin());
    edge = await startEdgeProcess(stateDir, {}, options);
    stack.use(edge.process);
    token = await addTunnel(stateDir, "alone", [HOST], options);
    connector = connect();
    await connector.errorLine(/Registered tunnel connection/);
  });
  afterAll(() => stack.disposeAsync());

  test("GET", async () => {
    expect((await visit(edge.publicPort, { host: HOST, target: "/hello" })).body.toString()).toBe("hello");
  });

  test(
    "1 GiB down and up",
    async () => {
      const want = { bytes: GIBIBYTE, sha256: patternDigest(GIBIBYTE) };
      expect(await download(edge.publicPort, { host: HOST, target: `/bulk?bytes=${GIBIBYTE}` })).toEqual(want);
      const sent = await upload(edge.publicPort, { host: HOST, target: "/upload" }, GIBIBYTE);
      expect(JSON.parse(sent.body.toString())).toEqual(want);
    },
    BULK_TIMEOUT_MS,
  );

  test.skipIf(process.platform !== "linux" || process.arch !== "x64")(
    "where its QUIC engine cannot be unpacked, it says what to do and serves by HTTP/2",
    async () => {
      using state = makeTempDir();
      await using other = (await startEdgeProcess(state.path, {}, { ...options, env: { TMPDIR: "/proc" } })).process;
      await other.errorLine(/QUIC is off, and connectors use HTTP\/2: .* set TMPDIR to one that can be written/);
    },
  );

  test("server-sent events and WebSocket", async () => {
    const { socket, chunks } = await openVisit(edge.publicPort, { host: HOST, target: "/sse?gate=alone" });
    await using _ = socket;
    const events = serverSentEvents(chunks);
    expect((await events.next()).value).toBe("first");
    origin.open("alone");
    expect((await events.next()).value).toBe("second");
    await using ws = await openWebSocket(edge.publicPort, { host: HOST, target: "/ws" });
    await ws.sendText("alone");
    expect((await ws.receive())?.payload.toString()).toBe("alone");
  });

  test("killed and started again, it is served within 2 s", async () => {
    await connector.kill();
    connector = connect();
    await served(edge.publicPort, 2_000);
  });

  test("SIGTERM ends connector and edge with 0, and nothing was left in the folder", async () => {
    connector.signal("SIGTERM");
    expect(await connector.exitCode()).toBe(0);
    edge.process.signal("SIGTERM");
    // The visitor of the events above may have gone when nobody was left to say so: that takes 5 s to be believed.
    expect(await edge.process.exitCode(10_000)).toBe(0);
    expect(readdirSync(options.cwd)).toEqual([]);
  });
});

describe("culvert up", () => {
  test("--json says one line, serves until SIGTERM, and ends with 0", async () => {
    using dir = makeTempDir();
    await using origin = await startOrigin();
    await using up = startProcess([...culvertCommand(), "up", "--json", "--url", `http://127.0.0.1:${origin.port}`], {
      env: { HOME: dir.path },
      cwd: dir.path,
    });
    const url = await upUrl(up);
    const answer = await visit(Number(url.port), { host: url.host, target: "/hello" });
    expect(answer.body.toString()).toBe("hello");
    up.signal("SIGTERM");
    expect(await up.exitCode()).toBe(0);
    expect(up.stdout.trim().split("\n").length).toBe(1);
    expect(readdirSync(dir.path)).toEqual([]);
  });

  test("serves every hostname that it was given", async () => {
    await using up = startProcess([
      ...culvertCommand(),
      "up",
      "--json",
      "--hostname",
      "a.localhost",
      "--hostname",
      "b.localhost",
    ]);
    const { port } = await upUrl(up);
    for (const host of ["a.localhost", "b.localhost"]) expect((await visit(Number(port), { host })).status).toBe(200);
    expect((await visit(Number(port), { host: "c.localhost" })).status).toBe(404);
  });

  test("--once fetches and ends with 0", async () => {
    const { code, stdout } = await runProcess([...culvertCommand(), "up", "--once"]);
    expect([code, stdout]).toEqual([0, expect.stringMatching(/^http:\/\/hello\.localhost:\d+\n$/)]);
  });

  test("--once in front of a service that is down ends with 1", async () => {
    expect((await runProcess([...culvertCommand(), "up", "--once", "--url", "http://127.0.0.1:1"])).code).toBe(1);
  });

  const deno = denoCommand();
  test.skipIf(deno === undefined)("runs under Deno from the source", async () => {
    const { code, stdout, stderr } = await runProcess([...(deno ?? []), "up", "--once"], { deadlineMs: 25_000 });
    expect({ code, stdout, stderr }).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^http:\/\/hello\.localhost:\d+\n$/),
    });
  });
});

/** The URL in the line of JSON that `up --json` prints. */
async function upUrl(up: OwnedProcess): Promise<URL> {
  await up.outputLine(/^\{.*\}$/m);
  return new URL((JSON.parse(up.stdout) as { url: string }).url);
}
