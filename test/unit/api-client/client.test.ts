import { expect, test } from "bun:test";
import { once } from "node:events";
import { createServer } from "node:https";
import { type AddressInfo, createServer as createTcpServer, type Server } from "node:net";
import { z } from "zod";
import { ApiClient } from "../../../src/api-client/client.ts";
import { TunnelError } from "../../../src/core/errors.ts";
import { makeTestCertificate } from "../../support/certificate.ts";

async function listening(server: Server): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

async function refusal(baseUrl: string): Promise<TunnelError> {
  const api = new ApiClient({
    ...{ baseUrl, token: "t", accountId: "a", zoneId: "z", ca: undefined },
    ...{ userAgent: "test", signal: new AbortController().signal },
  });
  const error: unknown = await api.call("GET", "/accounts", z.unknown()).catch((thrown: unknown) => thrown);
  if (!(error instanceof TunnelError)) throw new Error("An answer");
  return error;
}

test("an API that speaks TLS by now, asked in clear text: what to look at, then what to do, with its address", async () => {
  const { cert, key } = await makeTestCertificate(["127.0.0.1"]);
  const server = createServer({ cert, key }, (_request, response) => response.end("{}"));
  const port = await listening(server);
  const { code, retry, message } = await refusal(`http://127.0.0.1:${port}/client/v4`);
  server.close();
  expect([code, retry]).toEqual(["api.unreachable", "same"]);
  expect(message).toStartWith(`Cannot reach the API at http://127.0.0.1:${port}: `);
  expect(message).toEndWith(
    `; see that the edge runs; if it does, it may speak TLS now, and culvert edge init --force --api-url https://127.0.0.1:${port} on its machine makes a cert.pem for that`,
  );
});

test("no word of TLS where there is no server, nor where it was asked over TLS", async () => {
  const server = createTcpServer((socket) => socket.destroy());
  const port = await listening(server);
  expect((await refusal(`https://127.0.0.1:${port}`)).message).not.toContain("edge init");
  server.close();
  await once(server, "close");
  expect((await refusal(`http://127.0.0.1:${port}`)).message).toMatch(/ECONNREFUSED[^;]*$/);
});
