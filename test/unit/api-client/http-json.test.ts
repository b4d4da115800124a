import { expect, test } from "bun:test";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { sendJson } from "../../../src/api-client/http-json.ts";

function ask(port: number) {
  return sendJson({
    ...{ method: "GET", url: new URL(`http://127.0.0.1:${port}/tunnel`), headers: {}, body: undefined, ca: undefined },
    ...{ timeoutMs: 5_000, signal: new AbortController().signal },
  });
}

test("one that hangs up: the system's words alone, since quick tunnels and logins have no cert.pem", async () => {
  const server = createServer((socket) => socket.once("data", () => socket.resetAndDestroy()));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const error: unknown = await ask(port).catch((thrown: unknown) => thrown);
  server.close();
  expect(error).toMatchObject({ code: "api.unreachable", retry: "same", cause: expect.anything() });
  expect(String(error)).toContain(`Cannot reach the API at http://127.0.0.1:${port}: `);
  expect(String(error)).not.toMatch(/;|TLS|cert/);
});

test("nobody there is nobody there", async () => {
  const gone = createServer();
  gone.listen(0, "127.0.0.1");
  await once(gone, "listening");
  const { port } = gone.address() as AddressInfo;
  gone.close();
  await once(gone, "close");
  await expect(ask(port)).rejects.toThrow(/ECONNREFUSED[^;]*$/);
});
