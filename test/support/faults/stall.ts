import type { Fault } from "./fault.ts";

/** A direction that can be frozen: nothing passes, nothing is lost, nobody is told. As a firewall that forgot a flow. */
export interface Stall {
  readonly fault: Fault;
  begin(): void;
  end(): void;
}

export function createStall(): Stall {
  let moving: Promise<void> = Promise.resolve();
  let release = (): void => {};
  return {
    fault: async function* (source, link) {
      for await (const chunk of source) {
        await Promise.race([moving, link.closed]);
        yield chunk;
      }
      await Promise.race([moving, link.closed]);
    },
    begin: () => {
      release();
      const next = Promise.withResolvers<void>();
      moving = next.promise;
      release = next.resolve;
    },
    end: () => release(),
  };
}
