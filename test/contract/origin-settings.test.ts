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
import { startFullListener } from "../support/full-listener.ts";
import { pollUntil } from "../support/poll-until.ts";
import { runProcess } from "../support/processes.ts";
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

  get port(): number {
    return (this.#server.address() as net.AddressInfo).port;
  }

  async listen(): Promise<number> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return this.port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** Takes connections and never says a word. */
class MuteOrigin implements AsyncDisposable {
  readonly #sockets = new Set<net.Socket>();
  readonly #server = net.createServer((socket) => {
    this.#sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => this.#sockets.delete(socket));
    socket.resume();
  });

  get open(): number {
    return this.#sockets.size;
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

describe("connectTimeout and tlsTimeout", () => {
  test("bound the way to an address that does not answer, with and without TLS", async () => {
    await using full = await startFullListener("127.0.0.1");
    for (const scheme of ["http", "https"]) {
      const settings = { connectTimeout: 150, tlsTimeout: 60_000 };
      const startMs = performance.now();
      expect(await ask(serviceAt(full.port, settings, systemClock, scheme))).toEqual(["origin.timeout"]);
      const tookMs = performance.now() - startMs;
      expect(tookMs).toBeGreaterThan(140);
      expect(tookMs).toBeLessThan(5_000);
    }
  });

  test("the TLS handshake has a time of its own, whatever connecting may take", async () => {
    await using origin = new MuteOrigin();
    const port = await origin.listen();
    const startMs = performance.now();
    const log = await ask(serviceAt(port, { connectTimeout: 60_000, tlsTimeout: 150 }));
    expect(log).toEqual(["origin.timeout"]);
    expect(performance.now() - startMs).toBeLessThan(5_000);
    const http2 = serviceAt(port, { connectTimeout: 60_000, tlsTimeout: 150, http2Origin: true });
    expect(await ask(http2)).toEqual(["origin.timeout"]);
    await pollUntil(() => origin.open === 0, { what: "connections are let go" });
  });

  test("0 is no bound", async () => {
    await using origin = new TlsOrigin(first);
    const port = await origin.listen();
    const caPool = file("unbounded.pem", first.cert);
    for (const settings of [{ connectTimeout: 0 }, { tlsTimeout: 0 }, { connectTimeout: 0, tlsTimeout: 0 }]) {
      const service = serviceAt(port, { caPool, ...settings });
      expect(await ask(service)).toEqual(ANSWER);
      await service.close();
    }
    await using plain = new TlsOrigin({ plain: true });
    const clear = serviceAt(await plain.listen(), { connectTimeout: 0 }, systemClock, "http");
    expect(await ask(clear)).toEqual(ANSWER);
    await clear.close();
  });
});

describe("originServerName and noTLSVerify", () => {
  test("the name is asked for and must be in the certificate; nothing must be without verification", async () => {
    await using origin = new TlsOrigin(first);
    const port = await origin.listen();
    const caPool = file("names.pem", first.cert);
    const of = async (settings: Partial<OriginSettings>) => {
      const service = serviceAt(port, settings);
      const log = await ask(service);
      await service.close();
      return [log[0], origin.seen.at(-1)?.serverName];
    };
    expect(await of({ caPool, originServerName: "one.example.test" })).toEqual(["200", "one.example.test"]);
    expect((await of({ caPool, originServerName: "elsewhere.test" }))[0]).toBe("origin.tls");
    // Without a name it is the service's own: an address, which is no server name and not in the certificate.
    expect((await of({ caPool, originServerName: "" }))[0]).toBe("origin.tls");
    expect(await of({ originServerName: "elsewhere.test", noTLSVerify: true })).toEqual(["200", "elsewhere.test"]);
    expect((await of({ originServerName: "origin.test" }))[0]).toBe("origin.tls");
  });
});

describe("http2Origin", () => {
  test.each([
    { http2Origin: false, offered: undefined },
    { http2Origin: true, offered: ["h2", "http/1.1"] },
  ] as const)("$http2Origin: what TLS is offered; HTTP/1.1 serves where nothing better is chosen", async (how) => {
    let offered: readonly string[] | undefined;
    await using origin = new TlsOrigin({
      ...first,
      ALPNCallback: ({ protocols }) => {
        offered = protocols;
        return "http/1.1";
      },
    });
    const { http2Origin } = how;
    const service = serviceAt(await origin.listen(), { http2Origin, caPool: file("alpn.pem", first.cert) });
    expect(await ask(service)).toEqual(ANSWER);
    expect(offered as unknown).toEqual(how.offered);
    await service.close();
  });
});

describe("keeping connections", () => {
  async function plainService(settings: Partial<OriginSettings>, clock: Clock) {
    const origin = new TlsOrigin({ plain: true });
    const service = serviceAt(await origin.listen(), settings, clock, "http");
    const asked = async (count: number): Promise<number> => {
      for (let i = 0; i < count; i += 1) expect(await ask(service)).toEqual(ANSWER);
      return origin.seen.length;
    };
    return { origin, service, asked };
  }

  test("keepAliveConnections: 0 keeps none, 1 keeps one", async () => {
    const none = await plainService({ keepAliveConnections: 0 }, systemClock);
    await using _none = none.origin;
    expect(await none.asked(3)).toBe(3);
    const one = await plainService({ keepAliveConnections: 1 }, systemClock);
    await using _one = one.origin;
    expect(await one.asked(3)).toBe(1);
    await one.service.close();
  });

  test("keepAliveTimeout: a connection that was idle for longer is not used again; 0 is for ever", async () => {
    const clock = new ShiftedClock();
    const brief = await plainService({ keepAliveTimeout: 20_000 }, clock);
    await using _brief = brief.origin;
    expect(await brief.asked(1)).toBe(1);
    clock.shift(19_000);
    expect(await brief.asked(1)).toBe(1);
    clock.shift(20_001);
    expect(await brief.asked(1)).toBe(2);
    await brief.service.close();
    const kept = await plainService({ keepAliveTimeout: 0 }, clock);
    await using _kept = kept.origin;
    expect(await kept.asked(1)).toBe(1);
    clock.shift(24 * 3_600_000);
    expect(await kept.asked(1)).toBe(1);
    await kept.service.close();
  });

  test.skipIf(Bun.which("ss") === null)("tcpKeepAlive: the system probes after that time; 0 is never", async () => {
    for (const { tcpKeepAlive, want } of [
      { tcpKeepAlive: 45_000, want: /keepalive,4[0-9]sec/ },
      { tcpKeepAlive: 0, want: undefined },
    ]) {
      const { origin, service, asked } = await plainService({ tcpKeepAlive }, systemClock);
      await using _origin = origin;
      await asked(1);
      const { stdout } = await runProcess(["ss", "-tnoH", "state", "established", `dport = :${origin.port}`]);
      expect(stdout).toContain(`:${origin.port}`);
      if (want === undefined) expect(stdout).not.toContain("keepalive");
      else expect(stdout).toMatch(want);
      await service.close();
    }
  });
});

test("proxyAddress and proxyPort have no effect, as in cloudflared", async () => {
  await using origin = new TlsOrigin({ plain: true });
  const settings = { proxyAddress: "192.0.2.1", proxyPort: 9, proxyType: "socks" };
  const service = serviceAt(await origin.listen(), settings, systemClock, "http");
  expect(await ask(service)).toEqual(ANSWER);
  await service.close();
});
