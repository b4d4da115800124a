import { describe, expect, test } from "bun:test";
import { TunnelError } from "../../../../src/core/errors.ts";
import type { BalanceSettings } from "../../../../src/ingress/service.ts";
import { createMemoryChannelPair } from "../../../../src/net/memory-channel.ts";
import { MAX_EJECT_MS } from "../../../../src/origin/balanced/backend.ts";
import { MAX_KEPT_BYTES } from "../../../../src/origin/balanced/exchange.ts";
import { createBalancedService } from "../../../../src/origin/balanced/service.ts";
import type { OriginEvents, OriginExchange, OriginRequest, OriginService } from "../../../../src/origin/port.ts";
import { VirtualClock } from "../../../support/virtual-clock.ts";
import { bytesOf } from "../../wire/h1/recorder.ts";
import { GET, post, Recorder, turn } from "../http/scripted.ts";

const BALANCE: BalanceSettings = { healthCheck: undefined, stickyCookie: "", ejectAfter: 3, ejectFor: 10_000 };
const HEALTH = { path: "/up", interval: 5_000, timeout: 1_000, healthyAfter: 2, unhealthyAfter: 3 };

interface Asked {
  readonly request: OriginRequest;
  readonly events: OriginEvents;
  body: string;
  ended: boolean;
  aborted: boolean;
}

/** A service whose every answer the test gives. */
class Part implements OriginService {
  readonly label: string;
  readonly asked: Asked[] = [];

  constructor(label: string) {
    this.label = label;
  }

  get last(): Asked {
    const last = this.asked.at(-1);
    if (last === undefined) throw new Error(`${this.label} was not asked`);
    return last;
  }

  exchange(request: OriginRequest, events: OriginEvents): OriginExchange {
    const asked: Asked = { request, events, body: "", ended: false, aborted: false };
    this.asked.push(asked);
    return {
      write: (chunk) => {
        asked.body += new TextDecoder().decode(chunk);
        return true;
      },
      end: () => {
        asked.ended = true;
      },
      pause: () => {},
      resume: () => {},
      abort: () => {
        asked.aborted = true;
      },
    };
  }

  answer(status = 200): void {
    this.last.events.onResponse(status, ["X", this.label], true);
    this.last.events.onEnd([]);
  }

  fail(code: TunnelError["code"] = "origin.dial"): void {
    const elsewhere = code === "origin.dial" || code === "origin.busy";
    this.last.events.onError(
      new TunnelError(code, `${this.label} ${code}`, { retry: elsewhere ? "elsewhere" : "never" }),
    );
  }

  start = () => Promise.resolve();
  close = () => Promise.resolve();
}

function balanced(weights: readonly number[], balance: Partial<BalanceSettings> = {}) {
  const clock = new VirtualClock();
  const parts = weights.map((_, i) => new Part(`http://b${i}`));
  const service = createBalancedService(
    "all",
    parts.map((part, i) => ({ service: part, weight: weights[i] ?? 1, host: `b${i}` })),
    { ...BALANCE, ...balance },
    { clock },
  );
  const ask = (request: OriginRequest = GET) => {
    const events = new Recorder();
    const before = parts.map(({ asked }) => asked.length);
    const exchange = service.exchange(request, events);
    const index = parts.findIndex(({ asked }, i) => asked.length > (before[i] ?? 0));
    return { events, exchange, index, part: parts[index] as Part };
  };
  /** Asks and has it answered; gives the number of the backend. */
  const serve = (request: OriginRequest = GET): number => {
    const { index, part } = ask(request);
    part.answer();
    return index;
  };
  return { clock, parts, service, ask, serve };
}

function shares(indexes: readonly number[], count: number): number[] {
  return Array.from({ length: count }, (_, i) => indexes.filter((index) => index === i).length);
}

