import { expect, test } from "bun:test";
import { systemClock } from "../../../src/core/clock.ts";
import { TunnelError } from "../../../src/core/errors.ts";
import { silentLogger } from "../../../src/core/log.ts";
import { createMemoryChannelPair } from "../../../src/net/memory-channel.ts";
import type { Connection } from "../../../src/net/sockets.ts";
import type { PrivateNetwork } from "../../../src/origin/tcp/private-network.ts";
import { createFlows } from "../../../src/proxy/flows.ts";
import { createMemorySessionPair } from "../../../src/transport/memory.ts";
import { openFlow } from "../../support/flows.ts";
import { pollUntil } from "../../support/poll-until.ts";

function serve(connect: PrivateNetwork["connect"], maxActiveFlows = 0) {
  const { edge, connector } = createMemorySessionPair();
  const counts = { started: 0, ended: 0 };
  const flow = createFlows({
    network: () => ({ maxActiveFlows, open: true, connect }),
    maxActiveFlows: undefined,
    clock: systemClock,
    log: silentLogger,
    observer: {
      flowStarted: () => {
        counts.started += 1;
      },
      flowEnded: () => {
        counts.ended += 1;
      },
      flowConnected: () => {},
      flowFailed: () => {},
      flowRefused: () => {},
      streamOverBudget: () => {},
      bytes: { tcp: { toOrigin: 0, toVisitor: 0 } },
    },
  });
  connector.serve(flow);
  return { edge, counts };
}

test("an edge that leaves while its address is dialled ends the dial", async () => {
  let dialled: AbortSignal | undefined;
  const { edge, counts } = serve((_to, signal) => {
    dialled = signal;
    return new Promise<Connection>((_resolve, reject) => {
      signal.addEventListener("abort", () => reject(new TunnelError("aborted", "Given up")));
    });
  });
  const answers: number[] = [];
  const channel = edge.open(
    { kind: "tcp", method: "", authority: "10.0.0.1:22", path: "", headers: [], bodyless: false },
    {
      onInformational: () => {},
      onResponse: ({ status }) => void answers.push(status),
      onData: () => {},
      onEnd: () => {},
      onDrain: () => {},
      onClose: () => {},
    },
  );
  await pollUntil(() => dialled, { what: "the dial" });
  channel.abort(new TunnelError("aborted", "The edge leaves"));
  await pollUntil(() => counts.ended === 1, { what: "the end" });
  expect(dialled?.aborted).toBe(true);
  expect(answers).toEqual([]);
});

test("a connection that comes too late is cut", async () => {
  const late = Promise.withResolvers<Connection>();
  const [ours, theirs] = createMemoryChannelPair();
  let cut = false;
  theirs.listen({
    onData: () => {},
    onEnd: () => {},
    onDrain: () => {},
    onClose: (error) => {
      cut = error !== undefined;
    },
  });
  let asked = false;
  const { edge, counts } = serve(() => {
    asked = true;
    return late.promise;
  });
  const opening = openFlow(edge, "10.0.0.1:22").catch((error: unknown) => error);
  await pollUntil(() => asked, { what: "the dial" });
  edge.close();
  expect(await opening).toBeInstanceOf(Error);
  late.resolve({ channel: ours } as Connection);
  await pollUntil(() => cut && counts.ended === 1, { what: "the cut" });
});

test("bytes that come before the connection are given to it, and the end behind them", async () => {
  const dialled = Promise.withResolvers<Connection>();
  const [ours, theirs] = createMemoryChannelPair();
  let heard = "";
  let ended = false;
  theirs.listen({
    onData: (chunk) => {
      heard += new TextDecoder().decode(chunk);
    },
    onEnd: () => {
      ended = true;
      theirs.end();
    },
    onDrain: () => {},
    onClose: () => {},
  });
  const { edge, counts } = serve(() => dialled.promise);
  let status = 0;
  const channel = edge.open(
    { kind: "tcp", method: "", authority: "10.0.0.1:22", path: "", headers: [], bodyless: false },
    {
      onInformational: () => {},
      onResponse: (response) => {
        status = response.status;
      },
      onData: () => {},
      onEnd: () => {},
      onDrain: () => {},
      onClose: () => {},
    },
  );
  channel.write(new TextEncoder().encode("early"));
  channel.end();
  await pollUntil(() => counts.started === 1, { what: "the flow" });
  expect([status, heard]).toEqual([0, ""]);
  dialled.resolve({ channel: ours } as Connection);
  await pollUntil(() => ended && counts.ended === 1, { what: "the end" });
  expect([status, heard]).toEqual([200, "early"]);
});

test("one refused flow makes room for the next", async () => {
  const { edge, counts } = serve(() => Promise.reject(new TunnelError("origin.dial", "Nobody is there")), 1);
  for (let round = 1; round <= 3; round += 1) {
    const { response, stream } = await openFlow(edge, "10.0.0.1:22");
    expect(response).toMatchObject({ status: 502, source: "cloudflared", flowRateLimited: false });
    stream.channel.end();
    await pollUntil(() => counts.ended === round, { what: "the end" });
  }
});
