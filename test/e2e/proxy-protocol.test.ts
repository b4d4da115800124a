import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { EdgeSession } from "../../src/transport/port.ts";
import { openVisit } from "../support/flows.ts";
import { culvertConnector, PROTOCOLS, startConnector } from "../support/lab.ts";
import { pollUntil } from "../support/poll-until.ts";
import { startPushingEdge } from "../support/pushing-edge.ts";
import { startTcpOrigin } from "../support/tcp-origin.ts";
import { makeTempDir } from "../support/temp-dir.ts";

const SIGNATURE = "0d0a0d0a000d0a515549540a";
const HOOK_MS = 20_000;

describe.each([...PROTOCOLS])("proxyProtocol of a TCP service over %s", (protocol) => {
  const stack = new AsyncDisposableStack();
  const heard: Buffer[] = [];
  let port = 0;
  let session: EdgeSession;

  beforeAll(async () => {
    const origin = stack.use(
      await startTcpOrigin((socket) => {
        const index = heard.push(Buffer.alloc(0)) - 1;
        socket.on("data", (chunk: Buffer) => {
          heard[index] = Buffer.concat([heard[index] ?? Buffer.alloc(0), chunk]);
        });
        socket.on("end", () => socket.end());
      }),
    );
    port = origin.port;
    const dir = stack.use(makeTempDir());
    const file = join(dir.path, "config.yml");
    const rule = (version: string): string =>
      `  - {hostname: ${version}.lab.example, service: "tcp://127.0.0.1:${port}", originRequest: {proxyProtocol: ${version}}}`;
    writeFileSync(file, ["ingress:", rule("v1"), rule("v2"), "  - {service: http_status:404}"].join("\n"));
    const edge = stack.use(await startPushingEdge({ remotelyManaged: false }));
    const { token, tunnelPort, caPath } = edge;
    const flags = ["--config", file, "--ha-connections", "1"];
    stack.use(startConnector(culvertConnector(protocol), { token, tunnelPort, caPath, flags, gracePeriod: "1s" }));
    await edge.registered(1);
    const [first] = edge.sessions;
    if (first === undefined) throw new Error("no session");
    session = first;
  }, HOOK_MS);
  afterAll(() => stack.disposeAsync(), HOOK_MS);

  /** What the service hears before anybody has sent anything. */
  async function preludeFor(version: string, visitor: string | undefined): Promise<Buffer> {
    const before = heard.length;
    const headers = visitor === undefined ? [] : ["Cf-Connecting-Ip", visitor];
    const { response, stream } = await openVisit(session, `${version}.lab.example`, headers);
    expect(response.status).toBe(101);
    stream.channel.end();
    return await pollUntil(() => (heard[before]?.length ? heard[before] : undefined), { what: "the header" });
  }

  const portHex = (): string => port.toString(16).padStart(4, "0");
  test.each([
    {
      name: "by IPv4",
      visitor: "203.0.113.9",
      v1: () => `PROXY TCP4 203.0.113.9 127.0.0.1 0 ${port}\r\n`,
      v2: () => `2111000c${"cb007109"}${"7f000001"}0000${portHex()}`,
    },
    {
      name: "by IPv6",
      visitor: "2001:db8::1",
      v1: () => `PROXY TCP6 2001:db8::1 ::ffff:127.0.0.1 0 ${port}\r\n`,
      v2: () => `21210024${"20010db8000000000000000000000001"}${"00000000000000000000ffff7f000001"}0000${portHex()}`,
    },
    { name: "nobody", visitor: undefined, v1: () => "PROXY UNKNOWN\r\n", v2: () => "20000000" },
    { name: "what is no address", visitor: "not an address", v1: () => "PROXY UNKNOWN\r\n", v2: () => "20000000" },
  ])("names the visitor: $name", async ({ visitor, v1, v2 }) => {
    expect((await preludeFor("v1", visitor)).toString("latin1")).toBe(v1());
    expect((await preludeFor("v2", visitor)).toString("hex")).toBe(SIGNATURE + v2());
  });
});
