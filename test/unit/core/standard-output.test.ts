import { expect, test } from "bun:test";
import { EventEmitter } from "node:events";
import { type OutputLoss, type OutputStream, StandardOutput } from "../../../src/core/standard-output.ts";

/** A stream whose end waits until it is let go. */
function stream() {
  const written: (string | Uint8Array)[] = [];
  const dones: ((error?: unknown) => void)[] = [];
  const events = new EventEmitter();
  const ends: (() => void)[] = [];
  const opened: OutputStream = {
    write: (text, done) => {
      written.push(text);
      dones.push(done);
    },
    end: (done) => ends.push(done),
    on: (event, listener) => events.on(event, listener),
  };
  return {
    written,
    dones,
    opened,
    ends,
    fail: (code: string) => events.emit("error", Object.assign(new Error(code), { code })),
  };
}

test("a stream is opened for the first text only, and the end waits for it", async () => {
  const { written, opened, ends } = stream();
  let opens = 0;
  const output = new StandardOutput(
    () => {
      opens += 1;
      return opened;
    },
    () => {},
  );
  await output.end();
  expect(opens).toBe(0);
  output.write("a");
  output.write("b");
  let over = false;
  const end = output.end().then(() => {
    over = true;
  });
  await Promise.resolve();
  expect({ opens, written, over }).toEqual({ opens: 1, written: ["a", "b"], over: false });
  ends[0]?.();
  await end;
  expect(output.loss).toBeUndefined();
});

test.each([
  ["EPIPE", "left"],
  ["EOF", "left"],
  ["ENOSPC", "failed"],
  ["EIO", "failed"],
] as const)("%s is told once, as output whose reader or place %s, and nothing more is written", async (code, kind) => {
  const { written, opened, fail } = stream();
  const losses: OutputLoss[] = [];
  const output = new StandardOutput(
    () => opened,
    (loss) => losses.push(loss),
  );
  output.write("a");
  fail(code);
  fail("EIO");
  output.write("b");
  await output.end();
  expect({ written, kinds: losses.map((loss) => loss.kind) }).toEqual({ written: ["a"], kinds: [kind] });
  expect(output.loss).toMatchObject({ kind, error: { code } });
});

test("an error behind the last text ends the wait", async () => {
  const { opened, fail } = stream();
  const output = new StandardOutput(
    () => opened,
    () => {},
  );
  output.write("a");
  const end = output.end();
  fail("EPIPE");
  await end;
  expect(output.loss?.kind).toBe("left");
});

test("a stream that throws has lost its output like any other", () => {
  const { opened } = stream();
  const thrown = Object.assign(new Error("full"), { code: "ENOSPC" });
  const write = (): never => {
    throw thrown;
  };
  const output = new StandardOutput(
    () => ({ ...opened, write }),
    () => {},
  );
  output.write("a");
  expect(output.loss).toEqual({ kind: "failed", error: thrown });
});

test("who wrote a text learns when it has left, and when it is lost", () => {
  const { written, dones, opened, fail } = stream();
  const output = new StandardOutput(
    () => opened,
    () => {},
  );
  const told: unknown[] = [];
  output.write("a", (error) => told.push(error));
  output.write("b", (error) => told.push(error));
  expect(told).toEqual([]);
  dones[0]?.(null);
  fail("EPIPE");
  output.write("c", (error) => told.push(error));
  const lost = expect.objectContaining({ code: "EPIPE" });
  expect({ told, written }).toEqual({ told: [null, lost], written: ["a", "b"] });
  dones[1]?.(output.loss?.error);
  expect(told).toEqual([null, lost, lost]);
});
