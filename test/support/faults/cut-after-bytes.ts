import { type Fault, passBytes } from "./fault.ts";

/** Closes both sides, as a dying process does, after this many bytes of this direction. */
export function cutAfterBytes(bytes: number): Fault {
  return (source, link) =>
    passBytes(source, bytes, async () => {
      // The last bytes leave before the sockets close.
      await link.wait(5);
      link.cut();
    });
}
