import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { type ApiServer, startApiServer } from "../../../src/edge/api/server.ts";
import { createAuthority, createEdgeCertificate } from "../../../src/edge/certificates.ts";
import { startTestApi, type TestApi } from "../../support/api-app.ts";
import { pollUntil } from "../../support/poll-until.ts";

/** A head that is not complete by now ends its connection, in ms: 15 s, and the time between two looks. */
const HALF_HEAD_MS = 25_000;

let api: TestApi;
let server: ApiServer;
beforeAll(async () => {
  api = startTestApi();
  const options = { host: "127.0.0.1", port: 0, certificate: undefined };
  server = await startApiServer(api.app, options, { log: api.deps.log });
});
afterAll(async () => {
  await server.close(100);
  api[Symbol.dispose]();
});

interface Raw {
  readonly socket: Socket;
  readonly received: () => string;
  readonly closed: () => boolean;
}

function dial(text: string | Uint8Array): Promise<Raw> {
  return new Promise((resolve, reject) => {
    let received = "";
    let closed = false;
    const socket = connect(server.port, "127.0.0.1", () => {
      socket.write(text);
      resolve({ socket, received: () => received, closed: () => closed });
    });
    socket.on("data", (chunk) => {
      received += chunk.toString("latin1");
    });
    socket.on("close", () => {
      closed = true;
    });
    socket.on("error", (error) => {
      closed = true;
      reject(error);
    });
  });
}

/** The status of the first answer; `closed` when there is none. */
async function statusOf(text: string | Uint8Array, deadlineMs = 5_000): Promise<string> {
  const raw = await dial(text);
  try {
    return await pollUntil(
      () => /^HTTP\/1\.1 (\d+)/.exec(raw.received())?.[1] ?? (raw.closed() ? "closed" : undefined),
      {
        ...{ what: "an answer", deadlineMs },
      },
    );
  } finally {
    raw.socket.destroy();
  }
}

const post = (more: string, body: string): string =>
  `POST /client/v4/accounts/${api.account.tag}/cfd_tunnel HTTP/1.1\r\nHost: edge.test\r\nContent-Type: application/json\r\n${more}\r\n${body}`;
const bearer = (): string => `Authorization: Bearer ${api.admin}\r\n`;