describe("choice", () => {
  test("idle backends take turns by weight, and none waits long for its turn", () => {
    const { serve } = balanced([3, 1, 2]);
    const served = Array.from({ length: 600 }, () => serve());
    expect(shares(served, 3)).toEqual([300, 100, 200]);
    expect(new Set(served.slice(0, 6))).toEqual(new Set([0, 1, 2]));
  });

  test("with work to do, the one with the least for its weight is next", () => {
    const { ask } = balanced([1, 2]);
    const asked = Array.from({ length: 9 }, () => ask());
    expect(
      shares(
        asked.map(({ index }) => index),
        2,
      ),
    ).toEqual([3, 6]);
    const slow = asked.filter(({ index }) => index === 0);
    for (const { part } of asked.filter(({ index }) => index === 1)) part.asked.pop()?.events.onEnd([]);
    expect(slow).toHaveLength(3);
    expect(Array.from({ length: 6 }, () => ask().index)).toEqual([1, 1, 1, 1, 1, 1]);
  });

  test("a visitor who leaves, and a WebSocket, count for as long as they last", async () => {
    const { ask } = balanced([1, 1]);
    const first = ask();
    expect(ask().index).toBe(1);
    first.exchange.abort();
    expect(first.part.last.aborted).toBe(true);
    const socket = ask();
    expect(socket.index).toBe(0);
    const [ours, theirs] = createMemoryChannelPair();
    socket.part.last.events.onUpgrade([], ours);
    socket.events.upgraded?.listen({ onData: () => {}, onEnd: () => {}, onDrain: () => {}, onClose: () => {} });
    const [third, fourth] = [ask(), ask()];
    expect(new Set([third.index, fourth.index])).toEqual(new Set([0, 1]));
    theirs.abort(new TunnelError("aborted", "gone"));
    await turn();
    expect(ask().index).toBe(0);
  });
});

describe("a backend that cannot be reached", () => {
  test("is passed over, with the body, and the visitor sees one answer", async () => {
    const { ask, parts } = balanced([1, 1, 1]);
    const { exchange, events, index } = ask(post("chunked"));
    exchange.write(bytesOf("hel"));
    (parts[index] as Part).fail();
    exchange.write(bytesOf("lo"));
    const second = parts.find((part, i) => i !== index && part.asked.length > 0) as Part;
    expect(second.last.body).toBe("hello");
    second.fail("origin.busy");
    exchange.end(["X-Trailer", "1"]);
    const third = parts.find((part) => part !== second && part !== parts[index]) as Part;
    expect(third.last).toMatchObject({ body: "hello", ended: true });
    third.answer();
    expect(events.log).toEqual(["200 bodyless", "end"]);
  });

  test("like all the others: the visitor hears of the last failure", () => {
    const { ask, parts } = balanced([1, 1]);
    const { events } = ask();
    for (const part of [...parts].sort((a, b) => b.asked.length - a.asked.length)) part.fail();
    expect(events.log).toEqual(["origin.dial"]);
    expect(parts.map(({ asked }) => asked.length)).toEqual([1, 1]);
  });

  test.each<{ name: string; request: OriginRequest; code: TunnelError["code"]; again: boolean }>([
    { name: "GET, reset", request: GET, code: "origin.reset", again: true },
    { name: "POST, reset", request: post(0), code: "origin.reset", again: false },
    {
      name: "POST with a key, reset",
      request: { ...post(0), headers: ["Idempotency-Key", "1"] },
      code: "origin.reset",
      again: true,
    },
    { name: "GET, malformed", request: GET, code: "origin.malformed", again: false },
    { name: "GET, no answer in time", request: GET, code: "origin.slow", again: false },
  ])("$name: asked again: $again", ({ request, code, again }) => {
    const { ask, parts } = balanced([1, 1]);
    const { events, part } = ask(request);
    part.fail(code);
    expect(parts.map(({ asked }) => asked.length)).toEqual(again ? [1, 1] : [1, 0]);
    expect(events.log).toEqual(again ? [] : [code]);
  });

  test("is not passed over once an answer began, nor with a body that is too long to keep", () => {
    const { ask, parts } = balanced([1, 1]);
    const begun = ask();
    begun.part.last.events.onInformational(103, []);
    begun.part.fail();
    expect(begun.events.log).toEqual(["103", "origin.dial"]);
    const long = ask(post("chunked"));
    long.exchange.write(new Uint8Array(MAX_KEPT_BYTES + 1));
    long.part.fail();
    expect(long.events.log).toEqual(["origin.dial"]);
    expect(parts.map(({ asked }) => asked.length)).toEqual([1, 1]);
  });
});

