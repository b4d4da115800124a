/** What the watchdog's thread is told. */
export interface WatchdogOrders {
  /** Two 32-bit numbers: inputs tried so far, bytes of the present one. */
  readonly beat: SharedArrayBuffer;
  readonly input: SharedArrayBuffer;
  readonly limitMs: number;
  /** Where to write an input that hangs, as base64. */
  readonly hangFile: string;
}

const MAX_SHOWN_BYTES = 128 * 1024;

/** Starts the watchdog. Tell it of every input, and `stop` it at the end. */
export function watch(limitMs: number, hangFile: string): { announce(input: Uint8Array): void; stop(): void } {
  const beat = new SharedArrayBuffer(8);
  const shared = new SharedArrayBuffer(MAX_SHOWN_BYTES);
  const [count, length] = [new Int32Array(beat, 0, 1), new Int32Array(beat, 4, 1)];
  const bytes = new Uint8Array(shared);
  const worker = new Worker(new URL("./watchdog.ts", import.meta.url));
  const orders: WatchdogOrders = { beat, input: shared, limitMs, hangFile };
  worker.postMessage(orders);
  return {
    announce(input) {
      const shown = input.subarray(0, MAX_SHOWN_BYTES);
      bytes.set(shown);
      Atomics.store(length, 0, shown.length);
      Atomics.add(count, 0, 1);
    },
    stop: () => worker.terminate(),
  };
}
