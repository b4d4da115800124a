import { describe, expect, test } from "bun:test";
import { connect, type Socket } from "node:net";
import { parseAppAddress } from "../../../src/access/address.ts";
import type { DialSettings } from "../../../src/access/dialler.ts";
import { type Forward, type ForwardOptions, startForward } from "../../../src/access/forward.ts";
import { openStream, type StreamOptions } from "../../../src/access/stream.ts";
import { systemClock, systemRandom } from "../../../src/core/clock.ts";
import { TunnelError } from "../../../src/core/errors.ts";
import { createLogger } from "../../../src/core/log.ts";
import { makeTestCertificate } from "../../support/certificate.ts";
import { startEchoSocket } from "../../support/echo-socket.ts";
import { leakCheck } from "../../support/leak-check.ts";
import { pollUntil } from "../../support/poll-until.ts";
import { startTcpOrigin } from "../../support/tcp-origin.ts";

const NEVER = new AbortController().signal;

function streamTo(
  hostname: string,
  differs: Partial<StreamOptions> = {},
  dialling: Partial<DialSettings> = {},
): StreamOptions {
  const app = parseAppAddress(hostname);
  if (!app.ok) throw new Error(`not an address: ${hostname}`);
  return {
    app: app.value,
    headers: [],
    destination: undefined,
    serviceToken: undefined,
    dialling: { ca: undefined, connectTo: undefined, proxyFor: () => undefined, ...dialling },
    login: undefined,
    ...differs,
  };
}

async function forwardTo(
  stream: StreamOptions,
  options: Partial<ForwardOptions> = {},
): Promise<Forward & AsyncDisposable & { readonly lines: string[] }> {
  const lines: string[] = [];
  const write = (line: string): void => void lines.push(line);
  const log = createLogger({ level: "debug", format: "default", wallMs: systemClock.wallMs, write });
  const forward = await startForward(
    { listen: { host: "127.0.0.1", port: 0 }, stream, ...options },
    { clock: systemClock, random: systemRandom, log },
  );
  return { ...forward, lines, [Symbol.asyncDispose]: () => forward.close() };
}

/** A program on this machine: what it received, and how its connection ended. */
function program(
  port: number,
): { socket: Socket; received: () => string; ended: () => string | undefined } & Disposable {
  const socket = connect({ host: "127.0.0.1", port, allowHalfOpen: true });
  let received = "";
  let ended: string | undefined;
  socket.on("data", (chunk) => {
    received += chunk.toString("latin1");
  });
  socket.on("end", () => {
    ended ??= "end";
  });
  socket.on("error", () => {
    ended ??= "reset";
  });
  socket.on("close", () => {
    ended ??= "close";
  });
  return { socket, received: () => received, ended: () => ended, [Symbol.dispose]: () => void socket.destroy() };
}

