// A thread that ends the process when one input takes for ever, after it has said which.

import { writeFileSync } from "node:fs";
import type { WatchdogOrders } from "./watch.ts";

const LOOK_EVERY_MS = 500;

declare const self: { onmessage: ((event: { data: WatchdogOrders }) => void) | null };

self.onmessage = ({ data: { beat, input, limitMs, hangFile } }) => {
  const [count, length] = [new Int32Array(beat, 0, 1), new Int32Array(beat, 4, 1)];
  let seen = -1;
  let since = performance.now();
  setInterval(() => {
    const now = Atomics.load(count, 0);
    if (now !== seen) {
      seen = now;
      since = performance.now();
    } else if (performance.now() - since > limitMs) {
      const bytes = new Uint8Array(input, 0, Atomics.load(length, 0)).slice();
      writeFileSync(hangFile, bytes.toBase64());
      console.error(`an input of ${bytes.length} bytes takes longer than ${limitMs} ms, see ${hangFile}:`);
      console.error(`to repeat: ./scripts/fuzz --target NAME --input @${hangFile}`);
      process.kill(process.pid, "SIGKILL");
    }
  }, LOOK_EVERY_MS);
};
