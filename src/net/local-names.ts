import { lookup } from "node:dns/promises";
import { isIPv6, type LookupFunction } from "node:net";
import { isLocalName, LOOPBACK_HOSTS } from "./loopback.ts";

/** Addresses of a name below `localhost`: those that the system gives `localhost` itself. Undefined = another name. */
export async function lookupLocal(name: string): Promise<readonly string[] | undefined> {
  if (!isLocalName(name)) return undefined;
  try {
    return (await lookup("localhost", { all: true, verbatim: true })).map(({ address }) => address);
  } catch {
    // A system that does not even know `localhost`.
    return LOOPBACK_HOSTS;
  }
}

/** The same for Node's clients; only for names that `isLocalName` knows. */
export const answerLocal: LookupFunction = lookupFrom(lookupLocal);

/**
 * Node's kind of lookup: what `find` gives, in its order, of the family that is asked for. Fails with `ENOTFOUND`, like
 * Node's own, when there is no such address.
 */
export function lookupFrom(find: typeof lookupLocal): LookupFunction {
  return (name, options, done) => {
    void find(name).then((found = LOOPBACK_HOSTS) => {
      const wanted = FAMILIES[options.family ?? 0];
      const all = found
        .map((address) => ({ address, family: isIPv6(address) ? 6 : 4 }))
        .filter(({ family }) => wanted === undefined || family === wanted);
      const [first] = all;
      if (first === undefined) done(notFound(name), "");
      else if (options.all === true) done(null, all);
      else done(null, first.address, first.family);
    });
  };
}

/** What callers may ask for; anything else is both. */
const FAMILIES: Readonly<Record<string | number, 4 | 6>> = { 4: 4, IPv4: 4, 6: 6, IPv6: 6 };

function notFound(name: string): Error {
  return Object.assign(new Error(`${name} has no such address`), { code: "ENOTFOUND", hostname: name });
}
