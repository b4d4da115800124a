import { describe, expect, test } from "bun:test";
import { createLogger } from "../../../src/core/log.ts";
import { createNotifier, readStatus } from "../../../src/service/notify.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

async function start(env: Record<string, string> = {}, takes = true) {
  const clock = new VirtualClock();
  const sent: string[] = [];
  const logged: string[] = [];
  const log = createLogger({
    level: "info",
    format: "default",
    wallMs: () => clock.wallMs(),
    write: (line) => {
      logged.push(line);
    },
  });
  const notifier = await createNotifier(
    { NOTIFY_SOCKET: "/run/systemd/notify", ...env },
    { clock, log, monotonicUs: () => 5n },
    (path) => {
      sent.push(path);
      return Promise.resolve({
        send: (text) => {
          sent.push(text);
          return takes;
        },
        close: () => {
          sent.push("closed");
        },
      });
    },
  );
  return { clock, notifier, logged, take: () => sent.splice(0) };
}

describe("what systemd is told", () => {
  test("ready at the first connection, then how many there are", async () => {
    const { notifier, take } = await start();
    expect(take()).toEqual(["/run/systemd/notify", "STATUS=Connecting"]);
    notifier.connections(1);
    notifier.connections(2);
    notifier.connections(0);
    expect(take()).toEqual([
      "READY=1\nSTATUS=Connected: 1 connection",
      "STATUS=Connected: 2 connections",
      "STATUS=Connecting",
    ]);
  });

  test("ready after 10 s without one, so that a boot goes on", async () => {
    const { clock, notifier, take } = await start();
    take();
    await clock.advance(9_999);
    expect(take()).toEqual([]);
    await clock.advance(1);
    expect(take()).toEqual(["READY=1\nSTATUS=Connecting"]);
    notifier.connections(1);
    expect(take()).toEqual(["STATUS=Connected: 1 connection"]);
  });

  test("a reload from its begin to its end, and none before it is ready or when it stops", async () => {
    const { notifier, take } = await start();
    notifier.reloading()();
    take();
    notifier.ready("Serving");
    const done = notifier.reloading();
    done();
    notifier.reloading();
    notifier.stopping();
    done();
    notifier.connections(0);
    notifier.close();
    expect(take()).toEqual([
      "READY=1\nSTATUS=Serving",
      "RELOADING=1\nMONOTONIC_USEC=5",
      "READY=1",
      "RELOADING=1\nMONOTONIC_USEC=5",
      "STOPPING=1\nSTATUS=Stopping",
      "closed",
    ]);
  });

  test("a sign of life twice in each interval of the watchdog, until it is closed", async () => {
    const { clock, notifier, take } = await start({ WATCHDOG_USEC: "4000000", WATCHDOG_PID: `${process.pid}` });
    await clock.advance(5_000);
    expect(take().filter((text) => text === "WATCHDOG=1")).toHaveLength(3);
    notifier.close();
    await clock.advance(60_000);
    expect(take()).toEqual(["closed"]);
  });

  test("no sign of life that is asked of another process", async () => {
    const { clock, take } = await start({ WATCHDOG_USEC: "4000000", WATCHDOG_PID: "1" });
    await clock.advance(5_000);
    expect(take()).not.toContain("WATCHDOG=1");
  });

  test("messages that are not taken are one warning", async () => {
    const { notifier, logged } = await start({}, false);
    notifier.connections(1);
    notifier.connections(2);
    expect(logged).toHaveLength(1);
    expect(logged[0]).toContain("The service manager does not take what this service tells it");
  });

  test("nothing where nobody listens, and a warning where one cannot be reached", async () => {
    const log = createLogger({ level: "info", format: "default", wallMs: () => 0, write: (line) => lines.push(line) });
    const lines: string[] = [];
    const deps = { clock: new VirtualClock(), log, monotonicUs: () => 0n };
    const fail = () => Promise.reject(new Error("no such socket"));
    (await createNotifier({}, deps, fail)).connections(1);
    expect(lines).toEqual([]);
    (await createNotifier({ NOTIFY_SOCKET: "/x" }, deps, fail)).connections(1);
    expect(lines).toHaveLength(1);
  });
});

test.each([
  ["Connecting", 0],
  ["Connected: 1 connection", 1],
  ["Connected: 12 connections", 12],
  ["Visitors on 127.0.0.1:80, connectors on 127.0.0.1:7844", undefined],
  ["", undefined],
])("the status %j says %p", (status, connections) => {
  expect(readStatus(status)).toBe(connections as never);
});
