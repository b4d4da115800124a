import { lookup } from "node:dns/promises";
import { isIPv6, type LookupFunction } from "node:net";

/** For a system that does not even know `localhost`. */
const LOOPBACK = ["127.0.0.1", "::1"] as const;

/** A name below `localhost`, which is always this machine; not every system's resolver knows (RFC 6761 section 6.3). */
export function isLocalName(name: string): boolean {
  return /.\.localhost\.?$/i.test(name);
}

/** Addresses of a name below `localhost`: those that the system gives `localhost` itself. Undefined = another name. */
export async function lookupLocal(name: string): Promise<readonly string[] | undefined> {
  if (!isLocalName(name)) return undefined;
  try {
    return (await lookup("localhost", { all: true, verbatim: true })).map(({ address }) => address);
  } catch {
    return LOOPBACK;
  }
}

/** The same for Node's clients; only for names that `isLocalName` knows. */
export const answerLocal: LookupFunction = (name, options, done) => {
  void lookupLocal(name).then((found) => {
    const all = (found ?? LOOPBACK).map((address) => ({ address, family: isIPv6(address) ? 6 : 4 }));
    const [first] = all;
    if (options.all === true) done(null, all);
    else done(null, first?.address ?? "", first?.family);
  });
};
