import { describe, expect, test } from "bun:test";
import { LiveLog, type LogReader, MAX_WAITING_LINES } from "../../../src/connector/management/live-log.ts";
import { IDLE_MS, PING_EVERY_MS, SILENCE_MS, serveLogSession } from "../../../src/connector/management/log-session.ts";
import { createLogger, type Logger, silentLogger } from "../../../src/core/log.ts";
import { createMemoryChannelPair } from "../../../src/net/memory-channel.ts";
import { TextSocket } from "../../../src/net/text-socket.ts";
import { formatStart, type LiveLogLine, NO_FILTERS, parseLogs } from "../../../src/wire/management-events.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

/** A logger that writes nothing below error, and what is read of it live. */
function startLog(random = 0): { readonly live: LiveLog; readonly log: Logger; readonly written: string[] } {
  const live = new LiveLog({ random: () => random });
  const written: string[] = [];
  const write = (line: string): void => void written.push(line);
  const log = createLogger({ level: "error", format: "default", wallMs: () => 0, write, tap: live });
  return { live, log, written };
}

class TestReader implements LogReader {
  readonly actor: string;
  readonly lines: LiveLogLine[] = [];
  hasRoom = true;
  takenOver = false;

  constructor(actor = "ann") {
    this.actor = actor;
  }

  send(lines: readonly LiveLogLine[]): boolean {
    this.lines.push(...lines);
    return this.hasRoom;
  }

  onTakenOver(): void {
    this.takenOver = true;
  }

  get messages(): string[] {
    return this.lines.map(({ message }) => message);
  }
}

describe("LiveLog", () => {
  test("takes lines below the level that is written, and none while nobody reads", () => {
    const { live, log, written } = startLog();
    log.debug("before");
    expect(log.enabled("debug")).toBe(false);
    const reader = new TestReader();
    const follower = live.follow(reader, NO_FILTERS);
    expect(log.enabled("debug")).toBe(true);
    log.with({ connIndex: 2 }).debug("during", { event: 1, error: "gone" });
    follower?.stop();
    log.debug("after");
    expect(written).toEqual([]);
    expect(reader.lines).toEqual([
      {
        ...{ time: "1970-01-01T00:00:00Z", level: "debug", event: "http", message: "during" },
        fields: { connIndex: 2, error: "gone" },
      },
    ]);
  });

  test("a full reader gets the oldest lines that wait, and how many are missing", () => {
    const { live, log } = startLog();
    const reader = new TestReader();
    reader.hasRoom = false;
    const follower = live.follow(reader, NO_FILTERS);
    for (let i = 0; i < MAX_WAITING_LINES + 8; i += 1) log.info(`line ${i}`);
    expect(reader.messages).toEqual(["line 0"]);
    reader.hasRoom = true;
    follower?.resume();
    expect(reader.messages.slice(1, -1)).toEqual(Array.from({ length: MAX_WAITING_LINES }, (_, i) => `line ${i + 1}`));
    expect(reader.lines.at(-1)).toMatchObject({ level: "warn", fields: { dropped: 7 } });
    log.info("on");
    expect(reader.messages.at(-1)).toBe("on");
  });

  test.each([
    [0.29, 1],
    [0.31, 0],
  ])("with 30 %% asked for a draw of %p sends %p", (draw, sent) => {
    const { live, log } = startLog(draw);
    const reader = new TestReader();
    live.follow(reader, { ...NO_FILTERS, sampling: 0.3 });
    log.info("line");
    expect(reader.lines).toHaveLength(sent);
  });

  test("one actor at a time, whose newest reader has it", () => {
    const { live, log } = startLog();
    const [first, second, other] = [new TestReader(), new TestReader(), new TestReader("bob")];
    const before = live.follow(first, NO_FILTERS);
    expect(live.follow(other, NO_FILTERS)).toBeUndefined();
    const now = live.follow(second, NO_FILTERS);
    expect([first.takenOver, second.takenOver, other.takenOver]).toEqual([true, false, false]);
    before?.stop();
    log.info("line");
    expect([first.messages, second.messages]).toEqual([[], ["line"]]);
    now?.stop();
    expect(live.follow(other, NO_FILTERS)).toBeDefined();
  });

  test("what is logged while a line is sent is not sent", () => {
    const { live, log } = startLog();
    const reader = new TestReader();
    const send = reader.send.bind(reader);
    reader.send = (lines) => {
      log.info("sending");
      return send(lines);
    };
    live.follow(reader, NO_FILTERS);
    log.info("line");
    expect(reader.messages).toEqual(["line"]);
  });
});

describe("a session", () => {
  function startSession() {
    const clock = new VirtualClock();
    const { live, log } = startLog();
    const [outside, inside] = createMemoryChannelPair();
    let over = false;
    const onEnd = (): void => {
      over = true;
    };
    serveLogSession(inside, { actor: "ann", onEnd }, { live, clock, log: silentLogger });
    const seen: { closed?: number; readonly messages: string[] } = { messages: [] };
    const client = new TextSocket(
      outside,
      {
        onMessage: (text) => void seen.messages.push(...(parseLogs(text ?? "") ?? []).map(({ message }) => message)),
        onDrain: () => {},
        onClose: (code) => {
          seen.closed = code;
        },
      },
      { role: "client", maxMessageBytes: 64 * 1024, clock },
    );
    return { clock, log, client, outside, seen, isOver: () => over };
  }

  test("ends after five minutes without following, and not while it follows", async () => {
    const { clock, client, log, seen, isOver } = startSession();
    client.send(formatStart(NO_FILTERS));
    await clock.advance(2 * IDLE_MS);
    log.info("line");
    client.send('{"type":"stop_streaming"}');
    await clock.advance(IDLE_MS - 1);
    expect(seen).toEqual({ messages: ["line"] });
    await clock.advance(2);
    expect([seen.closed, isOver()]).toEqual([4003, true]);
  });

  test("a client that answers nothing any more gives its place up", async () => {
    const { clock, outside, client, isOver } = startSession();
    client.send(formatStart(NO_FILTERS));
    await clock.advance(PING_EVERY_MS);
    outside.pause();
    await clock.advance(SILENCE_MS + 2 * PING_EVERY_MS);
    expect(isOver()).toBe(true);
  });

  test("a line that is too long for one message is cut", async () => {
    const { clock, client, log, seen } = startSession();
    client.send(formatStart(NO_FILTERS));
    await clock.advance(1);
    log.info("x".repeat(100_000));
    log.info("short", { huge: "y".repeat(100_000) });
    await clock.advance(1);
    expect(seen.messages.map((message) => message.length)).toEqual([4_097, 5]);
  });
});
