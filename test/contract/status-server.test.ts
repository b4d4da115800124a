import { expect, test } from "bun:test";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import {
  type StatusBounds,
  type StatusPages,
  startStatusServer,
  startStatusSocket,
} from "../../src/ops/status-server.ts";
import { pollUntil } from "../support/poll-until.ts";
import { makeTempDir } from "../support/temp-dir.ts";

const REQUEST_MS = 1_000;
/** A busy machine is late. Longer than this, nothing is bounded: a runtime's own check comes every 30 s. */
const LATE_MS = 8_000;

/** `/slow` takes longer than a request may take to arrive. */
const pages: StatusPages = async (path) => {
  if (path === "/slow") await new Promise((resolve) => setTimeout(resolve, 2.5 * REQUEST_MS));
  return { type: "text/plain", body: path };
};

interface Visitor {
  readonly socket: Socket;
  got: string;
  closedMs: number | undefined;
}

interface World extends AsyncDisposable {
  visit(first?: string): Promise<Visitor>;
}

async function startWorld(kind: "tcp" | "unix", limits: Omit<StatusBounds, "requestMs">): Promise<World> {
  await using stack = new AsyncDisposableStack();
  const bounds = { ...limits, requestMs: REQUEST_MS };
  const path = join(stack.use(makeTempDir()).path, "socket");
  const server = await (kind === "unix"
    ? startStatusSocket(pages, path, bounds)
    : startStatusServer(pages, "127.0.0.1", 0, bounds));
  stack.defer(() => server.close());
  const owned = stack.move();
  return {
    visit: async (first = "") => {
      const to = kind === "unix" ? { path } : { host: "127.0.0.1", port: Number(server.address.split(":")[1]) };
      const socket = connect(to);
      owned.defer(() => void socket.destroy());
      const visitor: Visitor = { socket, got: "", closedMs: undefined };
      socket.on("error", () => {});
      socket.on("data", (chunk: Buffer) => {
        visitor.got += chunk.toString("latin1");
      });
      await once(socket, "connect");
      const startedAt = performance.now();
      socket.on("close", () => {
        visitor.closedMs = performance.now() - startedAt;
      });
      if (first !== "") socket.write(first);
      return visitor;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

const get = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`;
const ended = (visitor: Visitor): Promise<number> =>
  pollUntil(() => visitor.closedMs, { what: "the end of a connection", deadlineMs: LATE_MS });

test.each(["tcp", "unix"] as const)(
  "connections that ask for nothing are closed, a page that takes its time is not: %s",
  async (kind) => {
    await using world = await startWorld(kind, { total: 100, perAddress: 100 });
    const slow = await world.visit(get("/slow"));
    const silent = await Promise.all(Array.from({ length: 30 }, () => world.visit()));
    const half = await world.visit("GET / HTTP/1.1\r\nHo");
    for (const visitor of [...silent, half]) expect(await ended(visitor)).toBeGreaterThan(REQUEST_MS * 0.9);
    await pollUntil(() => slow.got.includes("/slow"), { what: "the slow page" });
    expect(slow.got).toStartWith("HTTP/1.1 200");
  },
  20_000,
);

test.each(["tcp", "unix"] as const)(
  "connections beyond the bounds are closed at once, and make room: %s",
  async (kind) => {
    await using world = await startWorld(kind, { total: 10, perAddress: 3 });
    const answered = (visitor: Visitor): boolean => visitor.got.startsWith("HTTP/1.1 200");
    const first: Visitor[] = [];
    // They ask: silent ones are handed over later where the kernel waits for their bytes (TCP_DEFER_ACCEPT).
    for (let i = 0; i < 3; i += 1) {
      const visitor = await world.visit(get("/"));
      await pollUntil(() => answered(visitor), { what: "an answer" });
      first.push(visitor);
    }
    const more = await world.visit(get("/"));
    await ended(more);
    expect(more.got).toBe("");
    first[0]?.socket.destroy();
    await pollUntil(
      async () => {
        const visitor = await world.visit(get("/"));
        return await pollUntil(() => answered(visitor) || visitor.closedMs !== undefined, {
          what: "an answer or an end",
        }).then(() => answered(visitor));
      },
      { what: "room" },
    );
  },
  20_000,
);
