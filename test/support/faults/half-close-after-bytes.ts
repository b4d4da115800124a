import { type Fault, passBytes } from "./fault.ts";

/** Ends this direction properly (FIN) after this many bytes and ignores the rest; the other direction goes on. */
export function halfCloseAfterBytes(bytes: number): Fault {
  return (source) => passBytes(source, bytes, () => {});
}
