import { expect, test } from "bun:test";
import { connect, type Socket } from "node:net";
import { listen } from "../../src/net/listen.ts";
import type { Connection, ListenOptions, ServerTls } from "../../src/net/sockets.ts";
import { makeTestCertificate } from "../support/certificate.ts";
import { pollUntil } from "../support/poll-until.ts";
import { runProcess } from "../support/processes.ts";

const one = await makeTestCertificate(["one.test"]);
const two = await makeTestCertificate(["two.test"]);

async function serve(tls: Partial<ServerTls>, more: Partial<ListenOptions> = {}) {
  const connections: Connection[] = [];
  const refused: string[] = [];
  const server = await listen({
    ...{ host: "127.0.0.1", port: 0, maxConnections: 100 },
    tls: { alpn: ["h2", "http/1.1"], choose: () => undefined, fallback: undefined, ...tls },
    onConnection: (connection) => {
      connections.push(connection);
      connection.channel.listen({
        onData: () => {},
        onEnd: () => connection.channel.end(),
        onDrain: () => {},
        onClose: () => {},
      });
    },
    onRefused: (_ip, reason) => refused.push(reason),
    ...more,
  });
  return { server, connections, refused };
}

/** Subject of the certificate shown; undefined = the handshake failed. */
async function subject(port: number, ...more: readonly string[]): Promise<string | undefined> {
  const { stdout } = await runProcess(["openssl", "s_client", "-connect", `127.0.0.1:${port}`, ...more]);
  return /^subject=\s*CN ?= ?(\S+)/m.exec(stdout)?.[1];
}

test("a name gets what is chosen for it, others the fallback, which may come and change later", async () => {
  const { server, connections, refused } = await serve({
    choose: (name) => {
      if (name === "bad.test") throw new Error("no");
      return name === "one.test" ? one : undefined;
    },
  });
  expect(await subject(server.port, "-servername", "One.Test", "-alpn", "http/1.1")).toBe("one.test");
  expect(connections.at(-1)).toMatchObject({ serverName: "one.test", alpn: "http/1.1", remoteIp: "127.0.0.1" });
  expect(await subject(server.port, "-servername", "other.test")).toBeUndefined();
  expect(await subject(server.port, "-servername", "bad.test")).toBeUndefined();
  expect(await subject(server.port, "-noservername")).toBeUndefined();
  expect(refused).toEqual(["handshake", "handshake", "handshake"]);
  server.setFallback?.(two);
  expect(await subject(server.port, "-servername", "other.test")).toBe("two.test");
  expect(await subject(server.port, "-noservername")).toBe("two.test");
  expect(connections.at(-1)).toMatchObject({ serverName: undefined, alpn: undefined });
  server.setFallback?.(one);
  expect(await subject(server.port, "-noservername")).toBe("one.test");
  await server.close();
});

test("an address may have only so many handshakes at once; what it finished does not count", async () => {
  const { server, refused } = await serve({ fallback: one }, { maxHandshakesPerIp: 3, handshakeTimeoutMs: 60_000 });
  const closed = new Set<Socket>();
  const dial = (): Socket => {
    const socket = connect(server.port, "127.0.0.1");
    socket.on("close", () => closed.add(socket));
    socket.on("error", () => {});
    return socket;
  };
  for (let i = 0; i < 4; i += 1) expect(await subject(server.port)).toBe("one.test");
  const silent = Array.from({ length: 5 }, dial);
  await pollUntil(() => closed.size === 2, { what: "the surplus is closed" });
  expect(refused).toEqual(["handshakes-per-ip", "handshakes-per-ip"]);
  expect(await subject(server.port)).toBeUndefined();
  for (const socket of silent) socket.destroy();
  await pollUntil(async () => (await subject(server.port)) === "one.test", {
    what: "there is room again",
    everyMs: 50,
  });
  await server.close();
});

test("a handshake that does not move on is ended in time", async () => {
  const { server, refused } = await serve({ fallback: one }, { handshakeTimeoutMs: 300 });
  const startedMs = performance.now();
  const socket = connect(server.port, "127.0.0.1");
  await new Promise((resolve) => socket.on("close", resolve));
  expect(performance.now() - startedMs).toBeLessThan(3_000);
  expect(refused).toEqual(["handshake"]);
  await server.close();
});
