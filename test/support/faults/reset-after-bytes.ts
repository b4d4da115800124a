import { type Fault, passBytes } from "./fault.ts";

/** Resets both sides (RST) after this many bytes of this direction. */
export function resetAfterBytes(bytes: number): Fault {
  return (source, link) =>
    passBytes(source, bytes, async () => {
      // The last bytes leave before the reset overtakes them.
      await link.wait(5);
      link.reset();
    });
}
