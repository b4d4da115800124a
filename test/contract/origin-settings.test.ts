import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import tls from "node:tls";
import type { CancelTimer, Clock } from "../../src/core/clock.ts";
import { systemClock } from "../../src/core/clock.ts";
import { DEFAULT_ORIGIN_SETTINGS, type OriginSettings } from "../../src/ingress/origin-request.ts";
import { parseService, type ServiceSpec } from "../../src/ingress/service.ts";
import { createOriginService } from "../../src/origin/index.ts";
import type { OriginService } from "../../src/origin/port.ts";
import { RECHECK_MS } from "../../src/origin/tls-files.ts";
import { makeTestCertificate, type TestCertificate } from "../support/certificate.ts";
import { pollUntil } from "../support/poll-until.ts";
import { GET, Recorder } from "../unit/origin/http/scripted.ts";

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/** The real clock, which tests may put forward, so that nobody waits for a file to be looked at again. */
class ShiftedClock implements Clock {
  #shiftMs = 0;

  nowMs(): number {
    return systemClock.nowMs() + this.#shiftMs;
  }

  wallMs(): number {
    return systemClock.wallMs() + this.#shiftMs;
  }

  after(ms: number, callback: () => void, options?: { background?: boolean }): CancelTimer {
    return systemClock.after(ms, callback, options);
  }

  shift(ms: number): void {
    this.#shiftMs += ms;
  }
}

interface Seen {
  /** What the client said first, in clear text. */
  prelude: string;
  serverName: string | false | null;
  clientCertificate: string | undefined;
}

/** Answers every request with 200; what a connection began with is in `seen`. */
class TlsOrigin implements AsyncDisposable {
  readonly seen: Seen[] = [];
  readonly #server: net.Server;
  readonly #sockets = new Set<net.Socket>();

