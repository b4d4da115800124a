import { expect, test } from "bun:test";
import { once } from "node:events";
import { createServer } from "node:https";
import { type AddressInfo, createServer as createTcpServer, type Server } from "node:net";
import { sendJson } from "../../../src/api-client/http-json.ts";
import { makeTestCertificate } from "../../support/certificate.ts";

async function ask(server: Server): Promise<{ readonly said: string; readonly port: number }> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const asked = sendJson({
    ...{ method: "GET", url: new URL(`http://127.0.0.1:${port}/client/v4/accounts`), headers: {}, body: undefined },
    ...{ ca: undefined, timeoutMs: 5_000, signal: new AbortController().signal },
  });
  const said = await asked.then(
    () => "an answer",
    (error: Error) => error.message,
  );
  server.close();
  return { said, port };
}

test("an API that speaks TLS by now, asked in clear text: what to do, with its address", async () => {
  const { cert, key } = await makeTestCertificate(["127.0.0.1"]);
  const { said, port } = await ask(createServer({ cert, key }, (_request, response) => response.end("{}")));
  expect(said).toStartWith(`Cannot reach the API at http://127.0.0.1:${port}: `);
  expect(said).toEndWith(
    `; it may speak TLS now: on the edge's machine, culvert edge init --force --api-url https://127.0.0.1:${port} makes a cert.pem for that`,
  );
});

test("nobody there is nobody there", async () => {
  const gone = createTcpServer();
  gone.listen(0, "127.0.0.1");
  await once(gone, "listening");
  const { port } = gone.address() as AddressInfo;
  gone.close();
  await once(gone, "close");
  const asked = sendJson({
    ...{ method: "GET", url: new URL(`http://127.0.0.1:${port}/`), headers: {}, body: undefined, ca: undefined },
    ...{ timeoutMs: 5_000, signal: new AbortController().signal },
  });
  await expect(asked).rejects.toThrow(/ECONNREFUSED[^;]*$/);
});