describe("a backend that fails again and again", () => {
  test("is left out, for longer each time, and taken back when it answers", async () => {
    const { ask, serve, parts, clock } = balanced([1, 1]);
    const failTimes = (times: number): void => {
      for (let failed = 0; failed < times; ) {
        const { index, part } = ask(post(0));
        if (index === 1) {
          part.fail("origin.malformed");
          failed += 1;
        } else part.answer();
      }
    };
    const left = async (): Promise<boolean> => {
      const served = Array.from({ length: 8 }, () => serve());
      return served.every((index) => index === 0);
    };
    failTimes(3);
    expect(await left()).toBe(true);
    await clock.advance(10_000);
    // Its next failure is enough.
    failTimes(1);
    expect(await left()).toBe(true);
    await clock.advance(19_999);
    expect(await left()).toBe(true);
    await clock.advance(1);
    expect(
      shares(
        Array.from({ length: 8 }, () => serve()),
        2,
      ),
    ).toEqual([4, 4]);
    failTimes(2);
    expect(
      shares(
        Array.from({ length: 8 }, () => serve()),
        2,
      ),
    ).toEqual([4, 4]);
    expect(parts[1]?.asked.length).toBeGreaterThan(8);
  });

  test("never for longer than a bound, and not at all when that is switched off", async () => {
    const { ask, serve, clock } = balanced([1, 1], { ejectAfter: 1 });
    for (let i = 0; i < 12; i += 1) {
      for (;;) {
        const { index, part } = ask(post(0));
        if (index === 0) part.answer();
        else {
          part.fail("origin.malformed");
          break;
        }
      }
      await clock.advance(MAX_EJECT_MS);
    }
    expect(
      shares(
        Array.from({ length: 8 }, () => serve()),
        2,
      ),
    ).toEqual([4, 4]);
    const never = balanced([1, 1], { ejectAfter: 0 });
    for (let i = 0; i < 40; i += 1) {
      const { index, part } = never.ask(post(0));
      if (index === 1) part.fail("origin.malformed");
      else part.answer();
    }
    expect(never.parts[1]?.asked.length).toBe(20);
  });

  test("like all the others: they are all asked, since an answer is worth a try", () => {
    const { ask, parts } = balanced([1, 1], { ejectAfter: 1 });
    for (let i = 0; i < 2; i += 1) ask(post(0)).part.fail("origin.malformed");
    const { events, part } = ask();
    part.answer();
    expect(events.log).toEqual(["200 bodyless", "end"]);
    expect(parts.map(({ asked }) => asked.length).sort()).toEqual([1, 2]);
  });

  test("a visitor's own fault is not the backend's", () => {
    const { ask, parts } = balanced([1, 1], { ejectAfter: 1 });
    for (let i = 0; i < 10; i += 1) ask().part.fail("request.length");
    expect(parts.map(({ asked }) => asked.length)).toEqual([5, 5]);
  });
});