  /** `preludeBytes`: the client talks in clear text before TLS. */
  constructor(how: tls.TlsOptions & { readonly preludeEnd?: string | number; readonly plain?: boolean }) {
    this.#server = net.createServer((raw) => {
      this.#sockets.add(raw);
      raw.on("error", () => {});
      const seen: Seen = { prelude: "", serverName: null, clientCertificate: undefined };
      const serve = (socket: net.Socket): void => {
        socket.on("error", () => {});
        let head = "";
        socket.on("data", (chunk: Buffer) => {
          head += chunk.toString("latin1");
          if (!head.includes("\r\n\r\n")) return;
          head = "";
          socket.write(OK);
        });
      };
      const secure = (): void => {
        this.seen.push(seen);
        if (how.plain === true) {
          serve(raw);
          return;
        }
        const socket = new tls.TLSSocket(raw, { isServer: true, requestCert: how.ca !== undefined, ...how });
        socket.on("secure", () => {
          seen.serverName = socket.servername ?? null;
          seen.clientCertificate = socket.getPeerCertificate()?.subject?.CN as string | undefined;
        });
        serve(socket);
      };
      const { preludeEnd } = how;
      if (preludeEnd === undefined) return secure();
      raw.once("readable", () => {
        const bytes: Buffer = raw.read() ?? Buffer.alloc(0);
        const length = typeof preludeEnd === "number" ? preludeEnd : bytes.indexOf(preludeEnd) + preludeEnd.length;
        seen.prelude = bytes.subarray(0, length).toString(typeof preludeEnd === "number" ? "hex" : "latin1");
        raw.unshift(bytes.subarray(length));
        secure();
      });
    });
  }

  async listen(): Promise<number> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return (this.#server.address() as net.AddressInfo).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

let first: TestCertificate;
let second: TestCertificate;
let client: TestCertificate;
let dir: string;

beforeAll(async () => {
  [first, second, client] = await Promise.all([
    makeTestCertificate(["origin.test", "*.example.test"]),
    makeTestCertificate(["origin.test"]),
    makeTestCertificate(["culvert.test"]),
  ]);
  dir = mkdtempSync(join(tmpdir(), "culvert-settings-"));
});

afterAll(() => rmSync(dir, { recursive: true }));

function serviceAt(port: number, settings: Partial<OriginSettings>, clock: Clock = systemClock, scheme = "https") {
  const made = createOriginService(
    parseService(`${scheme}://127.0.0.1:${port}`) as ServiceSpec,
    { ...DEFAULT_ORIGIN_SETTINGS, originServerName: "origin.test", ...settings },
    { clock, readFile: (path) => readFileSync(path, "utf8") },
  );
  if (made === undefined) throw new Error("no service");
  return made;
}

async function ask(service: OriginService, headers: readonly string[] = ["Host", "a"]): Promise<string[]> {
  const events = new Recorder();
  service.exchange({ ...GET, headers }, events);
  await events.done;
  return events.log;
}

function file(name: string, text: string): string {
  const path = join(dir, name);
  writeFileSync(path, text);
  return path;
}

const ANSWER = ["200", "end"];

describe("caPool", () => {
  test("a file: one that is renewed is taken up, one that breaks leaves the old one at work", async () => {
    await using origin = new TlsOrigin(first);
    const port = await origin.listen();
    const clock = new ShiftedClock();
    const caPool = file("pool.pem", second.cert);
    const service = serviceAt(port, { caPool }, clock);
    expect(await ask(service)).toEqual(["origin.tls"]);
    // Swapped as tools do it: written beside, then renamed.
    renameSync(file("pool.new", `${second.cert}${first.cert}`), caPool);
    clock.shift(RECHECK_MS);
    expect(await ask(service)).toEqual(ANSWER);
    writeFileSync(caPool, "no certificate at all");
    clock.shift(RECHECK_MS);
    expect(await ask(service)).toEqual(ANSWER);
    await service.close();
  });

  test("a folder: its files count, those that come later too; connections agreed before are not used on", async () => {
    await using origin = new TlsOrigin(first);
    const port = await origin.listen();
    const clock = new ShiftedClock();
    const pool = join(dir, "folder");
    mkdirSync(pool);
    writeFileSync(join(pool, "b.crt"), second.cert);
    writeFileSync(join(pool, "notes.txt"), "no certificate");
    const service = serviceAt(port, { caPool: pool }, clock);
    expect(await ask(service)).toEqual(["origin.tls"]);
    // As secrets are mounted: a link that is swapped.
    writeFileSync(join(dir, "mounted"), first.cert);
    symlinkSync(join(dir, "mounted"), join(pool, "a.pem"));
    clock.shift(RECHECK_MS);
    expect(await ask(service)).toEqual(ANSWER);
    rmSync(join(pool, "a.pem"));
    clock.shift(RECHECK_MS);
    expect(await ask(service)).toEqual(["origin.tls"]);
    await service.close();
  });

  test.each([
    {
      name: "missing",
      path: "/nowhere/at/all.pem",
      want: 'Cannot read caPool "/nowhere/at/all.pem": there is no such file',
    },
    { name: "without a certificate", text: "hello", want: /holds no certificate in PEM$/ },
    {
      name: "broken",
      text: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
      want: /it is not valid PEM$/,
    },
  ])("$name: refused at the start", ({ path, text = "", want }) => {
    const caPool = path ?? file("bad.pem", text);
    expect(() => serviceAt(1, { caPool })).toThrow(want);
  });
});

describe("clientCert and clientKey", () => {
  test("are shown to a service that asks, and read again when they change", async () => {
    await using origin = new TlsOrigin({ ...first, ca: [client.cert, second.cert], rejectUnauthorized: true });
    const port = await origin.listen();
    const caPool = file("origin.pem", first.cert);
    expect((await ask(serviceAt(port, { caPool })))[0]).toStartWith("origin.");
    const clock = new ShiftedClock();
    const pair = { clientCert: file("client.pem", client.cert), clientKey: file("client.key", client.key) };
    const service = serviceAt(port, { caPool, ...pair }, clock);
    expect(await ask(service)).toEqual(ANSWER);
    expect(origin.seen.at(-1)?.clientCertificate).toBe("culvert.test");
    writeFileSync(pair.clientCert, second.cert);
    writeFileSync(pair.clientKey, second.key);
    clock.shift(RECHECK_MS);
    expect(await ask(service)).toEqual(ANSWER);
    expect(origin.seen.at(-1)?.clientCertificate).toBe("origin.test");
    await service.close();
  });

  test("that do not belong together are refused, and the message holds no key", () => {
    const pair = { clientCert: file("c.pem", client.cert), clientKey: file("k.pem", first.key) };
    expect(() => serviceAt(1, pair)).toThrow(/they are no certificate and key that belong together, in PEM$/);
    expect(() => serviceAt(1, { clientCert: pair.clientCert })).toThrow(/belong together: give both or neither$/);
  });
});

describe("matchSNItoHost", () => {
  test("the name asked for is the Host's; another name is another connection, the same one is not", async () => {
    await using origin = new TlsOrigin(first);
    const service = serviceAt(await origin.listen(), { matchSNItoHost: true, caPool: file("sni.pem", first.cert) });
    expect(await ask(service, ["Host", "One.example.test:8080"])).toEqual(ANSWER);
    expect(await ask(service, ["Host", "two.example.test."])).toEqual(ANSWER);
    expect(await ask(service, ["Host", "one.example.test"])).toEqual(ANSWER);
    expect(await ask(service, ["Host", "other.test"])).toEqual(["origin.tls"]);
    expect(origin.seen.map(({ serverName }) => serverName).slice(0, 2)).toEqual([
      "one.example.test",
      "two.example.test",
    ]);
    expect(origin.seen).toHaveLength(3);
    await service.close();
  });
});

describe("proxyProtocol", () => {
  const visitor = ["Host", "a", "Cf-Connecting-IP", "203.0.113.9"];

  test.each([
    { version: "v1", plain: true, preludeEnd: "\r\n" },
    { version: "v1", plain: false, preludeEnd: "\r\n" },
    { version: "v2", plain: true, preludeEnd: 28 },
    { version: "v2", plain: false, preludeEnd: 28 },
  ] as const)("$version, clear text: $plain", async ({ version, plain, preludeEnd }) => {
    await using origin = new TlsOrigin({ ...first, plain, preludeEnd });
    const port = await origin.listen();
    const settings = { proxyProtocol: version, caPool: file("proxy.pem", first.cert) };
    const service = serviceAt(port, settings, systemClock, plain ? "http" : "https");
    expect(await ask(service, visitor)).toEqual(ANSWER);
    expect(await ask(service, ["Host", "a", "Cf-Connecting-IP", "198.51.100.1"])).toEqual(ANSWER);
    const [one, two] = origin.seen;
    if (version === "v1") {
      expect(one?.prelude).toBe(`PROXY TCP4 203.0.113.9 127.0.0.1 0 ${port}\r\n`);
      expect(two?.prelude).toBe(`PROXY TCP4 198.51.100.1 127.0.0.1 0 ${port}\r\n`);
    } else {
      const tail = `7f0000010000${port.toString(16).padStart(4, "0")}`;
      expect(one?.prelude).toBe(`0d0a0d0a000d0a515549540a2111000ccb007109${tail}`);
      expect(two?.prelude).toBe(`0d0a0d0a000d0a515549540a2111000cc6336401${tail}`);
    }
    await service.close();
  });

  test("cannot be with HTTP/2, which has many visitors on one connection", () => {
    expect(() => serviceAt(1, { proxyProtocol: "v1", http2Origin: true })).toThrow(/leave one of them out$/);
  });
});

test("maxConnections: a service never has more, and every request is answered", async () => {
  let open = 0;
  let most = 0;
  const server = net.createServer((socket) => {
    open += 1;
    most = Math.max(most, open);
    socket.on("error", () => {});
    socket.on("close", () => {
      open -= 1;
    });
    socket.on("data", () => setTimeout(() => socket.write(OK), 2));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const service = serviceAt((server.address() as net.AddressInfo).port, { maxConnections: 2 }, systemClock, "http");
  const answers = await Promise.all(Array.from({ length: 50 }, () => ask(service)));
  expect(answers).toEqual(Array.from({ length: 50 }, () => ANSWER));
  expect(most).toBe(2);
  await service.close();
  await pollUntil(() => open === 0, { what: "connections of the service are let go" });
  server.close();
});
