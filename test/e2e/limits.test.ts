import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CULVERT, HOST, type Lab, startLab } from "../support/lab.ts";
import { field } from "../support/lab-message.ts";
import { dialLab } from "../support/lab-socket.ts";
import { pollUntil } from "../support/poll-until.ts";
import { runProcess } from "../support/processes.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { visit } from "../support/visitors.ts";

/** A network of documentation addresses (RFC 5737): each test speaks for one, by way of a trusted proxy. */
const from = (ip: string) => ["X-Forwarded-For", ip] as const;

const stack = new AsyncDisposableStack();
let lab: Lab;

beforeAll(async () => {
  const pages = join(stack.use(makeTempDir()).path, "pages");
  mkdirSync(pages);
  writeFileSync(join(pages, "4xx.html"), "<h1>{{status}} {{title}}</h1><p>{{advice}}</p><i>{{ ray }}</i>{{unknown}}");
  const limits = ["connections-per-ip=20", "requests-per-ip=3", "rate-per-ip=5", "burst-per-ip=8", "header-size=4KiB"];
  const more = ["body-size=100KB", "header-timeout=1s", "body-timeout=1s", "idle-timeout=2s", "requests-per-tunnel=6"];
  lab = stack.use(
    await startLab(CULVERT, {
      edgeFlags: [
        ...["--limit", limits.join(","), ...more.flatMap((limit) => ["--limit", limit])],
        ...["--trusted-proxy", "127.0.0.1/32", "--metrics", "127.0.0.1:0", "--error-pages", pages],
      ],
    }),
  );
}, 30_000);
afterAll(async () => await stack.disposeAsync());

/** The counter of a limit, as a scraper reads it. */
async function counted(limit: string): Promise<number> {
  const { stdout } = await runProcess(["curl", "-s", `http://127.0.0.1:${lab.edge.metricsPort}/metrics`]);
  const found = new RegExp(`^culvert_edge_limited_total\\{limit="${limit}"\\} (\\d+)$`, "m").exec(stdout)?.[1];
  if (found === undefined) throw new Error(`No counter for ${limit}`);
  return Number(found);
}

/** What the limit's counter grew by. */
async function countedDuring(limit: string, action: () => Promise<void>): Promise<number> {
  const before = await counted(limit);
  await action();
  return (await counted(limit)) - before;
}

test("a burst is served, then 429 says when to come again; other addresses do not notice", async () => {
  const statuses: number[] = [];
  const grown = await countedDuring("rate-per-ip", async () => {
    for (let i = 0; i < 12; i += 1) {
      const answer = await visit(lab.port, { host: HOST, target: "/hello", fields: [from("192.0.2.1")] });
      statuses.push(answer.status);
      if (answer.status === 429) expect(Number(field(answer, "retry-after"))).toBeGreaterThanOrEqual(1);
    }
  });
  expect(statuses.slice(0, 8)).toEqual(Array(8).fill(200));
  expect(statuses).toContain(429);
  expect(grown).toBe(statuses.filter((status) => status === 429).length);
  expect((await visit(lab.port, { host: HOST, target: "/hello", fields: [from("192.0.2.2")] })).status).toBe(200);
});

test("requests at once of one address end at 429, over HTTP/2 as well", async () => {
  const grown = await countedDuring("requests-per-ip", async () => {
    const { stdout } = await runProcess([
      ...["curl", "-s", "--parallel", "--parallel-immediate", "--http2-prior-knowledge", "-o", "/dev/null"],
      ...["-H", `Host: ${HOST}`, "-H", "X-Forwarded-For: 192.0.2.3", "-w", "\ncode=%{http_code}\n", "--max-time", "3"],
      ...Array.from({ length: 6 }, (_, i) => `http://127.0.0.1:${lab.port}/slow?gate=never&i=${i}`),
    ]);
    expect(stdout.match(/^code=429$/gm)).toHaveLength(3);
  });
  expect(grown).toBe(3);
}, 20_000);

test("requests at once to one tunnel end at 503 with Retry-After, whoever asks", async () => {
  const grown = await countedDuring("requests-per-tunnel", async () => {
    const sockets = await Promise.all(
      Array.from({ length: 6 }, async (_, i) => {
        const socket = await dialLab(lab.port);
        const fields = `X-Forwarded-For: 198.51.100.${i}\r\nContent-Length: 5`;
        await socket.write(`POST /hello HTTP/1.1\r\nHost: ${HOST}\r\n${fields}\r\n\r\n`);
        return socket;
      }),
    );
    const busy = await pollUntil(
      async () => {
        const answer = await visit(lab.port, { host: HOST, target: "/hello", fields: [from("198.51.100.77")] });
        return answer.status === 503 ? answer : undefined;
      },
      { what: "the tunnel is full", everyMs: 100 },
    );
    expect(field(busy, "retry-after")).toBe("1");
    for (const socket of sockets) await socket[Symbol.asyncDispose]();
  });
  expect(grown).toBeGreaterThanOrEqual(1);
  await pollUntil(
    async () =>
      (await visit(lab.port, { host: HOST, target: "/hello", fields: [from("198.51.100.78")] })).status === 200,
    { what: "the tunnel has room again", everyMs: 300 },
  );
}, 20_000);

