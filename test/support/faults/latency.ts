import type { Fault } from "./fault.ts";

/** Chunks under way at once; beyond that the sender is held back, as a full pipe does. */
const MAX_IN_FLIGHT = 64;

/** Delivers every chunk this much later. Throughput stays: delays overlap. */
export function latency(ms: number): Fault {
  return async function* (source, link) {
    const iterator = source[Symbol.asyncIterator]();
    const pull = (): Promise<IteratorResult<Uint8Array>> => {
      const arrival = iterator.next().then(async (result) => {
        await link.wait(ms);
        return result;
      });
      // Whoever awaits it gets the error; when nobody does any more, it is no news.
      arrival.catch(() => {});
      return arrival;
    };
    const inFlight = Array.from({ length: MAX_IN_FLIGHT }, pull);
    for (let next = inFlight.shift(); next !== undefined; next = inFlight.shift()) {
      const result = await next;
      if (result.done === true) return;
      yield result.value;
      inFlight.push(pull());
    }
  };
}