describe("a forward", () => {
  test("opens a stream of its own for each connection, with everything it has to carry", async () => {
    await using _leaks = leakCheck();
    await using server = startEchoSocket();
    await using forward = await forwardTo(
      streamTo(
        `http://app.example:${server.port}/way?in`,
        {
          headers: ["X-Team", "blue"],
          destination: "10.0.0.5:22",
          serviceToken: { id: "the-id", secret: "the-secret" },
        },
        { connectTo: { host: "127.0.0.1", port: undefined, serverName: undefined } },
      ),
    );
    using one = program(forward.port);
    using two = program(forward.port);
    one.socket.write("first");
    two.socket.write("second");
    await pollUntil(() => one.received() === "first" && two.received() === "second", { what: "both echoes" });
    expect(server.seen.length).toBe(2);
    const { path, headers } = server.seen[0]!;
    expect(path).toBe("/way?in");
    expect(headers.get("host")).toBe(`app.example:${server.port}`);
    expect(headers.get("user-agent")).toMatch(/^culvert\/\d/);
    expect(headers.get("x-team")).toBe("blue");
    expect(headers.get("cf-access-jump-destination")).toBe("10.0.0.5:22");
    expect(headers.get("cf-access-client-id")).toBe("the-id");
    expect(headers.get("cf-access-client-secret")).toBe("the-secret");
    expect(headers.get("sec-websocket-extensions")).toBeNull();
    expect(forward.lines.join("\n")).not.toContain("the-secret");
  });

  test("waits for an edge that is not there yet, and loses nothing of what was sent meanwhile", async () => {
    const gone = startEchoSocket();
    const { port } = gone;
    await gone[Symbol.asyncDispose]();
    await using forward = await forwardTo(streamTo(`http://127.0.0.1:${port}`));
    using client = program(forward.port);
    client.socket.write("early bytes");
    await pollUntil(() => forward.lines.some((line) => line.includes("trying again")), { what: "a second try" });
    await using _server = startEchoSocket({ port });
    await pollUntil(() => client.received() === "early bytes", { what: "the echo", deadlineMs: 15_000 });
  });

  test("a connector that is away is waited for; a service that is refused is not", async () => {
    await using server = startEchoSocket();
    await using forward = await forwardTo(streamTo(`http://127.0.0.1:${server.port}`));
    server.refuse = { status: 530 };
    using patient = program(forward.port);
    patient.socket.write("here");
    await pollUntil(() => server.seen.length > 1, { what: "a second try", deadlineMs: 10_000 });
    server.refuse = undefined;
    await pollUntil(() => patient.received() === "here", { what: "the echo", deadlineMs: 15_000 });
    server.refuse = { status: 502 };
    using refused = program(forward.port);
    await pollUntil(() => refused.ended() !== undefined, { what: "the refusal" });
    expect(forward.lines.findLast((line) => line.includes("ERR"))).toContain("answered 502: the tunnel is up, but");
  });

  test("a program that leaves while its stream is being opened takes the attempts with it", async () => {
    await using _leaks = leakCheck();
    await using server = startEchoSocket();
    server.refuse = { status: 503 };
    await using forward = await forwardTo(streamTo(`http://127.0.0.1:${server.port}`));
    const client = program(forward.port);
    await pollUntil(() => server.seen.length > 0, { what: "the first try" });
    client.socket.resetAndDestroy();
    const closed = performance.now();
    await forward.close();
    expect(performance.now() - closed).toBeLessThan(500);
  });

  test("more programs than it may have are closed at once", async () => {
    await using server = startEchoSocket();
    await using forward = await forwardTo(streamTo(`http://127.0.0.1:${server.port}`), { maxConnections: 2 });
    using one = program(forward.port);
    using two = program(forward.port);
    one.socket.write("1");
    two.socket.write("2");
    await pollUntil(() => one.received() === "1" && two.received() === "2", { what: "both echoes" });
    using three = program(forward.port);
    await pollUntil(() => three.ended() !== undefined, { what: "the third is closed" });
    expect(forward.lines.some((line) => line.includes("Too many connections"))).toBe(true);
    one.socket.destroy();
    await pollUntil(
      async () => {
        using again = program(forward.port);
        again.socket.write("4");
        return await pollUntil(() => again.received() === "4", { what: "an echo", deadlineMs: 200 });
      },
      { what: "room for another" },
    );
  });

  test("told to stop, it ends streams within a little more than a second", async () => {
    await using _leaks = leakCheck();
    // It takes the handshake and then says nothing any more, not even that it closes.
    await using origin = await startTcpOrigin((socket) => {
      socket.once("data", (head) => {
        const key = /sec-websocket-key: (\S+)/i.exec(head.toString())?.[1] ?? "";
        const accept = new Bun.CryptoHasher("sha1")
          .update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
          .digest("base64");
        socket.write(
          `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
        );
      });
    });
    const forward = await forwardTo(streamTo(`http://127.0.0.1:${origin.port}`));
    using client = program(forward.port);
    await pollUntil(() => forward.lines.some((line) => line.includes("Stream opened")), { what: "the stream" });
    const began = performance.now();
    await forward.close();
    expect(performance.now() - began).toBeLessThan(1_500);
    await pollUntil(() => client.ended() !== undefined, { what: "the program is told" });
  });

  test("a peer that just ends the connection has ended both directions", async () => {
    await using server = startEchoSocket();
    await using forward = await forwardTo(streamTo(`http://127.0.0.1:${server.port}`));
    using client = program(forward.port);
    client.socket.write("x");
    await pollUntil(() => client.received() === "x", { what: "the echo" });
    await server[Symbol.asyncDispose]();
    await pollUntil(() => client.ended() !== undefined, { what: "the end" });
    client.socket.write("is anybody there?");
    await pollUntil(() => client.socket.destroyed || client.ended() === "reset", { what: "the reset" });
  });
});

describe("opening a stream", () => {
  const failure = async (options: StreamOptions): Promise<TunnelError> => {
    const thrown = await openStream(options, { clock: systemClock }, NEVER).then(
      () => undefined,
      (error: unknown) => error,
    );
    if (!(thrown instanceof TunnelError)) throw new Error("It was opened", { cause: thrown });
    return thrown;
  };

  test("over TLS: the authority named is trusted, others are not, and names count", async () => {
    const certificate = await makeTestCertificate(["app.example"]);
    await using server = startEchoSocket({ tls: certificate });
    const connectTo = { host: "127.0.0.1", port: server.port, serverName: undefined };
    const opened = await openStream(
      streamTo("app.example", {}, { ca: certificate.cert, connectTo }),
      { clock: systemClock },
      NEVER,
    );
    opened.abort(new TunnelError("aborted", "done"));
    const trust = await failure(streamTo("app.example", {}, { connectTo }));
    expect(trust.code).toBe("dial.tls");
    const name = await failure(streamTo("other.example", {}, { ca: certificate.cert, connectTo }));
    expect(name.code).toBe("dial.tls");
    const unverified = await openStream(
      streamTo("other.example", {}, { connectTo: { ...connectTo, serverName: "app.example" } }),
      { clock: systemClock },
      NEVER,
    );
    unverified.abort(new TunnelError("aborted", "done"));
    expect(server.seen.at(-1)?.headers.get("host")).toBe("other.example");
  });

  test("a login that nobody can do is an error that says so", async () => {
    await using server = startEchoSocket();
    server.refuse = { status: 302, headers: { Location: "https://team.cloudflareaccess.com/cdn-cgi/access/login/x" } };
    const error = await failure(streamTo(`http://127.0.0.1:${server.port}`));
    expect(error.message).toContain("wants a login");
    expect(error.message).toContain("culvert access login http://127.0.0.1:");
  });

  test.each([
    ["no HTTP", "SSH-2.0-OpenSSH_9.9\r\n", /sent what is not HTTP/],
    ["an end", "", /closed the connection|cut the connection/],
    [
      "the wrong accept",
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: eA==\r\n\r\n",
      /Sec-WebSocket-Accept is wrong/,
    ],
  ])("answered with %s", async (_what, answer, expected) => {
    await using origin = await startTcpOrigin((socket) => {
      socket.once("data", () => socket.end(answer));
    });
    const error = await failure(streamTo(`http://127.0.0.1:${origin.port}`));
    expect(error.message).toMatch(expected);
  });

  test("an aborted attempt says so, and leaves nothing open", async () => {
    await using _leaks = leakCheck();
    await using origin = await startTcpOrigin(() => {});
    const stop = new AbortController();
    const opening = openStream(streamTo(`http://127.0.0.1:${origin.port}`), { clock: systemClock }, stop.signal);
    await pollUntil(() => origin.sockets.size === 1, { what: "the attempt" });
    stop.abort();
    await expect(opening).rejects.toMatchObject({ code: "aborted" });
  });
});