describe("checks", () => {
  const usable = (serve: () => number): number[] => [...new Set(Array.from({ length: 8 }, () => serve()))].sort();

  test("take a backend out after enough bad answers in a row", async () => {
    const { service, parts, serve, clock } = balanced([1, 1], { healthCheck: HEALTH });
    await service.start();
    const round = async (status: number): Promise<void> => {
      parts[0]?.answer(204);
      parts[1]?.answer(status);
      await clock.advance(HEALTH.interval);
    };
    expect(parts[1]?.last.request).toMatchObject({ method: "GET", target: "/up" });
    expect(parts[1]?.last.request.headers.slice(0, 2)).toEqual(["Host", "b1"]);
    await round(500);
    await round(404);
    await round(399);
    for (const status of [500, 500]) await round(status);
    expect(usable(serve)).toEqual([0, 1]);
    // Requests have come since: the check is the one before them.
    await clock.advance(HEALTH.timeout + HEALTH.interval);
    expect(usable(serve)).toEqual([0]);
    await clock.advance(HEALTH.timeout);
    await service.close();
  });

  test("wait for an answer only so long; then the next one comes after the interval", async () => {
    const { service, parts, clock } = balanced([1], { healthCheck: HEALTH });
    await service.start();
    const [part] = parts;
    await clock.advance(HEALTH.timeout);
    expect(part?.last.aborted).toBe(true);
    expect(part?.asked).toHaveLength(1);
    await clock.advance(HEALTH.interval);
    expect(part?.asked).toHaveLength(2);
    await service.close();
    expect(part?.last.aborted).toBe(true);
    await clock.advance(60_000);
    expect(part?.asked).toHaveLength(2);
    expect(clock.pending).toBe(0);
  });

  test("read no endless answer", async () => {
    const { service, parts, clock } = balanced([1], { healthCheck: HEALTH });
    await service.start();
    const [part] = parts;
    part?.last.events.onResponse(200, [], false);
    for (let i = 0; i < 3; i += 1) part?.last.events.onData(new Uint8Array(32 * 1024));
    expect(part?.last.aborted).toBe(true);
    await clock.advance(HEALTH.interval);
    expect(part?.asked).toHaveLength(2);
    await service.close();
  });
});

describe("a sticky cookie", () => {
  const withCookie = (value: string): OriginRequest => ({ ...GET, headers: ["Host", "a", "Cookie", value] });
  const cookieOf = ({ events }: { events: Recorder }): string | undefined =>
    events.headers[events.headers.indexOf("Set-Cookie") + 1];

  test("brings a visitor back, and is set when it is new or names nobody", () => {
    const { ask, serve } = balanced([1, 1, 1], { stickyCookie: "srv" });
    const first = ask({ ...GET, headers: ["Host", "a", "X-Forwarded-Proto", "https"] });
    first.part.answer();
    expect(cookieOf(first)).toMatch(/^srv=[0-9a-f]{16}; Path=\/; HttpOnly; SameSite=Lax; Secure$/);
    const value = cookieOf(first)?.split(";")[0] ?? "";
    expect(Array.from({ length: 20 }, () => serve(withCookie(`a=b; ${value}; c=d`)))).toEqual(
      Array.from({ length: 20 }, () => first.index),
    );
    const again = ask(withCookie(value));
    again.part.answer();
    expect(again.events.headers).not.toContain("Set-Cookie");
    const stranger = ask(withCookie("srv=0000000000000000"));
    stranger.part.answer();
    expect(cookieOf(stranger)).toMatch(/^srv=[0-9a-f]{16}; Path=\/; HttpOnly; SameSite=Lax$/);
  });

  test("gives way when its backend fails, and is set anew", () => {
    const { ask } = balanced([1, 1], { stickyCookie: "srv", ejectAfter: 1 });
    const first = ask();
    first.part.answer();
    const value = cookieOf(first)?.split(";")[0] ?? "";
    const failing = ask(withCookie(value));
    expect(failing.index).toBe(first.index);
    failing.part.fail();
    const later = ask(withCookie(value));
    expect(later.index).not.toBe(first.index);
    later.part.answer();
    expect(cookieOf(later)?.split(";")[0]).not.toBe(value);
  });
});
