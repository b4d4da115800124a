import { describe, expect, test } from "bun:test";
import { AckDelay } from "../../../../src/transport/quic/engines/ack-delay.ts";
import { VirtualClock } from "../../../support/virtual-clock.ts";

function setUp() {
  const clock = new VirtualClock();
  const sentAtMs: number[] = [];
  const acks = new AckDelay(clock, () => {
    sentAtMs.push(clock.nowMs());
    acks.sent();
  });
  return { clock, acks, sentAtMs };
}

describe("acknowledgements", () => {
  test("a small packet waits for something to travel with, for 5 ms at most", async () => {
    const { clock, acks, sentAtMs } = setUp();
    acks.received(200);
    expect(acks.mayWait(0)).toBe(true);
    await clock.advance(4);
    acks.received(200);
    expect(acks.mayWait(0)).toBe(true);
    expect(sentAtMs).toEqual([]);
    await clock.advance(20);
    expect(sentAtMs).toEqual([5]);
  });

  test("what went out with an answer is not sent again", async () => {
    const { clock, acks, sentAtMs } = setUp();
    acks.received(200);
    expect(acks.mayWait(0)).toBe(true);
    acks.sent();
    await clock.advance(20);
    expect(sentAtMs).toEqual([]);
  });

  test("two full packets are acknowledged at once", () => {
    const { acks } = setUp();
    acks.received(1350);
    expect(acks.mayWait(0)).toBe(true);
    acks.received(1350);
    expect(acks.mayWait(0)).toBe(false);
  });

  test("what may be an acknowledgement never waits: it may let held-back bytes go", () => {
    const { acks } = setUp();
    acks.received(200);
    acks.received(45);
    expect(acks.mayWait(0)).toBe(false);
    acks.sent();
    acks.received(200);
    expect(acks.mayWait(0)).toBe(true);
  });

  test("nothing waits for a second after a loss", async () => {
    const { clock, acks } = setUp();
    acks.received(200);
    expect(acks.mayWait(1)).toBe(false);
    await clock.advance(999);
    expect(acks.mayWait(1)).toBe(false);
    await clock.advance(1);
    expect(acks.mayWait(1)).toBe(true);
  });

  test("a stopped one sends nothing", async () => {
    const { clock, acks, sentAtMs } = setUp();
    acks.received(200);
    acks.mayWait(0);
    acks.stop();
    await clock.advance(20);
    expect(sentAtMs).toEqual([]);
  });
});