describe("what arrives on the socket", () => {
  test("requests that break the rules of HTTP are refused", async () => {
    const get = "GET /client/v4/accounts HTTP/1.1\r\n";
    expect(await statusOf(`${get}\r\n`)).toBe("400");
    expect(await statusOf(`${get}Host: a b/\r\n\r\n`)).toBe("400");
    expect(await statusOf("\u0016\u0003\u0001hello\r\n\r\n")).toBe("400");
    expect(await statusOf(`${get}Host: x\r\nX: ${"a".repeat(60_000)}\r\n\r\n`)).toBe("431");
    expect(await statusOf("CONNECT evil.test:443 HTTP/1.1\r\nHost: x\r\n\r\n")).toBe("closed");
    expect(await statusOf(post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"))).toBe("400");
  });

  test("a body that is too long is refused before it is there, and its connection ends", async () => {
    const raw = await dial(post(`${bearer()}Content-Length: 500000000\r\n`, "x".repeat(100_000)));
    await pollUntil(() => raw.received().startsWith("HTTP/1.1 413"), { what: "the refusal" });
    await pollUntil(() => raw.closed(), { what: "the end of the connection" });
    const chunk = `${(64 * 1024).toString(16)}\r\n${" ".repeat(64 * 1024)}\r\n`;
    expect(await statusOf(post(`${bearer()}Transfer-Encoding: chunked\r\n`, chunk.repeat(30)))).toBe("413");
  });

  test("who goes away in the middle of a body leaves nothing behind, and nothing in the log", async () => {
    const before = api.store.tunnels.find({}).total;
    const lines = api.lines.length;
    const raw = await dial(post(`${bearer()}Content-Length: 100\r\n`, '{"name":"half'));
    // The edge has the head once another call on it was answered.
    expect(await statusOf(`GET /ready HTTP/1.1\r\nHost: x\r\n\r\n`)).toBe("200");
    raw.socket.destroy();
    expect(await statusOf(`GET /ready HTTP/1.1\r\nHost: x\r\n\r\n`)).toBe("200");
    expect(api.store.tunnels.find({}).total).toBe(before);
    expect(api.lines.slice(lines)).toEqual([]);
  });

  test(
    "half a head, and a connection that says nothing, end",
    async () => {
      const raws = [await dial("GET /client/v4/acc"), await dial("GET /ready HTTP/1.1\r\nHost: x\r\nX-Slow: ")];
      await pollUntil(() => raws.every((raw) => raw.closed()), { what: "they end", deadlineMs: HALF_HEAD_MS });
    },
    HALF_HEAD_MS + 5_000,
  );
});

test("calls of one address are told by it", async () => {
  const body = '{"name":"who"}';
  expect(await statusOf(post(`${bearer()}Content-Length: ${body.length}\r\n`, body))).toBe("200");
  expect(api.store.audit.find({ action: "tunnel.create" }).items[0]?.actor.from).toBe("127.0.0.1");
});

test("over TLS it takes TLS 1.2 and later, by the edge's authority", async () => {
  const authority = createAuthority(Date.now());
  const certificate = createEdgeCertificate(authority, ["127.0.0.1"], Date.now());
  const options = { host: "127.0.0.1", port: 0, certificate };
  const secure = await startApiServer(api.app, options, { log: api.deps.log });
  const handshake = (maxVersion: "TLSv1.1" | "TLSv1.2" | "TLSv1.3") =>
    new Promise<string>((resolve) => {
      const socket = connectTls(
        { host: "127.0.0.1", port: secure.port, ca: authority.cert, maxVersion, minVersion: "TLSv1" },
        () => {
          resolve(socket.authorized ? (socket.getProtocol() ?? "") : "not trusted");
          socket.destroy();
        },
      );
      socket.on("error", () => resolve("refused"));
    });
  expect(await handshake("TLSv1.3")).toBe("TLSv1.3");
  expect(await handshake("TLSv1.2")).toBe("TLSv1.2");
  expect(await handshake("TLSv1.1")).toBe("refused");
  await secure.close(100);
});

test("what is not asked anything ends at once when the server does, a running call later", async () => {
  const other = await startApiServer(
    api.app,
    { host: "127.0.0.1", port: 0, certificate: undefined },
    { log: api.deps.log },
  );
  const waiting = fetch(`http://127.0.0.1:${other.port}/login/${"w".repeat(43)}=`).then(
    () => "answered",
    () => "cut",
  );
  await pollUntil(() => api.clock.pending > 0, { what: "the call is there" });
  const began = performance.now();
  await other.close(300);
  expect(performance.now() - began).toBeLessThan(2_000);
  expect(await waiting).toBe("cut");
});

test("an address that is taken is said", async () => {
  const again = startApiServer(
    api.app,
    { host: "127.0.0.1", port: server.port, certificate: undefined },
    { log: api.deps.log },
  );
  expect(await again.catch((error: unknown) => error)).toMatchObject({ code: "listen.failed" });
});

test("a renewed certificate is shown to whoever comes next, and a running call goes on", async () => {
  const authority = createAuthority(Date.now());
  const certificates = [1, 2].map(() => createEdgeCertificate(authority, ["127.0.0.1"], Date.now()));
  const [first, second] = certificates;
  if (first === undefined || second === undefined) throw new Error("There are no certificates");
  const secure = await startApiServer(
    api.app,
    { host: "127.0.0.1", port: 0, certificate: first },
    { log: api.deps.log },
  );
  const to = { host: "127.0.0.1", port: secure.port, ca: authority.cert };
  const shown = (): Promise<string> =>
    new Promise((resolve, reject) => {
      const socket = connectTls(to, () => {
        resolve(socket.getPeerCertificate().fingerprint256);
        socket.destroy();
      });
      socket.on("error", reject);
    });
  const before = await shown();
  expect(before).toBe(new X509Certificate(first.cert).fingerprint256);
  const pending = api.clock.pending;
  let answer = "";
  const waiting = connectTls(to, () => waiting.write(`GET /login/${"r".repeat(43)}= HTTP/1.1\r\nHost: x\r\n\r\n`));
  waiting.on("data", (chunk: Buffer) => {
    answer += chunk.toString();
  });
  await pollUntil(() => api.clock.pending > pending, { what: "the call is there" });
  await secure.renew(second);
  expect(await shown()).toBe(new X509Certificate(second.cert).fingerprint256);
  await api.clock.advance(50_000);
  await pollUntil(() => answer.startsWith("HTTP/1.1 204"), { what: "the answer to the call from before" });
  waiting.destroy();
  await secure.close(100);
  expect(await shown().catch(() => "refused")).toBe("refused");
});

test.each(["http", "https"])("connections beyond the limits are closed and make room: %s", async (scheme) => {
  const limits = { maxConnections: 5, maxPerAddress: 3 };
  const authority = createAuthority(Date.now());
  const certificate = scheme === "http" ? undefined : createEdgeCertificate(authority, ["localhost"], Date.now());
  const small = await startApiServer(
    api.app,
    { host: "127.0.0.1", port: 0, certificate, ...limits },
    { log: api.deps.log },
  );
  const ask = async (localAddress: string): Promise<{ readonly socket: Socket; readonly got: string }> => {
    let got = "";
    const plain = connect({ port: small.port, host: "127.0.0.1", localAddress });
    plain.on("error", () => {});
    const socket =
      certificate === undefined ? plain : connectTls({ socket: plain, ca: authority.cert, servername: "localhost" });
    socket.on(certificate === undefined ? "connect" : "secureConnect", () =>
      socket.write("GET /ready HTTP/1.1\r\nHost: x\r\n\r\n"),
    );
    socket.on("data", (chunk) => {
      got += chunk.toString().slice(0, 12);
    });
    // A reset is an end, too.
    socket.on("error", () => {});
    socket.on("close", () => {
      got ||= "closed";
    });
    return { socket, got: await pollUntil(() => got || undefined, { what: "an answer" }) };
  };
  const open: Socket[] = [];
  const outcomes: string[] = [];
  for (const address of ["127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.2", "127.0.0.3"]) {
    const { socket, got } = await ask(address);
    open.push(socket);
    outcomes.push(got);
  }
  const ok = "HTTP/1.1 200";
  expect(outcomes).toEqual([ok, ok, ok, "closed", ok, ok, "closed"]);
  open[0]?.destroy();
  await pollUntil(async () => (await ask("127.0.0.1")).got === ok || undefined, { what: "room" });
  for (const socket of open) socket.destroy();
  await small.close(100);
});