test("a header too large is answered with 431 over HTTP/1.1 and HTTP/2", async () => {
  const grown = await countedDuring("header-size", async () => {
    for (const version of ["--http1.1", "--http2-prior-knowledge"]) {
      const { stdout } = await runProcess([
        ...["curl", "-s", version, "-o", "/dev/null", "-w", "%{http_code}", "-H", `Host: ${HOST}`],
        ...["-H", `X-Long: ${"x".repeat(12_000)}`, `http://127.0.0.1:${lab.port}/`],
      ]);
      expect({ version, stdout }).toEqual({ version, stdout: "431" });
    }
  });
  expect(grown).toBe(2);
});

test("a body too large is answered with 413: at once when its length is told, else where the limit is", async () => {
  const body = Buffer.alloc(150_000);
  const grown = await countedDuring("body-size", async () => {
    const told = await visit(lab.port, {
      host: HOST,
      method: "POST",
      target: "/hello",
      fields: [from("192.0.2.5")],
      body,
    });
    expect(told.status).toBe(413);
    const fields = [from("192.0.2.5"), ["Transfer-Encoding", "chunked"]] as const;
    await using socket = await dialLab(lab.port);
    await socket.write(
      `POST /hello HTTP/1.1\r\nHost: ${HOST}\r\n${fields.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n`,
    );
    await socket.write(`${body.length.toString(16)}\r\n`);
    await socket.write(body);
    const head = (await socket.readSome())?.toString("latin1") ?? "";
    expect(head).toStartWith("HTTP/1.1 413 ");
  });
  expect(grown).toBe(2);
});

test("a slow head and a slow body are answered with 408, a silent connection is closed", async () => {
  for (const [limit, text] of [
    ["header-timeout", `GET / HTTP/1.1\r\nHost: ${HOST}\r\nX-Slow: `],
    [
      "body-timeout",
      `POST /hello HTTP/1.1\r\nHost: ${HOST}\r\n${from("192.0.2.6").join(": ")}\r\nContent-Length: 9\r\n\r\nabc`,
    ],
  ] as const) {
    const grown = await countedDuring(limit, async () => {
      await using socket = await dialLab(lab.port);
      await socket.write(text);
      expect({ limit, answer: (await socket.readSome())?.toString().slice(0, 12) }).toEqual({
        limit,
        answer: "HTTP/1.1 408",
      });
    });
    expect({ limit, grown }).toEqual({ limit, grown: 1 });
  }
  const grown = await countedDuring("idle-timeout", async () => {
    await using socket = await dialLab(lab.port);
    expect(await socket.readSome()).toBeUndefined();
  });
  expect(grown).toBeGreaterThanOrEqual(1);
}, 20_000);

test("connections of one address end at the limit, and make room when they end", async () => {
  const hello = () => visit(lab.port, { host: HOST, target: "/hello", fields: [from("192.0.2.10")] });
  const grown = await countedDuring("connections-per-ip", async () => {
    await using open = new AsyncDisposableStack();
    // A reset that is there before the socket is looked at fails the dial: refused all the same.
    const dialled = await Promise.allSettled(Array.from({ length: 24 }, () => dialLab(lab.port)));
    const sockets = dialled.flatMap((one) => (one.status === "fulfilled" ? [open.use(one.value)] : []));
    await pollUntil(() => sockets.filter((socket) => socket.end === undefined).length <= 20, {
      what: "the surplus is closed",
    });
  });
  expect(grown).toBeGreaterThanOrEqual(4);
  // The edge hears of their end in its own time.
  await pollUntil(async () => (await hello()).status === 200, { what: "the address has room again" });
});

test("an own error page is filled in for browsers, and machines get JSON as ever", async () => {
  const ask = (accept: string) =>
    visit(lab.port, { host: "nobody.example", fields: [["Accept", accept], from("192.0.2.9")] });
  const page = await ask("text/html");
  const ray = field(page, "cf-ray");
  expect(page.body.toString()).toBe(
    "<h1>404 No site here</h1><p>No tunnel serves this hostname. If it is yours, route it to a tunnel on this edge.</p>" +
      `<i>${ray}</i>{{unknown}}`,
  );
  expect(JSON.parse((await ask("application/json")).body.toString())).toMatchObject({ errors: [{ code: 404 }] });
});

test("/ready says that it serves", async () => {
  const answer = await visit(lab.edge.metricsPort, { host: "127.0.0.1", target: "/ready" });
  expect(answer.status).toBe(200);
  expect(JSON.parse(answer.body.toString())).toMatchObject({ tunnelConnections: 4 });
});
