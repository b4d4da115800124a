/**
 * Many connectors in one process, each with one connection over HTTP/2 and a tunnel of its own, that serve nothing.
 * Reads one command a line from standard input and answers each with one line of JSON.
 *   register FILE -> { registered, seconds } ; FILE is JSON: { host, port, ca, tokens }
 */
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { RegistrationClient } from "../src/control/registration-client.ts";
import { systemClock } from "../src/core/clock.ts";
import { newConnectorId } from "../src/core/ids.ts";
import { http2 } from "../src/transport/http2/connector.ts";
import { parseToken } from "../src/wire/token.ts";

/** Dialled at once: fewer than an edge lets one address have before they have registered. */
const AT_ONCE = 50;

interface Plan {
  readonly host: string;
  readonly port: number;
  readonly ca: string;
  readonly tokens: readonly string[];
}

async function register(plan: Plan, text: string): Promise<void> {
  const token = parseToken(text);
  if (!token.ok) throw new Error("a token cannot be read");
  const { signal } = new AbortController();
  const session = await http2.dial({ host: plan.host, port: plan.port, ca: plan.ca }, { signal });
  const client = new RegistrationClient(await session.control, { clock: systemClock });
  const answer = await client.register(
    {
      ...token.value,
      ...{ connIndex: 0, connectorId: newConnectorId(), features: [], version: "bench", arch: "linux_amd64" },
      ...{ localIp: undefined, numPreviousAttempts: 0 },
    },
    { signal },
  );
  if (answer.kind !== "registered") throw new Error(`refused: ${answer.cause}`);
}

async function registerAll(plan: Plan): Promise<{ registered: number; seconds: number }> {
  const begin = performance.now();
  const left = [...plan.tokens];
  const worker = async (): Promise<void> => {
    for (let token = left.pop(); token !== undefined; token = left.pop()) await register(plan, token);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return { registered: plan.tokens.length, seconds: (performance.now() - begin) / 1000 };
}

for await (const line of createInterface({ input: process.stdin })) {
  const [, file = ""] = line.split(" ");
  const result = await registerAll(JSON.parse(readFileSync(file, "utf8")) as Plan).catch((error: unknown) => ({
    error: String(error),
  }));
  console.log(JSON.stringify(result));
}
