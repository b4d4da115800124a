import { describe, expect, test } from "bun:test";
import { Metadata, status } from "@grpc/grpc-js";
import { singleRule } from "../../src/ingress/rules.ts";
import { http2 } from "../../src/transport/http2/connector.ts";
import type { Transport } from "../../src/transport/port.ts";
import { quic } from "../../src/transport/quic/connector.ts";
import { GrpcClient, type GrpcServer, readAll, startGrpcServer } from "../support/grpc-service.ts";
import { pollUntil } from "../support/poll-until.ts";
import { HOSTNAME, startWholePath } from "../support/whole-path.ts";

interface Through extends AsyncDisposable {
  readonly server: GrpcServer;
  readonly client: GrpcClient;
}

/** A server of grpc-js behind a connector and an edge, and a client in front. */
async function over(transport: Transport): Promise<Through> {
  const server = await startGrpcServer();
  const path = await startWholePath();
  const rules = singleRule({ kind: "h2c", host: "127.0.0.1", port: server.port });
  await path.connect({ rules, connections: 2, transports: [transport] });
  await pollUntil(() => path.edge.registry.size === 2, { what: "the tunnel connections" });
  expect(path.lines.join("")).toContain(`protocol=${transport.name}`);
  const client = new GrpcClient(path.publicPort, HOSTNAME);
  return {
    server,
    client,
    [Symbol.asyncDispose]: async () => {
      client[Symbol.dispose]();
      await path[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}

describe.each([http2, quic])("gRPC through a tunnel over $name", (transport) => {
  test("a unary call, with metadata before and behind", async () => {
    await using both = await over(transport);
    const metadata = new Metadata();
    metadata.set("x-own", "mine");
    const got = await both.client.unary(Buffer.from("hello \0\xff", "latin1"), metadata);
    expect([got.status.code, got.messages]).toEqual([status.OK, ["hello \0\xff"]]);
    expect(got.initial?.get("x-initial")).toEqual(["mine"]);
    expect(got.status.metadata.get("x-trailing-bin")).toEqual([Buffer.from([0, 1, 255])]);
  });

  test("messages larger than every window", async () => {
    await using both = await over(transport);
    const message = Buffer.alloc(20 * 1024 * 1024, "culvert ");
    const got = await both.client.unary(message);
    expect(got.status.code).toBe(status.OK);
    expect(Bun.hash(Buffer.from(got.messages[0] ?? "", "latin1"))).toBe(Bun.hash(message));
  });

  test("server streaming", async () => {
    await using both = await over(transport);
    const got = await both.client.count(5_000);
    expect(got.status.code).toBe(status.OK);
    expect(got.messages).toEqual(Array.from({ length: 5_000 }, (_, i) => String(i)));
  });

  test("client streaming", async () => {
    await using both = await over(transport);
    const got = await both.client.collect(Array.from({ length: 2_000 }, () => Buffer.alloc(1_000)));
    expect([got.status.code, got.messages]).toEqual([status.OK, ["2000 messages, 2000000 bytes"]]);
  });

  test("bidirectional streaming: each message is answered before the next is sent", async () => {
    await using both = await over(transport);
    const call = both.client.chat();
    const whole = readAll(call);
    const got: string[] = [];
    call.on("data", (message: Buffer) => got.push(message.toString()));
    for (let i = 0; i < 20; i += 1) {
      call.write(Buffer.from(String(i)));
      await pollUntil(() => got.length === i + 1, { what: `the answer to ${i}` });
    }
    call.end();
    expect((await whole).status.code).toBe(status.OK);
    expect(got).toEqual(Array.from({ length: 20 }, (_, i) => `re: ${i}`));
  });

  test.each(["fail", "failLate"] as const)("an error status with its details: %s", async (kind) => {
    await using both = await over(transport);
    const got = await both.client[kind]();
    expect([got.status.code, got.status.details]).toEqual([status.NOT_FOUND, "no such thing: ä"]);
    expect(got.status.metadata.get("x-reason")).toEqual(["gone"]);
    expect(got.status.metadata.get("grpc-status-details-bin")).toEqual([Buffer.from("details \0\xff", "latin1")]);
    expect(got.messages).toEqual(kind === "fail" ? [] : ["so far"]);
  });

  test("a method that the server does not have", async () => {
    await using both = await over(transport);
    expect((await both.client.unknown()).status.code).toBe(status.UNIMPLEMENTED);
  });

  test("a deadline reaches the server, and ends the call there", async () => {
    await using both = await over(transport);
    const call = both.client.hang({ deadline: Date.now() + 1_500 });
    const hanging = await pollUntil(() => [...both.server.hanging][0], { what: "the call at the server" });
    expect(hanging.leftMs).toBeGreaterThan(0);
    expect(hanging.leftMs).toBeLessThanOrEqual(1_500);
    expect((await call).status.code).toBe(status.DEADLINE_EXCEEDED);
    await pollUntil(() => both.server.cancelled.count === 1, { what: "the end at the server" });
  });

  test("a call that is cancelled ends at the server", async () => {
    await using both = await over(transport);
    const abort = new AbortController();
    const call = both.client.hang({}, abort.signal);
    await pollUntil(() => both.server.hanging.size === 1, { what: "the call at the server" });
    abort.abort();
    expect((await call).status.code).toBe(status.CANCELLED);
    await pollUntil(() => both.server.cancelled.count === 1, { what: "the end at the server" });
  });

  test("a thousand calls at once", async () => {
    await using both = await over(transport);
    const got = await Promise.all(Array.from({ length: 1_000 }, (_, i) => both.client.unary(Buffer.from(`call ${i}`))));
    expect(got.filter((each, i) => each.status.code !== status.OK || each.messages[0] !== `call ${i}`)).toEqual([]);
  });
});
