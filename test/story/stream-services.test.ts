import { describe, expect, test } from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import type { Socket } from "node:net";
import { type IngressRules, parseIngress } from "../../src/ingress/rules.ts";
import { TRANSPORTS } from "../../src/transport/index.ts";
import { field } from "../support/lab-message.ts";
import { OPCODE } from "../support/lab-websocket.ts";
import { pollUntil } from "../support/poll-until.ts";
import { startTcpOrigin } from "../support/tcp-origin.ts";
import { openStream, StreamConversation } from "../support/tunnel-client.ts";
import { openWebSocket, visit } from "../support/visitors.ts";
import { HOSTNAME, startWholePath, type WholePath } from "../support/whole-path.ts";

const MIB = 1024 * 1024;

function rulesFor(service: string, originRequest: Record<string, unknown> = {}): IngressRules {
  const { rules, issues } = parseIngress({ ingress: [{ service, originRequest }] });
  if (rules === undefined) throw new Error(issues.map((issue) => issue.message).join("; "));
  return rules;
}

describe.each([...TRANSPORTS])("a stream service over $name", (transport) => {
  async function serving(service: string, originRequest?: Record<string, unknown>): Promise<WholePath> {
    const path = await startWholePath();
    await path.connect({ rules: rulesFor(service, originRequest), connections: 1, transports: [transport] });
    await pollUntil(() => path.edge.registry.size === 1, { what: "the connector is there" });
    return path;
  }
  const talk = async (path: WholePath, fields: readonly (readonly [string, string])[] = []) =>
    new StreamConversation(await openStream({ port: path.publicPort, host: HOSTNAME, fields }));

  test("echoes bytes in messages of any size: none is cut short", async () => {
    await using origin = await startTcpOrigin((socket) => void socket.pipe(socket));
    await using path = await serving(`tcp://127.0.0.1:${origin.port}`);
    await using ws = await openWebSocket(path.publicPort, { host: HOSTNAME, target: "/" });
    const sent = randomBytes(MIB + 1_234);
    const sending = ws.send(OPCODE.binary, sent);
    const back: Buffer[] = [];
    for (let bytes = 0; bytes < sent.length; ) {
      const frame = await ws.receive();
      expect(frame).toMatchObject({ opcode: OPCODE.binary, final: true });
      back.push(frame?.payload ?? Buffer.alloc(0));
      bytes += frame?.payload.length ?? sent.length;
    }
    await sending;
    expect(Buffer.concat(back).equals(sent)).toBe(true);
  });

  test("the visitor's end reaches the service, and its answer to all of it the visitor", async () => {
    await using origin = await startTcpOrigin((socket) => {
      const hash = createHash("sha256");
      socket.on("data", (chunk) => hash.update(chunk));
      socket.on("end", () => void socket.end(hash.digest("hex")));
    });
    await using path = await serving(`tcp://127.0.0.1:${origin.port}`);
    const stream = await talk(path);
    const sent = randomBytes(5 * MIB);
    for (let at = 0; at < sent.length; at += 50_000) await stream.write(sent.subarray(at, at + 50_000));
    stream.channel.end();
    await pollUntil(() => stream.ended, { what: "the service's end" });
    expect(stream.received.toString()).toBe(createHash("sha256").update(sent).digest("hex"));
    await pollUntil(() => stream.closed, { what: "the close" });
    expect(stream.closed).toEqual({ error: undefined });
    await pollUntil(() => origin.sockets.size === 0, { what: "the service's connection is closed" });
  });

  test("the service's end reaches the visitor, which goes on talking", async () => {
    let heard = "";
    await using origin = await startTcpOrigin((socket) => {
      socket.end("bye");
      socket.on("data", (chunk) => {
        heard += chunk.toString();
      });
    });
    await using path = await serving(`tcp://127.0.0.1:${origin.port}`);
    const stream = await talk(path);
    await pollUntil(() => stream.ended, { what: "the service's end" });
    expect(stream.received.toString()).toBe("bye");
    await stream.write("but wait");
    stream.channel.end();
    await pollUntil(() => heard === "but wait", { what: "the rest reaches the service" });
    await pollUntil(() => stream.closed, { what: "the close" });
    expect(stream.closed).toEqual({ error: undefined });
  });

  test("a service that is cut is cut for the visitor within a second", async () => {
    await using origin = await startTcpOrigin((socket) => void socket.write("hello"));
    await using path = await serving(`tcp://127.0.0.1:${origin.port}`);
    const stream = await talk(path);
    await pollUntil(() => stream.bytes === 5, { what: "the greeting" });
    for (const socket of origin.sockets) socket.resetAndDestroy();
    await pollUntil(() => stream.closed, { what: "the cut", deadlineMs: 1_000 });
    expect(stream.ended).toBe(false);
    expect(stream.closed?.error).toBeDefined();
  });

  test("a visitor that is cut is cut for the service within a second", async () => {
    let failure: Error | undefined;
    await using origin = await startTcpOrigin((socket) => {
      socket.write("hello");
      socket.on("error", (error) => {
        failure = error;
      });
    });
    await using path = await serving(`tcp://127.0.0.1:${origin.port}`);
    const stream = await talk(path);
    await pollUntil(() => stream.bytes === 5, { what: "the greeting" });
    stream.channel.abort({ code: "aborted" } as never);
    await pollUntil(() => origin.sockets.size === 0, { what: "the cut", deadlineMs: 1_000 });
    expect(failure).toBeDefined();
  });

  test("a side that does not read holds the other back, and gets everything in the end", async () => {
    const total = 48 * MIB;
    let sent = 0;
    const service = Promise.withResolvers<Socket>();
    await using origin = await startTcpOrigin((socket) => service.resolve(socket));
    await using path = await serving(`tcp://127.0.0.1:${origin.port}`);
    const stream = await talk(path);
    stream.channel.pause();
    const socket = await service.promise;
    const block = Buffer.alloc(256 * 1024, "block");
    const push = (): void => {
      while (sent < total) {
        sent += block.length;
        if (!socket.write(block)) return;
      }
      socket.end();
    };
    socket.on("drain", push);
    push();
    let before = -1;
    const standsStill = (): boolean => {
      const still = sent === before;
      before = sent;
      return still;
    };
    await pollUntil(standsStill, { what: "the service stands still", everyMs: 300 });
    expect(sent).toBeLessThan(total);
    stream.channel.resume();
    await pollUntil(() => stream.ended, { what: "everything", deadlineMs: 20_000 });
    expect(stream.bytes).toBe(total);
  });

  test("a service that is not there is 502, and a plain request 426", async () => {
    await using gone = await startTcpOrigin(() => {});
    const { port } = gone;
    await gone[Symbol.asyncDispose]();
    await using path = await serving(`ssh://127.0.0.1:${port}`);
    await expect(talk(path)).rejects.toThrow(/status 502/);
    const plain = await visit(path.publicPort, { host: HOSTNAME, target: "/" });
    expect(plain.status).toBe(426);
    expect(plain.body.toString()).toContain("access tcp");
    expect(field(plain, "content-type")).toContain("text/plain");
  });

  test("with proxyType socks, whatever the client asks for is the one configured place", async () => {
    await using origin = await startTcpOrigin((socket) => void socket.pipe(socket));
    await using path = await serving(`tcp://127.0.0.1:${origin.port}`, { proxyType: "socks" });
    const stream = await talk(path);
    await stream.write(Uint8Array.of(5, 1, 0, 5, 1, 0, 1, 192, 0, 2, 1, 0, 80));
    await stream.write("hello");
    await pollUntil(() => stream.bytes === 2 + 10 + 5, { what: "method, reply and echo" });
    expect([...stream.received.subarray(0, 4)]).toEqual([5, 0, 5, 0]);
    expect(stream.received.subarray(12).toString()).toBe("hello");
    stream.channel.end();
  });

  test("proxyProtocol names the visitor in front of its bytes", async () => {
    let heard = "";
    await using origin = await startTcpOrigin((socket) => {
      socket.on("data", (chunk) => {
        heard += chunk.toString();
      });
    });
    await using path = await serving(`tcp://127.0.0.1:${origin.port}`, { proxyProtocol: "v1" });
    const stream = await talk(path);
    await stream.write("hello");
    await pollUntil(() => heard.endsWith("hello"), { what: "the bytes" });
    expect(heard).toBe(`PROXY TCP4 127.0.0.1 127.0.0.1 0 ${origin.port}\r\nhello`);
    stream.channel.end();
  });

  test("what a rule leaves open is said at the start", async () => {
    await using path = await serving("bastion");
    expect(path.lines.filter((line) => line.includes(" WRN bastion has no ipRules"))).toHaveLength(1);
    await using closed = await serving("socks-proxy");
    expect(closed.lines.some((line) => line.includes(" WRN socks-proxy has no ipRules, so it refuses"))).toBe(true);
  });

  test("many streams at once keep their own bytes", async () => {
    await using origin = await startTcpOrigin((socket) => void socket.pipe(socket));
    await using path = await serving(`tcp://127.0.0.1:${origin.port}`);
    await Promise.all(
      Array.from({ length: 100 }, async (_, i) => {
        const stream = await talk(path);
        const sent = Buffer.alloc(30_000, `stream ${i};`);
        await stream.write(sent);
        stream.channel.end();
        await pollUntil(() => stream.closed, { what: `the end of stream ${i}`, deadlineMs: 10_000 });
        expect(stream.received.equals(sent)).toBe(true);
      }),
    );
    await pollUntil(() => origin.sockets.size === 0, { what: "no connection is left" });
  });

  test("a bastion goes where the visitor asks, and not to this machine unless a rule says so", async () => {
    await using origin = await startTcpOrigin((socket) => void socket.pipe(socket));
    const to = (destination: string) => [["Cf-Access-Jump-Destination", destination]] as const;
    await using open = await serving("bastion", {
      ipRules: [{ prefix: "127.0.0.0/8", ports: [origin.port], allow: true }],
    });
    for (const destination of [`127.0.0.1:${origin.port}`, `tcp://localhost:${origin.port}/x`]) {
      const stream = await talk(open, to(destination));
      await stream.write("through");
      await pollUntil(() => stream.received.toString() === "through", { what: "the echo" });
      stream.channel.end();
    }
    await expect(talk(open, to(`127.0.0.1:${open.publicPort}`))).rejects.toThrow(/status 403/);
    await expect(talk(open, to("10.255.255.1:22"))).rejects.toThrow(/status 403/);
    await expect(talk(open)).rejects.toThrow(/status 502/);
    await using guarded = await serving("bastion");
    for (const host of ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "127.1", "[::ffff:127.0.0.1]"]) {
      await expect(talk(guarded, to(`${host}:${origin.port}`))).rejects.toThrow(/status 403/);
    }
  });
});
